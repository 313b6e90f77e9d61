/* pc.c - the table of chips on the board, and its life */
#include "machine/pc_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HPET_ROUTES (BIT(2) | BIT(8) | 0xfu << PC_GSI_HPET_FIRST)

/* ---- THE table: what answers where, and under which lock ---- */

enum bus_kind { PIO, MMIO };

struct board_row {
    const char *name;
    enum bus_kind bus;
    u64 base, size;
    const struct region_ops *ops;
    size_t dev, lock; /* offsets in struct pc; lock 0 = none */
};

#define ROW(name, bus, base, size, ops, dev, lock)                                      \
    {                                                                                   \
        name, bus, base, size, ops, offsetof(struct pc, dev), offsetof(struct pc, lock) \
    }

static const struct board_row board[] = {
    ROW("8259 master", PIO, PC_PORT_PIC_MASTER, 2, &pic_master_ops, pic, irq_lock),
    ROW("8259 slave", PIO, PC_PORT_PIC_SLAVE, 2, &pic_slave_ops, pic, irq_lock),
    ROW("elcr", PIO, PC_PORT_ELCR, 2, &pic_elcr_ops, pic, irq_lock),
    ROW("ioapic", MMIO, PC_IOAPIC_BASE, PC_IOAPIC_BYTES, &ioapic_ops, ioapic, irq_lock),
    ROW("lapic", MMIO, PC_LAPIC_BASE, PC_LAPIC_BYTES, &pc_apic_page_ops, apic_page[0], irq_lock),
    ROW("pit", PIO, PC_PORT_PIT, 4, &pit_ops, pit, pit_lock),
    ROW("port 61h", PIO, PC_PORT_SYSCTL_B, 1, &pit_port61_ops, pit, pit_lock),
    ROW("i8042 data", PIO, PC_PORT_KBC_DATA, 1, &i8042_data_ops, kbd, kbd_lock),
    ROW("i8042", PIO, PC_PORT_KBC_CMD, 1, &i8042_command_ops, kbd, kbd_lock),
    ROW("rtc", PIO, PC_PORT_RTC, 2, &rtc_ops, rtc, rtc_lock),
    ROW("dma page", PIO, PC_PORT_DMA_PAGE, 15, &dma_page_ops, dma_page, misc_lock),
    ROW("port 92h", PIO, PC_PORT_SYSCTL_A, 1, &port92_ops, port92, sysctl_lock),
    ROW("ferr", PIO, PC_PORT_FERR, 2, &pc_ferr_ops, cfg, irq_lock),
    ROW("pci config", PIO, PC_PORT_PCI_CONFIG, 8, &pciport_ops, pciport, sysctl_lock),
    ROW("acpi pm", PIO, PC_PORT_PM, PC_PORT_PM_BYTES, &acpi_pm_ops, pm, pm_lock),
    {"pci ecam", MMIO, PC_PCI_ECAM, PC_PCI_ECAM_BYTES, &pci_ecam_ops, offsetof(struct pc, pci), 0},
    ROW("hpet", MMIO, PC_HPET_BASE, PC_HPET_BYTES, &hpet_ops, hpet, hpet_lock),
    ROW("fw_cfg", PIO, PC_PORT_FWCFG, PC_PORT_FWCFG_BYTES, &fwcfg_ops, fwcfg, fwcfg_lock),
};

static const struct board_row serial_rows[PC_SERIALS] = {
    ROW("com1", PIO, PC_PORT_COM1, 8, &uart_ops, uart[0], uart_lock[0]),
    ROW("com2", PIO, PC_PORT_COM2, 8, &uart_ops, uart[1], uart_lock[1]),
    ROW("com3", PIO, PC_PORT_COM3, 8, &uart_ops, uart[2], uart_lock[2]),
    ROW("com4", PIO, PC_PORT_COM4, 8, &uart_ops, uart[3], uart_lock[3]),
};
static const u8 serial_gsi[PC_SERIALS] = {PC_GSI_COM1, PC_GSI_COM2, PC_GSI_COM1, PC_GSI_COM2};

