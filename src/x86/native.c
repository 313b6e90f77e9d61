/* native.c - SIMD and bit-manipulation instructions executed by the host CPU, one at a time */
#include <Zydis/Zydis.h>
#include <signal.h>

#include "x86/fpu.h"

_Static_assert(offsetof(struct native_frame, mem) == NF_MEM, "frame");
_Static_assert(offsetof(struct native_frame, gpr) == NF_GPR, "frame");
_Static_assert(offsetof(struct native_frame, mxcsr) == NF_MXCSR, "frame");
_Static_assert(offsetof(struct native_frame, host_mxcsr) == NF_HOST_MXCSR, "frame");
_Static_assert(offsetof(struct native_frame, flags) == NF_FLAGS, "frame");
_Static_assert(offsetof(struct native_frame, host_fcw) == NF_HOST_FCW, "frame");
_Static_assert(offsetof(struct x87_frame, fx) == NF_FX, "frame");

/* --- availability ----------------------------------------------------------------------------- */

int fp_refuse(struct x86_cpu *cpu, enum fp_kind kind)
{
    const struct x86_state *s = &cpu->s;

    switch (kind) {
    case FP_GPR: return X86_OK;
    case FP_GPR_VEX: return cpu->prot ? X86_OK : x86_ud(cpu);
    case FP_AVX:
        if (!cpu->prot || !(s->cr4 & CR4_OSXSAVE) || (~s->xcr0 & (XCR0_SSE | XCR0_AVX)))
            return x86_ud(cpu);
        break;
    case FP_SSE:
    case FP_SSE_MMX:
        if (!(s->cr4 & CR4_OSFXSR))
            return x86_ud(cpu);
        /* fall through */
    case FP_MMX:
        if (s->cr0 & CR0_EM)
            return x86_ud(cpu);
        break;
    }
    if (s->cr0 & CR0_TS)
        return x86_raise(cpu, X86_NM);
    return kind == FP_MMX || kind == FP_SSE_MMX ? x87_pending(cpu) : X86_OK;
}

