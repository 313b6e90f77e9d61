/* test_seg.c - segment loads, far transfers, call gates, I/O permission: results and error codes */
#include "x86_tables.h"

/* --- loads ------------------------------------------------------------------------------------ */

static void load_of_data_sets_accessed(void **state)
{
    struct world *w = tables_prot(0);

    assert_int_equal(x86_load_seg(&w->cpu, X86_ES, SEL_DATA3 | 3), X86_OK);
    assert_int_equal(w->cpu.s.seg[X86_ES].sel, SEL_DATA3 | 3);
    assert_true(w->cpu.s.seg[X86_ES].attr & SEG_ACCESSED);
    assert_int_equal(world_get(w, AT_GDT + SEL_DATA3 + 5, 1) & 1, 1);
    world_free(w);
}

static void load_refusals(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_cpu *cpu = &w->cpu;

    assert_fault(w, x86_load_seg(cpu, X86_DS, SEL_DATA0), X86_GP, SEL_DATA0);
    assert_fault(w, x86_load_seg(cpu, X86_DS, SEL_DATA0 | 3), X86_GP, SEL_DATA0);
    assert_fault(w, x86_load_seg(cpu, X86_DS, SEL_TSS), X86_GP, SEL_TSS);
    assert_fault(w, x86_load_seg(cpu, X86_DS, 0x103), X86_GP, 0x100);
    assert_fault(w, x86_load_seg(cpu, X86_DS, 0x27), X86_GP, 0x24); /* beyond the LDT */
    assert_fault(w, x86_load_seg(cpu, X86_SS, 0), X86_GP, 0);
    assert_fault(w, x86_load_seg(cpu, X86_SS, SEL_DATA3 | 2), X86_GP, SEL_DATA3);
    assert_fault(w, x86_load_seg(cpu, X86_SS, SEL_CODE3 | 3), X86_GP, SEL_CODE3);
    put_gdt(w, SEL_FREE, seg_desc(0, 0xfffff, (ATTR_DATA0 | ATTR_DPL3) & ~SEG_P));
    assert_fault(w, x86_load_seg(cpu, X86_DS, SEL_FREE | 3), X86_NP, SEL_FREE);
    assert_fault(w, x86_load_seg(cpu, X86_SS, SEL_FREE | 3), X86_SS_FAULT, SEL_FREE);
    /* Execute-only code is no data; conforming readable code is, for every level. */
    put_gdt(w, SEL_FREE, seg_desc(0, 0xfffff, (ATTR_CODE0 | ATTR_DPL3) & ~SEG_WRITE));
    assert_fault(w, x86_load_seg(cpu, X86_DS, SEL_FREE | 3), X86_GP, SEL_FREE);
    assert_int_equal(x86_load_seg(cpu, X86_DS, SEL_CONF0 | 3), X86_OK);
    world_free(w);
}

static void null_loads_and_faults_on_use(void **state)
{
    struct world *w = tables_prot(0);

    assert_int_equal(x86_load_seg(&w->cpu, X86_DS, 3), X86_OK);
    assert_int_equal(w->cpu.s.seg[X86_DS].sel, 3);
    assert_fault(w, WORLD_EXEC(w, 0xa0, 0, 0, 0, 0), X86_GP, 0); /* mov al, [0] */
    world_free(w);
}

static void null_ss_in_long_mode(void **state)
{
    struct world *w = tables_long(0);

    assert_int_equal(x86_load_seg(&w->cpu, X86_SS, 0), X86_OK);
    assert_fault(w, x86_load_seg(&w->cpu, X86_SS, 3), X86_GP, 0);
    world_free(w);
    w = tables_long(3);
    assert_fault(w, x86_load_seg(&w->cpu, X86_SS, 3), X86_GP, 0);
    world_free(w);
}

