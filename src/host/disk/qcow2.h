/* qcow2.h - what the files of the qcow2 format share (private to host/disk/)
 *
 * Layout, all big-endian: a header; an L1 table whose entries name L2 tables; L2 tables whose
 * entries name clusters of data; a refcount table whose entries name refcount blocks, which hold a
 * counter for each cluster of the file (docs/interop/qcow2.txt of QEMU specifies it).
 */
#pragma once

#include <pthread.h>

#include "base/lock.h"
#include "host/disk/format.h"

#define L2_CACHE 64 /* tables, direct-mapped */

/* Bits of L1 and L2 entries. */
#define ENTRY_COPIED     (1ull << 63) /* the cluster's refcount is 1: it may be written in place */
#define ENTRY_COMPRESSED (1ull << 62)
#define ENTRY_ZERO       1ull /* version 3: reads as zeros, whether it has a cluster or not */
#define ENTRY_OFFSET     0x00fffffffffffe00ull

/* Incompatible features. */
#define FEATURE_DIRTY       1ull /* refcounts are wrong: rebuild them */
#define FEATURE_CORRUPT     2ull
#define FEATURE_COMPRESSION 8ull

/* Cluster numbers, taken from the front or the end. */
struct qcow2_list {
    u64 *at, gone; /* gone: how many were taken from the front so far */
    size_t n, cap;
};

struct qcow2 {
    int fd;
    char *path;
    bool read_only;
    bool throwaway; /* an overlay without a name: nothing of it must last */
    u32 version;
    unsigned cluster_bits, refcount_order; /* counters are 1 << refcount_order bits wide */
    u64 cluster, size;
    u64 features, autoclear;
    bool zstd;
    u64 l1_offset, rt_offset, snapshots_offset;
    u32 l1_entries, snapshots;
    u64 rt_entries;
    u64 *l1, *rt;         /* in host order */
    struct disk *backing; /* NULL: unallocated clusters are zeros */
    u64 backing_bytes;

    /* Shared: an entry is looked up and its cluster read or overwritten in place. Exclusive:
     * entries, refcounts or allocation change. Order: rw, then cache_lock. */
    pthread_rwlock_t rw;
    struct lock cache_lock;
    struct l2_slot {
        u64 offset; /* 0: empty */
        u64 *table; /* as in the file: big-endian */
    } cache[L2_CACHE];

    u64 next; /* first cluster number behind all that is in use */
    u64 end;  /* first one behind those that the file is sure to have, also after a power cut */
    u64 pins; /* ranges mapped by disk_map; atomic */
    bool no_holes; /* the host does not punch: clusters that are used again hold old bytes */
    struct qcow2_list dropped, free, punched, ready; /* qcow2_free.c */
};

/* ---- qcow2.c ---- */

/* qcow2_open with a backing disk given instead of named; NULL: the one the header names. `depth`:
 * images over this one, or QCOW2_ALONE: the backing disk is left out, for looking at the file. */
#define QCOW2_ALONE UINT32_MAX
must_check int qcow2_load(struct qcow2 *q, struct disk *backing, unsigned depth, struct err *e);

int qcow2_close(void *self);

extern const struct disk_ops qcow2_ops; /* qcow2_io.c; self is a struct qcow2 */

/* ---- qcow2_map.c: entries ---- */

/* The L2 entry of the cluster at this virtual offset; 0 where no L2 table is. Shared or
 * exclusive. */
must_check int qcow2_entry(struct qcow2 *q, u64 off, u64 *entry);
/* Writes it, making or copying the L2 table first. Exclusive. */
must_check int qcow2_set_entry(struct qcow2 *q, u64 off, u64 entry);
/* The bytes at off, all in one cluster whose entry this is: by any way but a plain read. */
must_check int qcow2_read_odd(struct qcow2 *q, u64 off, u64 entry, u8 *buf, u64 len);
/* A table of `count` big-endian words, into host order. NULL on failure with *rc. */
u64 *qcow2_read_table(struct qcow2 *q, u64 offset, u64 count, int *rc);

/* ---- qcow2_refcount.c: exclusive ---- */

must_check int qcow2_refcount(struct qcow2 *q, u64 cluster, u64 *count);
must_check int qcow2_set_refcount(struct qcow2 *q, u64 cluster, u64 count);

/* ---- qcow2_free.c: exclusive, but for qcow2_flush ---- */

/* What was written is on the disk before what will be, whatever happens to the power. */
must_check int qcow2_barrier(struct qcow2 *q);
/* The same for the guest, without a lock held; brings dropped clusters on their way. */
must_check int qcow2_flush(struct qcow2 *q);
/* The same with the lock held. */
must_check int qcow2_settle(struct qcow2 *q);
/* A cluster with refcount 1. It reads as zeros, also after a power cut (not with no_holes). */
must_check int qcow2_alloc(struct qcow2 *q, u64 *offset);
/* n clusters at the end of the file, without refcounts; they are zeros. */
must_check int qcow2_append(struct qcow2 *q, u64 n, u64 *cluster);
/* One reference less, later, to each cluster that the entry named, or that has bytes of the range.
 * Errors leave it leaked. */
void qcow2_release(struct qcow2 *q, u64 entry);
void qcow2_drop(struct qcow2 *q, u64 first, u64 last);
void qcow2_free_lists(struct qcow2 *q);
/* Clusters of `first..last` (bytes of the file) that a compressed entry covers. */
void qcow2_compressed_span(const struct qcow2 *q, u64 entry, u64 *first, u64 *last);

/* ---- qcow2_check.c ---- */

struct qcow2_findings {
    u64 errors, leaks; /* clusters */
    u64 allocated;     /* clusters of data */
    char first[256];   /* the first error in words */
};
/* Compares refcounts with what refers to clusters; with `repair` puts refcounts right. Exclusive.
 * 0, or -errno when it cannot tell. */
must_check int qcow2_check(struct qcow2 *q, bool repair, struct qcow2_findings *f, struct err *e);

/* ---- big-endian fields ---- */

static inline u32 be32(const u8 *p)
{
    u32 v;

    __builtin_memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

static inline u64 be64(const u8 *p)
{
    u64 v;

    __builtin_memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

static inline void put_be32(u8 *p, u32 v)
{
    v = __builtin_bswap32(v);
    __builtin_memcpy(p, &v, 4);
}

static inline void put_be64(u8 *p, u64 v)
{
    v = __builtin_bswap64(v);
    __builtin_memcpy(p, &v, 8);
}
