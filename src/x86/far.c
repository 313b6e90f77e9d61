/* far.c - far JMP, CALL and RET: segments, call gates, tasks (SDM vol. 2; vol. 3 5.8) */
#include "x86/xfer.h"

/* --- shared with returns and events ----------------------------------------------------------- */

static bool is_long_code(const struct x86_cpu *cpu, const struct x86_desc *cs)
{
    return cpu->lma && cs->attr & SEG_L;
}

/* A 64-bit return to compatibility mode drops the upper half of RIP before it is checked; on AMD
 * processors it counts. */
u64 x86_return_offset(const struct x86_cpu *cpu, const struct x86_desc *cs, u64 off)
{
    return is_long_code(cpu, cs) || !cpu->intel ? off : (u32)off;
}

int x86_check_ip(struct x86_cpu *cpu, const struct x86_desc *cs, u64 off)
{
    if (is_long_code(cpu, cs) ? !x86_canonical(off) : off > cs->limit)
        return x86_gp(cpu, 0);
    return X86_OK;
}

void x86_enter_code(struct x86_cpu *cpu, u16 sel, const struct x86_desc *cs, unsigned cpl, u64 rip)
{
    x86_seg_fill(&cpu->s.seg[X86_CS], (sel & 0xfffc) | cpl, cs);
    cpu->s.cpl = cpl;
    cpu->s.rip = rip;
}

/* L and D both set is reserved in long mode. */
static bool bad_size_bits(const struct x86_cpu *cpu, const struct x86_desc *cs)
{
    return cpu->lma && (cs->attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB);
}

/* --- real and virtual-8086 mode --------------------------------------------------------------- */

static int check_ip_real(struct x86_cpu *cpu, u64 off)
{
    u32 limit = cpu->vm86 ? 0xffff : cpu->s.seg[X86_CS].limit;

    return off > limit ? x86_gp(cpu, 0) : X86_OK;
}

static int transfer_real(struct x86_cpu *cpu, u16 sel, u64 off, unsigned opsize, bool call)
{
    struct x86_frame f;

    x86_frame_current(cpu, &f, opsize);
    if (call) {
        x86_frame_push(&f, cpu->s.seg[X86_CS].sel);
        x86_frame_push(&f, cpu->s.rip);
    }
    TRY(x86_frame_check(cpu, &f));
    TRY(check_ip_real(cpu, off));
    if (call) {
        TRY(x86_frame_write(cpu, &f));
        gpr_set(cpu, X86_RSP, f.width, x86_frame_sp(&f));
    }
    x86_set_seg_real(cpu, X86_CS, sel);
    cpu->s.rip = off;
    x86_update_mode(cpu);
    return X86_OK;
}

/* --- code segments named directly ------------------------------------------------------------- */

