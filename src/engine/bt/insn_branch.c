/* insn_branch.c - near JMP, Jcc, LOOP, CALL and RET: links, or else the jump cache */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"
#include "x86/optable.h"

/* --- leaving a block -------------------------------------------------------------------------- */

struct link *gen_link(struct gen *g, u8 *field, s64 target, bool flags_saved)
{
    struct cold *c = cold_add(g, COLD_LINK, field);
    struct link *l = cache_link_add_locked(g->c, g->tb);

    l->field = (u32)(field - g->c->buf.w);
    l->target = (s32)target;
    l->flags_saved = flags_saved;
    c->save_flags = !flags_saved;
    c->link = (u32)(l - g->c->links);
    return l;
}

/* The rel32 of a jump, or of the host CALL that stands for the guest's. */
static u8 *leave_by_link(struct gen *g)
{
    return g->calls ? e_call(&g->e) : e_jmp(&g->e);
}

/* Whoever has this page has the target, too. Not so where an instruction may cross into the next
 * page: such a block has no links, but the jump cache knows it. */
static bool in_page(s64 target)
{
    return target >= 0 && target <= PAGE_BYTES - X86_INSN_MAX;
}

/* A loop must notice what other threads ask of this vCPU. Flags are saved. */
static void attention_check(struct gen *g, s64 target)
{
    e_alu_mem_imm(&g->e, W32, 7, CELL(cpu.attn), 0);
    cold_add(g, COLD_LEAVE, e_jcc(&g->e, CC_NE))->target = target;
}

/* What the RET comes to: behind the host's CALL, which was the last instruction. */
static void emit_call_site(struct gen *g)
{
    struct emit *e = &g->e;

    g->call_site = e->p;
    e_rm(e, W64, 0x3b, H_RAX, base_mem(H_RSP, 0));
    e_lea(e, W64, H_RSP, base_mem(H_RSP, 8));
    patch_rel32(e_jcc(e, CC_NE), g->c->buf.w + bt_stubs.returned);
    e_lea(e, W64, H_SP, base_mem(H_SP, 8));
    e_align_rel32(e, 1);
    gen_link(g, e_jmp(e), g->call_end, true)->returns = true;
}

void emit_ibtc_probe(struct emit *e)
{
    e_rr(e, W32, 0x69, H_R10, H_RAX); /* imul r10d, eax, IBTC_FACTOR */
    e4(e, IBTC_FACTOR);
    EBYTES(e, "\x41\xc1\xea"); /* shr r10d, IBTC_SHIFT */
    e1(e, IBTC_SHIFT);
    e_rm(e, W32, 0x23, H_R10, CELL(ibtc_mask)); /* which is in bytes */
    e_rm(e, W64, 0x03, H_R10, CELL(ibtc));
    e_rm(e, W64, 0x3b, H_RAX, base_mem(H_R10, 0));
}

void emit_canonical(struct emit *e)
{
    e_mov(e, W64, H_R10, H_RAX);
    EBYTES(e, "\x49\xc1\xe2\x10\x49\xc1\xfa\x10"); /* shl r10, 16; sar r10, 16 */
    e_rr(e, W64, 0x39, H_RAX, H_R10);
}

struct cold *gen_ibtc(struct gen *g, const struct cold *miss)
{
    struct emit *e = &g->e;
    struct cold *c = cold_add(g, COLD_MISS, NULL);

    if (miss) {
        c->commit = miss->commit;
        c->check = miss->check;
        c->rsp_add = miss->rsp_add;
        c->to_link = miss->to_link;
        c->link = miss->link;
    }
    e_alu_mem_imm(e, W32, 7, CELL(cpu.attn), 0);
    c->from[c->nfrom++] = e_jcc(e, CC_NE);
    emit_ibtc_probe(e);
    c->from[c->nfrom++] = e_jcc(e, CC_NE);
    if (miss && miss->commit)
        e_lea(e, g->code64 ? W64 : W32, H_SP, base_mem(H_SP, miss->rsp_add));
    if (g->calls) {
        e_call_mem(e, base_mem(H_R10, 8));
        emit_call_site(g);
    } else {
        e_jmp_mem(e, base_mem(H_R10, 8));
    }
    return c;
}

/* rax = page + target. */
static void load_rip(struct gen *g, s64 target)
{
    lower_page(g, H_RAX);
    e_lea(&g->e, g->code64 ? W64 : W32, H_RAX, base_mem(H_RAX, (s32)target));
}

void gen_goto_ibtc(struct gen *g, s64 target)
{
    g->ended = true;
    flags_save(g);
    load_rip(g, target);
    gen_ibtc(g, NULL);
}

