/* virtio.c - a virtio device's status, features, kicks and signals (virtio 1.2, chapters 2, 3) */
#include "dev/virtio/virtio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dev/virtio/status.h"

#define COMMON_FEATURES \
    (BIT64(VIRTIO_F_INDIRECT_DESC) | BIT64(VIRTIO_F_EVENT_IDX) | BIT64(VIRTIO_F_VERSION_1))

/* ---- the I/O thread's side ---- */

static void do_start(struct virtio_dev *d)
{
    for (unsigned i = 0; i < d->queues; i++) {
        d->queue[i].event_idx = virtio_has(d, VIRTIO_F_EVENT_IDX);
        d->queue[i].indirect = virtio_has(d, VIRTIO_F_INDIRECT_DESC);
    }
    if (d->ops->start)
        d->ops->start(d);
    d->started = true;
}

static void reset_locked(struct virtio_dev *d)
{
    ASSERT(lock_held(&d->lock));
    for (unsigned i = 0; i < d->queues; i++)
        virtq_reset(&d->queue[i]);
    d->driver_features = 0;
    d->device_feature_select = d->driver_feature_select = 0;
    d->queue_select = 0;
    d->config_vector = VIRTIO_NO_VECTOR;
    d->stop_wanted = d->start_wanted = false;
    d->status = 0;
}

/* The driver polls the status until it reads 0: that is when the reset is done (4.1.4.3.1). */
static void do_stop(struct virtio_dev *d)
{
    if (d->started)
        d->ops->stop(d);
    d->started = false;
    d->transport.reset(d->transport.ctx);
    lock_take(&d->lock);
    reset_locked(d);
    lock_drop(&d->lock);
}

static void run_kick(struct virtio_dev *d, unsigned q)
{
    if (d->queue[q].enabled && !d->queue[q].broken)
        d->ops->kick(d, q);
    if (d->queue[q].broken)
        virtio_broken(d, d->queue[q].broken);
}

/* A ring before the start is none: all queues are looked at then. */
static void bell_rung(void *arg)
{
    struct virtq *q = arg;
    struct virtio_dev *d = q->dev;

    if (d->started)
        run_kick(d, (unsigned)(q - d->queue));
}

static void task(void *arg)
{
    struct virtio_dev *d = arg;
    bool start, stop;

    lock_take(&d->lock);
    stop = d->stop_wanted;
    start = d->start_wanted;
    d->start_wanted = false;
    lock_drop(&d->lock);
    if (stop) {
        do_stop(d);
    } else if (start && !d->started) {
        do_start(d);
        for (unsigned q = 0; q < d->queues; q++)
            run_kick(d, q);
    }
}

void virtio_process(struct virtio_dev *d, unsigned n,
                    s64 (*fn)(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c))
{
    struct virtq *q = &d->queue[n];
    unsigned left = VIRTIO_TURN_MAX;
    struct virtq_chain c;
    s64 written = 0;

    do {
        virtq_ask_kicks(q, false);
        while (written != VIRTIO_STALL && left && virtq_pop(q, &c) > 0) {
            left--;
            written = fn(d, q, &c);
            if (written >= 0)
                virtq_push(q, c.head, (u32)written);
            else if (written == VIRTIO_STALL)
                virtq_unpop(q);
        }
    } while (written != VIRTIO_STALL && left && virtq_ask_kicks(q, true));
    virtio_signal(d, n);
    if (!left)
        virtio_kick(d, n); /* a driver that feeds without end holds up nobody else */
}

void virtio_signal(struct virtio_dev *d, unsigned q)
{
    if (virtq_want_signal(&d->queue[q]))
        d->transport.signal(d->transport.ctx, d->queue[q].vector);
    if (d->queue[q].broken)
        virtio_broken(d, d->queue[q].broken);
}

void virtio_config_changed(struct virtio_dev *d)
{
    bool tell;
    u16 vector;

    lock_take(&d->lock);
    d->generation++;
    tell = d->status & STATUS_DRIVER_OK;
    vector = d->config_vector;
    lock_drop(&d->lock);
    if (tell)
        d->transport.config_changed(d->transport.ctx, vector);
}

void virtio_broken(struct virtio_dev *d, const char *why)
{
    bool news;

    lock_take(&d->lock);
    news = d->status && !(d->status & STATUS_NEEDS_RESET);
    if (d->status)
        d->status |= STATUS_NEEDS_RESET;
    lock_drop(&d->lock);
    if (news) {
        log_guest("%s: the guest's driver broke the rules: %s", d->ops->name, why);
        virtio_config_changed(d);
    }
}

/* ---- the vCPUs' side ---- */

void virtio_kick(struct virtio_dev *d, unsigned q)
{
    if (q < d->queues)
        doorbell_ring(&d->queue[q].bell);
}

