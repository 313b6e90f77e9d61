/* pc.h - the board: one table of chips on two buses, and the interrupt wiring between them */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "base/types.h"
#include "engine/engine.h"
#include "host/clock.h"
#include "mem/bus.h"
#include "mem/mem.h"
#include "snap/snap.h"

struct fwcfg;
struct pci_bus;
struct rtc;
struct pc;

/* The host's side of a serial port. Both run with the UART's lock held, on whatever thread caused
 * them (mostly a vCPU's): they must not block and must not call back into the board. */
struct pc_serial {
    bool present;
    void (*tx)(void *ctx, const u8 *buf, size_t len); /* bytes left the transmitter; may be NULL */
    void (*rx_ready)(void *ctx); /* there is room again after pc_uart_rx took less than offered */
    void *ctx;
};

/* A write-only port whose bytes go to the host (debug console, firmware log). Reads give E9h. */
struct pc_debug_port {
    u16 port;                          /* 0 = entry unused */
    void (*write)(void *ctx, u8 byte); /* must not block for long; may be NULL */
    void *ctx;
};

enum pc_reset_kind {
    PC_RESET_CPU, /* 8042 pulse, port 92h, CF9 without full reset: like RESET# for the processors */
    PC_RESET_HARD /* CF9 hard or full reset: like the reset button */
};

struct pc_config {
    unsigned cpus;      /* 1..VCPUS_MAX */
    unsigned phys_bits; /* physical address width that CPUID reports; 0 = 40 */
    struct mem *mem;    /* the machine adds RAM slots; the board only does DMA */
    struct bus *pio, *mmio;
    struct clock *clock;
    u64 ram_below_4g, ram_above_4g; /* bytes, reported through CMOS and fw_cfg */
    u8 uuid[16];
    struct pc_serial com[4]; /* COM1..COM4 */
    struct pc_debug_port debug[DEBUG_PORTS_MAX];
    bool testdev;        /* the device x86 conformance suites expect */
    bool pvpanic;        /* panic notifier at PC_PORT_PVPANIC */
    int debug_exit_port; /* <= 0: none */

    /* All may be NULL. All may be called with locks of the board held, on any thread: they only
     * note what happened (set a flag, write an eventfd, vcpu_kick) and never call back into the
     * board. */
    void *ctx;
    void (*attention)(void *ctx, unsigned cpu); /* an interrupt or NMI may be deliverable: engine
                                                   vcpu_attention, and wake the vCPU if it sleeps */
    void (*init)(void *ctx, unsigned cpu); /* x86_state_reset(init), wait for SIPI unless BSP */
    void (*sipi)(void *ctx, unsigned cpu, u8 vector); /* start at vector << 12 if waiting */
    void (*reset)(void *ctx, enum pc_reset_kind kind);
    void (*power_off)(void *ctx);
    void (*debug_exit)(void *ctx, int status); /* status is already (value << 1) | 1 */
    void (*panic)(void *ctx, unsigned event);  /* bit 0 panicked, bit 1 crash kernel loaded */
    void (*a20)(void *ctx, bool on); /* the address line 20 gate changed (power-on: open) */
};

/* Builds the board and claims its regions on both buses. cfg is copied; what it points to must
 * outlive the board. Main thread. On failure nothing is claimed, *e says why. */
must_check int pc_create(const struct pc_config *cfg, struct pc **out, struct err *e);
/* After the last vCPU ran and no timer runs concurrently; removes its regions from the buses. */
void pc_destroy(struct pc *pc);
/* Power-on state of every chip (CMOS memory and the RTC's time live on). All vCPUs stopped. */
void pc_reset(struct pc *pc);

/* Interrupt inputs. Any thread; device locks may be held, the interrupt lock must not be (or
 * may, when the caller runs inside pc_snap_begin/end). `ctx` of pc_irq is the struct pc, so that
 * it fits struct irq_line. */
void pc_irq(void *ctx, unsigned gsi, bool level);
/* A message-signalled interrupt write (SDM vol. 3 11.11). Returns false when no processor took
 * it. */
bool pc_msi(struct pc *pc, u64 addr, u32 data);
/* The board's NMI button: LINT1 of every processor, unless masked by port 70h bit 7. */
void pc_nmi(struct pc *pc);

/* ACPI power button: sets PWRBTN_STS and raises SCI. Any thread. False when the guest has not
 * enabled the event, i.e. nobody will react. */
bool pc_power_button(struct pc *pc);
/* General-purpose event n (0..15), e.g. for hotplug notifications. Any thread. */
void pc_gpe(struct pc *pc, unsigned n);

/* Fills the callbacks of engine.h for one processor; `random` is left to the caller. */
void pc_vcpu_env(struct pc *pc, unsigned cpu, struct vcpu_env *env);
/* Says that the calling thread runs this processor from now on: accesses to the local APIC page
 * reach its APIC (a bus access carries no processor number). Once per vCPU thread, before its
 * first run. Threads that never said so reach processor 0's. */
void pc_cpu_enter(struct pc *pc, unsigned cpu);
/* What INIT does to the board's part of a processor was done before cfg->init was called; this
 * is for machines that reset one processor by themselves. */
void pc_cpu_reset(struct pc *pc, unsigned cpu);

/* Serial input. Any thread. pc_uart_rx takes what fits and returns how much that was; when it
 * was less, rx_ready follows. pc_uart_break sends a break condition. */
size_t pc_uart_room(struct pc *pc, unsigned n);
size_t pc_uart_rx(struct pc *pc, unsigned n, const u8 *buf, size_t len);
void pc_uart_break(struct pc *pc, unsigned n);

/* fw_cfg items are added (dev/fwcfg.h) before the first vCPU runs. */
struct fwcfg *pc_fwcfg(struct pc *pc);
/* One byte of CMOS memory, index 0Eh..7Fh. Not while vCPUs run. */
void pc_cmos_set(struct pc *pc, u8 index, u8 val);
u8 pc_cmos_get(struct pc *pc, u8 index);

/* PCI bus 0, to plug functions in before the first vCPU runs (dev/pci/pci.h); pc_reset places their
 * BARs. They must outlive the board. */
struct pci_bus *pc_pci(struct pc *pc);

/* What an engine can do by itself for the board: kicks of virtio devices, and interrupt controllers
 * in the place of the board's: returns whether it has these. Once, before the first vCPU runs. */
bool pc_engine_attach(struct pc *pc, const struct engine *engine, struct engine_vm *vm);
/* No vCPU runs any more, all devices are there still; afterwards the VM may go. */
void pc_engine_detach(struct pc *pc);
/* The engine's interrupt controllers serve from start to stop. No vCPU runs, no lock of the board
 * is held; repeated calls and those without such controllers do nothing. On failure the board is
 * as before. */
must_check int pc_irqchip_start(struct pc *pc, struct err *e);
must_check int pc_irqchip_stop(struct pc *pc, struct err *e);

/* Snapshots. Fills up to n items and returns how many there are; they live as long as the board.
 * Calls of snap_save/snap_load over them go between begin and end, which take and drop every
 * lock of the board in order; vCPUs are stopped and the clock paused. Guest time is one of the
 * items: loading sets the clock. */
size_t pc_snap_items(struct pc *pc, struct snap_item *out, size_t n);
void pc_snap_begin(struct pc *pc);
void pc_snap_end(struct pc *pc);
