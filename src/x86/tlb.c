/* tlb.c - the software TLB: filling and every way of invalidating (SDM vol. 3 4.10) */
#include <stdlib.h>
#include <string.h>

#include "base/bloom.h"
#include "x86/debug.h"
#include "x86/mmu.h"

#define INFO_GLOBAL     X86_TLB_INFO_GLOBAL
#define INFO_LISTED(l)  (BIT64(1) << (l)) /* l: X86_TLB_LOCAL, X86_TLB_GLOBAL */
#define INFO_LISTED_ANY (INFO_LISTED(X86_TLB_LOCAL) | INFO_LISTED(X86_TLB_GLOBAL))

/* A set in which this many flushes in a row found less than a 16th full is halved. */
#define SPARSE_FLUSHES 16

/* --- entries ---------------------------------------------------------------------------------- */

static void entry_clear(struct x86_tlb_entry *e)
{
    e->tag_read = e->tag_write = e->tag_exec = x86_tlb_none(e);
}

static bool entry_is(const struct x86_tlb_entry *e, u64 page)
{
    return e->tag_read == page || e->tag_write == page || e->tag_exec == page;
}

static bool entry_used(const struct x86_tlb_entry *e)
{
    return !x86_tlb_is_none(e->tag_read & e->tag_write & e->tag_exec);
}

static u64 entry_page(const struct x86_tlb_entry *e)
{
    return !x86_tlb_is_none(e->tag_read)    ? e->tag_read
           : !x86_tlb_is_none(e->tag_write) ? e->tag_write
                                            : e->tag_exec;
}

/* --- bitmaps ---------------------------------------------------------------------------------- */

/* Regions of these sizes stand for the pages in them: 4 KiB; 2 and 4 MiB; 1 GiB. */
static const u8 region_shifts[] = {12, 22, 30};

static unsigned region_shift(unsigned page_shift)
{
    return page_shift == 21 ? 22 : page_shift;
}

/* Hardly any other region passes for one that was added: an INVLPG that is taken for one of a large
 * page costs the jump caches. */
static u64 region_key(u64 lin, unsigned shift)
{
    return (lin >> shift) + shift;
}

static void seen_add(u64 *map, unsigned bits, u64 lin, unsigned page_shift)
{
    bloom_add(map, bits, region_key(lin, region_shift(page_shift)));
}

/* Whether a page of any size around lin may have been added, or only a large one. */
static bool seen(const u64 *map, unsigned bits, u64 lin, bool large_only)
{
    for (unsigned i = large_only; i < ARRAY_SIZE(region_shifts); i++)
        if (bloom_has(map, bits, region_key(lin, region_shifts[i])))
            return true;
    return false;
}

static unsigned written_bit(u64 gpa)
{
    return (gpa >> 12 ^ gpa >> 28) & (X86_TLB_WRITTEN_BITS - 1);
}

static void written_add(struct x86_tlb *t, u64 gpa)
{
    unsigned bit = written_bit(gpa);

    t->written[bit / 64] |= BIT64(bit % 64);
}

/* --- one set: storage ------------------------------------------------------------------------- */

static unsigned set_entries(const struct x86_tlb_set *s)
{
    return s->mask / X86_TLB_ENTRY_BYTES + 1;
}

static u64 set_info(const struct x86_tlb_set *s, u64 lin)
{
    return s->info[lin >> 12 & (set_entries(s) - 1)];
}

static void set_init(struct x86_tlb_set *s, struct x86_tlb_entry *none)
{
    *s = (struct x86_tlb_set){.entry = none, .mask = X86_TLB_ENTRY_BYTES};
}

static void set_free(struct x86_tlb_set *s)
{
    if (s->info)
        free(s->entry);
}

/* Notes that an entry holds something, in the list of its kind, unless it is there. */
static void set_note(struct x86_tlb_set *s, unsigned i, unsigned l)
{
    if (s->info[i] & INFO_LISTED(l))
        return;
    s->info[i] |= INFO_LISTED(l);
    s->list[l][s->count[l]++] = (u16)i;
}

