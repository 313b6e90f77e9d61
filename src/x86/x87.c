/* x87.c - x87 arithmetic, loads and stores on the host FPU; the state helpers x87 and MMX share */
#include <Zydis/Zydis.h>

#include "x86/cpuid.h"
#include "x86/fpu.h"

/* Every non-control instruction runs in a stub between FXRSTOR and FXSAVE of the guest's x87
 * state; the memory operand is a copy in the frame. Control instructions are plain C (x87_env.c).
 *
 * Pointers follow today's processors: FIP (and FCS) by every non-control instruction, FINCSTP,
 * FDECSTP, FFREE and FNOP included; FOP likewise on AMD processors, on Intel's when it left an
 * unmasked exception (SDM vol. 1 8.1.9.1); FDP (and FDS) when it had a memory operand and, on a
 * model with FDP_EXCPTN_ONLY, an unmasked exception. FCS and FDS are kept, and shown as zero by a
 * model with ZERO_FCS_FDS. */

/* --- state helpers ---------------------------------------------------------------------------- */

void x87_update_es(struct x86_fpu *f)
{
    f->fsw &= (u16) ~(FSW_ES | FSW_B);
    if (x87_unmasked(f))
        f->fsw |= FSW_ES | FSW_B;
}

void x87_set_top(struct x86_fpu *f, unsigned top)
{
    unsigned turn = (top - x87_top(f)) & 7;

    if (turn) {
        u8 old[8][16];
        memcpy(old, f->st, sizeof(old));
        for (unsigned i = 0; i < 8; i++)
            memcpy(f->st[i], old[(i + turn) & 7], 16);
    }
    f->fsw = (u16)((f->fsw & ~FSW_TOP) | top << FSW_TOP_SHIFT);
}

void x87_init(struct x86_fpu *f)
{
    x87_set_top(f, 0);
    f->fcw = FCW_INIT;
    f->fsw = 0;
    f->ftw = 0;
    f->fop = f->fcs = f->fds = 0;
    f->fip = f->fdp = 0;
}

void mmx_enter(struct x86_fpu *f)
{
    x87_set_top(f, 0);
    f->ftw = 0xff;
}

int x87_pending(struct x86_cpu *cpu)
{
    if (likely(!x87_unmasked(&cpu->s.fpu)))
        return X86_OK;
    if (cpu->s.cr0 & CR0_NE)
        return x86_raise(cpu, X86_MF);
    /* The processor asserts FERR# and freezes before the instruction until an interrupt comes, IRQ
     * 13 as a rule (SDM vol. 1 8.7.2 and appendix D). */
    cpu->ops->ferr(cpu->world, true);
    cpu->s.rip = cpu->insn_rip;
    return X86_YIELD;
}

void x87_ferr_update(struct x86_cpu *cpu, bool was_pending)
{
    if (unlikely(was_pending) && !x87_unmasked(&cpu->s.fpu) && !(cpu->s.cr0 & CR0_NE))
        cpu->ops->ferr(cpu->world, false);
}

int x87_enter(struct x86_cpu *cpu, bool waiting)
{
    if (unlikely(cpu->s.cr0 & (CR0_EM | CR0_TS)))
        return x86_raise(cpu, X86_NM);
    return waiting ? x87_pending(cpu) : X86_OK;
}

/* --- execution -------------------------------------------------------------------------------- */

static void image_in(const struct x86_fpu *f, u8 *fx)
{
    u64 head[3] = {f->fcw | (u64)f->fsw << 16 | (u64)f->ftw << 32, 0, 0};

    memcpy(fx, head, sizeof(head));
    memcpy(fx + 32, f->st, sizeof(f->st));
}

static void image_out(struct x86_fpu *f, const u8 *fx)
{
    memcpy(&f->fcw, fx, 2);
    memcpy(&f->fsw, fx + 2, 2);
    f->ftw = fx[4];
    memcpy(f->st, fx + 32, sizeof(f->st));
}

static void update_pointers(struct x86_cpu *cpu, const struct x86_insn *in, bool memory, u64 ea)
{
    struct x86_fpu *f = &cpu->s.fpu;
    bool unmasked = x87_unmasked(f);

    f->fip = cpu->insn_rip;
    f->fcs = cpu->s.seg[X86_CS].sel;
    if (unmasked || !cpu->intel)
        f->fop = (u16)((in->raw[in->modrm_off - 1] & 7) << 8 | in->raw[in->modrm_off]);
    if (memory && (unmasked || !x86_has(cpu, X86_FEATURE_FDP_EXCPTN_ONLY))) {
        f->fdp = ea;
        f->fds = cpu->s.seg[in->seg].sel;
    }
}

static must_check int probe_store(struct x86_cpu *cpu, const struct x86_insn *in, unsigned n)
{
    u64 lin;

    TRY(x86_linear(cpu, in->seg, x86_ea(cpu, in), n, X86_W, &lin));
    TRY(fp_canonical_check(cpu, in->seg, lin, n));
    return x86_lin_probe(cpu, lin, n, X86_W);
}

