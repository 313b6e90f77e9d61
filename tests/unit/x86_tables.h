/* x86_tables.h - the world of x86_world.h with descriptor tables, a TSS and stacks in it */
#pragma once

#include "x86_world.h"

#define TABLES_PAGES 1024 /* 4 MiB */

/* Where things lie. */
enum {
    AT_GDT = 0x1000, AT_LDT = 0x2000, AT_IDT = 0x3000, AT_TSS = 0x4000, AT_TSS2 = 0x5000,
    AT_STACK0 = 0x9000, AT_STACK3 = 0xb000, AT_STACK_IST = 0xd000, AT_CODE = 0x10000,
    AT_HANDLER = 0x20000, AT_PML4 = 0x100000
};

/* Selectors of the GDT that world_init builds; SEL_FREE and after are each test's own. */
enum {
    SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_CODE3 = 0x18, SEL_DATA3 = 0x20, SEL_TSS = 0x28,
    SEL_TSS2 = 0x30, SEL_LDT = 0x38, SEL_CONF0 = 0x40, SEL_LONG0 = 0x48, SEL_LONG3 = 0x50,
    SEL_CODE16 = 0x58, SEL_DATA16 = 0x60, SEL_FREE = 0x70
};
#define GDT_LIMIT 0xff

#define ATTR_CODE0 (SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_DB | SEG_G)
#define ATTR_DATA0 (SEG_P | SEG_S | SEG_WRITE | SEG_DB | SEG_G)
#define ATTR_DPL3 SEG_DPL
#define ATTR_SYS(type) (SEG_P | (type))

static inline maybe_unused u64 seg_desc(u32 base, u32 limit, u16 attr)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)attr << 40 |
           (u64)(limit >> 16 & 15) << 48 | (u64)(base >> 24) << 56;
}

static inline maybe_unused u64 gate_desc(u16 sel, u32 off, u16 attr, unsigned params)
{
    return (off & 0xffff) | (u64)sel << 16 | (u64)params << 32 | (u64)attr << 40 |
           (u64)(off >> 16) << 48;
}

static inline maybe_unused void put_gdt(struct world *w, u16 sel, u64 desc)
{
    world_put(w, AT_GDT + (sel & 0xfff8), 8, desc);
}

static inline maybe_unused void put_idt(struct world *w, unsigned vector, u64 desc)
{
    world_put(w, AT_IDT + vector * 8, 8, desc);
}

static inline maybe_unused void put_idt_long(struct world *w, unsigned vector, u64 low,
                                             u64 off_high)
{
    world_put(w, AT_IDT + vector * 16, 8, low);
    world_put(w, AT_IDT + vector * 16 + 8, 8, off_high);
}

/* Loads a segment register as the processor has it after loading sel from the GDT. */
static inline maybe_unused void load_direct(struct world *w, struct x86_seg *seg, u16 sel)
{
    u64 d = world_get(w, AT_GDT + (sel & 0xfff8), 8);
    u32 limit = (d & 0xffff) | (d >> 32 & 0xf0000);

    seg->sel = sel;
    seg->attr = d >> 40 & 0xf0ff;
    seg->limit = seg->attr & SEG_G ? limit << 12 | 0xfff : limit;
    seg->base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000);
}

static inline maybe_unused void tables_fill(struct world *w)
{
    put_gdt(w, SEL_CODE0, seg_desc(0, 0xfffff, ATTR_CODE0));
    put_gdt(w, SEL_DATA0, seg_desc(0, 0xfffff, ATTR_DATA0));
    put_gdt(w, SEL_CODE3, seg_desc(0, 0xfffff, ATTR_CODE0 | ATTR_DPL3));
    put_gdt(w, SEL_DATA3, seg_desc(0, 0xfffff, ATTR_DATA0 | ATTR_DPL3));
    put_gdt(w, SEL_TSS, seg_desc(AT_TSS, 0xfff, ATTR_SYS(11)));
    put_gdt(w, SEL_TSS2, seg_desc(AT_TSS2, 0x67, ATTR_SYS(9)));
    put_gdt(w, SEL_LDT, seg_desc(AT_LDT, 0x1f, ATTR_SYS(2)));
    put_gdt(w, SEL_CONF0, seg_desc(0, 0xfffff, ATTR_CODE0 | SEG_DOWN));
    put_gdt(w, SEL_LONG0, seg_desc(0, 0xfffff, (ATTR_CODE0 & ~SEG_DB) | SEG_L));
    put_gdt(w, SEL_LONG3, seg_desc(0, 0xfffff, (ATTR_CODE0 & ~SEG_DB) | SEG_L | ATTR_DPL3));
    put_gdt(w, SEL_CODE16, seg_desc(0, 0xffff, ATTR_CODE0 & ~(SEG_DB | SEG_G)));
    put_gdt(w, SEL_DATA16, seg_desc(0, 0xffff, ATTR_DATA0 & ~(SEG_DB | SEG_G)));
    world_put(w, AT_TSS + 4, 4, AT_STACK0);
    world_put(w, AT_TSS + 8, 2, SEL_DATA0);
}

