/* test_event.c - delivery through IVT and IDT, double faults, instruction boundaries */
#include "x86_tables.h"

#define GATE_INT 14
#define GATE_TRAP 15

static void put_gate(struct world *w, unsigned vector, unsigned type, unsigned dpl)
{
    put_idt(w, vector,
            gate_desc(SEL_CODE0, AT_HANDLER + vector, ATTR_SYS(type) | dpl << SEG_DPL_SHIFT, 0));
}

/* --- frames ----------------------------------------------------------------------------------- */

static void same_level_frame(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    put_gate(w, X86_GP, GATE_INT, 0);
    s->rflags |= RFLAGS_IF | RFLAGS_TF | RFLAGS_NT;
    u64 before = s->rflags;
    x86_gp(&w->cpu, 0x58);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    u32 want[4] = {0x58, AT_CODE, SEL_CODE0, before | RFLAGS_RF};
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 - 16);
    assert_memory_equal(w->ram + AT_STACK0 - 16, want, sizeof(want));
    assert_int_equal(s->rip, AT_HANDLER + X86_GP);
    assert_int_equal(s->rflags, RFLAGS_ONE);
    world_free(w);
}

static void trap_gate_keeps_if(void **state)
{
    struct world *w = tables_prot(0);

    put_gate(w, 0x80, GATE_TRAP, 0);
    w->cpu.s.rflags |= RFLAGS_IF;
    assert_int_equal(WORLD_EXEC(w, 0xcd, 0x80), X86_YIELD);
    assert_true(w->cpu.s.rflags & RFLAGS_IF);
    assert_int_equal(world_get(w, AT_STACK0 - 12, 4), AT_CODE + 2);
    assert_int_equal(world_get(w, AT_STACK0 - 4, 4) & RFLAGS_RF, 0);
    world_free(w);
}

static void inner_level_frame(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_state *s = &w->cpu.s;

    put_gate(w, X86_PF, GATE_INT, 0);
    x86_raise_pf(&w->cpu, 0x12345678, PF_U);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    u32 want[6] = {PF_U, AT_CODE, SEL_CODE3 | 3, RFLAGS_ONE | RFLAGS_RF, AT_STACK3, SEL_DATA3 | 3};
    assert_memory_equal(w->ram + AT_STACK0 - 24, want, sizeof(want));
    assert_int_equal(s->cr2, 0x12345678);
    assert_int_equal(s->cpl, 0);
    assert_int_equal(s->seg[X86_SS].sel, SEL_DATA0);
    world_free(w);
}

static void gate_of_16_bits(void **state)
{
    struct world *w = tables_prot(0);

    put_idt(w, 0x21, gate_desc(SEL_CODE0, 0xabcd1234, ATTR_SYS(6), 0));
    assert_int_equal(WORLD_EXEC(w, 0xcd, 0x21), X86_YIELD);
    u16 want[3] = {(u16)(AT_CODE + 2), SEL_CODE0, RFLAGS_ONE};
    assert_memory_equal(w->ram + AT_STACK0 - 6, want, sizeof(want));
    assert_int_equal(w->cpu.s.rip, 0x1234);
    world_free(w);
}

static void from_vm86(void **state)
{
    struct world *w = tables_vm86(3);
    struct x86_state *s = &w->cpu.s;

    put_gate(w, X86_GP, GATE_INT, 0);
    u64 flags = s->rflags, esp = s->gpr[X86_RSP];
    x86_gp(&w->cpu, 0);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    u32 want[10] = {0, 0, AT_CODE >> 4, flags | RFLAGS_RF, esp, 0, 0, 0x300, 0x400, 0x500};
    assert_memory_equal(w->ram + AT_STACK0 - 40, want, sizeof(want));
    assert_int_equal(s->rflags & RFLAGS_VM, 0);
    assert_int_equal(s->cpl, 0);
    assert_int_equal(s->seg[X86_DS].sel, 0);
    assert_int_equal(s->seg[X86_DS].attr & SEG_P, 0);
    world_free(w);
}

