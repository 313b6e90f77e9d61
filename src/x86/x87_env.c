/* x87_env.c - x87 control instructions: control and status words, environment and state images */
#include "x86/cpuid.h"
#include "x86/fpu.h"

/* --- control and status words ----------------------------------------------------------------- */

static void set_fcw(struct x86_fpu *f, u16 v)
{
    f->fcw = (v & FCW_SETTABLE) | FCW_ALWAYS;
}

X86_HANDLER(fldcw)
{
    struct x86_fpu *f = &cpu->s.fpu;
    u64 v;

    TRY(x87_enter(cpu, true));
    TRY(x86_read(cpu, in->seg, x86_ea(cpu, in), 2, &v));
    set_fcw(f, (u16)v);
    x87_update_es(f);
    return X86_OK;
}

X86_HANDLER(fnstcw)
{
    TRY(x87_enter(cpu, false));
    return x86_write(cpu, in->seg, x86_ea(cpu, in), 2, cpu->s.fpu.fcw);
}

X86_HANDLER(fnstsw)
{
    TRY(x87_enter(cpu, false));
    return x86_write(cpu, in->seg, x86_ea(cpu, in), 2, cpu->s.fpu.fsw);
}

X86_HANDLER(fnstsw_ax)
{
    TRY(x87_enter(cpu, false));
    gpr_set(cpu, X86_RAX, 2, cpu->s.fpu.fsw);
    return X86_OK;
}

X86_HANDLER(fnclex)
{
    struct x86_fpu *f = &cpu->s.fpu;

    TRY(x87_enter(cpu, false));
    bool was = x87_unmasked(f);
    f->fsw &= (u16) ~(FSW_EXCEPTIONS | FSW_SF | FSW_ES | FSW_B);
    x87_ferr_update(cpu, was);
    return X86_OK;
}

X86_HANDLER(fninit)
{
    TRY(x87_enter(cpu, false));
    bool was = x87_unmasked(&cpu->s.fpu);
    x87_init(&cpu->s.fpu);
    x87_ferr_update(cpu, was);
    return X86_OK;
}

/* FENI, FDISI, FSETPM: of the 8087 and 80287; since then without effect. */
X86_HANDLER(fn_nop)
{
    return x87_enter(cpu, false);
}

