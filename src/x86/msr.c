/* msr.c - model-specific registers (SDM vol. 4; APM vol. 2 appendix A); the list is msrs.def */
#include "x86/cpuid.h"
#include "x86/debug.h"
#include "x86/exec.h"

#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_FS_BASE      0xc0000100u /* GS_BASE and KERNEL_GS_BASE follow */

#define MC_BANKS ARRAY_SIZE(((struct x86_state *)0)->mc_ctl)

/* 8 variable ranges, fixed ranges, write-combining. */
#define MTRRCAP (8 | BIT(8) | BIT(10))

#define SPEC_CTRL_IBRS  BIT(0)
#define SPEC_CTRL_STIBP BIT(1)
#define SPEC_CTRL_SSBD  BIT(2)
#define SPEC_CTRL_BHI   BIT(10) /* BHI_DIS_S */
#define PRED_CMD_IBPB   BIT(0)
#define FLUSH_CMD_L1D   BIT(0)

/* Fast strings, thermal control, monitor, SpeedStep, MWAIT, CPUID limit, xTPR, XD disable. */
#define MISC_ENABLE_WRITABLE 0x400c50009ull

/* Microcode revision, as current firmware of the modelled part reports it. */
#define MICROCODE_INTEL (0x2b000639ull << 32)
#define MICROCODE_AMD   0xffffffull

typedef bool msr_valid_fn(const struct x86_cpu *cpu, u64 val);
typedef u64 msr_get_fn(struct x86_cpu *cpu, unsigned i);
typedef int msr_set_fn(struct x86_cpu *cpu, unsigned i, u64 val);

/* --- what a plain state field may hold -------------------------------------------------------- */

static bool valid_any(const struct x86_cpu *cpu, u64 val)
{
    return true;
}

static bool valid_zero(const struct x86_cpu *cpu, u64 val)
{
    return val == 0;
}

static bool valid_canonical(const struct x86_cpu *cpu, u64 val)
{
    return x86_canonical(val);
}

static bool valid_mcg_status(const struct x86_cpu *cpu, u64 val)
{
    return val <= 7; /* RIPV, EIPV, MCIP */
}

static bool valid_debugctl(const struct x86_cpu *cpu, u64 val)
{
    return !(val & ~(u64)(DEBUGCTL_LBR | DEBUGCTL_BTF));
}

/* Eight memory types of a byte each, out of a set given as a bit mask. */
static bool valid_types(u64 val, u32 allowed)
{
    for (unsigned i = 0; i < 8; i++, val >>= 8)
        if ((val & 0xff) > 7 || !(allowed >> (val & 7) & 1))
            return false;
    return true;
}

#define TYPES_MTRR 0x73u /* UC, WC, WT, WP, WB */
#define TYPES_PAT  0xf3u /* and UC- */

static bool valid_pat(const struct x86_cpu *cpu, u64 val)
{
    return valid_types(val, TYPES_PAT);
}

/* 11 E | 10 FE | 7-0 type */
static bool valid_mtrr_def_type(const struct x86_cpu *cpu, u64 val)
{
    return !(val & ~0xcffull) && valid_types(val & 0xff, TYPES_MTRR);
}

/* --- time stamp ------------------------------------------------------------------------------- */

u64 x86_tsc(struct x86_cpu *cpu)
{
    return cpu->ops->tsc(cpu->world) + cpu->s.tsc_offset;
}

static u64 get_tsc(struct x86_cpu *cpu, unsigned i)
{
    return x86_tsc(cpu);
}

/* Writing either of TSC and TSC_ADJUST moves the other by the same amount (SDM vol. 3 17.17.3). */
static int set_tsc(struct x86_cpu *cpu, unsigned i, u64 val)
{
    u64 delta = val - x86_tsc(cpu);

    cpu->s.tsc_offset += delta;
    cpu->s.tsc_adjust += delta;
    return X86_OK;
}

static u64 get_tsc_adjust(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.tsc_adjust;
}

static int set_tsc_adjust(struct x86_cpu *cpu, unsigned i, u64 val)
{
    cpu->s.tsc_offset += val - cpu->s.tsc_adjust;
    cpu->s.tsc_adjust = val;
    return X86_OK;
}

static u64 get_tsc_aux(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.tsc_aux;
}

