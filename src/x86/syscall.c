/* syscall.c - SYSCALL SYSRET SYSENTER SYSEXIT (SDM vol. 2, vol. 3 5.8.7, 5.8.8; APM vol. 3) */
#include "x86/debug.h"
#include "x86/xfer.h"

static void seg_flat(struct x86_seg *seg, u16 sel, u16 attr)
{
    seg->base = 0;
    seg->limit = 0xffffffff;
    seg->sel = sel;
    seg->attr = attr;
}

/* Flat code and stack segments with fixed attributes; tables are not read. */
static void load_code(struct x86_cpu *cpu, u16 sel, unsigned cpl, u16 size_bit)
{
    seg_flat(&cpu->s.seg[X86_CS], (sel & 0xfffc) | cpl,
             ATTR_FLAT_CODE | size_bit | cpl << SEG_DPL_SHIFT);
    cpu->s.cpl = cpl;
}

static void load_stack(struct x86_cpu *cpu, u16 sel, unsigned cpl)
{
    seg_flat(&cpu->s.seg[X86_SS], sel, ATTR_FLAT_DATA | cpl << SEG_DPL_SHIFT);
}

/* The single-step trap of these two looks at TF as it is when they are done. */
static int finish_step_after(struct x86_cpu *cpu)
{
    bool long_before = cpu->code_bits == 64;

    cpu->retire |= X86_RETIRE_NO_STEP;
    if (cpu->s.rflags & RFLAGS_TF)
        cpu->s.dr6_pending |= DR6_BS;
    if (long_before && cpu->s.seg[X86_CS].attr & SEG_L)
        x86_update_level(cpu);
    else
        x86_update_mode(cpu);
    return X86_YIELD;
}

/* --- SYSCALL ---------------------------------------------------------------------------------- */

/* Intel: 64-bit code only. AMD: any protected mode. */
static bool syscall_defined(const struct x86_cpu *cpu)
{
    if (!(cpu->s.efer & EFER_SCE))
        return false;
    return cpu->intel ? cpu->code_bits == 64 : cpu->prot;
}

static void syscall_long(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->s;
    bool compat = cpu->code_bits != 64;

    s->gpr[X86_RCX] = compat ? (u32)s->rip : s->rip;
    s->gpr[X86_R11] = s->rflags & ~(u64)RFLAGS_RF;
    s->rip = compat ? s->cstar : s->lstar;
    s->rflags &= ~(s->sfmask | RFLAGS_RF);
    s->rflags |= RFLAGS_ONE;
    load_code(cpu, s->star >> 32, 0, SEG_L);
}

static void syscall_legacy(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->s;

    s->gpr[X86_RCX] = (u32)s->rip;
    s->rip = (u32)s->star;
    s->rflags &= ~(u64)(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF);
    load_code(cpu, s->star >> 32, 0, SEG_DB);
}

X86_HANDLER(syscall)
{
    if (!syscall_defined(cpu))
        return x86_ud(cpu);
    if (cpu->lma)
        syscall_long(cpu);
    else
        syscall_legacy(cpu);
    load_stack(cpu, ((cpu->s.star >> 32) & 0xfffc) + 8, 0);
    return finish_step_after(cpu);
}

/* --- SYSRET ----------------------------------------------------------------------------------- */

/* AMD processors load the selector of SS alone (APM vol. 3 SYSRET): a null SS stays unusable. */
static void sysret_stack(struct x86_cpu *cpu, u16 sel)
{
    if (cpu->intel)
        load_stack(cpu, sel | 3, 3);
    else
        cpu->s.seg[X86_SS].sel = sel | 3;
}

X86_HANDLER(sysret)
{
    struct x86_state *s = &cpu->s;
    u16 sel = s->star >> 48;
    u64 rcx = s->gpr[X86_RCX];
    u64 loadable = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT |
                   RFLAGS_AC | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_ID;

    if (!syscall_defined(cpu))
        return x86_ud(cpu);
    if (s->cpl != 0)
        return x86_gp(cpu, 0);
    if (in->opsize == 8) {
        if (cpu->intel && !x86_canonical(rcx))
            return x86_gp(cpu, 0);
        s->rip = rcx;
        load_code(cpu, sel + 16, 3, SEG_L);
    } else {
        s->rip = (u32)rcx;
        load_code(cpu, sel, 3, SEG_DB);
    }
    if (cpu->lma)
        s->rflags = (s->gpr[X86_R11] & loadable) | RFLAGS_ONE;
    else
        s->rflags |= RFLAGS_IF;
    sysret_stack(cpu, sel + 8);
    return finish_step_after(cpu);
}

/* --- SYSENTER and SYSEXIT --------------------------------------------------------------------- */

/* AMD processors lack both in long mode. */
static bool sysenter_defined(const struct x86_cpu *cpu)
{
    return cpu->intel || !cpu->lma;
}

X86_HANDLER(sysenter)
{
    struct x86_state *s = &cpu->s;
    u16 sel = s->sysenter_cs & 0xfffc;

    if (!sysenter_defined(cpu))
        return x86_ud(cpu);
    if (!(s->cr0 & CR0_PE) || !sel)
        return x86_gp(cpu, 0);
    s->rflags &= ~(u64)(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF);
    load_code(cpu, sel, 0, cpu->lma ? SEG_L : SEG_DB);
    load_stack(cpu, sel + 8, 0);
    s->gpr[X86_RSP] = cpu->lma ? s->sysenter_esp : (u32)s->sysenter_esp;
    s->rip = cpu->lma ? s->sysenter_eip : (u32)s->sysenter_eip;
    x86_update_mode(cpu);
    return X86_YIELD;
}

X86_HANDLER(sysexit)
{
    struct x86_state *s = &cpu->s;
    u16 sel = s->sysenter_cs & 0xfffc;
    u64 rip = s->gpr[X86_RDX], rsp = s->gpr[X86_RCX];

    if (!sysenter_defined(cpu))
        return x86_ud(cpu);
    if (!(s->cr0 & CR0_PE) || s->cpl != 0 || !sel)
        return x86_gp(cpu, 0);
    if (in->opsize == 8) {
        if (!x86_canonical(rip) || !x86_canonical(rsp))
            return x86_gp(cpu, 0);
        load_code(cpu, sel + 32, 3, SEG_L);
        load_stack(cpu, (sel + 40) | 3, 3);
    } else {
        rip = (u32)rip;
        rsp = (u32)rsp;
        load_code(cpu, sel + 16, 3, SEG_DB);
        load_stack(cpu, (sel + 24) | 3, 3);
    }
    s->rip = rip;
    s->gpr[X86_RSP] = rsp;
    x86_update_mode(cpu);
    return X86_YIELD;
}
