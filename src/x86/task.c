/* task.c - hardware task switch (SDM vol. 3 chapter 7) */
#include <string.h>

#include "x86/debug.h"
#include "x86/xfer.h"

/* TSS fields from the instruction pointer on, at these offsets (SDM vol. 3 figures 7-2 and 7-10):
 *
 *          IP    FLAGS  AX..DI      ES CS SS DS FS GS   LDT    T, I/O map   last byte
 *   32-bit 20H   24H    28H..44H    48H..5CH            60H    64H, 66H     67H
 *   16-bit 0EH   10H    12H..20H    22H..28H (to DS)    2AH    -            2BH
 *
 * The link to the previous task is word 0; CR3 is the doubleword at 1CH of the 32-bit form. */
struct tss_layout {
    u8 width; /* of IP, FLAGS, the registers, and the step between selectors */
    u8 ip, segs, nsegs, ldt, last;
};

static const struct tss_layout layout16 = {2, 0x0e, 0x22, 4, 0x2a, 0x2b};
static const struct tss_layout layout32 = {4, 0x20, 0x48, 6, 0x60, 0x67};

#define TSS_CR3   0x1c
#define TSS_T     0x64
#define TSS_BYTES 0x68

/* L0-L3 and LE of DR7 do not outlive a task (SDM vol. 3 17.2.4). */
#define DR7_LOCAL 0x155ull

#define EFLAGS_LOADABLE                                                                       \
    (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | RFLAGS_RF | \
     RFLAGS_VM | RFLAGS_AC | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_ID)

struct task_image {
    const struct tss_layout *layout;
    u32 ip, flags, gpr[8], cr3;
    u16 seg[X86_SREGS], ldt;
    bool trap;
};

static const struct tss_layout *layout_of(u16 attr)
{
    return attr & SYS_32BIT ? &layout32 : &layout16;
}

static u32 get_field(const u8 *buf, unsigned off, unsigned width)
{
    u32 val = 0;

    memcpy(&val, buf + off, width);
    return val;
}

static u64 gdt_entry(const struct x86_cpu *cpu, u16 sel)
{
    return (u32)(cpu->s.gdtr.base + (sel & 0xfff8));
}

/* --- out of the old task ---------------------------------------------------------------------- */

static int read_image(struct x86_cpu *cpu, const struct x86_desc *tss, struct task_image *img)
{
    const struct tss_layout *l = layout_of(tss->attr);
    u8 buf[TSS_BYTES];

    memset(img, 0, sizeof(*img));
    TRY(x86_lin_read(cpu, (u32)tss->base, buf, l->last + 1u, X86_R | X86_SYS));
    img->layout = l;
    img->ip = get_field(buf, l->ip, l->width);
    img->flags = get_field(buf, l->ip + l->width, l->width);
    for (unsigned i = 0; i < 8; i++) {
        img->gpr[i] = get_field(buf, l->ip + (2 + i) * l->width, l->width);
        if (l->width == 2)
            img->gpr[i] |= 0xffff0000; /* what processors load above the 16 bits */
    }
    for (unsigned i = 0; i < l->nsegs; i++)
        img->seg[i] = get_field(buf, l->segs + i * l->width, 2);
    img->ldt = get_field(buf, l->ldt, 2);
    if (l->width == 4) {
        img->cr3 = get_field(buf, TSS_CR3, 4);
        img->trap = buf[TSS_T] & 1;
    }
    return X86_OK;
}

/* Limits, and every page that the switch will write, before anything is written. */
static int check_switch(struct x86_cpu *cpu, u16 sel, const struct x86_desc *tss, bool nested,
                        bool release)
{
    const struct x86_seg *tr = &cpu->s.tr;
    const struct tss_layout *old = layout_of(tr->attr);

    if (tss->limit < layout_of(tss->attr)->last)
        return sel_fault(cpu, X86_TS, sel);
    if (tr->limit < old->ldt - 1u)
        return sel_fault(cpu, X86_TS, tr->sel);
    TRY(x86_lin_probe(cpu, (u32)(tr->base + old->ip), old->ldt - old->ip, X86_W | X86_SYS));
    if (nested)
        TRY(x86_lin_probe(cpu, (u32)tss->base, 2, X86_W | X86_SYS));
    if (release)
        TRY(x86_lin_probe(cpu, gdt_entry(cpu, tr->sel), 8, X86_W | X86_SYS));
    return x86_lin_probe(cpu, tss->table_lin, 8, X86_W | X86_SYS);
}

