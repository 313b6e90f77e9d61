/* qcow2.c - disks in QEMU's copy-on-write format, versions 2 and 3 */
#include "host/disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/limits.h"
#include "host/disk/fileio.h"
#include "host/disk/image.h"
#include "host/disk/qcow2_create.h"

#define MAGIC            0x514649fbu
#define HEADER_V2        72u
#define HEADER_V3        104u
#define EXT_END          0u
#define EXT_FORMAT       0xe2792acau
#define NAME_MAX_BYTES   1023u
#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
#define KNOWN_FEATURES   (FEATURE_DIRTY | FEATURE_CORRUPT | FEATURE_COMPRESSION)
#define CLOSE_STEPS      2048u /* clusters that are looked at for an unused end */
#define OFF_FEATURES     72
#define OFF_AUTOCLEAR    88

#define BAD(...) err_set(e, EINVAL, __VA_ARGS__)

/* ---- opening ---- */

static int read_header(struct qcow2 *q, const u8 *h, u64 file, struct err *e)
{
    u32 l1 = be32(h + 36), rt = be32(h + 56);
    u64 span; /* bytes of the disk behind an L1 entry */

    q->version = be32(h + 4);
    q->cluster_bits = be32(h + 20);
    q->size = be64(h + 24);
    q->l1_entries = l1;
    q->l1_offset = be64(h + 40);
    q->rt_offset = be64(h + 48);
    q->snapshots = be32(h + 60);
    q->snapshots_offset = be64(h + 64);
    q->refcount_order = 4;
    if (be32(h) != MAGIC)
        return BAD("disk %s: not a qcow2 file", q->path);
    if (q->version != 2 && q->version != 3)
        return BAD("disk %s: qcow2 version %u (2 and 3 are known)", q->path, q->version);
    if (q->cluster_bits < CLUSTER_BITS_MIN || q->cluster_bits > CLUSTER_BITS_MAX)
        return BAD("disk %s: damaged: clusters of 2^%u bytes", q->path, q->cluster_bits);
    if (be32(h + 32))
        return BAD("disk %s: encrypted, which is not supported", q->path);
    if (q->version == 3) {
        q->features = be64(h + OFF_FEATURES);
        q->autoclear = be64(h + OFF_AUTOCLEAR);
        q->refcount_order = be32(h + 96);
        q->zstd = be32(h + 100) > HEADER_V3 && h[104] == 1;
    }
    q->cluster = BIT64(q->cluster_bits);
    span = q->cluster * (q->cluster / 8);
    if (q->refcount_order > 6)
        return BAD("disk %s: damaged: refcounts of 2^%u bits", q->path, q->refcount_order);
    if (q->features & ~KNOWN_FEATURES)
        return BAD("disk %s: needs features %#llx that are not supported (external data files and "
                   "extended L2 entries are not)",
                   q->path, (unsigned long long)(q->features & ~KNOWN_FEATURES));
    if (q->features & FEATURE_CORRUPT && !q->read_only)
        return BAD("disk %s: marked as damaged; open it with ,ro and copy what is needed", q->path);
    if (q->size > (u64)INT64_MAX - q->cluster || (u64)l1 * 8 > QCOW2_TABLE_MAX ||
        l1 < q->size / span + !!(q->size % span))
        return BAD("disk %s: damaged: an L1 table of %u entries for %llu bytes", q->path, l1,
                   (unsigned long long)q->size);
    if ((u64)rt * q->cluster > QCOW2_TABLE_MAX || !rt)
        return BAD("disk %s: damaged: a refcount table of %u clusters", q->path, rt);
    q->rt_entries = rt * q->cluster / 8;
    if (q->l1_offset % q->cluster || q->rt_offset % q->cluster || !q->l1_offset || !q->rt_offset ||
        !range_ok(q->l1_offset, (u64)l1 * 8, file) ||
        !range_ok(q->rt_offset, q->rt_entries * 8, align_up(file, q->cluster)))
        return BAD("disk %s: damaged: its tables lie outside of the file", q->path);
    return 0;
}

/* The backing file's format, told in an extension behind the header (DISK_AUTO when it is not). */
static enum disk_format backing_format(const u8 *h, u64 len)
{
    u64 at = be32(h + 4) == 2 ? HEADER_V2 : MIN(be32(h + 100), len);

    while (at + 8 <= len && be32(h + at) != EXT_END) {
        u64 bytes = be32(h + at + 4);

        if (be32(h + at) == EXT_FORMAT && bytes <= len - at - 8) {
            if (bytes == 3 && !memcmp(h + at + 8, "raw", 3))
                return DISK_RAW;
            if (bytes == 5 && !memcmp(h + at + 8, "qcow2", 5))
                return DISK_QCOW2;
        }
        at += 8 + align_up(bytes, 8);
    }
    return DISK_AUTO;
}

/* A relative name starts at the directory of the image that holds it. */
static char *beside(const char *image, const char *name)
{
    const char *slash = strrchr(image, '/');
    size_t dir = name[0] == '/' || !slash ? 0 : (size_t)(slash - image) + 1;
    char *path = malloc(dir + strlen(name) + 1);

    if (path) {
        memcpy(path, image, dir);
        strcpy(path + dir, name);
    }
    return path;
}

