/* disk.c - opening a virtual disk, and the checks that every request passes */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "base/checked.h"
#include "host/disk/format.h"

#define SECTOR      512u
#define QCOW2_MAGIC "QFI\xfb"

struct disk {
    const struct disk_ops *ops;
    void *self;
    char *path;
    u64 offset, bytes; /* the part of what the format holds */
    enum disk_format format;
    bool read_only;
};

/* ---- opening ---- */

/* A second writer would destroy the disk: the lock says who is first. Two readers are fine, and so
 * are two writers of slices of a raw file that do not overlap. Open file description locks vanish
 * with the descriptor, also after kill -9. */
static int lock_file(int fd, const struct disk_config *cfg, enum disk_format format, bool write,
                     struct err *e)
{
    struct flock lock = {.l_type = write ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

    if (format == DISK_RAW && cfg->offset <= INT64_MAX && cfg->size <= INT64_MAX - cfg->offset) {
        lock.l_start = (off_t)cfg->offset;
        lock.l_len = (off_t)cfg->size;
    }
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0 || errno == EINVAL || errno == ENOLCK)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(e, EBUSY, "disk %s: in use by another process%s", cfg->path,
                       write ? " (open it with ,ro or ,snapshot, or stop the other one)"
                             : " that writes to it (stop that one first)");
    return err_set(e, errno, "disk %s: cannot be locked: %s", cfg->path, strerror(errno));
}

