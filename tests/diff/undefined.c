/* undefined.c - looks undefined results up in undefined.def */
#include "undefined.h"

enum when { ALWAYS, COUNT_NZ, COUNT_GT1, COUNT_GE };

#define CF RFLAGS_CF
#define PF RFLAGS_PF
#define AF RFLAGS_AF
#define ZF RFLAGS_ZF
#define SF RFLAGS_SF
#define OF RFLAGS_OF

static const struct row {
    u16 mnemonic;
    u8 when;
    u32 flags;
    const char *source;
} rows[] = {
#define UNDEFINED(mnem, flags, when, source) {ZYDIS_MNEMONIC_##mnem, when, flags, source},
#include "undefined.def"
#undef UNDEFINED
};

/* The count of a shift: the immediate or CL, or 1; masked as the processor does. */
static unsigned count_of(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                         const struct x86_state *s)
{
    const ZydisDecodedOperand *c = &ops[z->operand_count_visible - 1];
    u64 count = 1;

    if (c->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        count = c->imm.value.u;
    else if (c->type == ZYDIS_OPERAND_TYPE_REGISTER && c->reg.value == ZYDIS_REGISTER_CL)
        count = s->gpr[X86_RCX];
    return count & (ops[0].size == 64 ? 63 : 31);
}

struct undefined undefined_by(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                              const struct x86_state *s)
{
    struct undefined u = {0};

    if (z->operand_count_visible && z->meta.category != ZYDIS_CATEGORY_AVX)
        u.count = count_of(z, ops, s);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].mnemonic != z->mnemonic)
            continue;
        bool hit = true;
        switch (rows[i].when) {
        case COUNT_NZ: hit = u.count; break;
        case COUNT_GT1: hit = u.count > 1; break;
        case COUNT_GE: hit = u.count >= ops[0].size; break;
        }
        if (hit)
            u.flags |= rows[i].flags;
    }
    /* SDM vol. 2 SHLD, SHRD: a count above the operand size leaves destination and flags
     * undefined. */
    if ((z->mnemonic == ZYDIS_MNEMONIC_SHLD || z->mnemonic == ZYDIS_MNEMONIC_SHRD) &&
        u.count > ops[0].size) {
        u.result = true;
        u.flags |= CF | PF | AF | ZF | SF | OF;
    }
    return u;
}
