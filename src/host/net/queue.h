/* queue.h - frames that wait for the guest (private to host/net/) */
#pragma once

#include "host/net/net.h"

/* What waits when the guest has no room: at most NET_QUEUE_BYTES, then frames are lost. */
struct net_queue {
    struct net_frame *first, **last;
    size_t bytes;
};

void net_queue_init(struct net_queue *q);
void net_queue_fini(struct net_queue *q);
/* Hands the frame to the user, or keeps it behind those that wait already. */
void net_queue_deliver(struct net_queue *q, const struct netdev_user *user, const u8 *frame,
                       size_t len);
/* Hands over what waits, as far as it is taken. */
void net_queue_resume(struct net_queue *q, const struct netdev_user *user);
