/* test_cpuid.c - CPU models and the CPUID instruction */
#include "x86_world.h"

enum { EAX, EBX, ECX, EDX };

struct leaf {
    u32 r[4];
};

static struct leaf cpuid(struct world *w, u32 leaf, u32 subleaf)
{
    struct leaf l;

    x86_cpuid(&w->cpu, leaf, subleaf, l.r);
    return l;
}

static void test_vendor_and_ranges(void **state)
{
    struct world *w = world_new(1, "ring3-v2");
    struct leaf l = cpuid(w, 0, 0), last = cpuid(w, 0x1f, 1);

    assert_int_equal(l.r[EAX], 0x1f);
    assert_memory_equal(&l.r[EBX], "Genu", 4);
    assert_memory_equal(&l.r[EDX], "ineI", 4);
    assert_memory_equal(&l.r[ECX], "ntel", 4);
    assert_int_equal(cpuid(w, 1, 0).r[EAX], 0x806f8);
    assert_int_equal(cpuid(w, 0x80000000, 0).r[EAX], 0x80000008);
    /* Above the highest basic or extended leaf: the highest basic leaf. */
    l = cpuid(w, 0x1234, 1);
    assert_memory_equal(&l, &last, sizeof(l));
    l = cpuid(w, 0x80000009, 1);
    assert_memory_equal(&l, &last, sizeof(l));
    world_free(w);
}

static void test_features(void **state)
{
    struct world *w = world_new(1, "ring3-v2");
    u32 ecx = cpuid(w, 1, 0).r[ECX];

    /* x86-64-v2: SSE3, SSSE3, CX16, SSE4.1, SSE4.2, POPCNT; hypervisor; no AVX, XSAVE, VMX,
     * MONITOR */
    assert_int_equal(ecx & 0x80982201, 0x80982201);
    assert_int_equal(ecx & (BIT(28) | BIT(26) | BIT(5) | BIT(3)), 0);
    assert_int_equal(cpuid(w, 7, 0).r[EBX] & BIT(5), 0);
    assert_int_equal(cpuid(w, 7, 0).r[ECX] & BIT(16), 0); /* LA57 */
    assert_int_equal(cpuid(w, 0xd, 0).r[EAX], 0);
    /* MD_CLEAR, SPEC_CTRL, STIBP, ARCH_CAPABILITIES, SSBD */
    assert_int_equal(cpuid(w, 7, 0).r[EDX] & 0xac000400, 0xac000400);
    assert_int_equal(cpuid(w, 7, 0).r[EAX], 2);
    assert_int_equal(cpuid(w, 7, 2).r[EDX], BIT(4)); /* BHI_CTRL */
    assert_int_equal(cpuid(w, 0x80000007, 0).r[EDX], BIT(8));
    assert_int_equal(cpuid(w, 0x80000008, 0).r[EAX], 46 | 48 << 8);
    world_free(w);
}

static void test_dynamic_bits(void **state)
{
    struct world *w = world_new(1, "ring3-v2");

    assert_int_equal(cpuid(w, 0x80000001, 0).r[EDX] & BIT(11), 0); /* SYSCALL outside 64-bit mode */
    world_long(w, 0, 64, 0);
    assert_int_equal(cpuid(w, 0x80000001, 0).r[EDX] & BIT(11), BIT(11));
    assert_int_equal(cpuid(w, 1, 0).r[ECX] & BIT(27), 0);
    w->cpu.s.cr4 |= CR4_OSXSAVE;
    assert_int_equal(cpuid(w, 1, 0).r[ECX] & BIT(27), BIT(27));
    assert_int_equal(cpuid(w, 1, 0).r[EDX] & BIT(9), BIT(9));
    w->msr = 0x1b;
    w->msr_val = 0xfee00000;
    assert_int_equal(cpuid(w, 1, 0).r[EDX] & BIT(9), 0);
    w->msr_val |= BIT(11);
    assert_int_equal(cpuid(w, 1, 0).r[EDX] & BIT(9), BIT(9));
    world_free(w);
}

