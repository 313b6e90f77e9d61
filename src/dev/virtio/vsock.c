/* vsock.c - virtio sockets: packets between the guest's driver and the connections (5.10) */
#include "dev/virtio/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/vsock_priv.h"
#include "host/usock.h"

#define F_STREAM    0
#define TYPE_STREAM 1

enum { RX, TX, EVENT, QUEUES };
#define QUEUE_SIZE 128

#define EVENT_TRANSPORT_RESET 0u

_Static_assert(offsetof(struct vsock_header, fwd_cnt) + 4 == VSOCK_HEADER, "packed by itself");

/* ---- to the driver ---- */

static bool next_buffer(struct virtio_vsock *v, struct virtq_chain *chain)
{
    struct virtq *q = &v->dev.queue[RX];

    v->starved = virtq_pop(q, chain) <= 0 && !(virtq_ask_kicks(q, true) && virtq_pop(q, chain) > 0);
    return !v->starved;
}

u32 vsock_room(struct virtio_vsock *v)
{
    struct virtq *q = &v->dev.queue[RX];
    struct virtq_chain chain;

    /* A buffer that cannot even take a header comes back empty. */
    for (unsigned i = 0; i < QUEUE_SIZE && next_buffer(v, &chain); i++) {
        if (chain.in_bytes > VSOCK_HEADER) {
            virtq_unpop(q);
            return chain.in_bytes - VSOCK_HEADER;
        }
        virtq_push(q, chain.head, 0);
    }
    v->starved = true;
    return 0;
}

static bool send_packet(struct virtio_vsock *v, const struct vsock_header *h)
{
    struct virtq *q = &v->dev.queue[RX];
    u32 len = VSOCK_HEADER + h->len;
    struct virtq_chain chain;

    if (vsock_room(v) < MAX(h->len, 1u) || !next_buffer(v, &chain))
        return false;
    if (virtq_write(q, &chain, 0, h, VSOCK_HEADER) ||
        virtq_write(q, &chain, VSOCK_HEADER, v->scratch, h->len))
        len = 0;
    virtq_push(q, chain.head, len);
    return true;
}

bool vsock_send(struct vsock_conn *c, enum vsock_op op, u32 flags, u32 len)
{
    struct vsock_header h = {
        .src_cid = VSOCK_CID_HOST,
        .dst_cid = c->v->cid,
        .src_port = c->host_port,
        .dst_port = c->guest_port,
        .len = len,
        .type = TYPE_STREAM,
        .op = (u16)op,
        .flags = flags,
        .buf_alloc = VSOCK_BUFFER,
        .fwd_cnt = c->fwd_cnt,
    };

    if (!send_packet(c->v, &h))
        return false;
    c->fwd_told = c->fwd_cnt;
    return true;
}

static void send_resets(struct virtio_vsock *v)
{
    unsigned n = 0;

    while (n < v->resets && send_packet(v, &v->reset[n]))
        n++;
    v->resets -= n;
    memmove(v->reset, v->reset + n, v->resets * sizeof(v->reset[0]));
}

static void pump_conns(struct virtio_vsock *v)
{
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++) {
        struct vsock_conn *c = v->bucket[i], *next;

        for (; c; c = next) {
            next = c->next;
            vsock_conn_pump(c);
        }
    }
}

void vsock_pump(struct virtio_vsock *v)
{
    if (!v->dev.started)
        return;
    if (v->deaf)
        v->deaf = loop_add_fd(v->dev.loop, v->listener, LOOP_READ, vsock_accept, v, NULL) != 0;
    send_resets(v);
    pump_conns(v);
    virtio_signal(&v->dev, RX);
}

/* ---- from the driver ---- */

/* The answer to a packet of no connection. */
static void answer_reset(struct virtio_vsock *v, const struct vsock_header *h)
{
    if (h->op == OP_RST)
        return;
    v->reset[v->resets++] = (struct vsock_header){
        .src_cid = VSOCK_CID_HOST,
        .dst_cid = v->cid,
        .src_port = h->dst_port,
        .dst_port = h->src_port,
        .type = h->type,
        .op = OP_RST,
    };
}

/* The payload goes to v->scratch. */
static bool read_packet(struct virtio_vsock *v, struct virtq *q, struct virtq_chain *chain,
                        struct vsock_header *h)
{
    if (virtq_read(q, chain, 0, h, VSOCK_HEADER))
        return false;
    if (h->src_cid != v->cid || h->dst_cid != VSOCK_CID_HOST)
        return false;
    if (h->op != OP_RW)
        h->len = 0;
    return h->len <= VSOCK_PACKET_MAX && !virtq_read(q, chain, VSOCK_HEADER, v->scratch, h->len);
}

