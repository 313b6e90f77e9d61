/* virtio_driver.h - a small virtio driver over guest memory, for unit tests of devices
 *
 * Device under test: made over `mem` and the loop of `io`, its transport set by drv_attach. The
 * driver's rings lie at RING_GPA + queue * RING_BYTES, buffers where the test says.
 */
#pragma once

#include <pthread.h>
#include <string.h>

#include "dev/virtio/status.h"
#include "dev/virtio/virtio.h"
#include "host/iothread.h"

#define DRV_RAM_BYTES  (16 * MiB)
#define DRV_RING_GPA   0x100000ull
#define DRV_RING_BYTES 0x10000ull  /* desc, then avail at 4000h, used at 8000h, indirect at C000h */
#define DRV_BUF_GPA    0x800000ull /* free for the test up to DRV_RAM_BYTES */

struct drv {
    struct mem *mem;
    struct iothread *io;
    struct virtio_dev *dev;
    unsigned signals, config_changes, resets; /* atomic */
    struct drv_queue {
        u16 next_desc, avail_idx, used_idx;
    } queue[VIRTIO_QUEUES_MAX];
};

static inline void drv_signal(void *ctx, u16 vector)
{
    __atomic_fetch_add(&((struct drv *)ctx)->signals, 1, __ATOMIC_SEQ_CST);
}

static inline void drv_config(void *ctx, u16 vector)
{
    __atomic_fetch_add(&((struct drv *)ctx)->config_changes, 1, __ATOMIC_SEQ_CST);
}

static inline void drv_was_reset(void *ctx)
{
    __atomic_fetch_add(&((struct drv *)ctx)->resets, 1, __ATOMIC_SEQ_CST);
}

/* Memory and an I/O thread; then the test makes its device and attaches it. */
static inline void drv_open(struct drv *d)
{
    int rc;

    memset(d, 0, sizeof(*d));
    rc = mem_create(&d->mem, NULL);
    if (!rc)
        rc = mem_add_ram(d->mem, 0, DRV_RAM_BYTES, NULL);
    if (!rc)
        rc = iothread_create(&d->io, "test", NULL);
    ASSERT(rc == 0);
}

static inline void drv_attach(struct drv *d, struct virtio_dev *dev)
{
    d->dev = dev;
    dev->transport = (struct virtio_transport){drv_signal, drv_config, drv_was_reset, d};
}

static inline void drv_nothing(void *arg)
{
}

/* Returns when the I/O thread has done what was asked of it so far. */
static inline void drv_settle(struct drv *d)
{
    for (unsigned i = 0; i < 3; i++)
        iothread_call(d->io, drv_nothing, NULL);
}

/* Ends the I/O thread; the test destroys its device after it, then calls drv_close. */
static inline void drv_stop(struct drv *d)
{
    virtio_set_status(d->dev, 0);
    drv_settle(d);
    iothread_stop(d->io);
}

static inline void drv_close(struct drv *d)
{
    iothread_destroy(d->io);
    mem_destroy(d->mem);
}

static inline u64 drv_ring(unsigned q)
{
    return DRV_RING_GPA + q * DRV_RING_BYTES;
}

/* Negotiates `features` (VERSION_1 is added) and starts all queues with `size` entries. */
static inline void drv_start(struct drv *d, u64 features, u16 size)
{
    struct virtio_dev *v = d->dev;

    memset(d->queue, 0, sizeof(d->queue));
    virtio_set_status(v, 0);
    drv_settle(d);
    virtio_set_status(v, STATUS_ACKNOWLEDGE);
    virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    v->driver_features = features | BIT64(VIRTIO_F_VERSION_1);
    virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    ASSERT(v->status & STATUS_FEATURES_OK);
    for (unsigned i = 0; i < v->queues; i++) {
        struct virtq *q = &v->queue[i];
        int rc = mem_fill(d->mem, drv_ring(i), 0, DRV_RING_BYTES);

        ASSERT(rc == 0);
        q->size = MIN(size, q->size_max);
        q->desc = drv_ring(i);
        q->avail = drv_ring(i) + 0x4000;
        q->used = drv_ring(i) + 0x8000;
        q->vector = (u16)i;
        q->enabled = true;
    }
    virtio_set_status(v,
                      STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
    drv_settle(d);
}

static inline void drv_put(struct drv *d, u64 gpa, const void *data, u64 len)
{
    int rc = mem_write(d->mem, gpa, data, len);

    ASSERT(rc == 0);
}

static inline void drv_get(struct drv *d, u64 gpa, void *data, u64 len)
{
    int rc = mem_read(d->mem, gpa, data, len);

    ASSERT(rc == 0);
}

/* A raw descriptor of queue q: flags 1 next, 2 write, 4 indirect. */
static inline void drv_desc(struct drv *d, unsigned q, u16 i, u64 gpa, u32 len, u16 flags, u16 next)
{
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } desc = {gpa, len, flags, next};

    drv_put(d, drv_ring(q) + 16ull * i, &desc, sizeof(desc));
}

/* Makes descriptor `head` available, without a kick. */
static inline void drv_offer(struct drv *d, unsigned q, u16 head)
{
    struct drv_queue *dq = &d->queue[q];
    u64 avail = drv_ring(q) + 0x4000;

    drv_put(d, avail + 4 + 2ull * (dq->avail_idx % d->dev->queue[q].size), &head, 2);
    dq->avail_idx++;
    drv_put(d, avail + 2, &dq->avail_idx, 2);
}

/* Builds a chain of `out` readable and `in` writable pieces, offers it; returns its head. */
static inline u16 drv_chain(struct drv *d, unsigned q, const struct virtq_seg *out, unsigned outs,
                            const struct virtq_seg *in, unsigned ins)
{
    struct drv_queue *dq = &d->queue[q];
    u16 size = d->dev->queue[q].size, head = dq->next_desc % size;

    for (unsigned i = 0; i < outs + ins; i++) {
        const struct virtq_seg *s = i < outs ? &out[i] : &in[i - outs];
        u16 at = dq->next_desc++ % size, next = dq->next_desc % size;

        drv_desc(d, q, at, s->gpa, s->len, (u16)((i + 1 < outs + ins ? 1 : 0) | (i < outs ? 0 : 2)),
                 next);
    }
    drv_offer(d, q, head);
    return head;
}

static inline void drv_kick(struct drv *d, unsigned q)
{
    virtio_kick(d->dev, q);
    drv_settle(d);
}

/* The next used entry: true with its head and length. */
static inline bool drv_used(struct drv *d, unsigned q, u32 *head, u32 *len)
{
    struct drv_queue *dq = &d->queue[q];
    u64 used = drv_ring(q) + 0x8000;
    u32 elem[2];
    u16 idx;

    drv_get(d, used + 2, &idx, 2);
    if (idx == dq->used_idx)
        return false;
    drv_get(d, used + 4 + 8ull * (dq->used_idx % d->dev->queue[q].size), elem, sizeof(elem));
    dq->used_idx++;
    *head = elem[0];
    *len = elem[1];
    return true;
}

static inline bool drv_needs_reset(const struct drv *d)
{
    return d->dev->status & STATUS_NEEDS_RESET;
}
