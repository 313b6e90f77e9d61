/* virtio_pci.c - the PCI transport of a virtio device (virtio 1.2, 4.1; modern only) */
#include "dev/virtio/virtio_pci.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "dev/virtio/status.h"

#define VENDOR_VIRTIO    0x1af4
#define DEVICE_VIRTIO    0x1040 /* + type */
#define SUBDEVICE_VIRTIO 0x1100

/* BAR 0 */
#define OFF_COMMON 0x0000u
#define OFF_ISR    0x1000u
#define OFF_DEVICE 0x2000u
#define OFF_NOTIFY 0x3000u
#define OFF_MSIX   0x4000u
#define OFF_PBA    0x5000u
#define BAR_BYTES  0x8000u
#define SECTION    0x1000u

#define NOTIFY_MULTIPLIER 4

/* struct virtio_pci_cap */
#define CAP_VENDOR 0x09
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_ISR    3
#define CAP_DEVICE 4
#define CAP_WINDOW 5

#define ISR_QUEUE  1
#define ISR_CONFIG 2

/* ---- the common configuration structure (4.1.4.3) ---- */

enum common {
    DEVICE_FEATURE_SELECT,
    DEVICE_FEATURE,
    DRIVER_FEATURE_SELECT,
    DRIVER_FEATURE,
    CONFIG_VECTOR,
    NUM_QUEUES,
    DEVICE_STATUS,
    CONFIG_GENERATION,
    QUEUE_SELECT,
    QUEUE_SIZE,
    QUEUE_VECTOR,
    QUEUE_ENABLE,
    QUEUE_NOTIFY_OFF,
    QUEUE_DESC_LO,
    QUEUE_DESC_HI,
    QUEUE_DRIVER_LO,
    QUEUE_DRIVER_HI,
    QUEUE_DEVICE_LO,
    QUEUE_DEVICE_HI,
    COMMON_FIELDS
};

static const struct {
    u8 off, size;
} layout[COMMON_FIELDS] = {
    [DEVICE_FEATURE_SELECT] = {0x00, 4}, [DEVICE_FEATURE] = {0x04, 4},
    [DRIVER_FEATURE_SELECT] = {0x08, 4}, [DRIVER_FEATURE] = {0x0c, 4},
    [CONFIG_VECTOR] = {0x10, 2},         [NUM_QUEUES] = {0x12, 2},
    [DEVICE_STATUS] = {0x14, 1},         [CONFIG_GENERATION] = {0x15, 1},
    [QUEUE_SELECT] = {0x16, 2},          [QUEUE_SIZE] = {0x18, 2},
    [QUEUE_VECTOR] = {0x1a, 2},          [QUEUE_ENABLE] = {0x1c, 2},
    [QUEUE_NOTIFY_OFF] = {0x1e, 2},      [QUEUE_DESC_LO] = {0x20, 4},
    [QUEUE_DESC_HI] = {0x24, 4},         [QUEUE_DRIVER_LO] = {0x28, 4},
    [QUEUE_DRIVER_HI] = {0x2c, 4},       [QUEUE_DEVICE_LO] = {0x30, 4},
    [QUEUE_DEVICE_HI] = {0x34, 4},
};

static struct virtq *selected(struct virtio_dev *d)
{
    return d->queue_select < d->queues ? &d->queue[d->queue_select] : NULL;
}

static u32 feature_word(u64 features, u32 select)
{
    return select < 2 ? (u32)(features >> 32 * select) : 0;
}

static u32 queue_get(const struct virtio_dev *d, const struct virtq *q, enum common field)
{
    switch (field) {
    case QUEUE_SIZE: return q->size;
    case QUEUE_VECTOR: return q->vector;
    case QUEUE_ENABLE: return q->enabled;
    case QUEUE_NOTIFY_OFF: return d->queue_select;
    case QUEUE_DESC_LO: return (u32)q->desc;
    case QUEUE_DESC_HI: return (u32)(q->desc >> 32);
    case QUEUE_DRIVER_LO: return (u32)q->avail;
    case QUEUE_DRIVER_HI: return (u32)(q->avail >> 32);
    case QUEUE_DEVICE_LO: return (u32)q->used;
    default: return (u32)(q->used >> 32);
    }
}

