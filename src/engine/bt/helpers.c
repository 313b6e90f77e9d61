/* helpers.c - what translated code calls C for: the next block, missed accesses, single
 * instructions */
#include <string.h>

#include "engine/bt/gen.h"
#include "engine/bt/lockstep.h"
#include "engine/bt/stop.h"
#include "engine/bt/translate.h"
#include "mem/mem.h"
#include "x86/fpu.h"
#include "x86/mmu.h"

#define DECODED_BITS 10
#define DECODED_SIZE (1u << DECODED_BITS)

struct decoded {
    const struct site *site;
    struct x86_insn insn;
};

/* --- flags and vector registers between C and translated code --------------------------------- */

static void to_c(struct engine_vcpu *v)
{
    v->cpu.s.rflags = native_flags_out(v->cpu.s.rflags, (u16)v->flags);
}

static void from_c(struct engine_vcpu *v)
{
    v->flags = native_flags_in(v->cpu.s.rflags);
}

/* Back to translated code at x: the stack's entry holds only while the TLB's own does. */
static u64 back(struct engine_vcpu *v, const u8 *x)
{
    const struct x86_tlb_entry *e = x86_tlb_at(&v->cpu, v->stack_tag);

    if (e->tag_write != v->stack_tag || e->addend != v->stack_addend)
        bt_forget_stack(v);
    return (u64)(uintptr_t)x;
}

/* Which vector instructions may run natively now: allowed, and with every SIMD exception masked. */
static u32 fp_allowed(const struct engine_vcpu *v)
{
    const struct x86_cpu *cpu = &v->cpu;
    const u32 masks = 0x1f80;
    u32 bits = 0;

    if ((cpu->s.fpu.mxcsr & masks) != masks)
        return 0;
    if (!(cpu->s.cr0 & (CR0_EM | CR0_TS)) && cpu->s.cr4 & CR4_OSFXSR)
        bits |= READY_SSE;
    if (native_host_avx() && !(cpu->s.cr0 & CR0_TS) && cpu->s.cr4 & CR4_OSXSAVE && cpu->prot &&
        (~cpu->s.xcr0 & (XCR0_SSE | XCR0_AVX)) == 0)
        bits |= READY_AVX;
    return bits;
}

/* --- jump caches ------------------------------------------------------------------------------ */

/* The table of the current address space, privilege and mode. */
static bool choose_table(struct engine_vcpu *v)
{
    u32 mode = tb_mode(&v->cpu), epoch = v->vm->cache->epoch;
    unsigned i = v->cpu.s.cpl == 3 ? v->cpu.tlb_ctx : BT_KERNEL_TABLE;
    struct ibtc *t = v->table[i];

    v->mode = mode;
    if (unlikely(epoch != v->epoch)) {
        v->epoch = epoch;
        memset(v->decoded, 0, DECODED_SIZE * sizeof(*v->decoded));
    }
    if (unlikely(!t)) {
        t = v->table[i] =
            ibtc_create(v->vm->cache->npages, cache_x(v->vm->cache, bt_stubs.underflow));
        if (!t)
            return false;
        t->mode = mode;
        t->epoch = epoch;
    }
    if (unlikely(t->mode != mode || t->epoch != epoch ||
                 (t->local && t->ctx != v->cpu.tlb_ctx && i == BT_KERNEL_TABLE))) {
        bt_clear_table(v, t);
        t->mode = mode;
        t->epoch = epoch;
    }
    if (t != v->in_use) {
        if (v->in_use)
            v->in_use->shadow_sp = v->shadow_sp;
        v->shadow_sp = t->shadow_sp;
    }
    v->in_use = t;
    v->base = t->base;
    v->cleared = false;
    v->link_gen = t->gen;
    v->ibtc = t->e;
    v->ibtc_mask = t->mask * (u32)sizeof(struct ibtc_entry);
    return true;
}

/* The page of the block is executed at rip. When this address space has it at another place, too,
 * what was found there is forgotten. */
static void set_base(struct engine_vcpu *v, const struct tb *tb, u64 rip)
{
    struct ibtc *t = v->in_use;
    struct page_base *b = &t->base[tb->page];

    rip &= ~PAGE_MASK;
    if (unlikely(b->gen == t->gen && b->rip != rip))
        bt_clear_table(v, t);
    *b = (struct page_base){rip, t->gen};
}

static bool is_local(struct engine_vcpu *v, u64 lin)
{
    const struct x86_tlb_set *set = x86_tlb_set(&v->cpu, v->cpu.mmu_set);

    return !set->info ||
           !(set->info[lin >> 12 & set->mask / X86_TLB_ENTRY_BYTES] & X86_TLB_INFO_GLOBAL);
}

