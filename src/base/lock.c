/* lock.c - a mutex that knows its owner */
#include "base/lock.h"

/* `owner` is only meaningful while `held` is set; both are written by the holder alone. Another
 * thread may see a stale pair, but never its own id with `held` set, so lock_held is exact for the
 * caller. */

void lock_init(struct lock *l)
{
    ASSERT(pthread_mutex_init(&l->mutex, NULL) == 0);
    l->owner = 0;
    l->held = false;
}

void lock_destroy(struct lock *l)
{
    ASSERT(!__atomic_load_n(&l->held, __ATOMIC_RELAXED));
    ASSERT(pthread_mutex_destroy(&l->mutex) == 0);
}

static void set_owner(struct lock *l)
{
    __atomic_store_n(&l->owner, pthread_self(), __ATOMIC_RELAXED);
    __atomic_store_n(&l->held, true, __ATOMIC_RELAXED);
}

static void clear_owner(struct lock *l)
{
    ASSERT(lock_held(l));
    __atomic_store_n(&l->held, false, __ATOMIC_RELAXED);
    __atomic_store_n(&l->owner, 0, __ATOMIC_RELAXED);
}

void lock_take(struct lock *l)
{
    ASSERT(!lock_held(l));
    ASSERT(pthread_mutex_lock(&l->mutex) == 0);
    set_owner(l);
}

void lock_drop(struct lock *l)
{
    clear_owner(l);
    ASSERT(pthread_mutex_unlock(&l->mutex) == 0);
}

void lock_wait(struct lock *l, pthread_cond_t *cond)
{
    clear_owner(l);
    ASSERT(pthread_cond_wait(cond, &l->mutex) == 0);
    set_owner(l);
}

bool lock_held(const struct lock *l)
{
    return __atomic_load_n(&l->held, __ATOMIC_RELAXED) &&
           pthread_equal(__atomic_load_n(&l->owner, __ATOMIC_RELAXED), pthread_self());
}
