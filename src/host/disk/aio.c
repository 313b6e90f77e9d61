/* aio.c - a disk's requests made from an event loop: page cache, io_uring, worker threads */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/checked.h"
#include "host/disk/aio_priv.h"

/* A write of whole pages goes into the page cache without a look at the disk. */
#define HOST_PAGE 4096u

/* ---- the vectors of a request ---- */

/* Makes the vectors end where the mapped run ends; the number of them that it takes. */
static int cut_vectors(struct aio_req *r)
{
    u64 left = r->run;
    int i = 0;

    while (r->iov[i].iov_len < left)
        left -= r->iov[i++].iov_len;
    r->cut = i;
    r->last = r->iov[i];
    r->iov[i].iov_len = left;
    return i + 1;
}

static void skip_bytes(struct aio_req *r, u64 bytes)
{
    r->off += bytes;
    r->len -= bytes;
    while (r->n && bytes >= r->iov->iov_len) {
        bytes -= r->iov->iov_len;
        r->iov++;
        r->n--;
    }
    if (bytes) {
        r->iov->iov_base = (u8 *)r->iov->iov_base + bytes;
        r->iov->iov_len -= bytes;
    }
}

/* Lets go of the mapped run, of which n bytes have been moved. */
static void unmap_run(struct aio *a, struct aio_req *r, u64 n)
{
    r->iov[r->cut] = r->last;
    disk_unmap(a->disk, r->off, r->run, r->op == AIO_WRITE);
    r->run = 0;
    skip_bytes(r, n);
}

/* ---- a request's way ---- */

void aio_finish(struct aio_req *r, int rc)
{
    r->aio->in_flight--;
    r->done(r, rc);
}

/* Bytes moved without waiting for the disk, or -EAGAIN when that cannot be, or -errno. */
static s64 copy_now(struct aio *a, struct aio_req *r, int fd, u64 fd_off, int n)
{
    ssize_t moved;

    if (!a->copies)
        return -EAGAIN;
    if (r->op == AIO_READ) {
        moved = preadv2(fd, r->iov, n, (off_t)fd_off, RWF_NOWAIT);
    } else {
        if ((fd_off | r->run) % HOST_PAGE)
            return -EAGAIN;
        moved = pwritev2(fd, r->iov, n, (off_t)fd_off, 0);
    }
    if (moved < 0)
        return errno == EOPNOTSUPP || errno == EINTR ? -EAGAIN : -errno;
    return moved;
}

/* One mapped run: true when the request goes on at once, false when somebody else has it. */
static bool move_run(struct aio *a, struct aio_req *r)
{
    bool write = r->op == AIO_WRITE;
    u64 fd_off;
    s64 moved;
    int fd, n;

    if ((!a->copies && !a->has_ring) ||
        !disk_map(a->disk, r->off, r->len, write, &fd, &fd_off, &r->run)) {
        r->run = 0;
        pool_add(a, r);
        return false;
    }
    n = cut_vectors(r);
    moved = copy_now(a, r, fd, fd_off, n);
    if (moved == -EAGAIN && a->has_ring && ring_add(a, r, fd, fd_off))
        return false;
    unmap_run(a, r, moved > 0 ? (u64)moved : 0);
    if (moved > 0)
        return true;
    /* A file that ends early reads as the format says, which the blocking call knows. */
    if (moved == 0 || moved == -EAGAIN)
        pool_add(a, r);
    else
        aio_finish(r, (int)moved);
    return false;
}

static void go_on(struct aio *a, struct aio_req *r)
{
    while (r->len)
        if (!move_run(a, r))
            return;
    aio_finish(r, 0);
}

void aio_moved(struct aio *a, struct aio_req *r, s64 n)
{
    unmap_run(a, r, n > 0 ? (u64)n : 0);
    if (n > 0)
        go_on(a, r);
    else if (n == 0 || n == -EAGAIN || n == -EINTR || n == -EOPNOTSUPP)
        pool_add(a, r);
    else
        aio_finish(r, (int)n);
}