static void remember(struct engine_vcpu *v, u64 rip, u64 lin, const struct tb *tb, const u8 *host)
{
    struct ibtc *t = v->in_use;
    u64 lin2 = (lin | PAGE_MASK) + 1;

    if (!v->vm->linking)
        return;
    t->ctx = v->cpu.tlb_ctx;
    ibtc_add(t, rip, lin, is_local(v, lin), host);
    if (tb->gpa2 != ~0ull)
        ibtc_add_page(t, lin2, is_local(v, lin2));
    v->ibtc = t->e;
    v->ibtc_mask = t->mask * (u32)sizeof(struct ibtc_entry);
}

/* --- the next block --------------------------------------------------------------------------- */

/* Whether the second page of a block's instruction is the one it was decoded from. */
static int second_page(struct engine_vcpu *v, const struct tb *tb, u64 lin, bool *same)
{
    u64 gpa = 0;
    const u8 *hva;

    *same = true;
    if (likely(tb->gpa2 == ~0ull))
        return X86_OK;
    TRY(x86_lin_fetch(&v->cpu, ((lin | PAGE_MASK) + 1) & v->cpu.lin_mask, &gpa, &hva));
    *same = (gpa & ~PAGE_MASK) == tb->gpa2;
    return X86_OK;
}

static struct tb *find_tb(struct cache *c, u64 gpa, u32 mode)
{
    lock_take(&c->lock);
    struct tb *tb = cache_find_locked(c, gpa, mode);
    lock_drop(&c->lock);
    return tb;
}

/* The block at an offset of the page that block `from` is in, translated if there is none yet.
 * NULL: there is none to be had. */
static struct tb *block_near(struct engine_vcpu *v, u32 from, u64 off, u32 mode)
{
    struct cache *c = v->vm->cache;
    u64 gpa = (c->tbs[from].gpa & ~PAGE_MASK) | off;
    struct tb *tb = find_tb(c, gpa, mode);
    unsigned flags;

    if (tb)
        return tb;
    const u8 *page = mem_page(v->vm->cfg.mem, gpa & ~PAGE_MASK, false, &flags);
    return page && translate(v, gpa, mode, page, &tb) == X86_OK ? tb : NULL;
}

/* X86_OK: *host is the code at RIP. */
static int find_block(struct engine_vcpu *v, const u8 **host)
{
    struct x86_cpu *cpu = &v->cpu;
    struct cache *c = v->vm->cache;
    u64 rip = cpu->s.rip, gpa = 0;
    const u8 *hva = NULL;

    v->stats.ibtc_misses++;
    u64 lin = v->mode & MODE_64 ? rip : (u32)rip;
    TRY(x86_lin_fetch(cpu, lin, &gpa, &hva));
    if (!hva) {
        v->step = true;
        return X86_OK;
    }
    struct tb *tb = find_tb(c, gpa, v->mode);
    if (!tb)
        TRY(translate(v, gpa, v->mode, hva - (gpa & PAGE_MASK), &tb));
    if (unlikely(!tb)) {
        v->step = true;
        return X86_OK;
    }
    bool same;
    TRY(second_page(v, tb, lin, &same));
    if (unlikely(!same)) {
        v->step = true;
        return X86_OK;
    }
    if (c->epoch != v->epoch && !choose_table(v)) {
        v->step = true;
        return X86_OK;
    }
    *host = cache_x(c, tb->entry_saved);
    set_base(v, tb, rip);
    remember(v, rip, lin, tb, *host);
    return X86_OK;
}

/* Delivers cpu->exc. False: leave translated code. */
static bool deliver(struct engine_vcpu *v)
{
    v->stats.faults++;
    v->rc = x86_deliver(&v->cpu);
    return v->rc == X86_OK || v->rc == X86_YIELD;
}

static u64 go_on(struct engine_vcpu *v, bool probe)
{
    struct x86_cpu *cpu = &v->cpu;
    const u8 *host = NULL;

    for (;;) {
        v->rc = X86_OK;
        if (x86_attn(cpu))
            return 0;
        if (unlikely(v->lockstep) && lockstep_leave(v->lockstep))
            return 0;
        v->stats.lookups++;
        if (!choose_table(v)) {
            v->step = true;
            return 0;
        }
        if (!(v->mode & MODE_NATIVE)) {
            v->step = true;
            return 0;
        }
        const struct ibtc_entry *e = ibtc_at(v->in_use, cpu->s.rip);
        if (probe && e->host && e->rip == cpu->s.rip) {
            host = e->host;
            break;
        }
        int rc = find_block(v, &host);
        if (rc == X86_OK && host)
            break;
        if (rc == X86_OK)
            return 0; /* v->step */
        if (!deliver(v))
            return 0;
    }
    from_c(v);
    return back(v, host);
}