/* A link to another page, behind a look at link_gen. */
static void goto_far(struct gen *g, s64 target)
{
    struct emit *e = &g->e;

    g->ended = true;
    flags_save(g);
    if (target <= (s64)g->off)
        attention_check(g, target);
    e_align_rel32(e, 8);
    e_rm(e, W32, 0x81, 7, CELL(link_gen)); /* cmp dword gs:[link_gen], imm32 */
    u8 *guard = e->p;
    e4(e, 0);
    e_align_rel32(e, 2);
    u8 *differs = e_jcc(e, CC_NE);
    e_align_rel32(e, 1);
    u8 *field = leave_by_link(g);
    struct link *l = gen_link(g, field, target, true);
    l->guard = (u32)(guard - g->c->buf.w);
    struct cold *probe = cold_add(g, COLD_PROBE, differs);
    probe->target = target;
    probe->link = (u32)(l - g->c->links);
}

/* Where the guard fails: one time in so many C makes the link anew, else the cache serves it. */
void gen_probe(struct gen *g, s64 target, u32 link)
{
    struct cold miss = {.to_link = true, .link = link};

    e_alu_mem_imm(&g->e, W32, 5, CELL(relink), 1);
    u8 *over = e_jcc(&g->e, CC_NS);
    gen_leave_to(g, g->c->buf.w + g->c->links[link].unlinked);
    patch_rel32(over, g->e.p);
    load_rip(g, target);
    gen_ibtc(g, &miss);
}

/* To the RIP in rax, by a link for the one it had last. Flags are saved; as `miss` says. */
static void goto_indirect(struct gen *g, const struct cold *miss)
{
    struct emit *e = &g->e;
    struct cold *probe = cold_add(g, COLD_INDIRECT, NULL);

    probe->commit = miss->commit;
    probe->check = miss->check;
    probe->rsp_add = miss->rsp_add;
    e_align_rel32(e, 8);
    e_rm(e, W32, 0x81, 7, CELL(link_gen)); /* cmp dword gs:[link_gen], imm32 */
    u8 *guard = e->p;
    e4(e, 0);
    probe->from[probe->nfrom++] = e_jcc(e, CC_NE);
    EBYTES(e, "\x49\xba"); /* mov r10, imm64 */
    u8 *rip = e->p;
    e8(e, 0);
    e_rr(e, W64, 0x39, H_R10, H_RAX);
    probe->from[probe->nfrom++] = e_jcc(e, CC_NE);
    e_alu_mem_imm(e, W32, 7, CELL(cpu.attn), 0);
    probe->from[probe->nfrom++] = e_jcc(e, CC_NE);
    if (miss->commit)
        e_lea(e, W64, H_SP, base_mem(H_SP, miss->rsp_add));
    e_align_rel32(e, 1);
    u8 *field = leave_by_link(g);
    struct link *l = cache_link_add_locked(g->c, g->tb);
    l->field = (u32)(field - g->c->buf.w);
    l->guard = (u32)(guard - g->c->buf.w);
    l->rip = (u32)(rip - g->c->buf.w);
    l->flags_saved = true;
    probe->link = (u32)(l - g->c->links);
    g->ended = true;
}

void gen_probe_indirect(struct gen *g, const struct cold *c)
{
    struct emit *e = &g->e;
    struct cold miss = *c;

    miss.to_link = true;
    e_alu_mem_imm(e, W32, 5, CELL(relink), 1);
    e_align_rel32(e, 2);
    u8 *remake = e_jcc(e, CC_S);
    g->c->links[c->link].remake = (u32)(remake - g->c->buf.w);
    struct cold *to = gen_ibtc(g, &miss);
    to->off = c->off;
    to->from[to->nfrom++] = remake;
}

void gen_goto(struct gen *g, s64 target)
{
    if (!g->linking) {
        gen_goto_ibtc(g, target);
        return;
    }
    if (!in_page(target)) {
        if (g->code64)
            goto_far(g, target);
        else
            gen_goto_ibtc(g, target);
        return;
    }
    g->ended = true;
    if (target <= (s64)g->off) {
        flags_save(g);
        attention_check(g, target);
    }
    if (g->fl == FL_RECIPE)
        flags_need(g);
    e_align_rel32(&g->e, 1);
    bool saved = g->fl != FL_NATIVE;
    gen_link(g, leave_by_link(g), target, saved);
}

