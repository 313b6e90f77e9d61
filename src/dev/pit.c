/* pit.c - 8254 interval timer (Intel 231164) */
#include "dev/pit.h"

#include <errno.h>
#include <string.h>

/* Control word: 7-6 counter (3 = read-back) | 5-4 RW (0 = latch count) | 3-1 mode | 0 BCD */
#define CW_COUNTER(v) ((v) >> 6)
#define CW_RW(v)      (((v) >> 4) & 3)
#define CW_MODE(v)    (((v) >> 1) & 7)
#define CW_BCD        0x01
#define CW_READ_BACK  3
#define RB_NO_COUNT   0x20 /* read-back: latch no count */
#define RB_NO_STATUS  0x10
#define STATUS_OUT    0x80
#define STATUS_NULL   0x40 /* the count register holds what the counter does not have yet */

/* Port 61h: 7 parity error | 6 channel check | 5 OUT2 | 4 refresh toggle | 3-2 check enables |
 * 1 speaker data | 0 gate 2 */
#define P61_GATE2     0x01
#define P61_SPEAKER   0x02
#define P61_CHECKS    0x0c
#define P61_REFRESH   0x10
#define P61_OUT2      0x20
#define REFRESH_TICKS 18 /* counter 1 as a PC programs it: a refresh each 15 us */

static u64 pit_now(const struct pit *p)
{
    return ticks_at(clock_now_ns(p->clock), PIT_HZ);
}

static bool periodic(const struct pit_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Modes 1 and 5 are started by the gate, not by the count. */
static bool gate_triggered(const struct pit_channel *c)
{
    return c->mode == 1 || c->mode == 5;
}

static bool active(const struct pit_channel *c)
{
    return c->loaded && (!gate_triggered(c) || c->triggered);
}

static u64 elapsed(const struct pit_channel *c, u64 now)
{
    return c->held + (c->running && now > c->start ? now - c->start : 0);
}

/* The OUT pin. Pure. */
static bool out(const struct pit_channel *c, u64 now)
{
    u64 d = elapsed(c, now);
    if (!active(c))
        return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1: return d >= c->count;
    case 2: return !c->gate || d % c->count != c->count - 1;
    case 3: return !c->gate || d % c->count < (c->count + 1) / 2;
    default: return d != c->count;
    }
}

/* The counting element, as the guest reads it. Pure. */
static u16 counter(const struct pit_channel *c, u64 now)
{
    u32 modulus = c->bcd ? 10000 : 65536;
    u64 d = active(c) ? elapsed(c, now) : 0;
    u32 n;
    if (c->mode == 2) {
        n = c->count - (u32)(d % c->count);
    } else if (c->mode == 3) { /* counts down by two, twice a period; odd counts lose their one */
        u32 half = (c->count + 1) / 2, at = (u32)(d % c->count);
        n = (c->count & ~1u) - 2 * (at < half ? at : at - half);
    } else {
        n = (u32)((c->count + modulus - d % modulus) % modulus);
    }
    n %= modulus;
    if (c->bcd)
        n = (n / 1000) << 12 | (n / 100 % 10) << 8 | (n / 10 % 10) << 4 | n % 10;
    return (u16)n;
}

/* A new divisor of modes 2 and 3 takes effect at the end of a period. */
static void settle(struct pit_channel *c, u64 now)
{
    if (c->next == 0 || now < c->next_tick)
        return;
    c->count = c->next;
    c->next = 0;
    c->start = c->next_tick;
    c->held = 0;
}

/* Rising edges of OUT since the counter started. */
static u64 edges_at(const struct pit_channel *c, u64 now)
{
    u64 d = elapsed(c, now);
    if (!active(c))
        return 0;
    if (periodic(c))
        return d / c->count;
    return d >= c->count + (c->mode >= 4 ? 1 : 0);
}

/* Where edge number n (from 1) lies, as a tick; only for a running counter. */
static u64 edge_tick(const struct pit_channel *c, u64 n)
{
    u64 d = periodic(c) ? n * c->count : c->count + (c->mode >= 4 ? 1 : 0);
    return c->start + (d > c->held ? d - c->held : 0);
}

