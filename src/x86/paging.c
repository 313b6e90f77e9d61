/* paging.c - page walks: 32-bit, PAE and 4-level paging (SDM vol. 3 chapter 4) */
#include "x86/mmu.h"

/* Paging-structure entries, all formats. */
#define PTE_P          BIT64(0)
#define PTE_W          BIT64(1)
#define PTE_U          BIT64(2)
#define PTE_A          BIT64(5)
#define PTE_D          BIT64(6)
#define PTE_PS         BIT64(7)
#define PTE_G          BIT64(8)
#define PTE_NX         BIT64(63)
#define PTE_ADDR_LIMIT BIT64(52) /* address bits end here; above them ignored bits (4-level) */

#define PDPTE_RESERVED (BIT64(1) | BIT64(2) | 0x1e0ull)

enum walk_end { WALK_OK, WALK_ABSENT, WALK_RESERVED };

/* What was met on the way from CR3 to the page. */
struct walk_path {
    struct {
        u64 gpa, val;
    } entry[4]; /* the last one is the leaf */
    unsigned n;
    unsigned entry_bytes; /* 4 or 8 */
    u64 gpa;              /* where lin is */
    u64 page_size;
    bool user, write, nx, global;
    bool peek; /* no side effects: entries outside memory count as absent */
};

/* --- entries in memory ------------------------------------------------------------------------ */

/* Where the host has the page at gpa, to read paging structures; NULL: not in memory. */
static inline const u8 *table_hva(struct x86_cpu *cpu, u64 gpa)
{
    struct x86_tlb *t = &cpu->tlbs;
    unsigned i = gpa >> 12 & (X86_TLB_TABLES - 1);
    struct x86_page pg;

    if (unlikely(t->table[i].gpa != gpa)) {
        if (!cpu->ops->page(cpu->world, gpa, false, &pg))
            return NULL;
        t->table[i].gpa = gpa;
        t->table[i].hva = pg.hva;
    }
    return t->table[i].hva;
}

static bool entry_read(struct x86_cpu *cpu, u64 gpa, unsigned bytes, bool peek, u64 *val)
{
    const u8 *p = table_hva(cpu, gpa & ~4095ull);

    if (!p) {
        if (peek)
            return false;
        *val = cpu->ops->mmio_read(cpu->world, gpa, bytes);
        return true;
    }
    p += gpa & 4095;
    *val = bytes == 4 ? __atomic_load_n((const u32 *)p, __ATOMIC_RELAXED)
                      : __atomic_load_n((const u64 *)p, __ATOMIC_RELAXED);
    return true;
}

