/* pc_irq.c - interrupt wiring of the board: lines, 8259 pair, IOAPIC, local APICs, their pages */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/pc_priv.h"

bool pc_irq_enter(struct pc *pc)
{
    if (lock_held(&pc->irq_lock))
        return false;
    lock_take(&pc->irq_lock);
    return true;
}

void pc_irq_leave(struct pc *pc, bool taken)
{
    if (taken)
        lock_drop(&pc->irq_lock);
}

/* ---- lines ---- */

static bool asserted(const struct pc *pc, unsigned gsi)
{
    return pc->wires.source[gsi] != 0;
}

/* GSI n drives IRn of the 8259 pair, whose IR2 is the cascade, and pin n of the IOAPIC; but the
 * timer's GSI 0 arrives at pin 2, as the MADT says. */
static bool has_pic_input(unsigned gsi)
{
    return gsi < 16 && gsi != PC_GSI_PIT_OVERRIDE;
}

static unsigned ioapic_pin(unsigned gsi)
{
    return gsi == PC_GSI_PIT ? PC_GSI_PIT_OVERRIDE : gsi;
}

static bool pin_level(const struct pc *pc, unsigned pin)
{
    return asserted(pc, pin) || (pin == PC_GSI_PIT_OVERRIDE && asserted(pc, PC_GSI_PIT));
}

static void drive_locked(struct pc *pc, unsigned gsi)
{
    unsigned pin = ioapic_pin(gsi);

    ASSERT(lock_held(&pc->irq_lock));
    if (pc->irqchip_runs) {
        if (has_pic_input(gsi))
            pc->irqchip->line(pc->engine_vm, IRQCHIP_PIC, gsi, asserted(pc, gsi));
        pc->irqchip->line(pc->engine_vm, IRQCHIP_IOAPIC, pin, pin_level(pc, pin));
        return;
    }
    if (has_pic_input(gsi))
        pic_set(&pc->pic, gsi, asserted(pc, gsi));
    ioapic_set(&pc->ioapic, pin, pin_level(pc, pin));
}

void pc_irq_levels(struct pc *pc)
{
    ASSERT(lock_held(&pc->irq_lock));
    pc->ioapic.level = 0;
    pc->pic.chip[0].level = pc->pic.chip[1].level = 0;
    for (unsigned gsi = 0; gsi < GSI_COUNT; gsi++) {
        if (!asserted(pc, gsi))
            continue;
        pc->ioapic.level |= BIT(ioapic_pin(gsi));
        if (has_pic_input(gsi))
            pc->pic.chip[gsi / 8].level |= (u8)BIT(gsi % 8);
    }
}

static void set_source_locked(struct pc *pc, enum pc_source src, unsigned gsi, bool level)
{
    u32 was = pc->wires.source[gsi], is = level ? was | BIT(src) : was & ~BIT(src);
    pc->wires.source[gsi] = is;
    if (!was != !is)
        drive_locked(pc, gsi);
}

void pc_set_source(struct pc *pc, enum pc_source src, unsigned gsi, bool level)
{
    if (gsi >= GSI_COUNT)
        return;
    bool taken = pc_irq_enter(pc);
    set_source_locked(pc, src, gsi, level);
    pc_irq_leave(pc, taken);
}

void pc_irq(void *ctx, unsigned gsi, bool level)
{
    pc_set_source(ctx, SRC_EXTERNAL, gsi, level);
}

/* irq_line.n = source << 8 | gsi */
static void line_set(void *ctx, unsigned n, bool level)
{
    pc_set_source(ctx, (enum pc_source)(n >> 8), n & 0xff, level);
}

struct irq_line pc_line(struct pc *pc, enum pc_source src, unsigned gsi)
{
    return (struct irq_line){line_set, pc, (unsigned)src << 8 | gsi};
}

/* ---- who owns IRQ 0 and 8: the 8254 and the RTC, or the HPET (HPET 2.2, LEG_RT_CNF) ---- */

static void drive_legacy_locked(struct pc *pc)
{
    bool old = !pc->wires.hpet_legacy;
    set_source_locked(pc, SRC_PIT, PC_GSI_PIT, old && pc->wires.pit_level);
    set_source_locked(pc, SRC_RTC, PC_GSI_RTC, old && pc->wires.rtc_level);
}

static void pit_level(void *ctx, unsigned n, bool level)
{
    struct pc *pc = ctx;
    bool taken = pc_irq_enter(pc);
    pc->wires.pit_level = level;
    drive_legacy_locked(pc);
    pc_irq_leave(pc, taken);
}

static void rtc_level(void *ctx, unsigned n, bool level)
{
    struct pc *pc = ctx;
    bool taken = pc_irq_enter(pc);
    pc->wires.rtc_level = level;
    drive_legacy_locked(pc);
    pc_irq_leave(pc, taken);
}

