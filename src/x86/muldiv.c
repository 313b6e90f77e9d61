/* muldiv.c - MUL IMUL DIV IDIV and the decimal adjustments AAA AAS AAM AAD DAA DAS */
#include "x86/exec.h"
#include "x86/flags.h"

/* rDX:rAX = rAX * operand, flags by the host. The 8-bit form leaves AX. */
#define MUL_HOST(mn, sz, T, sfx)                                              \
    static int mn##_wide_##sz(struct x86_cpu *cpu, const struct x86_insn *in) \
    {                                                                         \
        u64 src, lo, hi = 0, eax = cpu->s.gpr[X86_RAX];                       \
        TRY(opnd_get(cpu, in, 0, &src));                                      \
        asm(#mn sfx " %[s]\n\tmovq %%rax,%[l]" FLAGS_OUT                      \
            : "+a"(eax), "=&d"(hi), [l] "=&r"(lo)                             \
            : [s] "q"((T)src)                                                 \
            : "cc");                                                          \
        flags_set(cpu, eax, RFLAGS_ARITH);                                    \
        if (sizeof(T) == 1) {                                                 \
            gpr_set(cpu, X86_RAX, 2, lo);                                     \
        } else {                                                              \
            gpr_set(cpu, X86_RAX, sizeof(T), lo);                             \
            gpr_set(cpu, X86_RDX, sizeof(T), hi);                             \
        }                                                                     \
        return X86_OK;                                                        \
    }

MUL_HOST(mul, 8, u8, "b")
MUL_HOST(mul, 16, u16, "w")
MUL_HOST(mul, 32, u32, "l")
MUL_HOST(mul, 64, u64, "q")
MUL_HOST(imul, 8, u8, "b")
MUL_HOST(imul, 16, u16, "w")
MUL_HOST(imul, 32, u32, "l")
MUL_HOST(imul, 64, u64, "q")
x86_exec_fn *const x86_sizes_mul[4] = {mul_wide_8, mul_wide_16, mul_wide_32, mul_wide_64};

/* IMUL r, r/m and IMUL r, r/m, imm; the one-operand form goes to the wide handlers. */
#define IMUL_HOST(sz, T, sfx)                                                                 \
    static int imul_##sz(struct x86_cpu *cpu, const struct x86_insn *in)                      \
    {                                                                                         \
        u64 src;                                                                              \
        u32 eax;                                                                              \
        if (in->nops == 1)                                                                    \
            return imul_wide_##sz(cpu, in);                                                   \
        TRY(opnd_get(cpu, in, 1, &src));                                                      \
        T a = in->nops == 3 ? (T)in->imm : REG(T, 0), b = (T)src;                             \
        asm("imul" sfx " %[b],%[a]" FLAGS_OUT : "=&a"(eax), [a] "+r"(a) : [b] "r"(b) : "cc"); \
        flags_set(cpu, eax, RFLAGS_ARITH);                                                    \
        SET_REG(T, 0, a);                                                                     \
        return X86_OK;                                                                        \
    }

IMUL_HOST(16, u16, "w")
IMUL_HOST(32, u32, "l")
IMUL_HOST(64, u64, "q")
x86_exec_fn *const x86_sizes_imul[4] = {imul_wide_8, imul_16, imul_32, imul_64};

typedef unsigned __int128 u128;
typedef __int128 s128;

/* The dividend of twice the operand size: AX, or rDX:rAX. */
static u128 dividend(const struct x86_cpu *cpu, unsigned size)
{
    u64 mask = size_mask(size), *r = (u64 *)cpu->s.gpr;
    if (size == 1)
        return (u16)r[X86_RAX];
    return (u128)(r[X86_RDX] & mask) << (size * 8) | (r[X86_RAX] & mask);
}

static void store_quotient(struct x86_cpu *cpu, unsigned size, u64 quot, u64 rem)
{
    if (size == 1) {
        gpr_set(cpu, X86_RAX, 2, (u8)quot | (u64)(u8)rem << 8);
        return;
    }
    gpr_set(cpu, X86_RAX, size, quot);
    gpr_set(cpu, X86_RDX, size, rem);
}

/* Flags after DIV and IDIV are undefined; they stay as they were. */
static int divide(struct x86_cpu *cpu, const struct x86_insn *in, unsigned size)
{
    u64 divisor;
    TRY(opnd_get(cpu, in, 0, &divisor));
    u128 n = dividend(cpu, size);
    if (!divisor || n >> (size * 8) >= divisor)
        return x86_raise(cpu, X86_DE);
    if (size == 8) {
        u64 quot = n, rem = n >> 64;
        asm("divq %[d]" : "+a"(quot), "+d"(rem) : [d] "r"(divisor) : "cc");
        store_quotient(cpu, size, quot, rem);
    } else {
        store_quotient(cpu, size, (u64)n / divisor, (u64)n % divisor);
    }
    return X86_OK;
}

