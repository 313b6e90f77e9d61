/* net.c - virtio network device: one pair of queues and a control queue (virtio 1.2, 5.1) */
#include "dev/virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/net/checksum.h"

#define QUEUE_SIZE 256

enum { RX, TX, CTRL, QUEUES };

#define F_CSUM       0
#define F_GUEST_CSUM 1
#define F_MAC        5
#define F_HOST_TSO4  11
#define F_HOST_TSO6  12
#define F_MRG_RXBUF  15
#define F_STATUS     16
#define F_CTRL_VQ    17
#define F_CTRL_RX    18
#define F_CTRL_MAC   23

/* struct virtio_net_config: mac[6], le16 status, max_virtqueue_pairs */
#define CONFIG_BYTES  10
#define CONFIG_STATUS 6
#define CONFIG_PAIRS  8
#define STATUS_LINK   1

/* struct virtio_net_hdr: flags, gso_type, le16 hdr_len, gso_size, csum_start, csum_offset,
 * num_buffers */
#define HEADER_BYTES    12
#define HDR_NEEDS_CSUM  1
#define HDR_DATA_VALID  2
#define GSO_NONE        0
#define GSO_TCPV4       1
#define GSO_TCPV6       4
#define GSO_ECN         0x80
#define OFF_NUM_BUFFERS 10

#define CTRL_RX      0
#define CTRL_RX_LAST 5 /* PROMISC .. NOBCAST: all frames arrive in any case */
#define CTRL_MAC     1
#define CTRL_MAC_SET 1
#define CTRL_OK      0
#define CTRL_ERROR   1
#define RX_BUFFERS   64 /* chains that one frame may take */

struct virtio_net {
    struct virtio_dev dev;
    struct netdev *backend;
    u8 config[CONFIG_BYTES];
    u8 frame[NET_FRAME_MAX]; /* of the guest's, being sent */
};

/* ---- from the guest ---- */

/* What the header asks for beyond plain sending is done here, once. False: it makes no sense. */
static bool finish_frame(struct virtio_net *n, const u8 *hdr, size_t len)
{
    u8 gso = hdr[1] & (u8)~GSO_ECN;
    u16 start, offset;

    memcpy(&start, hdr + 6, 2);
    memcpy(&offset, hdr + 8, 2);
    if (gso != GSO_NONE && gso != GSO_TCPV4 && gso != GSO_TCPV6)
        return false;
    if (gso != GSO_NONE && !(hdr[0] & HDR_NEEDS_CSUM))
        return false;
    return !(hdr[0] & HDR_NEEDS_CSUM) || checksum_complete(n->frame, len, start, offset);
}

static s64 send_one(struct virtio_dev *dev, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_net *n = container_of(dev, struct virtio_net, dev);
    u8 hdr[HEADER_BYTES];
    u32 len;

    if (c->out_bytes <= HEADER_BYTES || c->out_bytes - HEADER_BYTES > NET_FRAME_MAX)
        return 0;
    len = c->out_bytes - HEADER_BYTES;
    if (virtq_read(q, c, 0, hdr, HEADER_BYTES) || virtq_read(q, c, HEADER_BYTES, n->frame, len))
        return 0;
    if (!finish_frame(n, hdr, len))
        return 0;
    return netdev_send(n->backend, n->frame, len) == -EAGAIN ? VIRTIO_STALL : 0;
}

static void writable(void *arg)
{
    struct virtio_net *n = arg;

    if (n->dev.started)
        virtio_process(&n->dev, TX, send_one);
}

/* ---- to the guest ---- */

/* How many chains the frame takes; 0 when the driver has not offered enough. Nothing is taken. */
static unsigned count_buffers(struct virtio_net *n, struct virtq *q, size_t bytes)
{
    bool merge = virtio_has(&n->dev, F_MRG_RXBUF);
    struct virtq_chain c;
    unsigned taken = 0;
    size_t room = 0;

    while (room < bytes && taken < (merge ? RX_BUFFERS : 1) && virtq_pop(q, &c) > 0) {
        room += c.in_bytes;
        taken++;
    }
    for (unsigned i = 0; i < taken; i++)
        virtq_unpop(q);
    return room >= bytes ? taken : 0;
}

/* The header, then the frame, over one chain after the other. The guest may have changed its
 * descriptors since they were counted: then part of the frame is lost, which is its own affair. */
static void put_frame(struct virtio_net *n, struct virtq *q, unsigned buffers, const u8 *frame,
                      size_t len)
{
    u8 valid = virtio_has(&n->dev, F_GUEST_CSUM) ? HDR_DATA_VALID : 0;
    u8 hdr[HEADER_BYTES] = {valid, GSO_NONE, [OFF_NUM_BUFFERS] = (u8)buffers};
    struct virtq_chain c;
    u32 skip = HEADER_BYTES;

    for (unsigned i = 0; i < buffers && virtq_pop(q, &c) > 0; i++) {
        u32 part;

        if (skip && virtq_write(q, &c, 0, hdr, HEADER_BYTES))
            c.in_bytes = skip = 0;
        part = (u32)MIN(c.in_bytes - skip, len);
        if (virtq_write(q, &c, skip, frame, part))
            part = 0;
        virtq_push(q, c.head, skip + part);
        frame += part;
        len -= part;
        skip = 0;
    }
}

