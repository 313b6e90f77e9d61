/* lapic_regs.c - local APIC registers: xAPIC page and x2APIC MSRs (SDM vol. 3 11.4, 11.12) */
#include <errno.h>

#include "dev/lapic.h"

/* Register numbers: page offset >> 4, and MSR - 800h */
enum reg {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09, /* xAPIC only */
    REG_PPR = 0x0a,
    REG_EOI = 0x0b, /* write-only */
    REG_RRD = 0x0c, /* xAPIC only */
    REG_LDR = 0x0d, /* read-only in x2APIC mode */
    REG_DFR = 0x0e, /* xAPIC only */
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31, /* xAPIC only */
    REG_LVT = 0x32,
    REG_LVT_LAST = REG_LVT + LVT_COUNT - 1,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f /* x2APIC only, write-only */
};

/* Version: 23-16 highest LVT entry | 7-0 14h: integrated APIC. EOI broadcasts cannot be suppressed
 * (bit 24), as KVM's local APICs beside an IOAPIC of KVM's. */
#define VERSION         ((LVT_COUNT - 1) << 16 | 0x14)
#define SVR_WRITABLE    0x3ffu
#define DIVIDE_WRITABLE 0xbu
/* ICR low: 19-18 shorthand | 15 trigger | 14 level | 12 delivery status (always idle) | 11
 * logical | 10-8 mode | 7-0 vector */
#define ICR_WRITABLE   0xccfffu
#define ICR_BUSY       BIT(12)
#define LVT_REMOTE_IRR BIT(14)
#define LVT_STATUS     BIT(12)

/* Writable bits. 18-17 timer mode | 16 mask | 15 trigger | 13 polarity | 10-8 delivery mode |
 * 7-0 vector */
static const u32 lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PMC] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

/* Registers that read the same in both modes. */
static bool read_common(struct lapic *l, unsigned reg, u32 *val)
{
    if (reg >= REG_ISR && reg < REG_ESR) {
        const u32 *maps[3] = {l->isr, l->tmr, l->irr};
        *val = maps[(reg - REG_ISR) / 8][reg % 8];
        return true;
    }
    if (reg >= REG_LVT && reg <= REG_LVT_LAST) {
        *val = l->lvt[reg - REG_LVT];
        return true;
    }
    switch (reg) {
    case REG_VERSION: *val = VERSION; break;
    case REG_TPR: *val = l->tpr; break;
    case REG_PPR: *val = lapic_ppr(l); break;
    case REG_SVR: *val = l->svr; break;
    case REG_ESR: *val = l->esr; break;
    case REG_INITIAL: *val = l->initial; break;
    case REG_CURRENT: *val = lapic_timer_count(l); break;
    case REG_DIVIDE: *val = l->divide; break;
    default: return false;
    }
    return true;
}

static void write_lvt(struct lapic *l, unsigned which, u32 val)
{
    val &= lvt_writable[which];
    if (!(l->svr & SVR_ENABLE))
        val |= LVT_MASKED; /* cannot be unmasked while the APIC is software-disabled (11.4.7.2) */
    if (which == LVT_TIMER)
        lapic_timer_set_lvt(l, val);
    else
        l->lvt[which] = val;
    lapic_update(l);
}

static void write_svr(struct lapic *l, u32 val)
{
    bool was = l->svr & SVR_ENABLE;
    l->svr = val & SVR_WRITABLE;
    if (!was || (l->svr & SVR_ENABLE))
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        write_lvt(l, i, l->lvt[i]);
}

/* Registers that write the same in both modes; reserved bits are dropped. */
static bool write_common(struct lapic *l, unsigned reg, u32 val)
{
    if (reg >= REG_LVT && reg <= REG_LVT_LAST) {
        write_lvt(l, reg - REG_LVT, val);
        return true;
    }
    switch (reg) {
    case REG_TPR:
        l->tpr = val & 0xff;
        lapic_update(l);
        break;
    case REG_EOI: lapic_eoi(l); break;
    case REG_SVR: write_svr(l, val); break;
    case REG_ESR: /* the write arms the register with what was collected (11.5.3) */
        l->esr = l->errors;
        l->errors = 0;
        break;
    case REG_INITIAL: lapic_timer_set_initial(l, val); break;
    case REG_DIVIDE: lapic_timer_set_divide(l, val); break;
    default: return false;
    }
    return true;
}

/* ---- xAPIC page ---- */

bool lapic_mmio_enabled(const struct lapic *l)
{
    return lapic_on(l) && !lapic_x2apic(l);
}

u32 lapic_mmio_read(struct lapic *l, u32 off)
{
    unsigned reg = off >> 4;
    u32 val = 0;
    if (!lapic_mmio_enabled(l))
        return 0xffffffff;
    if (off & 0xc)
        return 0; /* between registers */
    switch (reg) {
    case REG_ID: return l->id << 24;
    case REG_APR:
    case REG_RRD:
    case REG_EOI: return 0;
    case REG_LDR: return l->ldr;
    case REG_DFR: return l->dfr;
    case REG_ICR: return (u32)l->icr;
    case REG_ICR_HIGH: return (u32)(l->icr >> 32);
    default: break;
    }
    if (!read_common(l, reg, &val))
        lapic_error(l, ESR_ILLEGAL_REGISTER);
    return val;
}

static void write_icr_low(struct lapic *l, u32 val)
{
    l->icr = (l->icr & ~0xffffffffull) | (val & ICR_WRITABLE & ~ICR_BUSY);
    lapic_send_icr(l);
}