X86_HANDLER(fwait)
{
    if ((cpu->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        return x86_raise(cpu, X86_NM);
    return x87_pending(cpu);
}

/* --- tag words -------------------------------------------------------------------------------- */

enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static unsigned classify(const u8 *st)
{
    u64 mantissa;
    u16 exponent;

    memcpy(&mantissa, st, 8);
    memcpy(&exponent, st + 8, 2);
    exponent &= 0x7fff;
    if (exponent == 0)
        return mantissa ? TAG_SPECIAL : TAG_ZERO;
    return exponent == 0x7fff || !(mantissa >> 63) ? TAG_SPECIAL : TAG_VALID;
}

/* The full tag word: two bits per physical register. */
static u16 full_tags(const struct x86_fpu *f)
{
    unsigned top = x87_top(f), tags = 0;

    for (unsigned p = 0; p < 8; p++)
        tags |= (f->ftw >> p & 1 ? classify(f->st[(p - top) & 7]) : TAG_EMPTY) << 2 * p;
    return (u16)tags;
}

static u8 abridged_tags(u16 tags)
{
    u8 ftw = 0;

    for (unsigned p = 0; p < 8; p++)
        if ((tags >> 2 * p & 3) != TAG_EMPTY)
            ftw |= (u8)BIT(p);
    return ftw;
}

/* --- environment ------------------------------------------------------------------------------ */

/* Four layouts (SDM vol. 1 figures 8-9 to 8-12): 16- or 32-bit by operand size, real or protected
 * by mode. Virtual-8086 mode takes the real ones, which hold 20- and 32-bit linear pointers:
 *
 *   word   protected                      real
 *   3      FIP 15:0 (31:0)                FIP 15:0
 *   4      FCS (FOP << 16 | FCS)          FIP 19:16 << 12 | FOP (FIP 31:16 << 12 | FOP)
 *   5      FDP 15:0 (31:0)                FDP 15:0
 *   6      FDS                            FDP 19:16 << 12 (FDP 31:16 << 12) */

static unsigned env_size(const struct x86_insn *in)
{
    return in->opsize == 2 ? 14 : 28;
}

static void env_words(const struct x86_cpu *cpu, u32 w[7], bool wide)
{
    const struct x86_fpu *f = &cpu->s.fpu;
    bool no_selectors = x86_has(cpu, X86_FEATURE_ZERO_FCS_FDS);
    u32 fcs = no_selectors ? 0 : f->fcs, fds = no_selectors ? 0 : f->fds;

    w[0] = f->fcw;
    w[1] = f->fsw;
    w[2] = full_tags(f);
    if (cpu->prot) {
        w[3] = (u32)f->fip;
        w[4] = fcs | (wide ? (u32)f->fop << 16 : 0);
        w[5] = (u32)f->fdp;
        w[6] = fds | (wide ? 0xffff0000 : 0);
    } else {
        u32 ip = (u32)f->fip + ((u32)f->fcs << 4), dp = (u32)f->fdp + ((u32)f->fds << 4);
        w[3] = ip | (wide ? 0xffff0000 : 0);
        w[4] = (ip >> 16) << 12 | f->fop;
        w[5] = dp | (wide ? 0xffff0000 : 0);
        w[6] = (dp >> 16) << 12;
    }
    if (wide)
        for (unsigned i = 0; i < 3; i++)
            w[i] |= 0xffff0000;
}

static void env_build(const struct x86_cpu *cpu, const struct x86_insn *in, u8 *buf)
{
    bool wide = env_size(in) == 28;
    u32 w[7];

    env_words(cpu, w, wide);
    for (unsigned i = 0; i < 7; i++)
        memcpy(buf + i * (wide ? 4 : 2), &w[i], wide ? 4 : 2);
}

static void env_take(struct x86_cpu *cpu, const struct x86_insn *in, const u8 *buf)
{
    struct x86_fpu *f = &cpu->s.fpu;
    bool wide = env_size(in) == 28;
    u32 w[7] = {0};

    for (unsigned i = 0; i < 7; i++)
        memcpy(&w[i], buf + i * (wide ? 4 : 2), wide ? 4 : 2);
    set_fcw(f, (u16)w[0]);
    x87_set_top(f, (w[1] & FSW_TOP) >> FSW_TOP_SHIFT);
    f->fsw = (u16)w[1];
    f->ftw = abridged_tags((u16)w[2]);
    if (cpu->prot) {
        f->fip = w[3];
        f->fcs = (u16)w[4];
        f->fop = wide ? w[4] >> 16 & 0x7ff : 0; /* the 16-bit format has no room for it */
        f->fdp = w[5];
        f->fds = (u16)w[6];
    } else {
        f->fip = (w[3] & 0xffff) | (w[4] >> 12) << 16;
        f->fdp = (w[5] & 0xffff) | (w[6] >> 12) << 16;
        f->fop = w[4] & 0x7ff;
        f->fcs = f->fds = 0;
    }
    x87_update_es(f);
}

static must_check int image_access(struct x86_cpu *cpu, const struct x86_insn *in, unsigned n,
                                   unsigned access)
{
    return fp_alignment_check(cpu, in, n, env_size(in) == 28 ? 4 : 2, access);
}

X86_HANDLER(fnstenv)
{
    struct x86_fpu *f = &cpu->s.fpu;
    unsigned n = env_size(in);
    u8 buf[28];

    TRY(x87_enter(cpu, false));
    TRY(image_access(cpu, in, n, X86_W));
    env_build(cpu, in, buf);
    TRY(x86_write_bytes(cpu, in->seg, x86_ea(cpu, in), buf, n));
    bool was = x87_unmasked(f);
    f->fcw |= FSW_EXCEPTIONS; /* all masked */
    x87_update_es(f);
    x87_ferr_update(cpu, was);
    return X86_OK;
}

X86_HANDLER(fldenv)
{
    unsigned n = env_size(in);
    u8 buf[28];

    TRY(x87_enter(cpu, true));
    TRY(image_access(cpu, in, n, X86_R));
    TRY(x86_read_bytes(cpu, in->seg, x86_ea(cpu, in), buf, n));
    env_take(cpu, in, buf);
    return X86_OK;
}

X86_HANDLER(fnsave)
{
    struct x86_fpu *f = &cpu->s.fpu;
    unsigned n = env_size(in);
    u8 buf[108];

    TRY(x87_enter(cpu, false));
    TRY(image_access(cpu, in, n + 80, X86_W));
    env_build(cpu, in, buf);
    for (unsigned i = 0; i < 8; i++)
        memcpy(buf + n + 10 * i, f->st[i], 10);
    TRY(x86_write_bytes(cpu, in->seg, x86_ea(cpu, in), buf, n + 80));
    bool was = x87_unmasked(f);
    x87_init(f);
    x87_ferr_update(cpu, was);
    return X86_OK;
}

X86_HANDLER(frstor)
{
    struct x86_fpu *f = &cpu->s.fpu;
    unsigned n = env_size(in);
    u8 buf[108];

    TRY(x87_enter(cpu, true));
    TRY(image_access(cpu, in, n + 80, X86_R));
    TRY(x86_read_bytes(cpu, in->seg, x86_ea(cpu, in), buf, n + 80));
    env_take(cpu, in, buf);
    memset(f->st, 0, sizeof(f->st));
    for (unsigned i = 0; i < 8; i++)
        memcpy(f->st[i], buf + n + 10 * i, 10);
    return X86_OK;
}