static int set_tsc_aux(struct x86_cpu *cpu, unsigned i, u64 val)
{
    if (val >> 32 && cpu->intel)
        return x86_gp(cpu, 0);
    cpu->s.tsc_aux = (u32)val;
    return X86_OK;
}

/* --- speculation control ---------------------------------------------------------------------- */

static u64 spec_ctrl_bits(const struct x86_cpu *cpu)
{
    return (x86_has(cpu, X86_FEATURE_SPEC_CTRL) ? SPEC_CTRL_IBRS : 0) |
           (x86_has(cpu, X86_FEATURE_STIBP) ? SPEC_CTRL_STIBP : 0) |
           (x86_has(cpu, X86_FEATURE_SSBD) ? SPEC_CTRL_SSBD : 0) |
           (x86_has(cpu, X86_FEATURE_BHI_CTRL) ? SPEC_CTRL_BHI : 0);
}

/* Stored, without effect. */
static u64 get_spec_ctrl(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.spec_ctrl;
}

static int set_spec_ctrl(struct x86_cpu *cpu, unsigned i, u64 val)
{
    if (val & ~spec_ctrl_bits(cpu))
        return x86_gp(cpu, 0);
    cpu->s.spec_ctrl = val;
    return X86_OK;
}

static int set_pred_cmd(struct x86_cpu *cpu, unsigned i, u64 val)
{
    bool ibpb = x86_has(cpu, X86_FEATURE_SPEC_CTRL) || x86_has(cpu, X86_FEATURE_IBPB);

    return ibpb && !(val & ~(u64)PRED_CMD_IBPB) ? X86_OK : x86_gp(cpu, 0);
}

static int set_flush_cmd(struct x86_cpu *cpu, unsigned i, u64 val)
{
    return val & ~(u64)FLUSH_CMD_L1D ? x86_gp(cpu, 0) : X86_OK;
}

static u64 get_arch_caps(struct x86_cpu *cpu, unsigned i)
{
    return cpu->cpuid->arch_capabilities;
}

/* --- identity and power ----------------------------------------------------------------------- */

static u64 get_zero(struct x86_cpu *cpu, unsigned i)
{
    return 0;
}

static int set_zero(struct x86_cpu *cpu, unsigned i, u64 val)
{
    return val ? x86_gp(cpu, 0) : X86_OK;
}

static int set_nothing(struct x86_cpu *cpu, unsigned i, u64 val)
{
    return X86_OK;
}

static u64 get_microcode(struct x86_cpu *cpu, unsigned i)
{
    return cpu->intel ? MICROCODE_INTEL : MICROCODE_AMD;
}

static u64 ratio(const struct x86_cpu *cpu)
{
    return MIN(cpu->cpuid->tsc_khz / 100000, 255u);
}

/* 47-40 minimum, 15-8 maximum non-turbo ratio to 100 MHz */
static u64 get_platform_info(struct x86_cpu *cpu, unsigned i)
{
    return ratio(cpu) << 40 | ratio(cpu) << 8;
}

static u64 get_perf_status(struct x86_cpu *cpu, unsigned i)
{
    return ratio(cpu) << 8;
}

static u64 get_misc_enable(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.misc_enable;
}

static int set_misc_enable(struct x86_cpu *cpu, unsigned i, u64 val)
{
    cpu->s.misc_enable =
        (cpu->s.misc_enable & ~MISC_ENABLE_WRITABLE) | (val & MISC_ENABLE_WRITABLE);
    return X86_OK;
}

/* --- memory types ----------------------------------------------------------------------------- */

/* Base and mask alternate. Base: 7-0 type; mask: 11 valid; both: page number from bit 12. */
static u64 get_mtrr_var(struct x86_cpu *cpu, unsigned i)
{
    return i & 1 ? cpu->s.mtrr_mask[i / 2] : cpu->s.mtrr_base[i / 2];
}

static int set_mtrr_var(struct x86_cpu *cpu, unsigned i, u64 val)
{
    u64 low = i & 1 ? BIT(11) : 0xff;

    if (val & ~(low | (cpu->phys_mask & ~4095ull)))
        return x86_gp(cpu, 0);
    if (!(i & 1) && !valid_types(val & 0xff, TYPES_MTRR))
        return x86_gp(cpu, 0);
    if (i & 1)
        cpu->s.mtrr_mask[i / 2] = val;
    else
        cpu->s.mtrr_base[i / 2] = val;
    return X86_OK;
}

