/* slots.h - the slot table behind mem.h (private to mem/) */
#pragma once

#include <pthread.h>

#include "base/latch.h"
#include "base/limits.h"
#include "base/lock.h"
#include "mem/mem.h"

#define MEM_LISTENERS_MAX 8

/* The backing of a slot. Never freed before the VM: a reader that looked it up just before mem_del
 * may still use it, so a deleted backing gives its pages back to the host, keeps its addresses and
 * serves the next slot of the same size. A guest that moves a window to and fro therefore costs
 * nothing. */
struct backing {
    u8 *hva;
    u64 size;
    int fd;
    u64 *dirty;           /* a bit a page; changed with atomics */
    u64 *code;            /* a bit a page; changed with atomics */
    u64 *backed;          /* a bit for MEM_BACK_PAGES: the host was asked for them; atomics */
    struct backing *next; /* in mem.idle */
};

struct slot {
    u64 gpa, size;
    u8 *hva;
    struct backing *backing;
    u64 flags; /* enum mem_slot_flags */
};

/* Ordered by gpa, not overlapping. */
struct slot_table {
    u64 n;
    struct slot slot[MEM_SLOTS_MAX];
};

struct mem {
    struct latch latch;
    u64 writes;    /* atomic; see mem_writes */
    bool dirty_on; /* atomic */
    struct slot_table table[2];

    struct lock lock; /* writers of all above, and idle */
    struct backing *idle;

    pthread_rwlock_t listen_lock; /* read side held around the callbacks */
    struct mem_listener listener[MEM_LISTENERS_MAX];
    unsigned listeners;
};

/* Finds the slot that holds gpa and copies it to *s. Any thread, lock-free. */
bool slot_find(struct mem *m, u64 gpa, struct slot *s);
/* A consistent copy of the whole table. Any thread, lock-free. */
void slot_snapshot(struct mem *m, struct slot_table *t);

/* Tells the listeners. No lock of mem is held but the listeners' own. */
void tell_remapped(struct mem *m, u64 gpa, u64 len);
void tell_code_written(struct mem *m, u64 gpa, u64 len);

static inline void bit_set(u64 *map, u64 bit)
{
    u64 mask = BIT64(bit & 63);

    /* Pages are dirtied again and again: a plain look first keeps the cache line shared. */
    if (!(__atomic_load_n(&map[bit >> 6], __ATOMIC_RELAXED) & mask))
        __atomic_fetch_or(&map[bit >> 6], mask, __ATOMIC_SEQ_CST);
}

static inline void bit_clear(u64 *map, u64 bit)
{
    __atomic_fetch_and(&map[bit >> 6], ~BIT64(bit & 63), __ATOMIC_SEQ_CST);
}

static inline bool bit_test(const u64 *map, u64 bit)
{
    return __atomic_load_n(&map[bit >> 6], __ATOMIC_ACQUIRE) >> (bit & 63) & 1;
}

static inline u64 bitmap_bytes(u64 size)
{
    return ((size >> PAGE_SHIFT) + 63) / 64 * 8;
}

/* Words that are zero already are only read, so that an untouched bitmap stays untouched memory. */
static inline void bitmap_clear(u64 *map, u64 size)
{
    for (u64 i = 0; i < bitmap_bytes(size) / 8; i++) {
        if (__atomic_load_n(&map[i], __ATOMIC_RELAXED))
            __atomic_store_n(&map[i], 0, __ATOMIC_RELAXED);
    }
}
