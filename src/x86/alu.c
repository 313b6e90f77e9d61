/* alu.c - ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NEG NOT XADD CMPXCHG, flag instructions
 *
 * The host executes the operation itself: its flags are the guest's, the manual's undefined ones
 * included. */
#include "x86/exec.h"
#include "x86/flags.h"
#include "x86/optable.h"

#define NO_CARRY   ""
#define LOAD_CARRY "btl $0,%[f]\n\t"

/* dst op src in host registers. CF is loaded first for ADC and SBB. */
#define HOST_OP(mn, sz, T, sfx, carry)                               \
    static inline T mn##_val_##sz(struct x86_cpu *cpu, T dst, T src) \
    {                                                                \
        u32 eax;                                                     \
        asm(carry #mn sfx " %[s],%[d]" FLAGS_OUT                     \
            : "=&a"(eax), [d] "+q"(dst)                              \
            : [s] "q"(src), [f] "m"(cpu->s.rflags)                   \
            : "cc");                                                 \
        flags_set(cpu, eax, RFLAGS_ARITH);                           \
        return dst;                                                  \
    }

/* The same on memory, atomically. CMP and TEST have no LOCK form. */
#define LOCKED_OP(mn, sz, T, sfx, carry)                                  \
    static inline void mn##_locked_##sz(struct x86_cpu *cpu, T *p, T src) \
    {                                                                     \
        u32 eax;                                                          \
        asm volatile(carry "lock " #mn sfx " %[s],%[d]" FLAGS_OUT         \
                     : "=&a"(eax), [d] "+m"(*p)                           \
                     : [s] "q"(src), [f] "m"(cpu->s.rflags)               \
                     : "cc", "memory");                                   \
        flags_set(cpu, eax, RFLAGS_ARITH);                                \
    }
#define NO_LOCK(mn, sz, T, sfx, carry)                                    \
    static inline void mn##_locked_##sz(struct x86_cpu *cpu, T *p, T src) \
    {                                                                     \
    }

/* The five operand forms of one size. `writes` is 0 for CMP and TEST. */
#define ALU_FORMS(mn, sz, T, writes)                                                       \
    static inline int mn##_reg_##sz(struct x86_cpu *cpu, const struct x86_insn *in, T src) \
    {                                                                                      \
        maybe_unused T res = mn##_val_##sz(cpu, REG(T, 0), src);                           \
        if (writes)                                                                        \
            SET_REG(T, 0, res);                                                            \
        return X86_OK;                                                                     \
    }                                                                                      \
    static inline int mn##_mem_##sz(struct x86_cpu *cpu, const struct x86_insn *in, T src) \
    {                                                                                      \
        if (!(writes)) {                                                                   \
            u64 dst;                                                                       \
            TRY(x86_read(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &dst));                 \
            mn##_val_##sz(cpu, dst, src);                                                  \
            return X86_OK;                                                                 \
        }                                                                                  \
        struct x86_rmw m;                                                                  \
        TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &m));                   \
        if (unlikely(in->prefix & X86_PFX_LOCK))                                           \
            mn##_locked_##sz(cpu, m.p, src);                                               \
        else                                                                               \
            *(T *)m.p = mn##_val_##sz(cpu, *(T *)m.p, src);                                \
        x86_rmw_close(cpu, &m);                                                            \
        return X86_OK;                                                                     \
    }                                                                                      \
    static int mn##_rr_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                \
    {                                                                                      \
        return mn##_reg_##sz(cpu, in, REG(T, 1));                                          \
    }                                                                                      \
    static int mn##_ri_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                \
    {                                                                                      \
        return mn##_reg_##sz(cpu, in, in->imm);                                            \
    }                                                                                      \
    static int mn##_rm_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                \
    {                                                                                      \
        u64 src;                                                                           \
        TRY(x86_read(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &src));                     \
        return mn##_reg_##sz(cpu, in, src);                                                \
    }                                                                                      \
    static int mn##_mr_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                \
    {                                                                                      \
        return mn##_mem_##sz(cpu, in, REG(T, 1));                                          \
    }                                                                                      \
    static int mn##_mi_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                \
    {                                                                                      \
        return mn##_mem_##sz(cpu, in, in->imm);                                            \
    }