/* Sets bits in an entry, atomically towards other processors. False: it changed under us. */
static bool entry_mark(struct x86_cpu *cpu, u64 gpa, unsigned bytes, u64 val, u64 bits)
{
    struct x86_page pg;
    bool same;

    if (!cpu->ops->page(cpu->world, gpa & ~4095ull, true, &pg)) {
        cpu->ops->mmio_write(cpu->world, gpa, bytes, val | bits);
        return true;
    }
    if (!pg.writable)
        return true; /* tables in ROM keep no record */
    u8 *p = pg.hva + (gpa & 4095);
    if (bytes == 4) {
        u32 old = val;
        same = __atomic_compare_exchange_n((u32 *)p, &old, (u32)(val | bits), false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    } else {
        same = __atomic_compare_exchange_n((u64 *)p, &val, val | bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
    if (same && pg.code)
        cpu->ops->code_write(cpu->world, gpa, bytes);
    return same;
}

/* Takes one entry into the path: its place, and its part in the rights of the page. */
static bool path_add(struct x86_cpu *cpu, struct walk_path *p, u64 gpa, u64 *val)
{
    if (!entry_read(cpu, gpa, p->entry_bytes, p->peek, val) || !(*val & PTE_P))
        return false;
    p->entry[p->n].gpa = gpa;
    p->entry[p->n].val = *val;
    p->n++;
    p->user &= (*val & PTE_U) != 0;
    p->write &= (*val & PTE_W) != 0;
    return true;
}

static void path_leaf(struct x86_cpu *cpu, struct walk_path *p, u64 frame, u64 size, u64 lin)
{
    p->global = p->entry[p->n - 1].val & PTE_G && cpu->s.cr4 & CR4_PGE;
    p->page_size = size;
    p->gpa = (frame & ~(size - 1)) | (lin & (size - 1));
}

/* --- the three formats ------------------------------------------------------------------------ */

/* 4 MiB page of 32-bit paging. PSE-36: entry bits 20:13 are address bits 39:32 as far as
 * MAXPHYADDR goes. */
static enum walk_end leaf_4m(struct x86_cpu *cpu, struct walk_path *p, u64 pde, u64 lin)
{
    u64 high = x86_has(cpu, X86_FEATURE_PSE36) ? (pde >> 13 & 0xff) << 32 : 0;
    u64 reserved = BIT64(21);

    if (!x86_has(cpu, X86_FEATURE_PSE36))
        reserved |= 0xffull << 13;
    if (pde & reserved || high & ~cpu->phys_mask)
        return WALK_RESERVED;
    path_leaf(cpu, p, high | (pde & 0xffc00000), 4 * MiB, lin);
    return WALK_OK;
}

static enum walk_end walk_32(struct x86_cpu *cpu, u64 lin, struct walk_path *p)
{
    u64 pde, pte;

    p->entry_bytes = 4;
    if (!path_add(cpu, p, (cpu->s.cr3 & 0xfffff000) + (lin >> 22 & 1023) * 4, &pde))
        return WALK_ABSENT;
    if (pde & PTE_PS && cpu->s.cr4 & CR4_PSE)
        return leaf_4m(cpu, p, pde, lin);
    if (!path_add(cpu, p, (pde & 0xfffff000) + (lin >> 12 & 1023) * 4, &pte))
        return WALK_ABSENT;
    path_leaf(cpu, p, pte & 0xfffff000, 4 * KiB, lin);
    return WALK_OK;
}

/* The levels with 8-byte entries, from the table whose entries map 1 << shift bytes. `reserved`
 * bits fault at every level. */
static enum walk_end walk_wide(struct x86_cpu *cpu, u64 lin, u64 table, unsigned shift,
                               u64 reserved, struct walk_path *p)
{
    bool page_1g = x86_has(cpu, X86_FEATURE_PDPE1GB);

    p->entry_bytes = 8;
    for (;; shift -= 9) {
        u64 val, bad = reserved;

        if (!path_add(cpu, p, table + (lin >> shift & 511) * 8, &val))
            return WALK_ABSENT;
        bool may_be_large = shift == 21 || (shift == 30 && page_1g);
        bool leaf = shift == 12 || (val & PTE_PS && may_be_large);
        if (shift > 21 && !may_be_large)
            bad |= PTE_PS;
        if (leaf && shift > 12)
            bad |= (BIT64(shift) - 1) & ~0x1fffull; /* frame bits below the size, PAT (12) aside */
        if (val & bad)
            return WALK_RESERVED;
        p->nx |= (val & PTE_NX) != 0;
        table = val & cpu->phys_mask & ~4095ull;
        if (leaf) {
            path_leaf(cpu, p, table, BIT64(shift), lin);
            return WALK_OK;
        }
    }
}

static enum walk_end walk_tables(struct x86_cpu *cpu, u64 lin, struct walk_path *p)
{
    u64 nx_off = cpu->s.efer & EFER_NXE ? 0 : PTE_NX;

    p->n = 0;
    p->user = p->write = true;
    p->nx = false;
    switch (cpu->paging) {
    case X86_PAGING_32: return walk_32(cpu, lin, p);
    case X86_PAGING_PAE: {
        u64 pdpte = cpu->s.pdpte[lin >> 30 & 3];
        if (!(pdpte & PTE_P))
            return WALK_ABSENT;
        return walk_wide(cpu, lin, pdpte & cpu->phys_mask & ~4095ull, 21,
                         (~cpu->phys_mask & ~PTE_NX) | nx_off, p);
    }
    default:
        return walk_wide(cpu, lin, cpu->s.cr3 & cpu->phys_mask & ~4095ull, 39,
                         (~cpu->phys_mask & (PTE_ADDR_LIMIT - 1)) | nx_off, p);
    }
}

/* --- rights ----------------------------------------------------------------------------------- */

/* SDM vol. 3 4.6: what a page allows to user-mode or supervisor-mode accesses. The path is
 * `user_page` and `write` when all its entries are, `nx` when one is. False: not this access. */
static inline bool rights(const struct x86_cpu *cpu, bool user_page, bool write, bool nx,
                          unsigned access, bool user, struct x86_walk *out)
{
    u64 cr4 = cpu->s.cr4;

    if (user) {
        out->readable = user_page;
        out->writable = user_page && write;
        out->exec = user_page && !nx;
    } else {
        bool smap = cr4 & CR4_SMAP && (access & X86_SYS || !(cpu->s.rflags & RFLAGS_AC));
        out->readable = !(smap && user_page);
        out->writable = out->readable && (write || !(cpu->s.cr0 & CR0_WP));
        out->exec = !nx && !(cr4 & CR4_SMEP && user_page);
    }
    return access & X86_X ? out->exec : access & X86_W ? out->writable : out->readable;
}

static int raise_pf(struct x86_cpu *cpu, u64 lin, unsigned access, bool user, u32 error)
{
    bool nxe = cpu->s.efer & EFER_NXE && cpu->s.cr4 & CR4_PAE;

    if (access & X86_W)
        error |= PF_W;
    if (user)
        error |= PF_U;
    if (access & X86_X && (nxe || cpu->s.cr4 & CR4_SMEP))
        error |= PF_I;
    x86_tlb_forget(cpu, lin);
    return x86_raise_pf(cpu, lin, error);
}

/* Sets A along the path, and D in the leaf of a write. False: walk again. */
static bool path_mark(struct x86_cpu *cpu, struct walk_path *p, bool write)
{
    for (unsigned i = 0; i < p->n; i++) {
        u64 bits = PTE_A;

        if (write && i == p->n - 1)
            bits |= PTE_D;
        if ((p->entry[i].val & bits) == bits)
            continue;
        if (!entry_mark(cpu, p->entry[i].gpa, p->entry_bytes, p->entry[i].val, bits))
            return false;
        p->entry[i].val |= bits;
    }
    return true;
}

/* 4-level paging where nothing is to be set and nothing is amiss; false: take the long way. */
static bool walk_quick(struct x86_cpu *cpu, u64 lin, unsigned access, bool user,
                       struct x86_walk *out)
{
    u64 frame = cpu->phys_mask & ~4095ull, table = cpu->s.cr3 & frame, all = ~0ull, nx = 0, val;
    u64 reserved = (~cpu->phys_mask & (PTE_ADDR_LIMIT - 1)) | (cpu->s.efer & EFER_NXE ? 0 : PTE_NX);
    u64 fixed = reserved | PTE_P | PTE_A;
    unsigned shift = 39;

    for (;; shift -= 9) {
        const u64 *entries = (const u64 *)table_hva(cpu, table);
        if (unlikely(!entries))
            return false;
        val = __atomic_load_n(&entries[lin >> shift & 511], __ATOMIC_RELAXED);
        if (unlikely((val & fixed) != (PTE_P | PTE_A)))
            return false;
        all &= val;
        nx |= val & PTE_NX;
        table = val & frame;
        if (shift == 12 || val & PTE_PS)
            break;
    }
    u64 size = BIT64(shift);
    if (shift > 12) {
        bool may_be_large = shift == 21 || (shift == 30 && x86_has(cpu, X86_FEATURE_PDPE1GB));
        if (!may_be_large || val & (size - 1) & ~0x1fffull) /* PAT (12) aside */
            return false;
    }
    if (!rights(cpu, all & PTE_U, all & PTE_W, nx, access, user, out) ||
        (access & X86_W && !(val & PTE_D)))
        return false;
    out->writable &= (val & PTE_D) != 0;
    out->gpa = (table & ~(size - 1)) | (lin & (size - 1));
    out->page_size = size;
    out->global = val & PTE_G && cpu->s.cr4 & CR4_PGE;
    return true;
}

static int walk_long(struct x86_cpu *cpu, u64 lin, unsigned access, bool user, struct x86_walk *out)
{
    struct walk_path p;

    p.peek = false;
    do {
        enum walk_end end = walk_tables(cpu, lin, &p);
        if (end != WALK_OK)
            return raise_pf(cpu, lin, access, user, end == WALK_RESERVED ? PF_P | PF_RSVD : 0);
        if (!rights(cpu, p.user, p.write, p.nx, access, user, out))
            return raise_pf(cpu, lin, access, user, PF_P);
    } while (!path_mark(cpu, &p, access & X86_W));
    out->writable &= (p.entry[p.n - 1].val & PTE_D) != 0;
    out->gpa = p.gpa;
    out->page_size = p.page_size;
    out->global = p.global;
    return X86_OK;
}

int x86_walk(struct x86_cpu *cpu, u64 lin, unsigned access, bool user, struct x86_walk *out)
{
    if (likely(cpu->paging == X86_PAGING_4LEVEL) && likely(walk_quick(cpu, lin, access, user, out)))
        return X86_OK;
    if (cpu->paging != X86_PAGING_NONE)
        return walk_long(cpu, lin, access, user, out);
    *out = (struct x86_walk){.gpa = lin & 0xffffffff,
                             .page_size = 4 * KiB,
                             .readable = true,
                             .writable = true,
                             .exec = true};
    return X86_OK;
}

bool x86_translate(struct x86_cpu *cpu, u64 lin, u64 *gpa)
{
    struct walk_path p = {.peek = true};

    if (cpu->paging == X86_PAGING_NONE) {
        *gpa = lin & 0xffffffff;
        return true;
    }
    if (cpu->paging == X86_PAGING_4LEVEL && !x86_canonical(lin))
        return false;
    if (walk_tables(cpu, lin, &p) != WALK_OK)
        return false;
    *gpa = p.gpa;
    return true;
}

bool x86_load_pdptes(struct x86_cpu *cpu, u64 cr3, u64 pdpte[4])
{
    for (unsigned i = 0; i < 4; i++) {
        entry_read(cpu, (cr3 & 0xffffffe0) + i * 8, 8, false, &pdpte[i]);
        if (pdpte[i] & PTE_P && pdpte[i] & (PDPTE_RESERVED | ~cpu->phys_mask))
            return false;
    }
    return true;
}
