/* test_debug.c - #DB around MOV SS, INT1, general detect and DEBUGCTL.BTF */
#include "x86_tables.h"

static void put_gate(struct world *w, unsigned vector)
{
    put_idt(w, vector, gate_desc(SEL_CODE0, AT_HANDLER + vector, ATTR_SYS(14), 0));
}

/* One instruction at AT_CODE with TF set, up to and with its retirement. */
static int step(struct world *w, const void *bytes, unsigned len, u8 retire)
{
    u64 before = w->cpu.s.rflags;
    u8 shadow = w->cpu.s.shadow;
    int rc;

    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    rc = world_exec(w, bytes, len);
    w->cpu.retire |= retire;
    if (rc != X86_FAULT)
        x86_retire(&w->cpu, before, shadow);
    return rc;
}
#define STEP(w, ...) step(w, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), 0)

static struct world *stepped(void)
{
    struct world *w = tables_prot(0);

    put_gate(w, X86_DB);
    put_gate(w, X86_BP);
    w->cpu.s.gpr[X86_RAX] = SEL_DATA0;
    w->cpu.s.rflags |= RFLAGS_TF;
    x86_update_mode(&w->cpu);
    return w;
}

static void mov_ss_is_not_stepped(void **state)
{
    struct world *w = stepped();
    struct x86_state *s = &w->cpu.s;

    assert_int_equal(STEP(w, 0x8e, 0xd0), X86_YIELD); /* mov ss, ax */
    assert_int_equal(s->dr6_pending, 0);
    assert_int_equal(STEP(w, 0xf1), X86_YIELD); /* int1: DR6 says nothing */
    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    assert_int_equal(s->rip, AT_HANDLER + X86_DB);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 - 12); /* once */
    assert_int_equal(s->dr6, DR6_ONES);
    world_free(w);

    w = stepped();
    s = &w->cpu.s;
    s->dr7 |= DR7_GD;
    assert_int_equal(STEP(w, 0x8e, 0xd0), X86_YIELD);
    assert_fault(w, STEP(w, 0x0f, 0x23, 0xf0), X86_DB, -1); /* mov dr6, eax */
    assert_int_equal(x86_deliver(&w->cpu), X86_OK);
    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 - 12);
    assert_int_equal(s->dr6, DR6_ONES | DR6_BD);
    assert_int_equal(s->dr7 & DR7_GD, 0);
    world_free(w);
}

/* A data breakpoint on MOV SS waits for the next instruction: it joins the #DB of INT1, and goes to
 * the first instruction of the handler of INT n. */
static void breakpoint_of_mov_ss(void **state)
{
    struct world *w = stepped();
    struct x86_state *s = &w->cpu.s;

    s->rflags &= ~(u64)RFLAGS_TF;
    s->shadow = X86_SHADOW_MOVSS;
    s->dr6_pending = 2;
    x86_update_mode(&w->cpu);
    assert_int_equal(STEP(w, 0xf1), X86_YIELD);
    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 - 12);
    assert_int_equal(s->dr6, DR6_ONES | 2);
    world_free(w);

    w = stepped();
    s = &w->cpu.s;
    s->rflags &= ~(u64)RFLAGS_TF;
    s->shadow = X86_SHADOW_MOVSS;
    s->dr6_pending = 2;
    x86_update_mode(&w->cpu);
    assert_int_equal(STEP(w, 0xcc), X86_YIELD);
    assert_int_equal(s->rip, AT_HANDLER + X86_BP);
    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    assert_int_equal(s->rip, AT_HANDLER + X86_DB);
    assert_int_equal(world_get(w, AT_STACK0 - 24, 4), AT_HANDLER + X86_BP);
    assert_int_equal(s->dr6, DR6_ONES | 2);
    world_free(w);
}

static void code_breakpoint_after_mov_ss_by_vendor(void **state)
{
    for (unsigned intel = 0; intel < 2; intel++) {
        struct world *w = tables_prot(0);

        put_gate(w, X86_DB);
        w->cpu.intel = intel;
        w->cpu.s.dr[0] = AT_CODE;
        w->cpu.s.dr7 = DR7_ONES | 2;
        w->cpu.s.shadow = X86_SHADOW_MOVSS;
        x86_update_mode(&w->cpu);
        assert_int_equal(x86_boundary(&w->cpu), X86_OK);
        assert_int_equal(w->cpu.s.rip, intel ? AT_CODE : AT_HANDLER + X86_DB);
        world_free(w);
    }
}

static void branches_stepped(void **state)
{
    struct world *w = stepped();
    struct x86_state *s = &w->cpu.s;
    const u8 nop = 0x90, jmp[] = {0xeb, 0x10};

    s->debugctl = DEBUGCTL_BTF;
    step(w, &nop, 1, 0);
    assert_int_equal(s->dr6_pending, 0);
    step(w, jmp, 2, X86_RETIRE_BRANCH); /* as the engine reports it */
    assert_int_equal(x86_boundary(&w->cpu), X86_OK);
    assert_int_equal(s->rip, AT_HANDLER + X86_DB);
    assert_int_equal(s->dr6, DR6_ONES | DR6_BS);
    assert_int_equal(s->debugctl, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mov_ss_is_not_stepped),
        cmocka_unit_test(breakpoint_of_mov_ss),
        cmocka_unit_test(code_breakpoint_after_mov_ss_by_vendor),
        cmocka_unit_test(branches_stepped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
