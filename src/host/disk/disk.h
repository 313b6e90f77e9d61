/* disk.h - a virtual disk's contents: raw files, qcow2 images, slices, throwaway overlays */
#pragma once

#include <sys/uio.h>

#include "base/err.h"
#include "base/types.h"

/* A disk is bytes 0..disk_bytes()-1, whatever holds them. Requests are any range inside, of any
 * alignment; one that reaches outside is -EINVAL and does nothing. All request functions block,
 * may be called by any number of threads at once and need no lock; of two that overlap in time the
 * order is undefined, as on a real disk. They return 0 or -errno of the host (-EIO, -ENOSPC ...)
 * and then the range's contents are undefined but nothing else was harmed, and the disk goes on.
 *
 * A completed write may sit in a cache of ours or the host's; after disk_flush returned 0 all that
 * had completed before the call is on stable storage and survives kill -9 and power loss. */
struct disk;

enum disk_format { DISK_AUTO, DISK_RAW, DISK_QCOW2 };

struct disk_config {
    const char *path;
    enum disk_format format; /* DISK_AUTO: looked up in the file; a raw file that the guest could
                                turn into an image of another format stays raw once opened so */
    bool read_only;
    bool snapshot;    /* writes go to an unlinked overlay that vanishes with the process; the file
                         is opened read-only */
    unsigned depth;   /* images over this one: callers leave it 0 */
    u64 offset, size; /* a minidisk: only this range of the disk exists; size 0: to the end */
};

/* Opens, checks the metadata and locks the file against a second writer (OFD lock; -EBUSY says so).
 * *e names the file, what is wrong and how to mend it. */
must_check int disk_open(const struct disk_config *cfg, struct disk **out, struct err *e);
/* Flushes, writes what belongs into the file and closes it. No request may be going on. 0 or -errno
 * of the last flush; the disk is gone in any case. */
int disk_close(struct disk *d);

u64 disk_bytes(const struct disk *d); /* a multiple of 512, rounded down for raw files */
bool disk_read_only(const struct disk *d);
const char *disk_path(const struct disk *d);
enum disk_format disk_format(const struct disk *d);

must_check int disk_readv(struct disk *d, u64 off, const struct iovec *iov, int n);
/* -EROFS when opened read-only; also for the next two. */
must_check int disk_writev(struct disk *d, u64 off, const struct iovec *iov, int n);
/* The range reads as zeros afterwards; with `unmap` its space may go back to the host. */
must_check int disk_write_zeroes(struct disk *d, u64 off, u64 len, bool unmap);
/* The contents are no longer needed: space goes back to the host where the format allows it.
 * Reads give the old contents or zeros. Never fails for a host that cannot do it. */
must_check int disk_discard(struct disk *d, u64 off, u64 len);
must_check int disk_flush(struct disk *d);

/* For asynchronous I/O: where the first bytes of a range lie in a file. True: bytes off..off+*run-1
 * (0 < *run <= len) may be read (or, with `write`, overwritten in place) at *fd_off of *fd by the
 * caller, until it calls disk_unmap with the same arguments; meanwhile nothing else is put there.
 * False: use the blocking calls (unallocated, compressed, a read of zeros, an overlay...).
 * A flush does not wait for mapped writes that are going on. Any thread; does not block on I/O of
 * data, but may read metadata. */
bool disk_map(struct disk *d, u64 off, u64 len, bool write, int *fd, u64 *fd_off, u64 *run);
void disk_unmap(struct disk *d, u64 off, u64 run, bool write);
