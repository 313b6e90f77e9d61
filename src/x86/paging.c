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

static bool entry_read(struct x86_cpu *cpu, u64 gpa, unsigned bytes, bool peek, u64 *val)
{
    struct x86_page pg;

    if (!cpu->ops->page(cpu->world, gpa & ~4095ull, false, &pg)) {
        if (peek)
            return false;
        *val = cpu->ops->mmio_read(cpu->world, gpa, bytes);
        return true;
    }
    const u8 *p = pg.hva + (gpa & 4095);
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

/* SDM vol. 3 4.6: what the path allows to user-mode or supervisor-mode accesses. */
static void path_rights(const struct x86_cpu *cpu, const struct walk_path *p, unsigned access,
                        bool user, struct x86_walk *out)
{
    u64 cr4 = cpu->s.cr4;

    if (user) {
        out->readable = p->user;
        out->writable = p->user && p->write;
        out->exec = p->user && !p->nx;
        return;
    }
    bool smap = cr4 & CR4_SMAP && (access & X86_SYS || !(cpu->s.rflags & RFLAGS_AC));
    out->readable = !(smap && p->user);
    out->writable = out->readable && (p->write || !(cpu->s.cr0 & CR0_WP));
    out->exec = !p->nx && !(cr4 & CR4_SMEP && p->user);
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

int x86_walk(struct x86_cpu *cpu, u64 lin, unsigned access, bool user, struct x86_walk *out)
{
    struct walk_path p = {.peek = false};

    if (cpu->paging == X86_PAGING_NONE) {
        *out = (struct x86_walk){.gpa = lin & 0xffffffff,
                                 .page_size = 4 * KiB,
                                 .readable = true,
                                 .writable = true,
                                 .exec = true};
        return X86_OK;
    }
    do {
        enum walk_end end = walk_tables(cpu, lin, &p);
        if (end != WALK_OK)
            return raise_pf(cpu, lin, access, user, end == WALK_RESERVED ? PF_P | PF_RSVD : 0);
        path_rights(cpu, &p, access, user, out);
        bool allowed = access & X86_X ? out->exec : access & X86_W ? out->writable : out->readable;
        if (!allowed)
            return raise_pf(cpu, lin, access, user, PF_P);
    } while (!path_mark(cpu, &p, access & X86_W));
    out->writable &= (p.entry[p.n - 1].val & PTE_D) != 0;
    out->gpa = p.gpa;
    out->page_size = p.page_size;
    out->global = p.global;
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
