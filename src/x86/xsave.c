/* xsave.c - FXSAVE, FXRSTOR and the XSAVE family (SDM vol. 1 10.5 and 13) */
#include <Zydis/Zydis.h>

#include "x86/cpuid.h"
#include "x86/fpu.h"

/* The image, as far as this processor has state components:
 *
 *     0  FCW FSW FTW- FOP FIP FDP      x87 (component 0)
 *    24  MXCSR, MXCSR_MASK             SSE (1), or AVX (2) in the standard format
 *    32  ST0-ST7, 16 bytes each        x87
 *   160  XMM0-XMM15                    SSE
 *   512  XSTATE_BV, XCOMP_BV, 48 bytes of header
 *   576  high halves of YMM0-YMM15     AVX, in the standard and in the compacted format alike */
#define XS_MXCSR      24
#define XS_ST         32
#define XS_XMM        160
#define XS_HEADER     512
#define XS_AVX        576
#define XS_END        832
#define XCOMP_COMPACT BIT64(63)
#define EFER_FFXSR    BIT(14)

static void put(u8 *image, unsigned off, u64 v, unsigned n)
{
    memcpy(image + off, &v, n);
}

static u64 get(const u8 *image, unsigned off, unsigned n)
{
    u64 v = 0;
    memcpy(&v, image + off, n);
    return v;
}

static unsigned vector_count(const struct x86_cpu *cpu)
{
    return cpu->code_bits == 64 ? 16 : 8;
}

/* --- components to and from images ------------------------------------------------------------ */

/* AMD processors give the pointers away only while an exception is pending (APM vol. 5 FXSAVE), and
 * zeros otherwise, as those with XSAVEERPTR do. Loading them depends on nothing. */
static void put_x87(const struct x86_cpu *cpu, u8 *image, bool wide)
{
    const struct x86_fpu *f = &cpu->s.fpu;
    bool selectors = !x86_has(cpu, X86_FEATURE_ZERO_FCS_FDS);
    bool pointers = cpu->intel || f->fsw & FSW_ES;

    put(image, 0, f->fcw, 2);
    put(image, 2, f->fsw, 2);
    put(image, 4, f->ftw, 2);
    put(image, 6, pointers ? f->fop : 0, 2);
    if (!pointers) {
        put(image, 8, 0, 8);
        put(image, 16, 0, 8);
    } else if (wide) {
        put(image, 8, f->fip, 8);
        put(image, 16, f->fdp, 8);
    } else {
        put(image, 8, (u32)f->fip | (selectors ? (u64)f->fcs << 32 : 0), 8);
        put(image, 16, (u32)f->fdp | (selectors ? (u64)f->fds << 32 : 0), 8);
    }
    memcpy(image + XS_ST, f->st, sizeof(f->st));
}

/* AMD processors keep 48 bits of the pointers and extend the sign. */
static u64 take_pointer(const struct x86_cpu *cpu, const u8 *image, unsigned off, bool wide)
{
    u64 v = get(image, off, wide ? 8 : 4);

    return cpu->intel ? v : (u64)((s64)(v << 16) >> 16);
}

static void take_x87(struct x86_cpu *cpu, const u8 *image, bool wide)
{
    struct x86_fpu *f = &cpu->s.fpu;

    f->fcw = (get(image, 0, 2) & FCW_SETTABLE) | FCW_ALWAYS;
    f->fsw = (u16)get(image, 2, 2);
    f->ftw = image[4];
    f->fop = get(image, 6, 2) & 0x7ff;
    f->fip = take_pointer(cpu, image, 8, wide);
    f->fdp = take_pointer(cpu, image, 16, wide);
    f->fcs = wide ? 0 : (u16)get(image, 12, 2);
    f->fds = wide ? 0 : (u16)get(image, 20, 2);
    memset(f->st, 0, sizeof(f->st));
    for (unsigned i = 0; i < 8; i++)
        memcpy(f->st[i], image + XS_ST + 16 * i, 10);
    x87_update_es(f);
}

static void put_mxcsr(const struct x86_cpu *cpu, u8 *image)
{
    put(image, XS_MXCSR, cpu->s.fpu.mxcsr, 4);
    put(image, XS_MXCSR + 4, MXCSR_VALID, 4);
}

/* Low (off 0) or high (off 16) halves of the vector registers; n of them. */
static void put_halves(const struct x86_cpu *cpu, u8 *to, unsigned off, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        memcpy(to + 16 * i, cpu->s.fpu.vec[i] + off, 16);
}