static int set_mtrr_fixed(struct x86_cpu *cpu, unsigned i, u64 val)
{
    if (!valid_types(val, TYPES_MTRR))
        return x86_gp(cpu, 0);
    cpu->s.mtrr_fixed[i] = val;
    return X86_OK;
}

static u64 get_mtrr_fix64k(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.mtrr_fixed[0];
}

static int set_mtrr_fix64k(struct x86_cpu *cpu, unsigned i, u64 val)
{
    return set_mtrr_fixed(cpu, 0, val);
}

static u64 get_mtrr_fix16k(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.mtrr_fixed[1 + i];
}

static int set_mtrr_fix16k(struct x86_cpu *cpu, unsigned i, u64 val)
{
    return set_mtrr_fixed(cpu, 1 + i, val);
}

static u64 get_mtrr_fix4k(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.mtrr_fixed[3 + i];
}

static int set_mtrr_fix4k(struct x86_cpu *cpu, unsigned i, u64 val)
{
    return set_mtrr_fixed(cpu, 3 + i, val);
}

/* --- machine check ---------------------------------------------------------------------------- */

enum { MC_CTL, MC_STATUS, MC_ADDR, MC_MISC };

static u64 *mc_reg(struct x86_cpu *cpu, unsigned i)
{
    switch (i % 4) {
    case MC_CTL: return &cpu->s.mc_ctl[i / 4];
    case MC_STATUS: return &cpu->s.mc_status[i / 4];
    case MC_ADDR: return &cpu->s.mc_addr[i / 4];
    default: return &cpu->s.mc_misc[i / 4];
    }
}

static u64 get_mc(struct x86_cpu *cpu, unsigned i)
{
    return *mc_reg(cpu, i);
}

/* CTL takes all ones or all zeros, STATUS can only be cleared (SDM vol. 3 15.3.2). */
static int set_mc(struct x86_cpu *cpu, unsigned i, u64 val)
{
    if ((i % 4 == MC_CTL && val && val != ~0ull) || (i % 4 == MC_STATUS && val))
        return x86_gp(cpu, 0);
    *mc_reg(cpu, i) = val;
    return X86_OK;
}

/* --- system calls and segment bases ----------------------------------------------------------- */

static u64 get_sysenter_cs(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.sysenter_cs;
}

static int set_sysenter_cs(struct x86_cpu *cpu, unsigned i, u64 val)
{
    cpu->s.sysenter_cs = (u32)val;
    return X86_OK;
}

static u64 get_sfmask(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.sfmask;
}

static int set_sfmask(struct x86_cpu *cpu, unsigned i, u64 val)
{
    cpu->s.sfmask = (u32)val;
    return X86_OK;
}

static u64 get_efer(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.efer;
}

static int set_efer(struct x86_cpu *cpu, unsigned i, u64 val)
{
    return x86_set_efer(cpu, val);
}

static u64 get_seg_base(struct x86_cpu *cpu, unsigned i)
{
    return cpu->s.seg[X86_FS + i].base;
}

static int set_seg_base(struct x86_cpu *cpu, unsigned i, u64 val)
{
    if (!x86_canonical(val))
        return x86_gp(cpu, 0);
    cpu->s.seg[X86_FS + i].base = val;
    cpu->seg_base[X86_FS + i] = val; /* in every mode */
    return X86_OK;
}

/* --- the table -------------------------------------------------------------------------------- */

enum msr_kind { KIND_STATE, KIND_CONST, KIND_INERT, KIND_CALL };

/* Conditions that are not CPUID features. */
enum { ANY = X86_FEATURES, INTEL, AMD };

struct msr_row {
    u32 first;
    u16 count;
    u8 kind;    /* enum msr_kind */
    u8 when;    /* enum x86_feature, ANY, INTEL, AMD */
    u32 offset; /* KIND_STATE: of a u64 in x86_state */
    u64 value;  /* KIND_CONST, KIND_INERT */
    msr_valid_fn *valid;
    msr_get_fn *get;
    msr_set_fn *set;
};

#define MSR_STATE(number, name, cond, field, ok)  \
    {.first = number,                             \
     .count = 1,                                  \
     .kind = KIND_STATE,                          \
     .when = cond,                                \
     .offset = offsetof(struct x86_state, field), \
     .valid = ok},
#define MSR_CONST(number, name, cond, val) \
    {.first = number, .count = 1, .kind = KIND_CONST, .when = cond, .value = val},