/* Empty storage for n entries, everything else as it is. False: no memory, nothing changed. */
static bool set_alloc(struct x86_tlb_set *s, unsigned n)
{
    size_t each = X86_TLB_ENTRY_BYTES + sizeof(u64) + 2 * sizeof(u16);
    u8 *p = aligned_alloc(64, n * each);

    if (!p)
        return false;
    s->entry = (struct x86_tlb_entry *)p;
    for (unsigned i = 0; i < n; i++) {
        entry_clear(&s->entry[i]);
        s->entry[i].addend = 0;
    }
    s->info = (u64 *)(p + n * X86_TLB_ENTRY_BYTES);
    memset(s->info, 0, n * sizeof(u64));
    s->list[X86_TLB_LOCAL] = (u16 *)(s->info + n);
    s->list[X86_TLB_GLOBAL] = s->list[X86_TLB_LOCAL] + n;
    s->count[X86_TLB_LOCAL] = s->count[X86_TLB_GLOBAL] = 0;
    s->mask = (n - 1) * (u64)X86_TLB_ENTRY_BYTES;
    return true;
}

/* Takes the live entries of a list of `from` over. */
static void set_rehash(struct x86_tlb_set *s, const struct x86_tlb_set *from, unsigned l)
{
    for (unsigned k = 0; k < from->count[l]; k++) {
        const struct x86_tlb_entry *e = &from->entry[from->list[l][k]];
        u64 info = from->info[from->list[l][k]];
        if (!entry_used(e) || !(info & INFO_GLOBAL) != (l == X86_TLB_LOCAL))
            continue;
        unsigned i = entry_page(e) >> 12 & (set_entries(s) - 1);
        s->entry[i] = *e;
        s->info[i] = (info & ~INFO_LISTED_ANY) | (s->info[i] & INFO_LISTED_ANY);
        set_note(s, i, l);
    }
}

/* Brings a set to n entries. Without memory for it everything stays. */
static void set_resize(struct x86_cpu *cpu, struct x86_tlb_set *s, unsigned n)
{
    struct x86_tlb_set old = *s;

    s->evicted = 0;
    s->sparse = 0;
    if (!set_alloc(s, n))
        return;
    set_rehash(s, &old, X86_TLB_LOCAL);
    set_rehash(s, &old, X86_TLB_GLOBAL);
    set_free(&old);
    x86_tlb_select(cpu);
}

/* --- one set: filling and dropping ------------------------------------------------------------ */

/* The entry is about to be given to `page`: a set in which pages push each other out grows. False:
 * there is no storage. */
static bool set_make_room(struct x86_cpu *cpu, struct x86_tlb_set *s, u64 page)
{
    const struct x86_tlb_entry *e = x86_tlb_set_at(s, page);

    if (unlikely(!s->info)) {
        set_resize(cpu, s, X86_TLB_START);
        return s->info;
    }
    if (entry_used(e) && entry_page(e) != page) {
        unsigned n = set_entries(s);
        if (++s->evicted > n / 2 && n < X86_TLB_MAX)
            set_resize(cpu, s, 2 * n);
    }
    return true;
}

static void set_flushed(struct x86_cpu *cpu, struct x86_tlb_set *s, unsigned held)
{
    unsigned n = set_entries(s);

    s->evicted = 0;
    s->sparse = held < n / 16 ? s->sparse + 1 : 0;
    if (s->sparse >= SPARSE_FLUSHES && n > X86_TLB_MIN)
        set_resize(cpu, s, n / 2);
}

static void set_clear_seen(struct x86_tlb_set *s, unsigned l)
{
    if (s->large[l])
        memset(s->large_seen[l], 0, sizeof(s->large_seen[l]));
    s->large[l] = false;
}

static void set_flush_all(struct x86_cpu *cpu, struct x86_tlb_set *s)
{
    unsigned held = s->count[X86_TLB_LOCAL] + s->count[X86_TLB_GLOBAL];

    if (!held)
        return;
    for (unsigned l = X86_TLB_LOCAL; l <= X86_TLB_GLOBAL; l++) {
        for (unsigned k = 0; k < s->count[l]; k++) {
            unsigned i = s->list[l][k];
            entry_clear(&s->entry[i]);
            s->info[i] = 0;
        }
        s->count[l] = 0;
        set_clear_seen(s, l);
    }
    set_flushed(cpu, s, held);
}

/* Drops what is not global. */
static void set_flush_local(struct x86_cpu *cpu, struct x86_tlb_set *s)
{
    unsigned held = s->count[X86_TLB_LOCAL];

    if (!held)
        return;
    for (unsigned k = 0; k < held; k++) {
        unsigned i = s->list[X86_TLB_LOCAL][k];
        s->info[i] &= ~INFO_LISTED(X86_TLB_LOCAL);
        if (!(s->info[i] & INFO_GLOBAL))
            entry_clear(&s->entry[i]);
    }
    s->count[X86_TLB_LOCAL] = 0;
    set_clear_seen(s, X86_TLB_LOCAL);
    if (held > s->count[X86_TLB_GLOBAL])
        set_flushed(cpu, s, held);
}

