/* timer.c - the timers of a clock: a heap of deadlines, and firing without races */
#include <stdlib.h>

#include "host/clock_priv.h"

/* ---- heap ---- */

static bool before(const struct timer *a, const struct timer *b)
{
    return a->deadline_ns < b->deadline_ns ||
           (a->deadline_ns == b->deadline_ns && a->order < b->order);
}

static void place(struct clock *c, u32 at, struct timer *t)
{
    c->heap[at] = t;
    __atomic_store_n(&t->slot, (s32)at, __ATOMIC_RELAXED);
}

static void sift_up(struct clock *c, u32 at)
{
    struct timer *t = c->heap[at];

    while (at > 0 && before(t, c->heap[(at - 1) / 2])) {
        place(c, at, c->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(c, at, t);
}

static void sift_down(struct clock *c, u32 at)
{
    struct timer *t = c->heap[at];

    for (u32 child; (child = 2 * at + 1) < c->heap_n; at = child) {
        if (child + 1 < c->heap_n && before(c->heap[child + 1], c->heap[child]))
            child++;
        if (!before(c->heap[child], t))
            break;
        place(c, at, c->heap[child]);
    }
    place(c, at, t);
}

static void insert_locked(struct clock *c, struct timer *t)
{
    ASSERT(lock_held(&c->lock) && c->heap_n < c->heap_cap);
    t->order = c->orders++;
    c->heap[c->heap_n++] = t;
    sift_up(c, c->heap_n - 1);
}

static void remove_locked(struct clock *c, struct timer *t)
{
    u32 at = (u32)t->slot;

    ASSERT(lock_held(&c->lock));
    if (t->slot < 0)
        return;
    ASSERT(c->heap[at] == t);
    __atomic_store_n(&t->slot, -1, __ATOMIC_RELAXED);
    if (at == --c->heap_n)
        return;
    place(c, at, c->heap[c->heap_n]);
    sift_up(c, at);
    sift_down(c, (u32)c->heap[at]->slot);
}

u64 heap_deadline_locked(const struct clock *c)
{
    ASSERT(lock_held(&c->lock));
    return c->heap_n ? c->heap[0]->deadline_ns : UINT64_MAX;
}

/* ---- firing ---- */

static bool due_locked(const struct clock *c, const struct timer *t, u64 now)
{
    return !c->paused && t->slot >= 0 && t->deadline_ns <= now;
}

/* A timer's own lock comes before the clock's, so it cannot be taken while we look at the heap. We
 * name the timer in `firing`, which keeps timer_fini waiting, let go of the clock, take the timer's
 * lock and look again: whoever held that lock meanwhile may have disarmed or moved the timer, and
 * then it must not fire. After fn the timer itself may be gone; only what was copied before is
 * used. */
bool clock_fire_one(struct clock *c)
{
    void (*fn)(void *arg);
    struct lock *own;
    struct timer *t;
    void *arg;
    bool due;

    lock_take(&c->lock);
    while (c->firing) {
        ASSERT(!pthread_equal(c->firing_thread, pthread_self())); /* called from a callback */
        lock_wait(&c->lock, &c->fired);
    }
    t = c->heap_n ? c->heap[0] : NULL;
    if (!t || !due_locked(c, t, clock_now_ns(c))) {
        lock_drop(&c->lock);
        return false;
    }
    own = t->lock;
    fn = t->fn;
    arg = t->arg;
    c->firing = t;
    c->firing_thread = pthread_self();
    lock_drop(&c->lock);

    if (own)
        lock_take(own);
    lock_take(&c->lock);
    due = due_locked(c, t, clock_now_ns(c));
    if (due)
        remove_locked(c, t);
    lock_drop(&c->lock);
    if (due)
        fn(arg);
    if (own)
        lock_drop(own);

    lock_take(&c->lock);
    c->firing = NULL;
    pthread_cond_broadcast(&c->fired);
    lock_drop(&c->lock);
    return true;
}

void clock_wake(struct clock *c)
{
    void (*wake)(void *arg);
    void *arg;

    lock_take(&c->lock);
    wake = c->wake;
    arg = c->wake_arg;
    lock_drop(&c->lock);
    if (wake)
        wake(arg);
}

void clock_set_wake(struct clock *c, void (*wake)(void *arg), void *arg)
{
    lock_take(&c->lock);
    c->wake = wake;
    c->wake_arg = arg;
    lock_drop(&c->lock);
}

/* ---- timers ---- */

void timer_init(struct timer *t, struct clock *c, void (*fn)(void *), void *arg, struct lock *lock)
{
    *t = (struct timer){.clock = c, .fn = fn, .arg = arg, .lock = lock, .slot = -1};
    lock_take(&c->lock);
    /* Room is made here, so that arming can never fail. Timers are made while a machine is
     * built. */
    if (++c->timers > c->heap_cap) {
        u32 cap = MAX(c->heap_cap * 2, 16u);
        struct timer **grown = realloc(c->heap, cap * sizeof(struct timer *));
        ASSERT(grown);
        c->heap = grown;
        c->heap_cap = cap;
    }
    lock_drop(&c->lock);
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
    struct clock *c = t->clock;
    bool earlier;

    lock_take(&c->lock);
    remove_locked(c, t);
    t->deadline_ns = deadline_ns;
    insert_locked(c, t);
    earlier = t->slot == 0 && !c->paused;
    lock_drop(&c->lock);
    if (earlier)
        clock_wake(c);
}

void timer_disarm(struct timer *t)
{
    lock_take(&t->clock->lock);
    remove_locked(t->clock, t);
    lock_drop(&t->clock->lock);
}

bool timer_armed(const struct timer *t)
{
    return __atomic_load_n(&t->slot, __ATOMIC_RELAXED) >= 0;
}

void timer_fini(struct timer *t)
{
    struct clock *c = t->clock;

    if (!c)
        return;
    ASSERT(!t->lock || !lock_held(t->lock));
    lock_take(&c->lock);
    remove_locked(c, t);
    while (c->firing == t && !pthread_equal(c->firing_thread, pthread_self()))
        lock_wait(&c->lock, &c->fired);
    c->timers--;
    lock_drop(&c->lock);
    t->clock = NULL;
}