static void null_selector_and_base_by_vendor(void **state)
{
    struct world *w = tables_long(0);
    u64 *clears = &w->cpu.features[X86_FEATURE_NULL_SEL_CLR_BASE / 64];

    w->cpu.intel = true;
    w->cpu.s.seg[X86_FS].base = 0x123456789000;
    assert_int_equal(x86_load_seg(&w->cpu, X86_FS, 0), X86_OK);
    assert_int_equal(w->cpu.s.seg[X86_FS].base, 0);
    w->cpu.intel = false;
    *clears &= ~BIT64(X86_FEATURE_NULL_SEL_CLR_BASE % 64);
    w->cpu.s.seg[X86_FS].base = 0x123456789000;
    assert_int_equal(x86_load_seg(&w->cpu, X86_FS, 0), X86_OK);
    assert_true(w->cpu.s.seg[X86_FS].base == 0x123456789000);
    *clears |= BIT64(X86_FEATURE_NULL_SEL_CLR_BASE % 64);
    assert_int_equal(x86_load_seg(&w->cpu, X86_FS, 0), X86_OK);
    assert_int_equal(w->cpu.s.seg[X86_FS].base, 0);
    world_free(w);
}

static void real_mode_keeps_limits(void **state)
{
    struct world *w = tables_real();

    w->cpu.s.seg[X86_DS].limit = 0xffffffff;
    w->cpu.s.seg[X86_DS].attr = ATTR_DATA0;
    w->cpu.s.gpr[X86_RAX] = 0x1234;
    assert_done(WORLD_EXEC(w, 0x8e, 0xd8)); /* mov ds, ax */
    assert_int_equal(w->cpu.s.seg[X86_DS].base, 0x12340);
    assert_int_equal(w->cpu.s.seg[X86_DS].limit, 0xffffffff);
    world_free(w);
}

static void mov_ss_shadows_one_instruction(void **state)
{
    struct world *w = tables_prot(0);

    w->cpu.s.gpr[X86_RAX] = SEL_DATA0;
    assert_int_equal(WORLD_EXEC(w, 0x8e, 0xd0), X86_YIELD);
    assert_int_equal(w->cpu.s.shadow, X86_SHADOW_MOVSS);
    assert_true(x86_attn(&w->cpu) & X86_ATTN_SHADOW);
    x86_retire(&w->cpu, w->cpu.s.rflags, X86_SHADOW_MOVSS);
    assert_int_equal(w->cpu.s.shadow, 0);
    assert_false(x86_attn(&w->cpu) & X86_ATTN_SHADOW);
    world_free(w);
}

static void push_sreg_by_vendor(void **state)
{
    struct world *w = tables_prot(0);

    world_put(w, AT_STACK0 - 4, 4, 0xaabbccdd);
    assert_done(WORLD_EXEC(w, 0x1e)); /* push ds */
    assert_int_equal(world_get(w, AT_STACK0 - 4, 4), 0xaabb0000 | SEL_DATA0);
    assert_int_equal(w->cpu.s.gpr[X86_RSP], AT_STACK0 - 4);
    w->cpu.intel = false;
    world_put(w, AT_STACK0 - 8, 4, 0xaabbccdd);
    assert_done(WORLD_EXEC(w, 0x1e));
    assert_int_equal(world_get(w, AT_STACK0 - 8, 4), SEL_DATA0);
    world_free(w);
}

static void pop_ss_faults_leave_esp(void **state)
{
    struct world *w = tables_prot(0);

    world_put(w, AT_STACK0, 4, SEL_CODE0);
    assert_fault(w, WORLD_EXEC(w, 0x17), X86_GP, SEL_CODE0);
    assert_int_equal(w->cpu.s.gpr[X86_RSP], AT_STACK0);
    world_free(w);
}

/* --- LAR, LSL, VERR --------------------------------------------------------------------------- */

static void lar_lsl_types(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    s->gpr[X86_RCX] = SEL_DATA3;
    assert_done(WORLD_EXEC(w, 0x0f, 0x02, 0xc1)); /* lar eax, ecx */
    assert_true(s->rflags & RFLAGS_ZF);
    assert_int_equal(s->gpr[X86_RAX], 0xcff200);
    assert_done(WORLD_EXEC(w, 0x0f, 0x03, 0xc1)); /* lsl eax, ecx */
    assert_int_equal(s->gpr[X86_RAX], 0xffffffff);
    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, 0, ATTR_SYS(12), 0));
    s->gpr[X86_RCX] = SEL_FREE;
    assert_done(WORLD_EXEC(w, 0x0f, 0x02, 0xc1));
    assert_true(s->rflags & RFLAGS_ZF);
    assert_int_equal(s->gpr[X86_RAX], 0x8c00);
    assert_done(WORLD_EXEC(w, 0x0f, 0x03, 0xc1)); /* no limit in a gate */
    assert_false(s->rflags & RFLAGS_ZF);
    assert_int_equal(s->gpr[X86_RAX], 0x8c00);
    world_free(w);
}

