/* aio_pool.c - worker threads for disk requests that block */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "host/disk/aio_priv.h"

static int perform(struct disk *d, struct aio_req *r)
{
    switch (r->op) {
    case AIO_READ: return disk_readv(d, r->off, r->iov, r->n);
    case AIO_WRITE: return disk_writev(d, r->off, r->iov, r->n);
    case AIO_FLUSH: return disk_flush(d);
    case AIO_DISCARD: return disk_discard(d, r->off, r->len);
    case AIO_WRITE_ZEROES: return disk_write_zeroes(d, r->off, r->len, r->unmap);
    }
    return -EOPNOTSUPP;
}

/* The lock is held, and dropped meanwhile. */
static void work_locked(struct aio *a)
{
    struct aio_req *r = a->first;
    u64 one = 1;

    a->first = r->next;
    a->queued--;
    if (!a->first)
        a->last = &a->first;
    lock_drop(&a->lock);
    r->rc = perform(a->disk, r);
    lock_take(&a->lock);
    r->next = a->finished;
    a->finished = r;
    /* Only a counter that is full refuses, and then it is ready all the same. */
    if (!r->next && write(a->event, &one, sizeof(one)) < 0)
        ASSERT(errno == EAGAIN);
}

static void *worker(void *arg)
{
    struct aio *a = arg;

    lock_take(&a->lock);
    while (!a->quit) {
        if (a->first) {
            work_locked(a);
            continue;
        }
        a->idle++;
        lock_wait(&a->lock, &a->work);
        a->idle--;
    }
    lock_drop(&a->lock);
    return NULL;
}

/* Signals are the main thread's. */
static void add_thread_locked(struct aio *a)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&a->thread[a->threads], NULL, worker, a) == 0) {
        pthread_setname_np(a->thread[a->threads], "disk worker");
        a->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void pool_add(struct aio *a, struct aio_req *r)
{
    lock_take(&a->lock);
    r->next = NULL;
    *a->last = r;
    a->last = &r->next;
    a->queued++;
    if (a->queued > a->idle && a->threads < AIO_THREADS_MAX)
        add_thread_locked(a);
    if (a->threads)
        pthread_cond_signal(&a->work);
    else
        work_locked(a); /* the host gives us no thread: slow, but it works */
    lock_drop(&a->lock);
}

unsigned pool_reap(struct aio *a)
{
    struct aio_req *list, *oldest = NULL;
    unsigned count = 0;

    lock_take(&a->lock);
    list = a->finished;
    a->finished = NULL;
    lock_drop(&a->lock);
    while (list) {
        struct aio_req *r = list;

        list = r->next;
        r->next = oldest;
        oldest = r;
    }
    while (oldest) {
        struct aio_req *r = oldest;

        oldest = r->next;
        count++;
        aio_finish(r, r->rc);
    }
    return count;
}

void pool_init(struct aio *a)
{
    lock_init(&a->lock);
    pthread_cond_init(&a->work, NULL);
    a->last = &a->first;
}

void pool_fini(struct aio *a)
{
    lock_take(&a->lock);
    ASSERT(!a->first && !a->finished);
    a->quit = true;
    pthread_cond_broadcast(&a->work);
    lock_drop(&a->lock);
    for (unsigned i = 0; i < a->threads; i++)
        pthread_join(a->thread[i], NULL);
    pthread_cond_destroy(&a->work);
    lock_destroy(&a->lock);
}