void lapic_mmio_write(struct lapic *l, u32 off, u32 val)
{
    unsigned reg = off >> 4;
    if (!lapic_mmio_enabled(l) || (off & 0xc))
        return;
    switch (reg) {
    case REG_LDR: l->ldr = val & 0xff000000; return;
    case REG_DFR: l->dfr = val | 0x0fffffff; return;
    case REG_ICR: write_icr_low(l, val); return;
    case REG_ICR_HIGH: l->icr = (l->icr & 0xffffffff) | (u64)(val & 0xff000000) << 32; return;
    case REG_ID: /* fixed, as on processors since Nehalem */
    case REG_VERSION:
    case REG_APR:
    case REG_PPR:
    case REG_RRD:
    case REG_CURRENT: return;
    default: break;
    }
    if (reg >= REG_ISR && reg < REG_ESR)
        return;
    if (!write_common(l, reg, val))
        lapic_error(l, ESR_ILLEGAL_REGISTER);
}

/* ---- x2APIC MSRs: anything reserved is #GP (11.12.1.3) ---- */

static int x2_read(struct lapic *l, unsigned reg, u64 *val)
{
    u32 low = 0;
    switch (reg) {
    case REG_ID: *val = l->id; return 0;
    case REG_LDR: *val = lapic_x2ldr(l); return 0;
    case REG_ICR: *val = l->icr; return 0;
    default: break;
    }
    if (!read_common(l, reg, &low))
        return -EINVAL;
    *val = low;
    return 0;
}

/* Bits a write may set; 0 for a register that cannot be written (EOI and ESR take only zero). */
static u64 x2_writable(unsigned reg, bool *known)
{
    *known = true;
    if (reg >= REG_LVT && reg <= REG_LVT_LAST)
        return lvt_writable[reg - REG_LVT] | LVT_STATUS | LVT_REMOTE_IRR;
    switch (reg) {
    case REG_TPR: return 0xff;
    case REG_EOI:
    case REG_ESR: return 0;
    case REG_SVR: return SVR_WRITABLE;
    case REG_ICR: return 0xffffffff00000000ull | ICR_WRITABLE | ICR_BUSY;
    case REG_INITIAL: return 0xffffffff;
    case REG_DIVIDE: return DIVIDE_WRITABLE;
    case REG_SELF_IPI: return 0xff;
    default: *known = false; return 0;
    }
}

static int x2_write(struct lapic *l, unsigned reg, u64 val)
{
    bool known;
    if ((val & ~x2_writable(reg, &known)) || !known)
        return -EINVAL;
    if (reg == REG_ICR) {
        l->icr = val & ~(u64)ICR_BUSY;
        lapic_send_icr(l);
    } else if (reg == REG_SELF_IPI) {
        struct apic_msg m = {.vector = (u8)val, .mode = APIC_FIXED};
        if (m.vector < 16)
            lapic_error(l, ESR_SEND_ILLEGAL);
        else
            lapic_accept(l, &m);
    } else {
        write_common(l, reg, (u32)val);
    }
    return 0;
}

/* ---- IA32_APIC_BASE (11.12.5): off -> xAPIC -> x2APIC -> off, no other way ---- */

/* No register outlives the APIC's being switched off (11.4.3); the task priority is the processor's
 * CR8 too, and NMIs need no APIC. */
static void forget_registers(struct lapic *l)
{
    u32 tpr = l->tpr;
    u8 nmi = __atomic_load_n(&l->nmi, __ATOMIC_ACQUIRE);
    lapic_reset(l, true);
    l->tpr = tpr;
    __atomic_store_n(&l->nmi, nmi, __ATOMIC_RELEASE);
}

static int write_base(struct lapic *l, u64 val)
{
    u64 mode = APIC_BASE_EN | APIC_BASE_EXTD;
    u64 was = l->base & mode, is = val & mode;
    if ((val & 0x2ff) || val >> l->phys_bits)
        return -EINVAL;
    if (is == APIC_BASE_EXTD || (was == mode && is == APIC_BASE_EN) || (was == 0 && is == mode))
        return -EINVAL;
    if (was && !is)
        forget_registers(l);
    l->base = val;
    if (was != mode && is == mode)
        l->icr &= 0xffffffff; /* 8-bit destinations end here */
    lapic_timer_arm(l);       /* stands still while the APIC is off */
    if (l->wiring.base_changed)
        l->wiring.base_changed(l->wiring.ctx, l->id);
    lapic_update(l);
    return 0;
}

int lapic_msr_read(struct lapic *l, u32 msr, u64 *val)
{
    if (msr == MSR_APIC_BASE) {
        *val = l->base;
        return 0;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *val = l->deadline > clock_now_ns(l->clock) ? l->deadline : 0;
        return 0;
    }
    if (msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST)
        return -ENOENT;
    return lapic_x2apic(l) ? x2_read(l, msr - MSR_X2APIC_FIRST, val) : -EINVAL;
}

int lapic_msr_write(struct lapic *l, u32 msr, u64 val)
{
    if (msr == MSR_APIC_BASE)
        return write_base(l, val);
    if (msr == MSR_TSC_DEADLINE) {
        lapic_timer_set_deadline(l, val);
        return 0;
    }
    if (msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST)
        return -ENOENT;
    return lapic_x2apic(l) ? x2_write(l, msr - MSR_X2APIC_FIRST, val) : -EINVAL;
}
