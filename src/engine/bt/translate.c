/* translate.c - a run of guest instructions into host code: the walk, and the cold parts */
#include "engine/bt/translate.h"

#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"
#include "engine/bt/profile.h"
#include "engine/bt/stop.h"
#include "mem/mem.h"
#include "x86/known.h"
#include "x86/mmu.h"
#include "x86/optable.h"

/* --- decoding --------------------------------------------------------------------------------- */

struct run {
    struct x86_insn insn[BLOCK_INSNS_MAX];
    u16 off[BLOCK_INSNS_MAX];     /* of each in the page */
    bool follow[BLOCK_INSNS_MAX]; /* the next one is where this branch leads */
    bool crossing;                /* behind it comes an instruction that crosses pages */
    unsigned n, bytes;            /* bytes: from the first to the end of the last by address */
    u64 gpa2;
};

bool insn_is_jcc(const struct x86_insn *in)
{
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_JO:
    case ZYDIS_MNEMONIC_JNO:
    case ZYDIS_MNEMONIC_JB:
    case ZYDIS_MNEMONIC_JNB:
    case ZYDIS_MNEMONIC_JZ:
    case ZYDIS_MNEMONIC_JNZ:
    case ZYDIS_MNEMONIC_JBE:
    case ZYDIS_MNEMONIC_JNBE:
    case ZYDIS_MNEMONIC_JS:
    case ZYDIS_MNEMONIC_JNS:
    case ZYDIS_MNEMONIC_JP:
    case ZYDIS_MNEMONIC_JNP:
    case ZYDIS_MNEMONIC_JL:
    case ZYDIS_MNEMONIC_JNL:
    case ZYDIS_MNEMONIC_JLE:
    case ZYDIS_MNEMONIC_JNLE: return true;
    default: return false;
    }
}

/* Where a direct branch leads, as an offset in its page. */
static s64 branch_target(const struct run *r, unsigned i)
{
    return (s64)r->off[i] + r->insn[i].len + (s64)r->insn[i].imm;
}

static bool is_near_jmp(const struct x86_insn *in)
{
    return in->mnemonic == ZYDIS_MNEMONIC_JMP && in->op[0].kind == X86_OPND_IMM &&
           in->fn != x86_op_jmp_far;
}

/* Whether the loop that instruction i closes gets another copy. There are 2, 4, 8 ... of them: what
 * they access together then rarely crosses a page. */
static bool unroll_again(const struct run *r, unsigned i, s64 target)
{
    unsigned head = i, first = 0;

    while (r->off[head] != target)
        if (head-- == 0)
            return false;
    while (r->off[first] != target)
        first++;
    unsigned body = i + 1 - head, copies = (i + 1 - first) / body;
    bool complete = !(copies & (copies - 1));
    return !complete || r->n + copies * body <= BLOCK_INSNS_MAX;
}

/* Follows a branch that ends instruction i if that makes one longer run of it: a loop back to an
 * instruction of the run is unrolled, a jump forward in the page is no branch at all. Never goes
 * below the start: so a way around through blocks always has a link backwards, which looks for
 * attention. */
static bool follow_branch(struct run *r, unsigned i, unsigned max, unsigned *off)
{
    const struct x86_insn *in = &r->insn[i];
    s64 target = branch_target(r, i);
    bool jcc = insn_is_jcc(in);

    if (!(jcc || is_near_jmp(in)) || target < r->off[0] || target >= PAGE_BYTES)
        return false;
    if (target > r->off[i]) {
        if (jcc || i + 1 >= max)
            return false;
    } else {
        if (!jcc || !unroll_again(r, i, target))
            return false;
    }
    r->follow[i] = true;
    *off = (unsigned)target;
    return true;
}

/* Whether the run may go on behind instruction i. */
static bool goes_on(struct run *r, unsigned i, unsigned *exits)
{
    const struct x86_insn *in = &r->insn[i];

    if (!(in->flags & X86_INSN_ENDS_BLOCK) || gen_sys_goes_on(in))
        return true;
    return insn_is_jcc(in) && (*exits)++ < BLOCK_EXITS_MAX;
}

/* Others may write to the bytes meanwhile: what is decoded is a copy. */
static int decode(struct engine_vcpu *v, const u8 *bytes, unsigned len, struct x86_insn *in)
{
    u8 at[X86_INSN_MAX];

    memcpy(at, bytes, MIN(len, X86_INSN_MAX));
    if (len < X86_INSN_MAX)
        return x86_decode(&v->cpu, at, len, in);
    return x86_decode_known(&v->cpu, v->known, v->mode >> MODE_DECODE | BIT(31), at, in);
}

