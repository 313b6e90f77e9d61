/* test_task.c - hardware task switches: saved and loaded state, links, busy bits, error codes */
#include "x86_tables.h"

#define NEW_STACK 0xe000u

/* A 32-bit TSS of a task at level 0 that is ready to run. */
static void fill_tss(struct world *w, u32 at)
{
    world_put(w, at + 0x20, 4, AT_HANDLER);
    world_put(w, at + 0x24, 4, RFLAGS_ONE | RFLAGS_IF);
    for (unsigned i = 0; i < 8; i++)
        world_put(w, at + 0x28 + 4 * i, 4, 0x100 + i);
    world_put(w, at + 0x38, 4, NEW_STACK);
    for (unsigned i = 0; i < X86_SREGS; i++)
        world_put(w, at + 0x48 + 4 * i, 4, SEL_DATA0);
    world_put(w, at + 0x48 + 4 * X86_CS, 4, SEL_CODE0);
    world_put(w, at + 0x60, 2, SEL_LDT);
}

static struct world *task_world(void)
{
    struct world *w = tables_prot(0);

    fill_tss(w, AT_TSS2);
    return w;
}

static u64 busy(struct world *w, u16 sel)
{
    return world_get(w, AT_GDT + sel + 5, 1) >> 1 & 1;
}

static void jmp_switches(void **state)
{
    struct world *w = task_world();
    struct x86_state *s = &w->cpu.s;

    s->gpr[X86_RBX] = 0xabcdef01;
    s->dr7 = DR7_ONES | 3;
    assert_int_equal(WORLD_EXEC(w, 0xea, 0, 0, 0, 0, SEL_TSS2, 0), X86_YIELD);
    assert_int_equal(s->rip, AT_HANDLER);
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_IF);
    assert_int_equal(s->gpr[X86_RDI], 0x107);
    assert_int_equal(s->gpr[X86_RSP], NEW_STACK);
    assert_int_equal(s->tr.sel, SEL_TSS2);
    assert_int_equal(s->tr.attr & SEG_TYPE, 11);
    assert_int_equal(s->ldtr.sel, SEL_LDT);
    assert_true(s->cr0 & CR0_TS);
    assert_int_equal(s->dr7, DR7_ONES | 2); /* G0 stays, L0 goes */
    assert_int_equal(busy(w, SEL_TSS), 0);
    assert_int_equal(busy(w, SEL_TSS2), 1);
    assert_int_equal(world_get(w, AT_TSS + 0x20, 4), AT_CODE + 7);
    assert_int_equal(world_get(w, AT_TSS + 0x34, 4), 0xabcdef01);
    assert_int_equal(world_get(w, AT_TSS + 0x48 + 4 * X86_CS, 2), SEL_CODE0);
    world_free(w);
}

static void call_nests_and_iret_returns(void **state)
{
    struct world *w = task_world();
    struct x86_state *s = &w->cpu.s;

    put_gdt(w, SEL_FREE, gate_desc(SEL_TSS2, 0, ATTR_SYS(5), 0));
    assert_int_equal(WORLD_EXEC(w, 0x9a, 0, 0, 0, 0, SEL_FREE, 0), X86_YIELD);
    assert_true(s->rflags & RFLAGS_NT);
    assert_int_equal(world_get(w, AT_TSS2, 2), SEL_TSS);
    assert_int_equal(busy(w, SEL_TSS), 1);
    assert_int_equal(busy(w, SEL_TSS2), 1);

    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->tr.sel, SEL_TSS);
    assert_int_equal(s->rip, AT_CODE + 7);
    assert_int_equal(s->rflags & RFLAGS_NT, 0);
    assert_int_equal(world_get(w, AT_TSS2 + 0x24, 4) & RFLAGS_NT, 0);
    assert_int_equal(world_get(w, AT_TSS2 + 0x20, 4), AT_HANDLER + 1);
    assert_int_equal(busy(w, SEL_TSS), 1);
    assert_int_equal(busy(w, SEL_TSS2), 0);
    world_free(w);
}

static void exception_pushes_error_code(void **state)
{
    struct world *w = task_world();
    struct x86_state *s = &w->cpu.s;

    put_idt(w, X86_GP, gate_desc(SEL_TSS2, 0, ATTR_SYS(5), 0));
    x86_gp(&w->cpu, 0x1234);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    assert_int_equal(s->rip, AT_HANDLER);
    assert_int_equal(s->gpr[X86_RSP], NEW_STACK - 4);
    assert_int_equal(world_get(w, NEW_STACK - 4, 4), 0x1234);
    assert_true(world_get(w, AT_TSS + 0x24, 4) & RFLAGS_RF);
    assert_int_equal(world_get(w, AT_TSS + 0x20, 4), AT_CODE);
    assert_true(s->rflags & RFLAGS_NT);
    world_free(w);
}