static void real_mode_frame(void **state)
{
    struct world *w = tables_real();
    struct x86_state *s = &w->cpu.s;

    world_put(w, 0x10 * 4, 4, 0x20001234);
    s->gpr[X86_RSP] = 0x8000;
    s->rflags |= RFLAGS_IF | RFLAGS_AC | RFLAGS_CF;
    assert_int_equal(WORLD_EXEC(w, 0xcd, 0x10), X86_YIELD);
    u16 want[3] = {2, AT_CODE >> 4, RFLAGS_IF | RFLAGS_ONE | RFLAGS_CF};
    assert_memory_equal(w->ram + 0x7ffa, want, sizeof(want));
    assert_int_equal(s->rip, 0x1234);
    assert_int_equal(s->seg[X86_CS].base, 0x20000);
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_CF);
    s->idtr.limit = 0x10 * 4 + 2;
    assert_fault(w, x86_event_deliver(&w->cpu, 0x10, X86_EV_INT_N, false, 0), X86_GP, 0x82);
    world_free(w);
}

static void long_mode_frame(void **state)
{
    struct world *w = tables_long(3);
    struct x86_state *s = &w->cpu.s;

    put_idt_long(w, X86_GP, gate_desc(SEL_LONG0, AT_HANDLER, ATTR_SYS(14), 0), 0);
    world_put(w, AT_TSS + 4, 8, AT_STACK0 - 4);
    x86_gp(&w->cpu, 0);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    u64 want[6] = {0, AT_CODE, SEL_LONG3 | 3, RFLAGS_ONE | RFLAGS_RF, AT_STACK3, SEL_DATA3 | 3};
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 - 16 - 48);
    assert_memory_equal(w->ram + AT_STACK0 - 64, want, sizeof(want));
    assert_int_equal(s->seg[X86_SS].sel, 0);
    assert_int_equal(s->cpl, 0);
    world_free(w);
}

static void long_mode_ist(void **state)
{
    struct world *w = tables_long(0);

    put_idt_long(w, X86_DF, gate_desc(SEL_LONG0, AT_HANDLER, ATTR_SYS(14), 3), 0);
    world_put(w, AT_TSS + 28 + 3 * 8, 8, AT_STACK_IST);
    assert_int_equal(x86_event_deliver(&w->cpu, X86_DF, X86_EV_FAULT, true, 0), X86_OK);
    assert_int_equal(w->cpu.s.gpr[X86_RSP], AT_STACK_IST - 48);
    assert_int_equal(w->cpu.s.seg[X86_SS].sel, SEL_DATA0);
    assert_int_equal(world_get(w, AT_STACK_IST - 16, 8), AT_STACK0);
    world_put(w, AT_TSS + 28 + 3 * 8, 8, 1ull << 47);
    assert_fault(w, x86_event_deliver(&w->cpu, X86_DF, X86_EV_FAULT, true, 0), X86_SS_FAULT, 1);
    world_free(w);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void gate_refusals(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_cpu *cpu = &w->cpu;

    /* INT n: DPL against CPL, no EXT; the same as an interrupt: no DPL check, EXT. */
    put_gate(w, 0x30, GATE_INT, 0);
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x30), X86_GP, 0x30 * 8 + 2);
    assert_int_equal(cpu->s.rip, AT_CODE);
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x31), X86_GP, 0x31 * 8 + 2);
    assert_fault(w, WORLD_EXEC(w, 0xcc), X86_GP, 3 * 8 + 2);
    assert_fault(w, x86_event_deliver(cpu, 0x31, X86_EV_HARDWARE, false, 0), X86_GP, 0x31 * 8 + 3);
    put_idt(w, 0x32, gate_desc(SEL_CODE0, 0, (ATTR_SYS(14) & ~SEG_P) | ATTR_DPL3, 0));
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x32), X86_NP, 0x32 * 8 + 2);
    put_idt(w, 0x33, gate_desc(0, 0, ATTR_SYS(14) | ATTR_DPL3, 0));
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x33), X86_GP, 0);
    assert_fault(w, x86_event_deliver(cpu, 0x33, X86_EV_FAULT, false, 0), X86_GP, 1);
    put_idt(w, 0x34, gate_desc(SEL_DATA0, 0, ATTR_SYS(14) | ATTR_DPL3, 0));
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x34), X86_GP, SEL_DATA0);
    put_gdt(w, SEL_FREE, seg_desc(0, 0xff, ATTR_CODE0 & ~SEG_G));
    put_idt(w, 0x35, gate_desc(SEL_FREE, 0x100, ATTR_SYS(14) | ATTR_DPL3, 0));
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x35), X86_GP, 0);
    world_put(w, AT_TSS + 8, 2, SEL_CODE0);
    put_gate(w, 0x36, GATE_INT, 3);
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x36), X86_TS, SEL_CODE0);
    assert_fault(w, x86_event_deliver(cpu, 0x36, X86_EV_HARDWARE, false, 0), X86_TS, SEL_CODE0 | 1);
    cpu->s.idtr.limit = 0x36 * 8 + 6;
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x36), X86_GP, 0x36 * 8 + 2);
    assert_int_equal(cpu->s.gpr[X86_RSP], AT_STACK3);
    world_free(w);
}

