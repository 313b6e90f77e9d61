/* test_iret.c - IRET in every mode: frames, flags by privilege, error codes */
#include "x86_tables.h"

#define FLAGS_ALL 0x3f7fd7u

#define DR7_G1 BIT(3) /* a breakpoint is enabled: RF counts */

static void put_frame(struct world *w, unsigned size, unsigned n, const u64 *items)
{
    u64 at = w->cpu.seg_base[X86_SS] + w->cpu.s.gpr[X86_RSP];

    for (unsigned i = 0; i < n; i++)
        world_put(w, at + i * size, size, items[i]);
}

#define FRAME(w, size, ...)                                                                        \
    put_frame(w, size, sizeof((u64[]){__VA_ARGS__}) / 8, (const u64[]){__VA_ARGS__})

static void real_mode(void **state)
{
    struct world *w = tables_real();
    struct x86_state *s = &w->cpu.s;

    s->gpr[X86_RSP] = 0x8000;
    FRAME(w, 2, 0x1234, 0x2000, 0xffff);
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->rip, 0x1234);
    assert_int_equal(s->seg[X86_CS].base, 0x20000);
    assert_int_equal(s->rflags, 0x7fd7);
    assert_int_equal(s->gpr[X86_RSP], 0x8006);
    /* IRETD: VM, VIF and VIP stay. */
    s->dr7 = DR7_G1;
    FRAME(w, 4, 0x1234, 0x2000, FLAGS_ALL);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0xcf), X86_YIELD);
    assert_int_equal(s->rflags, FLAGS_ALL & ~(RFLAGS_VM | RFLAGS_VIF | RFLAGS_VIP));
    FRAME(w, 4, 0x10000, 0x2000, 2);
    assert_fault(w, WORLD_EXEC(w, 0x66, 0xcf), X86_GP, 0);
    world_free(w);
}

static void same_level_flags(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    s->dr7 = DR7_G1;
    FRAME(w, 4, AT_HANDLER, SEL_CODE0, FLAGS_ALL & ~RFLAGS_VM);
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->rip, AT_HANDLER);
    assert_int_equal(s->rflags, FLAGS_ALL & ~RFLAGS_VM);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 + 12);

    /* RF has no work to do without breakpoints. */
    s->dr7 = 0;
    s->rflags = RFLAGS_ONE;
    FRAME(w, 4, AT_HANDLER, SEL_CODE0, RFLAGS_ONE | RFLAGS_RF);
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->rflags, RFLAGS_ONE);
    world_free(w);

    /* Level 3, IOPL 0: neither IF nor IOPL nor VIF nor VIP; VM is ignored. */
    w = tables_prot(3);
    s = &w->cpu.s;
    s->dr7 = DR7_G1;
    FRAME(w, 4, AT_HANDLER, SEL_CODE3 | 3, FLAGS_ALL);
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->rflags,
                     FLAGS_ALL & ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_IOPL | RFLAGS_VIF | RFLAGS_VIP));
    world_free(w);

    /* Level 3, IOPL 3, 16-bit operands. */
    w = tables_prot(3);
    s = &w->cpu.s;
    s->rflags |= RFLAGS_IOPL;
    FRAME(w, 2, 0x1000, SEL_CODE3 | 3, 0xffff & ~RFLAGS_IOPL);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0xcf), X86_YIELD);
    assert_int_equal(s->rflags, 0x7fd7);
    world_free(w);
}

static void outer_level(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    FRAME(w, 4, AT_HANDLER, SEL_CODE3 | 3, RFLAGS_ONE | RFLAGS_IF, AT_STACK3, SEL_DATA3 | 3);
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->cpl, 3);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK3);
    assert_int_equal(s->seg[X86_SS].sel, SEL_DATA3 | 3);
    assert_int_equal(s->seg[X86_DS].sel, 0); /* was of level 0 */
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_IF);
    world_free(w);
}

