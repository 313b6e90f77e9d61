/* hpet.c - high precision event timers (IA-PC HPET specification 1.0a) */
#include "dev/hpet.h"

#include <errno.h>
#include <string.h>

#include "base/freq.h"

#define REG_CAPABILITIES 0x000
#define REG_CONFIG       0x010
#define REG_STATUS       0x020
#define REG_COUNTER      0x0f0
#define REG_TIMERS       0x100 /* + 20h each: configuration, comparator, FSB route */
#define TIMER_CONFIG     0x00
#define TIMER_COMPARATOR 0x08

/* Capabilities: 63-32 period in fs | 31-16 vendor | 15 legacy routing | 13 64-bit counter | 12-8
 * last timer | 7-0 revision. The low half is also the id in the ACPI table. */
#define CAPABILITIES \
    (HPET_PERIOD_FS << 32 | 0x8086u << 16 | BIT(15) | BIT(13) | (HPET_TIMERS - 1) << 8 | 1)
#define CONFIG_ENABLE 0x01
#define CONFIG_LEGACY 0x02

/* Timer: 63-32 routes possible | 13-9 route | 8 32-bit mode | 6 set value (write-only) | 5
 * 64-bit capable | 4 periodic capable | 3 periodic | 2 interrupt enable | 1 level-triggered */
#define T_LEVEL        BIT64(1)
#define T_ENABLE       BIT64(2)
#define T_PERIODIC     BIT64(3)
#define T_PERIODIC_CAP BIT64(4)
#define T_64BIT_CAP    BIT64(5)
#define T_SET_VALUE    BIT64(6)
#define T_32BIT        BIT64(8)
#define T_ROUTE(c)     ((unsigned)((c) >> 9 & 31))
#define T_WRITABLE     (T_LEVEL | T_ENABLE | T_PERIODIC | T_32BIT | 31ull << 9)

#define TICK_NS (HPET_PERIOD_FS / 1000000)

static bool running(const struct hpet *h)
{
    return h->config & CONFIG_ENABLE;
}

static u64 counter(const struct hpet *h)
{
    if (!running(h))
        return h->counter;
    u64 now = clock_now_ns(h->clock);
    return h->counter + (now > h->start_ns ? now - h->start_ns : 0) / TICK_NS;
}

static u64 wrap(const struct hpet_timer *t, u64 val)
{
    return t->config & T_32BIT ? (u32)val : val;
}

static bool periodic(const struct hpet_timer *t)
{
    return (t->config & T_PERIODIC) && t->period;
}

/* Whether the comparator's match lies behind. Where the counter wraps, up to half its range back
 * has passed; a longer period leaves less. A comparator that is written too late therefore
 * matches at once, where the chip would wait for the counter to come round: a guest that lost
 * the race on a busy host must not sleep for that long. */
static bool passed(const struct hpet_timer *t, u64 counter)
{
    u64 half = t->config & T_32BIT ? BIT64(31) : BIT64(63);
    u64 behind = wrap(t, counter - t->comparator);
    if (periodic(t))
        return behind < MIN(half, wrap(t, -t->period));
    return t->config & T_32BIT ? behind < half : counter >= t->comparator;
}

static bool legacy_timer(const struct hpet *h, unsigned n)
{
    return (h->config & CONFIG_LEGACY) && n < 2;
}

/* ---- interrupts ---- */

static void set_line(struct hpet *h, unsigned n, bool level)
{
    if (legacy_timer(h, n))
        h->host.legacy(h->host.ctx, n, level);
    else
        h->host.gsi(h->host.ctx, n, T_ROUTE(h->timers[n].config), level);
    h->line[n] = level;
}

/* Level-triggered timers hold their line while their status bit is set. */
static bool level_asserted(const struct hpet *h, unsigned n)
{
    u64 c = h->timers[n].config;
    return (c & T_LEVEL) && (c & T_ENABLE) && (h->status & BIT(n)) && running(h);
}

static void fire(struct hpet *h, unsigned n)
{
    u64 c = h->timers[n].config;
    if (c & T_LEVEL) {
        h->status |= BIT(n);
    } else if (c & T_ENABLE) {
        set_line(h, n, true);
        set_line(h, n, false);
    }
}

/* Brings one timer up to the counter. */
static void settle_timer(struct hpet *h, unsigned n, u64 now)
{
    struct hpet_timer *t = &h->timers[n];
    u64 periods = 0;
    if (!periodic(t)) {
        if (!t->fired && passed(t, now)) {
            t->fired = true;
            fire(h, n);
        }
        return;
    }
    if (passed(t, now)) {
        periods = 1 + wrap(t, now - t->comparator) / t->period;
        t->comparator = wrap(t, t->comparator + periods * t->period);
    }
    if (tick_take(&t->tick, clock_now_ns(h->clock), periods, t->period * TICK_NS))
        fire(h, n);
}