static const struct board_row testdev_rows[] = {
    ROW("testdev", PIO, PC_PORT_TESTDEV, 4, &testdev_latch_ops, testdev, misc_lock),
    ROW("testdev flush", PIO, PC_PORT_TESTDEV + 4, 4, &testdev_flush_ops, testdev, misc_lock),
    ROW("testdev irq", PIO, PC_PORT_TESTDEV_IRQ, GSI_COUNT, &testdev_irq_ops, testdev, misc_lock),
    ROW("testdev mmio", MMIO, PC_TESTDEV_MMIO, PC_TESTDEV_MMIO_BYTES, &testdev_mmio_ops, testdev,
        misc_lock),
};

static const struct board_row testdev_bytes_row =
    ROW("testdev bytes", PIO, PC_PORT_TESTDEV_BYTES, 4, &testdev_byte_ops, testdev, misc_lock);

static const struct board_row pvpanic_row =
    ROW("pvpanic", PIO, PC_PORT_PVPANIC, 1, &pvpanic_ops, pvpanic, misc_lock);

static int claim(struct pc *pc, struct bus *bus, const struct region *r, struct err *e)
{
    ASSERT(pc->n_claims < PC_CLAIMS_MAX);
    int ret = bus_add(bus, r, e);
    if (!ret)
        pc->claims[pc->n_claims++] = (struct pc_claim){bus, r->base};
    return ret;
}

static int claim_rows(struct pc *pc, const struct board_row *row, size_t n, struct err *e)
{
    int ret = 0;
    for (size_t i = 0; i < n && !ret; i++) {
        struct region r = {row[i].base,
                           row[i].size,
                           row[i].ops,
                           (char *)pc + row[i].dev,
                           row[i].lock ? (struct lock *)((char *)pc + row[i].lock) : NULL,
                           row[i].name};
        ret = claim(pc, row[i].bus == PIO ? pc->cfg.pio : pc->cfg.mmio, &r, e);
    }
    return ret;
}

/* Ports whose number the user chose. */
static int claim_debug(struct pc *pc, struct err *e)
{
    int ret = 0;
    for (unsigned i = 0; i < DEBUG_PORTS_MAX && !ret; i++) {
        const struct pc_debug_port *d = &pc->cfg.debug[i];
        struct region r = {d->port,        1,           &debug_port_ops, &pc->debug[i],
                           &pc->misc_lock, "debug port"};
        if (d->port)
            ret = claim(pc, pc->cfg.pio, &r, e);
    }
    if (!ret && pc->cfg.debug_exit_port > 0) {
        struct region r = {(u64)pc->cfg.debug_exit_port,
                           4,
                           &debug_exit_ops,
                           &pc->debug_exit,
                           &pc->misc_lock,
                           "debug exit"};
        ret = claim(pc, pc->cfg.pio, &r, e);
    }
    return ret;
}

/* The test device's second window spans the usual port of the debug console, which wins. */
static int claim_testdev(struct pc *pc, struct err *e)
{
    int ret = claim_rows(pc, testdev_rows, ARRAY_SIZE(testdev_rows), e);
    for (unsigned i = 0; i < DEBUG_PORTS_MAX; i++) {
        unsigned port = pc->cfg.debug[i].port;
        if (port >= PC_PORT_TESTDEV_BYTES && port < PC_PORT_TESTDEV_BYTES + 4)
            return ret;
    }
    return ret ? ret : claim_rows(pc, &testdev_bytes_row, 1, e);
}

static int claim_all(struct pc *pc, struct err *e)
{
    int ret = claim_rows(pc, board, ARRAY_SIZE(board), e);
    for (unsigned i = 0; i < PC_SERIALS && !ret; i++) {
        if (pc->cfg.com[i].present)
            ret = claim_rows(pc, &serial_rows[i], 1, e);
    }
    if (!ret && pc->cfg.testdev)
        ret = claim_testdev(pc, e);
    if (!ret && pc->cfg.pvpanic)
        ret = claim_rows(pc, &pvpanic_row, 1, e);
    return ret ? ret : claim_debug(pc, e);
}

