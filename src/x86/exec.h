/* exec.h - helpers shared by the instruction semantics: operands, conditions, flags */
#pragma once

#include "x86/insn.h"
#include "x86/mmu.h"
#include "x86/seg.h"

/* Declares a handler. Every handler is listed in an opcodes_*.def row. */
#define X86_HANDLER(name) int x86_op_##name(struct x86_cpu *cpu, const struct x86_insn *in)

static inline u64 size_mask(unsigned size)
{
    return size == 8 ? ~0ull : (1ull << (size * 8)) - 1;
}

static inline u64 sign_extend(u64 v, unsigned size)
{
    unsigned sh = 64 - size * 8;
    return (u64)((s64)(v << sh) >> sh);
}

/* Registers. A 32-bit write clears the upper half; 8- and 16-bit writes keep the rest. */
static inline u64 reg_get(const struct x86_cpu *cpu, const struct x86_operand *o)
{
    u64 v = cpu->s.gpr[o->reg];
    switch (o->size) {
    case 1: return o->high ? (u8)(v >> 8) : (u8)v;
    case 2: return (u16)v;
    case 4: return (u32)v;
    default: return v;
    }
}

static inline void gpr_set(struct x86_cpu *cpu, unsigned reg, unsigned size, u64 val)
{
    u64 *r = &cpu->s.gpr[reg];
    switch (size) {
    case 1: *(u8 *)r = val; break;
    case 2: *(u16 *)r = val; break;
    case 4: *r = (u32)val; break;
    default: *r = val; break;
    }
}

static inline void reg_set(struct x86_cpu *cpu, const struct x86_operand *o, u64 val)
{
    if (o->size == 1 && o->high)
        ((u8 *)&cpu->s.gpr[o->reg])[1] = val;
    else
        gpr_set(cpu, o->reg, o->size, val);
}

/* Register operand i as a T (u8, u16, u32, u64), in a handler for that size. */
#define REG(T, i)                                                          \
    ((T)(sizeof(T) == 1 && in->op[i].high ? cpu->s.gpr[in->op[i].reg] >> 8 \
                                          : cpu->s.gpr[in->op[i].reg]))

/* Stores a result of sizeof(T) bytes in register operand i: 32 bits clear the upper half. */
#define SET_REG(T, i, v)                      \
    do {                                      \
        u64 *r_ = &cpu->s.gpr[in->op[i].reg]; \
        if (sizeof(T) >= 4)                   \
            *r_ = (v);                        \
        else if (sizeof(T) == 2)              \
            *(u16 *)r_ = (v);                 \
        else                                  \
            ((u8 *)r_)[in->op[i].high] = (v); \
    } while (0)

/* Value of operand i (register, memory or immediate), zero-extended to 64 bits. */
static inline must_check int opnd_get(struct x86_cpu *cpu, const struct x86_insn *in, unsigned i,
                                      u64 *val)
{
    const struct x86_operand *o = &in->op[i];
    if (o->kind == X86_OPND_REG) {
        *val = reg_get(cpu, o);
        return X86_OK;
    }
    if (o->kind == X86_OPND_IMM) {
        *val = in->imm;
        return X86_OK;
    }
    return x86_read(cpu, in->seg, x86_ea(cpu, in), o->size, val);
}

static inline must_check int opnd_set(struct x86_cpu *cpu, const struct x86_insn *in, unsigned i,
                                      u64 val)
{
    const struct x86_operand *o = &in->op[i];
    if (o->kind == X86_OPND_REG) {
        reg_set(cpu, o, val);
        return X86_OK;
    }
    return x86_write(cpu, in->seg, x86_ea(cpu, in), o->size, val);
}

static inline unsigned x86_iopl(const struct x86_cpu *cpu)
{
    return (cpu->s.rflags & RFLAGS_IOPL) >> RFLAGS_IOPL_SHIFT;
}

/* #GP(0) unless CPL is 0. */
static inline must_check int need_cpl0(struct x86_cpu *cpu)
{
    return unlikely(cpu->s.cpl) ? x86_gp(cpu, 0) : X86_OK;
}