static void long_mode_refusals(void **state)
{
    struct world *w = tables_long(0);
    u64 gate = gate_desc(SEL_LONG0, AT_HANDLER, ATTR_SYS(14), 0);

    put_idt_long(w, 0x30, gate_desc(SEL_LONG0, 0, ATTR_SYS(6), 0), 0);
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x30), X86_GP, 0x30 * 8 + 2);
    put_idt_long(w, 0x30, gate_desc(SEL_CODE0, 0, ATTR_SYS(14), 0), 0);
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x30), X86_GP, SEL_CODE0);
    put_idt_long(w, 0x30, gate, 0x8000);
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x30), X86_GP, 0);
    put_idt_long(w, 0x30, gate, 0);
    w->cpu.s.gpr[X86_RSP] = 1ull << 47;
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x30), X86_SS_FAULT, 0);
    world_free(w);
}

static void vm86_int_n(void **state)
{
    struct world *w = tables_vm86(0);
    struct x86_state *s = &w->cpu.s;

    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x21), X86_GP, 0);
    /* Redirected by the bitmap, below IOPL 3: VIF plays IF. */
    s->cr4 |= CR4_VME;
    s->rflags |= RFLAGS_VIF;
    s->gpr[X86_RSP] = 0x8000;
    world_put(w, AT_TSS + 0x66, 2, 0x88);
    world_put(w, 0x21 * 4, 4, 0x20001234);
    assert_int_equal(WORLD_EXEC(w, 0xcd, 0x21), X86_YIELD);
    assert_int_equal(s->rip, 0x1234);
    assert_int_equal(s->seg[X86_CS].base, 0x20000);
    assert_int_equal(s->rflags & RFLAGS_VIF, 0);
    assert_true(s->rflags & RFLAGS_VM);
    assert_int_equal(world_get(w, 0x7ffe, 2), RFLAGS_ONE | RFLAGS_IF | RFLAGS_IOPL);
    /* Not redirected. */
    world_put(w, AT_TSS + 0x68 + 0x21 / 8, 1, BIT(1));
    assert_fault(w, WORLD_EXEC(w, 0xcd, 0x21), X86_GP, 0);
    world_free(w);
}

/* --- double and triple faults ----------------------------------------------------------------- */

static void contributory_pair_is_double(void **state)
{
    struct world *w = tables_prot(0);

    put_gate(w, X86_DF, GATE_INT, 0);
    x86_gp(&w->cpu, 0x10); /* its gate is missing: #GP again */
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    assert_int_equal(w->cpu.s.rip, AT_HANDLER + X86_DF);
    assert_int_equal(world_get(w, AT_STACK0 - 16, 4), 0);
    world_free(w);
}

static void benign_then_contributory_is_serial(void **state)
{
    struct world *w = tables_prot(0);

    put_gate(w, X86_GP, GATE_INT, 0);
    x86_ud(&w->cpu);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    assert_int_equal(w->cpu.s.rip, AT_HANDLER + X86_GP);
    assert_int_equal(world_get(w, AT_STACK0 - 16, 4), X86_UD * 8 + 3);
    world_free(w);
}