static int open_backing(struct qcow2 *q, const u8 *h, u64 len, unsigned depth, struct err *e)
{
    u64 at = be64(h + 8), bytes = be32(h + 16);
    struct disk_config cfg = {.read_only = true, .depth = depth + 1};
    char name[NAME_MAX_BYTES + 1] = "", *path;
    int rc;

    if (!at)
        return 0;
    if (bytes > NAME_MAX_BYTES || !range_ok(at, bytes, len))
        return BAD("disk %s: damaged: the name of its backing file", q->path);
    if (depth + 1 >= QCOW2_CHAIN_MAX)
        return BAD("disk %s: more than %d images over each other", q->path, QCOW2_CHAIN_MAX);
    memcpy(name, h + at, bytes);
    path = beside(q->path, name);
    if (!path)
        return err_set(e, ENOMEM, "disk %s: no memory", q->path);
    cfg.path = path;
    cfg.format = backing_format(h, at);
    rc = disk_open(&cfg, &q->backing, e);
    free(path);
    if (rc)
        err_prefix(e, "backing file of %s", q->path);
    return rc;
}

static int set_features(struct qcow2 *q, u64 features)
{
    u8 raw[8];
    int rc;

    put_be64(raw, features);
    rc = file_write_at(q->fd, OFF_FEATURES, raw, 8);
    if (!rc)
        q->features = features;
    return rc;
}

/* A crash leaves room at the end of the file that nobody uses. Refcounts have just been mended. */
static void cut_tail(struct qcow2 *q)
{
    u64 next = q->next, count;

    while (q->next - next < CLOSE_STEPS && next > 1 && qcow2_refcount(q, next - 1, &count) == 0 &&
           !count)
        next--;
    if (next < q->next && ftruncate(q->fd, (off_t)(next * q->cluster)) == 0) {
        q->next = next;
        q->end = 0;
    }
}

/* Refcounts that a crash left wrong are put right; from here on a crash leaves them so again. For
 * version 2, which cannot say so, the order of writes leaves nothing worse than lost space. */
static int begin_writing(struct qcow2 *q, struct err *e)
{
    u8 none[8] = {0};
    struct qcow2_findings f;
    int rc = 0;

    if (q->features & FEATURE_DIRTY) {
        rc = qcow2_check(q, true, &f, e);
        if (!rc)
            cut_tail(q);
    }
    if (rc || q->version < 3)
        return rc;
    rc = set_features(q, q->features | FEATURE_DIRTY);
    if (!rc && q->autoclear) /* what we do not keep up to date is not valid any more */
        rc = file_write_at(q->fd, OFF_AUTOCLEAR, none, 8);
    if (!rc) /* both are known on the disk before there is a reason for them */
        rc = qcow2_barrier(q);
    return rc ? err_set(e, -rc, "disk %s: its header cannot be written: %s", q->path, strerror(-rc))
              : 0;
}

static int load_file(struct qcow2 *q, const u8 *h, u64 file, struct err *e)
{
    int rc = read_header(q, h, file, e);

    if (rc)
        return rc;
    q->l1 = qcow2_read_table(q, q->l1_offset, q->l1_entries, &rc);
    if (!rc)
        q->rt = qcow2_read_table(q, q->rt_offset, q->rt_entries, &rc);
    q->next = align_up(file, q->cluster) / q->cluster;
    return rc ? err_set(e, -rc, "disk %s: its tables cannot be read: %s", q->path, strerror(-rc))
              : 0;
}

int qcow2_load(struct qcow2 *q, struct disk *backing, unsigned depth, struct err *e)
{
    u64 cap = BIT64(CLUSTER_BITS_MAX);
    struct stat st;
    u8 *h = calloc(1, cap);
    u64 len;
    int rc;

    pthread_rwlock_init(&q->rw, NULL);
    lock_init(&q->cache_lock);
    if (!h || fstat(q->fd, &st)) {
        free(h);
        return err_set(e, h ? errno : ENOMEM, "disk %s: cannot be read", q->path);
    }
    len = MIN(cap, (u64)st.st_size); /* header, extensions and name: in the first cluster */
    rc = file_read_at(q->fd, 0, h, len);
    if (rc)
        rc = err_set(e, -rc, "disk %s: cannot be read: %s", q->path, strerror(-rc));
    else if (len < HEADER_V2)
        rc = BAD("disk %s: too short for a qcow2 file", q->path);
    if (!rc)
        rc = load_file(q, h, (u64)st.st_size, e);
    if (!rc && !backing && depth != QCOW2_ALONE)
        rc = open_backing(q, h, MIN(len, q->cluster), depth, e);
    free(h);
    if (!rc && backing)
        q->backing = backing;
    if (!rc && q->backing)
        q->backing_bytes = disk_bytes(q->backing);
    return rc || q->read_only ? rc : begin_writing(q, e);
}

/* ---- life ---- */

