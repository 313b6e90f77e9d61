/* tick.h - time to ticks, and what happens to periodic ticks that nobody could take */
#pragma once

#include "base/freq.h"
#include "base/limits.h"
#include "base/types.h"

/* ns of guest time to ticks of a clock of `hz`, rounding down. Never overflows for hz below
 * 2^32. */
static inline u64 ticks_at(u64 ns, u64 hz)
{
    return (u64)((unsigned __int128)ns * hz / NS_PER_SEC);
}

/* First ns at which a clock of `hz` has made `ticks` ticks; saturates. */
static inline u64 ticks_ns(u64 ticks, u64 hz)
{
    unsigned __int128 ns = ((unsigned __int128)ticks * NS_PER_SEC + hz - 1) / hz;
    return ns > UINT64_MAX ? UINT64_MAX : (u64)ns;
}

/* The policy for all periodic sources that make edges (8254, HPET, local APIC).
 *
 * The guest may program a period of one tick, and the host may run a timer late. So: at most one
 * interrupt per TIMER_MIN_NS is made. Ticks that passed meanwhile are a backlog, which is worked
 * off one interrupt at a time at twice the programmed rate, so that a guest that counts ticks
 * keeps its time through a short stall; beyond TICK_BACKLOG_MAX they are lost, as on a machine
 * whose interrupts were off for too long. Counter registers never lie: they are computed from
 * the clock. */
struct tick {
    u32 backlog; /* interrupts owed */
    u64 last_ns; /* when the last one was made */
};

/* `periods` ended since the last call: whether to make an interrupt now. */
static inline bool tick_take(struct tick *t, u64 now, u64 periods, u64 period_ns)
{
    u64 owed = t->backlog + MIN(periods, (u64)TICK_BACKLOG_MAX + 1);
    u64 gap = periods ? TIMER_MIN_NS : MAX(TIMER_MIN_NS, period_ns / 2);
    bool take = owed && now - t->last_ns >= gap;
    if (take) {
        owed--;
        t->last_ns = now;
    }
    t->backlog = (u32)MIN(owed, (u64)TICK_BACKLOG_MAX);
    return take;
}

/* When to look again: `natural` is the end of the current period. Asking twice gives the same
 * answer. */
static inline u64 tick_next(const struct tick *t, u64 natural, u64 period_ns)
{
    u64 at = natural;
    if (t->backlog)
        at = MIN(natural, t->last_ns + period_ns / 2);
    return MAX(at, t->last_ns + TIMER_MIN_NS);
}

/* For snapshot checks: no time or count of a chip may come near to where arithmetic wraps. */
#define TICK_SANE_MAX (1ull << 56)

static inline bool tick_sane(const struct tick *t)
{
    return t->backlog <= TICK_BACKLOG_MAX && t->last_ns < TICK_SANE_MAX;
}
