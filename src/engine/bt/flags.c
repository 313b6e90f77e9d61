/* flags.c - where the guest's arithmetic flags are, and how they are kept exact at little cost
 *
 * A TLB check destroys the host's flags. They are saved to memory before it (FL_SAVED), unless
 * they can be computed anew from registers, should the access leave the block (FL_RECIPE): CMP and
 * TEST by executing them again, ADD and SUB by undoing and doing them, AND, OR and XOR by a TEST
 * of the result. */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"

void emit_flags_save(struct emit *e)
{
    EBYTES(e, "\x9f\x0f\x90\xc0"); /* lahf; seto al */
    e1(e, 0x66);
    e_store(e, W32, CELL(flags), H_RAX); /* mov gs:[flags], ax */
}

void emit_flags_restore(struct emit *e)
{
    e1(e, 0x65);
    EBYTES(e, "\x0f\xb7\x04\x25"); /* movzx eax, word gs:[flags] */
    e4(e, (u32)VOFF(flags));
    EBYTES(e, "\x04\x7f\x9e"); /* add al, 0x7f (1 overflows); sahf */
}

/* --- the state -------------------------------------------------------------------------------- */

void flags_save(struct gen *g)
{
    if (g->fl == FL_RECIPE)
        ebytes(&g->e, g->recipe.code, g->recipe.len);
    if (g->fl == FL_RECIPE || g->fl == FL_NATIVE) {
        emit_flags_save(&g->e);
        use_rax(g);
    }
    g->fl = FL_SAVED;
}

void flags_clobber(struct gen *g)
{
    if (g->fl == FL_NATIVE && g->recipe.len)
        g->fl = FL_RECIPE;
    else if (g->fl != FL_RECIPE)
        flags_save(g);
}

void flags_need(struct gen *g)
{
    if (g->fl == FL_SAVED) {
        emit_flags_restore(&g->e);
        use_rax(g);
        g->fl = FL_BOTH;
    } else if (g->fl == FL_RECIPE) {
        ebytes(&g->e, g->recipe.code, g->recipe.len);
        g->fl = FL_NATIVE;
    }
}

/* --- what instructions do to flags ------------------------------------------------------------ */

/* A shift by zero changes no flags. */
static bool may_keep_flags(const struct x86_insn *in)
{
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: {
        const struct x86_operand *count = &in->op[in->nops - 1];
        unsigned mask = in->op[0].size == 8 ? 63 : 31;
        return count->kind != X86_OPND_IMM || !(in->imm & mask);
    }
    default: return false;
    }
}

bool flags_all_written(const struct x86_insn *in)
{
    return in->flags_write == ALL_FLAGS && !may_keep_flags(in);
}

/* Copied as it is, without a chance to leave the block. */
static bool is_plain(const struct gen *g, const struct x86_insn *in)
{
    if (in->kind != X86_KIND_INT || in->flags & X86_INSN_ENDS_BLOCK)
        return false;
    for (unsigned i = 0; i < in->nops; i++)
        if (in->op[i].kind == X86_OPND_MEM ||
            (in->op[i].kind == X86_OPND_REG && host_reg(in->op[i].reg) == H_NONE))
            return false;
    switch (in->mnemonic) {
#define COPY(name) case ZYDIS_MNEMONIC_##name:
#include "engine/bt/copy.def"
#undef COPY
        return true;
    default: return false;
    }
}

bool flags_dead(const struct gen *g)
{
    for (const struct x86_insn *in = g->in + 1; in < g->insns + g->n; in++) {
        if (!is_plain(g, in) || in->flags_read)
            return false;
        if (flags_all_written(in))
            return true;
    }
    return false;
}

/* --- recipes ---------------------------------------------------------------------------------- */