static void test_xsave_sizes(void **state)
{
    struct x86_cpuid_model m;
    struct err e = {0};

    if (x86_cpuid_model(&m, "ring3-v3", 1, &e))
        skip(); /* this host lacks x86-64-v3 */
    struct world *w = world_new(1, "ring3-v3");
    w->cpu.s.xcr0 = 1;
    assert_int_equal(cpuid(w, 0xd, 0).r[EAX], 7);
    assert_int_equal(cpuid(w, 0xd, 0).r[EBX], 576);
    assert_int_equal(cpuid(w, 0xd, 0).r[ECX], 832);
    w->cpu.s.xcr0 = 7;
    assert_int_equal(cpuid(w, 0xd, 0).r[EBX], 832);
    assert_int_equal(cpuid(w, 0xd, 1).r[EBX], 832);
    assert_int_equal(cpuid(w, 0xd, 2).r[EAX], 256);
    assert_int_equal(cpuid(w, 0xd, 2).r[EBX], 576);
    assert_int_equal(cpuid(w, 0xd, 3).r[EAX], 0);
    world_free(w);
}

static void test_topology(void **state)
{
    struct world *w = world_new(1, "ring3-v2");

    w->model.cpus = 6;
    w->cpu.apic_id = 5;
    struct leaf l = cpuid(w, 0xb, 0);
    assert_int_equal(l.r[EAX], 0);
    assert_int_equal(l.r[EBX], 1);
    assert_int_equal(l.r[ECX], 0x100);
    assert_int_equal(l.r[EDX], 5);
    l = cpuid(w, 0xb, 1);
    assert_int_equal(l.r[EAX], 3);
    assert_int_equal(l.r[EBX], 6);
    assert_int_equal(l.r[ECX], 0x201);
    l = cpuid(w, 0xb, 2);
    assert_int_equal(l.r[EBX], 0);
    assert_int_equal(l.r[ECX], 2);
    assert_int_equal(l.r[EDX], 5);
    assert_int_equal(cpuid(w, 1, 0).r[EBX], 5u << 24 | 8 << 16 | 8 << 8);
    assert_int_equal(cpuid(w, 1, 0).r[EDX] & BIT(28), BIT(28));
    assert_int_equal(cpuid(w, 4, 3).r[EAX] >> 14 & 0xfff, 7);
    assert_int_equal(cpuid(w, 4, 4).r[EAX], 0);
    world_free(w);
}

static void test_clocks_and_kvm(void **state)
{
    struct world *w = world_new(1, "ring3-v2");
    struct leaf l = cpuid(w, 0x15, 0);

    assert_int_equal((u64)l.r[ECX] * l.r[EBX] / l.r[EAX], 1000000000);
    w->model.tsc_khz = 5200000;
    l = cpuid(w, 0x15, 0);
    assert_int_equal((u64)l.r[ECX] * l.r[EBX] / l.r[EAX], 5200000000);
    assert_int_equal(cpuid(w, 0x16, 0).r[EAX], 5200);
    l = cpuid(w, 0x40000000, 0);
    assert_memory_equal(&l.r[EBX], "KVMKVMKVM\0\0\0", 12);
    assert_int_equal(cpuid(w, 0x40000010, 0).r[EAX], 5200000);
    w->model.kvm_leaves = false;
    assert_int_equal(cpuid(w, 0x40000000, 0).r[EBX], 0);
    world_free(w);
}

static void test_names(void **state)
{
    struct x86_cpuid_model m;
    struct err e;

    assert_refused(x86_cpuid_model(&m, "pentium", 1, &e), EINVAL, e, "ring3-v3");
    assert_refused(x86_cpuid_model(&m, "ring3-v2,+clzero", 1, &e), EINVAL, e, "CLZERO");
    assert_refused(x86_cpuid_model(&m, "ring3-v2,+warp", 1, &e), EINVAL, e, "warp");
    assert_refused(x86_cpuid_model(&m, "ring3-v2,umip", 1, &e), EINVAL, e, "umip");
    memset(&e, 0, sizeof(e));
    assert_ok(x86_cpuid_model(&m, "ring3-v2,-umip,-RDRAND", 1, &e), e);
    assert_int_equal(m.features[X86_FEATURE_UMIP / 64] >> X86_FEATURE_UMIP % 64 & 1, 0);
    assert_ok(x86_cpuid_model(&m, "host", 4, &e), e);
    assert_int_equal(m.cpus, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vendor_and_ranges),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_dynamic_bits),
        cmocka_unit_test(test_xsave_sizes),
        cmocka_unit_test(test_topology),
        cmocka_unit_test(test_clocks_and_kvm),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
