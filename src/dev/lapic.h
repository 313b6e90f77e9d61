/* lapic.h - local APIC: xAPIC page, x2APIC registers, IA32_APIC_BASE and timer */
#pragma once

#include "dev/apic_bus.h"
#include "dev/irq.h"
#include "dev/tick.h"
#include "host/clock.h"
#include "mem/bus.h"
#include "snap/snap.h"

#define MSR_APIC_BASE    0x1b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST  0x8ff

#define APIC_BASE_BSP     BIT(8)
#define APIC_BASE_EXTD    BIT(10)
#define APIC_BASE_EN      BIT(11)
#define APIC_BASE_ADDR    0xfffffffffffff000ull
#define APIC_DEFAULT_BASE 0xfee00000ull

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* What is soldered to it. Callbacks run under the interrupt lock and must not come back. */
struct lapic_wiring {
    void *ctx;
    void (*attention)(void *ctx, unsigned id); /* something may be deliverable */
    void (*eoi)(void *ctx, u8 vector);         /* EOI message to the IOAPICs */
    int (*extint_ack)(void *ctx);              /* INTA cycles of the 8259 pair on LINT0 */
    void (*init)(void *ctx, unsigned id);
    void (*sipi)(void *ctx, unsigned id, u8 vector);
    void (*base_changed)(void *ctx, unsigned id); /* the page moved, appeared or went */
};

struct lapic {
    u64 base; /* IA32_APIC_BASE */
    u32 tpr, ldr, dfr, svr;
    u32 esr;    /* what the last write to the register latched */
    u32 errors; /* collected since */
    u64 icr;
    u32 lvt[LVT_COUNT];
    u32 irr[8], isr[8], tmr[8];
    u8 nmi;     /* NMI_* below; changed atomically, without the lock on the processor's side */
    bool lint0; /* pin level: INTR of the 8259 pair */

    u32 divide;  /* divide configuration register */
    u32 initial; /* initial count */
    u32 count;   /* current count at count_ns */
    u64 count_ns;
    u64 periods; /* wraps of a periodic count already turned into interrupts */
    struct tick tick;
    u64 deadline; /* IA32_TSC_DEADLINE, 0 = disarmed */

    bool intr; /* cache of lapic_pending's own part, readable without the lock */
    u32 id;
    unsigned phys_bits;
    struct apic_bus *bus;
    struct lapic_wiring wiring;
    struct clock *clock;
    struct timer timer;
};

/* Joins `bus` as its next processor. `lock` is the interrupt lock; the timer takes it. */
void lapic_init(struct lapic *l, struct apic_bus *bus, struct clock *clock, struct lock *lock,
                unsigned phys_bits, const struct lapic_wiring *w);
void lapic_fini(struct lapic *l); /* without the lock */
/* Power-on (`init` false) or INIT (keeps IA32_APIC_BASE; SDM vol. 3 11.4.7). Processor 0's LINT0
 * comes up in virtual-wire mode, as firmware leaves it, so that the 8259 pair works without
 * further ado. */
void lapic_reset(struct lapic *l, bool init);

/* The 4 KiB page; `off` a multiple of 4. Nothing answers while the APIC is off or in x2APIC
 * mode. */
u32 lapic_mmio_read(struct lapic *l, u32 off);
void lapic_mmio_write(struct lapic *l, u32 off, u32 val);
bool lapic_mmio_enabled(const struct lapic *l);

/* IA32_APIC_BASE, IA32_TSC_DEADLINE and 800h-8FFh. -ENOENT: not one of them; -EINVAL: #GP. The
 * deadline is in ns of guest time, i.e. in units of vcpu_env.tsc. */
int lapic_msr_read(struct lapic *l, u32 msr, u64 *val);
int lapic_msr_write(struct lapic *l, u32 msr, u64 val);

/* For the processor. pending: an unmasked interrupt beats the task priority, or LINT0 passes one
 * of the 8259 pair. ack: its vector, or -1. */
bool lapic_pending(struct lapic *l);
int lapic_ack(struct lapic *l);
bool lapic_nmi_take(struct lapic *l);
u8 lapic_cr8(const struct lapic *l);
void lapic_set_cr8(struct lapic *l, u8 val);

/* Pins LINT0 (the 8259 pair's INTR) and LINT1 (NMI). */
void lapic_set_lint0(struct lapic *l, bool level);
void lapic_pulse_lint1(struct lapic *l);

/* A message arrives that addresses this APIC. False when it is not accepted. */
bool lapic_accept(struct lapic *l, const struct apic_msg *m);
bool lapic_on(const struct lapic *l); /* IA32_APIC_BASE.EN */
bool lapic_x2apic(const struct lapic *l);
bool lapic_sw_enabled(const struct lapic *l); /* and SVR bit 8 */
u32 lapic_ppr(const struct lapic *l);

extern const struct snap_desc lapic_snap;

/* ---- between lapic.c, lapic_regs.c and lapic_timer.c ---- */

/* NMIs that wait: one while the processor serves one, as it latches no more; two otherwise,
 * because the first of two that come together is on its way into the handler. */
#define NMI_COUNT   0x03
#define NMI_SERVING 0x80 /* the processor took one and has not looked again since */

#define LVT_MASKED           BIT(16)
#define LVT_TIMER_MODE       (3u << 17)
#define LVT_TIMER_ONESHOT    (0u << 17)
#define LVT_TIMER_PERIODIC   (1u << 17)
#define LVT_TIMER_DEADLINE   (2u << 17)
#define SVR_ENABLE           BIT(8)
#define ESR_SEND_ILLEGAL     BIT(5)
#define ESR_RECEIVE_ILLEGAL  BIT(6)
#define ESR_ILLEGAL_REGISTER BIT(7)

void lapic_update(struct lapic *l);
void lapic_raise(struct lapic *l, u8 vector, bool level);
void lapic_local(struct lapic *l, enum lapic_lvt which);
void lapic_error(struct lapic *l, u32 bits);
void lapic_eoi(struct lapic *l);
void lapic_send_icr(struct lapic *l);
u32 lapic_x2ldr(const struct lapic *l);

void lapic_timer_reset(struct lapic *l);
void lapic_timer_event(void *arg);
u32 lapic_timer_count(const struct lapic *l);
void lapic_timer_set_initial(struct lapic *l, u32 val);
void lapic_timer_set_divide(struct lapic *l, u32 val);
void lapic_timer_set_lvt(struct lapic *l, u32 val);
void lapic_timer_set_deadline(struct lapic *l, u64 val);
void lapic_timer_arm(struct lapic *l);