u32 insn_writes(const struct x86_insn *in)
{
    u32 regs = 0;

    for (unsigned i = 0; i < in->nops; i++)
        if (in->op[i].kind == X86_OPND_REG && in->op[i].cls == X86_CLASS_GPR &&
            in->op[i].access & X86_OPND_WRITE)
            regs |= BIT(in->op[i].reg);
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET: return regs | BIT(X86_RSP);
    case ZYDIS_MNEMONIC_LEAVE: return regs | BIT(X86_RSP) | BIT(X86_RBP);
    case ZYDIS_MNEMONIC_LOOP: return regs | BIT(X86_RCX);
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CMPXCHG: return regs | BIT(X86_RAX);
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO: return regs | BIT(X86_RDX);
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B: return regs | BIT(X86_RAX) | BIT(X86_RDX);
    default: return regs;
    }
}

bool insn_writes_known(const struct x86_insn *in)
{
    if (in->kind == X86_KIND_VEC)
        return true;
    switch (in->mnemonic) {
#define COPY(name) case ZYDIS_MNEMONIC_##name:
#include "engine/bt/copy.def"
#undef COPY
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_LEAVE: return true;
    default: return in->kind == X86_KIND_INT && insn_is_jcc(in);
    }
}

void flags_before(struct gen *g)
{
    const struct x86_insn *in = g->in;

    g->flags_end = false;
    if (!g->recipe.len || !(insn_writes(in) & g->recipe.regs))
        return;
    /* The instruction looks at its memory operand before it writes registers: till then the recipe
     * is good, and afterwards nobody may want the flags. */
    if (flags_all_written(in))
        return;
    if (!in->flags_read && flags_dead(g) && (!in->flags_write || is_plain(g, in))) {
        g->flags_end = true;
        return;
    }
    if (g->fl == FL_RECIPE)
        flags_save(g);
    g->recipe.len = 0;
}

void flags_after(struct gen *g)
{
    if (!g->flags_end)
        return;
    if (g->fl == FL_RECIPE)
        g->fl = FL_NATIVE; /* never looked at */
    g->recipe.len = 0;
}

/* Offset of the opcode in code that copy_insn made. */
static unsigned opcode_at(const u8 *code)
{
    unsigned i = code[0] == 0x66;

    return i + ((code[i] & 0xf0) == 0x40);
}

/* TEST of the result. */
static void recipe_test(struct recipe *r, const struct x86_operand *o)
{
    unsigned reg = host_reg(o->reg), rex = 0x40 | (reg & 8) >> 1 | (reg & 8) >> 3;
    u8 *p = r->code;

    if (o->size == 2)
        *p++ = 0x66;
    *p++ = (u8)(rex | (o->size == 8 ? 8 : 0));
    *p++ = o->size == 1 ? 0x84 : 0x85;
    *p++ = (u8)(0xc0 | (reg & 7) * 9);
    r->len = (u8)(p - r->code);
}

void flags_recipe(struct gen *g, const u8 *code)
{
    const struct x86_insn *in = g->in;
    struct recipe *r = &g->recipe;
    unsigned len = (unsigned)(g->e.p - code), op = opcode_at(code);

    r->len = 0;
    if (g->fl != FL_NATIVE || len > 8)
        return;
    r->regs = 0;
    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->op[i];
        if (o->kind == X86_OPND_MEM)
            return;
        if (o->kind == X86_OPND_REG &&
            (o->high || o->cls != X86_CLASS_GPR || host_reg(o->reg) == H_NONE))
            return;
        if (o->kind == X86_OPND_REG)
            r->regs |= BIT(o->reg);
    }
    bool same = in->op[1].kind == X86_OPND_REG && in->op[0].reg == in->op[1].reg;
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
        memcpy(r->code, code, len);
        r->len = (u8)len;
        break;
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
        recipe_test(r, &in->op[0]);
        r->regs = BIT(in->op[0].reg);
        break;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        if (same)
            break;
        memcpy(r->code, code, len);
        memcpy(r->code + len, code, len);
        /* The inverse first: ADD and SUB differ in two bits of the opcode or of ModRM.reg. */
        r->code[op + (in->op[1].kind == X86_OPND_IMM)] ^= 0x28;
        r->len = (u8)(2 * len);
        break;
    default: break;
    }
}
