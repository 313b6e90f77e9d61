/* devices.c - the machine's virtio devices: made from its configuration, plugged into PCI */
#include "machine/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "dev/virtio/net.h"
#include "dev/virtio/balloon.h"
#include "dev/virtio/rng.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/vsock.h"
#include "host/iothread.h"
#include "machine/machine_priv.h"

/* ---- making one ---- */

int device_new(struct machine *m, const char *name, struct device **out, struct err *e)
{
    struct devices *all = &m->devices;
    struct device *d;

    if (all->count == DEVICES_MAX)
        return err_set(e, ENOSPC, "%s: a machine has at most %d devices", name, DEVICES_MAX);
    d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ENOMEM, "%s: no memory", name);
    all->item[all->count++] = d;
    *out = d;
    return iothread_create(&d->io, name, e);
}

int device_plug(struct machine *m, struct device *d, struct virtio_dev *dev,
                void (*destroy)(struct virtio_dev *dev), const struct snap_desc *snap,
                struct err *e)
{
    d->dev = dev;
    d->destroy = destroy;
    d->snap = snap;
    return virtio_pci_add(&d->pci, dev, pc_pci(m->pc), e);
}

/* ---- one function a kind ---- */

static int host_random(void *ctx, void *buf, size_t len)
{
    u8 *at = buf;

    while (len) {
        ssize_t n = getrandom(at, len, 0);

        if (n < 0 && errno != EINTR)
            return -errno;
        at += MAX(n, 0);
        len -= (size_t)MAX(n, 0);
    }
    return 0;
}

static int make_rng(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    struct virtio_rng_config rng = {.random = host_random};
    struct virtio_rng *dev;
    struct device *d = NULL;
    int rc;

    if (!cfg->rng)
        return 0;
    rc = device_new(m, "rng", &d, e);
    if (!rc)
        rc = virtio_rng_create(&rng, m->mem, iothread_loop(d->io), &dev, e);
    return rc ? rc : device_plug(m, d, &dev->dev, virtio_rng_destroy, NULL, e);
}

static int open_backend(const struct machine_net *net, struct loop *loop, struct netdev **out,
                        struct err *e)
{
    switch (net->kind) {
    case NET_TAP: return net_open_tap(net->path, loop, out, e);
    case NET_STREAM: return net_open_stream(net->path, net->server, loop, out, e);
    case NET_DGRAM: return net_open_dgram(net->path, net->remote, loop, out, e);
    default: return net_open_user(&net->user, loop, out, e);
    }
}

static int make_nic(struct machine *m, const struct machine_net *net, struct err *e)
{
    struct netdev *backend = NULL;
    struct virtio_dev *dev;
    struct device *d = NULL;
    int rc = device_new(m, "net", &d, e);

    if (!rc)
        rc = open_backend(net, iothread_loop(d->io), &backend, e);
    if (rc)
        return rc;
    rc = virtio_net_create(net->mac, backend, m->mem, iothread_loop(d->io), &dev, e);
    if (rc) {
        iothread_stop(d->io);
        netdev_close(backend);
        return rc;
    }
    return device_plug(m, d, dev, virtio_net_destroy, NULL, e);
}

static int make_nics(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; i < cfg->nets && !rc; i++)
        rc = make_nic(m, &cfg->net[i], e);
    return rc;
}

static int make_disk(struct machine *m, const struct machine_disk *cfg, unsigned n, struct err *e)
{
    char name[] = {'d', 'i', 's', 'k', ' ', 'v', 'd', (char)('a' + n), '\0'};
    struct virtio_blk_config blk = {
        .serial = cfg->serial,
        .queues = MIN(m->cpus, (unsigned)BLK_QUEUES_MAX),
    };
    struct device *d = NULL;
    struct virtio_blk *b;
    int rc = device_new(m, name, &d, e);

    if (!rc)
        rc = disk_open(&cfg->disk, &blk.disk, e);
    if (rc)
        return rc;
    rc = virtio_blk_create(&blk, m->mem, iothread_loop(d->io), &b, e);
    if (rc) {
        (void)!disk_close(blk.disk);
        return rc;
    }
    return device_plug(m, d, virtio_blk_dev(b), virtio_blk_destroy, &virtio_blk_snap, e);
}

static int make_disks(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; i < cfg->disks && !rc; i++)
        rc = make_disk(m, &cfg->disk[i], i, e);
    return rc;
}