static void take_halves(struct x86_cpu *cpu, const u8 *from, unsigned off, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (from)
            memcpy(cpu->s.fpu.vec[i] + off, from + 16 * i, 16);
        else
            memset(cpu->s.fpu.vec[i] + off, 0, 16);
    }
}

static bool halves_clear(const struct x86_cpu *cpu, unsigned off)
{
    u64 any = 0;

    for (unsigned i = 0; i < 16; i++)
        any |= get(cpu->s.fpu.vec[i], off, 8) | get(cpu->s.fpu.vec[i], off + 8, 8);
    return !any;
}

/* The x87 component counts as always in use, as on today's processors; the others by value. */
u64 x86_xinuse(const struct x86_cpu *cpu)
{
    u64 used = XCR0_X87;

    if (!halves_clear(cpu, 0))
        used |= XCR0_SSE;
    if (!halves_clear(cpu, 16))
        used |= XCR0_AVX;
    return used;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* The guest's own memory when it has n bytes at lin in one page that any access hits: then nothing
 * can fault, and the image need not be copied. NULL: go the long way. */
static u8 *in_place(const struct x86_cpu *cpu, u64 lin, unsigned n, bool write)
{
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);
    u64 tag = write ? e->tag_write : e->tag_read;

    return tag == ((lin + n - 1) & ~4095ull) ? (u8 *)(uintptr_t)(lin + e->addend) : NULL;
}

/* Writes a run of the image to its place; the whole was probed before. */
static must_check int flush(struct x86_cpu *cpu, u64 lin, const u8 *image, unsigned off, unsigned n)
{
    return x86_lin_write(cpu, (lin + off) & cpu->lin_mask, image + off, n, X86_W);
}

static must_check int image_linear(struct x86_cpu *cpu, const struct x86_insn *in, unsigned n,
                                   unsigned align, unsigned access, u64 *lin)
{
    /* Processors look at where the area begins, then at its alignment, then at where it ends;
     * AMD's, for XSAVE and XRSTOR, at the alignment first of all. */
    if (!cpu->intel && align == 64 && fp_misaligned(cpu, in, align))
        return x86_gp(cpu, 0);
    TRY(x86_linear(cpu, in->seg, x86_ea(cpu, in), 1, access, lin));
    TRY(fp_canonical_check(cpu, in->seg, *lin, n));
    if (*lin & (align - 1))
        return x86_gp(cpu, 0);
    return x86_linear(cpu, in->seg, x86_ea(cpu, in), n, access, lin);
}

/* --- FXSAVE, FXRSTOR -------------------------------------------------------------------------- */

/* AMD's fast FXSAVE leaves the XMM registers out at CPL 0 in 64-bit mode (APM vol. 2 3.1.7). */
static unsigned fx_vectors(const struct x86_cpu *cpu)
{
    if ((cpu->s.efer & EFER_FFXSR) && cpu->s.cpl == 0 && cpu->code_bits == 64)
        return 0;
    return vector_count(cpu);
}

static must_check int fx_enter(struct x86_cpu *cpu)
{
    return unlikely(cpu->s.cr0 & (CR0_EM | CR0_TS)) ? x86_raise(cpu, X86_NM) : X86_OK;
}

static int op_fxsave(struct x86_cpu *cpu, const struct x86_insn *in)
{
    u8 image[512];
    u64 lin;

    TRY(fx_enter(cpu));
    TRY(image_linear(cpu, in, 512, 16, X86_W, &lin));
    TRY(x86_lin_probe(cpu, lin, 512, X86_W));
    put_x87(cpu, image, in->mnemonic == ZYDIS_MNEMONIC_FXSAVE64);
    put_mxcsr(cpu, image);
    put_halves(cpu, image + XS_XMM, 0, fx_vectors(cpu));
    return flush(cpu, lin, image, 0, XS_XMM + 16 * fx_vectors(cpu));
}

static int op_fxrstor(struct x86_cpu *cpu, const struct x86_insn *in)
{
    u8 image[512];
    u64 lin;

    TRY(fx_enter(cpu));
    TRY(image_linear(cpu, in, 512, 16, X86_R, &lin));
    TRY(x86_mem_read(cpu, in->seg, lin, image, 512));
    u32 mxcsr = (u32)get(image, XS_MXCSR, 4);
    if (mxcsr & ~MXCSR_VALID)
        return x86_gp(cpu, 0);
    bool was = x87_unmasked(&cpu->s.fpu);
    take_x87(cpu, image, in->mnemonic == ZYDIS_MNEMONIC_FXRSTOR64);
    x87_ferr_update(cpu, was);
    cpu->s.fpu.mxcsr = mxcsr;
    take_halves(cpu, image + XS_XMM, 0, fx_vectors(cpu));
    return X86_OK;
}

