/* insn_stack.c - PUSH, POP and LEAVE */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"

static unsigned slot_bytes(const struct gen *g)
{
    return g->code64 ? 8 : 4;
}

static unsigned width(const struct gen *g)
{
    return g->code64 ? W64 : W32;
}

static void move_rsp(struct gen *g, s32 by)
{
    e_lea(&g->e, width(g), H_SP, base_mem(H_SP, by));
}

/* Stack pointer and operands as wide as the code's default, on a flat stack. */
static bool stack_ok(const struct gen *g)
{
    if (g->in->opsize != slot_bytes(g))
        return false;
    return g->code64 || (g->mode & MODE_STACK32 && g->mode >> (MODE_SEG_FAST + X86_SS) & 1);
}

static bool push_mem(struct gen *g)
{
    unsigned n = slot_bytes(g);

    if (!lower_can(g))
        return false;
    e_load(&g->e, width(g), H_RAX, lower_mem(g, n, 1, 0));
    e_store(&g->e, W64, CELL(tmp[1]), H_RAX);
    struct hmem m = lower_stack(g, X86_RSP, -(s32)n, n, LOW_WRITE);
    e_load(&g->e, W64, g->spare, CELL(tmp[1]));
    e_store(&g->e, width(g), m, g->spare);
    move_rsp(g, -(s32)n);
    return true;
}

static bool gen_push(struct gen *g)
{
    const struct x86_insn *in = g->in;
    const struct x86_operand *o = &in->op[0];
    unsigned n = slot_bytes(g);

    if (o->kind == X86_OPND_MEM)
        return push_mem(g);
    if (o->kind == X86_OPND_REG && o->cls != X86_CLASS_GPR)
        return false;
    struct hmem m = lower_stack(g, X86_RSP, -(s32)n, n, LOW_WRITE);
    if (o->kind == X86_OPND_IMM) {
        e_rm(&g->e, width(g), 0xc7, 0, m);
        e4(&g->e, (u32)in->imm);
    } else {
        unsigned from = host_reg(o->reg);
        if (from == H_NONE) {
            from = g->spare;
            e_load(&g->e, W64, from, cell(GPR_OFF(o->reg)));
        }
        e_store(&g->e, width(g), m, from);
    }
    move_rsp(g, -(s32)n);
    return true;
}

static bool gen_pop(struct gen *g)
{
    const struct x86_operand *o = &g->in->op[0];
    unsigned n = slot_bytes(g);

    if (o->kind != X86_OPND_REG || o->cls != X86_CLASS_GPR)
        return false;
    struct hmem m = lower_stack(g, X86_RSP, 0, n, 0);
    unsigned to = host_reg(o->reg);
    if (to == H_SP) {
        e_load(&g->e, width(g), H_SP, m);
        return true;
    }
    if (to == H_NONE) {
        e_load(&g->e, width(g), g->spare, m);
        e_store(&g->e, W64, cell(GPR_OFF(o->reg)), g->spare);
    } else {
        e_load(&g->e, width(g), to, m);
    }
    move_rsp(g, (s32)n);
    return true;
}

static bool gen_leave(struct gen *g)
{
    unsigned n = slot_bytes(g);
    struct hmem m = lower_stack(g, X86_RBP, 0, n, 0);

    e_load(&g->e, width(g), g->spare, m);
    e_lea(&g->e, width(g), H_SP, base_mem(H_RBP, (s32)n));
    e_mov(&g->e, width(g), H_RBP, g->spare);
    return true;
}

bool gen_stack(struct gen *g)
{
    switch (g->in->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH: return stack_ok(g) && gen_push(g);
    case ZYDIS_MNEMONIC_POP: return stack_ok(g) && gen_pop(g);
    case ZYDIS_MNEMONIC_LEAVE: return stack_ok(g) && gen_leave(g);
    default: return false;
    }
}
