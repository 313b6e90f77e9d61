/* cpu_models.c - named CPU models, and what this host's processor can execute */
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "x86/cpuid.h"

/* --- features by name ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    u32 leaf;
    u8 subleaf, reg, bit;
} feature_rows[X86_FEATURES] = {
#define EAX                        0
#define EBX                        1
#define ECX                        2
#define EDX                        3
#define X86_FEATURE(n, l, s, r, b) {#n, l, s, r, b},
#include "x86/features.def"
#undef X86_FEATURE
};

struct set {
    u64 w[X86_FEATURE_WORDS];
};

static void set_add(struct set *s, unsigned f)
{
    s->w[f / 64] |= BIT64(f % 64);
}

static void set_del(struct set *s, unsigned f)
{
    s->w[f / 64] &= ~BIT64(f % 64);
}

static bool set_has(const struct set *s, unsigned f)
{
    return s->w[f / 64] >> (f % 64) & 1;
}

static void set_add_list(struct set *s, const u8 *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        set_add(s, list[i]);
}

#define F(name) X86_FEATURE_##name

/* Executed by the host's own instructions: a model may only have them when the host does. */
/* clang-format off */
static const u8 native_features[] = {
    F(SSE3), F(PCLMULQDQ), F(SSSE3), F(FMA), F(CX16), F(SSE4_1), F(SSE4_2), F(MOVBE), F(POPCNT),
    F(AESNI), F(AVX), F(F16C), F(BMI1), F(AVX2), F(BMI2), F(ADX), F(SHA), F(VAES), F(VPCLMULQDQ),
    F(GFNI), F(LAHF_LM), F(LZCNT), F(SSE4A), F(MMXEXT), F(CLZERO),
};
/* clang-format on */

/* Known by name for the sake of decoding, not implemented. */
static const u8 missing_features[] = {F(SSE4A), F(CLZERO), F(FXSR_OPT), F(OSXSAVE)};

/* Use YMM state: nothing without AVX. */
static const u8 avx_features[] = {F(FMA), F(F16C), F(AVX2), F(VAES), F(VPCLMULQDQ)};
static const u8 xsave_features[] = {F(AVX), F(XSAVEOPT), F(XSAVEC), F(XGETBV1), F(XSAVES)};

/* x86-64 baseline, x86-64-v2, and what kernels look for. */
/* clang-format off */
static const u8 v2_features[] = {
    F(FPU), F(VME), F(DE), F(PSE), F(TSC), F(MSR), F(PAE), F(MCE), F(CX8), F(APIC), F(SEP),
    F(MTRR), F(PGE), F(MCA), F(CMOV), F(PAT), F(PSE36), F(CLFLUSH), F(MMX), F(FXSR), F(SSE),
    F(SSE2), F(SS), F(SSE3), F(SSSE3), F(CX16), F(PCID), F(SSE4_1), F(SSE4_2), F(X2APIC),
    F(POPCNT), F(TSC_DEADLINE), F(RDRAND), F(HYPERVISOR), F(ARAT), F(FSGSBASE), F(TSC_ADJUST),
    F(FDP_EXCPTN_ONLY), F(SMEP), F(ERMS), F(INVPCID), F(ZERO_FCS_FDS), F(RDSEED), F(SMAP),
    F(CLFLUSHOPT), F(CLWB), F(UMIP), F(RDPID), F(FSRM), F(MD_CLEAR), F(SERIALIZE), F(SPEC_CTRL),
    F(STIBP), F(FLUSH_L1D), F(ARCH_CAPABILITIES), F(SSBD), F(BHI_CTRL), F(LAHF_LM),
    F(PREFETCHW), F(SYSCALL), F(NX), F(PDPE1GB), F(RDTSCP), F(LM), F(INVARIANT_TSC), F(WBNOINVD),
};
static const u8 v3_features[] = {
    F(PCLMULQDQ), F(FMA), F(MOVBE), F(AESNI), F(XSAVE), F(AVX), F(F16C), F(BMI1), F(AVX2), F(BMI2),
    F(XSAVEOPT), F(XSAVEC), F(XGETBV1), F(XSAVES), F(LZCNT),
};
/* clang-format on */

/* The platform's, not the processor's: the `host` model has them wherever it runs. */
static const u8 platform_features[] = {
    F(APIC), F(X2APIC), F(TSC_DEADLINE), F(HYPERVISOR), F(ARAT), F(TSC_ADJUST), F(INVARIANT_TSC),
    F(MTRR), F(PAT),    F(MCE),          F(MCA),        F(DE),   F(VME),
};
static const u8 platform_intel[] = {F(MD_CLEAR), F(SPEC_CTRL), F(STIBP),
                                    F(SSBD),     F(FLUSH_L1D), F(ARCH_CAPABILITIES),
                                F(BHI_CTRL)};
