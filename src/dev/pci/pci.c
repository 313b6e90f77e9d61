/* pci.c - PCI functions on bus 0: configuration space and BARs (PCI Local Bus 3.0, chapter 6) */
#include "dev/pci/pci.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "dev/pci/msix.h"

#define BAR_IO      0x1u
#define CAP_FIRST   0x40
#define HEADER_END  0x40
#define STS_DEVSEL  0x0200 /* medium */
#define ROOT_VENDOR 0x1b36 /* the generic host bridge that other monitors offer too */
#define ROOT_DEVICE 0x0008

static u32 get(const u8 *cfg, unsigned off, unsigned size)
{
    u32 val = 0;

    memcpy(&val, cfg + off, size);
    return val;
}

static void put(u8 *cfg, unsigned off, unsigned size, u32 val)
{
    memcpy(cfg + off, &val, size);
}

/* ---- BARs ---- */

static u64 bar_address(const struct pci_dev *d, unsigned n)
{
    return get(d->cfg, PCI_BAR0 + 4 * n, 4) & ~(d->bar[n].io ? 3u : 15u);
}

/* Where the registers and the command say it should be; false: nowhere. While a guest sizes a BAR
 * it holds all ones, which is no place. */
static bool bar_wanted(const struct pci_dev *d, unsigned n, u64 *base)
{
    const struct pci_bar *bar = &d->bar[n];
    u16 command = (u16)get(d->cfg, PCI_COMMAND, 2);
    u64 limit = bar->io ? 0x10000 : 0xfec00000; /* the interrupt controllers lie above */

    *base = bar_address(d, n);
    return bar->size && command & (bar->io ? CMD_IO : CMD_MEMORY) && *base &&
           range_ok(*base, bar->size, limit);
}

static struct bus *bar_bus(const struct pci_dev *d, unsigned n)
{
    return d->bar[n].io ? d->bus->host.pio : d->bus->host.mmio;
}

static void set_ioeventfds(struct pci_dev *d, unsigned n, bool on)
{
    if (d->bus->ioeventfds && d->ioeventfds && d->bus->host.ioeventfd)
        d->ioeventfds(d, n, on);
}

static void unmap_bar(struct pci_dev *d, unsigned n)
{
    if (!d->bar[n].mapped)
        return;
    set_ioeventfds(d, n, false);
    (void)!bus_del(bar_bus(d, n), d->bar[n].base);
    d->bar[n].mapped = false;
}

/* A BAR that the guest puts over something else answers nowhere. */
static void map_bar(struct pci_dev *d, unsigned n)
{
    struct pci_bar *bar = &d->bar[n];
    struct region r = {.size = bar->size, .ops = bar->ops, .dev = bar->dev, .name = d->name};
    bool wanted = bar_wanted(d, n, &r.base);

    if (wanted == bar->mapped && (!wanted || r.base == bar->base))
        return;
    unmap_bar(d, n);
    if (!wanted)
        return;
    bar->mapped = bus_add(bar_bus(d, n), &r, NULL) == 0;
    bar->base = r.base;
    if (bar->mapped)
        set_ioeventfds(d, n, true);
    else
        log_guest("%s: BAR %u at %#llx lies over another device", d->name, n,
                  (unsigned long long)r.base);
}

static void map_bars(struct pci_dev *d)
{
    for (unsigned n = 0; n < PCI_BARS; n++)
        map_bar(d, n);
}

void pci_bus_ioeventfds(struct pci_bus *b, bool on)
{
    lock_take(&b->lock);
    b->ioeventfds = true; /* for taking them back, too */
    for (unsigned i = 0; i < PCI_SLOTS; i++)
        for (unsigned n = 0; b->dev[i] && n < PCI_BARS; n++)
            if (b->dev[i]->bar[n].mapped)
                set_ioeventfds(b->dev[i], n, on);
    b->ioeventfds = on;
    lock_drop(&b->lock);
}

/* ---- INTx ---- */

static bool intx_level(const struct pci_dev *d)
{
    return d->intx && !(get(d->cfg, PCI_COMMAND, 2) & CMD_INTX_OFF) && !msix_on(d) && !msi_on(d);
}

/* The lines are shared: each is the OR of its functions, which are computed anew. */
static void update_intx_locked(struct pci_bus *b)
{
    bool level[4] = {false};

    ASSERT(lock_held(&b->lock));
    for (unsigned i = 0; i < PCI_SLOTS; i++) {
        struct pci_dev *d = b->dev[i];

        if (!d || !d->cfg[PCI_INT_PIN])
            continue;
        d->cfg[PCI_STATUS] = (u8)((d->cfg[PCI_STATUS] & ~STS_INTX) | (d->intx ? STS_INTX : 0));
        level[(i + d->cfg[PCI_INT_PIN] - 1u) % 4] |= intx_level(d);
    }
    for (unsigned pin = 0; pin < 4; pin++) {
        bool shared = level[pin];

        for (unsigned other = 0; other < 4; other++)
            if (b->host.intx_gsi[other] == b->host.intx_gsi[pin])
                shared |= level[other];
        b->host.irq(b->host.ctx, b->host.intx_gsi[pin], shared);
    }
}

