/* cpuid.c - the CPUID instruction (SDM vol. 2A CPUID; APM vol. 3 appendix E) */
#include <string.h>

#include "x86/cpuid.h"
#include "x86/exec.h"

enum { EAX, EBX, ECX, EDX };

#define INTEL_BASIC_MAX    0x1fu
#define AMD_BASIC_MAX      0x10u
#define INTEL_EXTENDED_MAX 0x80000008u
#define AMD_EXTENDED_MAX   0x80000021u
#define HYPERVISOR_BASE    0x40000000u
#define HYPERVISOR_MAX     0x40000010u

#define APIC_BASE_MSR    0x1b
#define APIC_BASE_ENABLE BIT(11)

#define LEAF1_HTT      BIT(28)     /* EDX */
#define AMD_CMP_LEGACY BIT(1)      /* 80000001H ECX */
#define AMD_SHARED_EDX 0x0183f3ffu /* bits of leaf 1 EDX that 80000001H EDX repeats */

/* KVM paravirtual interface (Documentation/virt/kvm/x86/cpuid.rst). */
#define KVM_CLOCKSOURCE        BIT(0)
#define KVM_NOP_IO_DELAY       BIT(1)
#define KVM_CLOCKSOURCE2       BIT(3)
#define KVM_CLOCKSOURCE_STABLE BIT(24)
#define KVM_APIC_BUS_KHZ       1000000

/* --- feature bits ----------------------------------------------------------------------------- */

static const struct {
    u32 leaf;
    u8 subleaf, reg, bit;
} feature_rows[X86_FEATURES] = {
#define X86_FEATURE(name, l, s, r, b) {l, s, r, b},
#include "x86/features.def"
#undef X86_FEATURE
};

static void add_features(const struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4])
{
    for (unsigned i = 0; i < X86_FEATURES; i++)
        if (feature_rows[i].leaf == leaf && feature_rows[i].subleaf == subleaf &&
            x86_has(cpu, (enum x86_feature)i))
            out[feature_rows[i].reg] |= 1u << feature_rows[i].bit;
}

/* --- leaf 1 ----------------------------------------------------------------------------------- */

static bool apic_disabled(const struct x86_cpu *cpu)
{
    u64 base;

    return cpu->ops->msr_read && cpu->ops->msr_read(cpu->world, APIC_BASE_MSR, &base) == 0 &&
           !(base & APIC_BASE_ENABLE);
}

static u32 log2_up(u32 n)
{
    return n <= 1 ? 0 : 32 - (u32)__builtin_clz(n - 1);
}

static void leaf_1(const struct x86_cpu *cpu, u32 out[4])
{
    u32 cpus = cpu->cpuid->cpus;

    out[EAX] = cpu->cpuid->family_model_stepping;
    out[EBX] = 8 << 8 | MIN(1u << log2_up(cpus), 255u) << 16 | cpu->apic_id << 24;
    out[ECX] &= ~BIT(27);
    if (cpu->s.cr4 & CR4_OSXSAVE)
        out[ECX] |= BIT(27);
    if (cpus > 1)
        out[EDX] |= LEAF1_HTT;
    if (apic_disabled(cpu))
        out[EDX] &= ~BIT(9);
}

/* --- leaf 7 ----------------------------------------------------------------------------------- */

static void leaf_7(const struct x86_cpu *cpu, u32 subleaf, u32 out[4])
{
    if (subleaf == 0 && x86_has(cpu, X86_FEATURE_BHI_CTRL))
        out[EAX] = 2; /* the last subleaf */
}

/* --- caches ----------------------------------------------------------------------------------- */

struct cache {
    u8 type; /* 1 data, 2 instruction, 3 unified */
    u8 level;
    u16 ways;
    u32 sets;
    bool shared; /* by the whole package, else by one core */
};

static const struct cache caches[] = {
    {1, 1, 12, 64, false},   /* 48 KiB */
    {2, 1, 8, 64, false},    /* 32 KiB */
    {3, 2, 16, 2048, false}, /* 2 MiB */
    {3, 3, 16, 16384, true}, /* 16 MiB */
};
#define CACHE_LINE 64

