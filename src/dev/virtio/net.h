/* net.h - virtio network device (virtio 1.2, 5.1) */
#pragma once

#include "dev/virtio/virtio.h"
#include "host/net/net.h"

struct virtio_net;

/* `backend` runs on the same loop and becomes the device's: it is closed with it. mem and loop
 * outlive the device. 0 or -errno, and then the backend is still the caller's. */
must_check int virtio_net_create(const u8 mac[6], struct netdev *backend, struct mem *mem,
                                 struct loop *loop, struct virtio_dev **out, struct err *e);
/* After the I/O thread has ended. */
void virtio_net_destroy(struct virtio_dev *dev);