/* 3.1.1: features are final once FEATURES_OK reads back as set. */
static bool features_fine(const struct virtio_dev *d)
{
    return !(d->driver_features & ~d->features) && d->driver_features & BIT64(VIRTIO_F_VERSION_1);
}

void virtio_set_status(struct virtio_dev *d, u8 status)
{
    bool act = false;

    lock_take(&d->lock);
    if (status == 0 && !(d->status & STATUS_DRIVER_OK)) {
        reset_locked(d); /* the I/O thread has nothing to do with it yet */
    } else if (status == 0) {
        d->stop_wanted = act = true;
    } else if (!d->stop_wanted) {
        /* Bits are only ever added; NEEDS_RESET is ours. */
        u8 fresh = status & ~d->status & (u8)~STATUS_NEEDS_RESET;

        if (fresh & STATUS_FEATURES_OK && !features_fine(d))
            fresh &= (u8) ~(STATUS_FEATURES_OK | STATUS_DRIVER_OK);
        if (fresh & STATUS_DRIVER_OK && !((d->status | fresh) & STATUS_FEATURES_OK))
            fresh &= (u8)~STATUS_DRIVER_OK;
        d->status |= fresh;
        d->start_wanted |= act = fresh & STATUS_DRIVER_OK;
    }
    lock_drop(&d->lock);
    if (act)
        loop_task_queue(d->loop, &d->task);
}

/* ---- life ---- */

int virtio_init(struct virtio_dev *d, const struct virtio_ops *ops, struct mem *mem,
                struct loop *loop, const u16 *sizes, unsigned queues, struct err *e)
{
    ASSERT(queues && queues <= VIRTIO_QUEUES_MAX && d->config_len <= VIRTIO_CONFIG_MAX);
    d->ops = ops;
    d->mem = mem;
    d->loop = loop;
    d->features |= COMMON_FEATURES;
    d->queue = calloc(queues, sizeof(*d->queue));
    if (!d->queue)
        return err_set(e, ENOMEM, "%s: no memory for its queues", ops->name);
    lock_init(&d->lock);
    d->config_vector = VIRTIO_NO_VECTOR;
    d->task = (struct loop_task){.fn = task, .arg = d};
    for (; d->queues < queues; d->queues++) {
        struct virtq *q = &d->queue[d->queues];
        int rc = virtq_init(q, mem, sizes[d->queues], e);

        q->dev = d;
        if (!rc) {
            rc = doorbell_open(&q->bell, loop, bell_rung, q, e);
            if (rc)
                virtq_fini(q);
        }
        if (rc) {
            virtio_fini(d);
            return rc;
        }
    }
    return 0;
}

void virtio_fini(struct virtio_dev *d)
{
    if (!d->queue)
        return;
    loop_task_cancel(d->loop, &d->task);
    for (unsigned i = 0; i < d->queues; i++) {
        doorbell_close(&d->queue[i].bell);
        virtq_fini(&d->queue[i]);
    }
    free(d->queue);
    d->queue = NULL;
    lock_destroy(&d->lock);
}

/* ---- snapshots ---- */

static const struct snap_field fields[] = {
    SNAP_U8(struct virtio_dev, status),
    SNAP_U8(struct virtio_dev, generation),
    SNAP_U16(struct virtio_dev, config_vector),
    SNAP_U16(struct virtio_dev, queue_select),
    SNAP_U32(struct virtio_dev, device_feature_select),
    SNAP_U32(struct virtio_dev, driver_feature_select),
    SNAP_U64(struct virtio_dev, driver_features),
    SNAP_BOOL(struct virtio_dev, started),
    SNAP_BOOL(struct virtio_dev, start_wanted),
    SNAP_BOOL(struct virtio_dev, stop_wanted),
    SNAP_END,
};

static int check(const void *scratch, struct err *e)
{
    const struct virtio_dev *d = scratch;

    if (d->started && !(d->status & STATUS_DRIVER_OK))
        return err_set(e, EINVAL, "virtio device: started without DRIVER_OK");
    return 0;
}

/* The device starts anew with what the guest had set up. Rings that were on their way are not in
 * the stream: every queue is looked at. */
static void loaded(void *obj)
{
    struct virtio_dev *d = obj;

    d->driver_features &= d->features;
    if (d->started && d->ops->start)
        d->ops->start(d);
    for (unsigned q = 0; q < d->queues; q++)
        virtio_kick(d, q);
    if (d->start_wanted || d->stop_wanted)
        loop_task_queue(d->loop, &d->task);
}

const struct snap_desc virtio_snap = {
    .name = "virtio",
    .version = 1,
    .size = sizeof(struct virtio_dev),
    .fields = fields,
    .check = check,
    .loaded = loaded,
};