#define ALU_SIZE(mn, sz, T, sfx, carry, lock_fn, writes) \
    HOST_OP(mn, sz, T, sfx, carry)                       \
    lock_fn(mn, sz, T, sfx, carry) ALU_FORMS(mn, sz, T, writes)

#define ROW(mn, form)                                                         \
    {                                                                         \
        mn##_##form##_8, mn##_##form##_16, mn##_##form##_32, mn##_##form##_64 \
    }

#define ALU(mn, carry, lock_fn, writes)                                             \
    ALU_SIZE(mn, 8, u8, "b", carry, lock_fn, writes)                                \
    ALU_SIZE(mn, 16, u16, "w", carry, lock_fn, writes)                              \
    ALU_SIZE(mn, 32, u32, "l", carry, lock_fn, writes)                              \
    ALU_SIZE(mn, 64, u64, "q", carry, lock_fn, writes)                              \
    x86_exec_fn *const x86_forms_##mn[X86_FORMS][4] = {[X86_FORM_RR] = ROW(mn, rr), \
                                                       [X86_FORM_RI] = ROW(mn, ri), \
                                                       [X86_FORM_RM] = ROW(mn, rm), \
                                                       [X86_FORM_MR] = ROW(mn, mr), \
                                                       [X86_FORM_MI] = ROW(mn, mi)};

ALU(add, NO_CARRY, LOCKED_OP, 1)
ALU(or, NO_CARRY, LOCKED_OP, 1)
ALU(adc, LOAD_CARRY, LOCKED_OP, 1)
ALU(sbb, LOAD_CARRY, LOCKED_OP, 1)
ALU(and, NO_CARRY, LOCKED_OP, 1)
ALU(sub, NO_CARRY, LOCKED_OP, 1)
ALU(xor, NO_CARRY, LOCKED_OP, 1)
ALU(cmp, NO_CARRY, NO_LOCK, 0)
ALU(test, NO_CARRY, NO_LOCK, 0)

/* One-operand forms. `mask` is the set of flags the instruction writes. */
#define UNARY_SIZE(mn, sz, T, sfx, mask)                                                        \
    static int mn##_rr_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                     \
    {                                                                                           \
        u32 eax;                                                                                \
        T v = REG(T, 0);                                                                        \
        asm(#mn sfx " %[d]" FLAGS_OUT : "=&a"(eax), [d] "+q"(v)::"cc");                         \
        flags_set(cpu, eax, mask);                                                              \
        SET_REG(T, 0, v);                                                                       \
        return X86_OK;                                                                          \
    }                                                                                           \
    static int mn##_mr_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                     \
    {                                                                                           \
        struct x86_rmw m;                                                                       \
        u32 eax;                                                                                \
        TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &m));                        \
        T *p = m.p;                                                                             \
        if (unlikely(in->prefix & X86_PFX_LOCK))                                                \
            asm volatile("lock " #mn sfx " %[d]" FLAGS_OUT                                      \
                         : "=&a"(eax), [d] "+m"(*p)::"cc", "memory");                           \
        else                                                                                    \
            asm volatile(#mn sfx " %[d]" FLAGS_OUT : "=&a"(eax), [d] "+m"(*p)::"cc", "memory"); \
        flags_set(cpu, eax, mask);                                                              \
        x86_rmw_close(cpu, &m);                                                                 \
        return X86_OK;                                                                          \
    }

