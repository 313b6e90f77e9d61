/* doorbell.h - wakes an event loop from other threads without a lock (an eventfd) */
#pragma once

#include "host/loop.h"

/* Embedded in its owner. */
struct doorbell {
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    int fd;
    bool rung; /* atomic: fn has not begun since the last ring */
};

/* Whoever adds to the eventfd rings too: the kernel, for a guest that writes to an address
 * (engine.h, ioeventfd).
 *
 * fn(arg) runs on the loop thread after one or more rings. 0 or -errno. Main thread. */
must_check int doorbell_open(struct doorbell *d, struct loop *loop, void (*fn)(void *arg),
                             void *arg, struct err *e);
/* Afterwards fn does not run any more; nobody rings. Not from fn. */
void doorbell_close(struct doorbell *d);
/* Any thread, any locks; takes no lock, never blocks. A ring while fn runs makes it run again. */
void doorbell_ring(struct doorbell *d);