static void verr_verw_levels(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_state *s = &w->cpu.s;

    s->gpr[X86_RAX] = SEL_DATA3 | 3;
    assert_done(WORLD_EXEC(w, 0x0f, 0x00, 0xe8)); /* verw ax */
    assert_true(s->rflags & RFLAGS_ZF);
    s->gpr[X86_RAX] = SEL_DATA0 | 3;
    assert_done(WORLD_EXEC(w, 0x0f, 0x00, 0xe0)); /* verr ax */
    assert_false(s->rflags & RFLAGS_ZF);
    s->gpr[X86_RAX] = SEL_CONF0 | 3;
    assert_done(WORLD_EXEC(w, 0x0f, 0x00, 0xe0));
    assert_true(s->rflags & RFLAGS_ZF);
    assert_done(WORLD_EXEC(w, 0x0f, 0x00, 0xe8));
    assert_false(s->rflags & RFLAGS_ZF);
    world_free(w);
}

static void arpl_adjusts(void **state)
{
    struct world *w = tables_prot(0);

    w->cpu.s.gpr[X86_RAX] = 0x10;
    w->cpu.s.gpr[X86_RCX] = 3;
    assert_done(WORLD_EXEC(w, 0x63, 0xc8));
    assert_int_equal(w->cpu.s.gpr[X86_RAX], 0x13);
    assert_true(w->cpu.s.rflags & RFLAGS_ZF);
    assert_done(WORLD_EXEC(w, 0x63, 0xc8));
    assert_false(w->cpu.s.rflags & RFLAGS_ZF);
    world_free(w);
}

static void ltr_marks_busy(void **state)
{
    struct world *w = tables_prot(0);

    w->cpu.s.gpr[X86_RAX] = SEL_TSS2;
    assert_done(WORLD_EXEC(w, 0x0f, 0x00, 0xd8));
    assert_int_equal(w->cpu.s.tr.sel, SEL_TSS2);
    assert_int_equal(world_get(w, AT_GDT + SEL_TSS2 + 5, 1), 0x8b);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x00, 0xd8), X86_GP, SEL_TSS2);
    w->cpu.s.gpr[X86_RAX] = 0;
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x00, 0xd8), X86_GP, 0);
    world_free(w);
}

static void lldt_wide_in_long_mode(void **state)
{
    struct world *w = tables_long(0);

    put_gdt(w, SEL_FREE, seg_desc(AT_LDT, 0x1f, ATTR_SYS(2)));
    put_gdt(w, SEL_FREE + 8, 0xffff8000);
    w->cpu.s.gpr[X86_RAX] = SEL_FREE;
    assert_done(WORLD_EXEC(w, 0x0f, 0x00, 0xd0));
    assert_true(w->cpu.s.ldtr.base == 0xffff800000000000 + AT_LDT);
    put_gdt(w, SEL_FREE + 8, 0x8000); /* not canonical */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x00, 0xd0), X86_GP, SEL_FREE);
    put_gdt(w, SEL_FREE + 8, 0x1f0000000000); /* type bits in the upper half */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x00, 0xd0), X86_GP, SEL_FREE);
    w->cpu.s.gdtr.limit = SEL_FREE + 7;
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x00, 0xd0), X86_GP, SEL_FREE);
    world_free(w);
}

/* --- far transfers ---------------------------------------------------------------------------- */

static void far_jmp_rules(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_cpu *cpu = &w->cpu;

    assert_int_equal(x86_far_jmp(cpu, SEL_CODE0, 0x1234, 4), X86_OK);
    assert_int_equal(cpu->s.rip, 0x1234);
    assert_fault(w, x86_far_jmp(cpu, 0, 0, 4), X86_GP, 0);
    assert_fault(w, x86_far_jmp(cpu, SEL_CODE3, 0, 4), X86_GP, SEL_CODE3);
    assert_fault(w, x86_far_jmp(cpu, SEL_CODE0 | 3, 0, 4), X86_GP, SEL_CODE0);
    assert_fault(w, x86_far_jmp(cpu, SEL_DATA0, 0, 4), X86_GP, SEL_DATA0);
    assert_fault(w, x86_far_jmp(cpu, SEL_CODE16, 0x10000, 4), X86_GP, 0);
    assert_int_equal(x86_far_jmp(cpu, SEL_CODE16, 0x12345, 2), X86_OK);
    assert_int_equal(cpu->s.rip, 0x2345);
    assert_int_equal(cpu->code_bits, 16);
    put_gdt(w, SEL_FREE, seg_desc(0, 0xfffff, ATTR_CODE0 & ~SEG_P));
    assert_fault(w, x86_far_jmp(cpu, SEL_FREE, 0, 4), X86_NP, SEL_FREE);
    world_free(w);
}