void pc_unclaim(struct pc *pc, struct bus *bus, u64 base)
{
    for (unsigned i = 0; i < pc->n_claims; i++) {
        if (pc->claims[i].bus != bus || pc->claims[i].base != base)
            continue;
        int ret = bus_del(bus, base);
        ASSERT(ret == 0);
        pc->claims[i] = pc->claims[--pc->n_claims];
        return;
    }
}

static void unclaim_all(struct pc *pc)
{
    while (pc->n_claims) {
        struct pc_claim *c = &pc->claims[--pc->n_claims];
        int ret = bus_del(c->bus, c->base);
        ASSERT(ret == 0);
    }
}

/* ---- wires that are not interrupts ---- */

static void reset_cpu(void *ctx)
{
    struct pc *pc = ctx;
    if (pc->cfg.reset)
        pc->cfg.reset(pc->cfg.ctx, PC_RESET_CPU);
}

static void reset_board(void *ctx, bool hard)
{
    struct pc *pc = ctx;
    if (pc->cfg.reset)
        pc->cfg.reset(pc->cfg.ctx, hard ? PC_RESET_HARD : PC_RESET_CPU);
}

/* Either gate opens address line 20. */
static void a20_changed(struct pc *pc, bool *gate, bool on)
{
    bool was = pc->a20_kbd || pc->a20_fast;
    *gate = on;
    bool is = pc->a20_kbd || pc->a20_fast;
    if (was != is && pc->cfg.a20)
        pc->cfg.a20(pc->cfg.ctx, is);
}

static void a20_kbd(void *ctx, bool on)
{
    struct pc *pc = ctx;
    a20_changed(pc, &pc->a20_kbd, on);
}

static void a20_fast(void *ctx, bool on)
{
    struct pc *pc = ctx;
    a20_changed(pc, &pc->a20_fast, on);
}

static void power_off(void *ctx)
{
    struct pc *pc = ctx;
    if (pc->cfg.power_off)
        pc->cfg.power_off(pc->cfg.ctx);
}

static void debug_exit(void *ctx, int status)
{
    struct pc *pc = ctx;
    if (pc->cfg.debug_exit)
        pc->cfg.debug_exit(pc->cfg.ctx, status);
}

static void panic_event(void *ctx, unsigned event)
{
    struct pc *pc = ctx;
    if (pc->cfg.panic)
        pc->cfg.panic(pc->cfg.ctx, event);
}

static void testdev_irq(void *ctx, unsigned gsi, bool level)
{
    pc_set_source(ctx, SRC_TESTDEV, gsi, level);
}

/* ---- what the board tells firmware and old kernels about itself ---- */

static void cmos_u16(struct pc *pc, u8 index, u64 val)
{
    u16 capped = (u16)MIN(val, 0xffff);
    rtc_cmos_set(&pc->rtc, index, (u8)capped);
    rtc_cmos_set(&pc->rtc, index + 1, (u8)(capped >> 8));
}

static void fill_cmos(struct pc *pc)
{
    u64 low = pc->cfg.ram_below_4g, high = pc->cfg.ram_above_4g / (64 * KiB);
    u64 above_1m = low > MiB ? (low - MiB) / KiB : 0;
    u64 above_16m = low > 16 * MiB ? (low - 16 * MiB) / (64 * KiB) : 0;
    u16 sum = 0;
    rtc_cmos_set(&pc->rtc, 0x14, 0x06); /* equipment: FPU, PS/2 mouse bit, no floppy */
    cmos_u16(pc, 0x15, 640);
    cmos_u16(pc, 0x17, above_1m);
    cmos_u16(pc, 0x30, above_1m);
    cmos_u16(pc, 0x34, above_16m);
    rtc_cmos_set(&pc->rtc, 0x5b, (u8)high);
    rtc_cmos_set(&pc->rtc, 0x5c, (u8)(high >> 8));
    rtc_cmos_set(&pc->rtc, 0x5d, (u8)(high >> 16));
    rtc_cmos_set(&pc->rtc, 0x5f, (u8)(pc->cfg.cpus - 1));
    for (u8 i = 0x10; i <= 0x2d; i++)
        sum += rtc_cmos_get(&pc->rtc, i);
    rtc_cmos_set(&pc->rtc, 0x2e, (u8)(sum >> 8)); /* big-endian, unlike the rest */
    rtc_cmos_set(&pc->rtc, 0x2f, (u8)sum);
}

