/* diff.h - one comparison between the host processor and the core: inputs, outcomes, and who
 * makes them */
#pragma once

#include <stdio.h>
#include <Zydis/Zydis.h>

#include "base/checked.h"
#include "base/err.h"
#include "layout.h"
#include "x86/cpuid.h"
#include "x86/cpu.h"

#define BLOCK_MAX      16 /* instructions in a block */
#define CASE_BYTES_MAX 0x1800

/* The registers a program sees. */
struct dstate {
    u64 gpr[16];
    u64 rip, rflags;
    u16 sel[X86_SREGS];
    u64 fs_base, gs_base;
    struct x86_fpu fpu;
};

enum dmode { MODE_64, MODE_32, MODE_16 };

/* What happened: `trap` < 0 when the block ran to its end or to a landing place. */
struct outcome {
    struct dstate s;
    int trap; /* vector */
    u64 error, cr2;
    bool hang;
    bool signaled; /* host: a signal came, be it only at the landing place */
    bool env;      /* host: x87 pointers are those of FNSTENV, 32 bits of them */
    bool lost;     /* host: FDP is zero, as after its kernel has saved and restored the state */
};

struct dcase {
    u64 index;
    enum dmode mode;
    struct dstate in;
    u64 start; /* linear address of the first instruction */
    u8 bytes[CASE_BYTES_MAX + 16];
    unsigned len;
    unsigned insns;
    unsigned steps; /* instructions that are executed at most, 0: a few more than there are */
    bool has_exit;  /* a jump to the exit stub stands behind the block */
    bool valid;     /* Zydis knows the (single) instruction */
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    /* union of undefined results of all instructions of the block */
    u32 undef_flags;
    bool skip_result;
    u64 ea; /* of the memory operand, linear; valid when has_ea */
    bool has_ea;
};

/* --- random numbers: splitmix64 --------------------------------------------------------------- */

struct rng {
    u64 x;
};

static inline u64 rnd(struct rng *r)
{
    u64 z = r->x += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static inline u64 rnd_below(struct rng *r, u64 n)
{
    return (u64)(((unsigned __int128)rnd(r) * n) >> 64);
}

/* True `percent` times in a hundred. */
static inline bool chance(struct rng *r, unsigned percent)
{
    return rnd_below(r, 100) < percent;
}

/* --- native.c --------------------------------------------------------------------------------- */

struct native_features {
    bool xsave, avx, fsgsbase, ldt, low_alias;
    bool amd, hypervisor;
};
extern struct native_features native_has;
extern u8 *native_code; /* writable alias of CODE_ADDR */
extern u8 *native_data; /* DATA_ADDR as the host's instructions see it, RO page included */

/* Maps the areas and installs the LDT. 0 or -errno with *e set. */
must_check int native_init(struct err *e);
/* Installs the fault handlers, on top of those of the core (after guest_init, which makes it
 * install them). */
must_check int native_hook(struct err *e);
/* Runs the block that is in place at c->start. */
void native_run(const struct dcase *c, struct outcome *out);
/* Linear address the block jumps to when it is done, in 64-bit mode. */
u64 native_exit(void);

/* --- guest.c ---------------------------------------------------------------------------------- */

extern u8 *guest_data; /* DATA_ADDR as the guest sees it, RO page included */
must_check int guest_init(const char *model, struct err *e);
const struct x86_cpuid_model *guest_model(void);
/* Runs the same block on the core, at most c->steps instructions. */
void guest_run(const struct dcase *c, struct outcome *out);
/* For building blocks: load c->in, then execute one instruction at a time. False: it stopped. */
void guest_begin(const struct dcase *c);
bool guest_step(const struct dcase *c);
const struct x86_state *guest_state(void);

/* --- engine.c --------------------------------------------------------------------------------- */

/* "bt" or "bt:TUNING"; after guest_init, before memory_init. */
must_check int engine_init(const char *spec, struct err *e);
bool engine_used(void);
/* Runs the case, whose bytes are in native_code, under the engine. */
void engine_run(const struct dcase *c, struct outcome *out);
/* For a timer: ends what has run for long. Async-signal-safe. */
void engine_kick(void);

/* --- ldt.c: descriptors both sides have ------------------------------------------------------- */

struct ldt_row {
    u32 base, limit; /* limit as in the descriptor */
    bool code, down, readonly, big, pages, present;
};
#define LDT_ROWS 11
extern const struct ldt_row ldt_rows[LDT_ROWS];
enum {
    LDT_CODE16,
    LDT_DATA16,
    LDT_DATA32,
    LDT_DOWN32,
    LDT_READONLY,
    LDT_CODE32,
    LDT_EXECONLY,
    LDT_ABSENT,
    LDT_DOWN16,
    LDT_STACK16,
    LDT_FLAT
};
#define LDT_SEL(row) ((row)*8 + 7)

/* --- gen.c ------------------------------------------------------------------------------------ */

must_check int gen_init(struct err *e);
/* Number of instruction templates for a mode. */
unsigned gen_templates(enum dmode mode);
/* Makes case `index` of the run with this seed; false: skip it (nothing sensible came out). */
bool gen_single(struct dcase *c, u64 seed, u64 index);
bool gen_block(struct dcase *c, u64 seed, u64 index);
bool gen_loops(struct dcase *c, u64 seed, u64 index);
/* The decoder for a mode. */
const ZydisDecoder *gen_decoder(enum dmode mode);

/* Decodes in full; false: no instruction. */
bool gen_decode(enum dmode mode, const u8 *bytes, unsigned n, ZydisDecodedInstruction *z,
                ZydisDecodedOperand *ops);

/* state.c: random registers; memory operands are then steered by gen.c. */
void state_random(struct dcase *c, struct rng *r);
u64 random_value(struct rng *r);
void state_pool_init(u64 seed, u64 epoch);

/* --- compare.c -------------------------------------------------------------------------------- */

/* NULL when both agree; else the name of the first difference. Also compares data memory. */
const char *compare(const struct dcase *c, const struct outcome *native,
                    const struct outcome *guest);
/* The rule that made an observed difference acceptable is counted here, by name. */
struct exception_rule {
    const char *name, *source;
    u64 hits;
};
extern struct exception_rule exception_rules[];
void summary_add(const struct dcase *c, const struct outcome *n, const struct outcome *g,
                 const char *what);
void summary_print(FILE *f);
void report(FILE *f, const struct dcase *c, const struct outcome *native,
            const struct outcome *guest, const char *what, u64 seed, const char *option);