static void conforming_keeps_level(void **state)
{
    struct world *w = tables_prot(3);

    assert_int_equal(x86_far_jmp(&w->cpu, SEL_CONF0, 0x1000, 4), X86_OK);
    assert_int_equal(w->cpu.s.cpl, 3);
    assert_int_equal(w->cpu.s.seg[X86_CS].sel, SEL_CONF0 | 3);
    world_free(w);
}

static void far_call_and_return(void **state)
{
    struct world *w = tables_prot(0);
    struct x86_state *s = &w->cpu.s;

    /* call SEL_CODE0:2000h */
    assert_int_equal(WORLD_EXEC(w, 0x9a, 0x00, 0x20, 0, 0, SEL_CODE0, 0), X86_YIELD);
    assert_int_equal(s->rip, 0x2000);
    assert_int_equal(world_get(w, AT_STACK0 - 4, 4), SEL_CODE0);
    assert_int_equal(world_get(w, AT_STACK0 - 8, 4), AT_CODE + 7);
    assert_int_equal(WORLD_EXEC(w, 0xca, 4, 0), X86_YIELD); /* retf 4 */
    assert_int_equal(s->rip, AT_CODE + 7);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 + 4);
    world_free(w);
}

static void call_gate_switches_stack(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_state *s = &w->cpu.s;

    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, AT_HANDLER, ATTR_SYS(12) | ATTR_DPL3, 2));
    world_put(w, AT_STACK3, 4, 0x11111111);
    world_put(w, AT_STACK3 + 4, 4, 0x22222222);
    assert_int_equal(WORLD_EXEC(w, 0x9a, 0, 0, 0, 0, SEL_FREE | 3, 0), X86_YIELD);
    assert_int_equal(s->cpl, 0);
    assert_int_equal(s->seg[X86_CS].sel, SEL_CODE0);
    assert_int_equal(s->seg[X86_SS].sel, SEL_DATA0);
    assert_int_equal(s->rip, AT_HANDLER);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK0 - 24);
    u32 want[6] = {AT_CODE + 7, SEL_CODE3 | 3, 0x11111111, 0x22222222, AT_STACK3, SEL_DATA3 | 3};
    assert_memory_equal(w->ram + AT_STACK0 - 24, want, sizeof(want));

    load_direct(w, &s->seg[X86_ES], SEL_DATA0);
    load_direct(w, &s->seg[X86_FS], SEL_CONF0);
    assert_int_equal(WORLD_EXEC(w, 0xca, 8, 0), X86_YIELD); /* retf 8 */
    assert_int_equal(s->cpl, 3);
    assert_int_equal(s->rip, AT_CODE + 7);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK3 + 8);
    assert_int_equal(s->seg[X86_ES].sel, 0);
    assert_int_equal(s->seg[X86_ES].attr & SEG_P, 0);
    assert_int_equal(s->seg[X86_FS].sel, SEL_CONF0);
    assert_int_equal(s->seg[X86_DS].sel, SEL_DATA3 | 3);
    world_free(w);
}