/* Whether counter 0 owes an edge by now. */
static bool edge_due(struct pit *p, u64 now)
{
    struct pit_channel *c = &p->ch[0];
    u64 periods = 0;
    if (c->next && now >= c->next_tick) {
        u64 before = edges_at(c, c->next_tick);
        periods = before > p->edges ? before - p->edges : 0;
        settle(c, now);
        p->edges = 0;
    }
    u64 due = edges_at(c, now);
    periods += due > p->edges ? due - p->edges : 0;
    p->edges = due;
    if (!periodic(c))
        return periods > 0;
    return tick_take(&p->tick, clock_now_ns(p->clock), periods, ticks_ns(c->count, PIT_HZ));
}

static void arm(struct pit *p)
{
    struct pit_channel *c = &p->ch[0];
    if (!active(c) || !c->running || (!periodic(c) && p->edges)) {
        timer_disarm(&p->timer);
        return;
    }
    u64 tick = edge_tick(c, p->edges + 1);
    u64 natural = ticks_ns(c->next ? MIN(tick, c->next_tick) : tick, PIT_HZ);
    if (periodic(c))
        natural = tick_next(&p->tick, natural, ticks_ns(c->count, PIT_HZ));
    timer_arm(&p->timer, natural);
}

/* The only place that drives IRQ 0 and the timer. Edges that passed since the last look become a
 * pulse (under the policy of tick.h); between edges the line follows OUT. */
static void update(struct pit *p)
{
    u64 now = pit_now(p);
    if (edge_due(p, now)) {
        irq_set(&p->irq, false);
        irq_set(&p->irq, true);
    }
    irq_set(&p->irq, out(&p->ch[0], now));
    arm(p);
}

static void restart(struct pit *p, struct pit_channel *c, u64 now)
{
    c->start = now;
    c->held = 0;
    if (c == &p->ch[0]) {
        p->edges = 0;
        p->tick.backlog = 0;
    }
}

static void load(struct pit *p, struct pit_channel *c, u16 raw)
{
    u64 now = pit_now(p);
    u32 n = raw;
    if (c->bcd)
        n = (raw >> 12) * 1000u + (raw >> 8 & 15) * 100u + (raw >> 4 & 15) * 10u + (raw & 15);
    if (c->bcd)
        n = MIN(n, 9999u); /* digits above 9 */
    if (n == 0)
        n = c->bcd ? 10000 : 65536;
    if (periodic(c) && n == 1)
        n = 2; /* illegal in modes 2 and 3 */
    settle(c, now);
    if (periodic(c) && c->loaded && c->running) {
        u64 d = elapsed(c, now);
        c->next = n;
        c->next_tick = now + (c->count - d % c->count);
    } else if (gate_triggered(c) && c->loaded && c->triggered) {
        c->next = n; /* with the next trigger */
        c->next_tick = UINT64_MAX;
    } else {
        c->count = n;
        c->loaded = true;
        c->running = c->gate || gate_triggered(c);
        restart(p, c, now);
    }
}

static void set_gate(struct pit *p, struct pit_channel *c, bool gate)
{
    u64 now = pit_now(p);
    bool rise = gate && !c->gate, fall = !gate && c->gate;
    settle(c, now);
    c->gate = gate;
    if (!c->loaded || (!rise && !fall))
        return;
    if (gate_triggered(c)) {
        if (!rise)
            return;
        c->triggered = true;
        c->count = c->next ? c->next : c->count;
        c->next = 0;
        restart(p, c, now);
    } else if (fall) {
        c->held = elapsed(c, now);
        c->running = false;
    } else {
        c->running = true;
        if (periodic(c)) {
            c->count = c->next ? c->next : c->count;
            c->next = 0;
            restart(p, c, now);
        } else {
            c->start = now;
        }
    }
}

static void latch_count(struct pit *p, struct pit_channel *c)
{
    if (c->latched)
        return; /* the first latch wins until it was read */
    c->latched_count = counter(c, pit_now(p));
    c->latched = c->rw == 3 ? 2 : 1;
}

