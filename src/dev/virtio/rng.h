/* rng.h - virtio entropy device (virtio 1.2, 5.4) */
#pragma once

#include "dev/virtio/virtio.h"

struct virtio_rng_config {
    /* Fills all of buf from the host's generator: 0 or -errno. On the I/O thread; may block. */
    int (*random)(void *ctx, void *buf, size_t len);
    void *ctx;
};

struct virtio_rng {
    struct virtio_dev dev;
    struct virtio_rng_config cfg;
};

/* cfg is copied; mem and loop outlive the device. A request gets at most RNG_REQUEST_MAX bytes.
 * When the host has none to give, the request waits for the next kick. 0 or -errno. */
must_check int virtio_rng_create(const struct virtio_rng_config *cfg, struct mem *mem,
                                 struct loop *loop, struct virtio_rng **out, struct err *e);
/* After the I/O thread has ended. */
void virtio_rng_destroy(struct virtio_dev *dev);