/* Selectors are written as words: the upper halves of a 32-bit TSS are reserved and stay. */
static int save_old(struct x86_cpu *cpu, u32 flags)
{
    const struct tss_layout *l = layout_of(cpu->s.tr.attr);
    u32 base = cpu->s.tr.base, reg[10];
    u8 buf[sizeof(reg)];

    reg[0] = cpu->s.rip;
    reg[1] = flags;
    for (unsigned i = 0; i < 8; i++)
        reg[2 + i] = cpu->s.gpr[i];
    for (unsigned i = 0; i < ARRAY_SIZE(reg); i++)
        memcpy(buf + i * l->width, &reg[i], l->width);
    TRY(x86_lin_write(cpu, base + l->ip, buf, 10u * l->width, X86_W | X86_SYS));
    for (unsigned i = 0; i < l->nsegs; i++) {
        u16 sel = cpu->s.seg[i].sel;
        TRY(x86_lin_write(cpu, base + l->segs + i * l->width, &sel, 2, X86_W | X86_SYS));
    }
    return X86_OK;
}

static int leave_old(struct x86_cpu *cpu, const struct x86_desc *tss, enum x86_task_source source,
                     bool nested, bool release)
{
    u64 flags = cpu->s.rflags;
    u16 old_sel = cpu->s.tr.sel;

    if (source == X86_TASK_IRET)
        flags &= ~(u64)RFLAGS_NT;
    if (source == X86_TASK_GATE_FAULT)
        flags |= RFLAGS_RF;
    TRY(save_old(cpu, flags));
    if (release)
        TRY(x86_desc_update(cpu, gdt_entry(cpu, old_sel), 0, SYS_BUSY));
    if (nested)
        TRY(x86_lin_write(cpu, (u32)tss->base, &old_sel, 2, X86_W | X86_SYS));
    if (source != X86_TASK_IRET)
        TRY(x86_desc_update(cpu, tss->table_lin, SYS_BUSY, 0));
    return X86_OK;
}

/* --- into the new task ------------------------------------------------------------------------ */

/* Registers as the image has them; segments are unusable until each has been checked, and CPL is
 * 3 until SS is, so that a fault on the way takes its stack from the TSS. */
static void enter_new(struct x86_cpu *cpu, u16 sel, const struct x86_desc *tss,
                      const struct task_image *img, bool nested)
{
    struct x86_state *s = &cpu->s;

    x86_seg_fill(&s->tr, sel, tss);
    s->tr.attr |= SYS_BUSY;
    s->cr0 |= CR0_TS;
    s->dr7 &= ~DR7_LOCAL;
    s->rip = cpu->insn_rip = img->ip;
    s->rflags = (img->flags & EFLAGS_LOADABLE) | RFLAGS_ONE;
    if (nested)
        s->rflags |= RFLAGS_NT;
    for (unsigned i = 0; i < 8; i++)
        s->gpr[i] = img->gpr[i];
    s->ldtr = (struct x86_seg){.sel = img->ldt};
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i] = (struct x86_seg){.sel = img->seg[i]};
    s->cpl = 3;
    cpu->retire |= X86_RETIRE_KEEP_RF;
    x86_update_mode(cpu);
}

static int load_ldt(struct x86_cpu *cpu, u16 sel)
{
    struct x86_desc d;

    if (sel & 4)
        return sel_fault(cpu, X86_TS, sel);
    if (sel_null(sel))
        return X86_OK;
    TRY(x86_desc_read(cpu, sel, X86_TS, &d));
    if (!attr_is_system(d.attr, SYS_LDT) || !(d.attr & SEG_P))
        return sel_fault(cpu, X86_TS, sel);
    x86_seg_fill(&cpu->s.ldtr, sel, &d);
    return X86_OK;
}

