/* qcow2_map.c - from a place on the disk to one in a qcow2 file */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/checked.h"
#include "base/limits.h"
#include "host/disk/fileio.h"
#include "host/disk/qcow2.h"

u64 *qcow2_read_table(struct qcow2 *q, u64 offset, u64 count, int *rc)
{
    u64 *table = calloc(count ? count : 1, 8);

    *rc = table ? file_read_at(q->fd, offset, table, count * 8) : -ENOMEM;
    if (*rc) {
        free(table);
        return NULL;
    }
    for (u64 i = 0; i < count; i++)
        table[i] = __builtin_bswap64(table[i]);
    return table;
}

/* ---- L2 tables ---- */

static struct l2_slot *slot_of(struct qcow2 *q, u64 offset)
{
    return &q->cache[offset / q->cluster % L2_CACHE];
}

/* The table at this offset, read when it is not there. cache_lock is held. */
static int cached(struct qcow2 *q, u64 offset, u64 **table)
{
    struct l2_slot *s = slot_of(q, offset);
    int rc;

    ASSERT(lock_held(&q->cache_lock));
    if (s->offset != offset) {
        if (!s->table)
            s->table = malloc(q->cluster);
        s->offset = 0;
        rc = s->table ? file_read_at(q->fd, offset, s->table, q->cluster) : -ENOMEM;
        if (rc)
            return rc;
        s->offset = offset;
    }
    *table = s->table;
    return 0;
}

static u64 l2_index(const struct qcow2 *q, u64 off)
{
    return off / q->cluster & (q->cluster / 8 - 1);
}

static u64 l1_index(const struct qcow2 *q, u64 off)
{
    return off / q->cluster / (q->cluster / 8);
}

/* What an entry may say: clusters lie at whole clusters, and behind the header. */
static bool sane(const struct qcow2 *q, u64 entry)
{
    return entry & ENTRY_COMPRESSED || (entry & ENTRY_OFFSET) % q->cluster == 0;
}

int qcow2_entry(struct qcow2 *q, u64 off, u64 *entry)
{
    u64 l2 = q->l1[l1_index(q, off)] & ENTRY_OFFSET, *table;
    int rc;

    *entry = 0;
    if (!l2)
        return 0;
    if (l2 % q->cluster)
        return -EIO;
    lock_take(&q->cache_lock);
    rc = cached(q, l2, &table);
    if (!rc)
        *entry = __builtin_bswap64(table[l2_index(q, off)]);
    lock_drop(&q->cache_lock);
    if (q->version < 3 && !(*entry & ENTRY_COMPRESSED))
        *entry &= ~ENTRY_ZERO;
    return rc ? rc : sane(q, *entry) ? 0 : -EIO;
}

static int set_l1(struct qcow2 *q, u64 index, u64 l2)
{
    u8 raw[8];
    int rc;

    put_be64(raw, l2 | ENTRY_COPIED);
    rc = file_write_at(q->fd, q->l1_offset + index * 8, raw, 8);
    if (!rc)
        q->l1[index] = l2 | ENTRY_COPIED;
    return rc;
}

/* A table of this image's own for the entry: a new one, or a copy of one that a snapshot shares. It
 * is on stable storage before the L1 table names it. */
static int own_table(struct qcow2 *q, u64 index, u64 *l2)
{
    u64 old = q->l1[index];
    u8 *raw;
    int rc;

    *l2 = old & ENTRY_OFFSET;
    if (*l2 && old & ENTRY_COPIED)
        return 0;
    raw = calloc(1, q->cluster);
    rc = raw ? 0 : -ENOMEM;
    if (!rc && *l2)
        rc = file_read_at(q->fd, *l2, raw, q->cluster);
    if (!rc)
        rc = qcow2_alloc(q, l2);
    if (!rc)
        rc = file_write_at(q->fd, *l2, raw, q->cluster);
    if (!rc)
        rc = qcow2_barrier(q);
    if (!rc)
        rc = set_l1(q, index, *l2);
    free(raw);
    if (!rc) {
        lock_take(&q->cache_lock);
        slot_of(q, *l2)->offset = 0;
        lock_drop(&q->cache_lock);
        qcow2_release(q, old & ENTRY_OFFSET);
    }
    return rc;
}

int qcow2_set_entry(struct qcow2 *q, u64 off, u64 entry)
{
    u64 l2, *table, index = l2_index(q, off);
    u8 raw[8];
    int rc = own_table(q, l1_index(q, off), &l2);

    if (rc)
        return rc;
    put_be64(raw, entry);
    rc = file_write_at(q->fd, l2 + index * 8, raw, 8);
    lock_take(&q->cache_lock);
    if (!rc && slot_of(q, l2)->offset == l2 && cached(q, l2, &table) == 0)
        table[index] = __builtin_bswap64(entry);
    lock_drop(&q->cache_lock);
    return rc;
}

/* ---- clusters that are not plain ---- */

static int inflate_cluster(const u8 *in, size_t len, u8 *out, size_t size)
{
    z_stream z = {
        .next_in = (u8 *)in, .avail_in = (uInt)len, .next_out = out, .avail_out = (uInt)size};
    int rc;

    if (inflateInit2(&z, -12) != Z_OK)
        return -ENOMEM;
    rc = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* Sectors behind the stream belong to others: there may be more input than it takes. */
    return z.avail_out == 0 && (rc == Z_STREAM_END || rc == Z_BUF_ERROR || rc == Z_OK) ? 0 : -EIO;
}

static int unzstd_cluster(const u8 *in, size_t len, u8 *out, size_t size)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer from = {in, len, 0};
    ZSTD_outBuffer to = {out, size, 0};
    size_t rc = 1;

    if (!z)
        return -ENOMEM;
    while (to.pos < to.size && from.pos < from.size && !ZSTD_isError(rc)) {
        size_t was = to.pos + from.pos;

        rc = ZSTD_decompressStream(z, &to, &from);
        if (to.pos + from.pos == was)
            break;
    }
    ZSTD_freeDStream(z);
    return !ZSTD_isError(rc) && to.pos == to.size ? 0 : -EIO;
}

static int read_compressed(struct qcow2 *q, u64 off, u64 entry, u8 *buf, u64 len)
{
    u64 first, last;
    u8 *in, *out;
    int rc;

    qcow2_compressed_span(q, entry, &first, &last);
    in = malloc(last - first + 1);
    out = malloc(q->cluster);
    rc = in && out ? file_read_at(q->fd, first, in, last - first + 1) : -ENOMEM;
    if (!rc)
        rc = (q->zstd ? unzstd_cluster : inflate_cluster)(in, last - first + 1, out, q->cluster);
    if (!rc)
        memcpy(buf, out + off % q->cluster, len);
    free(in);
    free(out);
    return rc;
}

static int read_backing(struct qcow2 *q, u64 off, u8 *buf, u64 len)
{
    u64 there = !q->backing || off >= q->backing_bytes ? 0 : MIN(len, q->backing_bytes - off);

    memset(buf + there, 0, len - there);
    return there ? disk_readv(q->backing, off, &(struct iovec){buf, there}, 1) : 0;
}

int qcow2_read_odd(struct qcow2 *q, u64 off, u64 entry, u8 *buf, u64 len)
{
    if (entry & ENTRY_COMPRESSED)
        return read_compressed(q, off, entry, buf, len);
    if (entry & ENTRY_ZERO) {
        memset(buf, 0, len);
        return 0;
    }
    if (entry & ENTRY_OFFSET)
        return file_read_at(q->fd, (entry & ENTRY_OFFSET) + off % q->cluster, buf, len);
    return read_backing(q, off, buf, len);
}
