/* pc_pci.c - the board's PCI bus: its place on the buses and its interrupt pins */
#include <string.h>

#include "base/log.h"
#include "machine/pc_priv.h"

/* Configuration mechanism 1: CONFIG_ADDRESS is bus 23:16, device 15:11, function 10:8, register 7:2
 * (PCI Local Bus 3.0, 3.2.2.3.2). */
static u32 window_read(void *ctx, u32 addr, unsigned off, unsigned size)
{
    return pci_config_read(ctx, addr >> 8 & 0xffff, (addr & 0xfc) + off, size);
}

static void window_write(void *ctx, u32 addr, unsigned off, unsigned size, u32 val)
{
    pci_config_write(ctx, addr >> 8 & 0xffff, (addr & 0xfc) + off, size, val);
}

static void set_line(void *ctx, unsigned gsi, bool level)
{
    pc_set_source(ctx, SRC_PCI, gsi, level);
}

static bool send_msi(void *ctx, u64 addr, u32 data)
{
    return pc_msi(ctx, addr, data);
}

static bool set_irqfd(void *ctx, int fd, u64 addr, u32 data, bool on)
{
    struct pc *pc = ctx;

    return pc->irqchip->irqfd(pc->engine_vm, fd, addr, data, on) == 0;
}

static void set_ioeventfd(void *ctx, u64 gpa, int fd, bool on)
{
    struct pc *pc = ctx;
    int rc = pc->engine->ioeventfd(pc->engine_vm, gpa, fd, on);

    if (rc && on)
        log_msg(LOG_DEBUG, "engine %s: no eventfd at %#llx: %s", pc->engine->name,
                (unsigned long long)gpa, strerror(-rc));
}

void pc_pci_create(struct pc *pc)
{
    struct pci_host host = {
        .pio = pc->cfg.pio,
        .mmio = pc->cfg.mmio,
        .irq = set_line,
        .msi = send_msi,
        .ioeventfd = set_ioeventfd,
        .irqfd = set_irqfd,
        .ctx = pc,
        .intx_gsi = {PC_GSI_PCI_EVEN, PC_GSI_PCI_ODD, PC_GSI_PCI_EVEN, PC_GSI_PCI_ODD},
        .mmio_base = PC_PCI_MMIO,
        .mmio_end = PC_PCI_MMIO_END,
        .io_base = PC_PORT_PCI_BARS,
        .io_end = PC_PORT_PCI_BARS_END,
    };

    pci_bus_init(&pc->pci, &host);
    pc->pciport.window = (struct pci_window){window_read, window_write, &pc->pci};
}

struct pci_bus *pc_pci(struct pc *pc)
{
    return &pc->pci;
}