static int divide_signed(struct x86_cpu *cpu, const struct x86_insn *in, unsigned size)
{
    u64 raw;
    TRY(opnd_get(cpu, in, 0, &raw));
    s64 divisor = (s64)sign_extend(raw, size);
    unsigned sh = 128 - 16 * size;
    s128 n = (s128)(dividend(cpu, size) << sh) >> sh;
    if (!divisor)
        return x86_raise(cpu, X86_DE);
    /* |n| and |divisor| as unsigned, so that the most negative numbers do not overflow. */
    u128 un = n < 0 ? -(u128)n : (u128)n;
    u64 ud = divisor < 0 ? -(u64)divisor : (u64)divisor;
    u128 quot = un / ud;
    u64 rem = (u64)(un % ud), limit = 1ull << (size * 8 - 1);
    bool negative = (n < 0) != (divisor < 0);
    if (quot > limit || (quot == limit && !negative))
        return x86_raise(cpu, X86_DE);
    store_quotient(cpu, size, negative ? -(u64)quot : (u64)quot, n < 0 ? -rem : rem);
    return X86_OK;
}

#define DIV_SIZE(sz)                                                     \
    static int div_##sz(struct x86_cpu *cpu, const struct x86_insn *in)  \
    {                                                                    \
        return divide(cpu, in, sz / 8);                                  \
    }                                                                    \
    static int idiv_##sz(struct x86_cpu *cpu, const struct x86_insn *in) \
    {                                                                    \
        return divide_signed(cpu, in, sz / 8);                           \
    }
DIV_SIZE(8)
DIV_SIZE(16)
DIV_SIZE(32)
DIV_SIZE(64)
x86_exec_fn *const x86_sizes_div[4] = {div_8, div_16, div_32, div_64};
x86_exec_fn *const x86_sizes_idiv[4] = {idiv_8, idiv_16, idiv_32, idiv_64};

/* --- decimal arithmetic (SDM vol. 2); invalid in 64-bit mode, where Zydis refuses them -------- */

static void flags_write(struct x86_cpu *cpu, u64 mask, u64 set)
{
    cpu->s.rflags = (cpu->s.rflags & ~mask) | set;
}

/* SF, ZF and PF of a byte. */
static u64 result_flags(u8 v)
{
    return (v & 0x80 ? RFLAGS_SF : 0) | (v ? 0 : RFLAGS_ZF) | (__builtin_parity(v) ? 0 : RFLAGS_PF);
}

static int ascii_adjust(struct x86_cpu *cpu, int step)
{
    u16 ax = (u16)cpu->s.gpr[X86_RAX];
    u64 f = cpu->s.rflags;
    bool adjust = (ax & 15) > 9 || f & RFLAGS_AF;

    if (adjust)
        ax = step > 0 ? ax + 0x106 : (u16)(ax - 6) - 0x100;
    ax &= 0xff0f;
    gpr_set(cpu, X86_RAX, 2, ax);
    flags_write(cpu, RFLAGS_ARITH, result_flags((u8)ax) | (adjust ? RFLAGS_AF | RFLAGS_CF : 0));
    return X86_OK;
}

X86_HANDLER(aaa)
{
    return ascii_adjust(cpu, 1);
}

X86_HANDLER(aas)
{
    return ascii_adjust(cpu, -1);
}

X86_HANDLER(aam)
{
    u8 al = (u8)cpu->s.gpr[X86_RAX], base = (u8)in->imm;

    if (!base)
        return x86_raise(cpu, X86_DE);
    gpr_set(cpu, X86_RAX, 2, (u64)(al / base) << 8 | al % base);
    flags_write(cpu, RFLAGS_ARITH, result_flags(al % base));
    return X86_OK;
}

X86_HANDLER(aad)
{
    u16 ax = (u16)cpu->s.gpr[X86_RAX];
    u8 al = (u8)((ax & 0xff) + (ax >> 8) * (u8)in->imm);

    gpr_set(cpu, X86_RAX, 2, al);
    flags_write(cpu, RFLAGS_ARITH, result_flags(al));
    return X86_OK;
}

/* DAA and DAS: `sign` is +1 or -1. */
static int decimal_adjust(struct x86_cpu *cpu, int sign)
{
    u8 old = (u8)cpu->s.gpr[X86_RAX], al = old;
    u64 f = cpu->s.rflags, out = 0;

    if ((old & 15) > 9 || f & RFLAGS_AF) {
        al = (u8)(al + sign * 6);
        out |= RFLAGS_AF;
        if (sign < 0 && old < 6)
            out |= RFLAGS_CF;
    }
    if (old > 0x99 || f & RFLAGS_CF) {
        al = (u8)(al + sign * 0x60);
        out |= RFLAGS_CF;
    }
    gpr_set(cpu, X86_RAX, 1, al);
    flags_write(cpu, RFLAGS_ARITH, result_flags(al) | out);
    return X86_OK;
}

X86_HANDLER(daa)
{
    return decimal_adjust(cpu, 1);
}

X86_HANDLER(das)
{
    return decimal_adjust(cpu, -1);
}
