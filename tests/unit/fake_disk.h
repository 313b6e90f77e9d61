/* fake_disk.h - a disk of the tests in place of host/disk/disk.c: memory, and faults on demand */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/checked.h"
#include "host/disk/disk.h"

/* A memfd of `bytes`. Mapped are all bytes up to the next multiple of `run`, except in every
 * third of these (with holes). A program that includes this does not link disk.c. */
struct disk {
    int fd;
    u64 bytes, run;
    bool read_only, holes, no_map;
    int map_fd;                              /* what disk_map hands out; fd */
    int fail_read, fail_write, fail_flush;   /* errno; once, then 0 */
    int fail_discard;                        /* errno, for write-zeroes too */
    unsigned reads, writes, flushes, erases; /* blocking calls */
    unsigned maps;                           /* not unmapped yet */
    unsigned delay_us;                       /* of each blocking call */
};

static inline struct disk *fake_disk(u64 bytes, u64 run)
{
    struct disk *d = calloc(1, sizeof(*d));

    ASSERT(d);
    d->bytes = bytes;
    d->run = run;
    d->fd = d->map_fd = memfd_create("disk", MFD_CLOEXEC);
    ASSERT(d->fd >= 0 && ftruncate(d->fd, (off_t)bytes) == 0);
    return d;
}

static inline void fake_disk_free(struct disk *d)
{
    ASSERT(d->maps == 0);
    close(d->fd);
    free(d);
}

static inline int fake_fault(struct disk *d, int *fail, unsigned *count)
{
    if (d->delay_us)
        usleep(d->delay_us);
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    return -__atomic_exchange_n(fail, 0, __ATOMIC_RELAXED);
}

int disk_close(struct disk *d)
{
    fake_disk_free(d);
    return 0;
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
    return "fake";
}

static inline int fake_move(struct disk *d, u64 off, const struct iovec *iov, int n, bool write)
{
    u64 len = 0;
    ssize_t moved;

    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    if (!range_ok(off, len, d->bytes))
        return -EINVAL;
    moved = write ? pwritev(d->fd, iov, n, (off_t)off) : preadv(d->fd, iov, n, (off_t)off);
    return moved < 0 || (u64)moved != len ? -EIO : 0;
}

int disk_readv(struct disk *d, u64 off, const struct iovec *iov, int n)
{
    int rc = fake_fault(d, &d->fail_read, &d->reads);

    return rc ? rc : fake_move(d, off, iov, n, false);
}

int disk_writev(struct disk *d, u64 off, const struct iovec *iov, int n)
{
    int rc = fake_fault(d, &d->fail_write, &d->writes);

    return rc ? rc : fake_move(d, off, iov, n, true);
}

int disk_write_zeroes(struct disk *d, u64 off, u64 len, bool unmap)
{
    static const u8 zeroes[65536];
    int rc = fake_fault(d, &d->fail_discard, &d->erases);

    for (u64 step; !rc && len; off += step, len -= step) {
        step = MIN(len, sizeof(zeroes));
        rc = fake_move(d, off, &(struct iovec){(void *)zeroes, step}, 1, true);
    }
    return rc;
}

int disk_discard(struct disk *d, u64 off, u64 len)
{
    return disk_write_zeroes(d, off, len, true);
}

int disk_flush(struct disk *d)
{
    return fake_fault(d, &d->fail_flush, &d->flushes);
}

bool disk_map(struct disk *d, u64 off, u64 len, bool write, int *fd, u64 *fd_off, u64 *run)
{
    ASSERT(range_ok(off, len, d->bytes) && len);
    if (d->no_map || (d->holes && off / d->run % 3 == 2))
        return false;
    *fd = d->map_fd;
    *fd_off = off;
    *run = MIN(len, d->run - off % d->run);
    __atomic_fetch_add(&d->maps, 1, __ATOMIC_RELAXED);
    return true;
}

void disk_unmap(struct disk *d, u64 off, u64 run, bool write)
{
    ASSERT(range_ok(off, run, d->bytes) && run);
    __atomic_fetch_sub(&d->maps, 1, __ATOMIC_RELAXED);
}