static int fill_fwcfg(struct pc *pc, struct err *e)
{
    struct fwcfg *f = &pc->fwcfg;
    int ret = fwcfg_add(f, FWCFG_UUID, pc->cfg.uuid, sizeof(pc->cfg.uuid), e);
    if (!ret)
        ret = fwcfg_add_u64(f, FWCFG_RAM_SIZE, pc->cfg.ram_below_4g + pc->cfg.ram_above_4g, e);
    if (!ret)
        ret = fwcfg_add_u16(f, FWCFG_NOGRAPHIC, 1, e);
    if (!ret)
        ret = fwcfg_add_u16(f, FWCFG_NB_CPUS, (u16)pc->cfg.cpus, e);
    if (!ret)
        ret = fwcfg_add_u16(f, FWCFG_MAX_CPUS, (u16)pc->cfg.cpus, e);
    if (!ret)
        ret = fwcfg_add_u16(f, FWCFG_BOOT_MENU, 0, e);
    if (!ret)
        ret = fwcfg_add_u32(f, FWCFG_IRQ0_OVERRIDE, 1, e);
    return ret;
}

/* ---- life ---- */

/* Every lock in lock order. */
static void each_lock(struct pc *pc, void (*fn)(struct lock *l))
{
    fn(&pc->pit_lock);
    fn(&pc->rtc_lock);
    fn(&pc->kbd_lock);
    fn(&pc->sysctl_lock);
    fn(&pc->pm_lock);
    fn(&pc->hpet_lock);
    fn(&pc->fwcfg_lock);
    fn(&pc->misc_lock);
    fn(&pc->pci.lock);
    for (unsigned i = 0; i < PC_SERIALS; i++)
        fn(&pc->uart_lock[i]);
    fn(&pc->irq_lock);
}

static void create_chips(struct pc *pc)
{
    struct clock *clock = pc->cfg.clock;
    struct irq_line pit = pc_pit_line(pc), rtc = pc_rtc_line(pc);
    struct irq_line kbd = pc_line(pc, SRC_KBD, PC_GSI_KBD);
    struct irq_line aux = pc_line(pc, SRC_AUX, PC_GSI_MOUSE);
    struct irq_line sci = pc_line(pc, SRC_SCI, PC_GSI_SCI);
    struct i8042_host kbd_host = {reset_cpu, a20_kbd, pc};
    struct sysctl_host sysctl = {reset_board, a20_fast, pc};
    struct hpet_host hpet = pc_hpet_host(pc);
    pc->a20_kbd = pc->a20_fast = true;
    pit_init(&pc->pit, clock, &pc->pit_lock, &pit);
    rtc_init(&pc->rtc, clock, &pc->rtc_lock, &rtc);
    i8042_init(&pc->kbd, &kbd, &aux, &kbd_host);
    port92_init(&pc->port92, &sysctl);
    pciport_init(&pc->pciport, &sysctl);
    pc_pci_create(pc);
    acpi_pm_init(&pc->pm, clock, &pc->pm_lock, &sci, PC_SLP_TYP_S5, power_off, pc);
    hpet_init(&pc->hpet, clock, &pc->hpet_lock, HPET_ROUTES, &hpet);
    for (unsigned i = 0; i < PC_SERIALS; i++) {
        const struct pc_serial *s = &pc->cfg.com[i];
        struct irq_line line = pc_line(pc, (enum pc_source)(SRC_COM + i), serial_gsi[i]);
        struct uart_host host = {s->tx, s->rx_ready, s->ctx};
        uart_init(&pc->uart[i], clock, &pc->uart_lock[i], &line, &host);
    }
    for (unsigned i = 0; i < DEBUG_PORTS_MAX; i++)
        pc->debug[i] = (struct debug_port){pc->cfg.debug[i].write, pc->cfg.debug[i].ctx};
    pc->debug_exit = (struct debug_exit){debug_exit, pc};
    pc->pvpanic = (struct pvpanic){panic_event, pc};
    testdev_init(&pc->testdev, testdev_irq, pc);
}

