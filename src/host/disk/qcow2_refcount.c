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

static int write_count(struct qcow2 *q, u64 block, u64 cluster, u64 count)
{
    unsigned bits = 1u << q->refcount_order;
    u64 bit = cluster % per_block(q) * bits;
    u8 raw[8] = {0};
    int rc = 0;

    if (bits < 8) {
        rc = file_read_at(q->fd, block + bit / 8, raw, 1);
        raw[0] = (u8)((raw[0] & ~((BIT(bits) - 1) << bit % 8)) | count << bit % 8);
    } else {
        for (unsigned i = 0; i < bits / 8; i++)
            raw[i] = (u8)(count >> (bits - 8 - 8 * i));
    }
    return rc ? rc : file_write_at(q->fd, block + bit / 8, raw, MAX(bits / 8, 1u));
}

/* ---- growing ---- */

/* A table twice as large behind everything else, then the header names it. The old one's clusters
 * are freed: nobody else refers to them. */
static int grow_table(struct qcow2 *q, u64 index)
{
    u64 entries = MAX(q->rt_entries * 2, align_up(index + 1, q->cluster / 8));
    u64 bytes = align_up(entries * 8, q->cluster), offset = q->next * q->cluster;
    u64 old = q->rt_offset / q->cluster, old_clusters = q->rt_entries * 8 / q->cluster;
    u8 *raw, head[12];
    u64 *table;
    int rc;

    entries = bytes / 8;
    if (bytes > QCOW2_TABLE_MAX)
        return -EFBIG;
    table = calloc(entries, 8);
    raw = calloc(entries, 8);
    if (!table || !raw) {
        free(table);
        free(raw);
        return -ENOMEM;
    }
    memcpy(table, q->rt, q->rt_entries * 8);
    for (u64 i = 0; i < q->rt_entries; i++)
        put_be64(raw + i * 8, table[i]);
    q->next += bytes / q->cluster;
    put_be64(head, offset);
    put_be32(head + 8, (u32)(bytes / q->cluster));
    rc = file_write_at(q->fd, offset, raw, bytes);
    if (!rc && fdatasync(q->fd))
        rc = -errno;
    if (!rc)
        rc = file_write_at(q->fd, 48, head, sizeof(head));
    free(raw);
    if (rc) {
        free(table);
        return rc;
    }
    free(q->rt);
    q->rt = table;
    q->rt_entries = entries;
    q->rt_offset = offset;
    for (u64 i = 0; i < bytes / q->cluster && !rc; i++)
        rc = qcow2_set_refcount(q, offset / q->cluster + i, 1);
    for (u64 i = 0; i < old_clusters && !rc; i++)
        rc = qcow2_set_refcount(q, old + i, 0);
    return rc;
}

/* A block of zeros; it counts itself when it covers itself, else its own block does. */
static int add_block(struct qcow2 *q, u64 index, u64 *block)
{
    u64 at = q->next++;
    u8 raw[8];
    int rc;

    *block = at * q->cluster;
    rc = file_zero_at(q->fd, *block, q->cluster, true);
    if (!rc)
        rc = ftruncate(q->fd, (off_t)(*block + q->cluster)) ? -errno : 0;
    if (!rc && at / per_block(q) == index)
        rc = write_count(q, *block, at, 1);
    put_be64(raw, *block);
    if (!rc)
        rc = file_write_at(q->fd, q->rt_offset + index * 8, raw, 8);
    if (rc)
        return rc;
    q->rt[index] = *block;
    return at / per_block(q) == index ? 0 : qcow2_set_refcount(q, at, 1);
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

/* ---- allocation ---- */

int qcow2_alloc(struct qcow2 *q, u64 *offset)
{
    u64 cluster;
    int rc;

    qcow2_unpinned(q);
    if (q->ready) {
        cluster = q->freed[--q->ready];
        q->freed[q->ready] =
            q->freed[--q->freed_n]; /* the first that is not ready yet, or itself */
    } else {
        cluster = q->next++;
    }
    rc = qcow2_set_refcount(q, cluster, 1);
    *offset = cluster * q->cluster;
    return rc;
}

/* What cannot be noted is not used again before the file is opened anew. */
static void note_freed(struct qcow2 *q, u64 cluster)
{
    if (q->freed_n == q->freed_cap) {
        size_t cap = q->freed_cap ? q->freed_cap * 2 : 256;
        u64 *more = realloc(q->freed, cap * sizeof(*more));

        if (!more)
            return;
        q->freed = more;
        q->freed_cap = cap;
    }
    q->freed[q->freed_n++] = cluster;
}

void qcow2_unpinned(struct qcow2 *q)
{
    if (__atomic_load_n(&q->pins, __ATOMIC_SEQ_CST))
        return;
    for (; q->ready < q->freed_n; q->ready++)
        file_discard_at(q->fd, q->freed[q->ready] * q->cluster, q->cluster);
}

void qcow2_compressed_span(const struct qcow2 *q, u64 entry, u64 *first, u64 *last)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    u64 offset = entry & (BIT64(shift) - 1);
    u64 sectors = (entry >> shift & (BIT64(q->cluster_bits - 8) - 1)) + 1;

    *first = offset;
    *last = (offset & ~511ull) + sectors * 512 - 1;
}

static void drop(struct qcow2 *q, u64 cluster)
{
    u64 count;

    if (qcow2_refcount(q, cluster, &count) || !count || qcow2_set_refcount(q, cluster, count - 1))
        return;
    if (count == 1)
        note_freed(q, cluster);
}

void qcow2_release(struct qcow2 *q, u64 entry)
{
    u64 first = entry & ENTRY_OFFSET, last = first;

    if (entry & ENTRY_COMPRESSED)
        qcow2_compressed_span(q, entry, &first, &last);
    else if (!first)
        return;
    for (u64 c = first / q->cluster; c <= last / q->cluster; c++)
        drop(q, c);
    qcow2_unpinned(q);
}
