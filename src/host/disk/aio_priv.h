/* aio_priv.h - what aio.c and its two ways of waiting for a disk share */
#pragma once

#include <liburing.h>
#include <pthread.h>

#include "base/limits.h"
#include "base/lock.h"
#include "host/disk/aio.h"

struct aio {
    struct disk *disk;
    struct loop *loop;
    void (*batch_done)(void *arg);
    void *arg;

    int event;          /* eventfd: completions of the ring and of the workers */
    bool copies;        /* try the page cache first */
    unsigned in_flight; /* loop thread's */
    struct loop_task again;

    bool has_ring;
    unsigned ring_waits; /* requests in the ring */
    struct io_uring ring;

    struct lock lock; /* below */
    pthread_cond_t work;
    struct aio_req *first, **last; /* for the workers */
    struct aio_req *finished;      /* by the workers */
    bool quit;
    unsigned queued, threads, idle;
    pthread_t thread[AIO_THREADS_MAX];
};

/* Bytes moved or -errno for the mapped run of r, from the ring. Goes on with the request. */
void aio_moved(struct aio *a, struct aio_req *r, s64 n);
void aio_finish(struct aio_req *r, int rc);

/* aio_ring.c: io_uring. */
int ring_open(struct aio *a);
void ring_close(struct aio *a);
/* The mapped run of r; false when the ring is full. */
bool ring_add(struct aio *a, struct aio_req *r, int fd, u64 fd_off);
/* 0 or -errno: call again later. */
int ring_submit(struct aio *a);
/* Takes what is done; the number of requests. */
unsigned ring_reap(struct aio *a);

/* aio_pool.c: threads that block. */
void pool_init(struct aio *a);
void pool_fini(struct aio *a); /* nothing is in flight */
/* What is left of r. */
void pool_add(struct aio *a, struct aio_req *r);
unsigned pool_reap(struct aio *a);
