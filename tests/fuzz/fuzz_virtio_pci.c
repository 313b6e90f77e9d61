/* fuzz_virtio_pci.c - PCI configuration, virtio registers and queues of a device that echoes */
#include <stdlib.h>

#include "virtio_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static s64 echo(struct virtio_dev *v, struct virtq *q, struct virtq_chain *c)
{
    static u8 buf[0x10000];
    u32 n = MIN(MIN(c->out_bytes, c->in_bytes), (u32)sizeof(buf));
    struct iovec iov[8];

    if (virtq_read(q, c, 0, buf, n) || virtq_write(q, c, 0, buf, n))
        return 0;
    if (virtq_iov(q, c, true, 0, n, iov, ARRAY_SIZE(iov)) > 0)
        virtq_written(q, c, 0, n);
    return n;
}

static void kick(struct virtio_dev *v, unsigned q)
{
    virtio_process(v, q, echo);
}

static void stop(struct virtio_dev *v)
{
}

static void config_written(struct virtio_dev *v, u32 off, u32 len)
{
}

static const struct virtio_ops ops = {
    .name = "echo",
    .id = VIRTIO_RNG,
    .pci_class = 0x00ff00,
    .stop = stop,
    .kick = kick,
    .config_written = config_written,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const u16 sizes[] = {256, 16};
    struct virtio_fuzz *f = malloc(sizeof(*f));
    struct virtio_dev v = {.config_len = 6};
    u8 config[6] = {0};
    int rc;

    ASSERT(f);
    vf_open(f, data, size);
    v.config = config;
    rc = virtio_init(&v, &ops, f->mem, f->loop, sizes, 2, NULL);
    ASSERT(rc == 0);
    vf_run(f, &v);
    virtio_fini(&v);
    vf_close(f);
    free(f);
    return 0;
}