#define MSR_INERT(number, name, cond, val) \
    {.first = number, .count = 1, .kind = KIND_INERT, .when = cond, .value = val},
#define MSR_CALL(number, n, name, cond, getter, setter) \
    {.first = number, .count = n, .kind = KIND_CALL, .when = cond, .get = getter, .set = setter},

static const struct msr_row msr_rows[] = {
#include "x86/msrs.def"
};

static bool row_applies(const struct x86_cpu *cpu, const struct msr_row *row)
{
    switch (row->when) {
    case ANY: return true;
    case INTEL: return cpu->intel;
    case AMD: return !cpu->intel;
    default: return x86_has(cpu, (enum x86_feature)row->when);
    }
}

static const struct msr_row *find_row(const struct x86_cpu *cpu, u32 msr)
{
    unsigned lo = 0, hi = ARRAY_SIZE(msr_rows);

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct msr_row *row = &msr_rows[mid];
        if (msr < row->first)
            hi = mid;
        else if (msr - row->first >= row->count)
            lo = mid + 1;
        else
            return row_applies(cpu, row) ? row : NULL;
    }
    return NULL;
}

/* The bases that kernels move at every switch of tasks or entry need no search in the table. NULL:
 * not one of them. */
static u64 *quick_base(struct x86_cpu *cpu, u32 msr)
{
    unsigned i = msr - MSR_FS_BASE;

    if (i > 2 || unlikely(!x86_has(cpu, X86_FEATURE_LM)))
        return NULL;
    return i == 2 ? &cpu->s.kernel_gs_base : &cpu->s.seg[X86_FS + i].base;
}

static u64 *state_field(struct x86_cpu *cpu, const struct msr_row *row)
{
    return (u64 *)((u8 *)&cpu->s + row->offset);
}

/* MSRs of the world around the processor. The APIC keeps IA32_TSC_DEADLINE in the world's time, the
 * guest writes it in its own; 0 disarms in both. */
static int world_read(struct x86_cpu *cpu, u32 msr, u64 *val)
{
    if (cpu->ops->msr_read(cpu->world, msr, val))
        return x86_gp(cpu, 0);
    if (msr == MSR_TSC_DEADLINE && *val)
        *val += cpu->s.tsc_offset;
    return X86_OK;
}

static int world_write(struct x86_cpu *cpu, u32 msr, u64 val)
{
    if (msr == MSR_TSC_DEADLINE && val) {
        val -= cpu->s.tsc_offset;
        if ((s64)val <= 0)
            val = 1; /* before the world's time began: long past */
    }
    return cpu->ops->msr_write(cpu->world, msr, val) ? x86_gp(cpu, 0) : X86_OK;
}

int x86_msr_read(struct x86_cpu *cpu, u32 msr, u64 *val)
{
    const u64 *base = quick_base(cpu, msr);

    if (base) {
        *val = *base;
        return X86_OK;
    }
    const struct msr_row *row = find_row(cpu, msr);
    if (!row)
        return world_read(cpu, msr, val);
    switch ((enum msr_kind)row->kind) {
    case KIND_STATE: *val = *state_field(cpu, row); return X86_OK;
    case KIND_CALL:
        if (!row->get)
            return x86_gp(cpu, 0);
        *val = row->get(cpu, msr - row->first);
        return X86_OK;
    default: *val = row->value; return X86_OK;
    }
}

int x86_msr_write(struct x86_cpu *cpu, u32 msr, u64 val)
{
    u64 *base = quick_base(cpu, msr);

    if (base && x86_canonical(val)) {
        *base = val;
        cpu->seg_base[X86_FS] = cpu->s.seg[X86_FS].base; /* in every mode */
        cpu->seg_base[X86_GS] = cpu->s.seg[X86_GS].base;
        return X86_OK;
    }
    const struct msr_row *row = find_row(cpu, msr);
    if (!row)
        return world_write(cpu, msr, val);
    switch ((enum msr_kind)row->kind) {
    case KIND_STATE:
        if (!row->valid(cpu, val))
            return x86_gp(cpu, 0);
        *state_field(cpu, row) = val;
        return X86_OK;
    case KIND_CALL: return row->set ? row->set(cpu, msr - row->first, val) : x86_gp(cpu, 0);
    case KIND_INERT: return X86_OK;
    default: return x86_gp(cpu, 0);
    }
}