static void sixteen_bit_tss(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    put_gdt(w, SEL_TSS2, seg_desc(AT_TSS2, 0x2b, ATTR_SYS(1)));
    world_put(w, AT_TSS2 + 0x0e, 2, 0x1000);
    world_put(w, AT_TSS2 + 0x10, 2, RFLAGS_ONE);
    world_put(w, AT_TSS2 + 0x12, 2, 0x7788); /* AX */
    world_put(w, AT_TSS2 + 0x22, 8, 0x0010001000080010); /* ES CS SS DS */
    assert_int_equal(x86_far_jmp(&w->cpu, SEL_TSS2, 0, 4), X86_OK);
    assert_int_equal(s->rip, 0x1000);
    assert_int_equal(s->gpr[X86_RAX], 0xffff7788);
    assert_int_equal(s->seg[X86_FS].sel, 0);
    assert_int_equal(s->seg[X86_CS].sel, SEL_CODE0);
    assert_int_equal(x86_far_jmp(&w->cpu, SEL_TSS, 0, 4), X86_OK);
    assert_int_equal(s->rip, AT_CODE);
    assert_int_equal(world_get(w, AT_TSS2 + 0x0e, 2), 0x1000);
    world_free(w);
}

/* Before the new TSS is proven good everything stays in the old task. */
static void refusals_in_the_old_task(void **state)
{
    struct world *w = task_world();
    struct x86_cpu *cpu = &w->cpu;

    assert_fault(w, x86_far_jmp(cpu, SEL_TSS, 0, 4), X86_GP, SEL_TSS); /* busy */
    put_gdt(w, SEL_TSS2, seg_desc(AT_TSS2, 0x66, ATTR_SYS(9)));
    assert_fault(w, x86_far_jmp(cpu, SEL_TSS2, 0, 4), X86_TS, SEL_TSS2);
    put_gdt(w, SEL_TSS2, seg_desc(AT_TSS2, 0x67, ATTR_SYS(9) & ~SEG_P));
    assert_fault(w, x86_far_jmp(cpu, SEL_TSS2, 0, 4), X86_NP, SEL_TSS2);
    put_gdt(w, SEL_FREE, gate_desc(SEL_TSS2 | 4, 0, ATTR_SYS(5), 0));
    assert_fault(w, x86_far_jmp(cpu, SEL_FREE, 0, 4), X86_GP, SEL_TSS2 | 4);
    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, 0, ATTR_SYS(5), 0));
    assert_fault(w, x86_far_jmp(cpu, SEL_FREE, 0, 4), X86_GP, SEL_CODE0);
    /* IRET with NT: #TS for a link that names no busy TSS. */
    cpu->s.rflags |= RFLAGS_NT;
    world_put(w, AT_TSS, 2, SEL_TSS2);
    assert_fault(w, x86_iret(cpu, 4), X86_TS, SEL_TSS2);
    world_put(w, AT_TSS, 2, 0);
    assert_fault(w, x86_iret(cpu, 4), X86_TS, 0);
    world_put(w, AT_TSS, 2, 0xf0 | 4);
    assert_fault(w, x86_iret(cpu, 4), X86_TS, 0xf4);
    assert_int_equal(cpu->s.tr.sel, SEL_TSS);
    assert_int_equal(cpu->s.rip, AT_CODE);
    world_free(w);
}

struct bad_field {
    u32 off;
    u16 val;
    u8 vector;
    u16 error;
};

/* Afterwards they belong to the new task, whose EIP the frame shows. */
static void refusals_in_the_new_task(void **state)
{
    static const struct bad_field bad[] = {
        {0x60, SEL_DATA0, X86_TS, SEL_DATA0},                         /* LDT: wrong type */
        {0x60, SEL_LDT | 4, X86_TS, SEL_LDT | 4},                     /* LDT in the LDT */
        {0x48 + 4 * X86_CS, 0, X86_TS, 0},
        {0x48 + 4 * X86_CS, SEL_DATA0, X86_TS, SEL_DATA0},
        {0x48 + 4 * X86_CS, SEL_CODE0 | 3, X86_TS, SEL_CODE0},        /* RPL is not DPL */
        {0x48 + 4 * X86_CS, SEL_FREE, X86_NP, SEL_FREE},
        {0x48 + 4 * X86_SS, 0, X86_TS, 0},
        {0x48 + 4 * X86_SS, SEL_DATA3 | 3, X86_TS, SEL_DATA3},
        {0x48 + 4 * X86_SS, SEL_FREE + 8, X86_SS_FAULT, SEL_FREE + 8},
        {0x48 + 4 * X86_DS, 0xf0, X86_TS, 0xf0},
        {0x48 + 4 * X86_ES, SEL_TSS, X86_TS, SEL_TSS},
        {0x48 + 4 * X86_FS, SEL_FREE + 8, X86_NP, SEL_FREE + 8},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct world *w = task_world();
        put_gdt(w, SEL_FREE, seg_desc(0, 0xfffff, ATTR_CODE0 & ~SEG_P));
        put_gdt(w, SEL_FREE + 8, seg_desc(0, 0xfffff, ATTR_DATA0 & ~SEG_P));
        world_put(w, AT_TSS2 + bad[i].off, 2, bad[i].val);
        assert_fault(w, WORLD_EXEC(w, 0xea, 0, 0, 0, 0, SEL_TSS2, 0), bad[i].vector, bad[i].error);
        assert_int_equal(w->cpu.s.tr.sel, SEL_TSS2);
        assert_int_equal(w->cpu.s.rip, AT_HANDLER);
        world_free(w);
    }
}