static s64 packet(struct virtio_dev *d, struct virtq *q, struct virtq_chain *chain)
{
    struct virtio_vsock *v = container_of(d, struct virtio_vsock, dev);
    struct vsock_header h;
    struct vsock_conn *c;

    v->stalled = v->resets == VSOCK_RESETS;
    if (v->stalled)
        return VIRTIO_STALL; /* until the driver has buffers for the answers */
    if (!read_packet(v, q, chain, &h))
        return 0;
    c = vsock_find(v, h.src_port, h.dst_port);
    if (h.type != TYPE_STREAM)
        answer_reset(v, &h);
    else if (c)
        vsock_receive(c, &h);
    else if (h.op != OP_REQUEST || !vsock_connect(v, &h))
        answer_reset(v, &h);
    return 0;
}

static void send_event(struct virtio_vsock *v)
{
    const u32 id = EVENT_TRANSPORT_RESET;
    struct virtq *q = &v->dev.queue[EVENT];
    struct virtq_chain chain;

    if (!v->reset_event || virtq_pop(q, &chain) <= 0)
        return;
    v->reset_event = false;
    virtq_push(q, chain.head, virtq_write(q, &chain, 0, &id, sizeof(id)) ? 0 : sizeof(id));
    virtio_signal(&v->dev, EVENT);
}

/* ---- what the core calls ---- */

static void forget_all(struct virtio_vsock *v)
{
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++)
        while (v->bucket[i])
            vsock_conn_free(v->bucket[i]);
    v->resets = 0;
}

static void task(void *arg)
{
    struct virtio_vsock *v = arg;

    if (v->dev.started)
        send_event(v);
}

static void start(struct virtio_dev *d)
{
    struct virtio_vsock *v = container_of(d, struct virtio_vsock, dev);

    loop_task_queue(d->loop, &v->task);
}

static void stop(struct virtio_dev *d)
{
    struct virtio_vsock *v = container_of(d, struct virtio_vsock, dev);

    forget_all(v);
    v->starved = v->reset_event = false;
}

static void kick(struct virtio_dev *d, unsigned q)
{
    struct virtio_vsock *v = container_of(d, struct virtio_vsock, dev);

    if (q == EVENT) {
        send_event(v);
        return;
    }
    if (q == RX)
        v->starved = false;
    vsock_pump(v);
    v->stalled = false;
    virtio_process(d, TX, packet);
    vsock_pump(v);
    if (v->stalled && v->resets < VSOCK_RESETS)
        virtio_kick(d, TX);
}

static const struct virtio_ops ops = {
    .name = "virtio-vsock",
    .id = VIRTIO_VSOCK,
    .pci_class = 0x028000,
    .start = start,
    .stop = stop,
    .kick = kick,
};

/* ---- state ---- */

static const struct snap_field fields[] = {
    SNAP_BOOL(struct virtio_vsock, reset_event),
    SNAP_END,
};

static int check(const void *scratch, struct err *e)
{
    return 0;
}

/* Called before the device starts with what the guest had set up. */
static void loaded(void *obj)
{
    struct virtio_vsock *v = obj;

    forget_all(v);
    v->reset_event = true;
}

const struct snap_desc virtio_vsock_snap = {
    .name = "virtio-vsock",
    .version = 1,
    .size = sizeof(struct virtio_vsock),
    .fields = fields,
    .check = check,
    .loaded = loaded,
};

/* ---- life ---- */

int virtio_vsock_create(const struct virtio_vsock_config *cfg, struct mem *mem, struct loop *loop,
                        struct virtio_vsock **out, struct err *e)
{
    static const u16 sizes[QUEUES] = {QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE};
    struct virtio_vsock *v = calloc(1, sizeof(*v));
    int rc;

    if (!v)
        return err_set(e, ENOMEM, "virtio-vsock: no memory");
    v->cid = cfg->cid;
    snprintf(v->path, sizeof(v->path), "%s", cfg->path);
    v->next_port = VSOCK_HOST_PORT;
    memcpy(v->config, &cfg->cid, sizeof(v->config));
    v->dev.features = BIT64(F_STREAM);
    v->dev.config = v->config;
    v->dev.config_len = sizeof(v->config);
    v->task = (struct loop_task){.fn = task, .arg = v};
    rc = usock_listen(cfg->path, &v->listener, e);
    if (rc) {
        free(v);
        return rc;
    }
    rc = virtio_init(&v->dev, &ops, mem, loop, sizes, QUEUES, e);
    if (!rc)
        rc = loop_add_fd(loop, v->listener, LOOP_READ, vsock_accept, v, e);
    if (rc) {
        virtio_vsock_destroy(&v->dev);
        return rc;
    }
    *out = v;
    return 0;
}

void virtio_vsock_destroy(struct virtio_dev *dev)
{
    struct virtio_vsock *v = container_of(dev, struct virtio_vsock, dev);

    loop_del_fd(dev->loop, v->listener);
    loop_task_cancel(dev->loop, &v->task);
    forget_all(v);
    usock_unlisten(v->path, v->listener);
    virtio_fini(dev);
    free(v);
}

struct virtio_dev *virtio_vsock_dev(struct virtio_vsock *v)
{
    return &v->dev;
}
