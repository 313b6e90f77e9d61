/* clock.h - the one clock of a VM and its timers; the only reader of host time */
#pragma once

#include "base/err.h"
#include "base/lock.h"
#include "base/types.h"

/* Guest time in ns since the VM was created; stands still while paused. A real clock follows the
 * host's monotonic time; a stepped one moves only by clock_step, for tests and the script
 * engine. */
struct clock;

/* Where the wall clock of a stepped clock starts: 2000-01-01T00:00:00Z, a Saturday. */
#define CLOCK_STEPPED_EPOCH 946684800ull

must_check int clock_create_real(struct clock **out, struct err *e);
must_check int clock_create_stepped(struct clock **out, struct err *e);
/* No timer of it may be armed or firing. */
void clock_destroy(struct clock *c);
bool clock_is_stepped(const struct clock *c);

/* Any thread, no lock; never goes backwards but for clock_set_ns. */
u64 clock_now_ns(struct clock *c);
/* Wall-clock seconds and ns since the Unix epoch; goes on while paused. A stepped clock gives
 * CLOCK_STEPPED_EPOCH plus its time. Any thread, no lock. */
void clock_wall(struct clock *c, u64 *sec, u32 *nsec);

/* Pausing stops now and all timers. A callback that has begun still ends: take its device's lock to
 * be sure. Neither counts: one resume ends any number of pauses. Any thread. */
void clock_pause(struct clock *c);
void clock_resume(struct clock *c);
/* Sets now (for restoring a snapshot, paused). Armed timers keep their absolute deadlines. */
void clock_set_ns(struct clock *c, u64 now_ns);

/* A timer belongs to one device. `fn` runs on the event-loop thread (or inside clock_step) with
 * `lock` held when not NULL and no lock of the clock held; the timer is disarmed before the call
 * and `fn` may arm it again. Timers of equal deadlines fire in the order they were armed. Whoever
 * disarms or re-arms with `lock` held never sees the old deadline fire afterwards. */
struct timer {
    struct clock *clock;
    void (*fn)(void *arg);
    void *arg;
    struct lock *lock;
    u64 deadline_ns;
    u64 order; /* arming count, breaks ties */
    s32 slot;  /* index in the clock's heap, -1 = not armed; changed under the clock's lock */
};
void timer_init(struct timer *t, struct clock *c, void (*fn)(void *), void *arg, struct lock *lock);
/* (Re)arms for an absolute time; one in the past fires at once. Any thread, may hold t->lock. */
void timer_arm(struct timer *t, u64 deadline_ns);
void timer_disarm(struct timer *t);
bool timer_armed(const struct timer *t);
/* Disarms; afterwards fn is not running (but for the caller's own frame) and never runs. Not with
 * t->lock held. */
void timer_fini(struct timer *t);

/* For the event loop: ns until the next deadline (0 = due, UINT64_MAX = none or paused), and run
 * what is due: a bounded number of callbacks, so that timers re-armed in the past cannot starve the
 * loop. */
u64 clock_next_ns(struct clock *c);
void clock_run_due(struct clock *c);
/* Called (any thread, no lock of the clock held, perhaps locks of the caller of timer_arm) when an
 * arm makes the next deadline earlier, so that the loop can re-sleep. One waker a clock; NULL
 * removes it, and the old one may still be in a call unless nobody can arm. */
void clock_set_wake(struct clock *c, void (*wake)(void *arg), void *arg);

/* Stepped clock: moves on by ns, running timers in order at their own times: inside a callback now
 * is its deadline. Nothing happens while paused. One stepping thread at a time, not from a
 * callback. */
void clock_step(struct clock *c, u64 ns);