static int load_code(struct x86_cpu *cpu, u16 sel)
{
    struct x86_desc d;

    if (sel_null(sel))
        return sel_fault(cpu, X86_TS, sel);
    TRY(x86_desc_read(cpu, sel, X86_TS, &d));
    unsigned dpl = attr_dpl(d.attr), rpl = sel_rpl(sel);
    if (!attr_is_code(d.attr) || (attr_is_conforming(d.attr) ? dpl > rpl : dpl != rpl))
        return sel_fault(cpu, X86_TS, sel);
    if (!(d.attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    TRY(x86_desc_accessed(cpu, &d));
    x86_seg_fill(&cpu->s.seg[X86_CS], sel, &d);
    return X86_OK;
}

static int load_stack(struct x86_cpu *cpu, u16 sel, unsigned cpl)
{
    struct x86_desc d;

    if (sel_null(sel))
        return sel_fault(cpu, X86_TS, sel);
    TRY(x86_desc_read(cpu, sel, X86_TS, &d));
    if (!attr_is_writable_data(d.attr))
        return sel_fault(cpu, X86_TS, sel);
    if (!(d.attr & SEG_P))
        return sel_fault(cpu, X86_SS_FAULT, sel);
    if (attr_dpl(d.attr) != cpl || sel_rpl(sel) != cpl)
        return sel_fault(cpu, X86_TS, sel);
    TRY(x86_desc_accessed(cpu, &d));
    x86_seg_fill(&cpu->s.seg[X86_SS], sel, &d);
    return X86_OK;
}

static int load_data(struct x86_cpu *cpu, unsigned sreg, u16 sel)
{
    struct x86_desc d;

    if (sel_null(sel))
        return X86_OK;
    TRY(x86_desc_read(cpu, sel, X86_TS, &d));
    unsigned dpl = attr_dpl(d.attr);
    if (!(d.attr & SEG_S) || (d.attr & (SEG_CODE | SEG_WRITE)) == SEG_CODE)
        return sel_fault(cpu, X86_TS, sel);
    if (!attr_is_conforming(d.attr) && (sel_rpl(sel) > dpl || cpu->s.cpl > dpl))
        return sel_fault(cpu, X86_TS, sel);
    if (!(d.attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    TRY(x86_desc_accessed(cpu, &d));
    x86_seg_fill(&cpu->s.seg[sreg], sel, &d);
    return X86_OK;
}

static int load_segments(struct x86_cpu *cpu, const struct task_image *img)
{
    static const u8 data[] = {X86_DS, X86_ES, X86_FS, X86_GS};

    if (cpu->s.rflags & RFLAGS_VM) {
        for (unsigned i = 0; i < X86_SREGS; i++)
            x86_set_seg_real(cpu, i, img->seg[i]);
        return X86_OK;
    }
    TRY(load_code(cpu, img->seg[X86_CS]));
    TRY(load_stack(cpu, img->seg[X86_SS], sel_rpl(img->seg[X86_CS])));
    cpu->s.cpl = sel_rpl(img->seg[X86_CS]);
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
        TRY(load_data(cpu, data[i], img->seg[data[i]]));
    return X86_OK;
}

/* Everything that can fault inside the new task. */
static int qualify_new(struct x86_cpu *cpu, const struct task_image *img)
{
    if (img->layout->width == 4 && cpu->s.cr0 & CR0_PG)
        TRY(x86_set_cr3(cpu, img->cr3));
    TRY(load_ldt(cpu, img->ldt));
    return load_segments(cpu, img);
}

int x86_task_switch(struct x86_cpu *cpu, u16 sel, const struct x86_desc *tss,
                    enum x86_task_source source, bool has_error, u32 error)
{
    bool nested = source != X86_TASK_JMP && source != X86_TASK_IRET;
    bool release = !nested && !sel_null(cpu->s.tr.sel);
    struct task_image img;

    TRY(check_switch(cpu, sel, tss, nested, release));
    TRY(read_image(cpu, tss, &img));
    TRY(leave_old(cpu, tss, source, nested, release));
    enter_new(cpu, sel, tss, &img, nested);
    int rc = qualify_new(cpu, &img);
    x86_update_mode(cpu);
    TRY(rc);

    if (has_error)
        TRY(x86_push(cpu, img.layout->width, error));
    if (img.trap) {
        cpu->s.dr6_pending |= DR6_BT;
        x86_update_mode(cpu);
    }
    return img.ip > cpu->s.seg[X86_CS].limit ? x86_gp(cpu, 0) : X86_OK;
}