static int check_direct(struct x86_cpu *cpu, u16 sel, const struct x86_desc *cs)
{
    unsigned dpl = attr_dpl(cs->attr), cpl = cpu->s.cpl;

    if (bad_size_bits(cpu, cs))
        return sel_fault(cpu, X86_GP, sel);
    if (attr_is_conforming(cs->attr) ? dpl > cpl : sel_rpl(sel) > cpl || dpl != cpl)
        return sel_fault(cpu, X86_GP, sel);
    if (!(cs->attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    return X86_OK;
}

/* The end of every transfer without a change of stack: f holds the return address, or nothing. */
static int transfer_same(struct x86_cpu *cpu, u16 sel, struct x86_desc *cs, u64 off,
                         const struct x86_frame *f)
{
    TRY(x86_frame_check(cpu, f));
    TRY(x86_check_ip(cpu, cs, off));
    TRY(x86_desc_accessed(cpu, cs));
    if (f->n) {
        TRY(x86_frame_write(cpu, f));
        gpr_set(cpu, X86_RSP, f->width, x86_frame_sp(f));
    }
    x86_enter_code(cpu, sel, cs, cpu->s.cpl, off);
    x86_update_mode(cpu);
    return X86_OK;
}

static void push_return(struct x86_cpu *cpu, struct x86_frame *f)
{
    x86_frame_push(f, cpu->s.seg[X86_CS].sel);
    x86_frame_push(f, cpu->s.rip);
}

static int transfer_direct(struct x86_cpu *cpu, u16 sel, struct x86_desc *cs, u64 off,
                           unsigned opsize, bool call)
{
    struct x86_frame f;

    TRY(check_direct(cpu, sel, cs));
    x86_frame_current(cpu, &f, opsize);
    /* Between 64-bit and compatibility code the stack is already that of the code entered. */
    if (is_long_code(cpu, cs)) {
        x86_frame_long(&f, cpu->s.gpr[X86_RSP], false);
        f.size = opsize;
    } else {
        f.width = x86_stack_width(cpu, cs->attr, f.ss.attr);
    }
    if (call)
        push_return(cpu, &f);
    return transfer_same(cpu, sel, cs, off, &f);
}

/* --- call gates ------------------------------------------------------------------------------- */

static int gate_access(struct x86_cpu *cpu, u16 sel, const struct x86_desc *gate)
{
    unsigned dpl = attr_dpl(gate->attr);

    if (dpl < cpu->s.cpl || dpl < sel_rpl(sel))
        return sel_fault(cpu, X86_GP, sel);
    if (!(gate->attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    return X86_OK;
}

static int gate_code(struct x86_cpu *cpu, u16 sel, struct x86_desc *cs, bool call)
{
    if (sel_null(sel))
        return x86_gp(cpu, 0);
    TRY(x86_desc_read(cpu, sel, X86_GP, cs));
    unsigned dpl = attr_dpl(cs->attr);
    if (!attr_is_code(cs->attr) || dpl > cpu->s.cpl ||
        (!call && !attr_is_conforming(cs->attr) && dpl != cpu->s.cpl))
        return sel_fault(cpu, X86_GP, sel);
    if (cpu->lma && (cs->attr & (SEG_L | SEG_DB)) != SEG_L)
        return sel_fault(cpu, X86_GP, sel);
    if (!(cs->attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    return X86_OK;
}

/* Parameters keep their order: the one furthest up the outer stack is pushed first. */
static int push_params(struct x86_cpu *cpu, struct x86_frame *f, unsigned count)
{
    while (count--) {
        u64 val;
        TRY(x86_stack_peek(cpu, count * f->size, f->size, &val));
        x86_frame_push(f, val);
    }
    return X86_OK;
}

static int call_inner(struct x86_cpu *cpu, const struct x86_desc *gate, struct x86_desc *cs,
                      unsigned size)
{
    unsigned dpl = attr_dpl(cs->attr);
    struct x86_seg *ss = &cpu->s.seg[X86_SS];
    struct x86_desc new_ss;
    struct x86_frame f;
    u16 ss_sel = dpl;
    u64 rsp;

    if (cpu->lma) {
        TRY(x86_tss_rsp(cpu, dpl * 8 + 4, &rsp));
        x86_frame_long(&f, rsp, true);
    } else {
        TRY(x86_frame_inner(cpu, &f, dpl, size, &ss_sel, &new_ss));
    }
    x86_frame_push(&f, ss->sel);
    x86_frame_push(&f, cpu->s.gpr[X86_RSP]);
    if (!cpu->lma)
        TRY(push_params(cpu, &f, gate->gate_params));
    push_return(cpu, &f);
    TRY(x86_frame_check(cpu, &f));
    TRY(x86_check_ip(cpu, cs, gate->gate_off));
    TRY(x86_desc_accessed(cpu, cs));
    if (!cpu->lma)
        TRY(x86_desc_accessed(cpu, &new_ss));
    TRY(x86_frame_write(cpu, &f));

    x86_enter_code(cpu, gate->gate_sel, cs, dpl, gate->gate_off);
    if (cpu->lma) {
        x86_seg_null(cpu, X86_SS, ss_sel);
        ss->attr = dpl << SEG_DPL_SHIFT;
    } else {
        x86_seg_fill(ss, ss_sel, &new_ss);
    }
    gpr_set(cpu, X86_RSP, f.width, x86_frame_sp(&f));
    x86_update_mode(cpu);
    return X86_OK;
}

static int through_gate(struct x86_cpu *cpu, u16 sel, const struct x86_desc *gate, bool call)
{
    unsigned size = cpu->lma ? 8 : gate->attr & SYS_32BIT ? 4 : 2;
    struct x86_desc cs;
    struct x86_frame f;

    TRY(gate_access(cpu, sel, gate));
    TRY(gate_code(cpu, gate->gate_sel, &cs, call));
    if (call && !attr_is_conforming(cs.attr) && attr_dpl(cs.attr) < cpu->s.cpl)
        return call_inner(cpu, gate, &cs, size);
    if (cpu->lma)
        x86_frame_long(&f, cpu->s.gpr[X86_RSP], false);
    else
        x86_frame_current(cpu, &f, size);
    if (call)
        push_return(cpu, &f);
    return transfer_same(cpu, gate->gate_sel, &cs, gate->gate_off, &f);
}

/* --- tasks ------------------------------------------------------------------------------------ */

static int through_tss(struct x86_cpu *cpu, u16 sel, const struct x86_desc *tss, bool call)
{
    if (!(tss->attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    return x86_task_switch(cpu, sel, tss, call ? X86_TASK_CALL : X86_TASK_JMP, false, 0);
}

static bool is_available_tss(u16 attr)
{
    return attr_is_system(attr, SYS_TSS16) || attr_is_system(attr, SYS_TSS32);
}

static int through_task_gate(struct x86_cpu *cpu, u16 sel, const struct x86_desc *gate, bool call)
{
    u16 tss_sel = gate->gate_sel;
    struct x86_desc tss;

    TRY(gate_access(cpu, sel, gate));
    if (tss_sel & 4 || sel_null(tss_sel))
        return sel_fault(cpu, X86_GP, tss_sel);
    TRY(x86_desc_read(cpu, tss_sel, X86_GP, &tss));
    if (!is_available_tss(tss.attr))
        return sel_fault(cpu, X86_GP, tss_sel);
    return through_tss(cpu, tss_sel, &tss, call);
}

/* --- JMP and CALL ----------------------------------------------------------------------------- */

/* Call gates of 64 bits are all that long mode knows; task gates, TSSs and 16-bit gates #GP
 * there. */
static int transfer_system(struct x86_cpu *cpu, u16 sel, const struct x86_desc *d, bool call)
{
    unsigned dpl = attr_dpl(d->attr);

    switch (d->attr & (SEG_S | SEG_TYPE)) {
    case SYS_CALL32: return through_gate(cpu, sel, d, call);
    case SYS_CALL16:
        if (cpu->lma)
            break;
        return through_gate(cpu, sel, d, call);
    case SYS_TASK_GATE:
        if (cpu->lma)
            break;
        return through_task_gate(cpu, sel, d, call);
    case SYS_TSS16:
    case SYS_TSS32:
        if (cpu->lma || sel & 4 || dpl < cpu->s.cpl || dpl < sel_rpl(sel))
            break;
        return through_tss(cpu, sel, d, call);
    default: break;
    }
    return sel_fault(cpu, X86_GP, sel);
}

static int far_transfer(struct x86_cpu *cpu, u16 sel, u64 off, unsigned opsize, bool call)
{
    struct x86_desc d;

    off &= size_mask(opsize);
    if (!cpu->prot)
        return transfer_real(cpu, sel, off, opsize, call);
    if (sel_null(sel))
        return x86_gp(cpu, 0);
    TRY(x86_desc_read(cpu, sel, X86_GP, &d));
    if (attr_is_code(d.attr))
        return transfer_direct(cpu, sel, &d, off, opsize, call);
    return transfer_system(cpu, sel, &d, call);
}

int x86_far_jmp(struct x86_cpu *cpu, u16 sel, u64 off, unsigned opsize)
{
    return far_transfer(cpu, sel, off, opsize, false);
}

int x86_far_call(struct x86_cpu *cpu, u16 sel, u64 off, unsigned opsize)
{
    return far_transfer(cpu, sel, off, opsize, true);
}

/* --- RET -------------------------------------------------------------------------------------- */

int x86_return_code(struct x86_cpu *cpu, u16 sel, struct x86_desc *cs)
{
    unsigned rpl = sel_rpl(sel);

    if (sel_null(sel))
        return x86_gp(cpu, 0);
    TRY(x86_desc_read(cpu, sel, X86_GP, cs));
    unsigned dpl = attr_dpl(cs->attr);
    if (!attr_is_code(cs->attr) || bad_size_bits(cpu, cs) || rpl < cpu->s.cpl)
        return sel_fault(cpu, X86_GP, sel);
    if (attr_is_conforming(cs->attr) ? dpl > rpl : dpl != rpl)
        return sel_fault(cpu, X86_GP, sel);
    if (!(cs->attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    return X86_OK;
}

/* SS may be null only on the way to 64-bit code of levels 0 to 2. */
int x86_return_stack(struct x86_cpu *cpu, u16 sel, u16 cs_sel, const struct x86_desc *cs,
                     struct x86_desc *ss)
{
    unsigned rpl = sel_rpl(cs_sel);

    if (sel_null(sel)) {
        if (!is_long_code(cpu, cs) || rpl == 3 || sel_rpl(sel) != rpl)
            return x86_gp(cpu, 0);
        *ss = (struct x86_desc){.attr = rpl << SEG_DPL_SHIFT};
        return X86_OK;
    }
    TRY(x86_desc_read(cpu, sel, X86_GP, ss));
    if (sel_rpl(sel) != rpl || !attr_is_writable_data(ss->attr) || attr_dpl(ss->attr) != rpl)
        return sel_fault(cpu, X86_GP, sel);
    if (!(ss->attr & SEG_P))
        return sel_fault(cpu, X86_SS_FAULT, sel);
    return X86_OK;
}

void x86_return_outer(struct x86_cpu *cpu, u16 cs_sel, const struct x86_desc *cs, u64 rip,
                      u16 ss_sel, const struct x86_desc *ss, u64 rsp)
{
    unsigned rpl = sel_rpl(cs_sel), old_cpl = cpu->s.cpl;

    x86_enter_code(cpu, cs_sel, cs, rpl, rip);
    x86_seg_fill(&cpu->s.seg[X86_SS], ss_sel, ss);
    gpr_set(cpu, X86_RSP, x86_stack_width(cpu, cs->attr, ss->attr), rsp);
    if (rpl != old_cpl)
        x86_null_inner_segs(cpu);
}

static int return_same(struct x86_cpu *cpu, u16 sel, struct x86_desc *cs, u64 off, unsigned opsize,
                       unsigned pop_bytes)
{
    TRY(x86_check_ip(cpu, cs, off));
    TRY(x86_desc_accessed(cpu, cs));
    x86_enter_code(cpu, sel, cs, cpu->s.cpl, off);
    x86_update_mode(cpu);
    x86_stack_move(cpu, 2 * opsize + pop_bytes); /* with the width of the new mode */
    return X86_OK;
}

static int return_real(struct x86_cpu *cpu, u16 sel, u64 off, unsigned opsize, unsigned pop_bytes)
{
    TRY(check_ip_real(cpu, off));
    x86_stack_move(cpu, 2 * opsize + pop_bytes);
    x86_set_seg_real(cpu, X86_CS, sel);
    cpu->s.rip = off;
    x86_update_mode(cpu);
    return X86_OK;
}

static must_check int peek_outer(struct x86_cpu *cpu, unsigned opsize, unsigned pop_bytes, u64 *rsp,
                                 u64 *ss_sel)
{
    if (!cpu->intel) /* in this order */
        TRY(x86_stack_peek(cpu, 3 * opsize + pop_bytes, opsize, ss_sel));
    TRY(x86_stack_peek(cpu, 2 * opsize + pop_bytes, opsize, rsp));
    return cpu->intel ? x86_stack_peek(cpu, 3 * opsize + pop_bytes, opsize, ss_sel) : X86_OK;
}

/* Both stacks drop pop_bytes: the outer one holds its own copy of the parameters. AMD processors
 * read all of the frame before they look at the selector (APM vol. 3 RET (Far)). */
int x86_far_ret(struct x86_cpu *cpu, unsigned opsize, unsigned pop_bytes)
{
    u64 off, sel, rsp = 0, ss_sel = 0;
    struct x86_desc cs, ss;

    TRY(x86_stack_peek(cpu, 0, opsize, &off));
    TRY(x86_stack_peek(cpu, opsize, opsize, &sel));
    if (!cpu->prot)
        return return_real(cpu, sel, off, opsize, pop_bytes);
    bool same = sel_rpl(sel) == cpu->s.cpl;
    if (!same && !cpu->intel)
        TRY(peek_outer(cpu, opsize, pop_bytes, &rsp, &ss_sel));
    TRY(x86_return_code(cpu, sel, &cs));
    off = x86_return_offset(cpu, &cs, off);
    if (same)
        return return_same(cpu, sel, &cs, off, opsize, pop_bytes);

    if (cpu->intel)
        TRY(peek_outer(cpu, opsize, pop_bytes, &rsp, &ss_sel));
    else
        TRY(x86_check_ip(cpu, &cs, off));
    TRY(x86_return_stack(cpu, ss_sel, sel, &cs, &ss));
    TRY(x86_check_ip(cpu, &cs, off));
    TRY(x86_desc_accessed(cpu, &cs));
    if (ss.attr & SEG_P)
        TRY(x86_desc_accessed(cpu, &ss));
    x86_return_outer(cpu, sel, &cs, off, ss_sel, &ss, rsp + pop_bytes);
    x86_update_mode(cpu);
    return X86_OK;
}

/* --- instructions ----------------------------------------------------------------------------- */

X86_HANDLER(jmp_far)
{
    u16 sel;
    u64 off;

    TRY(x86_far_pointer(cpu, in, 0, &sel, &off));
    TRY(x86_far_jmp(cpu, sel, off, in->opsize));
    return X86_YIELD;
}

X86_HANDLER(call_far)
{
    u16 sel;
    u64 off;

    TRY(x86_far_pointer(cpu, in, 0, &sel, &off));
    TRY(x86_far_call(cpu, sel, off, in->opsize));
    return X86_YIELD;
}

X86_HANDLER(ret_far)
{
    TRY(x86_far_ret(cpu, in->opsize, in->nops ? (u16)in->imm : 0));
    return X86_YIELD;
}