void pci_set_intx(struct pci_dev *d, bool level)
{
    struct pci_bus *b = d->bus;
    bool inside = lock_held(&b->lock); /* an access through configuration space */

    if (!inside)
        lock_take(&b->lock);
    if (d->intx != level) {
        d->intx = level;
        update_intx_locked(b);
    }
    if (!inside)
        lock_drop(&b->lock);
}

/* ---- configuration space ---- */

static struct pci_dev *find(struct pci_bus *b, unsigned bdf, unsigned off)
{
    return bdf & 7 || bdf >= PCI_SLOTS << 3 || off >= PCI_CFG_BYTES ? NULL : b->dev[bdf >> 3];
}

u32 pci_config_read(struct pci_bus *b, unsigned bdf, unsigned off, unsigned size)
{
    struct pci_dev *d;
    u32 val;

    lock_take(&b->lock);
    d = find(b, bdf, off);
    if (!d) /* the extended space of a function that is there is empty */
        val = find(b, bdf, 0) ? 0 : 0xffffffff;
    else if (off >= HEADER_END && d->cfg_reading)
        d->cfg_reading(d, off, size), val = get(d->cfg, off, size);
    else
        val = get(d->cfg, off, size);
    lock_drop(&b->lock);
    return val;
}

static void after_write(struct pci_dev *d, unsigned off, unsigned size)
{
    if (off >= HEADER_END) {
        msi_cfg_written(d, off, size);
        msix_cfg_written(d, off, size);
        if (d->cfg_written)
            d->cfg_written(d, off, size);
    }
    if (off < PCI_BAR0 + 4 * PCI_BARS)
        map_bars(d);
    update_intx_locked(d->bus);
}

void pci_config_write(struct pci_bus *b, unsigned bdf, unsigned off, unsigned size, u32 val)
{
    struct pci_dev *d;

    lock_take(&b->lock);
    d = find(b, bdf, off);
    if (d) {
        u32 mask = get(d->writable, off, size);

        put(d->cfg, off, size, (get(d->cfg, off, size) & ~mask) | (val & mask));
        after_write(d, off, size);
    }
    lock_drop(&b->lock);
}

/* ECAM: bus 27:20, device 19:15, function 14:12, register 11:0 (PCI Express 7.2.2) */
static u64 ecam_read(void *dev, u64 off, unsigned size)
{
    return pci_config_read(dev, (unsigned)(off >> 12), (unsigned)off & 0xfff, size);
}

static void ecam_write(void *dev, u64 off, unsigned size, u64 val)
{
    pci_config_write(dev, (unsigned)(off >> 12), (unsigned)off & 0xfff, size, (u32)val);
}

const struct region_ops pci_ecam_ops = {ecam_read, ecam_write, 1, 8, 1, 4, false};

/* ---- building ---- */

void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_ids *ids)
{
    memset(d, 0, sizeof(*d));
    d->name = name;
    put(d->cfg, PCI_VENDOR_ID, 2, ids->vendor);
    put(d->cfg, PCI_DEVICE_ID, 2, ids->device);
    put(d->cfg, PCI_STATUS, 2, STS_DEVSEL);
    put(d->cfg, PCI_REVISION, 1, ids->revision);
    put(d->cfg, PCI_CLASS, 3, ids->class);
    put(d->cfg, PCI_SUBVENDOR_ID, 2, ids->subvendor);
    put(d->cfg, PCI_SUBDEVICE_ID, 2, ids->subdevice);
    put(d->writable, PCI_COMMAND, 2, CMD_IO | CMD_MEMORY | CMD_MASTER | CMD_INTX_OFF);
    d->writable[PCI_INT_LINE] = 0xff;
    d->writable[0x0c] = 0xff; /* cache line size */
    d->cap_end = CAP_FIRST;
}

void pci_set_bar(struct pci_dev *d, unsigned n, u64 size, bool io, const struct region_ops *ops,
                 void *dev)
{
    ASSERT(n < PCI_BARS && size >= (io ? 4 : 16) && !(size & (size - 1)));
    d->bar[n] = (struct pci_bar){.size = size, .io = io, .ops = ops, .dev = dev};
    put(d->cfg, PCI_BAR0 + 4 * n, 4, io ? BAR_IO : 0);
    put(d->writable, PCI_BAR0 + 4 * n, 4, (u32) ~(size - 1) & (io ? 0xffff : 0xffffffff));
}

u8 pci_add_cap(struct pci_dev *d, u8 id, const void *data, u8 len)
{
    u8 at = d->cap_end;

    ASSERT(at + len <= PCI_CFG_BYTES);
    memcpy(d->cfg + at, data, len);
    d->cfg[at] = id;
    d->cfg[at + 1] = 0;
    d->cfg[d->cap_last ? d->cap_last + 1 : PCI_CAPABILITIES] = at;
    d->cfg[PCI_STATUS] |= STS_CAPS;
    d->cap_last = at;
    d->cap_end = (u8)((at + len + 3) & ~3);
    return at;
}