struct irq_line pc_pit_line(struct pc *pc)
{
    return (struct irq_line){pit_level, pc, 0};
}

struct irq_line pc_rtc_line(struct pc *pc)
{
    return (struct irq_line){rtc_level, pc, 0};
}

static void hpet_gsi(void *ctx, unsigned timer, unsigned gsi, bool level)
{
    pc_set_source(ctx, (enum pc_source)(SRC_HPET + timer), gsi, level);
}

static void hpet_legacy(void *ctx, unsigned n, bool level)
{
    pc_set_source(ctx, (enum pc_source)(SRC_HPET + n), n ? PC_GSI_RTC : PC_GSI_PIT, level);
}

static void hpet_legacy_mode(void *ctx, bool on)
{
    struct pc *pc = ctx;
    bool taken = pc_irq_enter(pc);
    pc->wires.hpet_legacy = on;
    drive_legacy_locked(pc);
    pc_irq_leave(pc, taken);
}

struct hpet_host pc_hpet_host(struct pc *pc)
{
    return (struct hpet_host){hpet_gsi, hpet_legacy, hpet_legacy_mode, pc};
}

/* ---- FERR#: IRQ 13 until the handler writes port F0h ---- */

static u64 ferr_read(void *dev, u64 off, unsigned size)
{
    return 0xff;
}

static void ferr_write(void *dev, u64 off, unsigned size, u64 val)
{
    pc_set_source(dev, SRC_FERR, PC_GSI_FERR, false);
}

const struct region_ops pc_ferr_ops = {ferr_read, ferr_write, 1, 1, 1, 1, true};

/* ---- local APIC pages ---- */

/* The page shows the APIC of the processor that accesses it, if that is where its APIC lies. */
static struct lapic *page_lapic(struct pc_apic_page *page)
{
    struct lapic *l = &pc_current_cpu(page->pc)->lapic;
    return (l->base & APIC_BASE_ADDR) == page->base ? l : NULL;
}

static u64 apic_page_read(void *dev, u64 off, unsigned size)
{
    struct lapic *l = page_lapic(dev);
    return l ? lapic_mmio_read(l, (u32)off) : UINT64_MAX;
}

static void apic_page_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct lapic *l = page_lapic(dev);
    if (l)
        lapic_mmio_write(l, (u32)off, (u32)val);
}

const struct region_ops pc_apic_page_ops = {apic_page_read, apic_page_write, 1, 8, 4, 4, false};

static bool page_used(const struct pc *pc, u64 base)
{
    for (unsigned i = 0; i < pc->cfg.cpus; i++) {
        const struct lapic *l = &pc->cpu[i].lapic;
        if (lapic_mmio_enabled(l) && (l->base & APIC_BASE_ADDR) == base)
            return true;
    }
    return false;
}

/* A guest moved an APIC: claims the new page and gives back those nobody uses. The bus publishes
 * its map without waiting for readers, so this is fine under irq_lock. */
static void base_changed(void *ctx, unsigned id)
{
    struct pc *pc = ctx;
    u64 base = pc->cpu[id].lapic.base & APIC_BASE_ADDR;
    struct pc_apic_page *vacant = NULL;
    bool claimed = base == PC_LAPIC_BASE;
    for (unsigned i = 1; i <= pc->cfg.cpus; i++) {
        struct pc_apic_page *p = &pc->apic_page[i];
        if (p->claimed && !page_used(pc, p->base)) {
            p->claimed = false;
            if (bus_del(pc->cfg.mmio, p->base))
                log_guest("lapic: page %#llx was not claimed", (unsigned long long)p->base);
        }
        claimed |= p->claimed && p->base == base;
        if (!p->claimed)
            vacant = p;
    }
    if (claimed || !vacant || !page_used(pc, base))
        return;
    struct region r = {base, PC_LAPIC_BYTES, &pc_apic_page_ops, vacant, &pc->irq_lock, "lapic"};
    vacant->pc = pc;
    vacant->base = base;
    vacant->claimed = bus_add(pc->cfg.mmio, &r, NULL) == 0;
}

/* ---- the controllers' callbacks: all under irq_lock ---- */

static void pic_intr(void *ctx, unsigned n, bool level)
{
    struct pc *pc = ctx;
    for (unsigned i = 0; i < pc->apics.cpus; i++)
        lapic_set_lint0(pc->apics.cpu[i], level);
}

static int extint_ack(void *ctx)
{
    struct pc *pc = ctx;
    return pic_ack(&pc->pic);
}

static void attention(void *ctx, unsigned id)
{
    struct pc *pc = ctx;
    if (pc->cfg.attention)
        pc->cfg.attention(pc->cfg.ctx, id);
}

static void eoi(void *ctx, u8 vector)
{
    struct pc *pc = ctx;
    ioapic_eoi(&pc->ioapic, vector);
}

