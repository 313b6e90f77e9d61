/* group.c - accesses of a block that surely lie together: one TLB check for all of them
 *
 * Registers are followed through additions of constants and copies. Accesses whose addresses
 * differ by constants only make a group: the first one executed checks the whole range, the others
 * use what it found. When the range does not lie in one page that the TLB has and can get, the
 * same code goes on in another translation that has no groups (MODE_NO_GROUPS): by a link when the
 * range leaves its page, by C when the page cannot be had. */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"

#define RANGE_MAX 512

/* A register's value: that of a root at the start, plus a constant. */
struct value {
    u16 root;
    s64 off;
};

struct follow {
    struct value reg[16];
    u16 next_root;
};

static void forget(struct follow *f, unsigned reg)
{
    f->reg[reg] = (struct value){f->next_root++, 0};
}

static void add(struct follow *f, unsigned reg, s64 by)
{
    f->reg[reg].off += by;
}

/* Operand 0 is a 64-bit register. */
static bool to_reg64(const struct x86_insn *in)
{
    return in->op[0].kind == X86_OPND_REG && in->op[0].cls == X86_CLASS_GPR && in->op[0].size == 8;
}

/* What an instruction does to the values; false: nothing known of it. */
static bool follow_insn(struct follow *f, const struct x86_insn *in)
{
    unsigned to = in->op[0].reg;

    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH: add(f, X86_RSP, -8); return true;
    case ZYDIS_MNEMONIC_POP:
        add(f, X86_RSP, 8);
        if (in->op[0].kind == X86_OPND_REG && in->op[0].cls == X86_CLASS_GPR)
            forget(f, to);
        return true;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        if (!to_reg64(in) || in->op[1].kind != X86_OPND_IMM)
            break;
        add(f, to, in->mnemonic == ZYDIS_MNEMONIC_ADD ? (s64)in->imm : -(s64)in->imm);
        return true;
    case ZYDIS_MNEMONIC_LEA:
        if (!to_reg64(in) || in->index != X86_REG_NONE || in->base >= 16 || in->asize != 8)
            break;
        f->reg[to] = (struct value){f->reg[in->base].root, f->reg[in->base].off + in->disp};
        return true;
    case ZYDIS_MNEMONIC_MOV:
        if (!to_reg64(in) || in->op[1].kind != X86_OPND_REG || in->op[1].cls != X86_CLASS_GPR)
            break;
        f->reg[to] = f->reg[in->op[1].reg];
        return true;
    default: break;
    }
    if (in->kind == X86_KIND_OTHER || !insn_writes_known(in))
        return false;
    for (u32 regs = insn_writes(in); regs; regs &= regs - 1)
        forget(f, (unsigned)__builtin_ctz(regs));
    return true;
}

/* --- membership ------------------------------------------------------------------------------- */

static const struct x86_operand *mem_operand(const struct x86_insn *in)
{
    if (in->mnemonic == ZYDIS_MNEMONIC_LEA || in->mnemonic == ZYDIS_MNEMONIC_NOP)
        return NULL;
    for (unsigned i = 0; i < in->nops; i++)
        if (in->op[i].kind == X86_OPND_MEM)
            return &in->op[i];
    return NULL;
}

static void join(struct gen *g, struct access *a, struct group key, s64 at, unsigned size)
{
    for (unsigned i = 0; i < g->ngroups; i++) {
        struct group *o = &g->group[i];
        if (o->base != key.base || o->index != key.index || o->scale != key.scale ||
            o->write != key.write || o->stack != key.stack)
            continue;
        s64 lo = MIN(o->lo, at), hi = MAX(o->hi, at + size);
        if (hi - lo > RANGE_MAX)
            continue;
        o->lo = lo;
        o->hi = hi;
        o->members++;
        a->group = (s8)i;
        a->at = at;
        return;
    }
    if (g->ngroups == GROUPS_MAX)
        return;
    key.lo = at;
    key.hi = at + size;
    key.members = 1;
    key.cell = -1;
    a->group = (s8)g->ngroups;
    a->at = at;
    g->group[g->ngroups++] = key;
}

static void join_stack(struct gen *g, const struct follow *f, struct access *a, s64 disp)
{
    struct group key = {.base = f->reg[X86_RSP].root, .index = NO_ROOT, .stack = true};

    join(g, a, key, f->reg[X86_RSP].off + disp, 8);
}

static void join_mem(struct gen *g, const struct follow *f, const struct x86_insn *in,
                     const struct x86_operand *o, struct access *a)
{
    if (in->base >= 16 || in->asize != 8 || in->seg == X86_FS || in->seg == X86_GS ||
        host_reg(in->base) == H_NONE || o->size > 32 || !fits32(in->disp) ||
        (in->index != X86_REG_NONE && (in->index >= 16 || host_reg(in->index) == H_NONE)))
        return;
    struct value b = f->reg[in->base];
    struct group key = {.base = b.root, .index = NO_ROOT};
    s64 at = b.off + in->disp;

    if (in->index != X86_REG_NONE) {
        struct value i = f->reg[in->index];
        key.index = i.root;
        key.scale = in->scale;
        at += i.off * (1 << in->scale);
    }
    key.stack = in->base == X86_RSP && in->index == X86_REG_NONE;
    key.write = !key.stack && o->access & X86_OPND_WRITE;
    join(g, a, key, at, o->size);
}

void groups_find(struct gen *g)
{
    struct follow f = {.next_root = 16};
    s8 cells = 0;

    for (u16 i = 0; i < 16; i++)
        f.reg[i] = (struct value){i, 0};
    g->ngroups = 0;
    for (unsigned i = 0; i < g->n; i++) {
        const struct x86_insn *in = &g->insns[i];
        const struct x86_operand *o = mem_operand(in);
        struct insn_accesses *a = &g->access[i];

        a->mem.group = a->stack.group = -1;
        if (!g->code64 || g->mode & MODE_NO_GROUPS || g->tb->gpa2 != ~0ull)
            continue;
        if (o)
            join_mem(g, &f, in, o, &a->mem);
        if (in->mnemonic == ZYDIS_MNEMONIC_PUSH || in->mnemonic == ZYDIS_MNEMONIC_CALL)
            join_stack(g, &f, &a->stack, -8);
        else if (in->mnemonic == ZYDIS_MNEMONIC_POP || in->mnemonic == ZYDIS_MNEMONIC_RET)
            join_stack(g, &f, &a->stack, 0);
        if (!follow_insn(&f, in))
            for (unsigned r = 0; r < 16; r++)
                forget(&f, r);
    }
    for (unsigned i = 0; i < g->ngroups; i++) {
        struct group *o = &g->group[i];
        if (o->members > 1 && !o->stack && cells < (s8)ARRAY_SIZE(g->v->group_addend))
            o->cell = cells++;
        if (o->members > 1 && (o->stack || o->cell >= 0))
            o->on = true;
    }
}

void groups_forget(struct gen *g)
{
    for (unsigned i = 0; i < g->ngroups; i++)
        g->group[i].live = g->group[i].aligned = false;
}
