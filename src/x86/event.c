/* event.c - interrupts and exceptions through IVT, IDT and task gates (SDM vol. 3 chapter 6) */
#include <string.h>

#include "x86/debug.h"
#include "x86/xfer.h"

struct event {
    u8 vector;
    enum x86_event source;
    bool has_error;
    u32 error;
    u64 flags; /* the image to push */
};

/* Exceptions met while delivering anything but INT n, INT3 and INTO say so in their error code. */
#define ERROR_EXT BIT(0)
#define ERROR_IDT BIT(1)

static bool is_external(enum x86_event source)
{
    return source != X86_EV_INT_N && source != X86_EV_INT3;
}

static int idt_fault(struct x86_cpu *cpu, u8 vector, const struct event *e)
{
    return x86_raise_error(cpu, vector, e->vector * 8 + ERROR_IDT);
}

/* --- real mode and VME ------------------------------------------------------------------------ */

/* Pushes FLAGS, CS, IP as words and goes through an interrupt vector at `lin`. */
static int deliver_ivt(struct x86_cpu *cpu, u64 lin, u16 flags)
{
    struct x86_frame f;
    u16 entry[2];

    x86_frame_current(cpu, &f, 2);
    x86_frame_push(&f, flags);
    x86_frame_push(&f, cpu->s.seg[X86_CS].sel);
    x86_frame_push(&f, cpu->s.rip);
    TRY(x86_frame_check(cpu, &f));
    TRY(x86_lin_read(cpu, (u32)lin, entry, 4, X86_R | X86_SYS));
    TRY(x86_frame_write(cpu, &f));
    gpr_set(cpu, X86_RSP, f.width, x86_frame_sp(&f));
    x86_set_seg_real(cpu, X86_CS, entry[1]);
    cpu->s.rip = entry[0];
    return X86_OK;
}

static int deliver_real(struct x86_cpu *cpu, const struct event *e)
{
    if (e->vector * 4 + 3 > cpu->s.idtr.limit)
        return idt_fault(cpu, X86_GP, e);
    TRY(deliver_ivt(cpu, cpu->s.idtr.base + e->vector * 4, e->flags));
    cpu->s.rflags &= ~(u64)(RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF);
    return X86_OK;
}

/* The 32 bytes below the I/O map say which INT n of virtual-8086 code goes to the 8086 handler
 * (bit clear) when CR4.VME is set (SDM vol. 3 20.3.3). */
static int vme_redirects(struct x86_cpu *cpu, u8 vector, bool *redirect)
{
    const struct x86_seg *tr = &cpu->s.tr;
    u16 map;
    u8 bits;

    *redirect = false;
    if (!(cpu->s.cr4 & CR4_VME))
        return X86_OK;
    if (!(tr->attr & SYS_32BIT) || tr->limit < 0x67)
        return x86_gp(cpu, 0);
    TRY(x86_lin_read(cpu, (u32)(tr->base + 0x66), &map, 2, X86_R | X86_SYS));
    u32 off = map - 32u + vector / 8;
    if (off > tr->limit)
        return x86_gp(cpu, 0);
    TRY(x86_lin_read(cpu, (u32)(tr->base + off), &bits, 1, X86_R | X86_SYS));
    *redirect = !(bits >> (vector & 7) & 1);
    return X86_OK;
}

/* Below IOPL 3 the 8086 program sees VIF as its IF, and IOPL as 3. */
static int deliver_vme(struct x86_cpu *cpu, const struct event *e)
{
    bool virtual_if = x86_iopl(cpu) < 3;
    u64 flags = e->flags, clear = RFLAGS_TF | RFLAGS_RF;

    if (virtual_if) {
        flags = (flags & ~(u64)RFLAGS_IF) | RFLAGS_IOPL;
        if (flags & RFLAGS_VIF)
            flags |= RFLAGS_IF;
    }
    TRY(deliver_ivt(cpu, e->vector * 4, flags));
    cpu->s.rflags &= ~(clear | (virtual_if ? RFLAGS_VIF : RFLAGS_IF));
    return X86_OK;
}

/* --- gates ------------------------------------------------------------------------------------ */

static bool gate_type_ok(const struct x86_cpu *cpu, u16 attr)
{
    switch (attr & (SEG_S | SEG_TYPE)) {
    case SYS_INT32:
    case SYS_TRAP32: return true;
    case SYS_INT16:
    case SYS_TRAP16:
    case SYS_TASK_GATE: return !cpu->lma;
    default: return false;
    }
}

