/* queue.c - frames that wait for the guest */
#include "host/net/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

struct net_frame {
    struct net_frame *next;
    size_t len;
    u8 data[];
};

void net_queue_init(struct net_queue *q)
{
    *q = (struct net_queue){.last = &q->first};
}

static void drop_first(struct net_queue *q)
{
    struct net_frame *f = q->first;

    q->first = f->next;
    if (!q->first)
        q->last = &q->first;
    q->bytes -= f->len;
    free(f);
}

void net_queue_fini(struct net_queue *q)
{
    while (q->first)
        drop_first(q);
}

void net_queue_deliver(struct net_queue *q, const struct netdev_user *user, const u8 *frame,
                       size_t len)
{
    struct net_frame *f;

    if (!user->receive || (!q->first && user->receive(user->arg, frame, len)))
        return;
    if (q->bytes + len > NET_QUEUE_BYTES)
        return;
    f = malloc(sizeof(*f) + len);
    if (!f)
        return; /* lost, as on any network */
    f->next = NULL;
    f->len = len;
    memcpy(f->data, frame, len);
    *q->last = f;
    q->last = &f->next;
    q->bytes += len;
}

void net_queue_resume(struct net_queue *q, const struct netdev_user *user)
{
    while (q->first && (!user->receive || user->receive(user->arg, q->first->data, q->first->len)))
        drop_first(q);
}
