/* setup.c - the state, descriptor tables and page tables that a case need not spell out */
#include <errno.h>
#include <string.h>

#include "step.h"

/* Selectors of the default GDT; + 3 at CPL 3. Code and data come in pairs as SYSCALL wants them. */
enum {
    SEL_KCODE32 = 0x08,
    SEL_KDATA = 0x10,
    SEL_UCODE32 = 0x18,
    SEL_UDATA = 0x20,
    SEL_UCODE64 = 0x28,
    SEL_KCODE64 = 0x30,
    SEL_KCODE16 = 0x38,
    SEL_KDATA16 = 0x40,
    SEL_UCODE16 = 0x48,
    SEL_UDATA16 = 0x50,
    SEL_TSS = 0x58, /* 16 bytes in long mode */
};

#define TSS_BYTES 0x68
#define DESC(base, limit, attr)                                                      \
    (((limit)&0xffffull) | ((base)&0xffffffull) << 16 | (u64)((attr)&0xf0ff) << 40 | \
     ((limit) >> 16 & 0xfull) << 48 | ((base) >> 24 & 0xffull) << 56)
#define FLAT_CODE (SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED)
#define FLAT_DATA (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED)

static const u64 default_gdt[] = {
    0,
    DESC(0, 0xfffffull, FLAT_CODE | SEG_DB),
    DESC(0, 0xfffffull, FLAT_DATA),
    DESC(0, 0xfffffull, FLAT_CODE | SEG_DB | SEG_DPL),
    DESC(0, 0xfffffull, FLAT_DATA | SEG_DPL),
    DESC(0, 0xfffffull, FLAT_CODE | SEG_L | SEG_DPL),
    DESC(0, 0xfffffull, FLAT_CODE | SEG_L),
    DESC(0, 0xffffull, (FLAT_CODE & ~SEG_G)),
    DESC(0, 0xffffull, (FLAT_DATA & ~(SEG_G | SEG_DB))),
    DESC(0, 0xffffull, (FLAT_CODE & ~SEG_G) | SEG_DPL),
    DESC(0, 0xffffull, (FLAT_DATA & ~(SEG_G | SEG_DB)) | SEG_DPL),
    DESC(STEP_TSS, TSS_BYTES - 1ull, SEG_P | 0xb),
    STEP_TSS >> 32,
};

static struct x86_seg flat(u16 sel, u16 attr, unsigned cpl)
{
    return (struct x86_seg){.sel = sel | cpl,
                            .limit = attr & SEG_G ? 0xffffffff : 0xffff,
                            .attr = attr | (cpl ? SEG_DPL : 0)};
}

static void real_segments(struct step_case *c)
{
    for (unsigned i = 0; i < X86_SREGS; i++)
        c->s.seg[i] = (struct x86_seg){.limit = 0xffff,
                                       .attr = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED |
                                               (c->vm86 ? SEG_DPL : 0)};
}

static void flat_segments(struct step_case *c)
{
    bool user = c->cpl == 3;
    unsigned cpl = user ? 3 : 0;
    u16 code_sel, data_sel = user ? SEL_UDATA : SEL_KDATA;
    u16 code = FLAT_CODE, data = FLAT_DATA;

    if (c->mode == 64) {
        code_sel = user ? SEL_UCODE64 : SEL_KCODE64;
        code |= SEG_L;
    } else if (c->mode == 32) {
        code_sel = user ? SEL_UCODE32 : SEL_KCODE32;
        code |= SEG_DB;
    } else {
        code_sel = user ? SEL_UCODE16 : SEL_KCODE16;
        data_sel = user ? SEL_UDATA16 : SEL_KDATA16;
        code &= ~SEG_G;
        data &= ~(SEG_G | SEG_DB);
    }
    for (unsigned i = 0; i < X86_SREGS; i++)
        c->s.seg[i] = flat(data_sel, data, cpl);
    c->s.seg[X86_CS] = flat(code_sel, code, cpl);
}

