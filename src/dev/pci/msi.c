/* msi.c - MSI with one maskable 64-bit message (PCI Local Bus 3.0, 6.8.1) */
#include <string.h>

#include "dev/pci/msix.h"

#define CAP_MSI       0x05
#define CAP_MSI_BYTES 24u
#define CTL_ENABLE    0x01
#define CTL_64BIT     0x80
#define CTL_MASKABLE  0x01 /* of the upper byte */
#define OFF_CONTROL   2
#define OFF_ADDRESS   4
#define OFF_DATA      12
#define OFF_MASK      16
#define OFF_PENDING   20

bool msi_on(const struct pci_dev *d)
{
    return d->msi_cap && d->cfg[d->msi_cap + OFF_CONTROL] & CTL_ENABLE;
}

/* Sends or remembers. */
static void fire_locked(struct pci_dev *d)
{
    u8 *cap = d->cfg + d->msi_cap;
    u64 addr;
    u16 data;

    ASSERT(lock_held(&d->bus->lock));
    cap[OFF_PENDING] = cap[OFF_MASK] & 1;
    if (cap[OFF_PENDING])
        return;
    memcpy(&addr, cap + OFF_ADDRESS, sizeof(addr));
    memcpy(&data, cap + OFF_DATA, sizeof(data));
    d->bus->host.msi(d->bus->host.ctx, addr, data);
}

bool msi_notify(struct pci_dev *d)
{
    bool inside = lock_held(&d->bus->lock), on;

    if (!inside)
        lock_take(&d->bus->lock);
    on = msi_on(d);
    if (on)
        fire_locked(d);
    if (!inside)
        lock_drop(&d->bus->lock);
    return on;
}

void msi_cfg_written(struct pci_dev *d, unsigned off, unsigned size)
{
    if (msi_on(d) && off < d->msi_cap + CAP_MSI_BYTES && off + size > d->msi_cap &&
        d->cfg[d->msi_cap + OFF_PENDING])
        fire_locked(d);
}

void msi_reset(struct pci_dev *d)
{
    if (!d->msi_cap)
        return;
    d->cfg[d->msi_cap + OFF_CONTROL] &= (u8)~CTL_ENABLE;
    memset(d->cfg + d->msi_cap + OFF_ADDRESS, 0, CAP_MSI_BYTES - OFF_ADDRESS);
}

void pci_add_msi(struct pci_dev *d)
{
    u8 cap[CAP_MSI_BYTES] = {[OFF_CONTROL] = CTL_64BIT, [OFF_CONTROL + 1] = CTL_MASKABLE};
    u8 *writable;

    d->msi_cap = pci_add_cap(d, CAP_MSI, cap, sizeof(cap));
    writable = d->writable + d->msi_cap;
    writable[OFF_CONTROL] = CTL_ENABLE;
    memset(writable + OFF_ADDRESS, 0xff, 10); /* address and 16 bits of data */
    writable[OFF_ADDRESS] = 0xfc;
    writable[OFF_MASK] = 1;
}
