/* cpuid.c - the machine's CPU model as KVM can offer it */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/kvm/kvm.h"
#include "x86/exec.h"

#define ENTRIES_MAX           256
#define MSR_ARCH_CAPABILITIES 0x10au

enum { EAX, EBX, ECX, EDX };

static const struct {
    u32 leaf;
    u8 subleaf, reg, bit;
} feature_rows[X86_FEATURES] = {
#define X86_FEATURE(name, l, s, r, b) {l, s, r, b},
#include "x86/features.def"
#undef X86_FEATURE
};

/* What KVM need not know of, because the machine answers for it: the local APIC is ours. */
static bool ours(unsigned feature)
{
    return feature == X86_FEATURE_X2APIC || feature == X86_FEATURE_TSC_DEADLINE ||
           feature == X86_FEATURE_HYPERVISOR || feature == X86_FEATURE_APIC;
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *list, u32 leaf, u32 subleaf)
{
    for (u32 i = 0; i < list->nent; i++)
        if (list->entries[i].function == leaf && list->entries[i].index == subleaf)
            return &list->entries[i];
    return NULL;
}

static u32 reg_of(const struct kvm_cpuid_entry2 *e, unsigned reg)
{
    switch (reg) {
    case EAX: return e->eax;
    case EBX: return e->ebx;
    case ECX: return e->ecx;
    default: return e->edx;
    }
}

static bool supported(const struct kvm_cpuid2 *list, unsigned feature)
{
    const struct kvm_cpuid_entry2 *e =
        find(list, feature_rows[feature].leaf, feature_rows[feature].subleaf);

    return e && reg_of(e, feature_rows[feature].reg) >> feature_rows[feature].bit & 1;
}

struct kvm_cpuid2 *kvm_cpuid_supported(int kvm)
{
    struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + ENTRIES_MAX * sizeof(list->entries[0]));

    if (!list)
        return NULL;
    list->nent = ENTRIES_MAX;
    if (kvm_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, list)) {
        free(list);
        return NULL;
    }
    return list;
}

/* Flaws that this host's processor does not have; to others the guest must attend itself. */
static u64 host_capabilities(int kvm)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } b = {.head.nmsrs = 1, .entry.index = MSR_ARCH_CAPABILITIES};
    void *cap = (void *)(uintptr_t)KVM_CAP_GET_MSR_FEATURES;
    bool known = kvm_ioctl_count(kvm, KVM_CHECK_EXTENSION, cap) > 0 &&
                 kvm_ioctl_count(kvm, KVM_GET_MSRS, &b) == 1;

    return known ? b.entry.data : 0;
}

static void limit(struct x86_cpuid_model *m, const struct kvm_cpuid2 *list)
{
    const struct kvm_cpuid_entry2 *sizes = find(list, 0x80000008, 0);

    for (unsigned i = 0; i < X86_FEATURES; i++)
        if (!ours(i) && !supported(list, i))
            m->features[i / 64] &= ~BIT64(i % 64);
    if (sizes && (sizes->eax & 0xff) < m->phys_bits)
        m->phys_bits = (u8)sizes->eax;
}

int kvm_cpuid_limit(struct x86_cpuid_model *m, struct err *e)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    struct kvm_cpuid2 *list;

    if (kvm < 0)
        return err_set(e, errno, "engine kvm: /dev/kvm: %s; see ring3 doctor", strerror(errno));
    list = kvm_cpuid_supported(kvm);
    if (list) {
        limit(m, list);
        m->arch_capabilities &= host_capabilities(kvm);
    }
    close(kvm);
    free(list);
    return list ? 0
                : err_set(e, EIO, "engine kvm: the kernel does not say which CPUID leaves it has");
}

/* ---- a vCPU's leaves ---- */

struct list {
    struct kvm_cpuid2 *out;
    struct x86_cpu *cpu;
};

static void add(struct list *l, u32 leaf, u32 subleaf, u32 flags)
{
    struct kvm_cpuid_entry2 *e = &l->out->entries[l->out->nent];
    u32 r[4];

    if (l->out->nent == ENTRIES_MAX)
        return;
    x86_cpuid(l->cpu, leaf, subleaf, r);
    *e = (struct kvm_cpuid_entry2){.function = leaf,
                                   .index = subleaf,
                                   .flags = flags,
                                   .eax = r[EAX],
                                   .ebx = r[EBX],
                                   .ecx = r[ECX],
                                   .edx = r[EDX]};
    l->out->nent++;
}

/* Subleaves that are used; the first that is not ends a list for software. */
static unsigned subleaves(u32 leaf)
{
    switch (leaf) {
    case 4: return 5;
    case 7: return 3;
    case 0xb:
    case 0x1f: return 3;
    case 0xd: return 3;
    default: return 0;
    }
}

static void add_range(struct list *l, u32 first)
{
    u32 r[4];

    x86_cpuid(l->cpu, first, 0, r);
    for (u32 leaf = first; leaf <= r[EAX] && leaf - first < 0x40; leaf++) {
        unsigned n = subleaves(leaf);

        if (!n)
            add(l, leaf, 0, 0);
        for (unsigned i = 0; i < n; i++)
            add(l, leaf, i, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    }
}

/* The leaves as 64-bit code sees them. KVM itself keeps those up to date that follow CR4 and
 * XCR0. */
int kvm_cpuid_set(struct engine_vcpu *v)
{
    struct list l = {.cpu = aligned_alloc(64, (sizeof(*l.cpu) + 63) & ~63ul)};
    int rc = -ENOMEM;

    l.out = calloc(1, sizeof(*l.out) + ENTRIES_MAX * sizeof(l.out->entries[0]));
    if (l.out && l.cpu) {
        memcpy(l.cpu, v->cpu, sizeof(*l.cpu));
        l.cpu->code_bits = 64;
        add_range(&l, 0);
        add_range(&l, 0x40000000);
        add_range(&l, 0x80000000);
        rc = kvm_ioctl(v->fd, KVM_SET_CPUID2, l.out);
    }
    free(l.out);
    free(l.cpu);
    return rc;
}
