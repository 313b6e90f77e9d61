/* vsock.h - virtio sockets, with unix sockets on the host's side (virtio 1.2, 5.10) */
#pragma once

#include "dev/virtio/virtio.h"

#define VSOCK_CID_HOST 2u

/* The host's programs meet the guest's as follows. Who connects to the unix socket `path` and sends
 * "CONNECT <port>\n" is connected to what listens at that port in the guest, and then reads
 * "OK <port of the host's end>\n"; the socket is closed when nothing listens. What the guest
 * connects to port P of CID 2 reaches the unix socket "<path>_P". */
struct virtio_vsock_config {
    u64 cid;          /* the guest's: 3..UINT32_MAX-1 */
    const char *path; /* at most VSOCK_PATH_BYTES - 1; copied */
};

struct virtio_vsock;

/* Listens at the path. mem and loop outlive the device. 0 or -errno. */
must_check int virtio_vsock_create(const struct virtio_vsock_config *cfg, struct mem *mem,
                                   struct loop *loop, struct virtio_vsock **out, struct err *e);
/* After the I/O thread has ended: closes every connection and removes the path. */
void virtio_vsock_destroy(struct virtio_dev *dev);
struct virtio_dev *virtio_vsock_dev(struct virtio_vsock *v);

/* Connections do not live on in a snapshot: the guest is told that they are gone. */
extern const struct snap_desc virtio_vsock_snap; /* obj = struct virtio_dev */
