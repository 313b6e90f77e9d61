/* cpuid.h - named CPU models and the CPUID instruction */
#pragma once

#include "x86/cpu.h"

/* What a VM's processors say of themselves. Immutable once made; shared by all vCPUs. */
struct x86_cpuid_model {
    char name[32];
    bool intel;
    u8 phys_bits;
    u32 family_model_stepping; /* leaf 1 EAX */
    char brand[48];
    u64 features[X86_FEATURE_WORDS];
    u64 arch_capabilities; /* MSR 10AH */
    u32 cpus;              /* for topology leaves */
    u32 tsc_khz;           /* leaves 15H, 16H and 40000010H */
    bool kvm_leaves; /* 40000000H: the KVM paravirtual interface (kvmclock, stable clocksource) */
};

/* Builds the named model: "ring3-v2", "ring3-v3" (x86-64-v2, -v3) or "host" (what the host has of
 * that which we implement). All are limited to what this host can execute; features the user asked
 * for by name and the host lacks are an error. -EINVAL with the known names on an unknown one. */
must_check int x86_cpuid_model(struct x86_cpuid_model *m, const char *name, u32 cpus,
                               struct err *e);
/* Names and one-line summaries for help; NULL-terminated by name. */
struct x86_model_name {
    const char *name, *summary;
};
extern const struct x86_model_name x86_model_names[];

/* CPUID leaf/subleaf as vCPU `id` (APIC id) sees it; OSXSAVE, APIC-enable and XCR0 sizes follow
 * `cpu`. */
void x86_cpuid(const struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4]);
