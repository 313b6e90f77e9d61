/* xfer.c - stacks of far transfers and events, far pointers (SDM vol. 3 5.8.5, 7.7) */
#include <string.h>

#include "x86/xfer.h"

int x86_stack_peek(struct x86_cpu *cpu, unsigned off, unsigned size, u64 *val)
{
    u64 sp = (cpu->s.gpr[X86_RSP] + off) & size_mask(cpu->stack_bytes);

    return x86_read(cpu, X86_SS, sp, size, val);
}

void x86_stack_move(struct x86_cpu *cpu, s64 bytes)
{
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, cpu->s.gpr[X86_RSP] + (u64)bytes);
}

unsigned x86_stack_width(const struct x86_cpu *cpu, u16 cs_attr, u16 ss_attr)
{
    if (cpu->lma && cs_attr & SEG_L)
        return 8;
    return ss_attr & SEG_DB ? 4 : 2;
}

/* --- frames ----------------------------------------------------------------------------------- */

void x86_frame_current(struct x86_cpu *cpu, struct x86_frame *f, unsigned size)
{
    f->ss = cpu->s.seg[X86_SS];
    f->sp = cpu->s.gpr[X86_RSP];
    f->width = cpu->stack_bytes;
    f->size = size;
    f->access = X86_W;
    f->error = 0;
    f->n = 0;
}

void x86_frame_long(struct x86_frame *f, u64 rsp, bool inner)
{
    f->sp = rsp;
    f->width = 8;
    f->size = 8;
    f->access = inner ? X86_W | X86_SYS : X86_W;
    f->error = 0;
    f->n = 0;
}

/* Reads n bytes of the current TSS; #TS(TSS selector) outside its limit. */
static int tss_read(struct x86_cpu *cpu, unsigned off, unsigned n, void *buf)
{
    const struct x86_seg *tr = &cpu->s.tr;
    u64 lin = tr->base + off;

    if (off + n - 1 > tr->limit)
        return sel_fault(cpu, X86_TS, tr->sel);
    return x86_lin_read(cpu, cpu->lma ? lin : (u32)lin, buf, n, X86_R | X86_SYS);
}

int x86_tss_rsp(struct x86_cpu *cpu, unsigned off, u64 *rsp)
{
    return tss_read(cpu, off, 8, rsp);
}

static int tss_stack(struct x86_cpu *cpu, unsigned dpl, u16 *sel, u32 *sp)
{
    u16 narrow[2];
    u8 wide[6];

    if (cpu->s.tr.attr & SYS_32BIT) {
        TRY(tss_read(cpu, dpl * 8 + 4, 6, wide));
        memcpy(sp, wide, 4);
        memcpy(sel, wide + 4, 2);
        return X86_OK;
    }
    TRY(tss_read(cpu, dpl * 4 + 2, 4, narrow));
    *sp = narrow[0];
    *sel = narrow[1];
    return X86_OK;
}

int x86_frame_inner(struct x86_cpu *cpu, struct x86_frame *f, unsigned dpl, unsigned size, u16 *sel,
                    struct x86_desc *ss)
{
    u32 sp;

    TRY(tss_stack(cpu, dpl, sel, &sp));
    if (sel_null(*sel))
        return x86_raise_error(cpu, X86_TS, 0);
    TRY(x86_desc_read(cpu, *sel, X86_TS, ss));
    if (sel_rpl(*sel) != dpl || attr_dpl(ss->attr) != dpl || !attr_is_writable_data(ss->attr))
        return sel_fault(cpu, X86_TS, *sel);
    if (!(ss->attr & SEG_P))
        return sel_fault(cpu, X86_SS_FAULT, *sel);
    x86_seg_fill(&f->ss, *sel, ss);
    f->sp = sp;
    f->width = ss->attr & SEG_DB ? 4 : 2;
    f->size = size;
    f->access = X86_W | X86_SYS;
    f->error = *sel & 0xfffc;
    f->n = 0;
    return X86_OK;
}