void step_default_state(struct step_case *c)
{
    struct x86_state *s = &c->s;
    bool prot = c->mode != 16 || c->cpl || c->vm86;

    x86_state_reset(s, false);
    memset(s->gpr, 0, sizeof(s->gpr));
    s->rip = 0;
    s->rflags = RFLAGS_ONE;
    s->cpl = c->vm86 ? 3 : c->cpl;
    s->cr0 = CR0_ET | CR0_NE;
    s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    s->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    s->fpu.mxcsr = 0x1f80;
    s->fpu.fcw = 0x37f;
    if (!prot) {
        s->cr0 = CR0_ET;
        real_segments(c);
        s->idtr = (struct x86_dtable){.limit = 0x3ff};
        return;
    }
    s->cr0 |= CR0_PE;
    if (c->vm86) {
        s->rflags |= RFLAGS_VM;
        real_segments(c);
    } else {
        flat_segments(c);
    }
    s->gdtr = (struct x86_dtable){.base = STEP_GDT, .limit = sizeof(default_gdt) - 1};
    s->tr = (struct x86_seg){
        .sel = SEL_TSS, .base = STEP_TSS, .limit = TSS_BYTES - 1, .attr = SEG_P | 0xb};
    s->idtr = (struct x86_dtable){.limit = 0x7ff};
    if (c->mode == 64) {
        s->cr4 |= CR4_PAE;
        s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
        s->idtr.limit = 0xfff;
    }
}

int step_default_tables(struct world *w, struct step_case *c, struct err *e)
{
    if (c->s.gdtr.base != STEP_GDT)
        return 0;
    if (world_poke(w, STEP_GDT, default_gdt, sizeof(default_gdt)))
        return err_set(e, ERANGE, "no room for the default GDT");
    return 0;
}

/* --- page tables ------------------------------------------------------------------------------ */

#define PTE_P    BIT64(0)
#define PTE_W    BIT64(1)
#define PTE_U    BIT64(2)
#define PTE_AD   (BIT64(5) | BIT64(6))
#define PTE_PS   BIT64(7)
#define PTE_NX   BIT64(63)
#define PTE_ADDR 0x000ffffffffff000ull
#define PTE_OPEN (PTE_P | PTE_W | PTE_U | PTE_AD)

struct level {
    unsigned shift, bits, bytes;
};

static unsigned levels_of(const struct step_case *c, const struct level **out)
{
    static const struct level four[] = {{39, 9, 8}, {30, 9, 8}, {21, 9, 8}, {12, 9, 8}};
    static const struct level pae[] = {{30, 2, 8}, {21, 9, 8}, {12, 9, 8}};
    static const struct level two[] = {{22, 10, 4}, {12, 10, 4}};

    if (c->s.efer & EFER_LMA) {
        *out = four;
        return 4;
    }
    *out = c->s.cr4 & CR4_PAE ? pae : two;
    return c->s.cr4 & CR4_PAE ? 3 : 2;
}

static int new_table(struct world *w, struct step_case *c, u64 *gpa, struct err *e)
{
    static const u8 zeros[4096];

    if (c->next_table + 4096 > STEP_HIDDEN + STEP_HIDDEN_BYTES)
        return err_set(e, ENOSPC, "vmem: too many page tables");
    *gpa = c->next_table;
    c->next_table += 4096;
    if (world_poke(w, *gpa, zeros, 4096))
        return err_set(e, ENOSPC, "vmem: too many pages");
    return 0;
}

static u64 entry_get(struct world *w, u64 gpa, unsigned bytes)
{
    u64 v = 0;
    memcpy(&v, world_at(w, gpa), bytes);
    return v;
}

/* The first table entry that maps lin at `depth` levels below the root, tables made and large
 * pages split on the way. */
static int entry_of(struct world *w, struct step_case *c, u64 lin, unsigned depth, u64 *entry_gpa,
                    struct err *e)
{
    const struct level *lv;
    unsigned n = levels_of(c, &lv);
    u64 table = c->s.cr3 & PTE_ADDR;

