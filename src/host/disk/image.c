/* image.c - disk files as such: making, looking at, checking and converting them */
#include "host/disk/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/disk/format.h"
#include "host/disk/qcow2_create.h"

#define COPY_BYTES (1 * MiB)
#define ZERO_UNIT  4096u

/* ---- looking ---- */

static int examine(const char *path, enum disk_format format, bool repair, struct image_info *info,
                   struct err *e)
{
    struct disk_config cfg = {.path = path, .format = format};
    struct stat st;
    int fd, rc;

    memset(info, 0, sizeof(*info));
    rc = disk_open_file(&cfg, !repair, &format, &fd, e);
    if (rc)
        return rc;
    if (fstat(fd, &st)) {
        close(fd);
        return err_set(e, errno, "disk %s: %s", path, strerror(errno));
    }
    info->format = format;
    info->bytes = info->file_bytes = (u64)st.st_size;
    info->host_bytes = (u64)st.st_blocks * 512;
    if (format == DISK_QCOW2)
        return qcow2_examine(fd, path, repair, info, e);
    close(fd);
    return 0;
}

int image_examine(const char *path, enum disk_format format, struct image_info *info, struct err *e)
{
    return examine(path, format, false, info, e);
}

int image_repair(const char *path, struct image_info *info, struct err *e)
{
    return examine(path, DISK_AUTO, true, info, e);
}

/* ---- making ---- */

/* A file without a name in the directory where it will get one. */
static int open_new(const char *path, int *fd, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

    if (!dir)
        return err_set(e, ENOMEM, "disk %s: no memory", path);
    *fd = access(path, F_OK) == 0 ? -1 : open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
    free(dir);
    if (*fd >= 0)
        return 0;
    if (access(path, F_OK) == 0)
        return err_set(e, EEXIST, "disk %s: is there already; remove it first", path);
    return err_set(e, errno, "disk %s: cannot be made: %s", path, strerror(errno));
}

static int give_name(int fd, const char *path, struct err *e)
{
    char self[40];

    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (fsync(fd) || linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW))
        return err_set(e, errno, "disk %s: cannot be made: %s", path, strerror(errno));
    return 0;
}

/* The backing file must be there, and is what the size comes from when none is given. */
static int check_backing(const struct image_config *cfg, u64 *bytes, enum disk_format *format,
                         struct err *e)
{
    const char *slash = cfg->backing[0] == '/' ? NULL : strrchr(cfg->path, '/');
    struct disk_config base = {.format = cfg->backing_format, .read_only = true};
    char path[4096];
    struct disk *d;
    int rc;

    snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash - cfg->path) + 1 : 0, cfg->path,
             cfg->backing);
    base.path = path;
    rc = disk_open(&base, &d, e);
    if (rc) {
        err_prefix(e, "backing file of %s", cfg->path);
        return rc;
    }
    if (!*bytes)
        *bytes = disk_bytes(d);
    *format = disk_format(d);
    return disk_close(d);
}

static int fill_new(int fd, const struct image_config *cfg, struct err *e)
{
    struct qcow2_layout layout = {
        .size = cfg->bytes,
        .cluster_bits = cfg->cluster ? (unsigned)__builtin_ctzll(cfg->cluster) : 0,
        .backing = cfg->backing,
        .backing_format = cfg->backing_format,
    };
    int rc = cfg->backing ? check_backing(cfg, &layout.size, &layout.backing_format, e) : 0;

    if (rc)
        return rc;
    if (cfg->format == DISK_QCOW2)
        return qcow2_write_empty(fd, cfg->path, &layout, e);
    if (!cfg->bytes || cfg->bytes % 512)
        return err_set(e, EINVAL, "disk %s: its size is a multiple of 512 bytes and not 0",
                       cfg->path);
    return ftruncate(fd, (off_t)cfg->bytes)
               ? err_set(e, errno, "disk %s: %s", cfg->path, strerror(errno))
               : 0;
}

int image_create(const struct image_config *cfg, struct err *e)
{
    int fd, rc;

    if (cfg->cluster & (cfg->cluster - 1))
        return err_set(e, EINVAL, "disk %s: a cluster is a power of two", cfg->path);
    if (cfg->backing && cfg->format != DISK_QCOW2)
        return err_set(e, EINVAL, "disk %s: only qcow2 has backing files", cfg->path);
    rc = open_new(cfg->path, &fd, e);
    if (rc)
        return rc;
    rc = fill_new(fd, cfg, e);
    if (!rc)
        rc = give_name(fd, cfg->path, e);
    close(fd);
    return rc;
}

/* ---- converting ---- */

static bool all_zero(const u8 *p, u64 len)
{
    return len == 0 || (p[0] == 0 && !memcmp(p, p + 1, len - 1));
}

/* Pieces that are zero are left as they are in a new file. */
static int copy_block(struct disk *to, u64 off, u8 *buf, u64 len)
{
    for (u64 at = 0; at < len;) {
        u64 unit = MIN(ZERO_UNIT, len - at), run = unit;
        bool zero = all_zero(buf + at, unit);
        int rc;

        while (at + run < len && all_zero(buf + at + run, MIN(ZERO_UNIT, len - at - run)) == zero)
            run += MIN(ZERO_UNIT, len - at - run);
        rc = zero ? 0 : disk_writev(to, off + at, &(struct iovec){buf + at, run}, 1);
        if (rc)
            return rc;
        at += run;
    }
    return 0;
}

static int copy_disk(struct disk *from, struct disk *to, struct err *e)
{
    u8 *buf = malloc(COPY_BYTES);
    int rc = buf ? 0 : -ENOMEM;

    for (u64 off = 0, len; !rc && off < disk_bytes(from); off += len) {
        len = MIN(COPY_BYTES, disk_bytes(from) - off);
        rc = disk_readv(from, off, &(struct iovec){buf, len}, 1);
        if (rc)
            rc = err_set(e, -rc, "disk %s: cannot be read at %llu: %s", disk_path(from),
                         (unsigned long long)off, strerror(-rc));
        else
            rc = copy_block(to, off, buf, len);
    }
    free(buf);
    return rc ? err_set(e, -rc, "disk %s: %s", disk_path(to), strerror(-rc)) : 0;
}

int image_convert(const struct disk_config *from, const char *to, enum disk_format format,
                  struct err *e)
{
    struct image_config cfg = {.path = to, .format = format};
    struct disk_config out = {.format = format};
    struct disk *src, *dst = NULL;
    char self[40];
    int fd = -1, rc = disk_open(from, &src, e);

    if (rc)
        return rc;
    cfg.bytes = disk_bytes(src);
    rc = open_new(to, &fd, e);
    if (!rc) {
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        out.path = self;
        rc = fill_new(fd, &cfg, e);
    }
    if (!rc)
        rc = disk_open(&out, &dst, e);
    if (!rc)
        rc = copy_disk(src, dst, e);
    if (dst && disk_close(dst) && !rc)
        rc = err_set(e, EIO, "disk %s: cannot be written", to);
    if (!rc)
        rc = give_name(fd, to, e);
    if (fd >= 0)
        close(fd);
    (void)!disk_close(src);
    return rc;
}
