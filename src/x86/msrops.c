/* msrops.c - RDMSR, WRMSR, CPUID, time stamp, random numbers, FS and GS bases */
#include "x86/cpuid.h"
#include "x86/exec.h"

static void set_edx_eax(struct x86_cpu *cpu, u64 val)
{
    gpr_set(cpu, X86_RAX, 4, val);
    gpr_set(cpu, X86_RDX, 4, val >> 32);
}

X86_HANDLER(rdmsr)
{
    u64 val = 0;

    TRY(need_cpl0(cpu));
    TRY(x86_msr_read(cpu, (u32)cpu->s.gpr[X86_RCX], &val));
    set_edx_eax(cpu, val);
    return X86_OK;
}

X86_HANDLER(wrmsr)
{
    u64 val = (u32)cpu->s.gpr[X86_RAX] | cpu->s.gpr[X86_RDX] << 32;

    TRY(need_cpl0(cpu));
    TRY(x86_msr_write(cpu, (u32)cpu->s.gpr[X86_RCX], val));
    return X86_YIELD;
}

X86_HANDLER(cpuid)
{
    u32 out[4];

    x86_cpuid(cpu, (u32)cpu->s.gpr[X86_RAX], (u32)cpu->s.gpr[X86_RCX], out);
    gpr_set(cpu, X86_RAX, 4, out[0]);
    gpr_set(cpu, X86_RBX, 4, out[1]);
    gpr_set(cpu, X86_RCX, 4, out[2]);
    gpr_set(cpu, X86_RDX, 4, out[3]);
    return X86_OK;
}

static int need_tsc(struct x86_cpu *cpu)
{
    return cpu->s.cr4 & CR4_TSD ? need_cpl0(cpu) : X86_OK;
}

X86_HANDLER(rdtsc)
{
    TRY(need_tsc(cpu));
    set_edx_eax(cpu, x86_tsc(cpu));
    return X86_OK;
}

X86_HANDLER(rdtscp)
{
    TRY(need_tsc(cpu));
    set_edx_eax(cpu, x86_tsc(cpu));
    gpr_set(cpu, X86_RCX, 4, cpu->s.tsc_aux);
    return X86_OK;
}

X86_HANDLER(rdpid)
{
    gpr_set(cpu, in->op[0].reg, cpu->code_bits == 64 ? 8 : 4, (u32)cpu->s.tsc_aux);
    return X86_OK;
}

/* No performance counters are announced (CPUID leaf 0AH), so every index is out of range. */
X86_HANDLER(rdpmc)
{
    return x86_gp(cpu, 0);
}

/* RDRAND, RDSEED: CF tells success; the other arithmetic flags are cleared. */
X86_HANDLER(rdrand)
{
    u64 val = 0;
    bool ok = cpu->ops->random(cpu->world, &val) == 0;

    gpr_set(cpu, in->op[0].reg, in->op[0].size, ok ? val : 0);
    cpu->s.rflags = (cpu->s.rflags & ~(u64)RFLAGS_ARITH) | (ok ? RFLAGS_CF : 0);
    return X86_OK;
}

/* --- FS and GS bases (64-bit mode only) ------------------------------------------------------- */

static void set_base(struct x86_cpu *cpu, unsigned sreg, u64 base)
{
    cpu->s.seg[sreg].base = base;
    cpu->seg_base[sreg] = base;
}

X86_HANDLER(swapgs)
{
    u64 base = cpu->s.seg[X86_GS].base;

    if (cpu->code_bits != 64)
        return x86_ud(cpu);
    TRY(need_cpl0(cpu));
    set_base(cpu, X86_GS, cpu->s.kernel_gs_base);
    cpu->s.kernel_gs_base = base;
    return X86_OK;
}

static int need_fsgsbase(struct x86_cpu *cpu)
{
    bool on = cpu->code_bits == 64 && cpu->s.cr4 & CR4_FSGSBASE;

    return on ? X86_OK : x86_ud(cpu);
}

static int read_base(struct x86_cpu *cpu, const struct x86_insn *in, unsigned sreg)
{
    TRY(need_fsgsbase(cpu));
    gpr_set(cpu, in->op[0].reg, in->op[0].size, cpu->s.seg[sreg].base);
    return X86_OK;
}

static int write_base(struct x86_cpu *cpu, const struct x86_insn *in, unsigned sreg)
{
    u64 base = cpu->s.gpr[in->op[0].reg] & size_mask(in->op[0].size);

    TRY(need_fsgsbase(cpu));
    if (!x86_canonical(base))
        return x86_gp(cpu, 0);
    set_base(cpu, sreg, base);
    return X86_OK;
}

X86_HANDLER(rdfsbase)
{
    return read_base(cpu, in, X86_FS);
}

X86_HANDLER(rdgsbase)
{
    return read_base(cpu, in, X86_GS);
}

X86_HANDLER(wrfsbase)
{
    return write_base(cpu, in, X86_FS);
}

X86_HANDLER(wrgsbase)
{
    return write_base(cpu, in, X86_GS);
}