static void page_fault_pair_moves_cr2(void **state)
{
    struct world *w = tables_long(0);

    put_idt_long(w, X86_PF, gate_desc(SEL_LONG0, AT_HANDLER, ATTR_SYS(14), 0), 0);
    put_idt_long(w, X86_DF, gate_desc(SEL_LONG0, AT_HANDLER, ATTR_SYS(14), 1), 0);
    world_put(w, AT_TSS + 36, 8, AT_STACK_IST);
    w->cpu.s.gpr[X86_RSP] = 0x40000000; /* not mapped */
    x86_raise_pf(&w->cpu, 0x123, 0);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    assert_int_equal(w->cpu.s.gpr[X86_RSP], AT_STACK_IST - 48);
    assert_int_equal(w->cpu.s.cr2, 0x40000000 - 8);
    world_free(w);
}

static void third_is_shutdown(void **state)
{
    struct world *w = tables_prot(0);

    w->cpu.s.idtr.limit = 0;
    x86_ud(&w->cpu);
    assert_int_equal(x86_deliver(&w->cpu), X86_SHUTDOWN);
    assert_int_equal(w->cpu.s.activity, X86_SHUTDOWN_STATE);
    assert_int_equal(x86_boundary(&w->cpu), X86_SHUTDOWN);
    world_free(w);
}

/* #AC while pushing for #AC at level 3 goes on for ever: the processor stays stoppable. */
static void endless_alignment_faults_can_be_stopped(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_state *s = &w->cpu.s;

    put_idt(w, X86_AC, gate_desc(SEL_CODE3 | 3, AT_HANDLER, ATTR_SYS(14), 0));
    s->cr0 |= CR0_AM;
    s->rflags |= RFLAGS_AC;
    s->gpr[X86_RSP] = AT_STACK3 + 1;
    x86_update_mode(&w->cpu);
    x86_raise_error(&w->cpu, X86_AC, 0);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    assert_true(s->exc_pending);
    x86_attn_set(&w->cpu, X86_ATTN_KICK);
    assert_int_equal(x86_boundary(&w->cpu), X86_KICKED);
    world_free(w);
}

/* --- boundaries ------------------------------------------------------------------------------- */

static void interrupt_waits_for_if_and_shadow(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    put_gate(w, 0x40, GATE_INT, 0);
    w->irq = 0x40;
    x86_attn_set(cpu, X86_ATTN_IRQ);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(x86_attn(cpu) & X86_ATTN_IRQ, 0); /* masked: costs nothing */
    assert_int_equal(cpu->s.rip, AT_CODE);
    cpu->s.rflags |= RFLAGS_IF;
    cpu->s.shadow = X86_SHADOW_STI;
    x86_update_mode(cpu);
    assert_true(x86_attn(cpu) & X86_ATTN_IRQ);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.rip, AT_CODE);
    x86_retire(cpu, cpu->s.rflags, X86_SHADOW_STI);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.rip, AT_HANDLER + 0x40);
    assert_int_equal(x86_attn(cpu), 0);
    world_free(w);
}

static void nmi_blocks_until_iret(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    put_gate(w, X86_NMI, GATE_INT, 0);
    w->nmi = true;
    x86_attn_set(cpu, X86_ATTN_NMI);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.rip, AT_HANDLER + X86_NMI);
    w->nmi = true;
    x86_attn_set(cpu, X86_ATTN_NMI);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.gpr[X86_RSP], AT_STACK0 - 12);
    assert_true(w->nmi);
    assert_int_equal(x86_iret(cpu, 4), X86_OK);
    assert_int_equal(cpu->s.rip, AT_CODE);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_false(w->nmi);
    assert_int_equal(cpu->s.rip, AT_HANDLER + X86_NMI);
    world_free(w);
}

static void halt_wakes(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    put_gate(w, 0x40, GATE_INT, 0);
    cpu->s.rflags |= RFLAGS_IF;
    cpu->s.activity = X86_HALTED;
    cpu->s.shadow = X86_SHADOW_STI; /* sti; hlt */
    x86_update_mode(cpu);
    assert_int_equal(x86_boundary(cpu), X86_HALT);
    w->irq = 0x40;
    x86_attn_set(cpu, X86_ATTN_IRQ);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.activity, X86_ACTIVE);
    assert_int_equal(cpu->s.rip, AT_HANDLER + 0x40);
    world_free(w);
}