static void call_gate_refusals(void **state)
{
    struct world *w = tables_prot(3);
    struct x86_cpu *cpu = &w->cpu;
    u16 sel = SEL_FREE | 3;

    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, 0, ATTR_SYS(12), 0));
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_GP, SEL_FREE);
    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, 0, (ATTR_SYS(12) & ~SEG_P) | ATTR_DPL3, 0));
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_NP, SEL_FREE);
    put_gdt(w, SEL_FREE, gate_desc(0, 0, ATTR_SYS(12) | ATTR_DPL3, 0));
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_GP, 0);
    put_gdt(w, SEL_FREE, gate_desc(SEL_DATA0, 0, ATTR_SYS(12) | ATTR_DPL3, 0));
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_GP, SEL_DATA0);
    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, 0, ATTR_SYS(12) | ATTR_DPL3, 0));
    assert_fault(w, x86_far_jmp(cpu, sel, 0, 4), X86_GP, SEL_CODE0); /* JMP cannot go inward */
    world_put(w, AT_TSS + 8, 2, 0);
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_TS, 0);
    world_put(w, AT_TSS + 8, 2, SEL_DATA3);
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_TS, SEL_DATA3);
    world_put(w, AT_TSS + 8, 2, 0xff8);
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_TS, 0xff8);
    put_gdt(w, SEL_FREE + 8, seg_desc(0, 0xfffff, ATTR_DATA0 & ~SEG_P));
    world_put(w, AT_TSS + 8, 2, SEL_FREE + 8);
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_SS_FAULT, SEL_FREE + 8);
    put_gdt(w, SEL_FREE + 8, seg_desc(0, 0xfff, (ATTR_DATA0 & ~SEG_G)));
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_SS_FAULT, SEL_FREE + 8);
    cpu->s.tr.limit = 8;
    assert_fault(w, x86_far_call(cpu, sel, 0, 4), X86_TS, SEL_TSS);
    assert_int_equal(cpu->s.cpl, 3);
    assert_int_equal(cpu->s.gpr[X86_RSP], AT_STACK3);
    world_free(w);
}

static void call_gate_of_16_bits(void **state)
{
    struct world *w = tables_prot(3);

    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, 0x54321234, ATTR_SYS(4) | ATTR_DPL3, 1));
    world_put(w, AT_STACK3, 2, 0x7777);
    assert_int_equal(WORLD_EXEC(w, 0x9a, 0, 0, 0, 0, SEL_FREE | 3, 0), X86_YIELD);
    assert_int_equal(w->cpu.s.rip, 0x1234);
    u16 want[5] = {(u16)(AT_CODE + 7), SEL_CODE3 | 3, 0x7777, AT_STACK3, SEL_DATA3 | 3};
    assert_memory_equal(w->ram + AT_STACK0 - 10, want, sizeof(want));
    world_free(w);
}

static void long_mode_gate(void **state)
{
    struct world *w = tables_long(3);
    struct x86_state *s = &w->cpu.s;

    put_gdt(w, SEL_FREE, gate_desc(SEL_LONG0, AT_HANDLER, ATTR_SYS(12) | ATTR_DPL3, 0));
    put_gdt(w, SEL_FREE + 8, 0);
    assert_int_equal(x86_far_call(&w->cpu, SEL_FREE | 3, 0, 4), X86_OK);
    assert_int_equal(s->cpl, 0);
    assert_int_equal(s->seg[X86_SS].sel, 0);
    u64 want[4] = {AT_CODE, SEL_LONG3 | 3, AT_STACK3, SEL_DATA3 | 3};
    assert_memory_equal(w->ram + AT_STACK0 - 32, want, sizeof(want));
    assert_int_equal(WORLD_EXEC(w, 0x48, 0xcb), X86_YIELD); /* retfq */
    assert_int_equal(s->cpl, 3);
    assert_int_equal(s->gpr[X86_RSP], AT_STACK3);
    world_free(w);
}

static void long_mode_refusals(void **state)
{
    struct world *w = tables_long(0);
    struct x86_cpu *cpu = &w->cpu;

    assert_fault(w, x86_far_jmp(cpu, SEL_TSS2, 0, 8), X86_GP, SEL_TSS2);
    put_gdt(w, SEL_FREE, gate_desc(SEL_TSS2, 0, ATTR_SYS(5), 0));
    assert_fault(w, x86_far_jmp(cpu, SEL_FREE, 0, 8), X86_GP, SEL_FREE);
    put_gdt(w, SEL_FREE, gate_desc(SEL_LONG0, 0, ATTR_SYS(4), 0));
    assert_fault(w, x86_far_jmp(cpu, SEL_FREE, 0, 8), X86_GP, SEL_FREE);
    put_gdt(w, SEL_FREE, gate_desc(SEL_CODE0, 0, ATTR_SYS(12), 0)); /* not 64-bit code */
    assert_fault(w, x86_far_jmp(cpu, SEL_FREE, 0, 8), X86_GP, SEL_CODE0);
    put_gdt(w, SEL_FREE, seg_desc(0, 0xfffff, ATTR_CODE0 | SEG_L));
    assert_fault(w, x86_far_jmp(cpu, SEL_FREE, 0, 8), X86_GP, SEL_FREE);
    assert_fault(w, x86_far_jmp(cpu, SEL_LONG0, 1ull << 47, 8), X86_GP, 0);
    assert_int_equal(x86_far_jmp(cpu, SEL_CODE0, AT_CODE, 4), X86_OK);
    assert_int_equal(cpu->code_bits, 32);
    world_free(w);
}