int pc_create(const struct pc_config *cfg, struct pc **out, struct err *e)
{
    struct pc *pc;
    int ret;
    if (cfg->cpus < 1 || cfg->cpus > VCPUS_MAX)
        return err_set(e, EINVAL, "%u processors asked for; a machine has 1 to %d", cfg->cpus,
                       VCPUS_MAX);
    pc = calloc(1, sizeof(*pc));
    if (!pc)
        return err_set(e, ENOMEM, "no memory for the board");
    pc->cfg = *cfg;
    each_lock(pc, lock_init);
    ret = pc_irq_create(pc, e);
    if (ret)
        goto fail_irq;
    create_chips(pc);
    fill_cmos(pc);
    ret = fwcfg_init(&pc->fwcfg, cfg->mem, e);
    if (!ret)
        ret = fill_fwcfg(pc, e);
    if (!ret)
        ret = claim_all(pc, e);
    if (ret) {
        pc_destroy(pc);
        return ret;
    }
    *out = pc;
    return 0;

fail_irq:
    each_lock(pc, lock_destroy);
    free(pc);
    return ret;
}

void pc_destroy(struct pc *pc)
{
    if (!pc)
        return;
    unclaim_all(pc);
    for (unsigned i = 0; i < PC_SERIALS; i++)
        uart_fini(&pc->uart[i]);
    hpet_fini(&pc->hpet);
    acpi_pm_fini(&pc->pm);
    rtc_fini(&pc->rtc);
    pit_fini(&pc->pit);
    fwcfg_fini(&pc->fwcfg);
    pci_bus_fini(&pc->pci);
    pc_irq_destroy(pc);
    each_lock(pc, lock_destroy);
    free(pc);
}

void pc_reset(struct pc *pc)
{
    each_lock(pc, lock_take);
    for (unsigned i = 0; i < pc->cfg.cpus; i++)
        pvclock_reset(&pc->cpu[i].pvclock);
    for (unsigned i = 0; i < PC_SERIALS; i++)
        uart_reset(&pc->uart[i]);
    testdev_reset(&pc->testdev);
    dma_page_reset(&pc->dma_page);
    fwcfg_reset(&pc->fwcfg);
    hpet_reset(&pc->hpet);
    acpi_pm_reset(&pc->pm);
    pciport_reset(&pc->pciport);
    pci_bus_reset(&pc->pci);
    port92_reset(&pc->port92);
    i8042_reset(&pc->kbd);
    a20_kbd(pc, true);
    a20_fast(pc, true);
    rtc_reset(&pc->rtc);
    pit_reset(&pc->pit);
    pc_set_source(pc, SRC_FERR, PC_GSI_FERR, false);
    pc_irq_reset(pc);
    pc_snap_end(pc);
}

/* ---- entry points for the machine ---- */

bool pc_power_button(struct pc *pc)
{
    lock_take(&pc->pm_lock);
    bool heard = acpi_pm_power_button(&pc->pm);
    lock_drop(&pc->pm_lock);
    return heard;
}

void pc_gpe(struct pc *pc, unsigned n)
{
    lock_take(&pc->pm_lock);
    acpi_pm_gpe(&pc->pm, n);
    lock_drop(&pc->pm_lock);
}

size_t pc_uart_room(struct pc *pc, unsigned n)
{
    ASSERT(n < PC_SERIALS);
    lock_take(&pc->uart_lock[n]);
    size_t room = uart_rx_room(&pc->uart[n]);
    lock_drop(&pc->uart_lock[n]);
    return room;
}

size_t pc_uart_rx(struct pc *pc, unsigned n, const u8 *buf, size_t len)
{
    ASSERT(n < PC_SERIALS);
    lock_take(&pc->uart_lock[n]);
    size_t took = uart_rx(&pc->uart[n], buf, len);
    lock_drop(&pc->uart_lock[n]);
    return took;
}

