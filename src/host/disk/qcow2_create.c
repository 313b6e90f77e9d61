/* qcow2_create.c - new qcow2 files */
#include "host/disk/qcow2_create.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/limits.h"
#include "host/disk/fileio.h"
#include "host/disk/qcow2.h"

#define REFCOUNT_ORDER 4
#define HEADER_BYTES   112u
#define EXT_FORMAT     0xe2792acau

/* Header, refcount table, refcount blocks for these clusters, L1 table: one behind the other. */
struct plan {
    u64 cluster, rt_clusters, blocks, l1_entries, l1_clusters;
};

static u64 parts(u64 n, u64 size)
{
    return n / size + !!(n % size);
}

static int make_plan(const char *path, const struct qcow2_layout *l, struct plan *p, struct err *e)
{
    u64 data, meta;

    p->cluster = BIT64(l->cluster_bits ? l->cluster_bits : 16);
    if (p->cluster < 512 || p->cluster > 2 * MiB)
        return err_set(e, EINVAL, "disk %s: clusters have 512 bytes to 2 MiB", path);
    if (!l->size || l->size % 512)
        return err_set(e, EINVAL, "disk %s: its size is a multiple of 512 bytes and not 0", path);
    data = parts(l->size, p->cluster);
    p->l1_entries = parts(data, p->cluster / 8);
    if (p->l1_entries * 8 > QCOW2_TABLE_MAX)
        return err_set(e, EFBIG, "disk %s: too large for clusters of %llu bytes", path,
                       (unsigned long long)p->cluster);
    p->l1_clusters = parts(p->l1_entries * 8, p->cluster);
    /* The refcount table covers a full image, so that it hardly ever has to grow. */
    meta = data + p->l1_entries + p->l1_clusters + 64;
    p->rt_clusters = parts(parts(meta + meta / 64, p->cluster / 2) * 8, p->cluster);
    p->blocks = parts(1 + p->rt_clusters + p->l1_clusters + 8, p->cluster / 2);
    return 0;
}

static void put_header(u8 *h, const struct qcow2_layout *l, const struct plan *p)
{
    size_t at = HEADER_BYTES;

    put_be32(h, 0x514649fb);
    put_be32(h + 4, 3);
    put_be32(h + 20, (u32)__builtin_ctzll(p->cluster));
    put_be64(h + 24, l->size);
    put_be32(h + 36, (u32)p->l1_entries);
    put_be64(h + 40, (1 + p->rt_clusters + p->blocks) * p->cluster);
    put_be64(h + 48, p->cluster);
    put_be32(h + 56, (u32)p->rt_clusters);
    put_be32(h + 96, REFCOUNT_ORDER);
    put_be32(h + 100, HEADER_BYTES);
    if (!l->backing)
        return;
    if (l->backing_format != DISK_AUTO) {
        const char *name = l->backing_format == DISK_RAW ? "raw" : "qcow2";

        put_be32(h + at, EXT_FORMAT);
        put_be32(h + at + 4, (u32)strlen(name));
        memcpy(h + at + 8, name, strlen(name));
        at += 16;
    }
    at += 8; /* the end of the extensions */
    put_be64(h + 8, at);
    put_be32(h + 16, (u32)strlen(l->backing));
    memcpy(h + at, l->backing, strlen(l->backing));
}

int qcow2_write_empty(int fd, const char *path, const struct qcow2_layout *layout, struct err *e)
{
    struct plan p = {0};
    u64 used;
    u8 *meta;
    int rc = make_plan(path, layout, &p, e);

    if (rc)
        return rc;
    if (layout->backing && strlen(layout->backing) > MIN(1023, p.cluster - HEADER_BYTES - 24))
        return err_set(e, ENAMETOOLONG, "disk %s: the name of its backing file is too long", path);
    used = 1 + p.rt_clusters + p.blocks + p.l1_clusters;
    meta = calloc(used - p.l1_clusters, p.cluster);
    if (!meta)
        return err_set(e, ENOMEM, "disk %s: no memory", path);
    put_header(meta, layout, &p);
    for (u64 i = 0; i < p.blocks; i++)
        put_be64(meta + p.cluster + i * 8, (1 + p.rt_clusters + i) * p.cluster);
    for (u64 i = 0; i < used; i++) /* big-endian 16-bit counters of 1 */
        meta[(1 + p.rt_clusters) * p.cluster + i * 2 + 1] = 1;
    rc = file_write_at(fd, 0, meta, (used - p.l1_clusters) * p.cluster);
    free(meta);
    if (!rc && ftruncate(fd, (off_t)(used * p.cluster)))
        rc = -errno;
    return rc ? err_set(e, -rc, "disk %s: %s", path, strerror(-rc)) : 0;
}
