/* tlb.c - the software TLB: filling and every way of invalidating (SDM vol. 3 4.10) */
#include <string.h>

#include "x86/debug.h"
#include "x86/mmu.h"

static void entry_clear(struct x86_tlb_entry *e)
{
    e->tag_read = e->tag_write = e->tag_exec = X86_TLB_NONE;
}

static bool entry_is(const struct x86_tlb_entry *e, u64 page)
{
    return e->tag_read == page || e->tag_write == page || e->tag_exec == page;
}

static bool entry_used(const struct x86_tlb_entry *e)
{
    return (e->tag_read & e->tag_write & e->tag_exec) != X86_TLB_NONE;
}

static u64 entry_page(const struct x86_tlb_entry *e)
{
    return e->tag_read != X86_TLB_NONE    ? e->tag_read
           : e->tag_write != X86_TLB_NONE ? e->tag_write
                                          : e->tag_exec;
}

static void notify(struct x86_cpu *cpu, u64 lin)
{
    if (cpu->ops->tlb_flushed)
        cpu->ops->tlb_flushed(cpu->world, lin);
}

/* Widens the range that stands for all large pages. */
static void note_large(struct x86_tlb *t, u64 lin, u64 size)
{
    u64 mask = ~(size - 1);

    if (t->large) {
        mask &= t->large_mask;
        while ((t->large_base ^ lin) & mask)
            mask <<= 1;
    }
    t->large = true;
    t->large_mask = mask;
    t->large_base = lin & mask;
}

/* Notes that entry i of a set holds something; too many make the list incomplete. */
static void note_filled(struct x86_tlb *t, unsigned set, unsigned i)
{
    if (t->filled < X86_TLB_FILLED) {
        t->fill[t->filled].set = (u16)set;
        t->fill[t->filled].index = (u16)i;
    }
    t->filled += t->filled <= X86_TLB_FILLED;
}

void x86_tlb_fill(struct x86_cpu *cpu, unsigned set, u64 lin, const struct x86_walk *w,
                  const struct x86_page *pg, bool write)
{
    struct x86_tlb *t = &cpu->tlbs;
    unsigned i = x86_tlb_index(lin);
    struct x86_tlb_entry *e = &t->set[set][i];
    u64 page = lin & ~4095ull;
    bool watched = cpu->s.dr7 & DR7_ENABLES && x86_debug_watches_page(cpu, page);

    note_filled(t, set, i);
    entry_clear(e);
    if (w->readable && !watched)
        e->tag_read = page;
    if (write && w->writable && pg->writable && !pg->code && !watched)
        e->tag_write = page;
    if (w->exec)
        e->tag_exec = page;
    e->addend = (u64)(uintptr_t)pg->hva - page;
    t->gpa[set][i] = w->gpa & ~4095ull;
    t->global[set][i] = w->global;
    t->shift[set][i] = (u8)__builtin_ctzll(w->page_size);
    if (w->page_size > 4 * KiB)
        note_large(t, lin, w->page_size);
}

/* Everything, when the list of fills is complete: only those, wherever they are. */
static void flush_all(struct x86_tlb *t)
{
    if (t->filled > X86_TLB_FILLED)
        memset(t->set, 0xff, sizeof(t->set));
    else
        for (unsigned k = 0; k < t->filled; k++)
            entry_clear(&t->set[t->fill[k].set][t->fill[k].index]);
    t->filled = 0;
    t->large = false;
}

static void flush_local_entry(struct x86_tlb *t, unsigned set, unsigned i)
{
    if (!t->global[set][i])
        entry_clear(&t->set[set][i]);
    else if (entry_used(&t->set[set][i]))
        note_filled(t, set, i);
}

/* Global entries stay, and make the new list. */
static void flush_local(struct x86_tlb *t)
{
    unsigned filled = t->filled;

    t->filled = 0;
    if (filled <= X86_TLB_FILLED) {
        for (unsigned k = 0; k < filled; k++)
            flush_local_entry(t, t->fill[k].set, t->fill[k].index);
        return;
    }
    for (unsigned set = 0; set < X86_TLB_SETS; set++)
        for (unsigned i = 0; i < X86_TLB_SIZE; i++)
            flush_local_entry(t, set, i);
}

void x86_tlb_flush(struct x86_cpu *cpu, bool globals_too)
{
    if (globals_too)
        flush_all(&cpu->tlbs);
    else
        flush_local(&cpu->tlbs);
    notify(cpu, ~0ull);
}

/* Drops every entry that stems from a large page around lin. True when there was one. */
static bool drop_large(struct x86_tlb *t, u64 lin)
{
    bool any = false;

    for (unsigned set = 0; set < X86_TLB_SETS; set++) {
        for (unsigned i = 0; i < X86_TLB_SIZE; i++) {
            struct x86_tlb_entry *e = &t->set[set][i];
            unsigned shift = t->shift[set][i];
            if (shift <= 12 || !entry_used(e) || (entry_page(e) ^ lin) >> shift)
                continue;
            entry_clear(e);
            any = true;
        }
    }
    return any;
}

void x86_tlb_flush_page(struct x86_cpu *cpu, u64 lin)
{
    struct x86_tlb *t = &cpu->tlbs;

    if (t->large && !((lin ^ t->large_base) & t->large_mask) && drop_large(t, lin)) {
        x86_tlb_forget(cpu, lin);
        notify(cpu, ~0ull);
        return;
    }
    x86_tlb_forget(cpu, lin);
    notify(cpu, lin & ~4095ull);
}

void x86_tlb_forget(struct x86_cpu *cpu, u64 lin)
{
    u64 page = lin & ~4095ull;
    unsigned i = x86_tlb_index(lin);

    for (unsigned set = 0; set < X86_TLB_SETS; set++) {
        struct x86_tlb_entry *e = &cpu->tlbs.set[set][i];
        if (entry_is(e, page))
            entry_clear(e);
    }
}

void x86_tlb_drop_gpa(struct x86_cpu *cpu, u64 gpa, u64 len, bool writes_only)
{
    struct x86_tlb *t = &cpu->tlbs;
    u64 first = gpa & ~4095ull;

    if (!len)
        return;
    u64 span = ((gpa + len - 1) & ~4095ull) - first;
    for (unsigned set = 0; set < X86_TLB_SETS; set++) {
        for (unsigned i = 0; i < X86_TLB_SIZE; i++) {
            if (t->gpa[set][i] - first > span)
                continue;
            if (writes_only)
                t->set[set][i].tag_write = X86_TLB_NONE;
            else
                entry_clear(&t->set[set][i]);
        }
    }
    if (!writes_only)
        notify(cpu, ~0ull);
}
