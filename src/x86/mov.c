/* mov.c - MOV and its kin: MOVZX MOVSX MOVBE MOVNTI LEA XCHG BSWAP XLAT CMOVcc SETcc CBW NOP */
#include "x86/exec.h"
#include "x86/flags.h"
#include "x86/optable.h"

#define MOV_SIZE(sz, T)                                                        \
    static int mov_rr_##sz(struct x86_cpu *cpu, const struct x86_insn *in)     \
    {                                                                          \
        SET_REG(T, 0, REG(T, 1));                                              \
        return X86_OK;                                                         \
    }                                                                          \
    static int mov_ri_##sz(struct x86_cpu *cpu, const struct x86_insn *in)     \
    {                                                                          \
        SET_REG(T, 0, (T)in->imm);                                             \
        return X86_OK;                                                         \
    }                                                                          \
    static int mov_rm_##sz(struct x86_cpu *cpu, const struct x86_insn *in)     \
    {                                                                          \
        u64 v;                                                                 \
        TRY(x86_read(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &v));           \
        SET_REG(T, 0, (T)v);                                                   \
        return X86_OK;                                                         \
    }                                                                          \
    static int mov_mr_##sz(struct x86_cpu *cpu, const struct x86_insn *in)     \
    {                                                                          \
        return x86_write(cpu, in->seg, x86_ea(cpu, in), sizeof(T), REG(T, 1)); \
    }                                                                          \
    static int mov_mi_##sz(struct x86_cpu *cpu, const struct x86_insn *in)     \
    {                                                                          \
        return x86_write(cpu, in->seg, x86_ea(cpu, in), sizeof(T), in->imm);   \
    }

MOV_SIZE(8, u8)
MOV_SIZE(16, u16)
MOV_SIZE(32, u32)
MOV_SIZE(64, u64)

x86_exec_fn *const x86_forms_mov[X86_FORMS][4] = {
    [X86_FORM_RR] = {mov_rr_8, mov_rr_16, mov_rr_32, mov_rr_64},
    [X86_FORM_RI] = {mov_ri_8, mov_ri_16, mov_ri_32, mov_ri_64},
    [X86_FORM_RM] = {mov_rm_8, mov_rm_16, mov_rm_32, mov_rm_64},
    [X86_FORM_MR] = {mov_mr_8, mov_mr_16, mov_mr_32, mov_mr_64},
    [X86_FORM_MI] = {mov_mi_8, mov_mi_16, mov_mi_32, mov_mi_64},
};

X86_HANDLER(movzx)
{
    u64 v;
    TRY(opnd_get(cpu, in, 1, &v));
    reg_set(cpu, &in->op[0], v);
    return X86_OK;
}

X86_HANDLER(movsx)
{
    u64 v;
    TRY(opnd_get(cpu, in, 1, &v));
    reg_set(cpu, &in->op[0], sign_extend(v, in->op[1].size));
    return X86_OK;
}

static u64 byte_swap(u64 v, unsigned size)
{
    return __builtin_bswap64(v) >> (64 - size * 8);
}

X86_HANDLER(movbe)
{
    u64 v;
    TRY(opnd_get(cpu, in, 1, &v));
    return opnd_set(cpu, in, 0, byte_swap(v, in->op[0].size));
}

X86_HANDLER(movnti)
{
    return opnd_set(cpu, in, 0, reg_get(cpu, &in->op[1]));
}

/* No memory is touched: segments and canonicality do not matter. */
X86_HANDLER(lea)
{
    reg_set(cpu, &in->op[0], x86_ea(cpu, in));
    return X86_OK;
}

/* The 16-bit form is undefined; processors clear the low word. */
X86_HANDLER(bswap)
{
    const struct x86_operand *o = &in->op[0];
    reg_set(cpu, o, o->size == 2 ? 0 : byte_swap(reg_get(cpu, o), o->size));
    return X86_OK;
}