/* Decodes until control leaves, the page ends or there are enough. */
static int decode_run(struct engine_vcpu *v, u64 gpa, const u8 *page, struct run *r)
{
    struct x86_cpu *cpu = &v->cpu;
    unsigned off = gpa & PAGE_MASK, exits = 0, max = v->vm->block_insns, end = off;
    bool unrolled = false;
    u64 at;

    r->n = r->bytes = 0;
    r->gpa2 = ~0ull;
    r->crossing = false;
    while (r->n < (unrolled ? BLOCK_INSNS_MAX : max) && off < PAGE_BYTES) {
        unsigned i = r->n;
        struct x86_insn *in = &r->insn[i];
        int rc = decode(v, page + off, PAGE_BYTES - off, in);
        if (rc == X86_DECODE_MORE) {
            r->crossing = r->n != 0;
            if (r->n)
                return X86_OK;
            rc = x86_fetch(cpu, in, &at, &r->gpa2);
            r->n = rc == X86_OK;
            r->off[0] = (u16)off;
            r->follow[0] = false;
            r->bytes = in->len;
            return rc;
        }
        if (rc != X86_OK)
            return r->n ? X86_OK : rc;
        r->off[i] = (u16)off;
        r->follow[i] = false;
        r->n++;
        off += in->len;
        end = MAX(end, off);
        r->bytes = end - r->off[0];
        if (v->vm->unroll && follow_branch(r, i, max, &off))
            unrolled |= off <= r->off[i];
        else if (!goes_on(r, i, &exits))
            return X86_OK;
    }
    return X86_OK;
}

/* --- where the flags are at the start --------------------------------------------------------- */

enum first_use { USE_NONE, USE_SAVES, USE_READS, USE_OVERWRITES };

/* Whether C may execute the instruction, and then a fault saves the flags. */
static bool may_leave(const struct x86_insn *in)
{
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: return true;
    case ZYDIS_MNEMONIC_LEA: return false;
    default: return x86_insn_has_mem(in) || !insn_writes_known(in);
    }
}

/* What the block does with the flags it is entered with. */
static enum first_use first_use(const struct gen *g, const struct run *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        const struct x86_insn *in = &r->insn[i];
        if (in->kind != X86_KIND_INT || in->flags & X86_INSN_ENDS_BLOCK)
            return insn_is_jcc(in) ? USE_READS : USE_SAVES;
        if (may_leave(in))
            return USE_SAVES;
        if (in->flags_read)
            return USE_READS;
        if (in->flags_write) /* one that keeps some needs them in the host's flags */
            return flags_all_written(in) ? USE_OVERWRITES : USE_READS;
    }
    return USE_NONE;
}

static u32 offset_here(struct gen *g)
{
    return (u32)(g->e.p - g->c->buf.w);
}

static void emit_entries(struct gen *g, const struct run *r)
{
    enum first_use use = first_use(g, r);

    g->tb->entry_native = g->tb->entry_saved = offset_here(g);
    g->fl = FL_NATIVE;
    if (use == USE_SAVES || use == USE_NONE) {
        emit_flags_save(&g->e);
        g->tb->entry_saved = offset_here(g);
        g->fl = FL_SAVED;
    } else if (use == USE_READS) {
        emit_flags_restore(&g->e);
        g->tb->entry_native = offset_here(g);
    }
}

/* --- instructions ----------------------------------------------------------------------------- */

/* C executes the instruction: the hot path loads the site's address and goes to a stub. */
void gen_generic(struct gen *g)
{
    flags_save(g);
    struct cold *c = cold_add(g, COLD_GENERIC, e_lea_rip(&g->e, H_R10));

    c->flags = SITE_KEPT;
    c->in = g->in;
    e_jmp_to(&g->e, g->c->buf.w + bt_stubs.generic);
    g->fp_ok = 0;
    g->fl = FL_BOTH;
    g->recipe.len = 0;
    g->r10_group = -1;
    use_rax(g);
    groups_forget(g);
}

/* C goes on here after it has executed the instruction: with flags both ways. */
static void set_resume(struct gen *g, unsigned first)
{
    for (unsigned i = first; i < g->ncold && !g->ended; i++) {
        struct cold *c = &g->cold[i];
        /* Behind an instruction that C executed whole, what it would have checked is not so. */
        if (c->no_resume || g->led ||
            (c->kind != COLD_SLOW && c->kind != COLD_EXEC && c->kind != COLD_GENERIC))
            continue;
        c->resume = g->e.p;
        g->r10_group = g->rax_home = -1; /* not so there */
    }
}