void aio_submit(struct aio *a, struct aio_req *r)
{
    r->aio = a;
    r->run = 0;
    a->in_flight++;
    if (r->op != AIO_FLUSH && !range_ok(r->off, r->len, disk_bytes(a->disk)))
        aio_finish(r, -EINVAL);
    else if (r->op == AIO_READ || (r->op == AIO_WRITE && !disk_read_only(a->disk)))
        go_on(a, r);
    else if (r->op == AIO_FLUSH || (r->len && !disk_read_only(a->disk)))
        pool_add(a, r);
    else
        aio_finish(r, disk_read_only(a->disk) ? -EROFS : 0);
}

/* ---- completions ---- */

static unsigned reap(struct aio *a)
{
    return ring_reap(a) + pool_reap(a);
}

static void submit_ring(struct aio *a)
{
    if (a->has_ring && ring_submit(a))
        loop_task_queue(a->loop, &a->again);
}

void aio_kick(struct aio *a)
{
    submit_ring(a);
    if (a->in_flight && reap(a))
        submit_ring(a);
}

static void kick_again(void *arg)
{
    struct aio *a = arg;

    aio_kick(a);
    if (a->batch_done)
        a->batch_done(a->arg);
}

/* Before the look at what is done: what comes later makes it ready again. */
static void clear_event(struct aio *a)
{
    u64 count;

    ASSERT(read(a->event, &count, sizeof(count)) == sizeof(count) || errno == EAGAIN);
}

static void event_ready(void *arg, unsigned events)
{
    struct aio *a = arg;

    clear_event(a);
    if (reap(a)) {
        submit_ring(a);
        if (a->batch_done)
            a->batch_done(a->arg);
    }
}

void aio_drain(struct aio *a)
{
    struct pollfd p = {.fd = a->event, .events = POLLIN};

    for (;;) {
        aio_kick(a);
        if (!a->in_flight)
            return;
        /* The time limit is for a ring that refused what waits in it. */
        poll(&p, 1, 100);
        clear_event(a);
    }
}

unsigned aio_in_flight(const struct aio *a)
{
    return a->in_flight;
}

const char *aio_name(const struct aio *a)
{
    return a->has_ring ? "io_uring" : "threads";
}

/* ---- create and destroy ---- */

static int choose(struct aio *a, struct err *e)
{
    const char *want = getenv("RING3_AIO");
    int rc;

    if (!want || !strcmp(want, "auto")) {
        a->copies = true;
        (void)ring_open(a); /* the host may refuse it: then the workers do it */
        return 0;
    }
    if (!strcmp(want, "threads"))
        return 0;
    if (strcmp(want, "uring"))
        return err_set(e, EINVAL, "RING3_AIO=%s: auto, uring or threads", want);
    rc = ring_open(a);
    return rc ? err_set(e, -rc, "RING3_AIO=uring: this host refuses io_uring: %s", strerror(-rc))
              : 0;
}

int aio_create(struct aio **out, struct disk *d, struct loop *l, void (*batch_done)(void *arg),
               void *arg, struct err *e)
{
    struct aio *a = calloc(1, sizeof(*a));
    int rc;

    if (!a)
        return err_set(e, ENOMEM, "disk %s: no memory", disk_path(d));
    *a = (struct aio){.disk = d, .loop = l, .batch_done = batch_done, .arg = arg};
    a->again = (struct loop_task){.fn = kick_again, .arg = a};
    a->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->event < 0) {
        rc = err_set(e, errno, "disk %s: eventfd: %s", disk_path(d), strerror(errno));
        free(a);
        return rc;
    }
    pool_init(a);
    rc = choose(a, e);
    if (!rc)
        rc = loop_add_fd(l, a->event, LOOP_READ, event_ready, a, e);
    if (!rc) {
        *out = a;
        return 0;
    }
    ring_close(a);
    pool_fini(a);
    close(a->event);
    free(a);
    return rc;
}

void aio_destroy(struct aio *a)
{
    if (!a)
        return;
    aio_drain(a);
    loop_del_fd(a->loop, a->event);
    loop_task_cancel(a->loop, &a->again);
    ring_close(a);
    pool_fini(a);
    close(a->event);
    free(a);
}
