/* fuzz_virtio_balloon.c - a balloon under a hostile driver */
#include <stdlib.h>

#include "virtio_input.h"

#include "dev/virtio/balloon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_fuzz *f = malloc(sizeof(*f));
    struct virtio_balloon_stats stats;
    struct virtio_balloon *bal;
    u32 target, actual;
    u64 discarded;
    int rc;

    ASSERT(f);
    vf_open(f, data, size);
    rc = virtio_balloon_create(f->mem, f->loop, &bal, NULL);
    ASSERT(rc == 0);
    virtio_balloon_set(bal, (u32)vf_take(f, 4));
    vf_run(f, &bal->dev);
    virtio_balloon_stats(bal, &stats, &discarded);
    virtio_balloon_get(bal, &target, &actual);
    ASSERT(target == bal->target && stats.known < BIT(BALLOON_STATS));
    virtio_balloon_destroy(&bal->dev);
    vf_close(f);
    free(f);
    return 0;
}
