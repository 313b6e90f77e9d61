/* clock_priv.h - what clock.c and timer.c share (private to host/) */
#pragma once

#include "host/clock.h"

struct clock {
    bool stepped; /* fixed at creation; a stepped clock is always frozen */

    u32 seq;     /* odd while the two below change */
    bool frozen; /* guest time is base_ns, else it is host time - base_ns */
    u64 base_ns;

    struct lock lock; /* all below and writers of above; innermost, never held around a callback */
    bool paused;
    struct timer **heap; /* binary min-heap by (deadline_ns, order) */
    u32 heap_n, heap_cap;
    u32 timers; /* initialised and not finished: room the heap must have */
    u64 orders;
    void (*wake)(void *arg);
    void *wake_arg;

    /* The timer whose lock is being taken or whose fn is running, and by whom. */
    struct timer *firing;
    pthread_t firing_thread;
    pthread_cond_t fired;
};

/* Deadline of the first timer, UINT64_MAX = none. Caller holds c->lock. */
u64 heap_deadline_locked(const struct clock *c);
/* Fires the first timer if it is due now. False when none was. No lock of the clock held. */
bool clock_fire_one(struct clock *c);
/* Calls the waker. No lock of the clock held. */
void clock_wake(struct clock *c);
