/* mmu.c - linear and segmented memory access: the slow paths behind mmu.h's inline functions */
#include <string.h>

#include "x86/debug.h"
#include "x86/mmu.h"

static void mem_load(void *to, const u8 *from, unsigned n)
{
    switch (n) {
    case 1: *(u8 *)to = *(const volatile u8 *)from; return;
    case 2: *(mem_u16 *)to = *(const mem_u16 *)from; return;
    case 4: *(mem_u32 *)to = *(const mem_u32 *)from; return;
    case 8: *(mem_u64 *)to = *(const mem_u64 *)from; return;
    default: memcpy(to, from, n);
    }
}

static void mem_store(u8 *to, const void *from, unsigned n)
{
    switch (n) {
    case 1: *(volatile u8 *)to = *(const u8 *)from; return;
    case 2: *(mem_u16 *)to = *(const mem_u16 *)from; return;
    case 4: *(mem_u32 *)to = *(const mem_u32 *)from; return;
    case 8: *(mem_u64 *)to = *(const mem_u64 *)from; return;
    default: memcpy(to, from, n);
    }
}

/* --- device memory: naturally aligned pieces of up to 8 bytes --------------------------------- */

static unsigned mmio_piece(u64 gpa, unsigned n)
{
    unsigned size = 8;

    while (size > n || gpa & (size - 1))
        size /= 2;
    return size;
}

static void mmio_load(struct x86_cpu *cpu, u64 gpa, u8 *to, unsigned n)
{
    while (n) {
        unsigned size = mmio_piece(gpa, n);
        u64 val = cpu->ops->mmio_read(cpu->world, gpa, size);
        memcpy(to, &val, size);
        to += size;
        gpa += size;
        n -= size;
    }
}

static void mmio_store(struct x86_cpu *cpu, u64 gpa, const u8 *from, unsigned n)
{
    while (n) {
        unsigned size = mmio_piece(gpa, n);
        u64 val = 0;
        memcpy(&val, from, size);
        cpu->ops->mmio_write(cpu->world, gpa, size, val);
        from += size;
        gpa += size;
        n -= size;
    }
}

/* --- spans: an operand as its one or two pages ------------------------------------------------ */

static u64 tag_for(const struct x86_tlb_entry *e, unsigned access)
{
    return access & X86_X ? e->tag_exec : access & X86_W ? e->tag_write : e->tag_read;
}

/* Resolves n bytes inside one page, by the TLB or by a walk. X86_FAULT: #PF raised. */
static int span_open(struct x86_cpu *cpu, u64 lin, unsigned n, unsigned access, struct x86_span *sp)
{
    unsigned set = access & X86_SYS ? X86_TLB_KERNEL : cpu->mmu_set;
    const struct x86_tlb_set *s = x86_tlb_set(cpu, set);
    const struct x86_tlb_entry *e = x86_tlb_set_at(s, lin);
    struct x86_walk w;
    struct x86_page pg;

    if (tag_for(e, access) == (lin & ~4095ull)) {
        *sp = (struct x86_span){.hva = (u8 *)(uintptr_t)(lin + e->addend),
                                .gpa = x86_tlb_set_gpa(s, lin) | (lin & 4095),
                                .n = n,
                                .writable = true};
        return X86_OK;
    }
    TRY(x86_walk(cpu, lin, access, set == X86_TLB_USER, &w));
    *sp = (struct x86_span){.gpa = w.gpa, .n = n};
    if (!cpu->ops->page(cpu->world, w.gpa & ~4095ull, access & X86_W, &pg))
        return X86_OK;
    x86_tlb_fill(cpu, set, lin, &w, &pg, access & X86_W);
    sp->hva = pg.hva + (w.gpa & 4095);
    sp->writable = pg.writable;
    sp->code = pg.code;
    return X86_OK;
}

static void span_load(struct x86_cpu *cpu, const struct x86_span *sp, u8 *to)
{
    if (likely(sp->hva != NULL))
        mem_load(to, sp->hva, sp->n);
    else
        mmio_load(cpu, sp->gpa, to, sp->n);
}

static void span_store(struct x86_cpu *cpu, const struct x86_span *sp, const u8 *from)
{
    if (unlikely(!sp->hva)) {
        mmio_store(cpu, sp->gpa, from, sp->n);
        return;
    }
    if (!sp->writable)
        return; /* ROM */
    mem_store(sp->hva, from, sp->n);
    if (sp->code)
        cpu->ops->code_write(cpu->world, sp->gpa, sp->n);
}

/* Linear addresses of system structures have 64 bits in all of long mode, those of programs only
 * in 64-bit mode; others wrap at 4 GiB. */
