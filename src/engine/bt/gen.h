/* gen.h - one block being translated: emission state, and what the lowering files share */
#pragma once

#include "engine/bt/cache.h"

/* Where the guest's arithmetic flags are at this point of the code. */
enum fl {
    FL_NATIVE, /* in the host's flags only */
    FL_SAVED,  /* in engine_vcpu.flags only; the host's are scratch */
    FL_BOTH,
    FL_RECIPE, /* nowhere, but gen.recipe computes them anew */
};

/* Code that gives the host's flags the value they had, from registers that did not change since. */
struct recipe {
    u8 code[20];
    u8 len;   /* 0: there is none */
    u32 regs; /* guest registers it depends on */
};

/* Accesses at [base + (index << scale) + constant], by roots (group.c); lo, hi: of constants. */
#define NO_ROOT 0xffffu
struct group {
    u16 base, index;
    u8 scale;
    bool write;   /* the write tag is checked */
    bool stack;   /* base is rsp: found by the stack's entry, which allows reads and writes */
    bool on;      /* worth it */
    bool live;    /* checked already */
    bool aligned; /* addresses whose constants are aligned_at modulo align are multiples of align */
    u8 align;
    s8 cell; /* of group_addend */
    u16 members;
    s64 lo, hi, aligned_at;
};

struct access {
    s8 group; /* -1: none */
    s64 at;   /* constant of its first byte */
};

struct insn_accesses {
    struct access mem, stack;
};

#define GROUPS_MAX 24

/* Code that is emitted behind the block, off the hot path. What emits it may add more. */
enum cold_kind {
    COLD_SLOW,     /* access that missed the TLB: rax is recomputed as the linear address */
    COLD_GENERIC,  /* site of an instruction that C executes; hot code jumps to the stub itself */
    COLD_EXEC,     /* the instruction is to be executed by C after all */
    COLD_FP,       /* vector registers are not loaded */
    COLD_LINK,     /* a direct jump that has no target yet */
    COLD_LEAVE,    /* to RIP = page + target by way of C: attention, dropped blocks */
    COLD_GOTO,     /* jump to another page */
    COLD_PROBE,    /* the same when its link cannot be used: by the jump cache */
    COLD_INDIRECT, /* rax = RIP, for which the link was not made: by the jump cache */
    COLD_MISS,     /* rax = RIP, not in the jump cache */
};

struct cold {
    enum cold_kind kind;
    u8 *from[3]; /* rel32 fields that lead here; COLD_GENERIC: of the LEA of the site */
    unsigned nfrom;
    u8 *retry, *resume;
    struct hmem ea;  /* COLD_SLOW: how to compute the linear address, unless xor_tag */
    bool xor_tag;    /* COLD_SLOW: rax is the address xor the tag that r10 points at */
    bool calls;      /* gen.calls when it was added */
    bool no_resume;  /* C goes on in another block */
    bool stack;      /* COLD_SLOW: rax is the address xor stack_tag */
    bool save_flags; /* flags are native on the way in */
    bool commit;     /* COLD_MISS: move the stack pointer */
    bool check;      /* COLD_MISS: RIP may be non-canonical: then the instruction faults */
    bool to_link;    /* COLD_MISS: to the stub of `link` */
    s32 rsp_add;
    u16 off;    /* of the guest instruction */
    s64 target; /* COLD_GOTO, COLD_LEAVE, COLD_PROBE: RIP relative to the page */
    u16 size;
    u8 flags;
    u32 link;
    const struct x86_insn *in;
    struct recipe recipe; /* COLD_SLOW: flags are to be computed and saved first */
};

#define COLD_MAX 512

struct gen {
    struct emit e;
    struct engine_vcpu *v;
    struct cache *c;
    struct tb *tb;
    u32 mode;
    bool code64;
    bool calls;                   /* the block is left by host CALLs, for a guest one */
    u8 *call_site;                /* what a RET from there comes to */
    u16 call_end;                 /* offset of the code behind the guest's CALL */
    bool linking;                 /* direct jumps may be linked */
    const struct x86_insn *insns; /* of the block */
    unsigned n;
    struct group group[GROUPS_MAX];
    unsigned ngroups;
    bool led;                        /* this instruction has checked for a group */
    struct insn_accesses access[64]; /* by instruction */
    /* What the scratch registers still hold, now and before this instruction, or -1: r10 the addend
     * of a group, rax the value of a guest register that lives in memory. */
    int r10_group, r10_before;
    int rax_home, rax_before;
    const struct x86_insn *in; /* under translation */
    unsigned off;              /* its offset in the page */
    bool follow;               /* a branch: its target is translated next, not what is behind it */
    enum fl fl;
    struct recipe recipe;
    bool flags_end; /* behind this instruction the flags are overwritten unseen */
    u32 fp_ok;      /* READY_* known to be ready here */
    bool ended;     /* control never comes here */
    unsigned spare; /* scratch register that lower_* left free */
    unsigned ncold;
    struct cold cold[COLD_MAX];
};

/* Offsets of the stubs in the code cache (stubs.c). */
struct bt_stubs {
    u32 enter, leave, next, dead, generic, slow, stack, link, fp;
    u32 returned, underflow; /* of a RET that leads elsewhere, or has no CALL */
};
extern struct bt_stubs bt_stubs;
/* Writes them; the same for every cache. */
void stubs_emit(struct cache *c);

/* --- flags (flags.c) --- */