static void leaf_4(const struct x86_cpu *cpu, u32 subleaf, u32 out[4])
{
    u32 ids = 1u << log2_up(cpu->cpuid->cpus);

    if (!cpu->intel || subleaf >= ARRAY_SIZE(caches))
        return;
    const struct cache *c = &caches[subleaf];
    u32 sharing = c->shared ? MIN(ids, 4096u) - 1 : 0;
    out[EAX] = c->type | (u32)c->level << 5 | BIT(8) | sharing << 14 | (MIN(ids, 64u) - 1) << 26;
    out[EBX] = (CACHE_LINE - 1) | (u32)(c->ways - 1) << 22;
    out[ECX] = c->sets - 1;
}

/* --- topology: one thread a core, all cores in one package ------------------------------------ */

static void leaf_topology(const struct x86_cpu *cpu, u32 subleaf, u32 out[4])
{
    u32 cpus = cpu->cpuid->cpus;

    out[ECX] = subleaf & 0xff;
    out[EDX] = cpu->apic_id;
    if (subleaf == 0) { /* thread level */
        out[EBX] = 1;
        out[ECX] |= 1 << 8;
    } else if (subleaf == 1) { /* core level */
        out[EAX] = log2_up(cpus);
        out[EBX] = cpus;
        out[ECX] |= 2 << 8;
    }
}

/* --- XSAVE ------------------------------------------------------------------------------------ */

#define XSAVE_LEGACY     576 /* FXSAVE area and header */
#define XSAVE_AVX_SIZE   256
#define XSAVE_AVX_OFFSET 576

static u32 xsave_size(u64 xcr0)
{
    return xcr0 & XCR0_AVX ? XSAVE_AVX_OFFSET + XSAVE_AVX_SIZE : XSAVE_LEGACY;
}

static void leaf_xsave(const struct x86_cpu *cpu, u32 subleaf, u32 out[4])
{
    bool avx = x86_has(cpu, X86_FEATURE_AVX);
    u64 supported = XCR0_X87 | XCR0_SSE | (avx ? XCR0_AVX : 0);

    if (!x86_has(cpu, X86_FEATURE_XSAVE))
        return;
    if (subleaf == 0) {
        out[EAX] = (u32)supported;
        out[EBX] = xsave_size(cpu->s.xcr0);
        out[ECX] = xsave_size(supported);
    } else if (subleaf == 1) {
        if (x86_has(cpu, X86_FEATURE_XSAVEC) || x86_has(cpu, X86_FEATURE_XSAVES))
            out[EBX] = xsave_size(cpu->s.xcr0 | cpu->s.xss);
    } else if (subleaf == 2 && avx) {
        out[EAX] = XSAVE_AVX_SIZE;
        out[EBX] = XSAVE_AVX_OFFSET;
    }
}

/* --- clocks ----------------------------------------------------------------------------------- */

/* TSC = crystal * EBX / EAX, with a crystal that fits ECX. */
static void leaf_tsc(const struct x86_cpu *cpu, u32 out[4])
{
    u64 hz = cpu->cpuid->tsc_khz * 1000ull;
    u32 times = (u32)(hz / 0xffffffff) + 1;

    out[EAX] = 1;
    out[EBX] = times;
    out[ECX] = (u32)(hz / times);
}

static void leaf_frequency(const struct x86_cpu *cpu, u32 out[4])
{
    out[EAX] = out[EBX] = cpu->cpuid->tsc_khz / 1000;
    out[ECX] = 100;
}

/* --- ranges ----------------------------------------------------------------------------------- */

static void vendor(const struct x86_cpu *cpu, u32 out[4])
{
    const char *name = cpu->intel ? "GenuineIntel" : "AuthenticAMD";

    memcpy(&out[EBX], name, 4);
    memcpy(&out[EDX], name + 4, 4);
    memcpy(&out[ECX], name + 8, 4);
}