/* --- XSAVE, XSAVEOPT, XSAVEC, XSAVES ---------------------------------------------------------- */

enum xs_form { XS_PLAIN, XS_OPT, XS_COMPACT, XS_SUPERVISOR };

static must_check int xs_enter(struct x86_cpu *cpu, enum xs_form form)
{
    if (!(cpu->s.cr4 & CR4_OSXSAVE))
        return x86_ud(cpu);
    if (cpu->s.cr0 & CR0_TS)
        return x86_raise(cpu, X86_NM);
    return form == XS_SUPERVISOR ? need_cpl0(cpu) : X86_OK;
}

/* RFBM. No supervisor component exists here, so XSS adds nothing. */
static u64 requested(const struct x86_cpu *cpu)
{
    u64 mask = (u32)cpu->s.gpr[X86_RAX] | cpu->s.gpr[X86_RDX] << 32;
    return cpu->s.xcr0 & mask & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
}

static bool is_wide(const struct x86_insn *in)
{
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVES64:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_XRSTORS64: return true;
    default: return false;
    }
}

/* Puts the components of `save` and, by itself, MXCSR into the image. */
static void put_components(const struct x86_cpu *cpu, const struct x86_insn *in, u8 *image,
                           u64 save, bool mxcsr)
{
    unsigned n = vector_count(cpu);

    if (save & XCR0_X87)
        put_x87(cpu, image, is_wide(in));
    if (mxcsr)
        put_mxcsr(cpu, image);
    if (save & XCR0_SSE)
        put_halves(cpu, image + XS_XMM, 0, n);
    if (save & XCR0_AVX)
        put_halves(cpu, image + XS_AVX, 16, n);
}

/* Writes what put_components put, and nothing beside it. */
static must_check int flush_components(struct x86_cpu *cpu, u64 lin, const u8 *image, u64 save,
                                       bool mxcsr)
{
    unsigned n = vector_count(cpu);

    if (save & XCR0_X87) {
        TRY(flush(cpu, lin, image, 0, XS_MXCSR));
        TRY(flush(cpu, lin, image, XS_ST, XS_XMM - XS_ST));
    }
    if (mxcsr)
        TRY(flush(cpu, lin, image, XS_MXCSR, 8));
    if (save & XCR0_SSE)
        TRY(flush(cpu, lin, image, XS_XMM, 16 * n));
    if (save & XCR0_AVX)
        TRY(flush(cpu, lin, image, XS_AVX, 16 * n));
    return X86_OK;
}

static int xsave(struct x86_cpu *cpu, const struct x86_insn *in, enum xs_form form)
{
    bool compact = form == XS_COMPACT || form == XS_SUPERVISOR, mxcsr;
    u64 rfbm = requested(cpu), used = x86_xinuse(cpu), save = rfbm, bv, lin;
    unsigned size = rfbm & XCR0_AVX ? XS_END : XS_AVX;
    u8 copy[XS_END], *image, *place;

    TRY(xs_enter(cpu, form));
    TRY(image_linear(cpu, in, size, 64, X86_W, &lin));
    place = in_place(cpu, lin, size, true);
    image = place ? place : copy;
    if (!place)
        TRY(x86_lin_probe(cpu, lin, size, X86_W));
    if (compact) {
        if (cpu->s.fpu.mxcsr != MXCSR_INIT)
            used |= XCR0_SSE;
        save = bv = rfbm & used;
        mxcsr = save & XCR0_SSE;
        put(image, XS_HEADER + 8, rfbm | XCOMP_COMPACT, 8);
    } else {
        if (!place)
            TRY(x86_mem_read(cpu, in->seg, (lin + XS_HEADER) & cpu->lin_mask, copy + XS_HEADER, 8));
        bv = (get(image, XS_HEADER, 8) & ~rfbm) | (used & rfbm);
        if (form == XS_OPT)
            save &= used;
        mxcsr = rfbm & (XCR0_SSE | XCR0_AVX);
    }
    put_components(cpu, in, image, save, mxcsr);
    put(image, XS_HEADER, bv, 8);
    if (place)
        return X86_OK;
    TRY(flush_components(cpu, lin, image, save, mxcsr));
    return flush(cpu, lin, image, XS_HEADER, compact ? 16 : 8);
}

static int op_xsave(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return xsave(cpu, in, XS_PLAIN);
}

static int op_xsaveopt(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return xsave(cpu, in, XS_OPT);
}

static int op_xsavec(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return xsave(cpu, in, XS_COMPACT);
}

