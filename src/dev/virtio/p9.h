/* p9.h - virtio 9P transport (virtio 1.2, 5.9): a folder of the host by 9P2000.L */
#pragma once

#include <limits.h>

#include "dev/virtio/virtio.h"
#include "host/p9/p9.h"

struct virtio_p9_config {
    const char *tag;   /* what the guest mounts; 1 to P9_TAG_MAX bytes */
    struct p9 *server; /* the device's from now on, also on failure */
};

struct virtio_p9 {
    struct virtio_dev dev;
    struct p9 *server;
    u8 config[2 + P9_TAG_MAX];              /* tag_len, tag */
    struct iovec out[IOV_MAX], in[IOV_MAX]; /* of the request at hand */
};

/* mem and loop outlive the device. Requests are done on the loop's thread, which blocks in the
 * host's file I/O. 0 or -errno. */
must_check int virtio_p9_create(const struct virtio_p9_config *cfg, struct mem *mem,
                                struct loop *loop, struct virtio_p9 **out, struct err *e);
/* After the I/O thread has ended. Closes the server. */
void virtio_p9_destroy(struct virtio_dev *dev);