static void basic(const struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4])
{
    u32 max = cpu->intel ? INTEL_BASIC_MAX : AMD_BASIC_MAX;

    if (leaf > max) {
        if (!cpu->intel)
            return;
        leaf = max;
    }
    /* Most leaves have no subleaves and take any ECX for 0. */
    add_features(cpu, leaf, leaf == 7 || leaf == 0xd ? subleaf : 0, out);
    switch (leaf) {
    case 0:
        out[EAX] = max;
        vendor(cpu, out);
        break;
    case 1: leaf_1(cpu, out); break;
    case 2:
        if (cpu->intel) {
            out[EAX] = 0x00feff01; /* FF: see leaf 4; FE: see leaf 18H */
            out[EBX] = 0xf0;       /* 64-byte prefetch */
        }
        break;
    case 4: leaf_4(cpu, subleaf, out); break;
    case 7: leaf_7(cpu, subleaf, out); break;
    case 0xb: leaf_topology(cpu, subleaf, out); break;
    case 0xd: leaf_xsave(cpu, subleaf, out); break;
    case 0x15: leaf_tsc(cpu, out); break;
    case 0x16: leaf_frequency(cpu, out); break;
    case 0x1f: leaf_topology(cpu, subleaf, out); break;
    default: break;
    }
}

static void hypervisor(const struct x86_cpu *cpu, u32 leaf, u32 out[4])
{
    if (!cpu->cpuid->kvm_leaves)
        return;
    switch (leaf - HYPERVISOR_BASE) {
    case 0:
        out[EAX] = HYPERVISOR_MAX;
        memcpy(&out[EBX], "KVMKVMKVM\0\0\0", 12);
        break;
    case 1:
        out[EAX] = KVM_CLOCKSOURCE | KVM_NOP_IO_DELAY | KVM_CLOCKSOURCE2 | KVM_CLOCKSOURCE_STABLE;
        break;
    case 0x10:
        out[EAX] = cpu->cpuid->tsc_khz;
        out[EBX] = KVM_APIC_BUS_KHZ;
        break;
    default: break;
    }
}

static void leaf_80000001(const struct x86_cpu *cpu, u32 out[4])
{
    if (cpu->intel) {
        /* SYSCALL exists in 64-bit mode only, and is announced only there. */
        if (cpu->code_bits != 64)
            out[EDX] &= ~BIT(11);
        return;
    }
    u32 leaf1[4] = {0};
    add_features(cpu, 1, 0, leaf1);
    out[EAX] = cpu->cpuid->family_model_stepping;
    out[EDX] |= leaf1[EDX] & AMD_SHARED_EDX;
    if (cpu->cpuid->cpus > 1)
        out[ECX] |= AMD_CMP_LEGACY;
}

static void extended(const struct x86_cpu *cpu, u32 leaf, u32 out[4])
{
    const struct x86_cpuid_model *m = cpu->cpuid;

    add_features(cpu, leaf, 0, out);
    switch (leaf) {
    case 0x80000000:
        out[EAX] = cpu->intel ? INTEL_EXTENDED_MAX : AMD_EXTENDED_MAX;
        if (!cpu->intel)
            vendor(cpu, out);
        break;
    case 0x80000001: leaf_80000001(cpu, out); break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: memcpy(out, m->brand + 16 * (leaf - 0x80000002), 16); break;
    case 0x80000005:
        if (!cpu->intel) /* L1D, L1I: 31-24 KiB | 23-16 ways | 15-8 lines a tag | 7-0 line */
            out[ECX] = out[EDX] = 32u << 24 | 8 << 16 | 1 << 8 | CACHE_LINE;
        break;
    case 0x80000006: /* L2: 31-16 KiB | 15-12 associativity code (8: 16 ways) | 7-0 line */
        out[ECX] = 2048u << 16 | 8 << 12 | CACHE_LINE;
        break;
    case 0x80000008:
        out[EAX] = m->phys_bits | 48 << 8;
        if (!cpu->intel)
            out[ECX] = (m->cpus - 1) | log2_up(m->cpus) << 12;
        break;
    default: break;
    }
}

void x86_cpuid(const struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4])
{
    u32 extended_max = cpu->intel ? INTEL_EXTENDED_MAX : AMD_EXTENDED_MAX;

    memset(out, 0, 4 * sizeof(out[0]));
    if (leaf >= HYPERVISOR_BASE && leaf < HYPERVISOR_BASE + 0x100)
        hypervisor(cpu, leaf, out);
    else if (leaf >= 0x80000000 && leaf <= extended_max)
        extended(cpu, leaf, out);
    else
        basic(cpu, leaf, subleaf, out);
}
