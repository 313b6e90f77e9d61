/* insn_int.c - integer and vector instructions: copied with their operands replaced */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"

static const struct x86_operand *mem_operand(const struct x86_insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->op[i].kind == X86_OPND_MEM)
            return &in->op[i];
    return NULL;
}

/* --- flags ------------------------------------------------------------------------------------ */

/* Whether the instruction needs the flags that are there before it: it reads some, or leaves some
 * that will be looked at. */
static bool needs_flags(const struct gen *g)
{
    const struct x86_insn *in = g->in;

    return in->flags_read || (in->flags_write && !flags_all_written(in) && !flags_dead(g));
}

/* --- copies ----------------------------------------------------------------------------------- */

/* Lowers the memory operand if there is one, brings the flags where they are wanted, and copies. */
static bool gen_copy(struct gen *g, unsigned align)
{
    const struct x86_insn *in = g->in;
    const struct x86_operand *mo = mem_operand(in);
    bool flags = needs_flags(g);
    struct hmem m;

    if (!copy_possible(g, mo != NULL) || (mo && !lower_can(g)))
        return false;
    if (mo) {
        unsigned how = (mo->access & X86_OPND_WRITE ? LOW_WRITE : 0) |
                       (flags || copy_wants_rax(in) ? LOW_RAX_FREE : 0);
        m = lower_mem(g, mo->size, align, how);
    }
    else
        g->r10_group = copy_keeps_r10(g) ? g->r10_before : -1;
    g->rax_home = g->rax_before;
    if (flags)
        flags_need(g);
    const u8 *code = here(g);
    if (!copy_insn(g, mo ? &m : NULL))
        return false;
    if (in->flags_write) {
        g->fl = FL_NATIVE;
        flags_recipe(g, code);
    }
    return true;
}

/* BT, BTS, BTR, BTC with a register on memory: a bit string that may reach far. */
static bool gen_bit_string(struct gen *g)
{
    const struct x86_insn *in = g->in;
    struct emit *e = &g->e;
    unsigned size = in->op[0].size, from = host_reg(in->op[1].reg), w = size == 8 ? W64 : W32;

    if (size == 2 || !lower_can(g))
        return false;
    struct hmem m = lower_bits(g, in->op[1].reg, size,
                               in->mnemonic == ZYDIS_MNEMONIC_BT ? 0 : LOW_WRITE);
    if (from == H_NONE)
        e_load(e, W32, H_RAX, cell(GPR_OFF(in->op[1].reg)));
    else
        e_mov(e, W32, H_RAX, from);
    e_alu_imm(e, W32, 4, H_RAX, (s32)size * 8 - 1);
    e_store(e, W64, CELL(tmp[1]), H_RAX);
    flags_need(g); /* only CF changes */
    e_load(e, W64, H_RAX, CELL(tmp[1]));
    if (in->prefix & X86_PFX_LOCK)
        e1(e, 0xf0);
    e1(e, 0x40 | w | rex_bits(H_RAX, &m));
    e1(e, 0x0f);
    e1(e, in->raw[in->modrm_off - 1]);
    e_modrm_mem(e, H_RAX, &m);
    flags_are_native(g);
    return true;
}

static bool gen_bit_test(struct gen *g)
{
    const struct x86_insn *in = g->in;

    if (in->op[0].kind == X86_OPND_MEM && in->op[1].kind == X86_OPND_REG)
        return gen_bit_string(g);
    return gen_copy(g, 1);
}

/* LEA. The address registers may be the destination. */
static bool gen_lea(struct gen *g)
{
    const struct x86_insn *in = g->in;
    const struct x86_operand *o = &in->op[0];
    unsigned to = host_reg(o->reg);

    if (in->asize == 2 || o->size == 2 || !fits32(in->disp) || !fits32(in->disp + 8192) ||
        !fits32(in->disp - 8192))
        return false;
    unsigned reg = to == H_NONE ? H_RAX : to;
    lower_ea(g, reg, o->size);
    if (to == H_NONE)
        e_store(&g->e, W64, cell(GPR_OFF(o->reg)), H_RAX);
    return true;
}

/* --- rax implied ------------------------------------------------------------------------------ */

