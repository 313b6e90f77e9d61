/* simd_move.c - plain vector loads, stores and moves, without a stub: libc is full of them */
#include <Zydis/Zydis.h>

#include "x86/fpu.h"

/* A legacy SSE destination keeps bits 255:128, a VEX one clears what it does not write (SDM vol. 1
 * 14.1). */

static inline u8 *vreg(struct x86_cpu *cpu, const struct x86_insn *in, unsigned i)
{
    return cpu->s.fpu.vec[in->op[i].reg & 15];
}

static inline must_check int load(struct x86_cpu *cpu, const struct x86_insn *in, enum fp_kind kind,
                                  unsigned n, unsigned align, unsigned clear_to)
{
    u8 *to = vreg(cpu, in, 0);

    TRY(fp_check(cpu, kind));
    TRY(fp_load(cpu, in, to, n, align));
    memset(to + n, 0, clear_to - n);
    return X86_OK;
}

static inline must_check int store(struct x86_cpu *cpu, const struct x86_insn *in,
                                   enum fp_kind kind, unsigned n, unsigned align)
{
    TRY(fp_check(cpu, kind));
    return fp_store(cpu, in, vreg(cpu, in, 1), n, align);
}

static inline must_check int move(struct x86_cpu *cpu, const struct x86_insn *in, enum fp_kind kind,
                                  unsigned n, unsigned clear_to)
{
    u8 *to = vreg(cpu, in, 0);

    TRY(fp_check(cpu, kind));
    memmove(to, vreg(cpu, in, 1), n);
    memset(to + n, 0, clear_to - n);
    return X86_OK;
}

#define HANDLER(name, body)                                         \
    static int name(struct x86_cpu *cpu, const struct x86_insn *in) \
    {                                                               \
        return body;                                                \
    }

HANDLER(load16, load(cpu, in, FP_SSE, 16, 1, 16))
HANDLER(load16a, load(cpu, in, FP_SSE, 16, 16, 16))
HANDLER(load4, load(cpu, in, FP_SSE, 4, 1, 16))
HANDLER(load8, load(cpu, in, FP_SSE, 8, 1, 16))
HANDLER(store16, store(cpu, in, FP_SSE, 16, 1))
HANDLER(store16a, store(cpu, in, FP_SSE, 16, 16))
HANDLER(store4, store(cpu, in, FP_SSE, 4, 1))
HANDLER(store8, store(cpu, in, FP_SSE, 8, 1))
HANDLER(move16, move(cpu, in, FP_SSE, 16, 16))
HANDLER(move8, move(cpu, in, FP_SSE, 8, 16))
HANDLER(merge8, move(cpu, in, FP_SSE, 8, 8))
HANDLER(merge4, move(cpu, in, FP_SSE, 4, 4))

HANDLER(vload16, load(cpu, in, FP_AVX, 16, 1, 32))
HANDLER(vload16a, load(cpu, in, FP_AVX, 16, 16, 32))
HANDLER(vload32, load(cpu, in, FP_AVX, 32, 1, 32))
HANDLER(vload32a, load(cpu, in, FP_AVX, 32, 32, 32))
HANDLER(vload4, load(cpu, in, FP_AVX, 4, 1, 32))
HANDLER(vload8, load(cpu, in, FP_AVX, 8, 1, 32))
HANDLER(vstore16, store(cpu, in, FP_AVX, 16, 1))
HANDLER(vstore16a, store(cpu, in, FP_AVX, 16, 16))
HANDLER(vstore32, store(cpu, in, FP_AVX, 32, 1))
HANDLER(vstore32a, store(cpu, in, FP_AVX, 32, 32))
HANDLER(vstore4, store(cpu, in, FP_AVX, 4, 1))
HANDLER(vstore8, store(cpu, in, FP_AVX, 8, 1))
HANDLER(vmove16, move(cpu, in, FP_AVX, 16, 32))
HANDLER(vmove32, move(cpu, in, FP_AVX, 32, 32))
HANDLER(vmove8, move(cpu, in, FP_AVX, 8, 32))

/* MOVLPS/MOVLPD and MOVHPS/MOVHPD with memory: one half of the low 128 bits. */
static inline must_check int load_half(struct x86_cpu *cpu, const struct x86_insn *in, unsigned off)
{
    TRY(fp_check(cpu, FP_SSE));
    return fp_load(cpu, in, vreg(cpu, in, 0) + off, 8, 1);
}

static inline must_check int store_high(struct x86_cpu *cpu, const struct x86_insn *in,
                                        enum fp_kind kind)
{
    TRY(fp_check(cpu, kind));
    return fp_store(cpu, in, vreg(cpu, in, 1) + 8, 8, 1);
}
HANDLER(load_low, load_half(cpu, in, 0))
HANDLER(load_high, load_half(cpu, in, 8))
HANDLER(store_high8, store_high(cpu, in, FP_SSE))
HANDLER(vstore_high8, store_high(cpu, in, FP_AVX))

/* MOVD/MOVQ between general and vector registers; op[].size says 4 or 8. */
static inline must_check int from_gpr(struct x86_cpu *cpu, const struct x86_insn *in,
                                      enum fp_kind kind, unsigned clear_to)
{
    u8 *to = vreg(cpu, in, 0);

    TRY(fp_check(cpu, kind));
    u64 v = reg_get(cpu, &in->op[1]);
    memcpy(to, &v, 8);
    memset(to + 8, 0, clear_to - 8);
    return X86_OK;
}

static inline must_check int to_gpr(struct x86_cpu *cpu, const struct x86_insn *in,
                                    enum fp_kind kind)
{
    u64 v;