static void single_step(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    put_gate(w, X86_DB, GATE_INT, 0);
    cpu->s.rflags |= RFLAGS_TF;
    x86_update_mode(cpu);
    assert_true(x86_attn(cpu) & X86_ATTN_STEP);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    u64 before = cpu->s.rflags;
    assert_done(WORLD_EXEC(w, 0x90));
    x86_retire(cpu, before, 0);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.rip, AT_HANDLER + X86_DB);
    assert_int_equal(cpu->s.dr6 & (DR6_BS | 0xf), DR6_BS);
    assert_int_equal(world_get(w, AT_STACK0 - 12, 4), AT_CODE + 1);
    assert_int_equal(world_get(w, AT_STACK0 - 4, 4), RFLAGS_ONE | RFLAGS_TF); /* a trap: no RF */
    assert_int_equal(cpu->s.rflags & RFLAGS_TF, 0);
    world_free(w);
}

static void int_n_is_not_stepped(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    put_gate(w, 0x80, GATE_INT, 0);
    cpu->s.rflags |= RFLAGS_TF;
    x86_update_mode(cpu);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    u64 before = cpu->s.rflags;
    assert_int_equal(WORLD_EXEC(w, 0xcd, 0x80), X86_YIELD);
    x86_retire(cpu, before, 0);
    assert_int_equal(cpu->s.dr6_pending, 0);
    world_free(w);
}

static void code_breakpoint_and_rf(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    put_gate(w, X86_DB, GATE_INT, 0);
    cpu->s.dr[2] = AT_CODE;
    cpu->s.dr7 = DR7_ONES | 0x20; /* G2, execute, 1 byte */
    cpu->s.rflags |= RFLAGS_RF;
    x86_update_mode(cpu);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.rip, AT_CODE);
    x86_retire(cpu, cpu->s.rflags, 0);
    assert_int_equal(cpu->s.rflags & RFLAGS_RF, 0);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.rip, AT_HANDLER + X86_DB);
    assert_int_equal(cpu->s.dr6 & 0xf, 4);
    assert_int_equal(world_get(w, AT_STACK0 - 4, 4) & RFLAGS_RF, 0);
    world_free(w);
}

static void trap_goes_before_nmi_and_interrupt(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    put_gate(w, X86_DB, GATE_TRAP, 0);
    put_gate(w, X86_NMI, GATE_TRAP, 0);
    put_gate(w, 0x40, GATE_TRAP, 0);
    cpu->s.rflags |= RFLAGS_IF;
    cpu->s.dr6_pending = DR6_BS;
    w->nmi = true;
    w->irq = 0x40;
    x86_update_mode(cpu);
    x86_attn_set(cpu, X86_ATTN_IRQ | X86_ATTN_NMI);
    assert_int_equal(x86_boundary(cpu), X86_OK);
    assert_int_equal(cpu->s.rip, AT_HANDLER + 0x40); /* nested last, first to run */
    assert_int_equal(world_get(w, AT_STACK0 - 12, 4), AT_CODE);
    assert_int_equal(world_get(w, AT_STACK0 - 24, 4), AT_HANDLER + X86_DB);
    assert_int_equal(world_get(w, AT_STACK0 - 36, 4), AT_HANDLER + X86_NMI);
    world_free(w);
}

static void pending_exception_of_a_snapshot(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state s = w->cpu.s;

    put_gate(w, X86_PF, GATE_INT, 0);
    s.exc_pending = s.exc_has_error = true;
    s.exc_vector = X86_PF;
    s.exc_error = PF_W;
    s.cr2 = 0x777;
    x86_cpu_set_state(&w->cpu, &s);
    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    assert_int_equal(w->cpu.s.rip, AT_HANDLER + X86_PF);
    assert_int_equal(w->cpu.s.cr2, 0x777);
    assert_false(w->cpu.s.exc_pending);
    world_free(w);
}

