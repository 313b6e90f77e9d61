/* pc_priv.h - the board as its own three files see it */
#pragma once

#include "dev/acpi_pm.h"
#include "dev/apic_bus.h"
#include "dev/debug.h"
#include "dev/fwcfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/pci/pci.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/pvclock.h"
#include "dev/rtc.h"
#include "dev/sysctl.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "machine/pc.h"
#include "machine/pc_map.h"

#define PC_SERIALS    4
#define PC_CLAIMS_MAX 48

/* Who can assert a GSI: each has a bit of its own, and the line is their OR. */
enum pc_source {
    SRC_EXTERNAL, /* pc_irq: devices outside the board, which share among themselves */
    SRC_PCI,
    SRC_PIT,
    SRC_RTC,
    SRC_KBD,
    SRC_AUX,
    SRC_SCI,
    SRC_FERR,
    SRC_TESTDEV,
    SRC_COM,
    SRC_HPET = SRC_COM + PC_SERIALS,
    SRC_COUNT = SRC_HPET + HPET_TIMERS
};

/* Lock order: a chip's lock, then irq_lock, then the clock's. irq_lock covers pic, ioapic, the
 * local APICs and `wires`; every other chip has its own. */
struct pc_wires {
    u32 source[GSI_COUNT]; /* asserted sources of each GSI */
    bool hpet_legacy;      /* HPET timers 0 and 1 replace the 8254 and the RTC */
    bool pit_level, rtc_level;
};

struct pc_cpu {
    struct pc *pc;
    unsigned id;
    struct lapic lapic;
    struct pvclock pvclock;
};

/* A page of the MMIO bus at which the local APIC of at least one processor lies. */
struct pc_apic_page {
    struct pc *pc;
    u64 base;
    bool claimed;
};

/* Guest time as a snapshot record. */
struct pc_time {
    u64 now_ns;
};

struct pc_claim {
    struct bus *bus;
    u64 base;
};

struct pc {
    struct pc_config cfg;

    struct lock irq_lock;
    struct pc_wires wires;
    struct pic pic;
    struct ioapic ioapic;
    struct apic_bus apics;
    struct pc_cpu *cpu;
    struct pc_apic_page apic_page[VCPUS_MAX + 1]; /* [0] is the default page, always claimed */

    struct lock pit_lock, rtc_lock, kbd_lock, sysctl_lock, pm_lock, hpet_lock;
    struct lock fwcfg_lock, misc_lock;
    struct lock uart_lock[PC_SERIALS];
    struct pit pit;
    struct rtc rtc;
    struct i8042 kbd;
    struct port92 port92;
    struct pciport pciport;
    struct pci_bus pci;
    struct acpi_pm pm;
    struct hpet hpet;
    struct fwcfg fwcfg;
    struct uart uart[PC_SERIALS];
    struct dma_page dma_page;
    struct debug_port debug[DEBUG_PORTS_MAX];
    struct debug_exit debug_exit;
    struct pvpanic pvpanic;
    struct testdev testdev;

    const struct engine *engine; /* attached; NULL: none */
    struct engine_vm *engine_vm;
    const struct engine_irqchip *irqchip; /* NULL: the board's chips serve always */
    bool irqchip_runs; /* lines and messages go to it; changed under irq_lock, read atomically */

    struct pc_time time;
    bool a20_kbd, a20_fast;
    struct pc_claim claims[PC_CLAIMS_MAX];
    unsigned n_claims;
};

/* pc_irq.c */
extern const struct region_ops pc_apic_page_ops; /* dev = struct pc_apic_page */
extern const struct region_ops pc_ferr_ops;      /* ports F0h-F1h, dev = struct pc */
extern const struct snap_desc pc_wires_snap;     /* obj = struct pc_wires */
int pc_irq_create(struct pc *pc, struct err *e);
void pc_irq_destroy(struct pc *pc);
void pc_irq_reset(struct pc *pc);
struct irq_line pc_line(struct pc *pc, enum pc_source src, unsigned gsi);
struct irq_line pc_pit_line(struct pc *pc);
struct irq_line pc_rtc_line(struct pc *pc);
struct hpet_host pc_hpet_host(struct pc *pc);
/* Takes irq_lock unless this thread holds it (inside pc_snap_begin); pass the result to
 * pc_irq_leave. */
bool pc_irq_enter(struct pc *pc);
void pc_irq_leave(struct pc *pc, bool taken);
void pc_set_source(struct pc *pc, enum pc_source src, unsigned gsi, bool level);

/* Makes the levels at the controllers' inputs those of the wires, and nothing else of it. */
void pc_irq_levels(struct pc *pc);

/* pc.c: takes one of the board's regions off its bus. */
void pc_unclaim(struct pc *pc, struct bus *bus, u64 base);

/* pc_pci.c */
void pc_pci_create(struct pc *pc);

/* pc_cpu.c */
struct pc_cpu *pc_current_cpu(struct pc *pc);
