/* chardev_priv.h - the common part of byte stream backends (private to host/) */
#pragma once

#include "base/lock.h"
#include "host/chardev.h"

/* What a backend does. Called with no lock of the chardev held. */
struct chardev_backend {
    void (*output)(struct chardev *c); /* the buffer is no longer empty; any thread, any lock */
    void (*accept)(struct chardev *c); /* read again; any thread, any lock */
    void (*close)(struct chardev *c, unsigned drain_ms); /* sends, releases, frees the struct */
};

/* First member of each backend's struct. */
struct chardev {
    const struct chardev_backend *backend;
    struct chardev_user user; /* changed on the loop thread only */

    struct lock lock; /* below; never held around callbacks */
    u8 *ring;         /* CHARDEV_BUFFER bytes, NULL = output is dropped */
    u32 head, len;    /* oldest byte, bytes held */
    bool hungry;      /* somebody was refused room */
    bool broken;
};

must_check int chardev_init(struct chardev *c, const struct chardev_backend *b, bool with_ring,
                            struct err *e);
void chardev_fini(struct chardev *c);
/* The longest contiguous run of the oldest bytes; they stay until chardev_drop. */
size_t chardev_peek(struct chardev *c, const u8 **data);
/* Forgets the n oldest bytes and tells a device that waits for room. Loop thread. */
void chardev_drop(struct chardev *c, size_t n);
/* Output is lost from now on. Loop thread. */
void chardev_break(struct chardev *c);