/* To target if condition cc holds; the host's flags are valid. */
static void goto_if(struct gen *g, unsigned cc, s64 target)
{
    enum fl fl = g->fl;

    if (in_page(target) && target > (s64)g->off && g->linking) {
        e_align_rel32(&g->e, 2);
        gen_link(g, e_jcc(&g->e, cc), target, fl != FL_NATIVE);
        return;
    }
    if (!in_page(target) || !g->linking) {
        struct cold *c = cold_add(g, COLD_GOTO, e_jcc(&g->e, cc));
        c->target = target;
        c->save_flags = fl == FL_NATIVE;
        return;
    }
    u8 *over = e_jcc(&g->e, cc ^ 1);
    gen_goto(g, target);
    g->ended = false;
    patch_rel32(over, g->e.p);
    g->fl = fl;
}

/* --- instructions ----------------------------------------------------------------------------- */

static unsigned slot_bytes(const struct gen *g)
{
    return g->code64 ? 8 : 4;
}

static bool stack_flat(const struct gen *g)
{
    return g->code64 || (g->mode & MODE_STACK32 && g->mode >> (MODE_SEG_FAST + X86_SS) & 1);
}

/* Relative to the page. In 64-bit code a target may be non-canonical only across the hole in the
 * middle, where no page is mapped executable on both sides; C finds that. */
static s64 relative_target(const struct gen *g)
{
    return (s64)g->off + g->in->len + (s64)g->in->imm;
}

static bool gen_jcc(struct gen *g, unsigned cc)
{
    s64 target = relative_target(g);

    if (!fits32(target))
        return false;
    flags_need(g);
    if (g->follow)
        goto_if(g, cc ^ 1, (s64)g->off + g->in->len);
    else
        goto_if(g, cc, target);
    g->r10_group = g->r10_before;
    g->rax_home = g->rax_before;
    return true;
}

static bool gen_loop(struct gen *g)
{
    const struct x86_insn *in = g->in;
    struct emit *e = &g->e;
    unsigned w = in->asize == 8 ? W64 : W32;

    if (in->asize == 2 || !fits32(relative_target(g)))
        return false;
    flags_save(g);
    if (in->mnemonic == ZYDIS_MNEMONIC_LOOP)
        e_lea(e, w, H_RCX, base_mem(H_RCX, -1));
    e_rr(e, w, 0x85, H_RCX, H_RCX);
    goto_if(g, in->mnemonic == ZYDIS_MNEMONIC_LOOP ? CC_NE : CC_E, relative_target(g));
    return true;
}

/* Whether CALL and RET use the shadow stack. Code behind a CALL at a page's end is left to the jump
 * cache. */
static bool has_shadow(const struct gen *g)
{
    return g->code64 && g->linking && in_page((s64)g->off + g->in->len);
}

/* The return address, which is in g->spare, on the shadow stack, too. From here on the block is
 * left by host CALLs. */
static void push_shadow(struct gen *g)
{
    e_rr(&g->e, W64, 0x81, 1, H_RSP); /* or rsp, SHADOW_BYTES */
    e4(&g->e, SHADOW_BYTES);
    e_push(&g->e, g->spare);
    g->calls = true;
    g->call_end = (u16)(g->off + g->in->len);
}

void gen_leave_to(struct gen *g, const u8 *to)
{
    if (g->calls) {
        patch_rel32(e_call(&g->e), to);
        to = g->call_site;
    }
    e_jmp_to(&g->e, to);
}

/* Pushes the return address. The stack pointer moves later. */
static void push_return(struct gen *g)
{
    unsigned n = slot_bytes(g), w = g->code64 ? W64 : W32;
    struct hmem m = lower_stack(g, X86_RSP, -(s32)n, n, LOW_WRITE);

    lower_page(g, g->spare);
    e_lea(&g->e, w, g->spare, base_mem(g->spare, (s32)(g->off + g->in->len)));
    e_store(&g->e, w, m, g->spare);
    if (has_shadow(g))
        push_shadow(g);
}

/* rax = target of an indirect jump or call. */
static bool load_target(struct gen *g)
{
    const struct x86_operand *o = &g->in->op[0];
    unsigned w = g->code64 ? W64 : W32;

    flags_save(g); /* gen_ibtc wants them in memory, not in a recipe */
    if (o->kind == X86_OPND_MEM) {
        if (!lower_can(g))
            return false;
        e_load(&g->e, w, H_RAX, lower_mem(g, slot_bytes(g), 1, 0));
    } else if (host_reg(o->reg) == H_NONE) {
        e_load(&g->e, w, H_RAX, cell(GPR_OFF(o->reg)));
    } else {
        e_mov(&g->e, w, H_RAX, host_reg(o->reg));
    }
    return true;
}