/* Drops the entry of a page if it holds it; `global`: only a global translation. */
static void set_forget(struct x86_tlb_set *s, u64 page, bool global)
{
    struct x86_tlb_entry *e = x86_tlb_set_at(s, page);

    if (entry_is(e, page) && (!global || set_info(s, page) & INFO_GLOBAL))
        entry_clear(e);
}

/* Drops every entry of a list that stems from a large page around lin. */
static void list_drop_large(struct x86_tlb_set *s, unsigned l, u64 lin)
{
    for (unsigned k = 0; k < s->count[l]; k++) {
        unsigned i = s->list[l][k];
        unsigned shift = s->info[i] >> X86_TLB_INFO_SHIFT & 31;
        if (shift > 12 && entry_used(&s->entry[i]) && !((entry_page(&s->entry[i]) ^ lin) >> shift))
            entry_clear(&s->entry[i]);
    }
}

/* Drops the page of lin, and the whole of a large page around it; `global`: only global
 * translations. True when there may have been a large one. */
static bool set_drop(struct x86_tlb_set *s, u64 lin, bool global)
{
    bool any = false;

    set_forget(s, lin & ~4095ull, global);
    for (unsigned l = global ? X86_TLB_GLOBAL : X86_TLB_LOCAL; l <= X86_TLB_GLOBAL; l++) {
        if (!s->large[l] || !seen(s->large_seen[l], X86_TLB_LARGE_BITS, lin, true))
            continue;
        list_drop_large(s, l, lin);
        any = true;
    }
    return any;
}

/* --- the sets of a processor ------------------------------------------------------------------ */

static void notify(struct x86_cpu *cpu, u32 contexts, u64 lin, bool global)
{
    if (cpu->ops->tlb_flushed)
        cpu->ops->tlb_flushed(cpu->world, contexts, lin, global);
}

static u16 current_pcid(const struct x86_cpu *cpu)
{
    return cpu->s.cr4 & CR4_PCIDE ? cpu->s.cr3 & CR3_PCID : 0;
}

static void use_context(struct x86_cpu *cpu, unsigned c)
{
    struct x86_tlb *t = &cpu->tlbs;

    t->used_at[c] = ++t->clock;
    cpu->tlb_ctx = c;
    cpu->tlb_ac = &t->ctx[c][1];
    x86_tlb_select(cpu);
}

/* Lets the current context be the only one, for the current PCID. */
static void reset_contexts(struct x86_cpu *cpu)
{
    struct x86_tlb *t = &cpu->tlbs;

    for (unsigned c = 0; c < X86_TLB_CONTEXTS; c++)
        t->pcid[c] = X86_TLB_FREE;
    t->pcid[cpu->tlb_ctx] = current_pcid(cpu);
    use_context(cpu, cpu->tlb_ctx);
}

static void forget_tables(struct x86_tlb *t)
{
    for (unsigned i = 0; i < X86_TLB_TABLES; i++)
        t->table[i].gpa = X86_TLB_NO_PAGE;
}

void x86_tlb_init(struct x86_cpu *cpu)
{
    struct x86_tlb *t = &cpu->tlbs;

    entry_clear(&t->none[0]);
    entry_clear(&t->none[1]);
    set_init(&t->kernel, t->none);
    for (unsigned c = 0; c < X86_TLB_CONTEXTS; c++)
        for (unsigned i = 0; i < 2; i++)
            set_init(&t->ctx[c][i], t->none);
    forget_tables(t);
    reset_contexts(cpu);
}

void x86_tlb_fini(struct x86_cpu *cpu)
{
    struct x86_tlb *t = &cpu->tlbs;

    set_free(&t->kernel);
    for (unsigned c = 0; c < X86_TLB_CONTEXTS; c++)
        for (unsigned i = 0; i < 2; i++)
            set_free(&t->ctx[c][i]);
    memset(t, 0, sizeof(*t));
}