static const u8 platform_amd[] = {F(IBPB),         F(SSB_NO),   F(BTC_NO),
                                  F(LFENCE_RDTSC), F(AUTOIBRS), F(SRSO_NO)};
/* Speculation control in the other vendor's words. */
static const u8 not_on_intel[] = {F(IBPB),         F(SSB_NO),     F(BTC_NO),
                                  F(LFENCE_RDTSC), F(AUTOIBRS),   F(SRSO_NO),
                                  F(MMXEXT),       F(XSAVEERPTR), F(NULL_SEL_CLR_BASE)};
static const u8 not_on_amd[] = {F(MD_CLEAR), F(SPEC_CTRL), F(STIBP),
                                F(SSBD),     F(FLUSH_L1D), F(ARCH_CAPABILITIES),
                                    F(BHI_CTRL)};

/* IA32_ARCH_CAPABILITIES: 0 RDCL_NO, 1 IBRS_ALL, 3 SKIP_L1DFL_VMENTRY, 4 SSB_NO, 5 MDS_NO, 6
 * PSCHANGE_MC_NO, 8 TAA_NO, 13 SBDR_SSDP_NO, 14 FBSDP_NO, 15 PSDP_NO, 20 BHI_NO, 24 PBRSB_NO, 26
 * GDS_NO, 27 RFDS_NO, 62 ITS_NO */
#define ARCH_CAPABILITIES_ALL_NO                                                              \
    (BIT64(0) | BIT64(1) | BIT64(3) | BIT64(4) | BIT64(5) | BIT64(6) | BIT64(8) | BIT64(13) | \
     BIT64(14) | BIT64(15) | BIT64(20) | BIT64(24) | BIT64(26) | BIT64(27) | BIT64(62))

/* --- the host --------------------------------------------------------------------------------- */

struct host {
    bool intel;
    u32 family_model_stepping;
    u8 phys_bits;
    char brand[48];
    struct set features; /* what it can execute, its operating system included */
};

static bool host_cpuid(u32 leaf, u32 subleaf, u32 out[4])
{
    return __get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]);
}