    for (unsigned i = 0;; i++) {
        u64 idx = lin >> lv[i].shift & ((1u << lv[i].bits) - 1);
        *entry_gpa = table + idx * lv[i].bytes;
        if (i == depth)
            return 0;
        u64 old = entry_get(w, *entry_gpa, lv[i].bytes), next;
        if (old & PTE_P && !(old & PTE_PS)) {
            table = old & PTE_ADDR;
            continue;
        }
        int rc = new_table(w, c, &next, e);
        if (rc)
            return rc;
        const struct level *below = &lv[i + 1];
        for (u64 k = 0; old & PTE_P && k < 1u << below->bits; k++) {
            u64 part = (old & PTE_ADDR) + (k << below->shift);
            part |= PTE_OPEN | (i + 2 < n ? PTE_PS : 0);
            memcpy(world_at(w, next + k * below->bytes), &part, below->bytes);
        }
        /* The PAE top level has no rights bits. */
        u64 up = next | (n == 3 && i == 0 ? PTE_P : PTE_OPEN);
        if (world_poke(w, *entry_gpa, &up, lv[i].bytes))
            return err_set(e, ENOSPC, "vmem: too many pages");
        table = next;
    }
}

int step_identity_map(struct world *w, struct step_case *c, struct err *e)
{
    const struct level *lv;
    unsigned n = levels_of(c, &lv);

    int rc = new_table(w, c, &c->s.cr3, e);
    if (rc)
        return rc;
    c->s.cr0 |= CR0_PG;
    if (n == 2)
        c->s.cr4 |= CR4_PSE;
    /* 1 GiB pages where there are any, else 2 or 4 MiB ones for the first 4 GiB. */
    bool huge = n == 4 && x86_has(&w->cpu, X86_FEATURE_PDPE1GB);
    unsigned depth = huge ? 1 : n - 2;
    u64 end = huge ? WORLD_RAM : 4 * GiB;
    for (u64 at = 0; at < end; at += 1ull << lv[depth].shift) {
        u64 entry_gpa, val = at | PTE_OPEN | PTE_PS;
        rc = entry_of(w, c, at, depth, &entry_gpa, e);
        if (rc)
            return rc;
        if (world_poke(w, entry_gpa, &val, lv[depth].bytes))
            return err_set(e, ENOSPC, "vmem: too many pages");
    }
    return 0;
}

void step_load_pdptes(struct world *w, struct step_case *c)
{
    if (c->s.cr0 & CR0_PG && c->s.cr4 & CR4_PAE && !(c->s.efer & EFER_LMA))
        memcpy(c->s.pdpte, world_at(w, c->s.cr3 & ~31ull), sizeof(c->s.pdpte));
}

static const struct step_map open_page = {.present = true, .write = true, .user = true};

int step_map_page(struct world *w, struct step_case *c, u64 lin, const struct step_map *how,
                  u64 *gpa, struct err *e)
{
    const struct level *lv;
    unsigned n = levels_of(c, &lv);
    u64 entry_gpa;

    int rc = entry_of(w, c, lin, n - 1, &entry_gpa, e);
    if (rc)
        return rc;
    u64 old = entry_get(w, entry_gpa, lv[n - 1].bytes);
    u64 frame = old & PTE_ADDR;
    bool mapped = frame >= STEP_PAGES && frame < c->next_frame;
    if (mapped && !how) {
        *gpa = frame | (lin & 4095);
        return 0;
    }
    how = how ? how : &open_page;
    if (!mapped) {
        frame = c->next_frame;
        u64 nr = (frame - STEP_PAGES) >> 12;
        if (nr == STEP_FRAMES_MAX)
            return err_set(e, ENOSPC, "vmem: more than %u pages", STEP_FRAMES_MAX);
        c->frame_lin[nr] = lin & ~4095ull;
        c->next_frame += 4096;
    }
    u64 pte = frame | PTE_AD;
    pte |= how->present ? PTE_P : 0;
    pte |= how->write ? PTE_W : 0;
    pte |= how->user ? PTE_U : 0;
    pte |= how->nx && lv[n - 1].bytes == 8 ? PTE_NX : 0;
    if (how->nx && lv[n - 1].bytes == 8)
        c->s.efer |= EFER_NXE;
    if (world_poke(w, entry_gpa, &pte, lv[n - 1].bytes))
        return err_set(e, ENOSPC, "vmem: too many pages");
    *gpa = frame | (lin & 4095);
    return 0;
}
