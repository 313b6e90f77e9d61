/* flags.h - arithmetic flags: taken from the host, which computes the very same ones */
#pragma once

#include "x86/cpu.h"

/* Tail of an asm block: after it the named u32 output (in EAX) holds the host's flags: AH = SF ZF 0
 * AF 0 PF 1 CF (as LAHF), AL = OF. Cheaper than PUSHF by far. */
#define FLAGS_OUT "\n\tlahf\n\tseto %%al"

static inline u64 flags_unpack(u32 eax)
{
    return (eax >> 8 & (RFLAGS_SF | RFLAGS_ZF | RFLAGS_AF | RFLAGS_PF | RFLAGS_CF)) | (u64)(eax & 1)
                                                                                          << 11;
}

/* Replaces the flags in mask by those of an asm block. */
static inline void flags_set(struct x86_cpu *cpu, u32 eax, u64 mask)
{
    cpu->s.rflags = (cpu->s.rflags & ~mask) | (flags_unpack(eax) & mask);
}

/* Condition codes in the encoding of Jcc, SETcc, CMOVcc (SDM vol. 1 appendix B). */
#define COND_O(f)  (((f) >> 11) & 1)
#define COND_B(f)  ((f)&1)
#define COND_Z(f)  (((f) >> 6) & 1)
#define COND_BE(f) (((f) & (RFLAGS_CF | RFLAGS_ZF)) != 0)
#define COND_S(f)  (((f) >> 7) & 1)
#define COND_P(f)  (((f) >> 2) & 1)
#define COND_L(f)  ((((f) >> 7) ^ ((f) >> 11)) & 1)
#define COND_LE(f) (COND_L(f) | COND_Z(f))

/* X(lower-case suffix, condition as an expression of u64 f) for all sixteen. */
#define X86_CONDITIONS(X)                                                                       \
    X(o, COND_O(f))                                                                             \
    X(no, !COND_O(f)) X(b, COND_B(f)) X(nb, !COND_B(f)) X(z, COND_Z(f)) X(nz, !COND_Z(f))       \
        X(be, COND_BE(f)) X(nbe, !COND_BE(f)) X(s, COND_S(f)) X(ns, !COND_S(f)) X(p, COND_P(f)) \
            X(np, !COND_P(f)) X(l, COND_L(f)) X(nl, !COND_L(f)) X(le, COND_LE(f))               \
                X(nle, !COND_LE(f))