    TRY(fp_check(cpu, kind));
    memcpy(&v, vreg(cpu, in, 1), 8);
    reg_set(cpu, &in->op[0], v);
    return X86_OK;
}
HANDLER(movd_from_gpr, from_gpr(cpu, in, FP_SSE, 16))
HANDLER(movd_to_gpr, to_gpr(cpu, in, FP_SSE))
HANDLER(vmovd_from_gpr, from_gpr(cpu, in, FP_AVX, 32))
HANDLER(vmovd_to_gpr, to_gpr(cpu, in, FP_AVX))

/* PXOR, XORPS, XORPD between registers: mostly a way to write zero. */
static inline must_check int xor16(struct x86_cpu *cpu, const struct x86_insn *in)
{
    typedef unsigned long long pair __attribute__((vector_size(16)));
    pair a, b;

    TRY(fp_check(cpu, FP_SSE));
    memcpy(&a, vreg(cpu, in, 0), 16);
    memcpy(&b, vreg(cpu, in, 1), 16);
    a ^= b;
    memcpy(vreg(cpu, in, 0), &a, 16);
    return X86_OK;
}
HANDLER(pxor, xor16(cpu, in))

/* --- binding ---------------------------------------------------------------------------------- */

enum form { FORM_LOAD, FORM_STORE, FORM_MOVE, FORM_OTHER };

static bool is_xmm(const ZydisDecodedOperand *o)
{
    if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return false;
    ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
    return c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM;
}

static enum form form_of(const struct x86_insn *in, const ZydisDecodedOperand *ops)
{
    bool m0 = in->op[0].kind == X86_OPND_MEM, m1 = in->op[1].kind == X86_OPND_MEM;

    if (in->nops != 2)
        return FORM_OTHER;
    if (m1)
        return is_xmm(&ops[0]) ? FORM_LOAD : FORM_OTHER;
    if (m0)
        return is_xmm(&ops[1]) ? FORM_STORE : FORM_OTHER;
    return is_xmm(&ops[0]) && is_xmm(&ops[1]) ? FORM_MOVE : FORM_OTHER;
}

typedef x86_exec_fn *const trio[3]; /* by form: load, store, move */

static x86_exec_fn *bind_legacy(const struct x86_insn *in, enum form f)
{
    static trio unaligned = {load16, store16, move16}, aligned = {load16a, store16a, move16},
                single = {load4, store4, merge4}, dbl = {load8, store8, merge8},
                quad = {load8, store8, move8}, dword = {load4, store4, NULL},
                low = {load_low, store8, NULL}, high = {load_high, store_high8, NULL};

    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU: return unaligned[f];
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA: return aligned[f];
    case ZYDIS_MNEMONIC_MOVSS: return single[f];
    case ZYDIS_MNEMONIC_MOVSD: return dbl[f];
    case ZYDIS_MNEMONIC_MOVQ: return quad[f];
    case ZYDIS_MNEMONIC_MOVD: return dword[f];
    case ZYDIS_MNEMONIC_MOVLPS:
    case ZYDIS_MNEMONIC_MOVLPD: return low[f];
    case ZYDIS_MNEMONIC_MOVHPS:
    case ZYDIS_MNEMONIC_MOVHPD: return high[f];
    case ZYDIS_MNEMONIC_PXOR:
    case ZYDIS_MNEMONIC_XORPS:
    case ZYDIS_MNEMONIC_XORPD: return f == FORM_MOVE ? pxor : NULL;
    default: return NULL;
    }
}

static x86_exec_fn *bind_vex(const struct x86_insn *in, enum form f)
{
    static trio unaligned[2] = {{vload16, vstore16, vmove16}, {vload32, vstore32, vmove32}},
                aligned[2] = {{vload16a, vstore16a, vmove16}, {vload32a, vstore32a, vmove32}},
                single = {vload4, vstore4, NULL}, dbl = {vload8, vstore8, NULL},
                quad = {vload8, vstore8, vmove8}, high = {NULL, vstore_high8, NULL};
    bool wide = in->op[0].size == 32;

    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VLDDQU: return unaligned[wide][f];
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA: return aligned[wide][f];
    case ZYDIS_MNEMONIC_VMOVSS:
    case ZYDIS_MNEMONIC_VMOVD: return single[f];
    case ZYDIS_MNEMONIC_VMOVSD: return dbl[f];
    case ZYDIS_MNEMONIC_VMOVQ: return quad[f];
    case ZYDIS_MNEMONIC_VMOVLPS:
    case ZYDIS_MNEMONIC_VMOVLPD: return f == FORM_STORE ? vstore8 : NULL;
    case ZYDIS_MNEMONIC_VMOVHPS:
    case ZYDIS_MNEMONIC_VMOVHPD: return high[f];
    default: return NULL;
    }
}

static x86_exec_fn *bind_gpr(const struct x86_insn *in, const ZydisDecodedOperand *ops, bool vex)
{
    bool both = in->nops == 2 && in->op[0].kind == X86_OPND_REG && in->op[1].kind == X86_OPND_REG;

    if (!both)
        return NULL;
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
        if (is_xmm(&ops[0]))
            return in->op[1].size > 8 ? NULL : vex ? vmovd_from_gpr : movd_from_gpr;
        if (is_xmm(&ops[1]))
            return vex ? vmovd_to_gpr : movd_to_gpr;
        return NULL;
    default: return NULL;
    }
}

x86_exec_fn *simd_move_bind(const struct x86_insn *in, const ZydisDecodedOperand *ops)
{
    bool vex = in->prefix & X86_PFX_VEX;
    enum form f = form_of(in, ops);

    if (f == FORM_OTHER)
        return bind_gpr(in, ops, vex);
    return vex ? bind_vex(in, f) : bind_legacy(in, f);
}