void x86_tlb_fill(struct x86_cpu *cpu, unsigned set, u64 lin, const struct x86_walk *w,
                  const struct x86_page *pg, bool write)
{
    struct x86_tlb_set *s = x86_tlb_set(cpu, set);
    u64 page = lin & ~4095ull;
    unsigned l = w->global ? X86_TLB_GLOBAL : X86_TLB_LOCAL;
    unsigned shift = (unsigned)__builtin_ctzll(w->page_size);
    bool watched = cpu->s.dr7 & DR7_ENABLES && x86_debug_watches_page(cpu, page);

    if (!set_make_room(cpu, s, page))
        return;
    unsigned i = lin >> 12 & (set_entries(s) - 1);
    struct x86_tlb_entry *e = &s->entry[i];
    s->info[i] = (w->gpa & X86_TLB_INFO_GPA) | (u64)shift << X86_TLB_INFO_SHIFT |
                 (w->global ? INFO_GLOBAL : 0) | (s->info[i] & INFO_LISTED_ANY);
    set_note(s, i, l);
    e->tag_read = w->readable && !watched ? page : x86_tlb_none(e);
    e->tag_write = x86_tlb_none(e);
    e->tag_exec = w->exec ? page : x86_tlb_none(e);
    e->addend = (u64)(uintptr_t)pg->hva - page;
    if (write && w->writable && pg->writable && !pg->code && !watched) {
        e->tag_write = page;
        written_add(&cpu->tlbs, w->gpa);
    }
    if (unlikely(shift > 12)) {
        seen_add(s->large_seen[l], X86_TLB_LARGE_BITS, lin, shift);
        s->large[l] = true;
    }
    if (w->global && set != X86_TLB_KERNEL)
        seen_add(cpu->tlbs.global_seen, X86_TLB_GLOBAL_BITS, lin, shift);
}

void x86_tlb_forget(struct x86_cpu *cpu, u64 lin)
{
    for (unsigned set = 0; set < X86_TLB_SETS; set++)
        set_forget(x86_tlb_set(cpu, set), lin & ~4095ull, false);
}

/* --- contexts --------------------------------------------------------------------------------- */

static void flush_context(struct x86_cpu *cpu, unsigned c)
{
    set_flush_local(cpu, &cpu->tlbs.ctx[c][0]);
    set_flush_local(cpu, &cpu->tlbs.ctx[c][1]);
    if (c == cpu->tlb_ctx)
        set_flush_local(cpu, &cpu->tlbs.kernel);
    notify(cpu, BIT(c), X86_TLB_ALL_PAGES, false);
}

/* The context of a PCID, or X86_TLB_CONTEXTS. */
static unsigned find_context(const struct x86_tlb *t, u16 pcid)
{
    unsigned c = pcid % X86_TLB_CONTEXTS; /* where small ones are, as a rule */

    if (likely(t->pcid[c] == pcid))
        return c;
    for (c = 0; c < X86_TLB_CONTEXTS && t->pcid[c] != pcid; c++)
        continue;
    return c;
}

/* Gives a PCID the context of its number if that is free, or the one unused for longest. */
static unsigned take_context(struct x86_cpu *cpu, u16 pcid)
{
    struct x86_tlb *t = &cpu->tlbs;
    unsigned c = pcid % X86_TLB_CONTEXTS;

    if (t->pcid[c] != X86_TLB_FREE) {
        for (unsigned i = 0; i < X86_TLB_CONTEXTS; i++)
            if (t->used_at[i] < t->used_at[c])
                c = i;
    }
    if (t->pcid[c] != X86_TLB_FREE)
        flush_context(cpu, c);
    t->pcid[c] = pcid;
    return c;
}

void x86_tlb_load_cr3(struct x86_cpu *cpu, bool keep)
{
    u16 pcid = current_pcid(cpu);
    unsigned c = cpu->tlb_ctx;

    if (cpu->tlbs.pcid[c] != pcid) {
        set_flush_local(cpu, &cpu->tlbs.kernel);
        c = find_context(&cpu->tlbs, pcid);
        if (c == X86_TLB_CONTEXTS) {
            c = take_context(cpu, pcid);
            keep = true; /* there is nothing to drop */
        }
        use_context(cpu, c);
    }
    if (!keep)
        flush_context(cpu, c);
}

/* --- invalidation ----------------------------------------------------------------------------- */

void x86_tlb_flush(struct x86_cpu *cpu, bool globals_too)
{
    struct x86_tlb *t = &cpu->tlbs;
    void (*flush)(struct x86_cpu *, struct x86_tlb_set *) =
        globals_too ? set_flush_all : set_flush_local;

    flush(cpu, &t->kernel);
    for (unsigned c = 0; c < X86_TLB_CONTEXTS; c++) {
        flush(cpu, &t->ctx[c][0]);
        flush(cpu, &t->ctx[c][1]);
    }
    if (globals_too) {
        memset(t->global_seen, 0, sizeof(t->global_seen));
        forget_tables(t);
        reset_contexts(cpu);
    }
    notify(cpu, X86_TLB_ALL_CONTEXTS, X86_TLB_ALL_PAGES, globals_too);
}