static u64 item_offset(const struct x86_frame *f, unsigned i)
{
    return (f->sp - (u64)(i + 1) * f->size) & size_mask(f->width);
}

static bool item_fits(const struct x86_frame *f, u64 off)
{
    const struct x86_seg *ss = &f->ss;
    u64 last = off + f->size - 1;

    if (f->width == 8)
        return x86_canonical(off) && x86_canonical(last);
    if (!(ss->attr & SEG_P))
        return false;
    if (ss->attr & SEG_DOWN && !(ss->attr & SEG_CODE))
        return off > ss->limit && last <= (ss->attr & SEG_DB ? 0xffffffff : 0xffff);
    return last <= ss->limit;
}

int x86_frame_check(struct x86_cpu *cpu, const struct x86_frame *f)
{
    for (unsigned i = 0; i < f->n; i++)
        if (!item_fits(f, item_offset(f, i)))
            return x86_raise_error(cpu, X86_SS_FAULT, f->error);
    return X86_OK;
}

u64 x86_frame_sp(const struct x86_frame *f)
{
    return (f->sp - (u64)f->n * f->size) & size_mask(f->width);
}

static u64 frame_linear(const struct x86_frame *f, u64 off)
{
    return f->width == 8 ? off : (u32)(f->ss.base + off);
}

/* Items go in one by one, the first pushed first: a page fault names the first that is missing. */
static int write_items(struct x86_cpu *cpu, const struct x86_frame *f)
{
    for (unsigned i = 0; i < f->n; i++)
        TRY(x86_lin_probe(cpu, frame_linear(f, item_offset(f, i)), f->size, f->access));
    for (unsigned i = 0; i < f->n; i++) {
        u64 lin = frame_linear(f, item_offset(f, i));
        TRY(x86_lin_write(cpu, lin, &f->item[i], f->size, f->access));
    }
    return X86_OK;
}

static int write_frame(struct x86_cpu *cpu, const struct x86_frame *f)
{
    u8 buf[X86_FRAME_MAX * 8];
    unsigned bytes = f->n * f->size;
    u64 low = frame_linear(f, x86_frame_sp(f)), first = frame_linear(f, item_offset(f, 0));

    bool aligned = !(low & (f->size - 1));
    bool one_page = first - low == bytes - f->size && (low & 4095) + bytes <= 4096;
    if (!one_page || !aligned)
        return write_items(cpu, f);
    for (unsigned i = 0; i < f->n; i++)
        memcpy(buf + bytes - (i + 1) * f->size, &f->item[i], f->size);
    int rc = x86_lin_write(cpu, low, buf, bytes, f->access);
    /* CR2 is to name the first item, not the lowest. */
    return rc == X86_FAULT ? write_items(cpu, f) : rc;
}

/* A 64-bit stack has 64-bit addresses even while the code that leaves is still in compatibility
 * mode. */
int x86_frame_write(struct x86_cpu *cpu, const struct x86_frame *f)
{
    u64 lin_mask = cpu->lin_mask;

    if (f->width == 8)
        cpu->lin_mask = ~0ull;
    int rc = write_frame(cpu, f);
    cpu->lin_mask = lin_mask;
    return rc;
}

/* --- far pointers ----------------------------------------------------------------------------- */

int x86_far_pointer(struct x86_cpu *cpu, const struct x86_insn *in, unsigned i, u16 *sel, u64 *off)
{
    u64 val;

    if (in->op[i].kind == X86_OPND_IMM) {
        *off = in->imm;
        *sel = in->imm2;
        return X86_OK;
    }
    unsigned size = in->op[i].size - 2;
    u64 ea = x86_ea(cpu, in);
    TRY(x86_read(cpu, in->seg, ea, size, off));
    TRY(x86_read(cpu, in->seg, (ea + size) & size_mask(in->asize), 2, &val));
    *sel = val;
    return X86_OK;
}