/* CBW to CQO: sign extensions of rax. */
static bool gen_extend(struct gen *g)
{
    struct emit *e = &g->e;

    switch (g->in->mnemonic) {
    case ZYDIS_MNEMONIC_CBW: EBYTES(e, "\x66\x45\x0f\xbe\xdb"); return true; /* movsx r11w, r11b */
    case ZYDIS_MNEMONIC_CWDE: EBYTES(e, "\x45\x0f\xbf\xdb"); return true; /* movsx r11d, r11w */
    case ZYDIS_MNEMONIC_CDQE: EBYTES(e, "\x4d\x63\xdb"); return true;     /* movsxd r11, r11d */
    default: break;
    }
    e_mov(e, W64, H_RAX, H_R11);
    switch (g->in->mnemonic) {
    case ZYDIS_MNEMONIC_CWD: EBYTES(e, "\x66\x99"); break;
    case ZYDIS_MNEMONIC_CDQ: e1(e, 0x99); break;
    default: EBYTES(e, "\x48\x99"); break;
    }
    return true;
}

/* The operand of MUL or DIV in r10. */
static bool load_operand(struct gen *g)
{
    const struct x86_insn *in = g->in;
    const struct x86_operand *o = &in->op[0];
    unsigned w = o->size == 8 ? W64 : W32;

    if (o->kind == X86_OPND_MEM) {
        if (!lower_can(g))
            return false;
        e_load(&g->e, w, H_R10, lower_mem(g, o->size, 1, 0));
        g->r10_group = -1;
    } else if (host_reg(o->reg) == H_NONE) {
        e_load(&g->e, w, H_R10, cell(GPR_OFF(o->reg)));
    } else {
        e_mov(&g->e, w, H_R10, host_reg(o->reg));
    }
    return true;
}

static bool gen_mul(struct gen *g)
{
    const struct x86_insn *in = g->in;
    struct emit *e = &g->e;

    if (in->mnemonic == ZYDIS_MNEMONIC_IMUL && in->op[1].kind != X86_OPND_NONE && in->nops > 1)
        return gen_copy(g, 1);
    if (in->op[0].size < 4 || !load_operand(g))
        return false;
    e_mov(e, W64, H_RAX, H_R11);
    e_rr(e, in->op[0].size == 8 ? W64 : W32, 0xf7,
         in->mnemonic == ZYDIS_MNEMONIC_IMUL ? 5 : 4, H_R10);
    e_mov(e, W64, H_R11, H_RAX);
    flags_are_native(g);
    return true;
}

/* Divisions that could fault on the host go to C. The flags are undefined: they stay. */
static bool gen_div(struct gen *g)
{
    const struct x86_insn *in = g->in;
    struct emit *e = &g->e;
    unsigned w = in->op[0].size == 8 ? W64 : W32;

    if (in->op[0].size < 4)
        return false;
    flags_save(g);
    if (!load_operand(g))
        return false;
    if (in->mnemonic == ZYDIS_MNEMONIC_DIV) {
        e_rr(e, w, 0x39, H_R10, H_RDX); /* cmp rdx, r10: the quotient overflows unless below */
        cold_add(g, COLD_EXEC, e_jcc(e, CC_AE));
        e_mov(e, W64, H_RAX, H_R11);
        e_rr(e, w, 0xf7, 6, H_R10);
    } else {
        e_lea(e, w, H_RAX, base_mem(H_R10, 1));
        e_alu_imm(e, w, 7, H_RAX, 1); /* divisor 0 or -1 */
        cold_add(g, COLD_EXEC, e_jcc(e, CC_BE));
        e_mov(e, w, H_RAX, H_R11);
        e_rr(e, w, 0xc1, 7, H_RAX); /* sar eax, 31 */
        e1(e, w ? 63 : 31);
        e_rr(e, w, 0x39, H_RDX, H_RAX); /* the dividend is one register, sign-extended */
        cold_add(g, COLD_EXEC, e_jcc(e, CC_NE));
        e_mov(e, W64, H_RAX, H_R11);
        e_rr(e, w, 0xf7, 7, H_R10);
    }
    e_mov(e, W64, H_R11, H_RAX);
    return true;
}

