/* bits.c - BT BTS BTR BTC, BSF BSR */
#include "x86/exec.h"
#include "x86/flags.h"

/* A register bit offset into memory reaches beyond the operand: signed, in operand-size units. */
static u64 bit_string_ea(const struct x86_cpu *cpu, const struct x86_insn *in, unsigned size,
                         u64 offset)
{
    u64 ea = x86_ea(cpu, in);
    if (in->op[1].kind == X86_OPND_IMM)
        return ea;
    s64 unit = (s64)sign_extend(offset, size) >> (size == 2 ? 4 : size == 4 ? 5 : 6);
    return (ea + (u64)(unit * (s64)size)) & size_mask(in->asize);
}

/* CF is the bit; ZF stays; the undefined flags are the host's. BT reads only. */
#define BIT_HOST(mn, sz, T, sfx, writes)                                                      \
    static inline T mn##_val_##sz(struct x86_cpu *cpu, T v, T bit)                            \
    {                                                                                         \
        asm(#mn sfx " %[b],%[v]" : [v] "+r"(v), "=@ccc"(bit) : [b] "r"(bit));                 \
        cpu->s.rflags = (cpu->s.rflags & ~(u64)RFLAGS_CF) | (bit & 1);                        \
        return v;                                                                             \
    }                                                                                         \
    static int mn##_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                      \
    {                                                                                         \
        T bit = in->op[1].kind == X86_OPND_IMM ? (T)in->imm : REG(T, 1);                      \
        if (in->op[0].kind == X86_OPND_REG) {                                                 \
            T v = mn##_val_##sz(cpu, REG(T, 0), bit);                                         \
            if (writes)                                                                       \
                SET_REG(T, 0, v);                                                             \
            return X86_OK;                                                                    \
        }                                                                                     \
        u64 ea = bit_string_ea(cpu, in, sizeof(T), bit), v;                                   \
        if (!(writes)) {                                                                      \
            TRY(x86_read(cpu, in->seg, ea, sizeof(T), &v));                                   \
            mn##_val_##sz(cpu, v, bit);                                                       \
            return X86_OK;                                                                    \
        }                                                                                     \
        struct x86_rmw m;                                                                     \
        TRY(x86_rmw_open(cpu, in->seg, ea, sizeof(T), &m));                                   \
        T *p = m.p, old = __atomic_load_n(p, __ATOMIC_RELAXED);                               \
        if (in->prefix & X86_PFX_LOCK)                                                        \
            while (!__atomic_compare_exchange_n(p, &old, mn##_val_##sz(cpu, old, bit), false, \
                                                __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))          \
                ;                                                                             \
        else                                                                                  \
            *p = mn##_val_##sz(cpu, old, bit);                                                \
        x86_rmw_close(cpu, &m);                                                               \
        return X86_OK;                                                                        \
    }

#define BIT_TEST(mn, writes)           \
    BIT_HOST(mn, 16, u16, "w", writes) \
    BIT_HOST(mn, 32, u32, "l", writes) \
    BIT_HOST(mn, 64, u64, "q", writes) \
    x86_exec_fn *const x86_sizes_##mn[4] = {NULL, mn##_16, mn##_32, mn##_64};

BIT_TEST(bt, 0)
BIT_TEST(bts, 1)
BIT_TEST(btr, 1)
BIT_TEST(btc, 1)

/* The whole 64-bit destination goes through the host, which keeps it when the source is zero. */
#define SCAN(mn, sz, T, sfx)                                             \
    static int mn##_##sz(struct x86_cpu *cpu, const struct x86_insn *in) \
    {                                                                    \
        u64 src, dst = cpu->s.gpr[in->op[0].reg];                        \
        u32 eax;                                                         \
        TRY(opnd_get(cpu, in, 1, &src));                                 \
        asm(#mn " %" sfx "[s],%" sfx "[d]" FLAGS_OUT                     \
            : "=&a"(eax), [d] "+r"(dst)                                  \
            : [s] "r"(src)                                               \
            : "cc");                                                     \
        flags_set(cpu, eax, RFLAGS_ARITH);                               \
        cpu->s.gpr[in->op[0].reg] = dst;                                 \
        return X86_OK;                                                   \
    }

SCAN(bsf, 16, u16, "w")
SCAN(bsf, 32, u32, "k")
SCAN(bsf, 64, u64, "q")
SCAN(bsr, 16, u16, "w")
SCAN(bsr, 32, u32, "k")
SCAN(bsr, 64, u64, "q")
x86_exec_fn *const x86_sizes_bsf[4] = {NULL, bsf_16, bsf_32, bsf_64};
x86_exec_fn *const x86_sizes_bsr[4] = {NULL, bsr_16, bsr_32, bsr_64};