static void latch_status(struct pit *p, struct pit_channel *c)
{
    if (c->status_latched)
        return;
    c->status = (out(c, pit_now(p)) ? STATUS_OUT : 0) | (!c->loaded || c->next ? STATUS_NULL : 0) |
                (u8)(c->rw << 4 | c->mode << 1 | (c->bcd ? CW_BCD : 0));
    c->status_latched = true;
}

static u8 channel_read(struct pit *p, struct pit_channel *c)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    u16 val = c->latched ? c->latched_count : counter(c, pit_now(p));
    if (c->latched)
        c->latched--;
    if (c->rw == 1)
        return (u8)val;
    if (c->rw == 2)
        return (u8)(val >> 8);
    c->read_high = !c->read_high;
    return c->read_high ? (u8)val : (u8)(val >> 8);
}

static void channel_write(struct pit *p, struct pit_channel *c, u8 val)
{
    if (c->rw == 1) {
        load(p, c, val);
    } else if (c->rw == 2) {
        load(p, c, (u16)(val << 8));
    } else if (c->write_high) {
        c->write_high = false;
        load(p, c, (u16)(val << 8 | c->write_low));
    } else {
        c->write_high = true;
        c->write_low = val;
        if (c->mode == 0) /* the first byte stops the counting and drops OUT */
            c->loaded = false;
    }
}

static void write_control(struct pit *p, struct pit_channel *c, u8 val)
{
    if (CW_RW(val) == 0) {
        latch_count(p, c);
        return;
    }
    c->rw = CW_RW(val);
    c->mode = CW_MODE(val) > 5 ? CW_MODE(val) & 3 : CW_MODE(val);
    c->bcd = val & CW_BCD;
    c->loaded = c->triggered = c->running = false;
    c->write_high = c->read_high = false;
    c->latched = 0;
    c->status_latched = false;
    c->next = 0;
    if (c->bcd)
        c->count = MIN(c->count, 10000);
    restart(p, c, pit_now(p));
}

static void read_back(struct pit *p, u8 val)
{
    for (unsigned i = 0; i < 3; i++) {
        if (!(val & BIT(i + 1)))
            continue;
        if (!(val & RB_NO_COUNT))
            latch_count(p, &p->ch[i]);
        if (!(val & RB_NO_STATUS))
            latch_status(p, &p->ch[i]);
    }
}

static u64 pit_read(void *dev, u64 off, unsigned size)
{
    struct pit *p = dev;
    if (off > 2)
        return 0xff; /* the control word is write-only */
    if (off == 0)
        update(p);
    else
        settle(&p->ch[off], pit_now(p));
    return channel_read(p, &p->ch[off]);
}

static void pit_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct pit *p = dev;
    update(p);
    for (unsigned i = 1; i < 3; i++)
        settle(&p->ch[i], pit_now(p));
    if (off < 3)
        channel_write(p, &p->ch[off], (u8)val);
    else if (CW_COUNTER((u8)val) == CW_READ_BACK)
        read_back(p, (u8)val);
    else
        write_control(p, &p->ch[CW_COUNTER((u8)val)], (u8)val);
    update(p);
}

static u64 port61_read(void *dev, u64 off, unsigned size)
{
    struct pit *p = dev;
    u64 now = pit_now(p);
    settle(&p->ch[2], now);
    return (p->ch[2].gate ? P61_GATE2 : 0) | (p->speaker ? P61_SPEAKER : 0) | p->parity |
           (now / REFRESH_TICKS & 1 ? P61_REFRESH : 0) | (out(&p->ch[2], now) ? P61_OUT2 : 0);
}

static void port61_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct pit *p = dev;
    p->speaker = val & P61_SPEAKER;
    p->parity = val & P61_CHECKS;
    set_gate(p, &p->ch[2], val & P61_GATE2);
}

const struct region_ops pit_ops = {pit_read, pit_write, 1, 4, 1, 1, true};
const struct region_ops pit_port61_ops = {port61_read, port61_write, 1, 1, 1, 1, true};

static void pit_event(void *arg)
{
    update(arg);
}