static void real_far_call(void **state)
{
    struct world *w = tables_real();
    struct x86_state *s = &w->cpu.s;

    s->gpr[X86_RSP] = 0x8000;
    assert_int_equal(WORLD_EXEC(w, 0x9a, 0x34, 0x12, 0x00, 0x20), X86_YIELD);
    assert_int_equal(s->rip, 0x1234);
    assert_int_equal(s->seg[X86_CS].base, 0x20000);
    assert_int_equal(world_get(w, 0x7ffc, 4), (AT_CODE >> 4) << 16 | 5);
    assert_int_equal(WORLD_EXEC(w, 0xcb), X86_YIELD);
    assert_int_equal(s->rip, 5);
    /* The stack pointer inside the last word: no room at offset FFFFH. */
    s->gpr[X86_RSP] = 1;
    assert_fault(w, WORLD_EXEC(w, 0x9a, 0, 0, 0, 0x20), X86_SS_FAULT, 0);
    world_free(w);
}

/* --- I/O permission --------------------------------------------------------------------------- */

static void io_bitmap(void **state)
{
    struct world *w = tables_prot(3);

    world_put(w, AT_TSS + 0x66, 2, 0x68);
    world_put(w, AT_TSS + 0x68 + 0x60 / 8, 2, 0xff10); /* port 64H and 68H.. denied */
    assert_int_equal(x86_io_check(&w->cpu, 0x60, 4), X86_OK);
    assert_fault(w, x86_io_check(&w->cpu, 0x61, 4), X86_GP, 0);
    assert_fault(w, x86_io_check(&w->cpu, 0x64, 1), X86_GP, 0);
    assert_fault(w, x86_io_check(&w->cpu, 0x67, 2), X86_GP, 0);
    w->cpu.s.tr.limit = 0x68 + 0x60 / 8;
    assert_fault(w, x86_io_check(&w->cpu, 0x60, 1), X86_GP, 0); /* second byte beyond */
    w->cpu.s.rflags |= RFLAGS_IOPL;
    assert_int_equal(x86_io_check(&w->cpu, 0x64, 1), X86_OK);
    world_free(w);
    w = tables_vm86(3); /* IOPL does not help there */
    world_put(w, AT_TSS + 0x66, 2, 0x1000);
    assert_fault(w, x86_io_check(&w->cpu, 0x60, 1), X86_GP, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load_of_data_sets_accessed),
        cmocka_unit_test(load_refusals),
        cmocka_unit_test(null_loads_and_faults_on_use),
        cmocka_unit_test(null_ss_in_long_mode),
        cmocka_unit_test(null_selector_and_base_by_vendor),
        cmocka_unit_test(real_mode_keeps_limits),
        cmocka_unit_test(mov_ss_shadows_one_instruction),
        cmocka_unit_test(push_sreg_by_vendor),
        cmocka_unit_test(pop_ss_faults_leave_esp),
        cmocka_unit_test(lar_lsl_types),
        cmocka_unit_test(verr_verw_levels),
        cmocka_unit_test(arpl_adjusts),
        cmocka_unit_test(ltr_marks_busy),
        cmocka_unit_test(lldt_wide_in_long_mode),
        cmocka_unit_test(far_jmp_rules),
        cmocka_unit_test(conforming_keeps_level),
        cmocka_unit_test(far_call_and_return),
        cmocka_unit_test(call_gate_switches_stack),
        cmocka_unit_test(call_gate_refusals),
        cmocka_unit_test(call_gate_of_16_bits),
        cmocka_unit_test(long_mode_gate),
        cmocka_unit_test(long_mode_refusals),
        cmocka_unit_test(real_far_call),
        cmocka_unit_test(io_bitmap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
