/* latch.h - lock-free readers of small data kept twice, for writers that are rare */
#pragma once

#include "base/types.h"

/* Two copies of the data and a count. A writer (under a lock of its own) sends readers to copy 1,
 * changes copy 0, sends them back and changes copy 1. A reader therefore never waits for a writer,
 * not even for one that was preempted half way; it repeats its look-up only when the count moved
 * meanwhile:
 *
 *     do {
 *         seq = latch_begin(&l);
 *         ... read copy[seq & 1] with latch_load() ...
 *     } while (latch_retry(&l, seq));
 *
 * What was read may be torn until latch_retry() has said no: bound every index before using it. */
struct latch {
    u32 seq;
};

static inline u32 latch_begin(const struct latch *l)
{
    return __atomic_load_n(&l->seq, __ATOMIC_ACQUIRE);
}

static inline bool latch_retry(const struct latch *l, u32 seq)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return unlikely(__atomic_load_n(&l->seq, __ATOMIC_RELAXED) != seq);
}

/* Called before changing copy 0 and again before changing copy 1. */
static inline void latch_flip(struct latch *l)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&l->seq, l->seq + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#define latch_load(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define latch_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
