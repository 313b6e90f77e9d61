/* lapic_timer.c - local APIC timer: one-shot, periodic, TSC-deadline (SDM vol. 3 11.5.4) */
#include "base/freq.h"
#include "dev/lapic.h"

/* Nothing counts in the background: the current count is a function of (count, count_ns) and the
 * clock. `count` is rebased whenever divisor, mode or initial count change. In periodic mode it
 * wraps to `initial`; a one-shot count that reached zero stays there, even when the mode changes
 * later. */

static u32 mode_of(u32 entry)
{
    u32 mode = entry & LVT_TIMER_MODE;
    return mode == LVT_TIMER_MODE ? LVT_TIMER_ONESHOT : mode; /* 3 is reserved */
}

static u32 mode(const struct lapic *l)
{
    return mode_of(l->lvt[LVT_TIMER]);
}

static bool wraps(const struct lapic *l)
{
    return mode(l) == LVT_TIMER_PERIODIC && l->initial;
}

/* Bits 3, 1 and 0: 0 = by 2 ... 6 = by 128, 7 = by 1. */
static u64 divisor(const struct lapic *l)
{
    unsigned code = (l->divide & 3) | (l->divide >> 1 & 4);
    return 1ull << ((code + 1) & 7);
}

static u64 to_ns(const struct lapic *l, u64 ticks)
{
    return ticks * divisor(l) * (NS_PER_SEC / LAPIC_BUS_HZ);
}

static u64 ticks_since(const struct lapic *l, u64 now)
{
    return now <= l->count_ns ? 0 : (now - l->count_ns) / (NS_PER_SEC / LAPIC_BUS_HZ) / divisor(l);
}

/* Times the count reached zero by `now`, since it was rebased. */
static u64 expiries(const struct lapic *l, u64 now)
{
    u64 ticks = ticks_since(l, now);
    if (!l->count || ticks < l->count || mode(l) == LVT_TIMER_DEADLINE)
        return 0;
    if (!wraps(l))
        return 1;
    return 1 + (ticks - l->count) / l->initial;
}

u32 lapic_timer_count(const struct lapic *l)
{
    u64 ticks = ticks_since(l, clock_now_ns(l->clock));
    if (!l->count || mode(l) == LVT_TIMER_DEADLINE)
        return 0;
    if (ticks < l->count)
        return l->count - (u32)ticks;
    if (!wraps(l))
        return 0;
    return l->initial - (u32)((ticks - l->count) % l->initial);
}

static void rebase(struct lapic *l, u32 count)
{
    l->count = count;
    l->count_ns = clock_now_ns(l->clock);
    l->periods = 0;
}

/* Turns expiries that passed into interrupts: each for a one-shot, under the policy of tick.h for a
 * periodic count. */
static void settle(struct lapic *l)
{
    u64 now = clock_now_ns(l->clock);
    if (mode(l) == LVT_TIMER_DEADLINE) {
        if (l->deadline && l->deadline <= now) {
            l->deadline = 0;
            lapic_local(l, LVT_TIMER);
        }
        return;
    }
    u64 done = expiries(l, now);
    u64 fresh = done > l->periods ? done - l->periods : 0;
    l->periods = done;
    if (!wraps(l)) {
        if (fresh)
            lapic_local(l, LVT_TIMER);
    } else if (l->lvt[LVT_TIMER] & LVT_MASKED) {
        l->tick.backlog = 0;
    } else if (tick_take(&l->tick, now, fresh, to_ns(l, l->initial))) {
        lapic_local(l, LVT_TIMER);
    }
}

/* When to look again. A masked count needs no timer: it is read off the clock. */
void lapic_timer_arm(struct lapic *l)
{
    bool masked = l->lvt[LVT_TIMER] & LVT_MASKED;
    u32 m = mode(l);
    if (!lapic_on(l)) {
        timer_disarm(&l->timer);
    } else if (m == LVT_TIMER_DEADLINE) {
        if (l->deadline)
            timer_arm(&l->timer, l->deadline);
        else
            timer_disarm(&l->timer);
    } else if (masked || !l->count || (!wraps(l) && l->periods)) {
        timer_disarm(&l->timer);
    } else {
        u64 ticks = l->count + l->periods * l->initial;
        u64 at = l->count_ns + to_ns(l, ticks);
        if (wraps(l))
            at = tick_next(&l->tick, at, to_ns(l, l->initial));
        timer_arm(&l->timer, at);
    }
}

void lapic_timer_event(void *arg)
{
    struct lapic *l = arg;
    settle(l);
    lapic_timer_arm(l);
}

void lapic_timer_set_initial(struct lapic *l, u32 val)
{
    if (mode(l) == LVT_TIMER_DEADLINE)
        return; /* ignored in this mode (11.5.4.1) */
    settle(l);
    l->initial = val;
    l->tick.backlog = 0;
    rebase(l, val);
    lapic_timer_arm(l);
}

void lapic_timer_set_divide(struct lapic *l, u32 val)
{
    settle(l);
    u32 left = lapic_timer_count(l);
    l->divide = val & 0xb;
    rebase(l, left);
    lapic_timer_arm(l);
}

/* A switch between one-shot and periodic keeps the count; one to or from TSC-deadline disarms. */
void lapic_timer_set_lvt(struct lapic *l, u32 val)
{
    u32 was = mode(l), is = mode_of(val);
    settle(l);
    u32 left = lapic_timer_count(l);
    l->lvt[LVT_TIMER] = val;
    if (was != is) {
        l->tick.backlog = 0;
        if (was == LVT_TIMER_DEADLINE || is == LVT_TIMER_DEADLINE) {
            l->deadline = 0;
            l->initial = 0;
            left = 0;
        }
        rebase(l, left);
    }
    lapic_timer_arm(l);
}

void lapic_timer_set_deadline(struct lapic *l, u64 val)
{
    if (mode(l) != LVT_TIMER_DEADLINE)
        return;
    l->deadline = val;
    settle(l);
    lapic_timer_arm(l);
}

void lapic_timer_reset(struct lapic *l)
{
    l->divide = 0;
    l->initial = 0;
    l->deadline = 0;
    l->tick.backlog = 0;
    rebase(l, 0);
    timer_disarm(&l->timer);
}