void pci_add_intx(struct pci_dev *d)
{
    d->cfg[PCI_INT_PIN] = 1;
}

int pci_add(struct pci_bus *b, struct pci_dev *d, struct err *e)
{
    int rc = -ENOSPC;

    lock_take(&b->lock);
    for (unsigned slot = 0; slot < PCI_SLOTS && rc; slot++) {
        if (b->dev[slot])
            continue;
        b->dev[slot] = d;
        d->bus = b;
        d->slot = slot;
        rc = 0;
    }
    lock_drop(&b->lock);
    return rc ? err_set(e, ENOSPC, "%s: all %d PCI slots are taken", d->name, PCI_SLOTS) : 0;
}

/* ---- reset ---- */

static u64 place_bar(struct pci_bus *b, const struct pci_bar *bar, u64 *next)
{
    u64 base = align_up(*next, bar->size);

    *next = base + bar->size;
    return *next <= (bar->io ? b->host.io_end : b->host.mmio_end) ? base : 0;
}

/* What a firmware leaves behind: BARs one after the other, decoding on, interrupt lines noted. */
static void reset_dev(struct pci_bus *b, struct pci_dev *d, u64 *mmio, u64 *io)
{
    u16 command = 0;

    msi_reset(d);
    msix_reset(d);
    d->intx = false;
    for (unsigned n = 0; n < PCI_BARS; n++) {
        struct pci_bar *bar = &d->bar[n];

        unmap_bar(d, n);
        if (!bar->size)
            continue;
        put(d->cfg, PCI_BAR0 + 4 * n, 4,
            (u32)place_bar(b, bar, bar->io ? io : mmio) | (bar->io ? BAR_IO : 0));
        command |= bar->io ? CMD_IO : CMD_MEMORY;
    }
    put(d->cfg, PCI_COMMAND, 2, command);
    if (d->cfg[PCI_INT_PIN])
        d->cfg[PCI_INT_LINE] = b->host.intx_gsi[(d->slot + d->cfg[PCI_INT_PIN] - 1u) % 4];
    map_bars(d);
}

void pci_bus_reset(struct pci_bus *b)
{
    u64 mmio = b->host.mmio_base, io = b->host.io_base;
    bool inside = lock_held(&b->lock);

    if (!inside)
        lock_take(&b->lock);
    for (unsigned i = 0; i < PCI_SLOTS; i++)
        for (unsigned n = 0; b->dev[i] && n < PCI_BARS; n++)
            unmap_bar(b->dev[i], n);
    for (unsigned i = 0; i < PCI_SLOTS; i++)
        if (b->dev[i])
            reset_dev(b, b->dev[i], &mmio, &io);
    update_intx_locked(b);
    if (!inside)
        lock_drop(&b->lock);
}

void pci_bus_init(struct pci_bus *b, const struct pci_host *host)
{
    static const struct pci_ids root = {.vendor = ROOT_VENDOR,
                                        .device = ROOT_DEVICE,
                                        .subvendor = 0x1af4,
                                        .subdevice = 0x1100,
                                        .class = 0x060000};

    b->host = *host;
    pci_dev_init(&b->root, "PCI host bridge", &root);
    b->root.bus = b;
    b->dev[0] = &b->root;
}

void pci_bus_fini(struct pci_bus *b)
{
    for (unsigned i = 0; i < PCI_SLOTS; i++) {
        for (unsigned n = 0; b->dev[i] && n < PCI_BARS; n++)
            unmap_bar(b->dev[i], n);
        if (b->dev[i])
            msix_close(b->dev[i]);
    }
}

/* ---- snapshots ---- */

static const struct snap_field fields[] = {
    SNAP_U8(struct pci_dev, cfg),
    SNAP_BOOL(struct pci_dev, intx),
    SNAP_U8(struct pci_dev, msix.table),
    SNAP_U64(struct pci_dev, msix.pending),
    SNAP_END,
};

/* Any bytes are a possible configuration: the guest wrote most of them, and what it could not write
 * is put right afterwards. */
static int check(const void *scratch, struct err *e)
{
    const struct pci_dev *d = scratch;

    return d->cfg[PCI_INT_PIN] > 4
               ? err_set(e, EINVAL, "pci: interrupt pin %u", d->cfg[PCI_INT_PIN])
               : 0;
}

static void loaded(void *obj)
{
    struct pci_dev *d = obj;

    map_bars(d);
    msix_route_all(d);
    update_intx_locked(d->bus);
}

const struct snap_desc pci_snap = {
    .name = "pci",
    .version = 1,
    .size = sizeof(struct pci_dev),
    .fields = fields,
    .check = check,
    .loaded = loaded,
};