#define UNARY(mn, mask)                                 \
    UNARY_SIZE(mn, 8, u8, "b", mask)                    \
    UNARY_SIZE(mn, 16, u16, "w", mask)                  \
    UNARY_SIZE(mn, 32, u32, "l", mask)                  \
    UNARY_SIZE(mn, 64, u64, "q", mask)                  \
    x86_exec_fn *const x86_forms_##mn[X86_FORMS][4] = { \
        [X86_FORM_RR] = ROW(mn, rr), [X86_FORM_MR] = ROW(mn, mr)};

UNARY(inc, RFLAGS_ARITH & ~(u64)RFLAGS_CF)
UNARY(dec, RFLAGS_ARITH & ~(u64)RFLAGS_CF)
UNARY(neg, RFLAGS_ARITH)
UNARY(not, 0)

/* XADD and CMPXCHG: run on a copy in host registers for a register destination, on memory with
 * `lock` otherwise (harmless without the guest's prefix). */
#define XADD_SIZE(sz, T, sfx)                                                    \
    static int xadd_##sz(struct x86_cpu *cpu, const struct x86_insn *in)         \
    {                                                                            \
        struct x86_rmw m;                                                        \
        u32 eax;                                                                 \
        bool mem = in->op[0].kind == X86_OPND_MEM;                               \
        T src = (T)reg_get(cpu, &in->op[1]), dst = 0;                            \
        if (mem)                                                                 \
            TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &m));     \
        else                                                                     \
            dst = (T)reg_get(cpu, &in->op[0]);                                   \
        T *p = mem ? m.p : &dst;                                                 \
        asm volatile("lock xadd" sfx " %[s],%[d]" FLAGS_OUT                      \
                     : "=&a"(eax), [d] "+m"(*p), [s] "+q"(src)::"cc", "memory"); \
        flags_set(cpu, eax, RFLAGS_ARITH);                                       \
        reg_set(cpu, &in->op[1], src);                                           \
        if (mem)                                                                 \
            x86_rmw_close(cpu, &m);                                              \
        else                                                                     \
            reg_set(cpu, &in->op[0], dst);                                       \
        return X86_OK;                                                           \
    }

XADD_SIZE(8, u8, "b")
XADD_SIZE(16, u16, "w")
XADD_SIZE(32, u32, "l")
XADD_SIZE(64, u64, "q")
x86_exec_fn *const x86_sizes_xadd[4] = {xadd_8, xadd_16, xadd_32, xadd_64};

/* The accumulator is written only when the comparison fails, the destination register only when it
 * succeeds: so the upper halves behave in 32-bit form. */
#define CMPXCHG_SIZE(sz, T, sfx)                                                    \
    static int cmpxchg_##sz(struct x86_cpu *cpu, const struct x86_insn *in)         \
    {                                                                               \
        struct x86_rmw m;                                                           \
        bool mem = in->op[0].kind == X86_OPND_MEM;                                  \
        T src = (T)reg_get(cpu, &in->op[1]), dst = 0, acc = (T)cpu->s.gpr[X86_RAX]; \
        if (mem)                                                                    \
            TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &m));        \
        else                                                                        \
            dst = (T)reg_get(cpu, &in->op[0]);                                      \
        T *p = mem ? m.p : &dst, old = acc;                                         \
        asm volatile("lock cmpxchg" sfx " %[s],%[d]"                                \
                     : "+a"(old), [d] "+m"(*p)                                      \
                     : [s] "q"(src)                                                 \
                     : "cc", "memory");                                             \
        cmp_val_##sz(cpu, acc, old);                                                \
        if (old != acc)                                                             \
            gpr_set(cpu, X86_RAX, sizeof(T), old);                                  \
        if (mem)                                                                    \
            x86_rmw_close(cpu, &m);                                                 \
        else if (old == acc)                                                        \
            reg_set(cpu, &in->op[0], dst);                                          \
        return X86_OK;                                                              \
    }

