/* raw.c - a disk that is the bytes of a file or block device */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/disk/fileio.h"
#include "host/disk/format.h"

struct raw {
    int fd;
    bool read_only, device;
};

static int readv_at(void *self, u64 off, const struct iovec *iov, int n, u64 len)
{
    struct raw *r = self;

    return file_readv_at(r->fd, off, iov, n, len);
}

static int writev_at(void *self, u64 off, const struct iovec *iov, int n, u64 len)
{
    struct raw *r = self;

    return file_writev_at(r->fd, off, iov, n, len);
}

static int write_zeroes(void *self, u64 off, u64 len, bool unmap)
{
    struct raw *r = self;

    return file_zero_at(r->fd, off, len, unmap);
}

static int discard(void *self, u64 off, u64 len)
{
    struct raw *r = self;
    u64 range[2] = {off, len};

    if (r->device)
        (void)ioctl(r->fd, BLKDISCARD, range);
    else
        file_discard_at(r->fd, off, len);
    return 0;
}

static int flush(void *self)
{
    struct raw *r = self;

    return r->read_only || fdatasync(r->fd) == 0 ? 0 : -errno;
}

static bool map(void *self, u64 off, u64 len, bool write, int *fd, u64 *fd_off, u64 *run)
{
    struct raw *r = self;

    *fd = r->fd;
    *fd_off = off;
    *run = len;
    return true;
}

static void unmap(void *self, u64 off, u64 run, bool write)
{
}

static int close_raw(void *self)
{
    struct raw *r = self;
    int rc = close(r->fd) ? -errno : 0;

    free(r);
    return rc;
}

static const struct disk_ops raw_ops = {
    .readv = readv_at,
    .writev = writev_at,
    .write_zeroes = write_zeroes,
    .discard = discard,
    .flush = flush,
    .map = map,
    .unmap = unmap,
    .close = close_raw,
};

int raw_open(int fd, const char *path, bool read_only, const struct disk_ops **ops, void **self,
             u64 *bytes, struct err *e)
{
    struct raw *r = calloc(1, sizeof(*r));
    struct stat st;
    u64 device = 0;

    if (!r)
        return err_set(e, ENOMEM, "disk %s: no memory", path);
    if (fstat(fd, &st) || (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &device))) {
        int code = errno;

        free(r);
        return err_set(e, code, "disk %s: its size cannot be found: %s", path, strerror(code));
    }
    *r = (struct raw){fd, read_only, S_ISBLK(st.st_mode)};
    *bytes = r->device ? device : (u64)st.st_size;
    *ops = &raw_ops;
    *self = r;
    return 0;
}