X86_HANDLER(xlat)
{
    u64 ea = cpu->s.gpr[X86_RBX] + (u8)cpu->s.gpr[X86_RAX], v;
    TRY(x86_read(cpu, in->seg, ea & size_mask(in->asize), 1, &v));
    gpr_set(cpu, X86_RAX, 1, v);
    return X86_OK;
}

X86_HANDLER(cbw)
{
    gpr_set(cpu, X86_RAX, 2, (s8)cpu->s.gpr[X86_RAX]);
    return X86_OK;
}

X86_HANDLER(cwde)
{
    gpr_set(cpu, X86_RAX, 4, (s16)cpu->s.gpr[X86_RAX]);
    return X86_OK;
}

X86_HANDLER(cdqe)
{
    gpr_set(cpu, X86_RAX, 8, (s32)cpu->s.gpr[X86_RAX]);
    return X86_OK;
}

X86_HANDLER(cwd)
{
    gpr_set(cpu, X86_RDX, 2, (s16)cpu->s.gpr[X86_RAX] >> 15);
    return X86_OK;
}

X86_HANDLER(cdq)
{
    gpr_set(cpu, X86_RDX, 4, (s32)cpu->s.gpr[X86_RAX] >> 31);
    return X86_OK;
}

X86_HANDLER(cqo)
{
    cpu->s.gpr[X86_RDX] = (s64)cpu->s.gpr[X86_RAX] >> 63;
    return X86_OK;
}

X86_HANDLER(nop)
{
    return X86_OK;
}

X86_HANDLER(salc)
{
    gpr_set(cpu, X86_RAX, 1, cpu->s.rflags & RFLAGS_CF ? 0xff : 0);
    return X86_OK;
}

/* XCHG with memory is always locked (SDM vol. 2). */
#define XCHG_SIZE(sz, T, sfx)                                                 \
    static int xchg_##sz(struct x86_cpu *cpu, const struct x86_insn *in)      \
    {                                                                         \
        unsigned mem = in->op[0].kind == X86_OPND_MEM ? 0 : 1, reg = 1 - mem; \
        if (in->op[mem].kind != X86_OPND_MEM) {                               \
            T a = REG(T, 0), b = REG(T, 1);                                   \
            SET_REG(T, 0, b);                                                 \
            SET_REG(T, 1, a);                                                 \
            return X86_OK;                                                    \
        }                                                                     \
        struct x86_rmw m;                                                     \
        TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &m));      \
        T old = __atomic_exchange_n((T *)m.p, REG(T, reg), __ATOMIC_SEQ_CST); \
        x86_rmw_close(cpu, &m);                                               \
        SET_REG(T, reg, old);                                                 \
        return X86_OK;                                                        \
    }

XCHG_SIZE(8, u8, "b")
XCHG_SIZE(16, u16, "w")
XCHG_SIZE(32, u32, "l")
XCHG_SIZE(64, u64, "q")
x86_exec_fn *const x86_sizes_xchg[4] = {xchg_8, xchg_16, xchg_32, xchg_64};

/* CMOVcc loads its source whatever the condition, and a 32-bit destination is zero-extended even
 * when the condition is false. */
#define CMOV_SET(cc, cond)                                               \
    X86_HANDLER(cmov##cc)                                                \
    {                                                                    \
        u64 v, f = cpu->s.rflags;                                        \
        TRY(opnd_get(cpu, in, 1, &v));                                   \
        reg_set(cpu, &in->op[0], (cond) ? v : reg_get(cpu, &in->op[0])); \
        return X86_OK;                                                   \
    }                                                                    \
    X86_HANDLER(set##cc)                                                 \
    {                                                                    \
        u64 f = cpu->s.rflags;                                           \
        return opnd_set(cpu, in, 0, (cond) ? 1 : 0);                     \
    }

#define X86_DECLARE(cc, cond) \
    X86_HANDLER(cmov##cc);    \
    X86_HANDLER(set##cc);
X86_CONDITIONS(X86_DECLARE)
X86_CONDITIONS(CMOV_SET)
