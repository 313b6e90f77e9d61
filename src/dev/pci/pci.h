/* pci.h - PCI functions on bus 0: configuration space, BARs, INTx, MSI-X (PCI Local Bus 3.0) */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "base/lock.h"
#include "mem/bus.h"
#include "snap/snap.h"

/* Registers of a type 0 header */
#define PCI_VENDOR_ID    0x00
#define PCI_DEVICE_ID    0x02
#define PCI_COMMAND      0x04
#define PCI_STATUS       0x06
#define PCI_REVISION     0x08
#define PCI_CLASS        0x09
#define PCI_HEADER_TYPE  0x0e
#define PCI_BAR0         0x10
#define PCI_SUBVENDOR_ID 0x2c
#define PCI_SUBDEVICE_ID 0x2e
#define PCI_CAPABILITIES 0x34
#define PCI_INT_LINE     0x3c
#define PCI_INT_PIN      0x3d

#define CMD_IO       0x0001
#define CMD_MEMORY   0x0002
#define CMD_MASTER   0x0004
#define CMD_INTX_OFF 0x0400
#define STS_INTX     0x0008
#define STS_CAPS     0x0010

#define PCI_CFG_BYTES 256
#define PCI_BARS      6

struct pci_bus;

struct pci_ids {
    u16 vendor, device, subvendor, subdevice;
    u8 revision;
    u32 class; /* 24 bits: class, subclass, interface */
};

/* One function. A device embeds it; the bus fills `slot`. Everything is under the bus's lock. */
struct pci_dev {
    const char *name;
    struct pci_bus *bus;
    unsigned slot;
    u8 cfg[PCI_CFG_BYTES];
    u8 writable[PCI_CFG_BYTES]; /* bits the guest may change */
    u8 cap_end;                 /* where the next capability goes */
    u8 cap_last;                /* the last one in the list */

    struct pci_bar {
        u64 size; /* 0: none; a power of two, at least 16 (memory) or 4 (I/O) */
        bool io;
        const struct region_ops *ops;
        void *dev;
        bool mapped;
        u64 base; /* while mapped */
    } bar[PCI_BARS];
    /* Registers the eventfds of BAR n, which lies at bar[n].base, with host.ioeventfd, or takes
     * them back; may be NULL. The bus's lock is held. */
    void (*ioeventfds)(struct pci_dev *d, unsigned n, bool on);

    /* Bytes of a register behind the header were written; may be NULL. The bus's lock is held. */
    void (*cfg_written)(struct pci_dev *d, unsigned off, unsigned size);
    /* Before a read of a register behind the header; may be NULL. The bus's lock is held. */
    void (*cfg_reading)(struct pci_dev *d, unsigned off, unsigned size);

    bool intx;  /* level of its pin */
    u8 msi_cap; /* offset of the capability, 0: none */
    struct msix {
        u8 cap; /* offset of the capability, 0: none */
        u16 vectors;
        u8 table[PCI_MSIX_MAX * 16];
        u64 pending[PCI_MSIX_MAX / 64]; /* the pending bit array */
        int fd[PCI_MSIX_MAX];           /* eventfds; -1: none yet */
        bool routed[PCI_MSIX_MAX];      /* fd[n] sends route[n]; read without the lock */
        struct {
            u64 addr;
            u32 data;
        } route[PCI_MSIX_MAX];
    } msix;
};

struct pci_host {
    struct bus *pio, *mmio;
    void (*irq)(void *ctx, unsigned gsi, bool level); /* INTx; repeated equal levels are fine */
    bool (*msi)(void *ctx, u64 addr, u32 data);
    /* From `on` until off, a guest's writes to this address may signal eventfd `fd` in place of
     * reaching the bus. Where they do not, and when it is NULL, they reach it. */
    void (*ioeventfd)(void *ctx, u64 gpa, int fd, bool on);
    /* From `on` until off, signals of eventfd `fd` send this message; repeated, they send another
     * from then on. False: they do not. May be NULL. */
    bool (*irqfd)(void *ctx, int fd, u64 addr, u32 data, bool on);
    void *ctx;
    u8 intx_gsi[4];          /* INTA#..INTD# of slot 0; each further slot is one pin on */
    u64 mmio_base, mmio_end; /* where BARs are put at reset */
    u64 io_base, io_end;
};

struct pci_bus {
    struct pci_host host;
    bool irqfds;      /* host.irqfd serves */
    bool ioeventfds;  /* host.ioeventfd serves */
    struct lock lock; /* before the devices' and the interrupt lock */
    struct pci_dev *dev[PCI_SLOTS];
    struct pci_dev root; /* the host bridge, in slot 0 */
};

/* The host bridge alone. `b` is zeroed but for its lock, which its owner makes and destroys. */
void pci_bus_init(struct pci_bus *b, const struct pci_host *host);
void pci_bus_fini(struct pci_bus *b);
/* Configuration accesses by mechanism 1 (`addr` as in dev/sysctl.h) and by ECAM. Any thread. */
u32 pci_config_read(struct pci_bus *b, unsigned bdf, unsigned off, unsigned size);
void pci_config_write(struct pci_bus *b, unsigned bdf, unsigned off, unsigned size, u32 val);
extern const struct region_ops pci_ecam_ops; /* dev = struct pci_bus; locks for itself */
/* host.ioeventfd serves from now on, or not any longer. Not before all functions are plugged in,
 * nor after one is gone. */
void pci_bus_ioeventfds(struct pci_bus *b, bool on);
/* The same for host.irqfd, at any time. Nobody sends messages while it stops to serve: those sent
 * before are with their processors then. */
void pci_bus_irqfds(struct pci_bus *b, bool on);
/* Power-on state of every function, BARs placed and enabled as a firmware would. The bus's lock may
 * be held. */
void pci_bus_reset(struct pci_bus *b);

/* Building a function, before pci_add: header, then BARs and capabilities. */
void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_ids *ids);
/* The region ops lock for themselves: accesses come with no lock held. Memory BARs are 32-bit. */
void pci_set_bar(struct pci_dev *d, unsigned n, u64 size, bool io, const struct region_ops *ops,
                 void *dev);
/* Appends a capability of `len` bytes (id and next pointer included, which it fills) and returns
 * its offset. */
u8 pci_add_cap(struct pci_dev *d, u8 id, const void *data, u8 len);
/* MSI-X with table and pending bits in BAR `bar` at these offsets: the device's region ops pass
 * accesses there on to msix_read and msix_write. */
void pci_add_msix(struct pci_dev *d, unsigned vectors, u8 bar, u32 table_off, u32 pba_off);
/* MSI with one message. */
void pci_add_msi(struct pci_dev *d);
/* Uses INTA#. */
void pci_add_intx(struct pci_dev *d);

/* Plugs it in. -ENOSPC when all slots are taken. Before the guest runs. */
must_check int pci_add(struct pci_bus *b, struct pci_dev *d, struct err *e);

/* The function's interrupt pin. Any thread; no lock of a device held. */
void pci_set_intx(struct pci_dev *d, bool level);
/* Sends MSI-X message n, or remembers it while masked; one beyond the table is dropped. False when
 * MSI-X is off: use INTx. Any
 * thread; no lock of a device or the bus held. */
bool msix_notify(struct pci_dev *d, unsigned n);
/* The same for the one message of MSI; the bus's lock may be held. */
bool msi_notify(struct pci_dev *d);
u64 msix_read(struct pci_dev *d, bool pba, u32 off, unsigned size);
void msix_write(struct pci_dev *d, u32 off, unsigned size, u64 val); /* table only */

extern const struct snap_desc pci_snap; /* obj = struct pci_dev, plugged in */