static int make_balloon(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    struct virtio_balloon *dev;
    struct device *d = NULL;
    int rc;

    if (!cfg->balloon)
        return 0;
    rc = device_new(m, "balloon", &d, e);
    if (!rc)
        rc = virtio_balloon_create(m->mem, iothread_loop(d->io), &dev, e);
    if (rc)
        return rc;
    m->balloon = dev;
    return device_plug(m, d, &dev->dev, virtio_balloon_destroy, &virtio_balloon_snap, e);
}

static int make_vsock(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    struct virtio_vsock_config vsock = {.cid = cfg->vsock.cid, .path = cfg->vsock.path};
    struct virtio_vsock *dev;
    struct device *d = NULL;
    int rc;

    if (!*cfg->vsock.path)
        return 0;
    rc = device_new(m, "vsock", &d, e);
    if (!rc)
        rc = virtio_vsock_create(&vsock, m->mem, iothread_loop(d->io), &dev, e);
    if (rc)
        return rc;
    return device_plug(m, d, virtio_vsock_dev(dev), virtio_vsock_destroy, &virtio_vsock_snap, e);
}

/* ---- all of them, in the order of their slots ---- */

typedef int make_fn(struct machine *m, const struct machine_config *cfg, struct err *e);

static make_fn *const makers[] = {
    make_rng, make_nics, make_disks, ports_create, make_balloon, make_vsock, shares_create, NULL,
};

int devices_create(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    int rc = 0;

    for (make_fn *const *make = makers; *make && !rc; make++)
        rc = (*make)(m, cfg, e);
    if (!rc)
        pci_bus_reset(pc_pci(m->pc));
    return rc;
}

static void stop(void *arg)
{
    struct virtio_dev *dev = arg;

    if (dev->started)
        dev->ops->stop(dev);
    dev->started = false;
}

void devices_stop(struct machine *m)
{
    for (unsigned i = 0; i < m->devices.count; i++) {
        struct device *d = m->devices.item[i];

        if (d->dev)
            iothread_call(d->io, stop, d->dev);
        iothread_stop(d->io);
        if (d->dev)
            d->destroy(d->dev);
        iothread_destroy(d->io);
    }
}

void devices_destroy(struct machine *m)
{
    while (m->devices.count)
        free(m->devices.item[--m->devices.count]);
}

/* ---- pausing ---- */

static void quiesce(void *arg)
{
    struct virtio_dev *dev = arg;

    if (dev->started && dev->ops->quiesce)
        dev->ops->quiesce(dev);
}

void devices_pause(struct machine *m)
{
    for (unsigned i = 0; i < m->devices.count; i++) {
        iothread_call(m->devices.item[i]->io, quiesce, m->devices.item[i]->dev);
        iothread_pause(m->devices.item[i]->io);
    }
}

void devices_resume(struct machine *m)
{
    for (unsigned i = 0; i < m->devices.count; i++)
        iothread_resume(m->devices.item[i]->io);
}

/* ---- snapshots ---- */

int devices_savable(struct machine *m, struct err *e)
{
    for (unsigned i = 0; i < m->devices.count; i++)
        if (m->devices.item[i]->unsaved)
            return err_set(e, EOPNOTSUPP, "snapshot: the machine has %s, which cannot be saved",
                           m->devices.item[i]->unsaved);
    return 0;
}

struct item_list {
    struct snap_item *out;
    size_t room, n;
    u32 queues; /* counted over all devices */
};

static void list_item(struct item_list *l, const struct snap_desc *desc, u32 instance, void *obj)
{
    if (l->n < l->room)
        l->out[l->n] = (struct snap_item){desc, instance, obj};
    l->n++;
}

/* A device's own state and its queues come before its registers, whose loading starts it. */
size_t devices_snap_items(struct machine *m, struct snap_item *out, size_t n)
{
    struct item_list l = {out, n, 0, 0};

    for (u32 i = 0; i < m->devices.count; i++) {
        struct device *d = m->devices.item[i];

        if (d->snap)
            list_item(&l, d->snap, i, d->dev);
        for (unsigned q = 0; q < d->dev->queues; q++)
            list_item(&l, &virtq_snap, l.queues++, &d->dev->queue[q]);
        list_item(&l, &virtio_pci_snap, i, &d->pci);
        list_item(&l, &virtio_snap, i, d->dev);
    }
    return l.n;
}
