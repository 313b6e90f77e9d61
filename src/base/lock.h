/* lock.h - the one mutex type; knows its owner so that `_locked` code can assert */
#pragma once

#include <pthread.h>
#include "base/types.h"

struct lock {
    pthread_mutex_t mutex;
    pthread_t owner;
    bool held;
};

void lock_init(struct lock *l);
void lock_destroy(struct lock *l);
void lock_take(struct lock *l);
void lock_drop(struct lock *l);
/* Drops l, sleeps on cond, takes l again. The only correct way to wait with a struct lock; the
 * caller holds l and tests its condition in a loop. */
void lock_wait(struct lock *l, pthread_cond_t *cond);
/* True when the calling thread holds l. */
bool lock_held(const struct lock *l);
