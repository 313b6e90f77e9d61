/* simd.c - vector instructions with rules of their own: masked moves, gathers, MXCSR, VZERO* */
#include <Zydis/Zydis.h>

#include "x86/fpu.h"

static inline u8 *vreg(struct x86_cpu *cpu, const struct x86_insn *in, unsigned i)
{
    return cpu->s.fpu.vec[in->op[i].reg & 15];
}

static enum fp_kind vector_kind(const struct x86_insn *in)
{
    return in->prefix & X86_PFX_VEX ? FP_AVX : FP_SSE;
}

/* --- MXCSR, EMMS, VZEROALL -------------------------------------------------------------------- */

static int op_ldmxcsr(struct x86_cpu *cpu, const struct x86_insn *in)
{
    u64 v;

    TRY(fp_check(cpu, vector_kind(in)));
    TRY(x86_read(cpu, in->seg, x86_ea(cpu, in), 4, &v));
    if (v & ~(u64)MXCSR_VALID)
        return x86_gp(cpu, 0);
    cpu->s.fpu.mxcsr = (u32)v;
    return X86_OK;
}

static int op_stmxcsr(struct x86_cpu *cpu, const struct x86_insn *in)
{
    TRY(fp_check(cpu, vector_kind(in)));
    return x86_write(cpu, in->seg, x86_ea(cpu, in), 4, cpu->s.fpu.mxcsr);
}

static int op_emms(struct x86_cpu *cpu, const struct x86_insn *in)
{
    TRY(fp_check(cpu, FP_MMX));
    mmx_enter(&cpu->s.fpu);
    cpu->s.fpu.ftw = 0;
    return X86_OK;
}

static int vzero(struct x86_cpu *cpu, unsigned from)
{
    unsigned n = cpu->code_bits == 64 ? 16 : 8;

    TRY(fp_check(cpu, FP_AVX));
    for (unsigned i = 0; i < n; i++)
        memset(cpu->s.fpu.vec[i] + from, 0, 32 - from);
    return X86_OK;
}

static int op_vzeroall(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return vzero(cpu, 0);
}

static int op_vzeroupper(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return vzero(cpu, 16);
}

/* --- masked moves ----------------------------------------------------------------------------- */

/* Bit i: the top bit of element i of the mask register is set. */
static u32 mask_bits(const u8 *mask, unsigned count, unsigned size)
{
    u32 bits = 0;

    for (unsigned i = 0; i < count; i++)
        bits |= (u32)(mask[i * size + size - 1] >> 7) << i;
    return bits;
}

/* Elements of masked moves and gathers are never subject to #AC (SDM vol. 2 2.4, types 6 and 12):
 * where it is armed they go byte by byte. */
static bool alignment_armed(const struct x86_cpu *cpu)
{
    return cpu->s.cpl == 3 && (cpu->s.rflags & RFLAGS_AC) && (cpu->s.cr0 & CR0_AM);
}

/* Outside 64-bit mode the offset of an element wraps at 4 GiB; on AMD processors at the address
 * size. */
static u64 element_ea(const struct x86_cpu *cpu, const struct x86_insn *in, u64 ea, unsigned off)
{
    return (ea + off) & (cpu->intel ? cpu->lin_mask : size_mask(in->asize));
}

static must_check int load_element(struct x86_cpu *cpu, unsigned seg, u64 ea, u8 *to, unsigned size)
{
    u8 tmp[8];

    if (likely(!alignment_armed(cpu)))
        return x86_read_bytes(cpu, seg, ea, to, size);
    for (unsigned i = 0; i < size; i++)
        TRY(x86_read_bytes(cpu, seg, ea + i, tmp + i, 1));
    memcpy(to, tmp, size);
    return X86_OK;
}

static must_check int probe_element(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned size)
{
    u64 lin;

    TRY(x86_linear(cpu, seg, ea, size, X86_W, &lin));
    TRY(fp_canonical_check(cpu, seg, lin, size));
    if (likely(!alignment_armed(cpu)))
        return x86_lin_probe(cpu, lin, size, X86_W);
    return fp_probe_bytewise(cpu, lin, size);
}

