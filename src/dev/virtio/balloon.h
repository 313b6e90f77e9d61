/* balloon.h - virtio memory balloon (virtio 1.2, 5.5) */
#pragma once

#include "dev/virtio/virtio.h"

#define BALLOON_PAGE  4096u
#define BALLOON_STATS 10 /* tags that 5.5.6.4 knows */

struct virtio_balloon_stats {
    u64 value[BALLOON_STATS];
    u16 known; /* a bit a tag */
};

struct virtio_balloon {
    struct virtio_dev dev;
    u8 config[16];
    u32 target;            /* under dev.lock, as config */
    struct loop_task task; /* newer statistics are wanted */

    /* The I/O thread's */
    bool held; /* a buffer of the statistics queue, which goes back to ask for newer ones */
    u16 held_head;

    struct lock lock; /* innermost */
    struct virtio_balloon_stats stats;
    u64 discarded; /* bytes given back to the host so far */
};

/* mem and loop outlive the device. Pages of the guest's balloon, and free ones that it reports, go
 * back to the host. 0 or -errno. */
must_check int virtio_balloon_create(struct mem *mem, struct loop *loop,
                                     struct virtio_balloon **out, struct err *e);
/* After the I/O thread has ended. */
void virtio_balloon_destroy(struct virtio_dev *dev);

/* ---- any thread ---- */

/* The guest shall have this many pages in its balloon. */
void virtio_balloon_set(struct virtio_balloon *b, u32 pages);
/* What was asked for, and what the guest says it has done. */
void virtio_balloon_get(struct virtio_balloon *b, u32 *target, u32 *actual);
/* The statistics that came last; asks the guest for newer ones. */
void virtio_balloon_stats(struct virtio_balloon *b, struct virtio_balloon_stats *out,
                          u64 *discarded);
/* "memory-free" for tag 4, in words of the guest's side. */
const char *virtio_balloon_stat_name(unsigned tag);

extern const struct snap_desc virtio_balloon_snap;