static u32 common_get(struct virtio_dev *d, enum common field)
{
    struct virtq *q = selected(d);

    switch (field) {
    case DEVICE_FEATURE_SELECT: return d->device_feature_select;
    case DEVICE_FEATURE: return feature_word(d->features, d->device_feature_select);
    case DRIVER_FEATURE_SELECT: return d->driver_feature_select;
    case DRIVER_FEATURE: return feature_word(d->driver_features, d->driver_feature_select);
    case CONFIG_VECTOR: return d->config_vector;
    case NUM_QUEUES: return d->queues;
    case DEVICE_STATUS: return d->status;
    case CONFIG_GENERATION: return d->generation;
    case QUEUE_SELECT: return d->queue_select;
    default: return q ? queue_get(d, q, field) : 0;
    }
}

static void set_lo(u64 *reg, u32 val, u64 align)
{
    *reg = (*reg & ~0xffffffffull) | (val & ~(align - 1));
}

static void set_hi(u64 *reg, u32 val)
{
    *reg = (*reg & 0xffffffff) | (u64)val << 32;
}

/* A vector beyond the table reads back as none (4.1.5.1.2). */
static u16 fit_vector(const struct virtio_pci *v, u32 val)
{
    return val < v->pci.msix.vectors ? (u16)val : VIRTIO_NO_VECTOR;
}

/* An enabled queue is the device's: only a reset changes it. */
static void queue_set(struct virtio_pci *v, struct virtq *q, enum common field, u32 val)
{
    if (q->enabled)
        return;
    switch (field) {
    case QUEUE_SIZE:
        if (val && val <= q->size_max && !(val & (val - 1)))
            q->size = (u16)val;
        break;
    case QUEUE_VECTOR: q->vector = fit_vector(v, val); break;
    case QUEUE_ENABLE: q->enabled = val == 1; break;
    case QUEUE_DESC_LO: set_lo(&q->desc, val, 16); break;
    case QUEUE_DESC_HI: set_hi(&q->desc, val); break;
    case QUEUE_DRIVER_LO: set_lo(&q->avail, val, 2); break;
    case QUEUE_DRIVER_HI: set_hi(&q->avail, val); break;
    case QUEUE_DEVICE_LO: set_lo(&q->used, val, 4); break;
    case QUEUE_DEVICE_HI: set_hi(&q->used, val); break;
    default: break;
    }
}

static void common_set(struct virtio_pci *v, enum common field, u32 val)
{
    struct virtio_dev *d = v->dev;
    struct virtq *q = selected(d);

    switch (field) {
    case DEVICE_FEATURE_SELECT: d->device_feature_select = val; break;
    case DRIVER_FEATURE_SELECT: d->driver_feature_select = val; break;
    case DRIVER_FEATURE:
        if (!(d->status & STATUS_FEATURES_OK)) {
            if (d->driver_feature_select == 0)
                set_lo(&d->driver_features, val, 1);
            else if (d->driver_feature_select == 1)
                set_hi(&d->driver_features, val);
        }
        break;
    case CONFIG_VECTOR: d->config_vector = fit_vector(v, val); break;
    case QUEUE_SELECT: d->queue_select = (u16)val; break;
    default:
        if (q && field > QUEUE_SELECT && !(d->status & STATUS_DRIVER_OK))
            queue_set(v, q, field, val);
    }
}

/* The field that holds off..off+size-1, or COMMON_FIELDS. */
static enum common field_at(u32 off, unsigned size)
{
    for (unsigned i = 0; i < COMMON_FIELDS; i++)
        if (off >= layout[i].off && off + size <= layout[i].off + layout[i].size)
            return (enum common)i;
    return COMMON_FIELDS;
}

static u64 common_read(struct virtio_pci *v, u32 off, unsigned size)
{
    enum common field = field_at(off, size);
    u32 val;

    if (field == COMMON_FIELDS)
        return 0;
    lock_take(&v->dev->lock);
    val = common_get(v->dev, field);
    lock_drop(&v->dev->lock);
    return val >> 8 * (off - layout[field].off);
}

static void common_write(struct virtio_pci *v, u32 off, unsigned size, u32 val)
{
    enum common field = field_at(off, size);
    unsigned shift;
    u32 mask;

    if (field == COMMON_FIELDS)
        return;
    if (field == DEVICE_STATUS) {
        virtio_set_status(v->dev, (u8)val);
        return;
    }
    shift = 8 * (off - layout[field].off);
    mask = (size == 4 ? 0xffffffff : BIT(8 * size) - 1) << shift;
    lock_take(&v->dev->lock);
    if (!v->dev->stop_wanted) {
        u32 old = mask == 0xffffffff ? 0 : common_get(v->dev, field) & ~mask;

        common_set(v, field, old | (val << shift & mask));
    }
    lock_drop(&v->dev->lock);
}

