/* msix.c - MSI-X (PCI Local Bus 3.0, 6.8.2) */
#include <string.h>

#include "base/checked.h"
#include "dev/pci/msix.h"
#include "host/event.h"

#define CAP_MSIX      0x11
#define CTL_ENABLE    0x8000u
#define CTL_MASK_ALL  0x4000u
#define ENTRY_BYTES   16u
#define ENTRY_CONTROL 12u
#define ENTRY_MASKED  1u

static u16 control(const struct pci_dev *d)
{
    u16 val;

    memcpy(&val, d->cfg + d->msix.cap + 2, 2);
    return val;
}

bool msix_on(const struct pci_dev *d)
{
    return d->msix.cap && control(d) & CTL_ENABLE;
}

bool msix_masked(const struct pci_dev *d, unsigned n)
{
    return control(d) & CTL_MASK_ALL ||
           d->msix.table[n * ENTRY_BYTES + ENTRY_CONTROL] & ENTRY_MASKED;
}

void msix_message(const struct pci_dev *d, unsigned n, u64 *addr, u32 *data)
{
    memcpy(addr, d->msix.table + n * ENTRY_BYTES, 8);
    memcpy(data, d->msix.table + n * ENTRY_BYTES + 8, 4);
}

void msix_fire(struct pci_dev *d, unsigned n)
{
    struct msix *m = &d->msix;
    u64 addr;
    u32 data;

    ASSERT(lock_held(&d->bus->lock));
    if (msix_masked(d, n)) {
        m->pending[n / 64] |= BIT64(n % 64);
        return;
    }
    m->pending[n / 64] &= ~BIT64(n % 64);
    msix_message(d, n, &addr, &data);
    d->bus->host.msi(d->bus->host.ctx, addr, data);
}

/* What became unmasked and was waiting. */
static void retry_locked(struct pci_dev *d)
{
    for (unsigned n = 0; msix_on(d) && n < d->msix.vectors; n++)
        if (d->msix.pending[n / 64] & BIT64(n % 64))
            msix_fire(d, n);
}

bool msix_notify(struct pci_dev *d, unsigned n)
{
    bool on;

    if (n < d->msix.vectors && __atomic_load_n(&d->msix.routed[n], __ATOMIC_SEQ_CST)) {
        event_signal(d->msix.fd[n]);
        return true;
    }
    lock_take(&d->bus->lock);
    on = msix_on(d);
    if (on && n < d->msix.vectors)
        msix_fire(d, n);
    lock_drop(&d->bus->lock);
    return on;
}

u64 msix_read(struct pci_dev *d, bool pba, u32 off, unsigned size)
{
    const u8 *from = pba ? (const u8 *)d->msix.pending : d->msix.table;
    u32 bytes = pba ? (d->msix.vectors + 63u) / 64 * 8 : d->msix.vectors * ENTRY_BYTES;
    u64 val = 0;

    lock_take(&d->bus->lock);
    if (range_ok(off, size, bytes))
        memcpy(&val, from + off, size);
    lock_drop(&d->bus->lock);
    return val;
}

void msix_write(struct pci_dev *d, u32 off, unsigned size, u64 val)
{
    lock_take(&d->bus->lock);
    if (range_ok(off, size, d->msix.vectors * ENTRY_BYTES)) {
        memcpy(d->msix.table + off, &val, size);
        msix_route(d, off / ENTRY_BYTES);
        retry_locked(d);
    }
    lock_drop(&d->bus->lock);
}

void msix_cfg_written(struct pci_dev *d, unsigned off, unsigned size)
{
    if (!d->msix.cap || off >= d->msix.cap + 4u || off + size <= d->msix.cap + 2u)
        return;
    msix_route_all(d);
    retry_locked(d);
}

void msix_reset(struct pci_dev *d)
{
    struct msix *m = &d->msix;

    memset(m->table, 0, sizeof(m->table));
    memset(m->pending, 0, sizeof(m->pending));
    if (!m->cap)
        return;
    d->cfg[m->cap + 3] &= (u8) ~((CTL_ENABLE | CTL_MASK_ALL) >> 8);
    for (unsigned n = 0; n < m->vectors; n++)
        m->table[n * ENTRY_BYTES + ENTRY_CONTROL] = ENTRY_MASKED;
    if (d->bus)
        msix_route_all(d);
}

void pci_add_msix(struct pci_dev *d, unsigned vectors, u8 bar, u32 table_off, u32 pba_off)
{
    u8 cap[12] = {0};
    u16 last = (u16)(vectors - 1);
    u32 table = table_off | bar, pba = pba_off | bar;

    ASSERT(vectors && vectors <= PCI_MSIX_MAX && !((table_off | pba_off) & 7));
    memcpy(cap + 2, &last, 2);
    memcpy(cap + 4, &table, 4);
    memcpy(cap + 8, &pba, 4);
    d->msix.vectors = (u16)vectors;
    for (unsigned n = 0; n < vectors; n++)
        d->msix.fd[n] = -1;
    d->msix.cap = pci_add_cap(d, CAP_MSIX, cap, sizeof(cap));
    d->writable[d->msix.cap + 3] = (CTL_ENABLE | CTL_MASK_ALL) >> 8;
    msix_reset(d);
}