/* XCR0 as the host's kernel has set it; 0 without OSXSAVE. */
static u64 host_xcr0(void)
{
    u32 r[4], lo, hi;

    if (!host_cpuid(1, 0, r) || !(r[2] >> 27 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (u64)hi << 32 | lo;
}

static void host_brand(char brand[48])
{
    u32 r[4];

    memset(brand, 0, 48);
    for (u32 i = 0; i < 3; i++)
        if (host_cpuid(0x80000002 + i, 0, r))
            memcpy(brand + 16 * i, r, 16);
}

static void host_detect(struct host *h)
{
    u32 r[4] = {0};
    u64 ymm = XCR0_SSE | XCR0_AVX;

    memset(h, 0, sizeof(*h));
    host_cpuid(0, 0, r);
    h->intel = memcmp(&r[1], "Auth", 4) && memcmp(&r[1], "Hygo", 4);
    if (host_cpuid(1, 0, r))
        h->family_model_stepping = r[0] & 0x0fff0fff;
    h->phys_bits = 36;
    if (host_cpuid(0x80000008, 0, r) && (r[0] & 0xff) >= 36)
        h->phys_bits = (u8)MIN(r[0] & 0xff, 52u);
    host_brand(h->brand);
    for (unsigned f = 0; f < X86_FEATURES; f++)
        if (host_cpuid(feature_rows[f].leaf, feature_rows[f].subleaf, r) &&
            r[feature_rows[f].reg] >> feature_rows[f].bit & 1)
            set_add(&h->features, f);
    if ((host_xcr0() & ymm) != ymm)
        set_del(&h->features, F(AVX));
    if (!set_has(&h->features, F(AVX)))
        for (unsigned i = 0; i < ARRAY_SIZE(avx_features); i++)
            set_del(&h->features, avx_features[i]);
}

/* --- models ----------------------------------------------------------------------------------- */

const struct x86_model_name x86_model_names[] = {
    {"ring3-v2", "x86-64-v2: SSE4.2, POPCNT, CMPXCHG16B; runs on every supported host"},
    {"ring3-v3", "x86-64-v3: AVX2, BMI, FMA, and AES"},
    {"host", "the host's own vendor, name and features, as far as ring3 implements them"},
    {NULL, NULL},
};

const char *x86_feature_name(enum x86_feature f)
{
    return feature_rows[f].name;
}

static void named_model(struct x86_cpuid_model *m, bool v3, struct set *features)
{
    m->intel = true;
    m->phys_bits = 46;
    m->family_model_stepping = 0x000806f8; /* family 6, model 8FH, stepping 8 */
    strcpy(m->brand, v3 ? "ring3 virtual CPU (x86-64-v3)" : "ring3 virtual CPU (x86-64-v2)");
    set_add_list(features, v2_features, ARRAY_SIZE(v2_features));
    if (v3)
        set_add_list(features, v3_features, ARRAY_SIZE(v3_features));
}

static void drop_list(struct set *s, const u8 *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        set_del(s, list[i]);
}

/* From Zen 2 on; the CPUID bit came with Zen 3, and hypervisors forget it. */
static bool null_clears_base(const struct host *h)
{
    u32 v = h->family_model_stepping, family = (v >> 8 & 15) + (v >> 20 & 0xff);
    u32 model = (v >> 4 & 15) | (v >> 12 & 0xf0);

    return !h->intel && (family >= 0x19 || (family == 0x17 && model >= 0x30));
}

static void host_model(struct x86_cpuid_model *m, const struct host *h, struct set *features)
{
    m->intel = h->intel;
    m->phys_bits = h->phys_bits;
    m->family_model_stepping = h->family_model_stepping;
    memcpy(m->brand, h->brand, sizeof(m->brand));
    *features = h->features;
    set_add_list(features, platform_features, ARRAY_SIZE(platform_features));
    if (h->intel) {
        set_add_list(features, platform_intel, ARRAY_SIZE(platform_intel));
        drop_list(features, not_on_intel, ARRAY_SIZE(not_on_intel));
    } else {
        set_add_list(features, platform_amd, ARRAY_SIZE(platform_amd));
        drop_list(features, not_on_amd, ARRAY_SIZE(not_on_amd));
    }
    if (null_clears_base(h))
        set_add(features, F(NULL_SEL_CLR_BASE));
    drop_list(features, missing_features, ARRAY_SIZE(missing_features));
}

/* Takes away what cannot be without something else that is missing. */
static void drop_dependents(struct set *s)
{
    if (!set_has(s, F(XSAVE)))
        drop_list(s, xsave_features, ARRAY_SIZE(xsave_features));
    if (!set_has(s, F(AVX)))
        drop_list(s, avx_features, ARRAY_SIZE(avx_features));
}

static bool in_list(unsigned f, const u8 *list, size_t n)
{
    return memchr(list, (int)f, n) != NULL;
}

static int check_host(const char *model, const struct set *s, const struct host *h, struct err *e)
{
    for (unsigned f = 0; f < X86_FEATURES; f++)
        if (set_has(s, f) && in_list(f, native_features, ARRAY_SIZE(native_features)) &&
            !set_has(&h->features, f))
            return err_set(e, EINVAL, "CPU model %s needs %s, which this host's processor lacks",
                           model, feature_rows[f].name);
    return 0;
}

/* One ",+name" or ",-name". */
static int apply_change(struct set *s, const char *word, size_t len, struct err *e)
{
    for (unsigned f = 0; len > 1 && f < X86_FEATURES; f++) {
        const char *name = feature_rows[f].name;
        if (strlen(name) != len - 1 || strncasecmp(name, word + 1, len - 1))
            continue;
        if (word[0] == '-') {
            set_del(s, f);
            return 0;
        }
        if (word[0] != '+')
            break;
        if (in_list(f, missing_features, ARRAY_SIZE(missing_features)))
            return err_set(e, EINVAL, "CPU feature %s is not implemented", name);
        set_add(s, f);
        return 0;
    }
    return err_set(e, EINVAL, "unknown CPU feature change \"%.*s\": write +NAME or -NAME", (int)len,
                   word);
}

static int apply_changes(struct set *s, const char *list, struct err *e)
{
    while (*list == ',') {
        size_t len = strcspn(++list, ",");
        int rc = apply_change(s, list, len, e);
        if (rc)
            return rc;
        list += len;
    }
    return 0;
}

static bool names_model(const char *text, size_t len, const char *model)
{
    return strlen(model) == len && !strncmp(text, model, len);
}

int x86_cpuid_model(struct x86_cpuid_model *m, const char *name, u32 cpus, struct err *e)
{
    size_t len = strcspn(name, ",");
    struct set features = {0};
    struct host host;

    memset(m, 0, sizeof(*m));
    host_detect(&host);
    if (names_model(name, len, "host"))
        host_model(m, &host, &features);
    else if (names_model(name, len, "ring3-v2") || names_model(name, len, "ring3-v3"))
        named_model(m, name[len - 1] == '3', &features);
    else
        return err_set(e, EINVAL, "unknown CPU model \"%.*s\": choose ring3-v2, ring3-v3 or host",
                       (int)len, name);
    int rc = apply_changes(&features, name + len, e);
    if (rc)
        return rc;
    drop_dependents(&features);
    rc = check_host(name, &features, &host, e);
    if (rc)
        return rc;
    memcpy(m->name, name, MIN(strlen(name), sizeof(m->name) - 1));
    memcpy(m->features, features.w, sizeof(m->features));
    m->arch_capabilities = m->intel ? ARCH_CAPABILITIES_ALL_NO : 0;
    m->cpus = cpus;
    m->tsc_khz = 1000000;
    m->kvm_leaves = true;
    return 0;
}