/* Of a store: exceptions other than precision, if unmasked, keep the operand from being written,
 * and on Intel processors its address from being looked at. */
static must_check int store_result(struct x86_cpu *cpu, const struct x86_insn *in,
                                   const struct x87_frame *fr, unsigned n)
{
    u16 fsw;

    memcpy(&fsw, fr->fx + 2, 2);
    bool keep = fsw & ~cpu->s.fpu.fcw & FSW_EXCEPTIONS & ~FSW_PE;
    if (keep && cpu->intel)
        return X86_OK;
    if (n == 10)
        TRY(fp_alignment_check(cpu, in, 10, 8, X86_W));
    if (keep)
        return probe_store(cpu, in, n);
    return fp_store(cpu, in, fr->f.mem, n, 1);
}

static int exec_x87(struct x86_cpu *cpu, const struct x86_insn *in)
{
    const struct native_op *op = in->aux;
    const struct native_ident *id = &op->id;
    struct x87_frame fr;

    TRY(x87_enter(cpu, true));
    u64 ea = x86_ea(cpu, in);
    if (id->mem == NM_READ) {
        if (id->mem_size == 10)
            TRY(fp_alignment_check(cpu, in, 10, 8, X86_R));
        TRY(fp_load(cpu, in, fr.f.mem, id->mem_size, 1));
    }
    image_in(&cpu->s.fpu, fr.fx);
    fr.f.flags = native_flags_in(cpu->s.rflags);
    fr.f.host_fcw = FCW_INIT;
    fr.f.trapped = 0;
    op->run(&fr.f, NULL, NULL, NULL, NULL);
    if (unlikely(fr.f.trapped))
        return x86_ud(cpu);
    if (id->mem == NM_WRITE)
        TRY(store_result(cpu, in, &fr, id->mem_size));
    image_out(&cpu->s.fpu, fr.fx);
    if (id->flags & NO_FLAGS)
        cpu->s.rflags = native_flags_out(cpu->s.rflags, fr.f.flags);
    update_pointers(cpu, in, id->mem != NM_NONE, ea);
    return X86_OK;
}

/* --- binding ---------------------------------------------------------------------------------- */

static x86_exec_fn *bind_control(unsigned opcode, unsigned modrm)
{
    unsigned reg = modrm >> 3 & 7;
    bool mem = modrm < 0xc0;

    switch (opcode) {
    case 0xd9:
        if (!mem)
            return NULL;
        return reg == 4   ? x86_op_fldenv
               : reg == 5 ? x86_op_fldcw
               : reg == 6 ? x86_op_fnstenv
               : reg == 7 ? x86_op_fnstcw
                          : NULL;
    case 0xdb:
        switch (modrm) {
        case 0xe0: /* FENI */
        case 0xe1: /* FDISI */
        case 0xe4: /* FSETPM */ return x86_op_fn_nop;
        case 0xe2: return x86_op_fnclex;
        case 0xe3: return x86_op_fninit;
        default: return NULL;
        }
    case 0xdd:
        if (!mem)
            return NULL;
        return reg == 4   ? x86_op_frstor
               : reg == 6 ? x86_op_fnsave
               : reg == 7 ? x86_op_fnstsw
                          : NULL;
    case 0xdf: return modrm == 0xe0 ? x86_op_fnstsw_ax : NULL;
    default: return NULL;
    }
}

static bool describe(struct native_ident *id, const ZydisDecodedInstruction *z,
                     const ZydisDecodedOperand *ops, unsigned modrm)
{
    memset(id, 0, sizeof(*id));
    memset(id->gin, NG_NONE, sizeof(id->gin));
    memset(id->gout, NG_NONE, sizeof(id->gout));
    id->flags = NO_X87;
    if (z->cpu_flags &&
        ((z->cpu_flags->tested | z->cpu_flags->modified | z->cpu_flags->set_0) & RFLAGS_ARITH))
        id->flags |= NO_FLAGS;
    id->code[0] = z->opcode;
    id->code[1] = modrm;
    id->code_len = 2;
    if (modrm >= 0xc0)
        return true;
    id->code[1] = (modrm & 0x38) | 7;
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (ops[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        id->mem = ops[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? NM_WRITE : NM_READ;
        id->mem_size = ops[i].size / 8;
    }
    return id->mem != NM_NONE && id->mem_size >= 2 && id->mem_size <= 10;
}

x86_exec_fn *x87_bind(struct x86_cpu *cpu, struct x86_insn *in, const ZydisDecodedInstruction *z,
                      const ZydisDecodedOperand *ops)
{
    struct native_ident id;

    if (z->mnemonic == ZYDIS_MNEMONIC_FWAIT)
        return x86_op_fwait;
    if ((z->opcode & 0xf8) != 0xd8 || !in->modrm_off)
        return NULL;
    unsigned modrm = in->raw[in->modrm_off];
    x86_exec_fn *control = bind_control(z->opcode, modrm);
    if (control)
        return control;
    if (!describe(&id, z, ops, modrm))
        return NULL;
    in->aux = native_intern(&id);
    return in->aux ? exec_x87 : NULL;
}