#define CH_FIELDS(i)                                                                    \
    SNAP_U8(struct pit, ch[i].mode), SNAP_U8(struct pit, ch[i].rw),                     \
        SNAP_BOOL(struct pit, ch[i].bcd), SNAP_BOOL(struct pit, ch[i].gate),            \
        SNAP_BOOL(struct pit, ch[i].loaded), SNAP_BOOL(struct pit, ch[i].triggered),    \
        SNAP_BOOL(struct pit, ch[i].running), SNAP_BOOL(struct pit, ch[i].write_high),  \
        SNAP_BOOL(struct pit, ch[i].read_high), SNAP_U8(struct pit, ch[i].write_low),   \
        SNAP_U8(struct pit, ch[i].latched), SNAP_U16(struct pit, ch[i].latched_count),  \
        SNAP_BOOL(struct pit, ch[i].status_latched), SNAP_U8(struct pit, ch[i].status), \
        SNAP_U32(struct pit, ch[i].count), SNAP_U32(struct pit, ch[i].next),            \
        SNAP_U64(struct pit, ch[i].next_tick), SNAP_U64(struct pit, ch[i].start),       \
        SNAP_U64(struct pit, ch[i].held)

static const struct snap_field pit_fields[] = {CH_FIELDS(0),
                                               CH_FIELDS(1),
                                               CH_FIELDS(2),
                                               SNAP_BOOL(struct pit, speaker),
                                               SNAP_U8(struct pit, parity),
                                               SNAP_U64(struct pit, edges),
                                               SNAP_U32(struct pit, tick.backlog),
                                               SNAP_U64(struct pit, tick.last_ns),
                                               SNAP_END};

static int pit_check(const void *scratch, struct err *e)
{
    const struct pit *p = scratch;
    for (unsigned i = 0; i < 3; i++) {
        const struct pit_channel *c = &p->ch[i];
        u32 max = c->bcd ? 10000 : 65536;
        if (c->mode > 5 || c->rw < 1 || c->rw > 3 || c->latched > 2)
            return err_set(e, EINVAL, "pit counter %u: mode %u, rw %u", i, c->mode, c->rw);
        if (c->count < 1 || c->count > max || c->next > max)
            return err_set(e, EINVAL, "pit counter %u: count %u, next %u", i, c->count, c->next);
        if (c->start >= TICK_SANE_MAX || c->held >= TICK_SANE_MAX ||
            (c->next_tick >= TICK_SANE_MAX && c->next_tick != UINT64_MAX))
            return err_set(e, EINVAL, "pit counter %u: impossible time", i);
    }
    if (p->parity & ~P61_CHECKS)
        return err_set(e, EINVAL, "pit: port 61h bits %#x", p->parity);
    if (!tick_sane(&p->tick))
        return err_set(e, EINVAL, "pit: impossible tick backlog or time");
    return 0;
}

static void pit_settle(void *obj)
{
    update(obj);
}

const struct snap_desc pit_snap = {"pit",     1,          sizeof(struct pit), pit_fields,
                                   pit_check, pit_settle, pit_settle};

void pit_reset(struct pit *p)
{
    memset(p->ch, 0, sizeof(p->ch));
    for (unsigned i = 0; i < 3; i++) {
        p->ch[i].rw = 3;
        p->ch[i].mode = 3;
        p->ch[i].count = 65536;
        p->ch[i].gate = i != 2;
    }
    p->speaker = false;
    p->parity = 0;
    memset(&p->tick, 0, sizeof(p->tick));
    p->ch[0].loaded = p->ch[0].running = true; /* 18.2 Hz, as firmware leaves it */
    restart(p, &p->ch[0], pit_now(p));
    update(p);
}

void pit_init(struct pit *p, struct clock *clock, struct lock *lock, const struct irq_line *irq)
{
    memset(p, 0, sizeof(*p));
    p->clock = clock;
    p->irq = *irq;
    timer_init(&p->timer, clock, pit_event, p, lock);
    pit_reset(p);
}

void pit_fini(struct pit *p)
{
    timer_fini(&p->timer);
}