/* ---- the device's own configuration (4.1.4.6) ---- */

static u64 device_read(struct virtio_dev *d, u32 off, unsigned size)
{
    u64 val = 0;

    lock_take(&d->lock);
    if (range_ok(off, size, d->config_len))
        memcpy(&val, d->config + off, size);
    lock_drop(&d->lock);
    return val;
}

static void device_write(struct virtio_dev *d, u32 off, unsigned size, u64 val)
{
    if (!d->ops->config_written)
        return;
    lock_take(&d->lock);
    if (range_ok(off, size, d->config_len)) {
        memcpy(d->config + off, &val, size);
        d->ops->config_written(d, off, size);
    }
    lock_drop(&d->lock);
}

/* ---- BAR 0 ---- */

/* Reading acknowledges, and lets go of the line (4.1.4.5). */
static u8 take_isr(struct virtio_pci *v)
{
    u8 was = __atomic_exchange_n(&v->isr, 0, __ATOMIC_SEQ_CST);

    if (was)
        pci_set_intx(&v->pci, false);
    return was;
}

static u64 bar_read(void *dev, u64 off, unsigned size)
{
    struct virtio_pci *v = dev;
    u32 in = (u32)off % SECTION;

    switch (off - in) {
    case OFF_COMMON: return common_read(v, in, size);
    case OFF_ISR: return in == 0 ? take_isr(v) : 0;
    case OFF_DEVICE: return device_read(v->dev, in, size);
    case OFF_MSIX: return msix_read(&v->pci, false, in, size);
    case OFF_PBA: return msix_read(&v->pci, true, in, size);
    default: return 0;
    }
}

static void bar_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct virtio_pci *v = dev;
    u32 in = (u32)off % SECTION;

    switch (off - in) {
    case OFF_COMMON: common_write(v, in, size, (u32)val); break;
    case OFF_DEVICE: device_write(v->dev, in, size, val); break;
    case OFF_NOTIFY: virtio_kick(v->dev, in / NOTIFY_MULTIPLIER); break;
    case OFF_MSIX: msix_write(&v->pci, in, size, val); break;
    default: break;
    }
}

static const struct region_ops bar_ops = {bar_read, bar_write, 1, 8, 1, 4, false};

/* ---- what the device says ---- */

/* Without MSI-X the line, or the one message of MSI, carries both reasons; with it, a reason
 * without a vector is not told. */
static void tell(struct virtio_pci *v, u16 vector, u8 reason)
{
    if (msix_notify(&v->pci, vector))
        return;
    __atomic_fetch_or(&v->isr, reason, __ATOMIC_SEQ_CST);
    if (msi_notify(&v->pci))
        return;
    pci_set_intx(&v->pci, true);
    /* A read of the ISR in between has dropped a line that was not up yet. */
    if (!__atomic_load_n(&v->isr, __ATOMIC_SEQ_CST))
        pci_set_intx(&v->pci, false);
}

static void signal_queue(void *ctx, u16 vector)
{
    tell(ctx, vector, ISR_QUEUE);
}

static void signal_config(void *ctx, u16 vector)
{
    tell(ctx, vector, ISR_CONFIG);
}

static void reset(void *ctx)
{
    take_isr(ctx);
}

/* ---- kicks without an exit ---- */

static void set_ioeventfds(struct pci_dev *pci, unsigned n, bool on)
{
    struct virtio_pci *v = container_of(pci, struct virtio_pci, pci);
    const struct pci_host *host = &pci->bus->host;
    u64 at = pci->bar[n].base + OFF_NOTIFY;

    for (unsigned q = 0; q < v->dev->queues; q++)
        host->ioeventfd(host->ctx, at + (u64)q * NOTIFY_MULTIPLIER, v->dev->queue[q].bell.fd, on);
}

/* ---- the window in configuration space (4.1.4.9) ---- */

/* Whether the guest has aimed the window at something: BAR 0, 1, 2 or 4 bytes, aligned. */
static bool window_target(const struct virtio_pci *v, u32 *off, u32 *len)
{
    const u8 *cap = v->pci.cfg + v->window_cap;

    memcpy(off, cap + 8, 4);
    memcpy(len, cap + 12, 4);
    return cap[4] == 0 && (*len == 1 || *len == 2 || *len == 4) &&
           range_ok(*off, *len, BAR_BYTES) && *off % *len == 0;
}

