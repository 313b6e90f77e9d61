/* fuzz_virtio_net.c - virtio-net's queues over a network that echoes, and over user mode */
#include <errno.h>
#include <stdlib.h>

#include "dev/virtio/net.h"
#include "virtio_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HELD_MAX 4

/* Sends back what it got, and refuses now and then. */
struct echo {
    struct netdev net;
    unsigned count;
    size_t len[HELD_MAX];
    u8 frame[HELD_MAX][NET_FRAME_MAX];
};

static void give_back(struct echo *b)
{
    while (b->count && b->net.user.receive(b->net.user.arg, b->frame[0], b->len[0])) {
        b->count--;
        memmove(b->len, b->len + 1, b->count * sizeof(b->len[0]));
        memmove(b->frame, b->frame + 1, b->count * sizeof(b->frame[0]));
    }
}

static int echo_send(struct netdev *n, const u8 *frame, size_t len)
{
    struct echo *b = container_of(n, struct echo, net);

    ASSERT(len && len <= NET_FRAME_MAX);
    if (b->count == HELD_MAX)
        return -EAGAIN;
    memcpy(b->frame[b->count], frame, len);
    b->len[b->count++] = len;
    return 0;
}

/* The driver has offered buffers: what waits is delivered, then the sender may go on. */
static void echo_resume(struct netdev *n)
{
    struct echo *b = container_of(n, struct echo, net);

    give_back(b);
    if (b->count < HELD_MAX)
        n->user.writable(n->user.arg);
}

static void echo_close(struct netdev *n)
{
    free(container_of(n, struct echo, net));
}

static const struct netdev_ops echo_ops = {echo_send, echo_resume, echo_close};

static struct netdev *open_echo(void)
{
    struct echo *b = calloc(1, sizeof(*b));

    ASSERT(b);
    b->net = (struct netdev){.ops = &echo_ops, .gso = true, .link = true};
    return &b->net;
}

/* Restricted: what the input makes of frames reaches nothing outside of this process. */
static struct netdev *open_user(struct loop *loop)
{
    struct net_user_config cfg = {.restricted = true};
    struct netdev *net = NULL;
    int rc = net_open_user(&cfg, loop, &net, NULL);

    ASSERT(rc == 0);
    return net;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const u8 mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    struct virtio_fuzz *f = malloc(sizeof(*f));
    struct netdev *backend;
    struct virtio_dev *dev;
    int rc;

    ASSERT(f);
    vf_open(f, data, size);
    backend = vf_take(f, 1) & 1 ? open_user(f->loop) : open_echo();
    rc = virtio_net_create(mac, backend, f->mem, f->loop, &dev, NULL);
    ASSERT(rc == 0);
    vf_run(f, dev);
    virtio_net_destroy(dev);
    vf_close(f);
    free(f);
    return 0;
}
