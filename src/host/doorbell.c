/* doorbell.c - wakes an event loop from other threads without a lock (an eventfd) */
#include "host/doorbell.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void answer(void *arg, unsigned events)
{
    struct doorbell *d = arg;
    u64 count;

    while (read(d->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    __atomic_store_n(&d->rung, false, __ATOMIC_SEQ_CST); /* from here on a ring is a new one */
    d->fn(d->arg);
}

int doorbell_open(struct doorbell *d, struct loop *loop, void (*fn)(void *arg), void *arg,
                  struct err *e)
{
    int rc;

    *d = (struct doorbell){.loop = loop, .fn = fn, .arg = arg};
    d->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (d->fd < 0)
        return err_set(e, errno, "eventfd: %s", strerror(errno));
    rc = loop_add_fd(loop, d->fd, LOOP_READ, answer, d, e);
    if (rc)
        close(d->fd);
    return rc;
}

void doorbell_close(struct doorbell *d)
{
    loop_del_fd(d->loop, d->fd);
    close(d->fd);
}

void doorbell_ring(struct doorbell *d)
{
    const u64 one = 1;

    if (__atomic_exchange_n(&d->rung, true, __ATOMIC_SEQ_CST))
        return;
    while (write(d->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}
