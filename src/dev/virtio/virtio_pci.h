/* virtio_pci.h - the PCI transport of a virtio device (virtio 1.2, 4.1; modern only) */
#pragma once

#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"

struct virtio_pci {
    struct pci_dev pci;
    struct virtio_dev *dev;
    u8 isr;        /* atomic: 1 a used buffer, 2 the configuration */
    u8 window_cap; /* the capability through which configuration space reaches the registers */
};

/* Wraps dev, which it does not own, in a PCI function and plugs that in. 0 or -errno; on failure
 * nothing is plugged. Before the guest runs. */
must_check int virtio_pci_add(struct virtio_pci *v, struct virtio_dev *dev, struct pci_bus *bus,
                              struct err *e);

extern const struct snap_desc virtio_pci_snap; /* the ISR; obj = struct virtio_pci */