static u64 address_mask(const struct x86_cpu *cpu, unsigned access)
{
    if (access & X86_SYS)
        return cpu->lma ? ~0ull : 0xffffffff;
    return cpu->lin_mask;
}

/* Resolves the operand, lower page first; *count spans. */
static int spans_open(struct x86_cpu *cpu, u64 lin, unsigned n, unsigned access,
                      struct x86_span sp[2], unsigned *count)
{
    unsigned room = 4096 - (lin & 4095);

    *count = 1;
    if (likely(n <= room))
        return span_open(cpu, lin, n, access, &sp[0]);
    *count = 2;
    TRY(span_open(cpu, lin, room, access, &sp[0]));
    return span_open(cpu, (lin + room) & address_mask(cpu, access), n - room, access, &sp[1]);
}

/* --- checks on the linear address ------------------------------------------------------------- */

int x86_align_check(struct x86_cpu *cpu, u64 lin, unsigned align)
{
    bool on = cpu->s.cpl == 3 && cpu->s.rflags & RFLAGS_AC && cpu->s.cr0 & CR0_AM;

    return on && lin & (align - 1) ? x86_raise_error(cpu, X86_AC, 0) : X86_OK;
}

/* AMD processors do not let an operand wrap at the end of a 4 GiB segment, and where alignment is
 * checked want vectors on 16 bytes. */
static bool wraps(const struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned n, unsigned access)
{
    return !(access & X86_SYS) && cpu->lin_mask == 0xffffffff && cpu->seg_fast >> seg & 1 &&
           lin + n - 1 > 0xffffffff && !cpu->intel;
}

static unsigned checked_alignment(const struct x86_cpu *cpu, unsigned n)
{
    switch (n) {
    case 2:
    case 4:
    case 8: return n;
    case 16:
    case 32: return cpu->intel ? 1 : 16;
    default: return 1;
    }
}

/* An operand whose first byte is canonical and which reaches into the hole is misaligned: on Intel
 * processors #AC comes first. */
static int linear_check(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned n, unsigned access)
{
    bool wide = address_mask(cpu, access) == ~0ull;
    u8 vector = seg == X86_SS ? X86_SS_FAULT : X86_GP;

    if (wide ? unlikely(!x86_canonical(lin)) : unlikely(wraps(cpu, seg, lin, n, access)))
        return x86_raise_error(cpu, vector, 0);
    bool hole = wide && unlikely(!x86_canonical(lin + n - 1));
    if (!(access & X86_SYS) && !(hole && !cpu->intel))
        TRY(x86_align_check(cpu, lin, checked_alignment(cpu, n)));
    return hole ? x86_raise_error(cpu, vector, 0) : X86_OK;
}

/* --- reads and writes ------------------------------------------------------------------------- */

static int data_read(struct x86_cpu *cpu, unsigned seg, u64 lin, void *buf, unsigned n,
                     unsigned access)
{
    struct x86_span sp[2];
    unsigned count;

    TRY(linear_check(cpu, seg, lin, n, access));
    TRY(spans_open(cpu, lin, n, access, sp, &count));
    span_load(cpu, &sp[0], buf);
    if (unlikely(count == 2))
        span_load(cpu, &sp[1], (u8 *)buf + sp[0].n);
    if (unlikely(cpu->s.dr7 & DR7_ENABLES) && !(access & X86_SYS))
        x86_debug_data(cpu, lin, n, false);
    return X86_OK;
}

static int data_write(struct x86_cpu *cpu, unsigned seg, u64 lin, const void *buf, unsigned n,
                      unsigned access)
{
    struct x86_span sp[2];
    unsigned count;

    TRY(linear_check(cpu, seg, lin, n, access));
    TRY(spans_open(cpu, lin, n, access, sp, &count));
    span_store(cpu, &sp[0], buf);
    if (unlikely(count == 2))
        span_store(cpu, &sp[1], (const u8 *)buf + sp[0].n);
    if (unlikely(cpu->s.dr7 & DR7_ENABLES) && !(access & X86_SYS))
        x86_debug_data(cpu, lin, n, true);
    return X86_OK;
}

int x86_mem_read(struct x86_cpu *cpu, unsigned seg, u64 lin, void *buf, unsigned n)
{
    return data_read(cpu, seg, lin, buf, n, X86_R);
}

int x86_mem_write(struct x86_cpu *cpu, unsigned seg, u64 lin, const void *buf, unsigned n)
{
    return data_write(cpu, seg, lin, buf, n, X86_W);
}