static u64 next_event(const struct hpet *h, u64 now, u64 now_ns)
{
    u64 at = UINT64_MAX;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        const struct hpet_timer *t = &h->timers[n];
        if (!(t->config & T_ENABLE) || (!periodic(t) && t->fired))
            continue;
        u64 left = wrap(t, t->comparator - now), when;
        if (left > TICK_SANE_MAX / TICK_NS)
            continue; /* years away */
        when = now_ns + left * TICK_NS - (now_ns - h->start_ns) % TICK_NS;
        if (periodic(t))
            when = tick_next(&t->tick, when, t->period * TICK_NS);
        at = MIN(at, when);
    }
    return at;
}

/* The one place that turns time into interrupts and levels. */
static void update(struct hpet *h)
{
    u64 now = counter(h);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        if (running(h))
            settle_timer(h, n, now);
        if (level_asserted(h, n) != h->line[n])
            set_line(h, n, level_asserted(h, n));
    }
    u64 at = running(h) ? next_event(h, now, clock_now_ns(h->clock)) : UINT64_MAX;
    if (at == UINT64_MAX)
        timer_disarm(&h->timer);
    else
        timer_arm(&h->timer, at);
}

static void hpet_event(void *arg)
{
    update(arg);
}

/* ---- registers, in 64-bit units ---- */

static u64 read64(const struct hpet *h, u64 reg)
{
    if (reg >= REG_TIMERS && reg < REG_TIMERS + 0x20 * HPET_TIMERS) {
        const struct hpet_timer *t = &h->timers[(reg - REG_TIMERS) / 0x20];
        switch (reg & 0x1f) {
        case TIMER_CONFIG: return t->config | (u64)h->routes << 32 | T_PERIODIC_CAP | T_64BIT_CAP;
        case TIMER_COMPARATOR: return t->comparator;
        default: return 0;
        }
    }
    switch (reg) {
    case REG_CAPABILITIES: return CAPABILITIES;
    case REG_CONFIG: return h->config;
    case REG_STATUS: return h->status;
    case REG_COUNTER: return counter(h);
    default: return 0;
    }
}

/* Lines of the old routing fall before the new one is in effect. */
static void drop_lines(struct hpet *h)
{
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        if (h->line[n])
            set_line(h, n, false);
    }
}

static void write_config(struct hpet *h, u64 val)
{
    u64 now = counter(h);
    bool legacy = h->config & CONFIG_LEGACY;
    drop_lines(h);
    h->config = val & (CONFIG_ENABLE | CONFIG_LEGACY);
    h->counter = now;
    h->start_ns = clock_now_ns(h->clock);
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        h->timers[n].tick.backlog = 0;
    if (legacy != !!(h->config & CONFIG_LEGACY))
        h->host.legacy_mode(h->host.ctx, h->config & CONFIG_LEGACY);
}

static void write_counter(struct hpet *h, u64 val)
{
    h->counter = val;
    h->start_ns = clock_now_ns(h->clock);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        h->timers[n].fired = false;
        h->timers[n].tick.backlog = 0;
    }
}

static void write_timer_config(struct hpet *h, unsigned n, u64 val)
{
    struct hpet_timer *t = &h->timers[n];
    if (h->line[n])
        set_line(h, n, false);
    if (!(h->routes & BIT(T_ROUTE(val)))) /* the field keeps its value: how drivers probe routes */
        val = (val & ~(31ull << 9)) | (t->config & 31ull << 9);
    t->config = val & T_WRITABLE;
    t->set_value = val & T_SET_VALUE;
    if (!(t->config & T_LEVEL) || !(t->config & T_ENABLE))
        h->status &= ~BIT64(n);
    t->comparator = wrap(t, t->comparator);
    t->period = wrap(t, t->period);
    t->tick.backlog = 0;
}

/* Periodic mode: a write is the period, and with "set value" also the first match (HPET
 * 2.3.9.2.2). Drivers write the match with that bit set and then the period without it; some
 * write once and mean both. */
static void write_comparator(struct hpet *h, unsigned n, u64 val, u64 mask)
{
    struct hpet_timer *t = &h->timers[n];
    bool accumulator = !(t->config & T_PERIODIC) || t->set_value;
    if (accumulator)
        t->comparator = wrap(t, (t->comparator & ~mask) | (val & mask));
    if (t->config & T_PERIODIC) {
        t->period = wrap(t, (t->period & ~mask) | (val & mask));
        t->set_value = false;
    }
    t->tick.backlog = 0;
    t->fired = false;
}