static bool window_data(const struct virtio_pci *v, unsigned off, unsigned size)
{
    unsigned data = v->window_cap + 16u;

    return off < data + 4 && off + size > data;
}

/* The bus's lock is held, which the MSI-X table needs for itself: that is out of the window's
 * reach. */
static bool window_open(const struct virtio_pci *v, u32 *off, u32 *len)
{
    return window_target(v, off, len) && *off < OFF_MSIX;
}

static void cfg_reading(struct pci_dev *pci, unsigned off, unsigned size)
{
    struct virtio_pci *v = container_of(pci, struct virtio_pci, pci);
    u32 at, len, val;

    if (!window_data(v, off, size) || !window_open(v, &at, &len))
        return;
    val = (u32)bar_read(v, at, len);
    memcpy(pci->cfg + v->window_cap + 16, &val, len);
}

static void cfg_written(struct pci_dev *pci, unsigned off, unsigned size)
{
    struct virtio_pci *v = container_of(pci, struct virtio_pci, pci);
    u32 at, len, val = 0;

    if (!window_data(v, off, size) || !window_open(v, &at, &len))
        return;
    memcpy(&val, pci->cfg + v->window_cap + 16, len);
    bar_write(v, at, len, val);
}

/* ---- building ---- */

/* struct virtio_pci_cap: vendor, next, length, type, bar, padding[3], le32 offset, length, more */
static u8 add_cap(struct virtio_pci *v, u8 type, u32 off, u32 len, u8 bytes, u32 more)
{
    u8 cap[20] = {0, 0, bytes, type};

    memcpy(cap + 8, &off, 4);
    memcpy(cap + 12, &len, 4);
    memcpy(cap + 16, &more, 4);
    return pci_add_cap(&v->pci, CAP_VENDOR, cap, bytes);
}

int virtio_pci_add(struct virtio_pci *v, struct virtio_dev *dev, struct pci_bus *bus, struct err *e)
{
    struct pci_ids ids = {
        .vendor = VENDOR_VIRTIO,
        .device = (u16)(DEVICE_VIRTIO + dev->ops->id),
        .subvendor = VENDOR_VIRTIO,
        .subdevice = SUBDEVICE_VIRTIO,
        .revision = 1,
        .class = dev->ops->pci_class,
    };
    unsigned vectors = MIN(dev->queues + 1, (unsigned)PCI_MSIX_MAX);
    u32 device_len = (dev->config_len + 3) & ~3u;

    memset(v, 0, sizeof(*v));
    v->dev = dev;
    pci_dev_init(&v->pci, dev->ops->name, &ids);
    pci_set_bar(&v->pci, 0, BAR_BYTES, false, &bar_ops, v);
    pci_add_intx(&v->pci);
    add_cap(v, CAP_COMMON, OFF_COMMON, 0x38, 16, 0);
    add_cap(v, CAP_NOTIFY, OFF_NOTIFY, dev->queues * NOTIFY_MULTIPLIER, 20, NOTIFY_MULTIPLIER);
    add_cap(v, CAP_ISR, OFF_ISR, 1, 16, 0);
    if (device_len)
        add_cap(v, CAP_DEVICE, OFF_DEVICE, device_len, 16, 0);
    v->window_cap = add_cap(v, CAP_WINDOW, 0, 0, 20, 0);
    v->pci.writable[v->window_cap + 4] = 0xff;
    memset(v->pci.writable + v->window_cap + 8, 0xff, 12);
    pci_add_msix(&v->pci, vectors, 0, OFF_MSIX, OFF_PBA);
    pci_add_msi(&v->pci);
    v->pci.ioeventfds = set_ioeventfds;
    v->pci.cfg_reading = cfg_reading;
    v->pci.cfg_written = cfg_written;
    dev->transport = (struct virtio_transport){signal_queue, signal_config, reset, v};
    return pci_add(bus, &v->pci, e);
}

static const struct snap_field fields[] = {SNAP_U8(struct virtio_pci, isr), SNAP_END};

static int check(const void *scratch, struct err *e)
{
    const struct virtio_pci *v = scratch;

    return v->isr & ~(ISR_QUEUE | ISR_CONFIG) ? err_set(e, EINVAL, "virtio-pci: ISR %#x", v->isr)
                                              : 0;
}

const struct snap_desc virtio_pci_snap = {
    .name = "virtio-pci",
    .version = 1,
    .size = sizeof(struct virtio_pci),
    .fields = fields,
    .check = check,
};