int x86_lin_read(struct x86_cpu *cpu, u64 lin, void *buf, unsigned n, unsigned access)
{
    return data_read(cpu, X86_DS, lin, buf, n, access);
}

int x86_lin_write(struct x86_cpu *cpu, u64 lin, const void *buf, unsigned n, unsigned access)
{
    return data_write(cpu, X86_DS, lin, buf, n, access | X86_W);
}

int x86_lin_probe(struct x86_cpu *cpu, u64 lin, unsigned n, unsigned access)
{
    struct x86_span sp[2];
    unsigned count;

    TRY(linear_check(cpu, X86_DS, lin, n, access));
    return spans_open(cpu, lin, n, access, sp, &count);
}

int x86_lin_fetch(struct x86_cpu *cpu, u64 lin, u64 *gpa, const u8 **hva)
{
    struct x86_span sp;

    if (cpu->code_bits == 64 && unlikely(!x86_canonical(lin)))
        return x86_gp(cpu, 0);
    TRY(span_open(cpu, lin, 1, X86_X, &sp));
    *gpa = sp.gpa;
    *hva = sp.hva;
    return X86_OK;
}

/* --- segmentation ----------------------------------------------------------------------------- */

/* Whether ea .. ea+n-1 lies in the segment. Accesses that wrap at a limit of 4 GiB are left to the
 * implementation (SDM vol. 3 5.3): Intel processors let them, AMD's do not. */
static bool inside_limit(const struct x86_cpu *cpu, const struct x86_seg *g, u64 ea, unsigned n)
{
    u64 last = ea + n - 1;

    if ((g->attr & (SEG_CODE | SEG_DOWN)) == SEG_DOWN)
        return ea > g->limit && last <= (g->attr & SEG_DB ? 0xffffffffull : 0xffff);
    return last <= g->limit || (cpu->intel && g->limit == 0xffffffff);
}

/* Whether a protected-mode segment allows the access at all. */
static bool type_allows(const struct x86_seg *g, unsigned access)
{
    if (!(g->attr & SEG_P))
        return false;
    if (access & X86_X)
        return true;
    if (g->attr & SEG_CODE)
        return !(access & X86_W) && g->attr & SEG_WRITE; /* bit 1 of a code segment: readable */
    return !(access & X86_W) || g->attr & SEG_WRITE;
}

int x86_seg_linear(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned n, unsigned access, u64 *lin)
{
    const struct x86_seg *g = &cpu->s.seg[seg];

    *lin = (cpu->seg_base[seg] + ea) & cpu->lin_mask;
    if (cpu->code_bits == 64)
        return X86_OK;
    if ((cpu->prot && !type_allows(g, access)) || !inside_limit(cpu, g, ea, n))
        return x86_raise_error(cpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
    return X86_OK;
}

/* --- read-modify-write ------------------------------------------------------------------------ */

static int rmw_slow(struct x86_cpu *cpu, unsigned seg, struct x86_rmw *m)
{
    unsigned count;

    TRY(linear_check(cpu, seg, m->lin, m->n, X86_W));
    TRY(spans_open(cpu, m->lin, m->n, X86_W, m->span, &count));
    if (cpu->s.dr7 & DR7_ENABLES)
        x86_debug_data(cpu, m->lin, m->n, true);
    m->spans = (u8)count;
    if (count == 1 && m->span[0].hva && m->span[0].writable) {
        m->p = m->span[0].hva;
        m->code = m->span[0].code;
        return X86_OK;
    }
    m->bounced = true;
    m->p = m->bounce;
    span_load(cpu, &m->span[0], m->bounce);
    if (count == 2)
        span_load(cpu, &m->span[1], m->bounce + m->span[0].n);
    return X86_OK;
}

int x86_rmw_open(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned n, struct x86_rmw *m)
{
    u64 lin;

    TRY(x86_linear(cpu, seg, ea, n, X86_W, &lin));
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);
    m->lin = lin;
    m->n = n;
    m->bounced = m->code = false;
    if (likely(e->tag_write == ((lin + n - 1) & ~4095ull))) {
        m->p = (void *)(uintptr_t)(lin + e->addend);
        return X86_OK;
    }
    return rmw_slow(cpu, seg, m);
}

void x86_rmw_close(struct x86_cpu *cpu, struct x86_rmw *m)
{
    if (likely(!m->bounced)) {
        if (unlikely(m->code))
            cpu->ops->code_write(cpu->world, m->span[0].gpa, m->n);
        return;
    }
    span_store(cpu, &m->span[0], m->bounce);
    if (m->spans == 2)
        span_store(cpu, &m->span[1], m->bounce + m->span[0].n);
}