void pc_uart_break(struct pc *pc, unsigned n)
{
    ASSERT(n < PC_SERIALS);
    lock_take(&pc->uart_lock[n]);
    uart_rx_break(&pc->uart[n]);
    lock_drop(&pc->uart_lock[n]);
}

struct fwcfg *pc_fwcfg(struct pc *pc)
{
    return &pc->fwcfg;
}

void pc_cmos_set(struct pc *pc, u8 index, u8 val)
{
    rtc_cmos_set(&pc->rtc, index, val);
}

u8 pc_cmos_get(struct pc *pc, u8 index)
{
    return rtc_cmos_get(&pc->rtc, index);
}

/* ---- snapshots ---- */

static const struct snap_field time_fields[] = {SNAP_U64(struct pc_time, now_ns), SNAP_END};

static int time_check(const void *scratch, struct err *e)
{
    const struct pc_time *t = scratch;
    return t->now_ns < TICK_SANE_MAX ? 0 : err_set(e, EINVAL, "clock: impossible time");
}

static void time_loaded(void *obj)
{
    struct pc *pc = container_of(obj, struct pc, time);
    clock_set_ns(pc->cfg.clock, pc->time.now_ns);
}

static void time_saving(void *obj)
{
    struct pc *pc = container_of(obj, struct pc, time);
    pc->time.now_ns = clock_now_ns(pc->cfg.clock);
}

static const struct snap_desc time_snap = {
    "clock", 1, sizeof(struct pc_time), time_fields, time_check, time_loaded, time_saving};

struct item_list {
    struct snap_item *out;
    size_t room, n;
};

static void list_item(struct item_list *l, const struct snap_desc *desc, u32 instance, void *obj)
{
    if (l->n < l->room)
        l->out[l->n] = (struct snap_item){desc, instance, obj};
    l->n++;
}

/* Order matters for loading: the clock, by which chips arm their timers; controllers and wires,
 * so that a chip that drives its line anew finds it as it was and makes no edge; then the chips. */
size_t pc_snap_items(struct pc *pc, struct snap_item *out, size_t n)
{
    struct item_list l = {out, n, 0};
    list_item(&l, &time_snap, 0, &pc->time);
    list_item(&l, &pic_snap, 0, &pc->pic);
    list_item(&l, &ioapic_snap, 0, &pc->ioapic);
    for (u32 i = 0; i < pc->cfg.cpus; i++) {
        list_item(&l, &lapic_snap, i, &pc->cpu[i].lapic);
        list_item(&l, &pvclock_snap, i, &pc->cpu[i].pvclock);
    }
    list_item(&l, &pc_wires_snap, 0, &pc->wires);
    for (u32 i = 0; i < PCI_SLOTS; i++)
        if (pc->pci.dev[i])
            list_item(&l, &pci_snap, i, pc->pci.dev[i]);
    list_item(&l, &hpet_snap, 0, &pc->hpet);
    list_item(&l, &pit_snap, 0, &pc->pit);
    list_item(&l, &rtc_snap, 0, &pc->rtc);
    list_item(&l, &i8042_snap, 0, &pc->kbd);
    list_item(&l, &port92_snap, 0, &pc->port92);
    list_item(&l, &pciport_snap, 0, &pc->pciport);
    list_item(&l, &acpi_pm_snap, 0, &pc->pm);
    list_item(&l, &fwcfg_snap, 0, &pc->fwcfg);
    list_item(&l, &dma_page_snap, 0, &pc->dma_page);
    for (u32 i = 0; i < PC_SERIALS; i++) {
        if (pc->cfg.com[i].present)
            list_item(&l, &uart_snap, i, &pc->uart[i]);
    }
    if (pc->cfg.testdev)
        list_item(&l, &testdev_snap, 0, &pc->testdev);
    return l.n;
}

void pc_snap_begin(struct pc *pc)
{
    each_lock(pc, lock_take);
}

void pc_snap_end(struct pc *pc)
{
    each_lock(pc, lock_drop);
}
