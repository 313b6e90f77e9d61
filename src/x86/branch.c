/* branch.c - near JMP, Jcc, LOOP, JCXZ, CALL and RET */
#include "x86/exec.h"
#include "x86/flags.h"

static inline bool canonical(u64 lin)
{
    return (u64)((s64)(lin << 16) >> 16) == lin;
}

/* Branch to rip + displacement. */
static inline int jump_relative(struct x86_cpu *cpu, const struct x86_insn *in)
{
    u64 target = cpu->s.rip + in->imm;
    if (likely(cpu->code_bits == 64 && in->opsize == 8 && canonical(target))) {
        cpu->s.rip = target;
        return X86_OK;
    }
    return x86_jump_near(cpu, target, in->opsize);
}

#define JCC(cc, cond)                                                 \
    int x86_op_j##cc(struct x86_cpu *cpu, const struct x86_insn *in); \
    X86_HANDLER(j##cc)                                                \
    {                                                                 \
        u64 f = cpu->s.rflags;                                        \
        return (cond) ? jump_relative(cpu, in) : X86_OK;              \
    }
X86_CONDITIONS(JCC)

/* CX, ECX or RCX by address size. */
static u64 count_get(const struct x86_cpu *cpu, const struct x86_insn *in)
{
    return cpu->s.gpr[X86_RCX] & size_mask(in->asize);
}

X86_HANDLER(jcxz)
{
    return count_get(cpu, in) ? X86_OK : jump_relative(cpu, in);
}

static int loop_if(struct x86_cpu *cpu, const struct x86_insn *in, bool cond)
{
    u64 count = (count_get(cpu, in) - 1) & size_mask(in->asize);
    if (count && cond)
        TRY(jump_relative(cpu, in));
    gpr_set(cpu, X86_RCX, in->asize, count);
    return X86_OK;
}

X86_HANDLER(loop)
{
    return loop_if(cpu, in, true);
}

X86_HANDLER(loope)
{
    return loop_if(cpu, in, cpu->s.rflags & RFLAGS_ZF);
}

X86_HANDLER(loopne)
{
    return loop_if(cpu, in, !(cpu->s.rflags & RFLAGS_ZF));
}

X86_HANDLER(jmp)
{
    u64 target;
    if (in->op[0].kind == X86_OPND_IMM)
        return jump_relative(cpu, in);
    TRY(opnd_get(cpu, in, 0, &target));
    return x86_jump_near(cpu, target, in->opsize);
}

/* AMD processors store nothing when the target is bad, but look first whether they could. */
static int call_target_check(struct x86_cpu *cpu, u64 target, unsigned opsize)
{
    u64 next = cpu->s.rip, sp = (cpu->s.gpr[X86_RSP] - opsize) & size_mask(cpu->stack_bytes), lin;

    if (likely(!x86_jump_near(cpu, target, opsize))) {
        cpu->s.rip = next;
        return X86_OK;
    }
    TRY(x86_linear(cpu, X86_SS, sp, opsize, X86_W, &lin));
    if (cpu->code_bits == 64 && !canonical(lin))
        return x86_raise_error(cpu, X86_SS_FAULT, 0);
    TRY(x86_lin_probe(cpu, lin, opsize, X86_W));
    return x86_jump_near(cpu, target, opsize);
}

X86_HANDLER(call)
{
    u64 next = cpu->s.rip, target, rsp = cpu->s.gpr[X86_RSP];

    if (in->op[0].kind == X86_OPND_IMM)
        target = next + in->imm;
    else
        TRY(opnd_get(cpu, in, 0, &target));
    if (!cpu->intel)
        TRY(call_target_check(cpu, target, in->opsize));
    /* As in Intel processors, the return address is stored before the target is checked; a bad one
     * takes only the stack pointer back. */
    TRY(x86_push(cpu, in->opsize, next));
    int rc = x86_jump_near(cpu, target, in->opsize);
    if (unlikely(rc))
        cpu->s.gpr[X86_RSP] = rsp;
    return rc;
}

X86_HANDLER(ret)
{
    u64 target, rsp = cpu->s.gpr[X86_RSP];

    TRY(x86_pop(cpu, in->opsize, &target));
    int rc = x86_jump_near(cpu, target, in->opsize);
    if (unlikely(rc)) {
        cpu->s.gpr[X86_RSP] = rsp;
        return rc;
    }
    if (in->nops) /* RET imm16 */
        gpr_set(cpu, X86_RSP, cpu->stack_bytes, cpu->s.gpr[X86_RSP] + (u16)in->imm);
    return X86_OK;
}