static void write64(struct hpet *h, u64 reg, u64 val, u64 mask)
{
    u64 merged = (read64(h, reg) & ~mask) | (val & mask);
    if (reg >= REG_TIMERS && reg < REG_TIMERS + 0x20 * HPET_TIMERS) {
        unsigned n = (unsigned)(reg - REG_TIMERS) / 0x20;
        if ((reg & 0x1f) == TIMER_CONFIG)
            write_timer_config(h, n, merged);
        else if ((reg & 0x1f) == TIMER_COMPARATOR)
            write_comparator(h, n, val, mask);
        return;
    }
    switch (reg) {
    case REG_CONFIG: write_config(h, merged); break;
    case REG_STATUS: h->status &= ~(val & mask); break;
    case REG_COUNTER: write_counter(h, merged); break;
    default: break;
    }
}

static u64 hpet_read(void *dev, u64 off, unsigned size)
{
    struct hpet *h = dev;
    update(h);
    return read64(h, off & ~7ull) >> (off & 7) * 8;
}

static void hpet_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct hpet *h = dev;
    u64 mask = (size == 8 ? UINT64_MAX : 0xffffffffull) << (off & 7) * 8;
    update(h);
    write64(h, off & ~7ull, val << (off & 7) * 8, mask);
    update(h);
}

const struct region_ops hpet_ops = {hpet_read, hpet_write, 1, 8, 4, 8, false};

/* ---- state ---- */

#define TIMER_FIELDS(i)                                                                         \
    SNAP_U64(struct hpet, timers[i].config), SNAP_U64(struct hpet, timers[i].comparator),       \
        SNAP_U64(struct hpet, timers[i].period), SNAP_BOOL(struct hpet, timers[i].set_value),   \
        SNAP_BOOL(struct hpet, timers[i].fired), SNAP_U32(struct hpet, timers[i].tick.backlog), \
        SNAP_U64(struct hpet, timers[i].tick.last_ns)

static const struct snap_field hpet_fields[] = {SNAP_U64(struct hpet, config),
                                                SNAP_U64(struct hpet, status),
                                                SNAP_U64(struct hpet, counter),
                                                SNAP_U64(struct hpet, start_ns),
                                                TIMER_FIELDS(0),
                                                TIMER_FIELDS(1),
                                                TIMER_FIELDS(2),
                                                SNAP_END};

static int hpet_check(const void *scratch, struct err *e)
{
    const struct hpet *h = scratch;
    if ((h->config & ~(u64)(CONFIG_ENABLE | CONFIG_LEGACY)) || h->status >> HPET_TIMERS)
        return err_set(e, EINVAL, "hpet: reserved bits in configuration or status");
    if (h->start_ns >= TICK_SANE_MAX)
        return err_set(e, EINVAL, "hpet: impossible start time");
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        const struct hpet_timer *t = &h->timers[n];
        if ((t->config & ~T_WRITABLE) || !tick_sane(&t->tick) ||
            t->comparator != wrap(t, t->comparator) || t->period != wrap(t, t->period))
            return err_set(e, EINVAL, "hpet: impossible state of timer %u", n);
    }
    return 0;
}

static void hpet_loaded(void *obj)
{
    struct hpet *h = obj;
    h->host.legacy_mode(h->host.ctx, h->config & CONFIG_LEGACY);
    memset(h->line, 0, sizeof(h->line));
    h->start_ns = MIN(h->start_ns, clock_now_ns(h->clock));
    update(h);
}

const struct snap_desc hpet_snap = {"hpet",     1,           sizeof(struct hpet), hpet_fields,
                                    hpet_check, hpet_loaded, hpet_event};

void hpet_reset(struct hpet *h)
{
    drop_lines(h);
    h->config = h->status = h->counter = h->start_ns = 0;
    memset(h->timers, 0, sizeof(h->timers));
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        h->timers[n].comparator = UINT64_MAX;
        h->timers[n].config = (u64)__builtin_ctz(h->routes) << 9;
    }
    h->host.legacy_mode(h->host.ctx, false);
    update(h);
}

void hpet_init(struct hpet *h, struct clock *clock, struct lock *lock, u32 routes,
               const struct hpet_host *host)
{
    memset(h, 0, sizeof(*h));
    h->clock = clock;
    h->routes = routes;
    h->host = *host;
    timer_init(&h->timer, clock, hpet_event, h, lock);
    hpet_reset(h);
}

void hpet_fini(struct hpet *h)
{
    timer_fini(&h->timer);
}