static int op_xsaves(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return xsave(cpu, in, XS_SUPERVISOR);
}

/* --- XRSTOR, XRSTORS -------------------------------------------------------------------------- */

/* Multiples of 8. */
static bool clear_bytes(const u8 *image, unsigned from, unsigned to)
{
    u64 any = 0;

    for (unsigned i = from; i < to; i += 8)
        any |= get(image, i, 8);
    return !any;
}

/* #GP(0) unless the header is one that XRSTOR (standard or compacted) or XRSTORS (compacted) may
 * take. */
static must_check int check_header(struct x86_cpu *cpu, const u8 *image, enum xs_form form)
{
    u64 bv = get(image, XS_HEADER, 8), comp = get(image, XS_HEADER + 8, 8);
    bool compact = (comp & XCOMP_COMPACT) && x86_has(cpu, X86_FEATURE_XSAVEC);
    bool ok;

    if (compact)
        ok = !(comp & ~XCOMP_COMPACT & ~cpu->s.xcr0) && !(bv & ~comp) && !(bv & XCOMP_COMPACT) &&
             clear_bytes(image, XS_HEADER + 16, XS_HEADER + 64);
    else
        ok = form != XS_SUPERVISOR && !(bv & ~cpu->s.xcr0) &&
             clear_bytes(image, XS_HEADER + 8, XS_HEADER + 24);
    return ok ? X86_OK : x86_gp(cpu, 0);
}

static void restore(struct x86_cpu *cpu, const struct x86_insn *in, const u8 *image, u64 rfbm,
                    u64 bv)
{
    unsigned n = vector_count(cpu);
    bool was = x87_unmasked(&cpu->s.fpu);

    if (rfbm & bv & XCR0_X87) {
        take_x87(cpu, image, is_wide(in));
    } else if (rfbm & XCR0_X87) {
        x87_init(&cpu->s.fpu);
        memset(cpu->s.fpu.st, 0, sizeof(cpu->s.fpu.st));
    }
    x87_ferr_update(cpu, was);
    if (rfbm & XCR0_SSE)
        take_halves(cpu, bv & XCR0_SSE ? image + XS_XMM : NULL, 0, n);
    if (rfbm & XCR0_AVX)
        take_halves(cpu, bv & XCR0_AVX ? image + XS_AVX : NULL, 16, n);
}

static int xrstor(struct x86_cpu *cpu, const struct x86_insn *in, enum xs_form form)
{
    u64 rfbm = requested(cpu), lin;
    u8 copy[XS_END];

    TRY(xs_enter(cpu, form));
    TRY(image_linear(cpu, in, rfbm & XCR0_AVX ? XS_END : XS_AVX, 64, X86_R, &lin));
    const u8 *place = in_place(cpu, lin, XS_END, false), *image = place ? place : copy;
    if (!place)
        TRY(x86_mem_read(cpu, in->seg, lin, copy, XS_AVX));
    TRY(check_header(cpu, image, form));
    u64 bv = get(image, XS_HEADER, 8);
    bool compact = get(image, XS_HEADER + 8, 8) & XCOMP_COMPACT;
    if (!place && rfbm & bv & XCR0_AVX)
        TRY(x86_mem_read(cpu, in->seg, (lin + XS_AVX) & cpu->lin_mask, copy + XS_AVX,
                         16 * vector_count(cpu)));
    u32 mxcsr = (u32)get(image, XS_MXCSR, 4);
    bool load_mxcsr = compact ? rfbm & bv & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX);
    if (load_mxcsr && (mxcsr & ~MXCSR_VALID))
        return x86_gp(cpu, 0);
    restore(cpu, in, image, rfbm, bv);
    if (load_mxcsr)
        cpu->s.fpu.mxcsr = mxcsr;
    else if (rfbm & XCR0_SSE)
        cpu->s.fpu.mxcsr = MXCSR_INIT;
    return X86_OK;
}

static int op_xrstor(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return xrstor(cpu, in, XS_PLAIN);
}

static int op_xrstors(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return xrstor(cpu, in, XS_SUPERVISOR);
}

x86_exec_fn *xsave_bind(const struct x86_insn *in)
{
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64: return op_fxsave;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64: return op_fxrstor;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64: return op_xsave;
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64: return op_xsaveopt;
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64: return op_xsavec;
    case ZYDIS_MNEMONIC_XSAVES:
    case ZYDIS_MNEMONIC_XSAVES64: return op_xsaves;
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64: return op_xrstor;
    case ZYDIS_MNEMONIC_XRSTORS:
    case ZYDIS_MNEMONIC_XRSTORS64: return op_xrstors;
    default: return NULL;
    }
}