static void gen_insn(struct gen *g, const struct x86_insn *in)
{
    unsigned first = g->ncold;
    g->led = false;
    u32 fp_ok = g->fp_ok;

    g->in = in;
    g->r10_before = g->r10_group;
    g->r10_group = -1;
    g->rax_before = g->rax_home;
    g->rax_home = -1;
    flags_before(g);
    u8 *start = g->e.p;
    enum fl fl = g->fl;
    struct recipe recipe = g->recipe;
    bool done = in->kind == X86_KIND_VEC
                    ? gen_vec(g)
                    : gen_branch(g) || gen_stack(g) || gen_int(g) || gen_sys(g);
    if (!done) {
        if (g->e.p != start || g->ncold != first) { /* declined half-way: take it back */
            g->e.p = start;
            g->ncold = first;
            g->fl = fl;
            g->recipe = recipe;
            g->fp_ok = fp_ok;
        }
        gen_generic(g);
        if (in->flags & X86_INSN_ENDS_BLOCK)
            g->ended = true; /* the stub finds the next block */
    }
    flags_after(g);
    set_resume(g, first);
}

/* --- the cold parts --------------------------------------------------------------------------- */

static u32 off_or_zero(const struct gen *g, const u8 *p)
{
    return p ? (u32)(p - g->c->buf.w) : 0;
}

/* r10 = the site that follows; to the stub. */
static void emit_site(struct gen *g, const struct cold *c, u32 stub)
{
    struct emit *e = &g->e;
    u8 *lea = c->kind == COLD_GENERIC ? c->from[0] : e_lea_rip(e, H_R10);
    struct site s = {.retry = c->flags & SITE_KEPT ? cache_insn_add_locked(g->c, c->in)
                                                   : off_or_zero(g, c->retry),
                     .resume = off_or_zero(g, c->resume),
                     .off = c->off,
                     .size = c->size,
                     .flags = c->flags,
                     .tb = tb_index(g->c, g->tb)};

    if (c->kind != COLD_GENERIC)
        e_jmp_to(e, g->c->buf.w + stub);
    while ((uintptr_t)e->p & 3)
        e1(e, 0xcc);
    patch_rel32(lea, e->p);
    ebytes(e, &s, sizeof(s));
}

static void emit_slow(struct gen *g, const struct cold *c)
{
    struct emit *e = &g->e;

    if (c->recipe.len) {
        e_store(e, W64, CELL(tmp[2]), H_RAX);
        ebytes(e, c->recipe.code, c->recipe.len);
        emit_flags_save(e);
        e_load(e, W64, H_RAX, CELL(tmp[2]));
    }
    if (c->flags & SITE_GROUP && g->linking) {
        /* The page was right: the range leaves it. */
        e_alu_imm(e, W64, 7, H_RAX, 4095);
        e_align_rel32(e, 2);
        gen_link(g, e_jcc(e, CC_BE), c->off, true)->no_groups = true;
    }
    if (c->stack)
        e_rm(e, W64, 0x33, H_RAX, CELL(stack_tag));
    else if (c->xor_tag)
        e_rm(e, W64, 0x33, H_RAX, base_mem(H_R10, c->flags & SITE_WRITE ? 8 : 0));
    else
        e_lea(e, W64, H_RAX, c->ea);
    emit_site(g, c, c->stack ? bt_stubs.stack : bt_stubs.slow);
}

static void emit_miss(struct gen *g, const struct cold *c)
{
    struct emit *e = &g->e;

    if (c->check) { /* a non-canonical target faults on the instruction itself */
        emit_canonical(e);
        struct cold *exec = cold_add(g, COLD_EXEC, e_jcc(e, CC_NE));
        exec->off = c->off;
    }
    if (c->commit)
        e_lea(e, g->code64 ? W64 : W32, H_SP, base_mem(H_SP, c->rsp_add));
    if (c->to_link && !g->c->links[c->link].rip) {
        gen_leave_to(g, g->c->buf.w + g->c->links[c->link].unlinked);
        return;
    }
    e_store(e, W64, CELL(cpu.s.rip), H_RAX);
    if (c->to_link)
        e_mov_imm32(e, H_R10, c->link);
    gen_leave_to(g, g->c->buf.w + (c->to_link ? bt_stubs.link : bt_stubs.next));
}