u64 bt_next(struct engine_vcpu *v)
{
    if (unlikely(v->lockstep))
        lockstep_stay(v->lockstep);
    return go_on(v, true);
}

static u64 h_next(struct engine_vcpu *v)
{
    to_c(v);
    return go_on(v, true);
}

/* The block that was asked for is dropped: the jump cache may still name it. */
static u64 h_dead(struct engine_vcpu *v)
{
    to_c(v);
    return go_on(v, false);
}

/* --- one instruction by C --------------------------------------------------------------------- */

/* The bytes that the instruction at this offset in a block's page was translated from: offset and
 * length before each, 0xffff at the end. */
static const u8 *insn_bytes(const struct cache *c, const struct tb *tb, unsigned off, unsigned *len)
{
    const u8 *p = cache_x(c, tb->guest);

    for (unsigned at; (at = p[0] | p[1] << 8) <= PAGE_MASK; p += 3 + *len) {
        *len = p[2];
        if (at == off)
            return p + 3;
    }
    return NULL;
}

/* The instruction of a site, as it was translated: memory may hold another one by now. */
static const struct x86_insn *site_insn(struct engine_vcpu *v, const struct site *s)
{
    struct decoded *d = &v->decoded[((uintptr_t)s >> 3) & (DECODED_SIZE - 1)];
    const struct cache *c = v->vm->cache;
    unsigned len;

    if (s->flags & SITE_KEPT)
        return cache_insn(c, s->retry);
    if (d->site == s)
        return &d->insn;
    const u8 *bytes = insn_bytes(c, &c->tbs[s->tb], s->off, &len);
    d->site = NULL;
    if (!bytes || x86_decode(&v->cpu, bytes, len, &d->insn) != X86_OK)
        return NULL;
    d->site = s;
    return &d->insn;
}

/* After an instruction: back behind it when nothing else has changed. */
static u64 finish(struct engine_vcpu *v, const struct site *s, int rc, u64 next)
{
    struct x86_cpu *cpu = &v->cpu;

    if (likely(rc == X86_OK && s->resume && cpu->s.rip == next && !x86_attn(cpu) && !v->cleared)) {
        from_c(v);
        if (s->flags & SITE_FP)
            v->fp_reload = fp_allowed(v);
        return back(v, cache_x(v->vm->cache, s->resume));
    }
    if (rc == X86_FAULT) {
        if (!deliver(v))
            return 0;
    } else if (rc > X86_YIELD) {
        v->rc = rc;
        return 0;
    }
    if (unlikely(v->lockstep) && rc != X86_FAULT && cpu->s.rip == next)
        lockstep_cut(v->lockstep, next);
    return go_on(v, true);
}

static u64 execute(struct engine_vcpu *v, const struct site *s)
{
    struct x86_cpu *cpu = &v->cpu;

    to_c(v);
    cpu->s.rip = rip_at(v, s->tb, s->off);
    const struct x86_insn *in = site_insn(v, s);
    if (unlikely(!in)) {
        v->step = true;
        v->rc = X86_OK;
        return 0;
    }
    u64 next = cpu->s.rip + in->len;
    int rc = x86_exec(cpu, in);
    return finish(v, s, rc, next);
}

static u64 h_generic(struct engine_vcpu *v, const struct site *s)
{
    v->stats.generic++;
    return execute(v, s);
}

/* --- memory accesses that missed -------------------------------------------------------------- */

static bool tlb_hits(const struct x86_cpu *cpu, u64 lin, bool write)
{
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);

    return (write ? e->tag_write : e->tag_read) == (lin & ~PAGE_MASK);
}

/* Goes on at the instruction of the site with every access checked by itself. translate() may
 * evict the block that the site is in: *s is not looked at behind it. */
static u64 without_groups(struct engine_vcpu *v, const struct site *s)
{
    struct cache *c = v->vm->cache;
    u32 epoch = c->epoch;

    v->stats.group_misses++;
    if (unlikely(v->lockstep))
        lockstep_restarted(v->lockstep);
    to_c(v);
    v->cpu.s.rip = rip_at(v, s->tb, s->off);
    struct tb *tb = block_near(v, s->tb, s->off, v->mode | MODE_NO_GROUPS);
    if (!tb || (c->epoch != epoch && !choose_table(v))) {
        v->step = true;
        return 0;
    }
    set_base(v, tb, v->cpu.s.rip);
    return back(v, cache_x(c, tb->entry_saved));
}

