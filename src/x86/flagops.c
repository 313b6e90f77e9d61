/* flagops.c - CLI STI PUSHF POPF CLAC STAC in every mode (SDM vol. 3 20.3, 20.4) */
#include "x86/exec.h"

/* --- CLI and STI ------------------------------------------------------------------------------ */

enum if_target { TARGET_IF, TARGET_VIF, TARGET_NONE };

/* Which flag CLI and STI act on: IF when privileged enough, else VIF with CR4.VME or CR4.PVI,
 * else #GP. */
static enum if_target if_target(const struct x86_cpu *cpu)
{
    unsigned iopl = x86_iopl(cpu);

    if (cpu->vm86) {
        if (iopl == 3)
            return TARGET_IF;
        return cpu->s.cr4 & CR4_VME ? TARGET_VIF : TARGET_NONE;
    }
    if (!cpu->prot || cpu->s.cpl <= iopl)
        return TARGET_IF;
    return cpu->s.cpl == 3 && cpu->s.cr4 & CR4_PVI ? TARGET_VIF : TARGET_NONE;
}

X86_HANDLER(cli)
{
    switch (if_target(cpu)) {
    case TARGET_IF: cpu->s.rflags &= ~(u64)RFLAGS_IF; return X86_OK;
    case TARGET_VIF: cpu->s.rflags &= ~(u64)RFLAGS_VIF; return X86_OK;
    default: return x86_gp(cpu, 0);
    }
}

X86_HANDLER(sti)
{
    switch (if_target(cpu)) {
    case TARGET_IF:
        if (cpu->s.rflags & RFLAGS_IF)
            return X86_OK;
        cpu->s.rflags |= RFLAGS_IF;
        cpu->s.shadow |= X86_SHADOW_STI;
        x86_update_attention(cpu);
        return X86_YIELD;
    case TARGET_VIF:
        if (cpu->s.rflags & RFLAGS_VIP)
            return x86_gp(cpu, 0);
        cpu->s.rflags |= RFLAGS_VIF;
        return X86_OK;
    default: return x86_gp(cpu, 0);
    }
}

/* --- PUSHF ------------------------------------------------------------------------------------ */

static int pushf(struct x86_cpu *cpu, unsigned size)
{
    u64 f = cpu->s.rflags & ~(u64)(RFLAGS_VM | RFLAGS_RF);

    if (cpu->vm86 && x86_iopl(cpu) < 3) {
        if (size != 2 || !(cpu->s.cr4 & CR4_VME))
            return x86_gp(cpu, 0);
        f = (f & ~(u64)RFLAGS_IF) | RFLAGS_IOPL | (f & RFLAGS_VIF ? RFLAGS_IF : 0);
    }
    return x86_push(cpu, size, f & size_mask(size));
}

X86_HANDLER(pushf)
{
    return pushf(cpu, 2);
}

X86_HANDLER(pushfd)
{
    return pushf(cpu, 4);
}

X86_HANDLER(pushfq)
{
    return pushf(cpu, 8);
}

/* --- POPF ------------------------------------------------------------------------------------- */

#define POPF_ALWAYS (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT)

/* RFLAGS bits POPF may change with this operand size at the current privilege, VME aside. */
static u64 popf_mask(const struct x86_cpu *cpu, unsigned size)
{
    unsigned iopl = x86_iopl(cpu);
    u64 mask = POPF_ALWAYS;

    if (size > 2)
        mask |= RFLAGS_AC | RFLAGS_ID | RFLAGS_RF;
    if (!cpu->prot && !cpu->vm86)
        return mask | RFLAGS_IF | RFLAGS_IOPL;
    if (cpu->s.cpl == 0)
        mask |= RFLAGS_IOPL;
    if (cpu->s.cpl <= iopl)
        mask |= RFLAGS_IF;
    return mask;
}

/* 16-bit POPF in virtual-8086 mode with CR4.VME and IOPL < 3: IF stands for VIF. */
static int popf_vme(struct x86_cpu *cpu, u64 val)
{
    if (val & RFLAGS_TF || (val & RFLAGS_IF && cpu->s.rflags & RFLAGS_VIP))
        return x86_gp(cpu, 0);
    u64 vif = val & RFLAGS_IF ? RFLAGS_VIF : 0;
    x86_set_rflags(cpu, (val & POPF_ALWAYS) | vif, POPF_ALWAYS | RFLAGS_VIF);
    return X86_OK;
}

static int popf(struct x86_cpu *cpu, unsigned size)
{
    bool vme = cpu->vm86 && x86_iopl(cpu) < 3;
    u64 rsp = cpu->s.gpr[X86_RSP], val = 0;

    if (vme && (size != 2 || !(cpu->s.cr4 & CR4_VME)))
        return x86_gp(cpu, 0);
    TRY(x86_pop(cpu, size, &val));
    if (vme) {
        int rc = popf_vme(cpu, val);
        if (rc) {
            cpu->s.gpr[X86_RSP] = rsp;
            return rc;
        }
        return X86_YIELD;
    }
    x86_set_rflags(cpu, val & ~(u64)RFLAGS_RF, popf_mask(cpu, size));
    return X86_YIELD;
}

X86_HANDLER(popf)
{
    return popf(cpu, 2);
}

X86_HANDLER(popfd)
{
    return popf(cpu, 4);
}

X86_HANDLER(popfq)
{
    return popf(cpu, 8);
}

/* --- CLAC and STAC ---------------------------------------------------------------------------- */

static int set_ac(struct x86_cpu *cpu, u64 ac)
{
    if (cpu->s.cpl)
        return x86_ud(cpu);
    cpu->s.rflags = (cpu->s.rflags & ~(u64)RFLAGS_AC) | ac;
    x86_update_sets(cpu);
    return X86_OK;
}

X86_HANDLER(clac)
{
    return set_ac(cpu, 0);
}

X86_HANDLER(stac)
{
    return set_ac(cpu, RFLAGS_AC);
}