CMPXCHG_SIZE(8, u8, "b")
CMPXCHG_SIZE(16, u16, "w")
CMPXCHG_SIZE(32, u32, "l")
CMPXCHG_SIZE(64, u64, "q")
x86_exec_fn *const x86_sizes_cmpxchg[4] = {cmpxchg_8, cmpxchg_16, cmpxchg_32, cmpxchg_64};

static void set_zf(struct x86_cpu *cpu, bool zf)
{
    cpu->s.rflags = (cpu->s.rflags & ~(u64)RFLAGS_ZF) | (zf ? RFLAGS_ZF : 0);
}

X86_HANDLER(cmpxchg8b)
{
    struct x86_rmw m;
    u64 *r = cpu->s.gpr;

    TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), 8, &m));
    u64 expected = (u32)r[X86_RAX] | r[X86_RDX] << 32;
    u64 desired = (u32)r[X86_RBX] | r[X86_RCX] << 32;
    bool equal = __atomic_compare_exchange_n((u64 *)m.p, &expected, desired, false,
                                             __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    x86_rmw_close(cpu, &m);
    set_zf(cpu, equal);
    if (!equal) {
        gpr_set(cpu, X86_RAX, 4, expected);
        gpr_set(cpu, X86_RDX, 4, expected >> 32);
    }
    return X86_OK;
}

X86_HANDLER(cmpxchg16b)
{
    struct x86_rmw m;
    u64 *r = cpu->s.gpr, ea = x86_ea(cpu, in);
    bool equal;

    if ((cpu->seg_base[in->seg] + ea) & 15) /* before anything else about the address */
        return x86_gp(cpu, 0);
    TRY(x86_rmw_open(cpu, in->seg, ea, 16, &m));
    u64 lo = r[X86_RAX], hi = r[X86_RDX];
    asm volatile("lock cmpxchg16b %[d]"
                 : [d] "+m"(*(unsigned __int128 *)m.p), "+a"(lo), "+d"(hi), "=@ccz"(equal)
                 : "b"(r[X86_RBX]), "c"(r[X86_RCX])
                 : "memory");
    x86_rmw_close(cpu, &m);
    set_zf(cpu, equal);
    if (!equal) {
        r[X86_RAX] = lo;
        r[X86_RDX] = hi;
    }
    return X86_OK;
}

X86_HANDLER(clc)
{
    cpu->s.rflags &= ~(u64)RFLAGS_CF;
    return X86_OK;
}

X86_HANDLER(stc)
{
    cpu->s.rflags |= RFLAGS_CF;
    return X86_OK;
}

X86_HANDLER(cmc)
{
    cpu->s.rflags ^= RFLAGS_CF;
    return X86_OK;
}

X86_HANDLER(cld)
{
    cpu->s.rflags &= ~(u64)RFLAGS_DF;
    return X86_OK;
}

X86_HANDLER(std)
{
    cpu->s.rflags |= RFLAGS_DF;
    return X86_OK;
}

#define LAHF_FLAGS (RFLAGS_SF | RFLAGS_ZF | RFLAGS_AF | RFLAGS_PF | RFLAGS_CF)

/* In 64-bit mode both need CPUID.80000001H:ECX.LAHF_LM. */
X86_HANDLER(lahf)
{
    if (cpu->code_bits == 64 && !x86_has(cpu, X86_FEATURE_LAHF_LM))
        return x86_ud(cpu);
    ((u8 *)&cpu->s.gpr[X86_RAX])[1] = (cpu->s.rflags & LAHF_FLAGS) | RFLAGS_ONE;
    return X86_OK;
}

X86_HANDLER(sahf)
{
    if (cpu->code_bits == 64 && !x86_has(cpu, X86_FEATURE_LAHF_LM))
        return x86_ud(cpu);
    u64 ah = cpu->s.gpr[X86_RAX] >> 8;
    cpu->s.rflags = (cpu->s.rflags & ~(u64)LAHF_FLAGS) | (ah & LAHF_FLAGS);
    return X86_OK;
}