static bool receive(void *arg, const u8 *frame, size_t len)
{
    struct virtio_net *n = arg;
    struct virtq *q = &n->dev.queue[RX];
    unsigned buffers;

    if (!n->dev.started || !q->enabled || q->broken)
        return true; /* nobody listens: lost */
    virtq_ask_kicks(q, false);
    buffers = count_buffers(n, q, HEADER_BYTES + len);
    if (!buffers && virtq_ask_kicks(q, true)) /* it came just now */
        buffers = count_buffers(n, q, HEADER_BYTES + len);
    if (buffers) {
        put_frame(n, q, buffers, frame, len);
        virtio_signal(&n->dev, RX);
    } else if (q->broken) {
        virtio_broken(&n->dev, q->broken);
    }
    /* One chain that is too small for it without merging never gets better. */
    return buffers || (!virtio_has(&n->dev, F_MRG_RXBUF) && virtq_has_more(q));
}

/* ---- control (5.1.6.5) ---- */

static u8 set_mac(struct virtio_net *n, struct virtq *q, struct virtq_chain *c)
{
    u8 mac[6];

    if (c->out_bytes != 2 + sizeof(mac) || virtq_read(q, c, 2, mac, sizeof(mac)))
        return CTRL_ERROR;
    lock_take(&n->dev.lock);
    memcpy(n->config, mac, sizeof(mac));
    lock_drop(&n->dev.lock);
    return CTRL_OK;
}

static s64 control_one(struct virtio_dev *dev, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_net *n = container_of(dev, struct virtio_net, dev);
    u8 command[2], ack = CTRL_ERROR;

    if (virtq_read(q, c, 0, command, sizeof(command)) || c->in_bytes < 1)
        return 0;
    if (command[0] == CTRL_RX && command[1] <= CTRL_RX_LAST)
        ack = CTRL_OK;
    else if (command[0] == CTRL_MAC && command[1] == CTRL_MAC_SET)
        ack = set_mac(n, q, c);
    else if (command[0] == CTRL_MAC && command[1] == 0)
        ack = CTRL_OK; /* the filter table: all frames arrive in any case */
    return virtq_write(q, c, 0, &ack, 1) ? 0 : 1;
}

/* ---- life ---- */

static void kick(struct virtio_dev *dev, unsigned q)
{
    struct virtio_net *n = container_of(dev, struct virtio_net, dev);

    switch (q) {
    case RX: netdev_resume(n->backend); break;
    case TX: virtio_process(dev, TX, send_one); break;
    default: virtio_process(dev, CTRL, control_one); break;
    }
}

static void set_link(struct virtio_net *n, bool up)
{
    lock_take(&n->dev.lock);
    n->config[CONFIG_STATUS] = up ? STATUS_LINK : 0;
    lock_drop(&n->dev.lock);
}

static void link_changed(void *arg, bool up)
{
    struct virtio_net *n = arg;

    set_link(n, up);
    virtio_config_changed(&n->dev);
}

static void stop(struct virtio_dev *dev)
{
}

static const struct virtio_ops ops = {
    .name = "virtio-net",
    .id = VIRTIO_NET,
    .pci_class = 0x020000,
    .kick = kick,
    .stop = stop,
};

int virtio_net_create(const u8 mac[6], struct netdev *backend, struct mem *mem, struct loop *loop,
                      struct virtio_dev **out, struct err *e)
{
    static const u16 sizes[QUEUES] = {QUEUE_SIZE, QUEUE_SIZE, 64};
    struct virtio_net *n = calloc(1, sizeof(*n));
    struct netdev_user user = {receive, writable, link_changed, n};
    int rc;

    if (!n)
        return err_set(e, ENOMEM, "network: no memory");
    memcpy(n->config, mac, 6);
    n->config[CONFIG_PAIRS] = 1;
    n->dev.config = n->config;
    n->dev.config_len = CONFIG_BYTES;
    n->dev.features = BIT64(F_CSUM) | BIT64(F_GUEST_CSUM) | BIT64(F_MAC) | BIT64(F_MRG_RXBUF) |
                      BIT64(F_STATUS) | BIT64(F_CTRL_VQ) | BIT64(F_CTRL_RX) | BIT64(F_CTRL_MAC);
    if (backend->gso)
        n->dev.features |= BIT64(F_HOST_TSO4) | BIT64(F_HOST_TSO6);
    rc = virtio_init(&n->dev, &ops, mem, loop, sizes, QUEUES, e);
    if (rc) {
        free(n);
        return rc;
    }
    n->backend = backend;
    set_link(n, backend->link);
    netdev_connect(backend, &user);
    *out = &n->dev;
    return 0;
}

void virtio_net_destroy(struct virtio_dev *dev)
{
    struct virtio_net *n = container_of(dev, struct virtio_net, dev);

    netdev_close(n->backend);
    virtio_fini(dev);
    free(n);
}
