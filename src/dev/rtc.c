/* rtc.c - MC146818 real-time clock and CMOS memory */
#include "dev/rtc.h"

#include <errno.h>
#include <string.h>

#include "base/freq.h"
#include "base/limits.h"
#include "dev/rtc_time.h"

#define REG_SECONDS       0x00
#define REG_SECONDS_ALARM 0x01
#define REG_MINUTES       0x02
#define REG_MINUTES_ALARM 0x03
#define REG_HOURS         0x04
#define REG_HOURS_ALARM   0x05
#define REG_A             0x0a
#define REG_B             0x0b
#define REG_C             0x0c
#define REG_D             0x0d
#define REG_CENTURY       0x32

#define A_UIP           0x80
#define A_DIVIDER(a)    ((a) >> 4 & 7)
#define A_DIVIDER_RUN   2 /* 32.768 kHz; 6 and 7 hold the divider in reset */
#define A_DIVIDER_RESET 6
#define A_RATE(a)       ((a)&15)
#define B_SET           0x80
#define B_PIE           0x40
#define B_AIE           0x20
#define B_UIE           0x10
#define C_IRQF          0x80
#define C_PF            0x40
#define C_AF            0x20
#define C_UF            0x10
#define D_VRT           0x80 /* the battery is fine */

#define INDEX_NMI_MASK 0x80
#define UIP_NS         244000ull /* UIP rises 244 us before an update */

/* ---- time ---- */

static bool divider_on(const struct rtc *r)
{
    return A_DIVIDER(r->cmos[REG_A]) < A_DIVIDER_RESET;
}

static bool ticking(const struct rtc *r)
{
    return divider_on(r) && !(r->cmos[REG_B] & B_SET);
}

/* RTC time in ns since 1970 by the running clock. */
static u64 now_ns(const struct rtc *r)
{
    u64 sec;
    u32 nsec;
    clock_wall(r->clock, &sec, &nsec);
    return sec * NS_PER_SEC + nsec + r->offset_ns;
}

/* Host ns (clock_now_ns) at which RTC time is t. */
static u64 host_ns(const struct rtc *r, u64 t)
{
    u64 now = now_ns(r);
    return clock_now_ns(r->clock) + (t > now ? t - now : 0);
}

static void fill_registers(struct rtc *r)
{
    rtc_time_to_registers(now_ns(r) / NS_PER_SEC, r->cmos);
}

/* Makes the running clock show what the registers say, `phase_ns` into that second. */
static void adopt_registers(struct rtc *r, u64 phase_ns)
{
    u64 want = rtc_registers_to_time(r->cmos) * NS_PER_SEC + phase_ns;
    r->offset_ns += want - now_ns(r);
    r->seen_ns = want;
}

/* ---- interrupts ---- */

static u64 periodic_ns(const struct rtc *r)
{
    unsigned rate = A_RATE(r->cmos[REG_A]);
    if (rate == 0 || !divider_on(r))
        return 0;
    if (rate <= 2) /* these two select the rates of 8 and 9 at this time base */
        rate += 7;
    return (NS_PER_SEC << (rate - 1)) / RTC_HZ;
}

/* Phase n of the periodic divider begins at n * 2^(rate-1) / 32768 s. */
static u64 periodic_phase(u64 t, u64 period)
{
    return t / period;
}

static void update_irq(struct rtc *r)
{
    irq_set(&r->irq, r->flags & r->cmos[REG_B] & (C_PF | C_AF | C_UF));
}

/* Derives the flags from the time that passed. A flag that is already set stays one: as on the
 * chip, periodic ticks that nobody acknowledged by reading register C are lost, which also
 * bounds the interrupt rate. */
static void settle(struct rtc *r)
{
    u64 now = now_ns(r), seen = r->seen_ns, period = periodic_ns(r);
    if (now > seen) {
        if (period && periodic_phase(now, period) != periodic_phase(seen, period))
            r->flags |= C_PF;
        if (ticking(r) && now / NS_PER_SEC != seen / NS_PER_SEC) {
            r->flags |= C_UF;
            if (rtc_next_alarm(r->cmos, seen / NS_PER_SEC) <= now / NS_PER_SEC)
                r->flags |= C_AF;
        }
    }
    r->seen_ns = now;
    update_irq(r);
}

/* When the next enabled flag that is not set yet will rise. */
static void arm(struct rtc *r)
{
    u8 want = r->cmos[REG_B] & (u8)~r->flags;
    u64 now = r->seen_ns, period = periodic_ns(r), at = UINT64_MAX;
    if ((want & B_PIE) && period)
        at = (periodic_phase(now, period) + 1) * period;
    if ((want & B_UIE) && ticking(r))
        at = MIN(at, (now / NS_PER_SEC + 1) * NS_PER_SEC);
    if ((want & B_AIE) && ticking(r)) {
        u64 alarm = rtc_next_alarm(r->cmos, now / NS_PER_SEC);
        at = alarm == UINT64_MAX ? at : MIN(at, alarm * NS_PER_SEC);
    }
    if (at == UINT64_MAX)
        timer_disarm(&r->timer);
    else
        timer_arm(&r->timer, MAX(host_ns(r, at), clock_now_ns(r->clock) + TIMER_MIN_NS));
}

static void rtc_event(void *arg)
{
    settle(arg);
    arm(arg);
}

/* ---- registers ---- */

static bool is_time(unsigned index)
{
    return index == REG_CENTURY || (index < REG_A && index != REG_SECONDS_ALARM &&
                                    index != REG_MINUTES_ALARM && index != REG_HOURS_ALARM);
}