static must_check int store_element(struct x86_cpu *cpu, unsigned seg, u64 ea, const u8 *from,
                                    unsigned size)
{
    if (likely(!alignment_armed(cpu)))
        return x86_write_bytes(cpu, seg, ea, from, size);
    for (unsigned i = 0; i < size; i++)
        TRY(x86_write_bytes(cpu, seg, ea + i, from + i, 1));
    return X86_OK;
}

/* Stores the elements of src selected by bits; all of them are checked before the first is
 * written. */
static must_check int store_masked(struct x86_cpu *cpu, const struct x86_insn *in, u64 ea,
                                   const u8 *src, u32 bits, unsigned size)
{
    for (u32 left = bits; left; left &= left - 1) {
        unsigned i = __builtin_ctz(left);
        TRY(probe_element(cpu, in->seg, element_ea(cpu, in, ea, i * size), size));
    }
    for (u32 left = bits; left; left &= left - 1) {
        unsigned i = __builtin_ctz(left);
        TRY(store_element(cpu, in->seg, element_ea(cpu, in, ea, i * size), src + i * size, size));
    }
    return X86_OK;
}

/* VMASKMOVPS/PD and VPMASKMOVD/Q: element size in imm (set at decode). */
static int op_maskload(struct x86_cpu *cpu, const struct x86_insn *in)
{
    unsigned size = (unsigned)in->imm, count = in->op[0].size / size;
    u8 out[32] = {0};

    TRY(fp_check(cpu, FP_AVX));
    u32 bits = mask_bits(vreg(cpu, in, 1), count, size);
    u64 ea = x86_ea(cpu, in);
    if (bits == (1u << count) - 1 && cpu->intel) {
        TRY(x86_read_bytes(cpu, in->seg, ea, out, count * size));
    } else {
        for (; bits; bits &= bits - 1) {
            unsigned i = __builtin_ctz(bits);
            u64 at = element_ea(cpu, in, ea, i * size);
            TRY(load_element(cpu, in->seg, at, out + i * size, size));
        }
    }
    memcpy(vreg(cpu, in, 0), out, 32);
    return X86_OK;
}

static int op_maskstore(struct x86_cpu *cpu, const struct x86_insn *in)
{
    unsigned size = (unsigned)in->imm, count = in->op[1].size / size;

    TRY(fp_check(cpu, FP_AVX));
    u32 bits = mask_bits(vreg(cpu, in, 1), count, size);
    return store_masked(cpu, in, x86_ea(cpu, in), vreg(cpu, in, 2), bits, size);
}

/* Offset of the implicit operand at (E/R)DI. */
static u64 rdi(const struct x86_cpu *cpu, const struct x86_insn *in)
{
    u64 v = cpu->s.gpr[X86_RDI];
    return in->asize == 8 ? v : in->asize == 4 ? (u32)v : (u16)v;
}

static int op_maskmovdqu(struct x86_cpu *cpu, const struct x86_insn *in)
{
    TRY(fp_check(cpu, vector_kind(in)));
    return store_masked(cpu, in, rdi(cpu, in), vreg(cpu, in, 0),
                        mask_bits(vreg(cpu, in, 1), 16, 1), 1);
}

static int op_maskmovq(struct x86_cpu *cpu, const struct x86_insn *in)
{
    struct x86_fpu *f = &cpu->s.fpu;

    TRY(fp_check(cpu, FP_MMX));
    TRY(store_masked(cpu, in, rdi(cpu, in), mmx_reg(f, in->op[0].reg & 7),
                     mask_bits(mmx_reg(f, in->op[1].reg & 7), 8, 1), 1));
    mmx_enter(f);
    return X86_OK;
}

/* --- gathers ---------------------------------------------------------------------------------- */