/* CMPXCHG and its wide forms: rax in its own place for the moment. */
static bool gen_cmpxchg(struct gen *g)
{
    const struct x86_insn *in = g->in;
    struct emit *e = &g->e;
    bool wide = in->mnemonic != ZYDIS_MNEMONIC_CMPXCHG;
    unsigned size = in->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B  ? 16
                    : in->mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B ? 8
                                                               : in->op[0].size;
    struct hmem m;

    if (in->op[0].kind != X86_OPND_MEM || !lower_can(g))
        return false;
    if (!wide && (in->op[1].high || host_reg(in->op[1].reg) == H_NONE || in->op[1].reg == X86_RAX))
        return false;
    m = lower_mem(g, size, size == 16 ? 16 : 1, LOW_WRITE | LOW_RAX_FREE);
    if (wide)
        flags_need(g); /* only ZF changes */
    e_mov(e, W64, H_RAX, H_R11);
    if (!copy_insn(g, &m))
        return false;
    e_mov(e, W64, H_R11, H_RAX);
    flags_are_native(g);
    return true;
}

/* CLC, STC, CMC. */
static bool gen_carry(struct gen *g)
{
    flags_need(g);
    e1(&g->e, g->in->raw[g->in->len - 1]);
    flags_are_native(g);
    return true;
}

/* --- vector registers ----------------------------------------------------------------------- */

/* Behind it the vector registers hold the guest's. */
static void need_vectors(struct gen *g, u32 need)
{
    if (g->fp_ok & need)
        return;
    flags_save(g);
    u8 *retry = here(g);
    e_rm(&g->e, W32, 0xf7, 0, CELL(fp_ready)); /* test dword gs:[fp_ready], need */
    e4(&g->e, need);
    struct cold *c = cold_add(g, COLD_FP, e_jcc(&g->e, CC_E));
    c->retry = retry;
    c->size = (u8)need;
    g->r10_before = -1;
    use_rax(g);
    g->fp_ok |= need;
}

/* VZEROUPPER and VZEROALL: outside 64-bit mode they leave registers 8 to 15 alone. */
static bool gen_vzero(struct gen *g)
{
    if (!g->code64)
        return false;
    need_vectors(g, READY_AVX);
    EBYTES(&g->e, "\xc5");
    e1(&g->e, g->in->mnemonic == ZYDIS_MNEMONIC_VZEROALL ? 0xfc : 0xf8);
    e1(&g->e, 0x77);
    return true;
}

/* --- choice ----------------------------------------------------------------------------------- */

bool gen_int(struct gen *g)
{
    const struct x86_insn *in = g->in;

    if (in->kind != X86_KIND_INT) /* what always faults too */
        return false;
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_SERIALIZE: return true; /* changed code is always seen */
    case ZYDIS_MNEMONIC_PAUSE: EBYTES(&g->e, "\xf3\x90"); return true;
    case ZYDIS_MNEMONIC_LFENCE: EBYTES(&g->e, "\x0f\xae\xe8"); return true;
    case ZYDIS_MNEMONIC_MFENCE: EBYTES(&g->e, "\x0f\xae\xf0"); return true;
    case ZYDIS_MNEMONIC_SFENCE: EBYTES(&g->e, "\x0f\xae\xf8"); return true;
    case ZYDIS_MNEMONIC_LEA: return gen_lea(g);
    case ZYDIS_MNEMONIC_VZEROUPPER:
    case ZYDIS_MNEMONIC_VZEROALL: return gen_vzero(g);
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC: return gen_bit_test(g);
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO: return gen_extend(g);
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL: return gen_mul(g);
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: return gen_div(g);
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B: return gen_cmpxchg(g);
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_CMC: return gen_carry(g);
#define COPY(name) case ZYDIS_MNEMONIC_##name:
#include "engine/bt/copy.def"
#undef COPY
        return gen_copy(g, 1);
    default: return false;
    }
}

bool gen_vec(struct gen *g)
{
    const struct x86_insn *in = g->in;
    unsigned need = in->prefix & X86_PFX_VEX ? READY_AVX : READY_SSE;
    const struct x86_operand *mo = mem_operand(in);

    switch (in->mnemonic) { /* these touch memory by parts */
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: return false;
    default: break;
    }
    if (!copy_possible(g, mo != NULL) || (mo && !lower_can(g)) || !in->modrm_off)
        return false;
    need_vectors(g, need);
    return gen_copy(g, in->mem_align);
}