/* --- SYSCALL and SYSENTER --------------------------------------------------------------------- */

static void syscall_and_back(void **state)
{
    struct world *w = tables_long(3);
    struct x86_state *s = &w->cpu.s;

    s->star = (u64)SEL_LONG0 << 32 | (u64)0x73 << 48;
    s->lstar = AT_HANDLER;
    s->sfmask = RFLAGS_IF | RFLAGS_TF;
    s->rflags |= RFLAGS_IF;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x05), X86_YIELD);
    assert_int_equal(s->rip, AT_HANDLER);
    assert_int_equal(s->gpr[X86_RCX], AT_CODE + 2);
    assert_int_equal(s->gpr[X86_R11], RFLAGS_ONE | RFLAGS_IF);
    assert_int_equal(s->rflags, RFLAGS_ONE);
    assert_int_equal(s->cpl, 0);
    assert_int_equal(s->seg[X86_SS].sel, SEL_LONG0 + 8);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0x07), X86_YIELD);
    assert_int_equal(s->cpl, 3);
    assert_int_equal(s->seg[X86_CS].sel, 0x83);
    assert_int_equal(s->seg[X86_SS].sel, 0x7b);
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_IF);
    assert_int_equal(w->cpu.code_bits, 64);
    /* SYSRET at level 3, and with a bad RCX. */
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0x07), X86_GP, 0);
    s->cpl = 0;
    s->gpr[X86_RCX] = 1ull << 47;
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0x07), X86_GP, 0);
    s->efer &= ~(u64)EFER_SCE;
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x05), X86_UD, -1);
    world_free(w);
}

static void sysenter_and_back(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_state *s = &w->cpu.s;

    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x34), X86_GP, 0);
    s->sysenter_cs = 0x61;
    s->sysenter_esp = 0x1234;
    s->sysenter_eip = AT_HANDLER;
    s->rflags |= RFLAGS_IF;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x34), X86_YIELD);
    assert_int_equal(s->seg[X86_CS].sel, 0x60);
    assert_int_equal(s->seg[X86_SS].sel, 0x68);
    assert_int_equal(s->gpr[X86_RSP], 0x1234);
    assert_int_equal(s->rip, AT_HANDLER);
    assert_int_equal(s->rflags, RFLAGS_ONE);
    s->gpr[X86_RDX] = AT_CODE;
    s->gpr[X86_RCX] = AT_STACK3;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x35), X86_YIELD);
    assert_int_equal(s->cpl, 3);
    assert_int_equal(s->seg[X86_CS].sel, 0x73);
    assert_int_equal(s->seg[X86_SS].sel, 0x7b);
    assert_int_equal(s->rip, AT_CODE);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_level_frame),
        cmocka_unit_test(trap_gate_keeps_if),
        cmocka_unit_test(inner_level_frame),
        cmocka_unit_test(gate_of_16_bits),
        cmocka_unit_test(from_vm86),
        cmocka_unit_test(real_mode_frame),
        cmocka_unit_test(long_mode_frame),
        cmocka_unit_test(long_mode_ist),
        cmocka_unit_test(gate_refusals),
        cmocka_unit_test(long_mode_refusals),
        cmocka_unit_test(vm86_int_n),
        cmocka_unit_test(contributory_pair_is_double),
        cmocka_unit_test(benign_then_contributory_is_serial),
        cmocka_unit_test(page_fault_pair_moves_cr2),
        cmocka_unit_test(third_is_shutdown),
        cmocka_unit_test(endless_alignment_faults_can_be_stopped),
        cmocka_unit_test(interrupt_waits_for_if_and_shadow),
        cmocka_unit_test(nmi_blocks_until_iret),
        cmocka_unit_test(halt_wakes),
        cmocka_unit_test(single_step),
        cmocka_unit_test(int_n_is_not_stepped),
        cmocka_unit_test(code_breakpoint_and_rf),
        cmocka_unit_test(trap_goes_before_nmi_and_interrupt),
        cmocka_unit_test(pending_exception_of_a_snapshot),
        cmocka_unit_test(syscall_and_back),
        cmocka_unit_test(sysenter_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
