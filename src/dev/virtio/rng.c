/* rng.c - virtio entropy device (virtio 1.2, 5.4) */
#include "dev/virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define REQUESTQ_SIZE 64

static s64 request(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_rng *r = container_of(d, struct virtio_rng, dev);
    u32 n = MIN(c->in_bytes, (u32)RNG_REQUEST_MAX);
    u8 bytes[RNG_REQUEST_MAX];
    int rc = n ? r->cfg.random(r->cfg.ctx, bytes, n) : 0;

    if (rc) {
        log_guest("virtio-rng: the host's random numbers: %s", strerror(-rc));
        return VIRTIO_STALL;
    }
    rc = virtq_write(q, c, 0, bytes, n);
    explicit_bzero(bytes, sizeof(bytes));
    return rc ? 0 : n;
}

static void kick(struct virtio_dev *d, unsigned q)
{
    virtio_process(d, q, request);
}

static void stop(struct virtio_dev *d)
{
}

static const struct virtio_ops ops = {
    .name = "virtio-rng",
    .id = VIRTIO_RNG,
    .pci_class = 0xff0000,
    .stop = stop,
    .kick = kick,
};

int virtio_rng_create(const struct virtio_rng_config *cfg, struct mem *mem, struct loop *loop,
                      struct virtio_rng **out, struct err *e)
{
    static const u16 sizes[] = {REQUESTQ_SIZE};
    struct virtio_rng *r = calloc(1, sizeof(*r));
    int rc;

    if (!r)
        return err_set(e, ENOMEM, "virtio-rng: no memory");
    r->cfg = *cfg;
    rc = virtio_init(&r->dev, &ops, mem, loop, sizes, ARRAY_SIZE(sizes), e);
    if (rc) {
        free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void virtio_rng_destroy(struct virtio_dev *dev)
{
    struct virtio_rng *r = container_of(dev, struct virtio_rng, dev);

    virtio_fini(dev);
    free(r);
}
