/* shift.c - SHL SHR SAR ROL ROR RCL RCR, SHLD SHRD */
#include "x86/exec.h"
#include "x86/flags.h"

/* The host shifts with the guest's count and CF. A count that is zero after masking changes no
 * flag; ROL and friends write only CF and OF. */
#define SHIFT_HOST(mn, sz, T, sfx, mask)                                           \
    static inline T mn##_val_##sz(struct x86_cpu *cpu, T v, u8 count)              \
    {                                                                              \
        u32 eax;                                                                   \
        asm("btl $0,%[f]\n\t" #mn sfx " %%cl,%[v]" FLAGS_OUT                       \
            : "=&a"(eax), [v] "+q"(v)                                              \
            : "c"(count), [f] "m"(cpu->s.rflags)                                   \
            : "cc");                                                               \
        if (count & (sizeof(T) == 8 ? 63 : 31))                                    \
            flags_set(cpu, eax, mask);                                             \
        return v;                                                                  \
    }                                                                              \
    static int mn##_##sz(struct x86_cpu *cpu, const struct x86_insn *in)           \
    {                                                                              \
        u8 count = in->op[1].kind == X86_OPND_IMM ? in->imm : cpu->s.gpr[X86_RCX]; \
        if (in->op[0].kind == X86_OPND_REG) {                                      \
            T v = mn##_val_##sz(cpu, REG(T, 0), count);                            \
            SET_REG(T, 0, v);                                                      \
            return X86_OK;                                                         \
        }                                                                          \
        struct x86_rmw m;                                                          \
        TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &m));           \
        *(T *)m.p = mn##_val_##sz(cpu, *(T *)m.p, count);                          \
        x86_rmw_close(cpu, &m);                                                    \
        return X86_OK;                                                             \
    }

#define SHIFT(mn, mask)                \
    SHIFT_HOST(mn, 8, u8, "b", mask)   \
    SHIFT_HOST(mn, 16, u16, "w", mask) \
    SHIFT_HOST(mn, 32, u32, "l", mask) \
    SHIFT_HOST(mn, 64, u64, "q", mask) \
    x86_exec_fn *const x86_sizes_##mn[4] = {mn##_8, mn##_16, mn##_32, mn##_64};

SHIFT(shl, RFLAGS_ARITH)
SHIFT(shr, RFLAGS_ARITH)
SHIFT(sar, RFLAGS_ARITH)
SHIFT(rol, RFLAGS_CF | RFLAGS_OF)
SHIFT(ror, RFLAGS_CF | RFLAGS_OF)
SHIFT(rcl, RFLAGS_CF | RFLAGS_OF)
SHIFT(rcr, RFLAGS_CF | RFLAGS_OF)

#define DOUBLE_HOST(mn, sz, T, sfx)                                                \
    static inline T mn##_val_##sz(struct x86_cpu *cpu, T v, T src, u8 count)       \
    {                                                                              \
        u32 eax;                                                                   \
        asm(#mn sfx " %%cl,%[s],%[v]" FLAGS_OUT                                    \
            : "=&a"(eax), [v] "+r"(v)                                              \
            : "c"(count), [s] "r"(src)                                             \
            : "cc");                                                               \
        if (count & (sizeof(T) == 8 ? 63 : 31))                                    \
            flags_set(cpu, eax, RFLAGS_ARITH);                                     \
        return v;                                                                  \
    }                                                                              \
    static int mn##_##sz(struct x86_cpu *cpu, const struct x86_insn *in)           \
    {                                                                              \
        u8 count = in->op[2].kind == X86_OPND_IMM ? in->imm : cpu->s.gpr[X86_RCX]; \
        if (in->op[0].kind == X86_OPND_REG) {                                      \
            T v = mn##_val_##sz(cpu, REG(T, 0), REG(T, 1), count);                 \
            SET_REG(T, 0, v);                                                      \
            return X86_OK;                                                         \
        }                                                                          \
        struct x86_rmw m;                                                          \
        TRY(x86_rmw_open(cpu, in->seg, x86_ea(cpu, in), sizeof(T), &m));           \
        *(T *)m.p = mn##_val_##sz(cpu, *(T *)m.p, REG(T, 1), count);               \
        x86_rmw_close(cpu, &m);                                                    \
        return X86_OK;                                                             \
    }

#define DOUBLE_SHIFT(mn)          \
    DOUBLE_HOST(mn, 16, u16, "w") \
    DOUBLE_HOST(mn, 32, u32, "l") \
    DOUBLE_HOST(mn, 64, u64, "q") \
    x86_exec_fn *const x86_sizes_##mn[4] = {NULL, mn##_16, mn##_32, mn##_64};

DOUBLE_SHIFT(shld)
DOUBLE_SHIFT(shrd)
