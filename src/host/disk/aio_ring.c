/* aio_ring.c - disk requests by io_uring */
#include <errno.h>

#include "host/disk/aio_priv.h"

int ring_open(struct aio *a)
{
    int rc = io_uring_queue_init(AIO_RING_ENTRIES, &a->ring, IORING_SETUP_CLAMP);

    if (rc)
        return rc;
    rc = io_uring_register_eventfd(&a->ring, a->event);
    if (rc) {
        io_uring_queue_exit(&a->ring);
        return rc;
    }
    a->has_ring = true;
    return 0;
}

void ring_close(struct aio *a)
{
    if (a->has_ring)
        io_uring_queue_exit(&a->ring);
    a->has_ring = false;
}

bool ring_add(struct aio *a, struct aio_req *r, int fd, u64 fd_off)
{
    struct io_uring_sqe *s = io_uring_get_sqe(&a->ring);

    if (!s) {
        (void)ring_submit(a);
        s = io_uring_get_sqe(&a->ring);
    }
    if (!s)
        return false;
    if (r->op == AIO_READ)
        io_uring_prep_readv(s, fd, r->iov, (unsigned)r->cut + 1, fd_off);
    else
        io_uring_prep_writev(s, fd, r->iov, (unsigned)r->cut + 1, fd_off);
    io_uring_sqe_set_data(s, r);
    a->ring_waits++;
    return true;
}

int ring_submit(struct aio *a)
{
    int rc = 0;

    while (io_uring_sq_ready(&a->ring)) {
        rc = io_uring_submit(&a->ring);
        if (rc < 0 && rc != -EINTR)
            return rc;
    }
    return 0;
}

unsigned ring_reap(struct aio *a)
{
    struct io_uring_cqe *c;
    unsigned count = 0;

    while (a->ring_waits && io_uring_peek_cqe(&a->ring, &c) == 0) {
        struct aio_req *r = io_uring_cqe_get_data(c);
        s32 res = c->res;

        io_uring_cqe_seen(&a->ring, c);
        a->ring_waits--;
        count++;
        aio_moved(a, r, res);
    }
    return count;
}