static void emit_exec(struct gen *g, const struct cold *c)
{
    if (c->calls) /* it did not come to the CALL */
        e_lea(&g->e, W64, H_RSP, base_mem(H_RSP, 8));
    emit_site(g, c, bt_stubs.generic);
}

static void emit_leave(struct gen *g, s64 target)
{
    lower_page(g, H_R10);
    e_lea(&g->e, g->code64 ? W64 : W32, H_R10, base_mem(H_R10, (s32)target));
    gen_leave_to(g, g->c->buf.w + bt_stubs.dead);
}

static void emit_cold_goto(struct gen *g, const struct cold *c)
{
    if (c->save_flags)
        emit_flags_save(&g->e);
    g->fl = FL_SAVED;
    if (c->kind == COLD_GOTO) {
        gen_goto(g, c->target);
        return;
    }
    gen_probe(g, c->target, c->link);
}

static void emit_link_stub(struct gen *g, const struct cold *c)
{
    g->c->links[c->link].unlinked = offset_here(g);
    if (c->save_flags)
        emit_flags_save(&g->e);
    if (g->c->links[c->link].returns)
        e_store(&g->e, W64, CELL(cpu.s.rip), H_RAX);
    e_mov_imm32(&g->e, H_R10, c->link);
    e_jmp_to(&g->e, g->c->buf.w + bt_stubs.link);
}

static void emit_cold(struct gen *g)
{
    for (unsigned i = 0; i < g->ncold; i++) { /* may grow meanwhile */
        struct cold c = g->cold[i];

        if (c.kind != COLD_GENERIC)
            for (unsigned k = 0; k < c.nfrom; k++)
                patch_rel32(c.from[k], g->e.p);
        g->calls = c.calls;
        switch (c.kind) {
        case COLD_SLOW: emit_slow(g, &c); break;
        case COLD_GENERIC: emit_site(g, &c, 0); break;
        case COLD_EXEC: emit_exec(g, &c); break;
        case COLD_FP: emit_site(g, &c, bt_stubs.fp); break;
        case COLD_LINK: emit_link_stub(g, &c); break;
        case COLD_LEAVE: emit_leave(g, c.target); break;
        case COLD_GOTO:
        case COLD_PROBE: emit_cold_goto(g, &c); break;
        case COLD_INDIRECT: gen_probe_indirect(g, &c); break;
        case COLD_MISS: emit_miss(g, &c); break;
        }
    }
}

/* The instructions as they were translated, for C that executes one (insn_bytes in helpers.c). */
static void emit_guest_bytes(struct gen *g, const struct run *r)
{
    struct emit *e = &g->e;
    int last = -1;

    g->tb->guest = offset_here(g);
    for (unsigned i = 0; i < r->n; i++) {
        if (r->off[i] <= last) /* a copy in an unrolled loop */
            continue;
        last = r->off[i];
        e1(e, r->off[i] & 0xff);
        e1(e, r->off[i] >> 8);
        e1(e, r->insn[i].len);
        ebytes(e, r->insn[i].raw, r->insn[i].len);
    }
    EBYTES(e, "\xff\xff");
}

static void emit_dead(struct gen *g, unsigned off)
{
    g->tb->dead_native = offset_here(g);
    emit_flags_save(&g->e);
    g->tb->dead_saved = offset_here(g);
    emit_leave(g, off);
}

/* --- a block ---------------------------------------------------------------------------------- */

static struct tb *emit_block(struct engine_vcpu *v, u64 gpa, u32 mode, const struct run *r)
{
    struct cache *c = v->vm->cache;
    static _Thread_local struct gen gen;
    struct gen *g = &gen;
    struct tb *tb = cache_begin_locked(c);