/* A hit that still came here is misaligned or crosses pages. */
static u64 h_slow(struct engine_vcpu *v, u64 lin, const struct site *s)
{
    struct x86_cpu *cpu = &v->cpu;
    bool write = s->flags & SITE_WRITE;

    if ((lin & PAGE_MASK) + s->size <= PAGE_BYTES && !tlb_hits(cpu, lin, write) &&
        x86_lin_probe(cpu, lin, s->size, write ? X86_W : X86_R) == X86_OK &&
        tlb_hits(cpu, lin, write)) {
        (&v->stats.tlb_fills_user)[cpu->mmu_set]++; /* in the order of X86_TLB_* */
        /* The walk may have marked a table that lies beside code, this or other. */
        if (unlikely(tb_dead(&v->vm->cache->tbs[s->tb]) || x86_attn(cpu) & X86_ATTN_CODE)) {
            to_c(v);
            cpu->s.rip = rip_at(v, s->tb, s->off);
            return go_on(v, false);
        }
        if (s->flags & SITE_FP)
            v->fp_reload = fp_allowed(v);
        return back(v, cache_x(v->vm->cache, s->retry));
    }
    if (s->flags & SITE_GROUP)
        return without_groups(v, s);
    v->stats.slow_accesses++;
    return execute(v, s);
}

/* --- links and vector registers --------------------------------------------------------------- */

/* To the page of the block that the link is in. */
static u64 link_near(struct engine_vcpu *v, struct link *l)
{
    struct cache *c = v->vm->cache;
    u32 epoch = c->epoch;
    struct tb *tb =
        block_near(v, l->tb, (u64)l->target, v->mode | (l->no_groups ? MODE_NO_GROUPS : 0));

    if (!tb || tb->gpa2 != ~0ull || c->epoch != epoch)
        return go_on(v, true);
    lock_take(&c->lock);
    if (!c->tbs[l->tb].dead)
        cache_link_locked(c, l, tb);
    lock_drop(&c->lock);
    set_base(v, tb, v->cpu.s.rip); /* when this block is dropped, its page may have a new number */
    return back(v, cache_x(c, tb->entry_saved));
}

#define RELINK_AFTER 16

/* The link leads elsewhere now, and other vCPUs may be about to take it. */
static u64 link_far_alone(struct engine_vcpu *v, struct link *l, struct tb *tb, u64 host)
{
    struct cache *c = v->vm->cache;
    u32 epoch = c->epoch;

    bt_stop(v);
    lock_take(&c->lock);
    if (c->epoch == epoch && !c->tbs[l->tb].dead)
        cache_link_far_alone_locked(c, l, tb, v->cpu.s.rip, v->link_gen);
    lock_drop(&c->lock);
    bt_resume(v);
    return c->epoch == epoch ? back(v, (const u8 *)(uintptr_t)host) : go_on(v, true);
}

/* To another page. */
static u64 link_far(struct engine_vcpu *v, struct link *l)
{
    struct cache *c = v->vm->cache;
    u32 epoch = c->epoch, mode = v->mode;
    u64 lin = v->cpu.s.rip, gpa = 0, host = go_on(v, true);
    const u8 *hva;

    v->relink = RELINK_AFTER;

    if (!host || c->epoch != epoch || v->mode != mode || v->cpu.s.rip != lin ||
        x86_lin_fetch(&v->cpu, lin, &gpa, &hva) != X86_OK)
        return host;
    lock_take(&c->lock);
    struct tb *tb = cache_find_locked(c, gpa, mode);
    bool fit = tb && tb->gpa2 == ~0ull && host == (u64)(uintptr_t)cache_x(c, tb->entry_saved) &&
               !c->tbs[l->tb].dead;
    bool done = !fit || cache_link_far_locked(c, l, tb, lin, v->link_gen);
    lock_drop(&c->lock);
    return likely(done) ? host : link_far_alone(v, l, tb, host);
}

static u64 h_link(struct engine_vcpu *v, u64 index)
{
    struct link *l = &v->vm->cache->links[index];

    to_c(v);
    if (!l->rip && !l->returns)
        v->cpu.s.rip = rip_at(v, l->tb, l->target);
    if (x86_attn(&v->cpu) || tb_dead(&v->vm->cache->tbs[l->tb]))
        return go_on(v, false);
    return l->guard ? link_far(v, l) : link_near(v, l);
}

static u64 h_fp(struct engine_vcpu *v, const struct site *s)
{
    u32 allowed = fp_allowed(v);

    if (!(allowed & s->size))
        return h_generic(v, s);
    v->stats.fp_loads++;
    v->fp_reload = allowed;
    return back(v, cache_x(v->vm->cache, s->retry));
}

void bt_set_helpers(struct engine_vcpu *v)
{
    v->h_next = h_next;
    v->h_dead = h_dead;
    v->h_generic = h_generic;
    v->h_slow = h_slow;
    v->h_link = h_link;
    v->h_fp = h_fp;
}

size_t bt_decoded_bytes(void)
{
    return DECODED_SIZE * sizeof(struct decoded);
}
