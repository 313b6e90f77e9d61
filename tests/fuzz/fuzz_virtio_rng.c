/* fuzz_virtio_rng.c - an entropy device under a hostile driver, its host failing now and then */
#include <errno.h>
#include <stdlib.h>

#include "virtio_input.h"

#include "dev/virtio/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int host_random(void *ctx, void *buf, size_t len)
{
    ASSERT(len && len <= RNG_REQUEST_MAX);
    memset(buf, 0x5a, len);
    return vf_take(ctx, 1) == 0xff ? -EIO : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_fuzz *f = malloc(sizeof(*f));
    struct virtio_rng_config cfg = {host_random, f};
    struct virtio_rng *rng;
    int rc;

    ASSERT(f);
    vf_open(f, data, size);
    rc = virtio_rng_create(&cfg, f->mem, f->loop, &rng, NULL);
    ASSERT(rc == 0);
    vf_run(f, &rng->dev);
    virtio_rng_destroy(&rng->dev);
    vf_close(f);
    free(f);
    return 0;
}