static void refusals(void **state)
{
    struct world *w = tables_prot(0);
    u64 ip = AT_HANDLER, fl = RFLAGS_ONE;

    FRAME(w, 4, ip, 0, fl);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, 0);
    FRAME(w, 4, ip, SEL_DATA0, fl);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, SEL_DATA0);
    FRAME(w, 4, ip, SEL_CODE3, fl); /* RPL below DPL */
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, SEL_CODE3);
    FRAME(w, 4, 0x10000, SEL_CODE16, fl);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, 0);
    put_gdt(w, SEL_FREE, seg_desc(0, 0xfffff, ATTR_CODE0 & ~SEG_P));
    FRAME(w, 4, ip, SEL_FREE, fl);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_NP, SEL_FREE);
    FRAME(w, 4, ip, SEL_CODE3 | 3, fl, AT_STACK3, 0);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, 0);
    FRAME(w, 4, ip, SEL_CODE3 | 3, fl, AT_STACK3, SEL_DATA0);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, SEL_DATA0);
    put_gdt(w, SEL_FREE, seg_desc(0, 0xfffff, (ATTR_DATA0 | ATTR_DPL3) & ~SEG_P));
    FRAME(w, 4, ip, SEL_CODE3 | 3, fl, AT_STACK3, SEL_FREE | 3);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_SS_FAULT, SEL_FREE);
    w->cpu.s.seg[X86_SS].limit = AT_STACK0 + 7;
    x86_update_mode(&w->cpu);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_SS_FAULT, 0);
    assert_int_equal(w->cpu.s.rip, AT_CODE);
    assert_int_equal(w->cpu.s.gpr[X86_RSP], AT_STACK0);
    world_free(w);
}

static void inward_is_refused(void **state)
{
    struct world *w = tables_prot(3);

    FRAME(w, 4, AT_HANDLER, SEL_CODE0, RFLAGS_ONE);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, SEL_CODE0);
    world_free(w);
}

static void to_vm86_and_back(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    s->dr7 = DR7_G1;
    FRAME(w, 4, 0x123, 0x2000, FLAGS_ALL & ~RFLAGS_NT, 0x8000, 0x100, 0x200, 0x300, 0x400, 0x500);
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_true(w->cpu.vm86);
    assert_int_equal(s->cpl, 3);
    assert_int_equal(s->rflags, FLAGS_ALL & ~RFLAGS_NT);
    assert_int_equal(s->seg[X86_CS].base, 0x20000);
    assert_int_equal(s->seg[X86_SS].base, 0x1000);
    assert_int_equal(s->seg[X86_ES].base, 0x2000);
    assert_int_equal(s->seg[X86_DS].base, 0x3000);
    assert_int_equal(s->seg[X86_FS].base, 0x4000);
    assert_int_equal(s->seg[X86_GS].base, 0x5000);
    assert_int_equal(s->seg[X86_GS].limit, 0xffff);
    assert_int_equal(s->gpr[X86_RSP], 0x8000);
    world_free(w);
}

static void in_vm86(void **state)
{
    struct world *w = tables_vm86(3);
    struct x86_state *s = &w->cpu.s;

    s->gpr[X86_RSP] = 0x8000;
    FRAME(w, 2, 0x1234, 0x2000, RFLAGS_ONE | RFLAGS_IF); /* IOPL in the image: ignored */
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_IF | RFLAGS_VM | RFLAGS_IOPL);
    world_free(w);

    w = tables_vm86(0);
    s = &w->cpu.s;
    s->gpr[X86_RSP] = 0x8000;
    FRAME(w, 2, 0x1234, 0x2000, RFLAGS_ONE | RFLAGS_IF);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, 0);
    s->cr4 |= CR4_VME;
    assert_fault(w, WORLD_EXEC(w, 0x66, 0xcf), X86_GP, 0);
    s->rflags |= RFLAGS_VIP;
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, 0);
    s->rflags &= ~(u64)RFLAGS_VIP;
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_VM | RFLAGS_VIF);
    world_free(w);
}