/* All elements that VEX.L makes room for are extended, also those that have no index; a fault shows
 * it. AMD processors clear the mask up to the element that faults and leave the rest alone. */
static void extend_mask(u8 *mask, unsigned n, unsigned size)
{
    u32 signs = mask_bits(mask, n, size);

    for (unsigned i = 0; i < n; i++)
        memset(mask + i * size, signs >> i & 1 ? 0xff : 0, size);
    memset(mask + n * size, 0, 32 - n * size);
}

/* in->imm at decode: index register | index size << 8 | element size << 16 | vector bytes << 24 */
static int op_gather(struct x86_cpu *cpu, const struct x86_insn *in)
{
    unsigned isize = in->imm >> 8 & 0xff, size = in->imm >> 16 & 0xff, vl = in->imm >> 24 & 0xff;
    unsigned count = vl / MAX(isize, size);
    u8 *dst = vreg(cpu, in, 0), *mask = vreg(cpu, in, 2);
    const u8 *index = cpu->s.fpu.vec[in->imm & 15];

    TRY(fp_check(cpu, FP_AVX));
    if (dst == mask || dst == index || mask == index)
        return x86_ud(cpu);
    u32 bits = mask_bits(mask, count, size);
    if (cpu->intel)
        extend_mask(mask, vl / size, size);
    u64 base = cpu->s.r[in->base] + (u64)in->disp;
    for (; bits; bits &= bits - 1) {
        unsigned i = __builtin_ctz(bits);
        s64 idx;
        if (isize == 8) {
            memcpy(&idx, index + 8 * i, 8);
        } else {
            s32 narrow;
            memcpy(&narrow, index + 4 * i, 4);
            idx = narrow;
        }
        u64 ea = base + ((u64)idx << in->scale);
        if (in->asize == 4)
            ea = (u32)ea;
        if (!cpu->intel)
            memset(mask, 0, i * size);
        TRY(load_element(cpu, in->seg, ea, dst + i * size,
                         size)); /* progress stays in dst and mask */
        memset(mask + i * size, 0, size);
        if (vl == 16 && cpu->intel)
            memset(dst + 16, 0, 16);
    }
    memset(mask, 0, 32);
    memset(dst + count * size, 0, 32 - count * size);
    return X86_OK;
}

static x86_exec_fn *bind_gather(struct x86_insn *in, const ZydisDecodedOperand *ops, unsigned isize,
                                unsigned size)
{
    ZydisRegister index = ops[1].mem.index;
    bool wide = ZydisRegisterGetClass(index) == ZYDIS_REGCLASS_YMM || in->op[0].size == 32;

    in->imm =
        (unsigned)ZydisRegisterGetId(index) | isize << 8 | size << 16 | (wide ? 32u : 16u) << 24;
    in->index = X86_REG_NONE;
    return op_gather;
}

/* --- binding ---------------------------------------------------------------------------------- */

static x86_exec_fn *bind_masked(struct x86_insn *in, unsigned size)
{
    in->imm = size;
    return in->op[0].kind == X86_OPND_MEM ? op_maskstore : op_maskload;
}

x86_exec_fn *simd_special_bind(struct x86_insn *in, const ZydisDecodedOperand *ops)
{
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR: return op_ldmxcsr;
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR: return op_stmxcsr;
    case ZYDIS_MNEMONIC_EMMS: return op_emms;
    case ZYDIS_MNEMONIC_VZEROALL: return op_vzeroall;
    case ZYDIS_MNEMONIC_VZEROUPPER: return op_vzeroupper;
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU: return op_maskmovdqu;
    case ZYDIS_MNEMONIC_MASKMOVQ: return op_maskmovq;
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD: return bind_masked(in, 4);
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: return bind_masked(in, 8);
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD: return bind_gather(in, ops, 4, 4);
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ: return bind_gather(in, ops, 4, 8);
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD: return bind_gather(in, ops, 8, 4);
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQQ: return bind_gather(in, ops, 8, 8);
    default: return NULL;
    }
}