int fp_canonical_check(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned n)
{
    if (likely(x86_canonical(lin) && x86_canonical(lin + n - 1)))
        return X86_OK;
    return x86_raise_error(cpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

int fp_probe_bytewise(struct x86_cpu *cpu, u64 lin, unsigned n)
{
    u64 last = (lin + n - 1) & cpu->lin_mask;

    TRY(x86_lin_probe(cpu, lin, 1, X86_W));
    return (lin ^ last) >> 12 ? x86_lin_probe(cpu, last & ~4095ull, 1, X86_W) : X86_OK;
}

int fp_alignment_check(struct x86_cpu *cpu, const struct x86_insn *in, unsigned n, unsigned align,
                       unsigned access)
{
    u64 lin;

    TRY(x86_linear(cpu, in->seg, x86_ea(cpu, in), n, access, &lin));
    bool past_end = cpu->lin_mask == 0xffffffff && lin + n - 1 > 0xffffffff && !cpu->intel;
    if (!x86_canonical(lin) || !x86_canonical(lin + n - 1) || past_end)
        return X86_OK; /* #GP comes first: the access itself will raise it */
    return x86_align_check(cpu, lin, align);
}

/* --- execution -------------------------------------------------------------------------------- */

/* A SIMD floating-point exception came out unmasked, or the host does not know the instruction. */
static int trapped(struct x86_cpu *cpu, const struct native_frame *f)
{
    if (f->trapped != SIGFPE)
        return x86_ud(cpu);
    cpu->s.fpu.mxcsr = f->mxcsr & MXCSR_VALID;
    return cpu->s.cr4 & CR4_OSXMMEXCPT ? x86_raise(cpu, X86_XM) : x86_ud(cpu);
}

static inline u8 *vector(struct x86_cpu *cpu, const struct x86_insn *in, u8 slot)
{
    return cpu->s.fpu.vec[in->op[slot & 3].reg];
}

/* Vector registers and a memory source only: most of SSE and AVX. */
X86_HANDLER(native_vector)
{
    const struct native_op *op = in->aux;
    struct native_frame f;

    TRY(fp_check(cpu, op->id.check));
    if (op->id.mem == NM_READ)
        TRY(fp_load(cpu, in, f.mem, op->id.mem_size, op->id.mem_align));
    f.trapped = 0;
    f.mxcsr = cpu->s.fpu.mxcsr;
    op->run(&f, vector(cpu, in, op->id.vec[NV_REG]), vector(cpu, in, op->id.vec[NV_VVVV]),
            vector(cpu, in, op->id.vec[NV_RM]), vector(cpu, in, op->id.vec[NV_EXTRA]));
    if (unlikely(f.trapped))
        return trapped(cpu, &f);
    cpu->s.fpu.mxcsr = f.mxcsr;
    return X86_OK;
}

static void *slot_pointer(struct x86_cpu *cpu, const struct x86_insn *in, u8 slot)
{
    switch (slot & NV_KIND) {
    case NV_NONE: return NULL;
    case NV_MM: return mmx_reg(&cpu->s.fpu, in->op[slot & NV_OPERAND].reg & 7);
    default: return slot & NV_FIXED ? cpu->s.fpu.vec[0] : vector(cpu, in, slot);
    }
}

static void gprs_in(struct x86_cpu *cpu, const struct x86_insn *in, const struct native_op *op,
                    struct native_frame *f)
{
    for (unsigned i = 0; i < 4; i++) {
        u8 g = op->id.gin[i];
        if (g != NG_NONE)
            f->gpr[i] = g & NG_FIXED ? cpu->s.gpr[g & 15] : reg_get(cpu, &in->op[g]);
    }
}

/* r9 (VEX.vvvv) goes first: of MULX with both destinations equal the high half, in rax here,
 * stays. */
static void gprs_out(struct x86_cpu *cpu, const struct x86_insn *in, const struct native_op *op,
                     const struct native_frame *f)
{
    for (unsigned i = 4; i-- > 0;) {
        u8 g = op->id.gout[i];
        if (g == NG_NONE)
            continue;
        if (g & NG_FIXED)
            cpu->s.gpr[g & 15] = f->gpr[i];
        else
            reg_set(cpu, &in->op[g], f->gpr[i]);
    }
}

static void mmx_written(struct x86_cpu *cpu, const struct x86_insn *in, const struct native_op *op)
{
    for (unsigned i = 0; i < NV_SLOTS; i++)
        if ((op->id.vec_written >> i & 1) && (op->id.vec[i] & NV_KIND) == NV_MM) {
            u8 *st = slot_pointer(cpu, in, op->id.vec[i]);
            st[8] = st[9] = 0xff;
        }
    mmx_enter(&cpu->s.fpu);
}

/* VCVTPH2PS and VCVTPS2PH are never subject to #AC (SDM vol. 2 2.4.11; on AMD processors they are):
 * where it is armed they go byte by byte. */
static bool bytewise(const struct x86_cpu *cpu, const struct native_ident *id)
{
    return id->flags & NO_UNALIGNED && cpu->intel && cpu->s.cpl == 3 && cpu->s.rflags & RFLAGS_AC &&
           cpu->s.cr0 & CR0_AM;
}

static int load_operand(struct x86_cpu *cpu, const struct x86_insn *in,
                        const struct native_ident *id, u8 *buf)
{
    if (likely(!bytewise(cpu, id)))
        return fp_load(cpu, in, buf, id->mem_size, id->mem_align);
    for (unsigned i = 0; i < id->mem_size; i++)
        TRY(x86_read_bytes(cpu, in->seg, x86_ea(cpu, in) + i, buf + i, 1));
    return X86_OK;
}

static int store_operand(struct x86_cpu *cpu, const struct x86_insn *in,
                         const struct native_ident *id, const u8 *buf)
{
    u64 ea = x86_ea(cpu, in), lin;

    if (likely(!bytewise(cpu, id)))
        return fp_store(cpu, in, buf, id->mem_size, id->mem_align);
    TRY(x86_linear(cpu, in->seg, ea, id->mem_size, X86_W, &lin));
    TRY(fp_canonical_check(cpu, in->seg, lin, id->mem_size));
    TRY(fp_probe_bytewise(cpu, lin, id->mem_size));
    for (unsigned i = 0; i < id->mem_size; i++)
        TRY(x86_write_bytes(cpu, in->seg, ea + i, buf + i, 1));
    return X86_OK;
}

/* Where the result of an instruction that raises an exception would have gone: Intel processors do
 * not look at it. */
static must_check int trapped_store(struct x86_cpu *cpu, const struct x86_insn *in,
                                    const struct native_ident *id, const struct native_frame *f)
{
    u64 lin;

    if (id->mem == NM_WRITE && f->trapped == SIGFPE && !cpu->intel) {
        TRY(x86_linear(cpu, in->seg, x86_ea(cpu, in), id->mem_size, X86_W, &lin));
        TRY(fp_canonical_check(cpu, in->seg, lin, id->mem_size));
        TRY(x86_lin_probe(cpu, lin, id->mem_size, X86_W));
    }
    return trapped(cpu, f);
}

/* The general case. Registers change only after the memory operand has been dealt with; a stub
 * writes vector registers itself, but none writes both those and memory. */
X86_HANDLER(native)
{
    const struct native_op *op = in->aux;
    const struct native_ident *id = &op->id;
    struct native_frame f;

    TRY(fp_check(cpu, id->check));
    if (id->mem == NM_READ)
        TRY(load_operand(cpu, in, id, f.mem));
    if (id->flags & NO_GPR)
        gprs_in(cpu, in, op, &f);
    f.flags = native_flags_in(cpu->s.rflags);
    f.mxcsr = cpu->s.fpu.mxcsr;
    f.trapped = 0;
    op->run(&f, slot_pointer(cpu, in, id->vec[NV_REG]), slot_pointer(cpu, in, id->vec[NV_VVVV]),
            slot_pointer(cpu, in, id->vec[NV_RM]), slot_pointer(cpu, in, id->vec[NV_EXTRA]));
    if (unlikely(f.trapped))
        return trapped_store(cpu, in, id, &f);
    if (id->mem == NM_WRITE)
        TRY(store_operand(cpu, in, id, f.mem));
    if (id->flags & NO_GPR)
        gprs_out(cpu, in, op, &f);
    if (id->flags & NO_FLAGS)
        cpu->s.rflags = native_flags_out(cpu->s.rflags, f.flags);
    if (id->flags & NO_MMX)
        mmx_written(cpu, in, op);
    cpu->s.fpu.mxcsr = f.mxcsr;
    return X86_OK;
}

/* --- entry ------------------------------------------------------------------------------------ */

x86_exec_fn *x86_fp_bind(struct x86_cpu *cpu, struct x86_insn *in, const void *zydis,
                         const void *operands)
{
    const ZydisDecodedInstruction *z = zydis;
    const ZydisDecodedOperand *ops = operands;
    x86_exec_fn *fn;

    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        return x87_bind(cpu, in, z, ops);
    if ((fn = simd_move_bind(in, ops)) || (fn = simd_special_bind(in, ops)) ||
        (fn = xsave_bind(in)))
        return fn;
    return native_bind(cpu, in, z, ops);
}