/* Two syncs: what is dropped lies behind the first, its refcounts behind the second. */
static int finish_writing(struct qcow2 *q)
{
    int rc = q->throwaway ? 0 : qcow2_settle(q);

    if (!rc && q->end > q->next) /* when it fails the room stays, and does no harm */
        (void)!ftruncate(q->fd, (off_t)(q->next * q->cluster));
    if (!rc && q->features & FEATURE_DIRTY)
        rc = qcow2_barrier(q);
    return rc || !(q->features & FEATURE_DIRTY) ? rc
                                                : set_features(q, q->features & ~FEATURE_DIRTY);
}

int qcow2_close(void *self)
{
    struct qcow2 *q = self;
    int rc = 0;

    ASSERT(!q->pins);
    if (!q->read_only)
        rc = finish_writing(q);
    if (q->backing)
        (void)!disk_close(q->backing);
    close(q->fd);
    for (unsigned i = 0; i < L2_CACHE; i++)
        free(q->cache[i].table);
    pthread_rwlock_destroy(&q->rw);
    lock_destroy(&q->cache_lock);
    qcow2_free_lists(q);
    free(q->l1);
    free(q->rt);
    free(q->path);
    free(q);
    return rc;
}

static int open_with(int fd, const char *path, bool read_only, struct disk *backing, unsigned depth,
                     struct qcow2 **out, struct err *e)
{
    struct qcow2 *q = calloc(1, sizeof(*q));
    int rc;

    if (!q)
        return err_set(e, ENOMEM, "disk %s: no memory", path);
    *q = (struct qcow2){.fd = fd, .read_only = read_only, .path = strdup(path)};
    rc =
        q->path ? qcow2_load(q, backing, depth, e) : err_set(e, ENOMEM, "disk %s: no memory", path);
    if (rc) { /* fd and backing are still the caller's */
        q->fd = -1;
        q->read_only = true;
        if (backing)
            q->backing = NULL;
        qcow2_close(q);
        return rc;
    }
    *out = q;
    return 0;
}

int qcow2_open(int fd, const char *path, bool read_only, unsigned depth,
               const struct disk_ops **ops, void **self, u64 *bytes, struct err *e)
{
    struct qcow2 *q;
    int rc = open_with(fd, path, read_only, NULL, depth, &q, e);

    if (rc)
        return rc;
    *ops = &qcow2_ops;
    *self = q;
    *bytes = q->size;
    return 0;
}

/* The header's words for the backing file, for people. */
static int read_backing_name(struct qcow2 *q, struct image_info *info)
{
    u8 h[HEADER_V2];
    int rc = file_read_at(q->fd, 0, h, sizeof(h));

    if (!rc && be64(h + 8))
        rc = file_read_at(q->fd, be64(h + 8), info->backing,
                          MIN(be32(h + 16), sizeof(info->backing) - 1));
    return rc;
}

int qcow2_examine(int fd, const char *path, bool repair, struct image_info *info, struct err *e)
{
    struct qcow2_findings f = {0};
    struct qcow2 *q;
    int rc = open_with(fd, path, !repair, NULL, QCOW2_ALONE, &q, e);

    if (rc) {
        close(fd);
        return rc;
    }
    info->version = q->version;
    info->bytes = q->size;
    info->cluster = q->cluster;
    info->dirty = !repair && q->features & FEATURE_DIRTY;
    info->corrupt = q->features & FEATURE_CORRUPT;
    info->snapshots = q->snapshots;
    rc = read_backing_name(q, info);
    if (rc)
        rc = err_set(e, -rc, "disk %s: %s", path, strerror(-rc));
    if (!rc && repair)
        rc = qcow2_check(q, true, &f, e);
    if (!rc)
        rc = qcow2_check(q, false, &f, e);
    info->errors = f.errors;
    info->leaks = f.leaks;
    info->allocated = f.allocated * q->cluster;
    snprintf(info->problem, sizeof(info->problem), "%s", f.first);
    qcow2_close(q);
    return rc;
}

/* A file that is gone when it is closed, also on file systems without O_TMPFILE. */
static int open_nameless(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *name;

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    if (asprintf(&name, "%s/ring3-XXXXXX", dir) < 0)
        return -1;
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0)
        unlink(name);
    free(name);
    return fd;
}

int qcow2_overlay(struct disk *base, const struct disk_ops **ops, void **self, struct err *e)
{
    const char *dir = getenv("TMPDIR");
    struct qcow2_layout layout = {.size = align_up(disk_bytes(base), 512)};
    struct qcow2 *q;
    int fd, rc;

    dir = dir && *dir ? dir : "/var/tmp";
    fd = open_nameless(dir);
    if (fd < 0)
        return err_set(e, errno, "disk %s: no place for a snapshot in %s: %s (set TMPDIR)",
                       disk_path(base), dir, strerror(errno));
    rc = qcow2_write_empty(fd, "snapshot", &layout, e);
    if (!rc)
        rc = open_with(fd, disk_path(base), false, base, 0, &q, e);
    if (rc) {
        close(fd);
        return rc;
    }
    q->throwaway = true;
    *ops = &qcow2_ops;
    *self = q;
    return 0;
}