static void init(void *ctx, unsigned id)
{
    struct pc *pc = ctx;
    if (pc->cfg.init)
        pc->cfg.init(pc->cfg.ctx, id);
}

static void sipi(void *ctx, unsigned id, u8 vector)
{
    struct pc *pc = ctx;
    if (pc->cfg.sipi)
        pc->cfg.sipi(pc->cfg.ctx, id, vector);
}

bool pc_msi(struct pc *pc, u64 addr, u32 data)
{
    if (__atomic_load_n(&pc->irqchip_runs, __ATOMIC_SEQ_CST))
        return pc->irqchip->msi(pc->engine_vm, addr, data);
    bool taken = pc_irq_enter(pc);
    bool ok = msi_deliver(&pc->apics, addr, data);
    pc_irq_leave(pc, taken);
    return ok;
}

void pc_nmi(struct pc *pc)
{
    bool taken = pc_irq_enter(pc);
    if (pc->irqchip_runs && !pc->rtc.nmi_masked)
        pc->irqchip->nmi(pc->engine_vm);
    for (unsigned i = 0; i < pc->apics.cpus && !pc->rtc.nmi_masked && !pc->irqchip_runs; i++)
        lapic_pulse_lint1(pc->apics.cpu[i]);
    pc_irq_leave(pc, taken);
}

/* ---- state: what lines are up, as the chips that are loaded next will find them ---- */

static const struct snap_field wires_fields[] = {
    SNAP_U32(struct pc_wires, source), SNAP_BOOL(struct pc_wires, hpet_legacy),
    SNAP_BOOL(struct pc_wires, pit_level), SNAP_BOOL(struct pc_wires, rtc_level), SNAP_END};

static int wires_check(const void *scratch, struct err *e)
{
    const struct pc_wires *w = scratch;
    for (unsigned i = 0; i < GSI_COUNT; i++) {
        if (w->source[i] >> SRC_COUNT)
            return err_set(e, EINVAL, "wires: unknown sources %#x on GSI %u", w->source[i], i);
    }
    return 0;
}

static void wires_loaded(void *obj)
{
    struct pc *pc = container_of(obj, struct pc, wires);
    bool taken = pc_irq_enter(pc);
    for (unsigned i = 0; i < GSI_COUNT; i++)
        drive_locked(pc, i);
    pc_irq_leave(pc, taken);
}

const struct snap_desc pc_wires_snap = {
    "wires", 1, sizeof(struct pc_wires), wires_fields, wires_check, wires_loaded, NULL};

/* ---- life ---- */

void pc_irq_reset(struct pc *pc)
{
    bool taken = pc_irq_enter(pc);
    ioapic_reset(&pc->ioapic);
    pc->ioapic.id = (u8)(PC_IOAPIC_ID(pc->cfg.cpus) & 15);
    for (unsigned i = 0; i < pc->cfg.cpus; i++)
        lapic_reset(&pc->cpu[i].lapic, false);
    pic_reset(&pc->pic);
    pc_irq_leave(pc, taken);
}

int pc_irq_create(struct pc *pc, struct err *e)
{
    struct lapic_wiring w = {pc, attention, eoi, extint_ack, init, sipi, base_changed};
    struct irq_line intr = {pic_intr, pc, 0};
    unsigned phys_bits = pc->cfg.phys_bits ? pc->cfg.phys_bits : 40;
    pc->cpu = calloc(pc->cfg.cpus, sizeof(*pc->cpu));
    if (!pc->cpu)
        return err_set(e, ENOMEM, "no memory for %u interrupt controllers", pc->cfg.cpus);
    lock_take(&pc->irq_lock);
    pic_init(&pc->pic, &intr);
    ioapic_init(&pc->ioapic, &pc->apics, extint_ack, pc);
    for (unsigned i = 0; i < pc->cfg.cpus; i++) {
        pc->cpu[i].pc = pc;
        pc->cpu[i].id = i;
        lapic_init(&pc->cpu[i].lapic, &pc->apics, pc->cfg.clock, &pc->irq_lock, phys_bits, &w);
        pvclock_init(&pc->cpu[i].pvclock, pc->cfg.mem, pc->cfg.clock);
    }
    pc->apic_page[0] = (struct pc_apic_page){pc, PC_LAPIC_BASE, true};
    lock_drop(&pc->irq_lock);
    pc_irq_reset(pc);
    return 0;
}

void pc_irq_destroy(struct pc *pc)
{
    for (unsigned i = 0; pc->cpu && i < pc->apics.cpus; i++)
        lapic_fini(&pc->cpu[i].lapic);
    for (unsigned i = 1; i <= VCPUS_MAX; i++) {
        if (pc->apic_page[i].claimed && bus_del(pc->cfg.mmio, pc->apic_page[i].base))
            log_msg(LOG_WARN, "lapic page was not on the bus");
    }
    free(pc->cpu);
}
