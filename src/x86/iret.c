/* iret.c - IRET in every mode (SDM vol. 2 IRET; vol. 3 7.3, 20.2.4, 20.3.3.5) */
#include "x86/xfer.h"

/* The three items every frame begins with. */
struct iret_frame {
    u64 ip, cs, flags;
};

#define FLAGS_ANY_LEVEL (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT)
#define FLAGS_WIDE      (RFLAGS_RF | RFLAGS_AC | RFLAGS_ID)

static void load_flags(struct x86_cpu *cpu, u64 val, u64 mask)
{
    cpu->s.rflags = (cpu->s.rflags & ~mask) | (iret_image(cpu, val) & mask);
    if (mask & RFLAGS_RF)
        cpu->retire |= X86_RETIRE_KEEP_RF;
}

static int peek_frame(struct x86_cpu *cpu, unsigned opsize, struct iret_frame *f)
{
    TRY(x86_stack_peek(cpu, 0, opsize, &f->ip));
    TRY(x86_stack_peek(cpu, opsize, opsize, &f->cs));
    return x86_stack_peek(cpu, 2 * opsize, opsize, &f->flags);
}

/* --- real and virtual-8086 mode --------------------------------------------------------------- */

static void enter_real(struct x86_cpu *cpu, const struct iret_frame *f, unsigned opsize)
{
    x86_stack_move(cpu, 3 * opsize);
    x86_set_seg_real(cpu, X86_CS, f->cs);
    cpu->s.rip = f->ip;
}

static int iret_real(struct x86_cpu *cpu, unsigned opsize)
{
    struct iret_frame f;
    u64 mask = FLAGS_ANY_LEVEL | RFLAGS_IF | RFLAGS_IOPL;

    TRY(peek_frame(cpu, opsize, &f));
    if (f.ip > cpu->s.seg[X86_CS].limit)
        return x86_gp(cpu, 0);
    enter_real(cpu, &f, opsize);
    load_flags(cpu, f.flags, opsize == 2 ? mask : mask | FLAGS_WIDE);
    return X86_OK;
}

/* With CR4.VME a 16-bit IRET below IOPL 3 works on VIF instead of IF. */
static int iret_vm86(struct x86_cpu *cpu, unsigned opsize)
{
    bool virtual_if = x86_iopl(cpu) < 3;
    struct iret_frame f;
    u64 mask = FLAGS_ANY_LEVEL;

    if (virtual_if && (!(cpu->s.cr4 & CR4_VME) || opsize != 2))
        return x86_gp(cpu, 0);
    TRY(peek_frame(cpu, opsize, &f));
    if (f.ip > 0xffff)
        return x86_gp(cpu, 0);
    if (virtual_if) {
        bool new_if = f.flags & RFLAGS_IF;
        if (f.flags & RFLAGS_TF || (new_if && cpu->s.rflags & RFLAGS_VIP))
            return x86_gp(cpu, 0);
        f.flags = new_if ? f.flags | RFLAGS_VIF : f.flags & ~(u64)RFLAGS_VIF;
        mask |= RFLAGS_VIF;
    } else {
        mask |= RFLAGS_IF;
    }
    enter_real(cpu, &f, opsize);
    load_flags(cpu, f.flags, opsize == 2 ? mask : mask | FLAGS_WIDE);
    return X86_OK;
}

/* --- protected and long mode ------------------------------------------------------------------ */

/* Back to the task named by the link field of the current TSS. */
static int iret_task(struct x86_cpu *cpu)
{
    struct x86_desc tss;
    u16 link;

    if (cpu->lma)
        return x86_gp(cpu, 0);
    TRY(x86_lin_read(cpu, (u32)cpu->s.tr.base, &link, 2, X86_R | X86_SYS));
    if (link & 4 || sel_null(link))
        return sel_fault(cpu, X86_TS, link);
    TRY(x86_desc_read(cpu, link, X86_TS, &tss));
    if (!attr_is_system(tss.attr, SYS_TSS16_BUSY) && !attr_is_system(tss.attr, SYS_TSS32_BUSY))
        return sel_fault(cpu, X86_TS, link);
    if (!(tss.attr & SEG_P))
        return sel_fault(cpu, X86_NP, link);
    return x86_task_switch(cpu, link, &tss, X86_TASK_IRET, false, 0);
}

