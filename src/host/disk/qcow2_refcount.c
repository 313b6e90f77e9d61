/* qcow2_refcount.c - who uses which cluster of a qcow2 file, and which is next */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/limits.h"
#include "host/disk/fileio.h"
#include "host/disk/qcow2.h"

/* Counters in a refcount block. */
static u64 per_block(const struct qcow2 *q)
{
    return q->cluster * 8 >> q->refcount_order;
}

static u64 count_max(const struct qcow2 *q)
{
    return q->refcount_order == 6 ? UINT64_MAX : BIT64(1u << q->refcount_order) - 1;
}

/* The offset of the block for a cluster, 0 when there is none. */
static int block_of(struct qcow2 *q, u64 cluster, u64 *block)
{
    u64 index = cluster / per_block(q);

    *block = index < q->rt_entries ? q->rt[index] & ~511ull : 0;
    return *block % q->cluster ? -EIO : 0;
}

/* Counters narrower than a byte lie in it from the least significant bit on. */
int qcow2_refcount(struct qcow2 *q, u64 cluster, u64 *count)
{
    unsigned bits = 1u << q->refcount_order;
    u64 block, bit = cluster % per_block(q) * bits;
    u8 raw[8] = {0};
    int rc = block_of(q, cluster, &block);

    *count = 0;
    if (rc || !block)
        return rc;
    rc = file_read_at(q->fd, block + bit / 8, raw, MAX(bits / 8, 1u));
    if (bits < 8)
        *count = raw[0] >> bit % 8 & (BIT(bits) - 1);
    else
        for (unsigned i = 0; i < bits / 8; i++)
            *count = *count << 8 | raw[i];
    return rc;
}

/* The counter at this bit of the bytes at p; nothing else of them changes. */
static void put_count(u8 *p, unsigned bits, u64 bit, u64 count)
{
    if (bits < 8)
        p[0] = (u8)((p[0] & ~((BIT(bits) - 1) << bit % 8)) | count << bit % 8);
    else
        for (unsigned i = 0; i < bits / 8; i++)
            p[i] = (u8)(count >> (bits - 8 - 8 * i));
}

static int write_count(struct qcow2 *q, u64 block, u64 cluster, u64 count)
{
    unsigned bits = 1u << q->refcount_order;
    u64 bit = cluster % per_block(q) * bits;
    u8 raw[8] = {0};
    int rc = bits < 8 ? file_read_at(q->fd, block + bit / 8, raw, 1) : 0;

    put_count(raw, bits, bit, count);
    return rc ? rc : file_write_at(q->fd, block + bit / 8, raw, MAX(bits / 8, 1u));
}

/* ---- growing ---- */

/* A larger table, and behind it the blocks that count the clusters of both and are not there yet.
 * All of it is on the disk before the header names it. */
struct larger {
    u64 entries, clusters; /* of the table */
    u64 first, blocks;     /* the first cluster, and how many blocks follow */
    u64 *table;            /* in host order */
    u8 *raw;               /* the clusters' bytes */
};

static bool has_block(const struct qcow2 *q, u64 index)
{
    return index < q->rt_entries && q->rt[index] & ~511ull;
}

static int plan_larger(const struct qcow2 *q, u64 index, struct larger *l)
{
    u64 last, missing;

    *l = (struct larger){.first = q->next, .entries = MAX(q->rt_entries * 2, index + 1)};
    for (;;) {
        l->clusters = align_up(l->entries * 8, q->cluster) / q->cluster;
        l->entries = l->clusters * q->cluster / 8;
        if (l->entries * 8 > QCOW2_TABLE_MAX)
            return -EFBIG;
        last = (l->first + l->clusters + l->blocks - 1) / per_block(q);
        missing = 0;
        for (u64 i = l->first / per_block(q); i <= last; i++)
            missing += !has_block(q, i);
        if (missing == l->blocks && last < l->entries)
            return 0;
        l->blocks = missing;
        l->entries = MAX(l->entries, last + 1);
    }
}

/* Counters of the new clusters: in blocks that are there, or in the new ones. */
static int count_larger(struct qcow2 *q, struct larger *l)
{
    unsigned bits = 1u << q->refcount_order;
    u64 per = per_block(q), fresh = l->clusters;
    int rc = 0;

    for (u64 c = l->first; c < l->first + l->clusters + l->blocks && !rc; c++) {
        u64 index = c / per, bit = c % per * bits;

        if (has_block(q, index)) {
            rc = block_of(q, c, &(u64){0});
            if (!rc)
                rc = write_count(q, q->rt[index] & ~511ull, c, 1);
            continue;
        }
        if (!l->table[index])
            l->table[index] = (l->first + fresh++) * q->cluster;
        put_count(l->raw + l->table[index] - l->first * q->cluster + bit / 8, bits, bit, 1);
    }
    for (u64 i = 0; i < l->entries; i++)
        put_be64(l->raw + i * 8, l->table[i]);
    return rc;
}

static int write_larger(struct qcow2 *q, struct larger *l)
{
    u64 total = l->clusters + l->blocks;
    u8 head[12];
    int rc = qcow2_append(q, total, &l->first);

    if (!rc)
        rc = count_larger(q, l);
    if (!rc)
        rc = file_write_at(q->fd, l->first * q->cluster, l->raw, total * q->cluster);
    if (!rc)
        rc = qcow2_barrier(q);
    put_be64(head, l->first * q->cluster);
    put_be32(head + 8, (u32)l->clusters);
    return rc ? rc : file_write_at(q->fd, 48, head, sizeof(head));
}

/* The old table's clusters are dropped: nobody else refers to them. */
static int grow_table(struct qcow2 *q, u64 index)
{
    struct larger l;
    int rc = plan_larger(q, index, &l);

    if (rc)
        return rc;
    l.table = calloc(l.entries, 8);
    l.raw = calloc(l.clusters + l.blocks, q->cluster);
    rc = -ENOMEM;
    if (l.table && l.raw) {
        memcpy(l.table, q->rt, q->rt_entries * 8);
        rc = write_larger(q, &l);
    }
    free(l.raw);
    if (rc) {
        free(l.table);
        return rc;
    }
    qcow2_drop(q, q->rt_offset, q->rt_offset + q->rt_entries * 8 - 1);
    free(q->rt);
    q->rt = l.table;
    q->rt_entries = l.entries;
    q->rt_offset = l.first * q->cluster;
    return 0;
}

/* A block of zeros. It is counted, in itself or in the block that covers it, and that is on the
 * disk before the table names it. */
static int add_block(struct qcow2 *q, u64 index, u64 *block)
{
    u64 at;
    u8 raw[8];
    int rc = qcow2_append(q, 1, &at);

    if (rc)
        return rc;
    *block = at * q->cluster;
    rc = at / per_block(q) == index ? write_count(q, *block, at, 1) : qcow2_set_refcount(q, at, 1);
    if (!rc)
        rc = qcow2_barrier(q);
    put_be64(raw, *block);
    if (!rc)
        rc = file_write_at(q->fd, q->rt_offset + index * 8, raw, 8);
    if (!rc)
        q->rt[index] = *block;
    return rc;
}

int qcow2_set_refcount(struct qcow2 *q, u64 cluster, u64 count)
{
    u64 index = cluster / per_block(q), block;
    int rc;

    if (count > count_max(q))
        return -EFBIG;
    if (index >= q->rt_entries) {
        rc = grow_table(q, index);
        if (rc)
            return rc;
    }
    rc = block_of(q, cluster, &block);
    if (!rc && !block)
        rc = add_block(q, index, &block);
    return rc ? rc : write_count(q, block, cluster, count);
}