static void long_mode(void **state)
{
    struct world *w = tables_long(0);
    struct x86_state *s = &w->cpu.s;

    /* To the same level: SS:RSP is popped all the same, null SS allowed. */
    FRAME(w, 8, AT_HANDLER, SEL_LONG0, RFLAGS_ONE, 0x8800, 0);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0xcf), X86_YIELD);
    assert_int_equal(s->rip, AT_HANDLER);
    assert_int_equal(s->gpr[X86_RSP], 0x8800);
    assert_int_equal(s->seg[X86_SS].attr & SEG_P, 0);
    /* To 32-bit code of level 3. */
    FRAME(w, 8, AT_CODE, SEL_CODE3 | 3, RFLAGS_ONE | RFLAGS_VM, 0x8800, SEL_DATA3 | 3);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0xcf), X86_YIELD);
    assert_int_equal(w->cpu.code_bits, 32);
    assert_int_equal(s->cpl, 3);
    assert_int_equal(s->rflags, RFLAGS_ONE);
    world_free(w);
}

static void outer_level_takes_selectors_not_bases(void **state)
{
    struct world *w = tables_long(0);
    struct x86_state *s = &w->cpu.s;

    assert_int_equal(x86_load_seg(&w->cpu, X86_GS, SEL_DATA0), X86_OK);
    s->seg[X86_GS].base = 0x123456789000;
    x86_update_mode(&w->cpu);
    FRAME(w, 8, AT_CODE, SEL_LONG3 | 3, RFLAGS_ONE, AT_STACK3, SEL_DATA3 | 3);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0xcf), X86_YIELD);
    assert_int_equal(s->seg[X86_GS].sel, 0);
    assert_int_equal(s->seg[X86_GS].attr & SEG_P, 0);
    assert_true(w->cpu.seg_base[X86_GS] == 0x123456789000);
    world_free(w);
}

static void long_mode_refusals(void **state)
{
    struct world *w = tables_long(0);
    u64 fl = RFLAGS_ONE;

    FRAME(w, 8, AT_CODE, SEL_LONG3 | 3, fl, AT_STACK3, 0);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0xcf), X86_GP, 0);
    FRAME(w, 8, AT_CODE, SEL_CODE0, fl, AT_STACK0, 0); /* null SS for 32-bit code */
    assert_fault(w, WORLD_EXEC(w, 0x48, 0xcf), X86_GP, 0);
    FRAME(w, 8, 1ull << 47, SEL_LONG3 | 3, fl, AT_STACK3, SEL_DATA3 | 3);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0xcf), X86_GP, 0);
    w->cpu.s.rflags |= RFLAGS_NT;
    FRAME(w, 8, AT_CODE, SEL_LONG0, fl, AT_STACK0, 0);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0xcf), X86_GP, 0);
    world_free(w);
}

static void unblocks_nmi_even_when_it_faults(void **state)
{
    struct world *w = tables_prot(0);

    w->cpu.s.shadow = X86_BLOCK_NMI;
    FRAME(w, 4, 0, 0, 0);
    assert_fault(w, WORLD_EXEC(w, 0xcf), X86_GP, 0);
    assert_int_equal(w->cpu.s.shadow, 0);
    assert_true(x86_attn(&w->cpu) & X86_ATTN_NMI);
    world_free(w);
}

/* A 16-bit outer stack takes SP alone: the upper half of ESP keeps what the inner level had
 * there. */
static void narrow_outer_stack_keeps_upper_esp(void **state)
{
    struct world *w = tables_prot(0);

    put_gdt(w, SEL_FREE, seg_desc(0, 0xffff, SEG_P | SEG_S | SEG_WRITE | ATTR_DPL3));
    w->cpu.s.gpr[X86_RSP] = 0x109000;
    FRAME(w, 4, AT_HANDLER, SEL_CODE3 | 3, RFLAGS_ONE, 0xb000, SEL_FREE | 3);
    assert_int_equal(WORLD_EXEC(w, 0xcf), X86_YIELD);
    assert_int_equal(w->cpu.s.gpr[X86_RSP], 0x10b000);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_mode),
        cmocka_unit_test(same_level_flags),
        cmocka_unit_test(outer_level),
        cmocka_unit_test(refusals),
        cmocka_unit_test(inward_is_refused),
        cmocka_unit_test(to_vm86_and_back),
        cmocka_unit_test(in_vm86),
        cmocka_unit_test(long_mode),
        cmocka_unit_test(outer_level_takes_selectors_not_bases),
        cmocka_unit_test(long_mode_refusals),
        cmocka_unit_test(unblocks_nmi_even_when_it_faults),
        cmocka_unit_test(narrow_outer_stack_keeps_upper_esp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