/* A fault while the new task has no stack yet takes that of its TSS. */
static void fault_in_new_task_uses_its_inner_stack(void **state)
{
    struct world *w = task_world();

    world_put(w, AT_TSS2 + 4, 4, 0xf000);
    world_put(w, AT_TSS2 + 8, 2, SEL_DATA0);
    world_put(w, AT_TSS2 + 0x48 + 4 * X86_SS, 2, 0);
    put_idt(w, X86_TS, gate_desc(SEL_CODE0, AT_CODE, ATTR_SYS(14), 0));
    assert_fault(w, x86_far_jmp(&w->cpu, SEL_TSS2, 0, 4), X86_TS, 0);
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    assert_int_equal(w->cpu.s.cpl, 0);
    assert_int_equal(w->cpu.s.gpr[X86_RSP], 0xf000 - 24);
    assert_int_equal(world_get(w, 0xf000 - 20, 4), AT_HANDLER);
    world_free(w);
}

static void eip_beyond_limit(void **state)
{
    struct world *w = task_world();

    world_put(w, AT_TSS2 + 0x48 + 4 * X86_CS, 2, SEL_CODE16);
    assert_fault(w, x86_far_jmp(&w->cpu, SEL_TSS2, 0, 4), X86_GP, 0);
    assert_int_equal(w->cpu.s.tr.sel, SEL_TSS2);
    assert_int_equal(w->cpu.s.seg[X86_DS].sel, SEL_DATA0);
    world_free(w);
}

static void debug_trap_flag(void **state)
{
    struct world *w = task_world();

    world_put(w, AT_TSS2 + 0x64, 2, 1);
    put_idt(w, X86_DB, gate_desc(SEL_CODE0, AT_CODE, ATTR_SYS(14), 0));
    assert_int_equal(x86_far_jmp(&w->cpu, SEL_TSS2, 0, 4), X86_OK);
    assert_true(x86_attn(&w->cpu) & X86_ATTN_STEP);
    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    assert_true(w->cpu.s.dr6 & DR6_BT);
    assert_int_equal(w->cpu.s.rip, AT_CODE);
    assert_int_equal(world_get(w, NEW_STACK - 12, 4), AT_HANDLER);
    world_free(w);
}

static void to_vm86_task(void **state)
{
    struct world *w = task_world();

    world_put(w, AT_TSS2 + 0x24, 4, RFLAGS_ONE | RFLAGS_VM);
    world_put(w, AT_TSS2 + 0x20, 4, 0x123);
    world_put(w, AT_TSS2 + 0x48 + 4 * X86_CS, 2, 0x2000);
    assert_int_equal(x86_far_jmp(&w->cpu, SEL_TSS2, 0, 4), X86_OK);
    assert_true(w->cpu.vm86);
    assert_int_equal(w->cpu.s.cpl, 3);
    assert_int_equal(w->cpu.s.seg[X86_CS].base, 0x20000);
    assert_int_equal(w->cpu.s.seg[X86_DS].base, SEL_DATA0 << 4);
    world_free(w);
}

static void cr3_is_loaded_under_paging(void **state)
{
    struct world *w = task_world();
    struct x86_state *s = &w->cpu.s;

    world_put(w, 0x200000, 4, 0x83); /* 4 MiB page at 0, in two directories */
    world_put(w, 0x201000, 4, 0x83);
    world_put(w, AT_TSS2 + 0x1c, 4, 0x201000);
    s->cr4 = CR4_PSE;
    s->cr3 = 0x200000;
    s->cr0 |= CR0_PG | CR0_WP;
    x86_update_mode(&w->cpu);
    assert_int_equal(x86_far_jmp(&w->cpu, SEL_TSS2, 0, 4), X86_OK);
    assert_int_equal(s->cr3, 0x201000);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jmp_switches),
        cmocka_unit_test(call_nests_and_iret_returns),
        cmocka_unit_test(exception_pushes_error_code),
        cmocka_unit_test(sixteen_bit_tss),
        cmocka_unit_test(refusals_in_the_old_task),
        cmocka_unit_test(refusals_in_the_new_task),
        cmocka_unit_test(fault_in_new_task_uses_its_inner_stack),
        cmocka_unit_test(eip_beyond_limit),
        cmocka_unit_test(debug_trap_flag),
        cmocka_unit_test(to_vm86_task),
        cmocka_unit_test(cr3_is_loaded_under_paging),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