#define ALL_FLAGS 0xd7 /* as x86_insn.flags_*: SF ZF AF PF OF CF */

/* Before code that destroys the host's flags and needs them in memory. Uses rax. */
void flags_save(struct gen *g);
/* The same where a COLD_SLOW follows, which can compute them by the recipe. */
void flags_clobber(struct gen *g);
/* Before an instruction that reads flags or keeps some: the host's flags are the guest's. Uses
 * rax. */
void flags_need(struct gen *g);
/* Whether the instruction changes all of them, whatever its operands are. */
bool flags_all_written(const struct x86_insn *in);
/* Whether what the current instruction leaves in the flags is overwritten unseen. */
bool flags_dead(const struct gen *g);
/* Before an instruction: flags that only the recipe knows are saved if it changes a register they
 * are computed from. After one, whose code begins at `code`: its own recipe. */
void flags_before(struct gen *g);
void flags_after(struct gen *g);
void flags_recipe(struct gen *g, const u8 *code);
/* New flags that have no recipe. */
#define flags_are_native(g) ((g)->fl = FL_NATIVE, (g)->recipe.len = 0)
void emit_flags_save(struct emit *e);
void emit_tlb_probe(struct emit *e); /* r10: linear address to TLB entry */
void emit_flags_restore(struct emit *e);

/* Guest registers an instruction changes, implicit ones too; known: for this instruction it is. */
u32 insn_writes(const struct x86_insn *in);
bool insn_writes_known(const struct x86_insn *in);
bool insn_is_jcc(const struct x86_insn *in);

/* --- groups of accesses (group.c) --- */

void groups_find(struct gen *g);   /* fills group and access */
void groups_forget(struct gen *g); /* C was called: what was checked is void */

/* --- memory operands (lower.c): THE lowering of guest addresses to host ones --- */

#define LOW_WRITE    BIT(0)
#define LOW_RAX_FREE BIT(1) /* the result must not use rax */

/* The memory operand of the current instruction, size bytes; align > 1: must be aligned, else the
 * instruction faults. The result is valid until rax or r10 change; g->spare is free. */
struct hmem lower_mem(struct gen *g, unsigned size, unsigned align, unsigned how);
/* The stack at rsp (or another base) + disp. */
struct hmem lower_stack(struct gen *g, unsigned base, s32 disp, unsigned size, unsigned how);
/* The 4- or 8-byte unit of a bit string at the current memory operand that holds bit number
 * `guest` (a register); the result is in r10. */
struct hmem lower_bits(struct gen *g, unsigned guest, unsigned size, unsigned how);
/* Whether lower_mem can do the current instruction's operand. */
bool lower_can(const struct gen *g);
/* The effective address alone (LEA) into reg, `size` bytes of it. */
void lower_ea(struct gen *g, unsigned reg, unsigned size);
/* reg = RIP of the first byte of the block's page. */
void lower_page(struct gen *g, unsigned reg);
/* rax is about to be used for something else than a copy's operand. */
static inline void use_rax(struct gen *g)
{
    g->rax_home = g->rax_before = -1;
}

struct cold *cold_add(struct gen *g, enum cold_kind kind, u8 *from);

/* --- instructions; true: translated --- */

bool gen_int(struct gen *g);    /* insn_int.c */
bool gen_vec(struct gen *g);    /* insn_int.c */
bool gen_stack(struct gen *g);  /* insn_stack.c */
bool gen_branch(struct gen *g); /* insn_branch.c */
bool gen_sys(struct gen *g);    /* insn_sys.c */
/* Whether the decoder may go on behind it though it is marked as the end of a block. */
bool gen_sys_goes_on(const struct x86_insn *in);
void gen_generic(struct gen *g);

/* Re-encodes the current instruction with its registers and the memory operand replaced (copy.c).
 * False: it needs more scratch registers than there are. */
bool copy_insn(struct gen *g, const struct hmem *m);
/* Register and memory forms for other files: whether all register operands have a place. */
bool copy_possible(const struct gen *g, bool mem);
/* Whether copying needs rax besides the memory operand. */
bool copy_wants_rax(const struct x86_insn *in);
bool copy_keeps_r10(const struct gen *g);

/* Leaves the block (insn_branch.c). */
void gen_goto(struct gen *g, s64 target);            /* RIP = page + target */
void gen_goto_ibtc(struct gen *g, s64 target);       /* the same, through the jump cache */
void gen_probe(struct gen *g, s64 target, u32 link); /* the same for a link to another page */
/* The same for an indirect jump, whose RIP is in rax; as the COLD_INDIRECT says. */
void gen_probe_indirect(struct gen *g, const struct cold *c);
/* Makes the jump with this rel32, aligned, a link to the block at page + target. */
struct link *gen_link(struct gen *g, u8 *field, s64 target, bool flags_saved);
/* Leaves the block for other code of the cache, as gen.calls says. */
void gen_leave_to(struct gen *g, const u8 *to);
/* r10 = entry of the jump cache for the RIP in rax; flags: equal on a hit. */
void emit_ibtc_probe(struct emit *e);
/* Flags: equal if the address in rax is canonical. Uses r10. */
void emit_canonical(struct emit *e);
/* RIP in rax; flags are saved. Returns what is done when the jump cache does not have it. */
struct cold *gen_ibtc(struct gen *g, const struct cold *miss);

static inline u8 *here(struct gen *g)
{
    return g->e.p;
}