/* Behind the host CALL that a guest's has become, if it did. */
static void end_call(struct gen *g)
{
    if (g->calls)
        emit_call_site(g);
    g->calls = false;
}

static bool gen_call(struct gen *g)
{
    struct cold commit = {.commit = true, .check = g->code64, .rsp_add = -(s32)slot_bytes(g)};

    if (!stack_flat(g))
        return false;
    if (g->in->op[0].kind == X86_OPND_IMM) {
        if (!fits32(relative_target(g)))
            return false;
        if (has_shadow(g))
            flags_save(g);
        push_return(g);
        e_lea(&g->e, g->code64 ? W64 : W32, H_SP, base_mem(H_SP, commit.rsp_add));
        gen_goto(g, relative_target(g));
        end_call(g);
        return true;
    }
    if (!load_target(g))
        return false;
    e_store(&g->e, W64, CELL(tmp[1]), H_RAX);
    push_return(g);
    e_load(&g->e, W64, H_RAX, CELL(tmp[1]));
    if (g->linking && g->code64)
        goto_indirect(g, &commit);
    else
        gen_ibtc(g, &commit);
    end_call(g);
    g->ended = true;
    return true;
}

static bool gen_jmp(struct gen *g)
{
    struct cold commit = {.check = g->code64};

    if (g->in->op[0].kind == X86_OPND_IMM) {
        if (!fits32(relative_target(g)))
            return false;
        if (!g->follow)
            gen_goto(g, relative_target(g));
        g->r10_group = g->r10_before;
        g->rax_home = g->rax_before;
        return true;
    }
    if (!load_target(g))
        return false;
    /* One that looks its target up in a table has many. */
    if (g->linking && g->code64 && g->in->op[0].kind == X86_OPND_MEM &&
        g->in->index == X86_REG_NONE)
        goto_indirect(g, &commit);
    else
        gen_ibtc(g, &commit);
    g->ended = true;
    return true;
}

static bool gen_ret(struct gen *g)
{
    unsigned n = slot_bytes(g);
    struct cold commit = {.commit = true, .check = g->code64, .rsp_add = (s32)n};

    if (!stack_flat(g))
        return false;
    if (g->in->nops)
        commit.rsp_add += (u16)g->in->imm;
    flags_save(g);
    struct hmem m = lower_stack(g, X86_RSP, 0, n, 0);
    e_load(&g->e, g->code64 ? W64 : W32, H_RAX, m);
    if (g->code64 && g->linking && !g->in->nops) {
        cold_add(g, COLD_GENERIC, e_lea_rip(&g->e, H_R10));
        e1(&g->e, 0xc3);
    } else {
        gen_ibtc(g, &commit);
    }
    g->ended = true;
    return true;
}

bool gen_branch(struct gen *g)
{
    const struct x86_insn *in = g->in;

    if (in->opsize != slot_bytes(g) || in->kind != X86_KIND_INT)
        return false;
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_JO: return gen_jcc(g, 0);
    case ZYDIS_MNEMONIC_JNO: return gen_jcc(g, 1);
    case ZYDIS_MNEMONIC_JB: return gen_jcc(g, 2);
    case ZYDIS_MNEMONIC_JNB: return gen_jcc(g, 3);
    case ZYDIS_MNEMONIC_JZ: return gen_jcc(g, 4);
    case ZYDIS_MNEMONIC_JNZ: return gen_jcc(g, 5);
    case ZYDIS_MNEMONIC_JBE: return gen_jcc(g, 6);
    case ZYDIS_MNEMONIC_JNBE: return gen_jcc(g, 7);
    case ZYDIS_MNEMONIC_JS: return gen_jcc(g, 8);
    case ZYDIS_MNEMONIC_JNS: return gen_jcc(g, 9);
    case ZYDIS_MNEMONIC_JP: return gen_jcc(g, 10);
    case ZYDIS_MNEMONIC_JNP: return gen_jcc(g, 11);
    case ZYDIS_MNEMONIC_JL: return gen_jcc(g, 12);
    case ZYDIS_MNEMONIC_JNL: return gen_jcc(g, 13);
    case ZYDIS_MNEMONIC_JLE: return gen_jcc(g, 14);
    case ZYDIS_MNEMONIC_JNLE: return gen_jcc(g, 15);
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_LOOP: return gen_loop(g);
    case ZYDIS_MNEMONIC_JMP: return in->fn != x86_op_jmp_far && gen_jmp(g);
    case ZYDIS_MNEMONIC_CALL: return in->fn != x86_op_call_far && gen_call(g);
    case ZYDIS_MNEMONIC_RET: return in->fn != x86_op_ret_far && gen_ret(g);
    default: return false;
    }
}