static int read_gate(struct x86_cpu *cpu, const struct event *e, struct x86_desc *gate)
{
    unsigned size = cpu->lma ? 16 : 8;
    u64 lin = cpu->s.idtr.base + e->vector * size, raw[2] = {0, 0};

    if (e->vector * size + size - 1 > cpu->s.idtr.limit)
        return idt_fault(cpu, X86_GP, e);
    TRY(x86_lin_read(cpu, cpu->lma ? lin : (u32)lin, raw, size, X86_R | X86_SYS));
    x86_desc_parse(raw[0], (u32)raw[1], gate);
    if (!gate_type_ok(cpu, gate->attr))
        return idt_fault(cpu, X86_GP, e);
    if (!is_external(e->source) && attr_dpl(gate->attr) < cpu->s.cpl)
        return idt_fault(cpu, X86_GP, e);
    if (!(gate->attr & SEG_P))
        return idt_fault(cpu, X86_NP, e);
    return X86_OK;
}

static int deliver_task(struct x86_cpu *cpu, const struct event *e, const struct x86_desc *gate)
{
    u16 sel = gate->gate_sel;
    struct x86_desc tss;

    if (sel & 4 || sel_null(sel))
        return sel_fault(cpu, X86_GP, sel);
    TRY(x86_desc_read(cpu, sel, X86_GP, &tss));
    if (!attr_is_system(tss.attr, SYS_TSS16) && !attr_is_system(tss.attr, SYS_TSS32))
        return sel_fault(cpu, X86_GP, sel);
    if (!(tss.attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    bool fault = e->flags & RFLAGS_RF;
    return x86_task_switch(cpu, sel, &tss, fault ? X86_TASK_GATE_FAULT : X86_TASK_GATE,
                           e->has_error, e->error);
}

/* The handler's code segment; *inner when it runs at a more privileged level. */
static int handler_code(struct x86_cpu *cpu, u16 sel, struct x86_desc *cs, bool *inner)
{
    if (sel_null(sel))
        return x86_gp(cpu, 0);
    TRY(x86_desc_read(cpu, sel, X86_GP, cs));
    unsigned dpl = attr_dpl(cs->attr);
    if (!attr_is_code(cs->attr) || dpl > cpu->s.cpl)
        return sel_fault(cpu, X86_GP, sel);
    if (cpu->lma && (cs->attr & (SEG_L | SEG_DB)) != SEG_L)
        return sel_fault(cpu, X86_GP, sel);
    if (!(cs->attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    *inner = !attr_is_conforming(cs->attr) && dpl < cpu->s.cpl;
    if (cpu->vm86 && (!*inner || dpl != 0))
        return sel_fault(cpu, X86_GP, sel);
    return X86_OK;
}

/* The 64-bit stack: ISTn, RSPn of an inner level, or the one in use; always aligned to 16 bytes. */
static int long_stack(struct x86_cpu *cpu, struct x86_frame *f, unsigned ist, unsigned cpl,
                      bool inner)
{
    u64 rsp = cpu->s.gpr[X86_RSP];

    if (ist)
        TRY(x86_tss_rsp(cpu, ist * 8 + 28, &rsp));
    else if (inner)
        TRY(x86_tss_rsp(cpu, cpl * 8 + 4, &rsp));
    if (!x86_canonical(rsp))
        return x86_raise_error(cpu, X86_SS_FAULT, 0);
    x86_frame_long(f, rsp & ~15ull, inner || ist);
    return X86_OK;
}

static void push_frame(struct x86_cpu *cpu, struct x86_frame *f, const struct event *e, bool inner)
{
    static const u8 sregs[] = {X86_GS, X86_FS, X86_DS, X86_ES};
    const struct x86_state *s = &cpu->s;

    if (cpu->vm86)
        for (unsigned i = 0; i < ARRAY_SIZE(sregs); i++)
            x86_frame_push(f, s->seg[sregs[i]].sel);
    if (inner || cpu->lma) {
        x86_frame_push(f, s->seg[X86_SS].sel);
        x86_frame_push(f, s->gpr[X86_RSP]);
    }
    x86_frame_push(f, e->flags);
    x86_frame_push(f, s->seg[X86_CS].sel);
    x86_frame_push(f, s->rip);
    if (e->has_error)
        x86_frame_push(f, e->error);
}

static void enter_handler(struct x86_cpu *cpu, const struct x86_desc *gate,
                          const struct x86_desc *cs, unsigned cpl, const struct x86_frame *f)
{
    static const u8 sregs[] = {X86_GS, X86_FS, X86_DS, X86_ES};
    bool interrupt_gate = !(gate->attr & 1);

    if (cpu->vm86)
        for (unsigned i = 0; i < ARRAY_SIZE(sregs); i++)
            x86_seg_null(cpu, sregs[i], 0);
    x86_enter_code(cpu, gate->gate_sel, cs, cpl, gate->gate_off);
    gpr_set(cpu, X86_RSP, f->width, x86_frame_sp(f));
    cpu->s.rflags &= ~(u64)(RFLAGS_TF | RFLAGS_NT | RFLAGS_VM | RFLAGS_RF);
    if (interrupt_gate)
        cpu->s.rflags &= ~(u64)RFLAGS_IF;
}

static int deliver_gate(struct x86_cpu *cpu, const struct event *e, const struct x86_desc *gate)
{
    struct x86_desc cs, ss;
    struct x86_frame f;
    bool inner = false;
    u16 ss_sel;

    TRY(handler_code(cpu, gate->gate_sel, &cs, &inner));
    unsigned cpl = inner ? attr_dpl(cs.attr) : cpu->s.cpl;
    unsigned size = gate->attr & SYS_32BIT ? 4 : 2;
    if (cpu->lma)
        TRY(long_stack(cpu, &f, gate->gate_ist, cpl, inner));
    else if (inner)
        TRY(x86_frame_inner(cpu, &f, cpl, size, &ss_sel, &ss));
    else
        x86_frame_current(cpu, &f, size);
    push_frame(cpu, &f, e, inner);
    TRY(x86_frame_check(cpu, &f));
    TRY(x86_check_ip(cpu, &cs, gate->gate_off));
    TRY(x86_desc_accessed(cpu, &cs));
    if (inner && !cpu->lma)
        TRY(x86_desc_accessed(cpu, &ss));
    TRY(x86_frame_write(cpu, &f));

    enter_handler(cpu, gate, &cs, cpl, &f);
    if (inner && cpu->lma) {
        x86_seg_null(cpu, X86_SS, cpl);
        cpu->s.seg[X86_SS].attr = cpl << SEG_DPL_SHIFT;
    } else if (inner) {
        x86_seg_fill(&cpu->s.seg[X86_SS], ss_sel, &ss);
    }
    return X86_OK;
}

/* --- delivery --------------------------------------------------------------------------------- */

static int deliver_by_mode(struct x86_cpu *cpu, const struct event *e)
{
    struct x86_desc gate;
    bool redirect;

    if (!(cpu->s.cr0 & CR0_PE))
        return deliver_real(cpu, e);
    if (cpu->vm86 && e->source == X86_EV_INT_N) {
        TRY(vme_redirects(cpu, e->vector, &redirect));
        if (redirect)
            return deliver_vme(cpu, e);
        if (x86_iopl(cpu) < 3)
            return x86_gp(cpu, 0);
    }
    TRY(read_gate(cpu, e, &gate));
    if (attr_is_system(gate.attr, SYS_TASK_GATE))
        return deliver_task(cpu, e, &gate);
    return deliver_gate(cpu, e, &gate);
}

/* RF is pushed as 1 for faults and between iterations of `rep`, else as it is (SDM vol. 3
 * 17.3.1.1). */
static u64 flags_image(const struct x86_cpu *cpu, enum x86_event source)
{
    bool mid_rep = cpu->retire & X86_RETIRE_MID_REP && cpu->s.rip == cpu->insn_rip;
    bool software = source == X86_EV_INT_N || source == X86_EV_INT3 || source == X86_EV_INT1;

    if (source == X86_EV_FAULT || (mid_rep && !software))
        return cpu->s.rflags | RFLAGS_RF;
    return cpu->s.rflags;
}

static int deliver_long_way(struct x86_cpu *cpu, const struct event *e)
{
    int rc = deliver_by_mode(cpu, e);
    if (rc == X86_FAULT) {
        u8 second = cpu->exc.vector;
        if (is_external(e->source) && second >= X86_TS && second <= X86_GP)
            cpu->exc.error |= ERROR_EXT;
        return rc;
    }
    cpu->s.shadow &= X86_BLOCK_NMI;
    cpu->retire |= X86_RETIRE_NO_STEP;
    x86_update_mode(cpu);
    return rc;
}

int x86_event_deliver(struct x86_cpu *cpu, u8 vector, enum x86_event ev, bool has_error, u32 error)
{
    u64 flags = flags_image(cpu, ev);

    if (likely(cpu->code_bits == 64) && is_external(ev) &&
        likely(x86_flat_deliver(cpu, vector, has_error, error, flags))) {
        cpu->s.shadow &= X86_BLOCK_NMI;
        cpu->retire |= X86_RETIRE_NO_STEP;
        x86_update_level(cpu);
        return X86_OK;
    }
    return deliver_long_way(cpu, &(struct event){.vector = vector,
                                                 .source = ev,
                                                 .has_error = has_error,
                                                 .error = error,
                                                 .flags = flags});
}

/* --- exceptions, double and triple faults ----------------------------------------------------- */

enum exc_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum exc_class class_of(u8 vector)
{
    switch (vector) {
    case X86_DE:
    case X86_TS:
    case X86_NP:
    case X86_SS_FAULT:
    case X86_GP: return CONTRIBUTORY;
    case X86_PF: return PAGE_FAULT;
    case X86_DF: return DOUBLE_FAULT;
    default: return BENIGN;
    }
}

/* SDM vol. 3 table 6-5: `second` came up while `first` was being delivered. Replaces it by #DF
 * where the two make one; false: shutdown. */
static bool combine(const struct x86_exc *first, struct x86_exc *second)
{
    enum exc_class a = class_of(first->vector), b = class_of(second->vector);

    if (b == BENIGN || a == BENIGN)
        return true;
    if (a == DOUBLE_FAULT)
        return false;
    if (a == PAGE_FAULT || b == CONTRIBUTORY)
        *second = (struct x86_exc){.vector = X86_DF, .has_error = true};
    return true;
}

/* DR6, DR7 and DEBUGCTL as #DB leaves them. Breakpoints that MOV SS held back are part of it. */
static void note_debug(struct x86_cpu *cpu, u64 bits)
{
    bits |= cpu->s.dr6_pending;
    cpu->s.dr6_pending = 0;
    if (bits)
        cpu->s.dr6 = (cpu->s.dr6 & ~0xfull) | bits;
    cpu->s.dr7 &= ~(u64)DR7_GD;
    cpu->s.debugctl &= ~(u64)DEBUGCTL_BTF;
}

static void note_exception(struct x86_cpu *cpu, const struct x86_exc *e)
{
    if (e->vector == X86_PF)
        cpu->s.cr2 = e->cr2;
    if (e->vector == X86_DB)
        note_debug(cpu, e->dr6);
}

/* Leaves the exception to the next boundary. */
static void park(struct x86_cpu *cpu, const struct x86_exc *e)
{
    cpu->s.exc_pending = true;
    cpu->s.exc_vector = e->vector;
    cpu->s.exc_has_error = e->has_error;
    cpu->s.exc_error = e->error;
    x86_update_attention(cpu);
}

/* Two benign exceptions may bring each other up for ever (#AC and its own #AC): after so many
 * rounds the thread gets a chance to be stopped. */
#define DELIVER_ROUNDS 16

/* Only the general-detect form of #DB is a fault that sets RF; breakpoints and traps push it as
 * it is. */
static enum x86_event source_of(const struct x86_exc *e)
{
    return e->vector == X86_DB && !(e->dr6 & DR6_BD) ? X86_EV_HARDWARE : X86_EV_FAULT;
}

int x86_deliver(struct x86_cpu *cpu)
{
    for (unsigned round = 0; round < DELIVER_ROUNDS; round++) {
        struct x86_exc e = cpu->exc;

        note_exception(cpu, &e);
        int rc = x86_event_deliver(cpu, e.vector, source_of(&e), e.has_error, e.error);
        if (rc != X86_FAULT)
            return rc;
        note_exception(cpu, &cpu->exc); /* CR2 follows even when the two make a double fault */
        if (!combine(&e, &cpu->exc)) {
            cpu->s.activity = X86_SHUTDOWN_STATE;
            x86_update_mode(cpu);
            return X86_SHUTDOWN;
        }
    }
    park(cpu, &cpu->exc);
    return X86_OK;
}

/* --- instructions ----------------------------------------------------------------------------- */

X86_HANDLER(int)
{
    TRY(x86_event_deliver(cpu, in->imm, X86_EV_INT_N, false, 0));
    return X86_YIELD;
}

X86_HANDLER(int3)
{
    TRY(x86_event_deliver(cpu, X86_BP, X86_EV_INT3, false, 0));
    return X86_YIELD;
}

X86_HANDLER(into)
{
    if (!(cpu->s.rflags & RFLAGS_OF))
        return X86_OK;
    TRY(x86_event_deliver(cpu, X86_OF, X86_EV_INT3, false, 0));
    return X86_YIELD;
}

X86_HANDLER(int1)
{
    TRY(x86_event_deliver(cpu, X86_DB, X86_EV_INT1, false, 0));
    note_debug(cpu, 0);
    x86_update_mode(cpu);
    return X86_YIELD;
}
