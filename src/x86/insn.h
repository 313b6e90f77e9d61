/* insn.h - a decoded instruction in the form the semantics take it */
#pragma once

#include "x86/cpu.h"

#define X86_INSN_MAX 15

struct x86_insn;
/* Executes one instruction. On entry s.rip is already behind it and cpu->insn_rip on it; on
 * X86_FAULT the caller puts s.rip back. */
typedef int x86_exec_fn(struct x86_cpu *cpu, const struct x86_insn *in);

enum x86_operand_kind { X86_OPND_NONE, X86_OPND_REG, X86_OPND_MEM, X86_OPND_IMM };

enum x86_reg_class { X86_CLASS_OTHER, X86_CLASS_GPR, X86_CLASS_VEC };

/* Fields of an encoding that name a register. */
enum x86_slot { X86_SLOT_OTHER, X86_SLOT_REG, X86_SLOT_RM, X86_SLOT_VVVV, X86_SLOT_OPCODE };

#define X86_OPND_READ  BIT(0)
#define X86_OPND_WRITE BIT(1)

/* What translators ask before they look closer. */
enum x86_insn_kind {
    X86_KIND_OTHER, /* system, string, x87, MMX, and what always faults */
    X86_KIND_INT,   /* general registers, memory and arithmetic flags only */
    X86_KIND_VEC,   /* SSE and AVX with XMM or YMM registers, legacy or VEX encoded */
};

struct x86_operand {
    u8 kind; /* enum x86_operand_kind */
    u8 size; /* bytes; for REG and MEM */
    u8 reg; /* GPR number 0-15, segment register, CR/DR number, vector or x87/MMX register number */
    bool high; /* AH, CH, DH, BH */
    u8 cls;    /* enum x86_reg_class; for REG */
    u8 slot;   /* enum x86_slot: where the encoding names it; for REG */
    u8 access; /* X86_OPND_READ, X86_OPND_WRITE */
};

#define X86_PFX_LOCK   BIT(0)
#define X86_PFX_REP    BIT(1) /* F3 */
#define X86_PFX_REPNE  BIT(2) /* F2 */
#define X86_PFX_OPSIZE BIT(3)
#define X86_PFX_VEX    BIT(4)

#define X86_INSN_ENDS_BLOCK \
    BIT(0) /* control flow or anything that may change mode, code or mappings */

struct x86_insn {
    x86_exec_fn *fn;
    /* First immediate, sign- or zero-extended as the manual says; branch displacement (signed); far
     * pointer offset. A moffs address is the displacement of a memory operand. */
    u64 imm;
    s64 disp;        /* memory operand displacement */
    const void *aux; /* private to the handler chosen at decode (native stubs) */
    u32 imm2;        /* second immediate: ENTER level, far pointer selector, EXTRQ.. */
    u16 mnemonic;    /* ZydisMnemonic */
    u8 len;
    u8 opsize;      /* effective operand size in bytes: 1, 2, 4, 8 */
    u8 asize;       /* effective address size in bytes: 2, 4, 8 */
    u8 code_bits;   /* 16, 32, 64: the mode it was decoded for */
    u8 seg;         /* segment of the memory operand, overrides applied */
    u8 base, index; /* enum x86_gpr: X86_REG_RIP and X86_REG_NONE included */
    u8 scale;       /* shift: 0-3 */
    u8 prefix;      /* X86_PFX_* */
    u8 flags;       /* X86_INSN_* */
    u8 nops;        /* visible operands */
    u8 kind;        /* enum x86_insn_kind */
    u8 flags_read;  /* arithmetic flags tested, as in bits 7:0 of RFLAGS; OF is bit 1 */
    u8 flags_write; /* arithmetic flags changed or left undefined, likewise */
    u8 flags_set;   /* of those, the ones with a defined new value */
    u8 mem_align;   /* KIND_VEC: alignment the memory operand must have, else #GP(0); 1 = any */
    u8 modrm_off;   /* offset of ModRM in raw, 0 = none */
    struct x86_operand op[4];
    u8 raw[X86_INSN_MAX];
};

/* Effective address of the memory operand, masked to the address size. RIP-relative uses s.rip
 * (already next). */
static inline u64 x86_ea(const struct x86_cpu *cpu, const struct x86_insn *in)
{
    u64 ea = cpu->s.r[in->base] + (cpu->s.r[in->index] << in->scale) + (u64)in->disp;
    if (likely(in->asize == 8))
        return ea;
    return in->asize == 4 ? (u32)ea : (u16)ea;
}

/* Whether one of the operands is memory; LEA's counts. */
static inline bool x86_insn_has_mem(const struct x86_insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->op[i].kind == X86_OPND_MEM)
            return true;
    return false;
}

/* Whether the byte is a legacy prefix (SDM vol. 2 2.1.1): 66, 67, F2, F3, LOCK or a segment's. */
static inline bool x86_is_prefix(u8 b)
{
    return (b & 0xfe) == 0x66 || (b & 0xe7) == 0x26 || (b & 0xfe) == 0x64 || b == 0xf0 ||
           (b & 0xfe) == 0xf2;
}

/* Decodes the bytes (len of them available) for the cpu's current mode and features. Returns
 * X86_OK; X86_FAULT with #UD or #GP (over-long) raised; or X86_DECODE_MORE when the bytes end
 * inside the instruction. Pure: touches no guest memory. An instruction that always faults decodes
 * well to a handler that raises. */
#define X86_DECODE_MORE 100
must_check int x86_decode(struct x86_cpu *cpu, const u8 *bytes, unsigned len, struct x86_insn *out);

/* Fetches at CS:RIP (limit, paging, canonical and page-crossing checks) and decodes one
 * instruction. *gpa gets the physical address of its first byte, *gpa2 that of its continuation
 * page or ~0. */
must_check int x86_fetch(struct x86_cpu *cpu, struct x86_insn *out, u64 *gpa, u64 *gpa2);

/* Executes a fetched instruction: keeps the RIP contract of x86_exec_fn. */
static inline must_check int x86_exec(struct x86_cpu *cpu, const struct x86_insn *in)
{
    u64 rip = cpu->s.rip;
    cpu->insn_rip = rip;
    cpu->s.rip = rip + in->len;
    int rc = in->fn(cpu, in);
    if (unlikely(rc == X86_FAULT))
        cpu->s.rip = cpu->insn_rip;
    return rc;
}

/* Handler for SSE, AVX, MMX, x87 and other ring-3 instructions run on the host CPU; NULL: not one
 * of them. Called by decode with the instruction filled in; `zydis` is the ZydisDecodedInstruction
 * and `operands` its ZydisDecodedOperand array. Lives in native.c / x87.c. */
/* Alignment in bytes that the memory operand of an SSE or AVX instruction must have; 1 = any. */
u8 x86_vec_alignment(const struct x86_cpu *cpu, const void *zydis, const void *operands);

x86_exec_fn *x86_fp_bind(struct x86_cpu *cpu, struct x86_insn *in, const void *zydis,
                         const void *operands);
