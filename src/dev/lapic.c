/* lapic.c - local APIC: accepting, prioritising and acknowledging interrupts (SDM vol. 3 11) */
#include "dev/lapic.h"

#include <errno.h>
#include <string.h>

#define ICR_VECTOR(icr)    ((u8)(icr))
#define ICR_MODE(icr)      ((u8)((icr) >> 8 & 7))
#define ICR_LOGICAL        BIT(11)
#define ICR_ASSERT         BIT(14)
#define ICR_LEVEL          BIT(15)
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)

enum shorthand { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static void set_bit(u32 *map, u8 vector)
{
    map[vector >> 5] |= BIT(vector & 31);
}

static void clear_bit(u32 *map, u8 vector)
{
    map[vector >> 5] &= ~BIT(vector & 31);
}

static bool test_bit(const u32 *map, u8 vector)
{
    return map[vector >> 5] & BIT(vector & 31);
}

static int highest(const u32 *map)
{
    for (int i = 7; i >= 0; i--) {
        if (map[i])
            return i * 32 + 31 - __builtin_clz(map[i]);
    }
    return -1;
}

bool lapic_on(const struct lapic *l)
{
    return l->base & APIC_BASE_EN;
}

bool lapic_x2apic(const struct lapic *l)
{
    return (l->base & APIC_BASE_EN) && (l->base & APIC_BASE_EXTD);
}

bool lapic_sw_enabled(const struct lapic *l)
{
    return lapic_on(l) && (l->svr & SVR_ENABLE);
}

/* The x2APIC logical id is derived: cluster in the high half, one bit in the low half
 * (11.12.10.2). */
u32 lapic_x2ldr(const struct lapic *l)
{
    return (l->id >> 4) << 16 | BIT(l->id & 15);
}

/* Processor priority: the task priority, or the class of what is in service (11.8.3.1). */
u32 lapic_ppr(const struct lapic *l)
{
    int isr = highest(l->isr);
    u32 serving = isr < 0 ? 0 : (u32)isr & 0xf0;
    return (l->tpr & 0xf0) >= serving ? l->tpr : serving;
}

/* The vector the processor should take, or -1. Pure. */
static int deliverable(const struct lapic *l)
{
    int irr = highest(l->irr);
    if (irr < 0 || !lapic_on(l))
        return -1;
    return ((u32)irr & 0xf0) > (lapic_ppr(l) & 0xf0) ? irr : -1;
}

/* Whether LINT0 lets the 8259 pair's INTR through. With the APIC off the pins are INTR and NMI. */
static bool extint_open(const struct lapic *l)
{
    if (!lapic_on(l))
        return l->id == 0;
    return !(l->lvt[LVT_LINT0] & LVT_MASKED) && ICR_MODE(l->lvt[LVT_LINT0]) == APIC_EXTINT;
}

static bool extint_pending(const struct lapic *l)
{
    return l->lint0 && extint_open(l);
}

/* Recomputes what the processor sees, and calls for its attention when there is something. */
void lapic_update(struct lapic *l)
{
    bool intr = deliverable(l) >= 0 || extint_pending(l);
    bool was = __atomic_exchange_n(&l->intr, intr, __ATOMIC_RELEASE);
    if (intr && !was)
        l->wiring.attention(l->wiring.ctx, l->id);
}

void lapic_raise(struct lapic *l, u8 vector, bool level)
{
    if (vector < 16) {
        lapic_error(l, ESR_RECEIVE_ILLEGAL);
        return;
    }
    if (level)
        set_bit(l->tmr, vector);
    else
        clear_bit(l->tmr, vector);
    set_bit(l->irr, vector);
    lapic_update(l);
}

static void raise_nmi(struct lapic *l)
{
    u8 was = __atomic_load_n(&l->nmi, __ATOMIC_ACQUIRE);
    do {
        if ((was & NMI_COUNT) >= (was & NMI_SERVING ? 1 : 2))
            break;
    } while (!__atomic_compare_exchange_n(&l->nmi, &was, was + 1, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    l->wiring.attention(l->wiring.ctx, l->id);
}

/* An error happened: collected until software writes the ESR; the error interrupt is sent once
 * per new kind (11.5.3). The vector of the error entry may itself be illegal: no recursion then. */
void lapic_error(struct lapic *l, u32 bits)
{
    bool fresh = bits & ~l->errors;
    l->errors |= bits;
    if (fresh && !(l->lvt[LVT_ERROR] & LVT_MASKED) && (l->lvt[LVT_ERROR] & 0xf0))
        lapic_raise(l, (u8)l->lvt[LVT_ERROR], false);
}

/* A local source fires: its vector table entry decides what that means. */
void lapic_local(struct lapic *l, enum lapic_lvt which)
{
    u32 entry = l->lvt[which];
    if ((entry & LVT_MASKED) || !lapic_on(l))
        return;
    if (which == LVT_TIMER || which == LVT_ERROR || ICR_MODE(entry) == APIC_FIXED)
        lapic_raise(l, (u8)entry, false);
    else if (ICR_MODE(entry) == APIC_NMI)
        raise_nmi(l);
}

void lapic_set_lint0(struct lapic *l, bool level)
{
    bool rise = level && !l->lint0;
    l->lint0 = level;
    if (rise && !extint_open(l))
        lapic_local(l, LVT_LINT0);
    lapic_update(l);
}

void lapic_pulse_lint1(struct lapic *l)
{
    if (lapic_on(l))
        lapic_local(l, LVT_LINT1);
    else if (l->id == 0)
        raise_nmi(l);
}

bool lapic_accept(struct lapic *l, const struct apic_msg *m)
{
    switch ((enum apic_mode)m->mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!lapic_sw_enabled(l))
            return false;
        lapic_raise(l, m->vector, m->level);
        return true;
    case APIC_NMI: raise_nmi(l); return true;
    case APIC_INIT:
        lapic_reset(l, true);
        l->wiring.init(l->wiring.ctx, l->id);
        return true;
    case APIC_STARTUP: l->wiring.sipi(l->wiring.ctx, l->id, m->vector); return true;
    case APIC_SMI: /* no system management mode here */
    case APIC_EXTINT:
    case APIC_RESERVED: break;
    }
    return false;
}

static void send_others(struct lapic *l, struct apic_msg *m, bool self)
{
    for (unsigned i = 0; i < l->bus->cpus; i++) {
        struct lapic *to = l->bus->cpu[i];
        if (lapic_on(to) && (self || to != l))
            lapic_accept(to, m);
    }
}

/* Sends what the interrupt command register says (11.6.1). */
void lapic_send_icr(struct lapic *l)
{
    u32 low = (u32)l->icr;
    bool x2 = lapic_x2apic(l);
    struct apic_msg m = {
        .dest = x2 ? (u32)(l->icr >> 32) : apic_dest8((u8)(l->icr >> 56)),
        .vector = ICR_VECTOR(low),
        .mode = ICR_MODE(low),
        .logical = low & ICR_LOGICAL,
    };
    if (m.mode == APIC_INIT && (low & ICR_LEVEL) && !(low & ICR_ASSERT))
        return; /* INIT level de-assert: only pre-P6 processors act on it */
    if ((m.mode == APIC_FIXED || m.mode == APIC_LOWEST) && m.vector < 16) {
        lapic_error(l, ESR_SEND_ILLEGAL);
        return;
    }
    switch ((enum shorthand)ICR_SHORTHAND(low)) {
    case SHORTHAND_NONE: apic_bus_deliver(l->bus, &m); break;
    case SHORTHAND_SELF: lapic_accept(l, &m); break;
    case SHORTHAND_ALL: send_others(l, &m, true); break;
    case SHORTHAND_OTHERS: send_others(l, &m, false); break;
    }
}

void lapic_eoi(struct lapic *l)
{
    int vector = highest(l->isr);
    if (vector < 0)
        return;
    clear_bit(l->isr, (u8)vector);
    lapic_update(l);
    if (test_bit(l->tmr, (u8)vector))
        l->wiring.eoi(l->wiring.ctx, (u8)vector);
}

/* ---- the processor's side ---- */

bool lapic_pending(struct lapic *l)
{
    return __atomic_load_n(&l->intr, __ATOMIC_ACQUIRE);
}

int lapic_ack(struct lapic *l)
{
    int vector = -1;
    if (extint_pending(l)) {
        vector = l->wiring.extint_ack(l->wiring.ctx);
    } else if ((vector = deliverable(l)) >= 0) {
        clear_bit(l->irr, (u8)vector);
        set_bit(l->isr, (u8)vector);
    }
    l->intr = false; /* so that more of them call for attention again */
    lapic_update(l);
    return vector;
}

bool lapic_nmi_take(struct lapic *l)
{
    u8 was = __atomic_load_n(&l->nmi, __ATOMIC_ACQUIRE), is;
    if (!was)
        return false; /* asked at every boundary: no locked access then */
    do {
        is = was & NMI_COUNT ? (u8)((was & NMI_COUNT) - 1) | NMI_SERVING : 0;
    } while (
        !__atomic_compare_exchange_n(&l->nmi, &was, is, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    return was & NMI_COUNT;
}

u8 lapic_cr8(const struct lapic *l)
{
    return (u8)(l->tpr >> 4);
}

void lapic_set_cr8(struct lapic *l, u8 val)
{
    l->tpr = (u32)(val & 15) << 4;
    lapic_update(l);
}

/* ---- state ---- */

static const struct snap_field lapic_fields[] = {SNAP_U64(struct lapic, base),
                                                 SNAP_U32(struct lapic, tpr),
                                                 SNAP_U32(struct lapic, ldr),
                                                 SNAP_U32(struct lapic, dfr),
                                                 SNAP_U32(struct lapic, svr),
                                                 SNAP_U32(struct lapic, esr),
                                                 SNAP_U32(struct lapic, errors),
                                                 SNAP_U64(struct lapic, icr),
                                                 SNAP_U32(struct lapic, lvt),
                                                 SNAP_U32(struct lapic, irr),
                                                 SNAP_U32(struct lapic, isr),
                                                 SNAP_U32(struct lapic, tmr),
                                                 SNAP_U8(struct lapic, nmi),
                                                 SNAP_BOOL(struct lapic, lint0),
                                                 SNAP_U32(struct lapic, divide),
                                                 SNAP_U32(struct lapic, initial),
                                                 SNAP_U32(struct lapic, count),
                                                 SNAP_U64(struct lapic, count_ns),
                                                 SNAP_U64(struct lapic, periods),
                                                 SNAP_U32(struct lapic, tick.backlog),
                                                 SNAP_U64(struct lapic, tick.last_ns),
                                                 SNAP_U64(struct lapic, deadline),
                                                 SNAP_END};

static int lapic_check(const void *scratch, struct err *e)
{
    const struct lapic *l = scratch;
    if ((l->base & APIC_BASE_EXTD) && !(l->base & APIC_BASE_EN))
        return err_set(e, EINVAL, "lapic: x2APIC mode without APIC enable");
    if (l->base & 0x2ff || l->base >> 52)
        return err_set(e, EINVAL, "lapic: reserved bits in IA32_APIC_BASE");
    if (l->tpr > 0xff || l->divide & ~0xbu || l->esr > 0xff || l->errors > 0xff)
        return err_set(e, EINVAL, "lapic: reserved bits in TPR, ESR or divide register");
    if ((l->nmi & NMI_COUNT) > 2 || l->nmi & ~(NMI_COUNT | NMI_SERVING))
        return err_set(e, EINVAL, "lapic: impossible NMI latch %#x", l->nmi);
    if ((l->irr[0] | l->isr[0]) & 0xffff)
        return err_set(e, EINVAL, "lapic: a vector below 16 is requested or in service");
    if (l->count_ns >= TICK_SANE_MAX || l->periods >= TICK_SANE_MAX || !tick_sane(&l->tick))
        return err_set(e, EINVAL, "lapic: impossible timer state");
    return 0;
}

static void lapic_loaded(void *obj)
{
    struct lapic *l = obj;
    l->intr = false;
    if (l->wiring.base_changed)
        l->wiring.base_changed(l->wiring.ctx, l->id);
    lapic_update(l);
    if (l->nmi & NMI_COUNT)
        l->wiring.attention(l->wiring.ctx, l->id);
    lapic_timer_arm(l);
}

const struct snap_desc lapic_snap = {
    "lapic", 1, sizeof(struct lapic), lapic_fields, lapic_check, lapic_loaded, lapic_timer_event};

void lapic_reset(struct lapic *l, bool init)
{
    if (!init)
        l->base = APIC_DEFAULT_BASE | APIC_BASE_EN | (l->id == 0 ? APIC_BASE_BSP : 0);
    l->tpr = l->ldr = l->esr = l->errors = 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    l->icr = 0;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        l->lvt[i] = LVT_MASKED;
    if (l->id == 0)
        l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
    memset(l->irr, 0, sizeof(l->irr));
    memset(l->isr, 0, sizeof(l->isr));
    memset(l->tmr, 0, sizeof(l->tmr));
    l->nmi = 0;
    lapic_timer_reset(l);
    if (!init && l->wiring.base_changed)
        l->wiring.base_changed(l->wiring.ctx, l->id);
    lapic_update(l);
}

void lapic_init(struct lapic *l, struct apic_bus *bus, struct clock *clock, struct lock *lock,
                unsigned phys_bits, const struct lapic_wiring *w)
{
    ASSERT(bus->cpus < VCPUS_MAX);
    memset(l, 0, sizeof(*l));
    l->id = bus->cpus;
    bus->cpu[bus->cpus++] = l;
    l->bus = bus;
    l->clock = clock;
    l->phys_bits = phys_bits;
    l->wiring = *w;
    timer_init(&l->timer, clock, lapic_timer_event, l, lock);
    lapic_reset(l, false);
}

void lapic_fini(struct lapic *l)
{
    timer_fini(&l->timer);
}
