/* clock.c - guest time: real or stepped, pausable */
#include "host/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "host/clock_priv.h"

#define NS_PER_SEC 1000000000ull

/* A step whose timers fire this often without time moving on is given up: some device re-arms
 * itself in the past for ever. */
#define STEP_STUCK 100000u

static u64 host_ns(void)
{
    struct timespec ts;

    ASSERT(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
    return (u64)ts.tv_sec * NS_PER_SEC + (u64)ts.tv_nsec;
}

bool clock_is_stepped(const struct clock *c)
{
    return c->stepped;
}

/* Readers of the time base repeat while a writer is at it (`seq` odd) or came by. The latch of mem/
 * would not do: while it changes one copy, readers of the other still see time run on, past the
 * value at which the writer freezes it, and then time would go back. Hence a writer reads the
 * host's time inside its window, and a reader before it looks at `seq` again; the fence keeps the
 * processor to that. */
u64 clock_now_ns(struct clock *c)
{
    for (;;) {
        u32 seq = __atomic_load_n(&c->seq, __ATOMIC_ACQUIRE);
        u64 ns = __atomic_load_n(&c->base_ns, __ATOMIC_RELAXED);
        if (!__atomic_load_n(&c->frozen, __ATOMIC_RELAXED)) {
            ns = host_ns() - ns;
            __builtin_ia32_lfence();
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (likely(!(seq & 1) && __atomic_load_n(&c->seq, __ATOMIC_RELAXED) == seq))
            return ns;
        __builtin_ia32_pause();
    }
}

static void write_begin_locked(struct clock *c)
{
    ASSERT(lock_held(&c->lock));
    __atomic_store_n(&c->seq, c->seq + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void write_end_locked(struct clock *c)
{
    ASSERT(lock_held(&c->lock));
    __atomic_store_n(&c->seq, c->seq + 1, __ATOMIC_RELEASE);
}

/* Lets time stand at `ns`. */
static void freeze_at_locked(struct clock *c, u64 ns)
{
    write_begin_locked(c);
    __atomic_store_n(&c->frozen, true, __ATOMIC_RELAXED);
    __atomic_store_n(&c->base_ns, ns, __ATOMIC_RELAXED);
    write_end_locked(c);
}

/* Lets time run on from `ns`. */
static void run_from_locked(struct clock *c, u64 ns)
{
    write_begin_locked(c);
    __atomic_store_n(&c->frozen, false, __ATOMIC_RELAXED);
    __atomic_store_n(&c->base_ns, host_ns() - ns, __ATOMIC_RELAXED);
    write_end_locked(c);
}

static void freeze_now_locked(struct clock *c)
{
    write_begin_locked(c);
    __atomic_store_n(&c->frozen, true, __ATOMIC_RELAXED);
    __atomic_store_n(&c->base_ns, host_ns() - c->base_ns, __ATOMIC_RELAXED);
    write_end_locked(c);
}

void clock_wall(struct clock *c, u64 *sec, u32 *nsec)
{
    struct timespec ts;

    if (c->stepped) {
        u64 now = clock_now_ns(c);
        *sec = CLOCK_STEPPED_EPOCH + now / NS_PER_SEC;
        *nsec = (u32)(now % NS_PER_SEC);
        return;
    }
    ASSERT(clock_gettime(CLOCK_REALTIME, &ts) == 0);
    *sec = (u64)ts.tv_sec;
    *nsec = (u32)ts.tv_nsec;
}

void clock_pause(struct clock *c)
{
    lock_take(&c->lock);
    if (!c->paused && !c->stepped)
        freeze_now_locked(c);
    c->paused = true;
    lock_drop(&c->lock);
}

void clock_resume(struct clock *c)
{
    lock_take(&c->lock);
    if (c->paused && !c->stepped)
        run_from_locked(c, c->base_ns);
    c->paused = false;
    lock_drop(&c->lock);
    clock_wake(c);
}

void clock_set_ns(struct clock *c, u64 now_ns)
{
    lock_take(&c->lock);
    if (c->frozen)
        freeze_at_locked(c, now_ns);
    else
        run_from_locked(c, now_ns);
    lock_drop(&c->lock);
    clock_wake(c);
}

u64 clock_next_ns(struct clock *c)
{
    u64 deadline, now;

    lock_take(&c->lock);
    deadline = c->paused ? UINT64_MAX : heap_deadline_locked(c);
    lock_drop(&c->lock);
    if (deadline == UINT64_MAX)
        return UINT64_MAX;
    now = clock_now_ns(c);
    return deadline > now ? deadline - now : 0;
}

void clock_run_due(struct clock *c)
{
    u32 budget;

    lock_take(&c->lock);
    budget = c->heap_n + 16;
    lock_drop(&c->lock);
    while (budget-- && clock_fire_one(c))
        continue;
}

/* Moves a stepped clock to the next deadline up to `target`, or to `target`. False when nothing is
 * due there. */
static bool step_to_next(struct clock *c, u64 target)
{
    u64 deadline, now;
    bool due = false;

    lock_take(&c->lock);
    if (!c->paused) {
        deadline = heap_deadline_locked(c);
        now = clock_now_ns(c);
        due = deadline <= target && deadline != UINT64_MAX;
        freeze_at_locked(c, due ? MAX(now, deadline) : MAX(now, target));
    }
    lock_drop(&c->lock);
    return due;
}

void clock_step(struct clock *c, u64 ns)
{
    u64 now = clock_now_ns(c), target = now + ns;
    u32 same = 0;

    ASSERT(c->stepped);
    while (step_to_next(c, target)) {
        u64 at = clock_now_ns(c);
        same = at == now ? same + 1 : 0;
        now = at;
        if (same == STEP_STUCK)
            break;
        clock_fire_one(c);
    }
    lock_take(&c->lock);
    if (!c->paused && clock_now_ns(c) < target)
        freeze_at_locked(c, target);
    lock_drop(&c->lock);
}

/* ---- life ---- */

static int create(struct clock **out, bool stepped, struct err *e)
{
    struct clock *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, ENOMEM, "clock: no memory");
    c->stepped = stepped;
    lock_init(&c->lock);
    ASSERT(pthread_cond_init(&c->fired, NULL) == 0);
    lock_take(&c->lock);
    if (stepped)
        freeze_at_locked(c, 0);
    else
        run_from_locked(c, 0);
    lock_drop(&c->lock);
    *out = c;
    return 0;
}

int clock_create_real(struct clock **out, struct err *e)
{
    return create(out, false, e);
}

int clock_create_stepped(struct clock **out, struct err *e)
{
    return create(out, true, e);
}

void clock_destroy(struct clock *c)
{
    if (!c)
        return;
    ASSERT(c->heap_n == 0 && !c->firing);
    pthread_cond_destroy(&c->fired);
    lock_destroy(&c->lock);
    free(c->heap);
    free(c);
}
