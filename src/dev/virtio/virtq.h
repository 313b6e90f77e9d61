/* virtq.h - split virtqueues (virtio 1.2, 2.7) as the device sees them */
#pragma once

#include <sys/uio.h>

#include "base/limits.h"
#include "base/types.h"
#include "host/doorbell.h"
#include "mem/mem.h"
#include "snap/snap.h"

struct virtio_dev;

/* One piece of guest memory that a chain names. Not checked yet: it may lie anywhere. */
struct virtq_seg {
    u64 gpa;
    u32 len;
};

/* A descriptor chain, copied once and counted against the limits: `out` pieces, which the device
 * reads, then `in` pieces, which it writes. At most VIRTQ_CHAIN_MAX pieces and 4 GiB - 1 bytes in
 * each direction. */
struct virtq_chain {
    u16 head;
    unsigned out_n, in_n;
    u32 out_bytes, in_bytes;
    struct virtq_seg *seg; /* out_n + in_n of them; inside the queue, until its next pop */
};

/* What the driver programmed while the queue was disabled, and how far the device is. The
 * transport writes the first part under the device's lock while the queue is disabled; everything
 * else belongs to the device's I/O thread. */
struct virtq {
    u16 size, size_max; /* entries; a power of two */
    bool enabled;
    u16 vector; /* MSI-X, VIRTIO_NO_VECTOR for none */
    u64 desc, avail, used;

    u16 last_avail; /* next entry of the available ring to take */
    u16 used_idx;   /* next entry of the used ring to fill */
    u16 signalled;  /* used_idx when the driver was last told */
    bool event_idx; /* negotiated */
    bool indirect;  /* negotiated */
    bool kicks;     /* the driver is asked to notify */

    struct mem *mem;
    struct virtio_dev *dev; /* the core's: whose it is, and the driver's notifications */
    struct doorbell bell;
    const char *broken; /* what the driver did wrong; the queue does nothing any more */
    struct virtq_seg *segs;
};

/* mem outlives the queue. size_max is a power of two up to VIRTQ_SIZE_MAX. 0 or -ENOMEM. */
must_check int virtq_init(struct virtq *q, struct mem *mem, u16 size_max, struct err *e);
void virtq_fini(struct virtq *q);
/* Power-on state. */
void virtq_reset(struct virtq *q);

/* Takes the next chain. 1; 0 when there is none (or the queue is disabled); -EPROTO when ring or
 * chain break the rules: q->broken says how, and so does every later call. */
must_check int virtq_pop(struct virtq *q, struct virtq_chain *c);
/* Puts the last chain back, so that the next pop gives it again (nothing was pushed since). */
void virtq_unpop(struct virtq *q);
/* Returns a chain with `written` bytes put into its `in` part. */
void virtq_push(struct virtq *q, u16 head, u32 written);
/* Whether the driver wants an interrupt for what was pushed since the last call that said so. */
bool virtq_want_signal(struct virtq *q);
/* Asks the driver for notifications, or not to notify (a hint). After asking, true when chains wait
 * that came before: look again instead of going to sleep. */
bool virtq_ask_kicks(struct virtq *q, bool on);
/* Chains waiting, without taking any. */
bool virtq_has_more(struct virtq *q);

/* Copies between a buffer and bytes off..off+len-1 of the chain's `out` or `in` part. -EINVAL when
 * the part is shorter, -EFAULT when a piece is not RAM; then some bytes may have been copied. */
must_check int virtq_read(struct virtq *q, const struct virtq_chain *c, u32 off, void *buf,
                          u32 len);
must_check int virtq_write(struct virtq *q, const struct virtq_chain *c, u32 off, const void *buf,
                           u32 len);

/* Host addresses of bytes off..off+len-1 of the `out` or (with `in`) `in` part, for scatter-gather
 * I/O: the number of vectors (at most out_n or in_n, more only when a piece crosses slots), or
 * -EINVAL / -EFAULT as above, -E2BIG when `max` are too few. The memory stays mapped while the
 * machine lives. Writers call virtq_written afterwards. */
must_check int virtq_iov(struct virtq *q, const struct virtq_chain *c, bool in, u32 off, u32 len,
                         struct iovec *iov, int max);
/* Bytes off..off+len-1 of the `in` part were written through virtq_iov. */
void virtq_written(struct virtq *q, const struct virtq_chain *c, u32 off, u32 len);
