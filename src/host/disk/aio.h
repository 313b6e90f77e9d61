/* aio.h - a disk's requests made from an event loop: page cache, io_uring, worker threads */
#pragma once

#include "host/disk/disk.h"
#include "host/loop.h"

/* A request takes the cheapest way that does not make the loop wait for a disk:
 *   1. bytes that disk_map finds in a file and the host's page cache holds (reads) or takes (writes
 *      of whole pages) are copied at once, before aio_submit returns;
 *   2. other mapped bytes go through io_uring where the host allows it;
 *   3. all else, and everything that changes a format's metadata, goes to a few worker threads.
 * A full page cache may hold a write up until the host has written some of it: only this disk's
 * loop suffers. The environment variable RING3_AIO (uring, threads) leaves only the second and
 * third, or only the third, for tests; auto is the default. */
struct aio;

enum aio_op { AIO_READ, AIO_WRITE, AIO_FLUSH, AIO_DISCARD, AIO_WRITE_ZEROES };

/* Owned by the caller, untouched by it between aio_submit and `done`. Nothing is allocated for
 * it. */
struct aio_req {
    enum aio_op op;
    bool unmap;        /* AIO_WRITE_ZEROES: see disk.h */
    u64 off, len;      /* bytes; of AIO_READ and AIO_WRITE the sum of the vectors */
    struct iovec *iov; /* AIO_READ, AIO_WRITE; used up: their values are undefined afterwards */
    int n;             /* at most IOV_MAX */
    /* On the loop thread, with 0 or -errno as in disk.h; may come before aio_submit returns, and
     * may submit. The request is the caller's again. */
    void (*done)(struct aio_req *r, int rc);

    /* aio's own */
    struct aio *aio;
    struct aio_req *next;
    int rc;
    u64 run;           /* bytes mapped at off, 0: none */
    struct iovec last; /* the vector that was cut where the run ends */
    int cut;           /* its index */
};

/* For one disk on one loop; both outlive it. `batch_done` (may be NULL) is called on the loop
 * thread after a number of `done` calls that the loop itself made, none of the functions below.
 * Main thread. 0 or -errno. */
must_check int aio_create(struct aio **out, struct disk *d, struct loop *l,
                          void (*batch_done)(void *arg), void *arg, struct err *e);
/* Drains. The loop has ended, or the call comes from its thread. NULL is nothing. */
void aio_destroy(struct aio *a);

/* Loop thread. A range outside the disk is -EINVAL. What goes to io_uring may wait there until
 * aio_kick. */
void aio_submit(struct aio *a, struct aio_req *r);
/* Starts all that was submitted, and takes what is done already. Loop thread. */
void aio_kick(struct aio *a);
/* Returns when nothing is in flight; every `done` was called. Loop thread, not from a `done`. */
void aio_drain(struct aio *a);
/* Requests submitted and not done. Loop thread. */
unsigned aio_in_flight(const struct aio *a);
/* "io_uring" or "threads". */
const char *aio_name(const struct aio *a);