/* Of a large page the world cannot tell which other pages it cached: it drops all of them. */
void x86_tlb_flush_page(struct x86_cpu *cpu, u64 lin)
{
    struct x86_tlb *t = &cpu->tlbs;
    bool large = false;

    for (unsigned set = 0; set < X86_TLB_SETS; set++)
        large |= set_drop(x86_tlb_set(cpu, set), lin, false);
    if (unlikely(seen(t->global_seen, X86_TLB_GLOBAL_BITS, lin, false)))
        for (unsigned c = 0; c < X86_TLB_CONTEXTS; c++)
            for (unsigned i = 0; i < 2; i++)
                if (t->ctx[c][i].count[X86_TLB_GLOBAL])
                    large |= set_drop(&t->ctx[c][i], lin, true);
    notify(cpu, BIT(cpu->tlb_ctx), large ? X86_TLB_ALL_PAGES : lin & ~4095ull, true);
}

void x86_tlb_flush_pcid_page(struct x86_cpu *cpu, u16 pcid, u64 lin)
{
    struct x86_tlb *t = &cpu->tlbs;
    unsigned c = find_context(t, pcid);

    if (c == X86_TLB_CONTEXTS)
        return;
    bool large = set_drop(&t->ctx[c][0], lin, false);
    large |= set_drop(&t->ctx[c][1], lin, false);
    if (c == cpu->tlb_ctx)
        large |= set_drop(&t->kernel, lin, false);
    notify(cpu, BIT(c), large ? X86_TLB_ALL_PAGES : lin & ~4095ull, false);
}

void x86_tlb_flush_pcid(struct x86_cpu *cpu, u16 pcid)
{
    unsigned c = find_context(&cpu->tlbs, pcid);

    if (c != X86_TLB_CONTEXTS)
        flush_context(cpu, c);
}

/* --- by physical page ------------------------------------------------------------------------- */

/* Whether any of these pages may have a write tag. */
static bool maybe_written(const struct x86_tlb *t, u64 first, u64 span)
{
    if (span >> 12 >= X86_TLB_WRITTEN_BITS)
        return true;
    for (u64 gpa = first; gpa - first <= span; gpa += 4096) {
        unsigned bit = written_bit(gpa);
        if (t->written[bit / 64] >> (bit % 64) & 1)
            return true;
    }
    return false;
}

static void set_drop_gpa(struct x86_tlb *t, struct x86_tlb_set *s, u64 first, u64 span,
                         bool writes_only)
{
    for (unsigned l = X86_TLB_LOCAL; l <= X86_TLB_GLOBAL; l++) {
        for (unsigned k = 0; k < s->count[l]; k++) {
            unsigned i = s->list[l][k];
            struct x86_tlb_entry *e = &s->entry[i];
            u64 gpa = s->info[i] & X86_TLB_INFO_GPA;
            if (gpa - first <= span && writes_only)
                e->tag_write = x86_tlb_none(e);
            else if (gpa - first <= span)
                entry_clear(e);
            else if (!x86_tlb_is_none(e->tag_write))
                written_add(t, gpa);
        }
    }
}

/* The walk over all entries also makes `written` anew from what there is. */
void x86_tlb_drop_gpa(struct x86_cpu *cpu, u64 gpa, u64 len, bool writes_only)
{
    struct x86_tlb *t = &cpu->tlbs;
    u64 first = gpa & ~4095ull;

    if (!len)
        return;
    u64 span = ((gpa + len - 1) & ~4095ull) - first;
    if (writes_only && likely(!maybe_written(t, first, span)))
        return;
    memset(t->written, 0, sizeof(t->written));
    set_drop_gpa(t, &t->kernel, first, span, writes_only);
    for (unsigned c = 0; c < X86_TLB_CONTEXTS; c++)
        for (unsigned i = 0; i < 2; i++)
            set_drop_gpa(t, &t->ctx[c][i], first, span, writes_only);
    if (writes_only)
        return;
    forget_tables(t);
    notify(cpu, X86_TLB_ALL_CONTEXTS, X86_TLB_ALL_PAGES, true);
}
