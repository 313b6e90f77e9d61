/* fileio.c - whole transfers on a file */
#include "host/disk/fileio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#define VECTORS      64
#define ZERO_BYTES   65536u
#define TRANSFER_MAX (1u << 30)

/* The next vectors of a list from byte `skip` of the first on. */
static int window(const struct iovec **iov, int *n, size_t *skip, struct iovec out[VECTORS])
{
    int count = 0;
    size_t bytes = 0;

    while (*n && *skip >= (*iov)->iov_len) {
        *skip -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    for (int i = 0; i < *n && count < VECTORS && bytes < TRANSFER_MAX; i++) {
        size_t from = i ? 0 : *skip, len = (*iov)[i].iov_len - from;

        out[count++] = (struct iovec){(u8 *)(*iov)[i].iov_base + from, len};
        bytes += len;
    }
    return count;
}

static void zero_rest(const struct iovec *iov, int n, size_t skip)
{
    for (; n; n--, iov++) {
        if (skip >= iov->iov_len) {
            skip -= iov->iov_len;
            continue;
        }
        memset((u8 *)iov->iov_base + skip, 0, iov->iov_len - skip);
        skip = 0;
    }
}

static int transfer(int fd, u64 off, const struct iovec *iov, int n, u64 len, bool write)
{
    size_t skip = 0;

    while (len) {
        struct iovec part[VECTORS];
        int count = window(&iov, &n, &skip, part);
        ssize_t done =
            write ? pwritev(fd, part, count, (off_t)off) : preadv(fd, part, count, (off_t)off);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        if (done == 0 && write)
            return -EIO;
        if (done == 0) {
            zero_rest(iov, n, skip);
            return 0;
        }
        skip += (size_t)done;
        off += (u64)done;
        len -= MIN((u64)done, len);
    }
    return 0;
}

int file_readv_at(int fd, u64 off, const struct iovec *iov, int n, u64 len)
{
    return transfer(fd, off, iov, n, len, false);
}

int file_writev_at(int fd, u64 off, const struct iovec *iov, int n, u64 len)
{
    return transfer(fd, off, iov, n, len, true);
}

int file_read_at(int fd, u64 off, void *buf, u64 len)
{
    return transfer(fd, off, &(struct iovec){buf, len}, 1, len, false);
}

int file_write_at(int fd, u64 off, const void *buf, u64 len)
{
    return transfer(fd, off, &(struct iovec){(void *)buf, len}, 1, len, true);
}

static int fall(int fd, int mode, u64 off, u64 len)
{
    while (fallocate(fd, mode, (off_t)off, (off_t)len)) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int file_zero_at(int fd, u64 off, u64 len, bool punch)
{
    static const u8 zeros[ZERO_BYTES];
    int rc = -EOPNOTSUPP;

    if (punch)
        rc = fall(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
    if (rc)
        rc = fall(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len);
    if (!rc || rc == -EIO || rc == -ENOSPC)
        return rc;
    for (rc = 0; len && !rc;) {
        u64 step = MIN(len, ZERO_BYTES);

        rc = file_write_at(fd, off, zeros, step);
        off += step;
        len -= step;
    }
    return rc;
}

bool file_discard_at(int fd, u64 off, u64 len)
{
    return !fall(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
}