/* From level 0: ESP, SS, ES, DS, FS, GS follow, and every flag is loaded. */
static int iret_to_vm86(struct x86_cpu *cpu, const struct iret_frame *f)
{
    static const u8 sregs[] = {X86_SS, X86_ES, X86_DS, X86_FS, X86_GS};
    u64 sel[ARRAY_SIZE(sregs)], esp;

    TRY(x86_stack_peek(cpu, 12, 4, &esp));
    for (unsigned i = 0; i < ARRAY_SIZE(sregs); i++)
        TRY(x86_stack_peek(cpu, 16 + 4 * i, 4, &sel[i]));
    if (f->ip > 0xffff)
        return x86_gp(cpu, 0);
    load_flags(cpu, f->flags,
               FLAGS_ANY_LEVEL | FLAGS_WIDE | RFLAGS_IF | RFLAGS_IOPL | RFLAGS_VM | RFLAGS_VIF |
                   RFLAGS_VIP);
    x86_set_seg_real(cpu, X86_CS, f->cs);
    for (unsigned i = 0; i < ARRAY_SIZE(sregs); i++)
        x86_set_seg_real(cpu, sregs[i], sel[i]);
    cpu->s.cpl = 3;
    cpu->s.rip = f->ip;
    gpr_set(cpu, X86_RSP, 4, esp);
    return X86_OK;
}

/* What the level that executes IRET may change. */
static u64 flags_mask(const struct x86_cpu *cpu, unsigned opsize)
{
    u64 mask = FLAGS_ANY_LEVEL;

    if (opsize != 2)
        mask |= FLAGS_WIDE;
    if (cpu->s.cpl <= x86_iopl(cpu))
        mask |= RFLAGS_IF;
    if (cpu->s.cpl == 0) {
        mask |= RFLAGS_IOPL;
        if (opsize != 2)
            mask |= RFLAGS_VIF | RFLAGS_VIP;
    }
    return mask;
}

/* SS:RSP is there for an outer level, and always when IRET executes in 64-bit mode. AMD processors
 * check RIP before they look at it. */
static int iret_protected(struct x86_cpu *cpu, struct iret_frame *f, unsigned opsize)
{
    u64 mask = flags_mask(cpu, opsize), rsp, ss_sel;
    bool with_stack = cpu->code_bits == 64 || sel_rpl(f->cs) > cpu->s.cpl;
    struct x86_desc cs, ss;

    TRY(x86_return_code(cpu, f->cs, &cs));
    f->ip = x86_return_offset(cpu, &cs, f->ip);
    if (!cpu->intel)
        TRY(x86_check_ip(cpu, &cs, f->ip));
    if (with_stack) {
        TRY(x86_stack_peek(cpu, 3 * opsize, opsize, &rsp));
        TRY(x86_stack_peek(cpu, 4 * opsize, opsize, &ss_sel));
        TRY(x86_return_stack(cpu, ss_sel, f->cs, &cs, &ss));
    }
    TRY(x86_check_ip(cpu, &cs, f->ip));
    TRY(x86_desc_accessed(cpu, &cs));
    if (with_stack && ss.attr & SEG_P)
        TRY(x86_desc_accessed(cpu, &ss));
    load_flags(cpu, f->flags, mask);
    if (with_stack) {
        x86_return_outer(cpu, f->cs, &cs, f->ip, ss_sel, &ss, rsp);
    } else {
        x86_enter_code(cpu, f->cs, &cs, cpu->s.cpl, f->ip);
        x86_update_mode(cpu);
        x86_stack_move(cpu, 3 * opsize); /* with the width of the new mode */
    }
    return X86_OK;
}

static int iret_by_mode(struct x86_cpu *cpu, unsigned opsize)
{
    struct iret_frame f;

    if (cpu->vm86)
        return iret_vm86(cpu, opsize);
    if (!cpu->prot)
        return iret_real(cpu, opsize);
    if (cpu->s.rflags & RFLAGS_NT)
        return iret_task(cpu);
    TRY(peek_frame(cpu, opsize, &f));
    if (f.flags & RFLAGS_VM && opsize == 4 && cpu->s.cpl == 0 && !cpu->lma)
        return iret_to_vm86(cpu, &f);
    return iret_protected(cpu, &f, opsize);
}

/* NMIs are unblocked even when IRET faults (SDM vol. 3 6.7.1). */
int x86_iret(struct x86_cpu *cpu, unsigned opsize)
{
    if (cpu->s.shadow & X86_BLOCK_NMI) {
        cpu->s.shadow &= ~X86_BLOCK_NMI;
        x86_attn_set(cpu, X86_ATTN_NMI);
    }
    if (likely(cpu->code_bits == 64 && !cpu->s.cpl && opsize == 8) && x86_flat_iret(cpu)) {
        x86_update_level(cpu);
        return X86_OK;
    }
    TRY(iret_by_mode(cpu, opsize));
    x86_update_mode(cpu);
    return X86_OK;
}

X86_HANDLER(iret)
{
    TRY(x86_iret(cpu, in->opsize));
    return X86_YIELD;
}
