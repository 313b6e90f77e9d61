/* sysctl.h - system control ports: 92h, reset register CF9h, PCI configuration mechanism 1 */
#pragma once

#include "mem/bus.h"
#include "snap/snap.h"

/* Wires of both. Called with the chip's lock held; must not call back. */
struct sysctl_host {
    void (*reset)(void *ctx, bool hard); /* hard: the whole board; else the processors */
    void (*a20)(void *ctx, bool on);
    void *ctx;
};

struct port92 {
    u8 val;
    struct sysctl_host host;
};

/* Who answers in the configuration data window: addr as in CONFIG_ADDRESS without bits 31 and
 * 1:0. */
struct pci_window {
    u32 (*read)(void *ctx, u32 addr, unsigned off, unsigned size);
    void (*write)(void *ctx, u32 addr, unsigned off, unsigned size, u32 val);
    void *ctx;
};

struct pciport {
    u32 address; /* CONFIG_ADDRESS */
    u8 reset;    /* CF9h */
    struct pci_window window;
    struct sysctl_host host;
};

void port92_init(struct port92 *p, const struct sysctl_host *host);
void port92_reset(struct port92 *p);
void pciport_init(struct pciport *p, const struct sysctl_host *host);
void pciport_reset(struct pciport *p);

extern const struct region_ops port92_ops;  /* one port */
extern const struct region_ops pciport_ops; /* CF8h-CFFh */
extern const struct snap_desc port92_snap, pciport_snap;