static u8 read_register(struct rtc *r, unsigned index)
{
    u8 val;
    if (is_time(index) && ticking(r))
        fill_registers(r);
    switch (index) {
    case REG_A:
        val = r->cmos[REG_A];
        if (ticking(r) && r->seen_ns % NS_PER_SEC >= NS_PER_SEC - UIP_NS)
            val |= A_UIP;
        return val;
    case REG_C:
        val = r->flags | (r->flags & r->cmos[REG_B] & (C_PF | C_AF | C_UF) ? C_IRQF : 0);
        r->flags = 0;
        update_irq(r);
        return val;
    case REG_D: return D_VRT;
    default: return r->cmos[index];
    }
}

/* Registers A and B stop and start the clock: SET freezes the registers while time goes on below
 * the second; a divider in reset stops time, and the first update follows half a second after it
 * is let go. */
static void write_control(struct rtc *r, unsigned index, u8 val)
{
    bool ticked = ticking(r), divided = divider_on(r);
    if (ticked)
        fill_registers(r);
    if (index == REG_A)
        r->cmos[REG_A] = val & (u8)~A_UIP;
    else
        r->cmos[REG_B] = (val & B_SET) ? val & (u8)~B_UIE : val; /* SET clears UIE */
    if (!divided && divider_on(r))
        adopt_registers(r, NS_PER_SEC / 2);
    else if (!ticked && ticking(r))
        adopt_registers(r, r->seen_ns % NS_PER_SEC);
}

static void write_register(struct rtc *r, unsigned index, u8 val)
{
    switch (index) {
    case REG_A:
    case REG_B: write_control(r, index, val); return;
    case REG_C:
    case REG_D: return;
    default: break;
    }
    if (!is_time(index) || !ticking(r)) {
        r->cmos[index] = val;
        return;
    }
    fill_registers(r);
    r->cmos[index] = val;
    adopt_registers(r, r->seen_ns % NS_PER_SEC);
}

static u64 rtc_read(void *dev, u64 off, unsigned size)
{
    struct rtc *r = dev;
    if (off == 0)
        return 0xff; /* the index is write-only */
    settle(r);
    u8 val = read_register(r, r->index);
    arm(r);
    return val;
}

static void rtc_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct rtc *r = dev;
    if (off == 0) {
        r->index = val & (CMOS_BYTES - 1);
        r->nmi_masked = val & INDEX_NMI_MASK;
        return;
    }
    settle(r);
    write_register(r, r->index, (u8)val);
    update_irq(r);
    arm(r);
}

const struct region_ops rtc_ops = {rtc_read, rtc_write, 1, 4, 1, 1, true};

void rtc_cmos_set(struct rtc *r, u8 index, u8 val)
{
    if (index > REG_D && index < CMOS_BYTES && !is_time(index))
        r->cmos[index] = val;
}

u8 rtc_cmos_get(const struct rtc *r, u8 index)
{
    return index > REG_D && index < CMOS_BYTES ? r->cmos[index] : 0xff;
}

/* ---- state ---- */

/* All times are RTC times, which follow the wall clock: a guest restored tomorrow sees
 * tomorrow's date. */
static const struct snap_field rtc_fields[] = {SNAP_U8(struct rtc, index),
                                               SNAP_BOOL(struct rtc, nmi_masked),
                                               SNAP_U8(struct rtc, cmos),
                                               SNAP_U8(struct rtc, flags),
                                               SNAP_U64(struct rtc, offset_ns),
                                               SNAP_U64(struct rtc, seen_ns),
                                               SNAP_END};

static int rtc_check(const void *scratch, struct err *e)
{
    const struct rtc *r = scratch;
    if (r->index >= CMOS_BYTES || (r->flags & ~(C_PF | C_AF | C_UF)))
        return err_set(e, EINVAL, "rtc: index %u, flags %#x", r->index, r->flags);
    if (r->cmos[REG_A] & A_UIP)
        return err_set(e, EINVAL, "rtc: the update flag is stored");
    return 0;
}

static void rtc_loaded(void *obj)
{
    struct rtc *r = obj;
    update_irq(r);
    arm(r);
}

static void rtc_saving(void *obj)
{
    struct rtc *r = obj;
    settle(r);
    if (ticking(r))
        fill_registers(r);
}

const struct snap_desc rtc_snap = {"rtc",     1,          sizeof(struct rtc), rtc_fields,
                                   rtc_check, rtc_loaded, rtc_saving};

void rtc_reset(struct rtc *r)
{
    settle(r);
    r->cmos[REG_B] &= (u8) ~(B_PIE | B_AIE | B_UIE);
    r->flags = 0;
    r->index = 0;
    r->nmi_masked = false;
    update_irq(r);
    arm(r);
}

void rtc_init(struct rtc *r, struct clock *clock, struct lock *lock, const struct irq_line *irq)
{
    memset(r, 0, sizeof(*r));
    r->clock = clock;
    r->irq = *irq;
    timer_init(&r->timer, clock, rtc_event, r, lock);
    r->cmos[REG_A] = A_DIVIDER_RUN << 4 | 6; /* 1024 Hz, as firmware leaves it */
    r->cmos[REG_B] = RTC_B_24H;
    r->seen_ns = now_ns(r);
    fill_registers(r);
}

void rtc_fini(struct rtc *r)
{
    timer_fini(&r->timer);
}
