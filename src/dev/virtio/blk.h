/* blk.h - virtio block device (virtio 1.2, 5.2) */
#pragma once

#include "dev/virtio/virtio.h"
#include "host/disk/disk.h"

struct virtio_blk;

struct virtio_blk_config {
    struct disk *disk;  /* becomes the device's own, which closes it */
    const char *serial; /* NULL: none; the first BLK_SERIAL_MAX bytes count; copied */
    unsigned queues;    /* 1..BLK_QUEUES_MAX */
};

/* Requests run on `loop`, the device's I/O thread. Main thread. 0, or -errno and
 * then the disk is still the caller's. */
must_check int virtio_blk_create(const struct virtio_blk_config *cfg, struct mem *mem,
                                 struct loop *loop, struct virtio_blk **out, struct err *e);
/* The I/O thread has ended, or never ran. What is in flight is finished first. */
void virtio_blk_destroy(struct virtio_dev *d);

struct virtio_dev *virtio_blk_dev(struct virtio_blk *b);
extern const struct snap_desc virtio_blk_snap; /* obj = struct virtio_blk */