    *tb = (struct tb){.gpa = gpa,
                      .gpa2 = r->gpa2 == ~0ull ? ~0ull : r->gpa2 & ~PAGE_MASK,
                      .page = cache_page_locked(c, gpa),
                      .mode = mode,
                      .bytes = (u16)r->bytes,
                      .link_first = tb->link_first};
    g->v = v;
    g->c = c;
    g->tb = tb;
    g->mode = mode;
    g->code64 = mode & MODE_64;
    g->linking = v->vm->linking;
    g->ended = g->calls = false;
    g->fp_ok = 0;
    g->insns = r->insn;
    g->n = r->n;
    g->recipe.len = 0;
    g->r10_group = -1;
    g->rax_home = -1;
    g->ncold = 0;
    const struct cregion *region = &c->region[c->current];
    g->e = (struct emit){
        .p = c->buf.w + region->used, .end = c->buf.w + region->end, .x = c->buf.x - c->buf.w};
    groups_find(g);
    emit_entries(g, r);
    for (unsigned i = 0; i < r->n && !g->ended; i++) {
        g->off = r->off[i];
        g->follow = r->follow[i];
        gen_insn(g, &r->insn[i]);
        g->off += r->insn[i].len;
    }
    if (!g->ended && g->follow)
        gen_goto(g, branch_target(r, r->n - 1));
    g->in = NULL;
    s64 next = g->off;
    g->off = r->off[r->n - 1]; /* it leads forward */
    if (!g->ended && r->crossing)
        gen_goto_ibtc(g, next);
    else if (!g->ended)
        gen_goto(g, next);
    ASSERT(g->e.p < g->e.end);
    u32 start = region->used, end = offset_here(g);
    g->e.p = c->buf.w + region->cold_used;
    g->e.end = c->buf.w + region->cold_end;
    emit_cold(g);
    g->calls = false;
    emit_dead(g, gpa & PAGE_MASK);
    emit_guest_bytes(g, r);
    ASSERT(g->e.p < g->e.end);
    u32 cold_end = offset_here(g);
    c->stats->blocks++;
    c->stats->block_insns += r->n;
    c->stats->hot_bytes += end - start;
    c->stats->cold_bytes += cold_end - region->cold_used;
    if (unlikely(v->vm->perfmap)) {
        perfmap_add(v, tb, start, end);
        perfmap_add(v, tb, region->cold_used, cold_end);
    }
    cache_commit_locked(c, tb, end, cold_end);
    return tb;
}

static bool page_says(struct engine_vcpu *v, u64 gpa, const u8 *bytes, unsigned n)
{
    unsigned flags;
    const u8 *page = mem_page(v->vm->cfg.mem, gpa & ~PAGE_MASK, false, &flags);

    return page && !memcmp(page + (gpa & PAGE_MASK), bytes, n);
}

/* Whether memory still holds what was decoded. Who writes into it from now on reports it, and finds
 * the block or waits for the cache's lock. */
static bool still_so(struct engine_vcpu *v, u64 gpa, const struct run *r)
{
    if (!mem_code_marked(v->vm->cfg.mem, gpa) ||
        (r->gpa2 != ~0ull && !mem_code_marked(v->vm->cfg.mem, r->gpa2)))
        return false;
    for (unsigned i = 0; i < r->n; i++) {
        const struct x86_insn *in = &r->insn[i];
        unsigned first = MIN((unsigned)in->len, PAGE_BYTES - r->off[i]);
        if (!page_says(v, (gpa & ~PAGE_MASK) + r->off[i], in->raw, first))
            return false;
        if (first < in->len &&
            !page_says(v, r->gpa2 & ~PAGE_MASK, in->raw + first, in->len - first))
            return false;
    }
    return true;
}

/* NULL: try again. */
static struct tb *commit(struct engine_vcpu *v, u64 gpa, u32 mode, const struct run *r)
{
    struct cache *c = v->vm->cache;
    struct tb *tb = NULL;

    lock_take(&c->lock);
    if (c->shared)
        tb = cache_find_locked(c, gpa, mode);
    if (!tb && cache_has_room_locked(c) && still_so(v, gpa, r))
        tb = emit_block(v, gpa, mode, r);
    lock_drop(&c->lock);
    return tb;
}

#define TRIES 8

static int translate_now(struct engine_vcpu *v, u64 gpa, u32 mode, const u8 *page, struct tb **out)
{
    static _Thread_local struct run run;

    *out = NULL;
    for (unsigned i = 0; i < TRIES && !*out; i++) {
        bt_make_room(v);
        /* Mark first, then read: a write in between is seen or reported. */
        bt_mark_code(v, gpa & ~PAGE_MASK);
        TRY(decode_run(v, gpa, page, &run));
        if (run.gpa2 != ~0ull)
            bt_mark_code(v, run.gpa2 & ~PAGE_MASK);
        *out = commit(v, gpa, mode, &run);
    }
    return X86_OK;
}

int translate(struct engine_vcpu *v, u64 gpa, u32 mode, const u8 *page, struct tb **out)
{
    if (likely(!v->profile))
        return translate_now(v, gpa, mode, page, out);
    enum doing was = profile_set(v, DOING_TRANSLATE);
    int rc = translate_now(v, gpa, mode, page, out);
    profile_set(v, was);
    return rc;
}