static inline maybe_unused void set_cpl(struct world *w, unsigned cpl)
{
    struct x86_state *s = &w->cpu.s;
    u16 data = cpl ? SEL_DATA3 | 3 : SEL_DATA0;

    s->cpl = cpl;
    load_direct(w, &s->seg[X86_CS], cpl ? SEL_CODE3 | 3 : SEL_CODE0);
    load_direct(w, &s->seg[X86_SS], data);
    load_direct(w, &s->seg[X86_DS], data);
    load_direct(w, &s->seg[X86_ES], data);
    load_direct(w, &s->seg[X86_FS], data);
    load_direct(w, &s->seg[X86_GS], data);
    s->gpr[X86_RSP] = cpl ? AT_STACK3 : AT_STACK0;
    s->rip = AT_CODE;
    x86_update_mode(&w->cpu);
}

/* 32-bit protected mode at the level given, on an Intel processor with every feature. */
static inline maybe_unused struct world *tables_prot(unsigned cpl)
{
    struct world *w = world_new(TABLES_PAGES, "ring3-v2");
    struct x86_state *s = &w->cpu.s;

    w->cpu.intel = true;
    memset(w->cpu.features, 0xff, sizeof(w->cpu.features));
    tables_fill(w);
    s->cr0 = CR0_PE | CR0_ET | CR0_NE;
    s->gdtr = (struct x86_dtable){AT_GDT, GDT_LIMIT};
    s->idtr = (struct x86_dtable){AT_IDT, 0x7ff};
    load_direct(w, &s->tr, SEL_TSS);
    load_direct(w, &s->ldtr, SEL_LDT);
    set_cpl(w, cpl);
    return w;
}

static inline maybe_unused struct world *tables_real(void)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    s->cr0 = CR0_ET;
    s->idtr = (struct x86_dtable){0, 0x3ff};
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i] = (struct x86_seg){.limit = 0xffff, .attr = 0x93};
    s->seg[X86_CS].sel = AT_CODE >> 4;
    s->seg[X86_CS].base = AT_CODE;
    s->rip = 0;
    x86_update_mode(&w->cpu);
    return w;
}

/* Virtual-8086 mode with this IOPL. */
static inline maybe_unused struct world *tables_vm86(unsigned iopl)
{
    struct world *w = tables_prot(3);
    struct x86_state *s = &w->cpu.s;

    s->rflags |= RFLAGS_VM | iopl << RFLAGS_IOPL_SHIFT;
    for (unsigned i = 0; i < X86_SREGS; i++)
        x86_set_seg_real(&w->cpu, i, 0x100 * i);
    x86_set_seg_real(&w->cpu, X86_CS, AT_CODE >> 4);
    x86_set_seg_real(&w->cpu, X86_SS, 0);
    s->rip = 0;
    x86_update_mode(&w->cpu);
    return w;
}

/* Identity-mapped long mode, 2 MiB pages, user and writable; 64-bit code at the level given. */
static inline maybe_unused struct world *tables_long(unsigned cpl)
{
    struct world *w = tables_prot(cpl);
    struct x86_state *s = &w->cpu.s;

    world_put(w, AT_PML4, 8, (AT_PML4 + 0x1000) | 7);
    world_put(w, AT_PML4 + 0x1000, 8, (AT_PML4 + 0x2000) | 7);
    for (unsigned i = 0; i < TABLES_PAGES * 4096 / (2 * MiB); i++)
        world_put(w, AT_PML4 + 0x2000 + i * 8, 8, i * 2 * MiB | 0x87);
    s->cr0 |= CR0_PG;
    s->cr4 = CR4_PAE;
    s->cr3 = AT_PML4;
    s->efer = EFER_LME | EFER_LMA | EFER_SCE;
    s->idtr.limit = 0xfff;
    world_put(w, AT_TSS + 8, 8, 0);
    world_put(w, AT_TSS + 4, 8, AT_STACK0);
    load_direct(w, &s->seg[X86_CS], cpl ? SEL_LONG3 | 3 : SEL_LONG0);
    s->cpl = cpl;
    x86_update_mode(&w->cpu);
    x86_tlb_flush(&w->cpu, true);
    return w;
}

#define assert_done(rc) assert_true((rc) == X86_OK || (rc) == X86_YIELD)
