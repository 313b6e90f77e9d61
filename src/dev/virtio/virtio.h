/* virtio.h - a virtio device between its transport and its own code (virtio 1.2, chapter 2) */
#pragma once

#include "base/lock.h"
#include "dev/virtio/virtq.h"

#define VIRTIO_NO_VECTOR 0xffff

/* Device types (virtio 1.2, chapter 5) */
enum virtio_id {
    VIRTIO_NET = 1,
    VIRTIO_BLK = 2,
    VIRTIO_CONSOLE = 3,
    VIRTIO_RNG = 4,
    VIRTIO_BALLOON = 5,
    VIRTIO_9P = 9,
    VIRTIO_VSOCK = 19,
};

/* Feature bits of every device; the core offers these by itself. */
#define VIRTIO_F_INDIRECT_DESC 28
#define VIRTIO_F_EVENT_IDX     29
#define VIRTIO_F_VERSION_1     32

struct virtio_dev;

/* What a device implements. start, stop, kick and quiesce run on the I/O thread, one at a time,
 * with no lock held; they may use the queues. */
struct virtio_ops {
    const char *name; /* "virtio-blk" */
    enum virtio_id id;
    u32 pci_class; /* class, subclass, interface: 0x010000 */
    /* The driver is ready (DRIVER_OK): d->driver_features and the enabled queues are final. May be
     * NULL. Queues are kicked once afterwards. */
    void (*start)(struct virtio_dev *d);
    /* Reset: finish or drop what is in flight, so that no guest memory is touched afterwards, and
     * forget everything the driver said. The queues are reset by the core afterwards. */
    void (*stop)(struct virtio_dev *d);
    /* Chains may wait in queue q. Not called before start. */
    void (*kick)(struct virtio_dev *d, unsigned q);
    /* Bytes of the configuration were written, d->config holds them: called on a vCPU thread with
     * d->lock held; may queue a loop task. NULL: nothing is writable. */
    void (*config_written)(struct virtio_dev *d, u32 off, u32 len);
    /* Before a snapshot: finish what is in flight, so that used rings tell all. NULL: nothing is
     * ever in flight outside kick. */
    void (*quiesce)(struct virtio_dev *d);
};

/* What the transport offers the core; called on any thread with no lock held. */
struct virtio_transport {
    void (*signal)(void *ctx, u16 vector); /* a used buffer notification */
    void (*config_changed)(void *ctx, u16 vector);
    void (*reset)(void *ctx); /* the device was stopped: no interrupt is left */
    void *ctx;
};

/* The first member of each device's own struct. */
struct virtio_dev {
    const struct virtio_ops *ops;
    struct mem *mem;
    struct loop *loop; /* of the device's I/O thread */
    struct virtio_transport transport;

    u64 features;   /* offered, the common ones included */
    u8 *config;     /* the device's configuration as the driver sees it (little-endian) */
    u32 config_len; /* at most VIRTIO_CONFIG_MAX */
    struct virtq *queue;
    unsigned queues; /* at most VIRTIO_QUEUES_MAX */

    struct lock lock; /* registers below and config; taken by vCPU and I/O threads */
    u8 status;
    u8 generation;
    u16 config_vector;
    u16 queue_select;
    u32 device_feature_select, driver_feature_select;
    u64 driver_features; /* accepted; final once started */

    bool started;                   /* I/O thread's: between start and stop */
    bool start_wanted, stop_wanted; /* under lock: for the task */
    struct loop_task task;          /* starts and stops */
};

/* Prepares the common part: the device has set d->features (its own bits), d->config and
 * config_len. `sizes` has one entry a queue. The transport is set before the guest runs. 0 or
 * -errno. */
must_check int virtio_init(struct virtio_dev *d, const struct virtio_ops *ops, struct mem *mem,
                           struct loop *loop, const u16 *sizes, unsigned queues, struct err *e);
/* The I/O thread has ended, or never ran. */
void virtio_fini(struct virtio_dev *d);

static inline bool virtio_has(const struct virtio_dev *d, unsigned feature)
{
    return d->driver_features >> feature & 1;
}

/* ---- for devices, on the I/O thread ---- */

/* Tells the driver of what was pushed to queue q, when it wants to know. */
void virtio_signal(struct virtio_dev *d, unsigned q);
/* d->config was changed (with d->lock held meanwhile, not now): the driver is told. Any thread. */
void virtio_config_changed(struct virtio_dev *d);
/* The driver broke the rules: the device stops working until it is reset, and says so. */
void virtio_broken(struct virtio_dev *d, const char *why);

/* A common loop: takes chains off queue q until none is left and calls fn for each. fn returns the
 * number of bytes written, which is pushed at once; VIRTIO_LATER: it pushes later by itself (it
 * has copied the chain); VIRTIO_STALL: it cannot take this chain now, which goes back, and the
 * loop ends (call virtio_process again when it can). Signals at the end. After VIRTIO_TURN_MAX
 * chains the rest waits for another kick, which it sees to by itself. */
#define VIRTIO_LATER (-1)
#define VIRTIO_STALL (-2)
void virtio_process(struct virtio_dev *d, unsigned q,
                    s64 (*fn)(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c));

/* ---- for the transport ---- */

/* Register accesses of vCPU threads; they take d->lock. */
void virtio_set_status(struct virtio_dev *d, u8 status);
void virtio_kick(struct virtio_dev *d, unsigned q); /* takes no lock of the device */

/* ---- snapshots: with the I/O thread paused and the device quiesced ---- */
extern const struct snap_desc virtio_snap; /* registers; obj = struct virtio_dev */
extern const struct snap_desc virtq_snap;  /* obj = struct virtq */
