/* irqchip.h - interrupt controllers inside of an engine: how they are driven, and their state */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "base/types.h"

struct engine_vm;

/* Who is to have local APICs, IOAPIC and 8259 pair. */
enum irqchip_choice {
    IRQCHIP_AUTO,   /* the engine, if it can */
    IRQCHIP_ENGINE, /* the engine; else it is an error */
    IRQCHIP_MACHINE /* the machine's chips */
};

#define IRQCHIP_LVTS 6 /* timer, thermal, performance, LINT0, LINT1, error */

/* The chips as their manuals know them, in no engine's words (SDM vol. 3 11; 290566; 231468). */
struct irqchip_lapic {
    u64 base; /* IA32_APIC_BASE */
    u32 tpr, ldr, dfr, svr, esr;
    u64 icr; /* destination: xAPIC 63:56, x2APIC 63:32 */
    u32 lvt[IRQCHIP_LVTS];
    u32 irr[8], isr[8], tmr[8];
    u32 divide, initial, count; /* current count */
    u64 deadline;               /* IA32_TSC_DEADLINE as ns of vcpu_env.tsc; 0: disarmed */
    u8 nmis;                    /* latched and not delivered */
};

struct irqchip_ioapic {
    u8 id, select;
    u64 entry[GSI_COUNT];
    u32 level; /* input pins; for set alone */
};

struct irqchip_pic {
    u8 level; /* input pins; for set alone */
    u8 edge;  /* latched edges */
    u8 isr, imr, elcr;
    u8 base, icw4;
    u8 init; /* the next word of the initialization, 2 to 4; 0: operational */
    u8 top;  /* the input that has highest priority */
    bool need_icw4, read_isr, poll, special, rotate_aeoi;
};

struct irqchip_state {
    struct irqchip_lapic lapic[VCPUS_MAX];
    struct irqchip_ioapic ioapic;
    struct irqchip_pic pic[2]; /* master, slave */
};

enum irqchip_which { IRQCHIP_PIC, IRQCHIP_IOAPIC };

/* Processors sleep in HLT and wait for SIPI inside of vcpu_run then, and INIT, SIPI, NMI and
 * interrupts among them do not leave the engine. Functions but get and set: any thread, any locks
 * but slots of memory. */
struct engine_irqchip {
    /* An input of the 8259 pair (0..15) or the IOAPIC (0..23) changes. */
    void (*line)(struct engine_vm *vm, enum irqchip_which chip, unsigned pin, bool level);
    /* A message-signalled interrupt; false: nobody took it. */
    bool (*msi)(struct engine_vm *vm, u64 addr, u32 data);
    /* From `on` until off, each signal of eventfd `fd` sends this message; repeated, it sends
     * another from then on. After off, what was signalled before has arrived. 0 or -errno: signals
     * stay in the eventfd. */
    int (*irqfd)(struct engine_vm *vm, int fd, u64 addr, u32 data, bool on);
    /* A pulse at LINT1 of each processor. */
    void (*nmi)(struct engine_vm *vm);
    /* The chips' state, out and in, for all processors of the VM, none of which is in vcpu_run. get
     * also takes the processors' state out, for which the caller holds no lock; set comes after it,
     * or before they ran. In between the chips stand, and interrupts are lost on them. 0 or -errno
     * with *e set. */
    int (*get)(struct engine_vm *vm, struct irqchip_state *out, struct err *e);
    int (*set)(struct engine_vm *vm, const struct irqchip_state *in, struct err *e);
};
