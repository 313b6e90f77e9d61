/* p9.c - virtio 9P transport (virtio 1.2, 5.9) */
#include "dev/virtio/p9.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define QUEUE_SIZE   256 /* a message of 512 KiB in pages, without indirect descriptors */
#define F_MOUNT_TAG  0
#define PCI_CLASS_FS 0x018000 /* other mass storage */

/* The data of reads and writes goes between the host's files and guest memory without a copy. */
static s64 request(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_p9 *v = container_of(d, struct virtio_p9, dev);
    struct p9_message m = {.out = v->out, .in = v->in};
    u32 n;

    m.out_n = virtq_iov(q, c, false, 0, c->out_bytes, v->out, ARRAY_SIZE(v->out));
    m.in_n = virtq_iov(q, c, true, 0, c->in_bytes, v->in, ARRAY_SIZE(v->in));
    if (m.out_n < 0 || m.in_n < 0) {
        log_guest("virtio-9p: a request that does not lie in memory");
        return 0;
    }
    n = p9_request(v->server, &m);
    virtq_written(q, c, 0, n);
    return n;
}

static void kick(struct virtio_dev *d, unsigned q)
{
    virtio_process(d, q, request);
}

static void stop(struct virtio_dev *d)
{
    p9_reset(container_of(d, struct virtio_p9, dev)->server);
}

static const struct virtio_ops ops = {
    .name = "virtio-9p",
    .id = VIRTIO_9P,
    .pci_class = PCI_CLASS_FS,
    .stop = stop,
    .kick = kick,
};

int virtio_p9_create(const struct virtio_p9_config *cfg, struct mem *mem, struct loop *loop,
                     struct virtio_p9 **out, struct err *e)
{
    static const u16 sizes[] = {QUEUE_SIZE};
    struct virtio_p9 *v = calloc(1, sizeof(*v));
    size_t len = strlen(cfg->tag);
    int rc;

    ASSERT(len && len <= P9_TAG_MAX);
    if (!v) {
        p9_close(cfg->server);
        return err_set(e, ENOMEM, "virtio-9p: no memory");
    }
    v->server = cfg->server;
    v->config[0] = (u8)len;
    memcpy(v->config + 2, cfg->tag, len);
    v->dev.config = v->config;
    v->dev.config_len = (u32)(2 + len);
    v->dev.features = BIT64(F_MOUNT_TAG);
    rc = virtio_init(&v->dev, &ops, mem, loop, sizes, ARRAY_SIZE(sizes), e);
    if (rc) {
        p9_close(v->server);
        free(v);
        return rc;
    }
    *out = v;
    return 0;
}

void virtio_p9_destroy(struct virtio_dev *dev)
{
    struct virtio_p9 *v = container_of(dev, struct virtio_p9, dev);

    virtio_fini(dev);
    p9_close(v->server);
    free(v);
}
