/* gen.h - how cases are made: templates of encodings, operand bytes, and registers steered to
 * mapped memory */
#pragma once

#include "diff.h"

enum encoding { ENC_LEGACY, ENC_VEX };
enum rm_kind { RM_MEM, RM_REG, RM_NONE };

/* One form of one instruction: what selects it is fixed, the rest is random. */
struct tmpl {
    u8 enc; /* enum encoding */
    u8 map; /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
    u8 op;
    u8 pp; /* 0: none, 1: 66, 2: F3, 3: F2 */
    u8 w, l;
    s8 reg;     /* ModRM.reg, -1: any */
    s8 rm;      /* ModRM.rm of register forms, -1: any */
    u8 rm_kind; /* enum rm_kind */
    bool valid; /* false: no instruction, both must raise #UD */
    u16 mnemonic;
};

struct tmpl_list {
    struct tmpl *t;
    unsigned n, cap;
    unsigned nvalid; /* the valid ones come first */
};

extern struct tmpl_list templates[3];
must_check int templates_init(struct err *e);
/* Not run: the result depends on more than the state compared here, or would leave the harness. */
bool excluded(const ZydisDecodedInstruction *z);

/* encode.c: appends the bytes of one instruction; returns their number (operands unsteered,
 * immediates random, up to 15 bytes of which the decoder tells the real length). `plain`: no odd
 * prefixes. */
unsigned encode_random(const struct tmpl *t, enum dmode mode, struct rng *r, bool plain, u8 *out);
/* With the given base register (16: none, RIP-relative or absolute) and a 32-bit displacement. */
unsigned encode_based(const struct tmpl *t, enum dmode mode, struct rng *r, unsigned base, s32 disp,
                      u8 *out);

/* block.c: cases of several instructions, made while the core executes them. */
struct undefined;
struct builder {
    struct dcase *c;
    struct rng *r;
    u32 open_flags; /* flags undefined since some earlier instruction */
    u16 kept;       /* registers that no instruction is to change */
    u16 bases;      /* those that memory operands are based on; 0: any */
};
/* A random state in a mode that follows from the index; no code yet. */
void builder_begin(struct builder *b, u64 index);
/* Finds an instruction that fits at rip in guest_state(). Its length, or 0; it is in c->z, c->ops.
 */
unsigned builder_choose(struct builder *b, u64 rip, u8 *bytes);
/* Whether c->z reads defined flags only and memory inside the data area. */
bool builder_fits(const struct builder *b, u64 next_rip);
/* c->z was executed. */
void builder_track_flags(struct builder *b, const struct undefined *u);

/* steer.c */
bool steer(struct dcase *c, struct rng *r);
/* Linear address and size of memory operand i under state s. */
u64 operand_address(const struct dcase *c, const ZydisDecodedInstruction *z,
                    const ZydisDecodedOperand *o, const struct x86_state *s, u64 next_rip);
u64 seg_base(const struct dcase *c, ZydisRegister seg);
/* A random place in the data area for an operand of `size` bytes, as a linear address. */
u64 random_place(struct rng *r, unsigned size, bool tame);

/* memory.c: the data both sides start from */
void memory_init(u64 seed);
void memory_restore(void);
void memory_poke(u64 lin, const void *buf, unsigned n);
bool memory_equal(const struct dcase *c);

/* A landing place for jumps: code memory filled with INT3, outside the block. */
u64 landing(const struct dcase *c, struct rng *r);
/* A selector that is safe to load and known to both sides. */
u16 random_selector(struct rng *r, bool for_code);