static int open_file(const char *path, bool read_only, int *fd, struct err *e)
{
    struct stat st;
    int rc;

    *fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_set(e, errno, "disk %s: %s%s", path, strerror(errno),
                       errno == ENOENT ? " (ring3 disk create makes one)"
                       : (errno == EACCES || errno == EROFS) && !read_only
                           ? " (,ro opens it for reading)"
                           : "");
    if (fstat(*fd, &st))
        rc = err_set(e, errno, "disk %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        rc = err_set(e, EINVAL, "disk %s: neither a file nor a block device", path);
    else
        rc = 0;
    if (rc)
        close(*fd);
    return rc;
}

static int probe(int fd, const char *path, enum disk_format *format, struct err *e)
{
    char magic[4] = "";
    ssize_t n = pread(fd, magic, sizeof(magic), 0);

    if (n < 0)
        return err_set(e, errno, "disk %s: cannot be read: %s", path, strerror(errno));
    *format =
        n == sizeof(magic) && !memcmp(magic, QCOW2_MAGIC, sizeof(magic)) ? DISK_QCOW2 : DISK_RAW;
    return 0;
}

int disk_open_file(const struct disk_config *cfg, bool read_only, enum disk_format *format, int *fd,
                   struct err *e)
{
    int rc = open_file(cfg->path, read_only, fd, e);

    if (rc)
        return rc;
    *format = cfg->format;
    if (*format == DISK_AUTO)
        rc = probe(*fd, cfg->path, format, e);
    if (!rc)
        rc = lock_file(*fd, cfg, *format, !read_only, e);
    if (rc)
        close(*fd);
    return rc;
}

static int open_format(const struct disk_config *cfg, bool read_only, struct disk *d, struct err *e)
{
    int fd, rc;

    rc = disk_open_file(cfg, read_only, &d->format, &fd, e);
    if (rc)
        return rc;
    if (d->format == DISK_QCOW2)
        rc = qcow2_open(fd, cfg->path, read_only, cfg->depth, &d->ops, &d->self, &d->bytes, e);
    else
        rc = raw_open(fd, cfg->path, read_only, &d->ops, &d->self, &d->bytes, e);
    if (rc)
        close(fd);
    return rc;
}

static int cut(struct disk *d, const struct disk_config *cfg, struct err *e)
{
    u64 size = cfg->size;

    if (cfg->offset % SECTOR || size % SECTOR)
        return err_set(e, EINVAL, "disk %s: offset and size are multiples of %u", cfg->path,
                       SECTOR);
    if (!size && cfg->offset < d->bytes)
        size = d->bytes - cfg->offset;
    size -= size % SECTOR;
    if (!size || !range_ok(cfg->offset, size, d->bytes))
        return err_set(e, EINVAL, "disk %s: %llu bytes at %llu do not lie within its %llu",
                       cfg->path, (unsigned long long)size, (unsigned long long)cfg->offset,
                       (unsigned long long)d->bytes);
    d->offset = cfg->offset;
    d->bytes = size;
    return 0;
}

/* The overlay covers the whole file, the slice is cut from what one sees through it. */
static int cover(struct disk *d, struct err *e)
{
    struct disk *base = malloc(sizeof(*base));
    int rc;

    if (!base)
        return err_set(e, ENOMEM, "disk %s: no memory", d->path);
    *base = *d;
    base->path = strdup(d->path);
    rc = base->path ? qcow2_overlay(base, &d->ops, &d->self, e)
                    : err_set(e, ENOMEM, "disk %s: no memory", d->path);
    if (rc) {
        free(base->path);
        free(base);
        return rc;
    }
    d->read_only = false;
    return 0;
}

int disk_open(const struct disk_config *cfg, struct disk **out, struct err *e)
{
    bool read_only = cfg->read_only || cfg->snapshot;
    struct disk *d = calloc(1, sizeof(*d));
    int rc;

    if (!d)
        return err_set(e, ENOMEM, "disk %s: no memory", cfg->path);
    d->path = strdup(cfg->path);
    d->read_only = read_only;
    rc = d->path ? open_format(cfg, read_only, d, e)
                 : err_set(e, ENOMEM, "disk %s: no memory", cfg->path);
    if (rc) {
        free(d->path);
        free(d);
        return rc;
    }
    if (cfg->snapshot && !cfg->read_only)
        rc = cover(d, e);
    if (!rc)
        rc = cut(d, cfg, e);
    if (rc) {
        (void)!disk_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

int disk_close(struct disk *d)
{
    int rc = d->read_only ? 0 : disk_flush(d), rc2 = d->ops->close(d->self);

    free(d->path);
    free(d);
    return rc ? rc : rc2;
}

u64 disk_bytes(const struct disk *d)
{
    return d->bytes;
}

bool disk_read_only(const struct disk *d)
{
    return d->read_only;
}

const char *disk_path(const struct disk *d)
{
    return d->path;
}

enum disk_format disk_format(const struct disk *d)
{
    return d->format;
}

/* ---- requests ---- */

static bool total(const struct iovec *iov, int n, u64 *len)
{
    *len = 0;
    for (int i = 0; i < n; i++)
        if (!add_ok(*len, iov[i].iov_len, len))
            return false;
    return n >= 0;
}

int disk_readv(struct disk *d, u64 off, const struct iovec *iov, int n)
{
    u64 len;

    if (!total(iov, n, &len) || !range_ok(off, len, d->bytes))
        return -EINVAL;
    return len ? d->ops->readv(d->self, d->offset + off, iov, n, len) : 0;
}

int disk_writev(struct disk *d, u64 off, const struct iovec *iov, int n)
{
    u64 len;

    if (d->read_only)
        return -EROFS;
    if (!total(iov, n, &len) || !range_ok(off, len, d->bytes))
        return -EINVAL;
    return len ? d->ops->writev(d->self, d->offset + off, iov, n, len) : 0;
}

int disk_write_zeroes(struct disk *d, u64 off, u64 len, bool unmap)
{
    if (d->read_only)
        return -EROFS;
    if (!range_ok(off, len, d->bytes))
        return -EINVAL;
    return len ? d->ops->write_zeroes(d->self, d->offset + off, len, unmap) : 0;
}

int disk_discard(struct disk *d, u64 off, u64 len)
{
    if (d->read_only)
        return -EROFS;
    if (!range_ok(off, len, d->bytes))
        return -EINVAL;
    return len ? d->ops->discard(d->self, d->offset + off, len) : 0;
}

int disk_flush(struct disk *d)
{
    return d->ops->flush(d->self);
}

bool disk_map(struct disk *d, u64 off, u64 len, bool write, int *fd, u64 *fd_off, u64 *run)
{
    if ((write && d->read_only) || !len || !range_ok(off, len, d->bytes))
        return false;
    return d->ops->map(d->self, d->offset + off, len, write, fd, fd_off, run);
}

void disk_unmap(struct disk *d, u64 off, u64 run, bool write)
{
    d->ops->unmap(d->self, d->offset + off, run, write);
}
