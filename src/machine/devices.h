/* devices.h - the machine's virtio devices: made from its configuration, plugged into PCI */
#pragma once

#include "base/err.h"
#include "dev/virtio/virtio_pci.h"
#include "snap/snap.h"

#define DEVICES_MAX (PCI_SLOTS - 1)

struct iothread;
struct machine;
struct machine_config;

struct device {
    struct virtio_pci pci;
    struct virtio_dev *dev;
    struct iothread *io;
    void (*destroy)(struct virtio_dev *dev);
    const struct snap_desc *snap; /* of the device's own state; NULL: it has none */
    const char *unsaved;          /* why the machine cannot be saved: "a ..."; NULL: it can */
};

struct devices {
    struct device *item[DEVICES_MAX];
    unsigned count;
};

/* Makes what the configuration asks for and places the BARs. The board exists. 0 or -errno, and
 * then devices_stop and devices_destroy still undo what was made. Main thread, as all of this. */
must_check int devices_create(struct machine *m, const struct machine_config *cfg, struct err *e);
/* Ends the I/O threads and the devices: `stop` runs on the device's thread, `destroy` after that
 * has ended, with its loop still there. No vCPU runs. Before the board goes. */
void devices_stop(struct machine *m);
/* After the board went: frees the PCI functions that were plugged into it. */
void devices_destroy(struct machine *m);

/* For those who make one kind. An entry with an I/O thread of this name; what fails later is undone
 * by devices_stop and devices_destroy. */
must_check int device_new(struct machine *m, const char *name, struct device **out, struct err *e);
/* Takes over the finished device and plugs it in. */
must_check int device_plug(struct machine *m, struct device *d, struct virtio_dev *dev,
                           void (*destroy)(struct virtio_dev *dev), const struct snap_desc *snap,
                           struct err *e);
/* ports.c: the console and the named ports. */
must_check int ports_create(struct machine *m, const struct machine_config *cfg, struct err *e);
void ports_destroy(struct machine *m);

/* shares.c: the folders of the host. */
must_check int shares_create(struct machine *m, const struct machine_config *cfg, struct err *e);

/* Finishes what is in flight and holds the I/O threads; vCPUs are parked. Pairs. */
void devices_pause(struct machine *m);
void devices_resume(struct machine *m);

/* -EOPNOTSUPP with the reason when there is a device whose state lies elsewhere. */
must_check int devices_savable(struct machine *m, struct err *e);
/* Snapshot records: fills up to n and returns how many there are. */
size_t devices_snap_items(struct machine *m, struct snap_item *out, size_t n);
