/* test_msr.c - model-specific and control registers, and the system instructions on them */
#include "x86_world.h"

#define NONCANONICAL 0xaaaaaaaaaaaaaaaaull

static u64 rd(struct world *w, u32 msr)
{
    u64 v = 0;

    assert_int_equal(x86_msr_read(&w->cpu, msr, &v), X86_OK);
    return v;
}

static void wr(struct world *w, u32 msr, u64 v)
{
    assert_int_equal(x86_msr_write(&w->cpu, msr, v), X86_OK);
}

static void refuses(struct world *w, u32 msr, u64 v)
{
    assert_fault(w, x86_msr_write(&w->cpu, msr, v), X86_GP, 0);
}

static void absent(struct world *w, u32 msr)
{
    u64 v;

    assert_fault(w, x86_msr_read(&w->cpu, msr, &v), X86_GP, 0);
    refuses(w, msr, 0);
}

static void test_time_stamp(void **state)
{
    struct world *w = world_new(1, "ring3-v2");

    w->tsc = 1000;
    wr(w, 0x10, 5000);
    assert_int_equal(rd(w, 0x10), 5000);
    assert_int_equal(rd(w, 0x3b), 4000);
    w->tsc += 7;
    wr(w, 0x3b, 0);
    assert_int_equal(rd(w, 0x10), 1007);
    world_free(w);
}

static void test_addresses(void **state)
{
    static const u32 msrs[] = {0x175,      0x176,      0xc0000082, 0xc0000083,
                               0xc0000100, 0xc0000101, 0xc0000102};
    struct world *w = world_new(1, "ring3-v2");

    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        wr(w, msrs[i], 0xffff800012345678);
        refuses(w, msrs[i], NONCANONICAL);
        assert_int_equal(rd(w, msrs[i]), 0xffff800012345678);
    }
    world_long(w, 0, 64, 0);
    wr(w, 0xc0000101, 0x1000);
    assert_int_equal(w->cpu.seg_base[X86_GS], 0x1000);
    world_free(w);
}

static void test_memory_types(void **state)
{
    struct world *w = world_new(1, "ring3-v2");

    wr(w, 0x277, 0x0007010600070406);
    refuses(w, 0x277, 0x02);
    refuses(w, 0x277, 0x0800000000000000);
    assert_int_equal(rd(w, 0xfe), 0x508);
    wr(w, 0x2ff, 0xc06);
    refuses(w, 0x2ff, 0x107);
    refuses(w, 0x2ff, 0x02);
    wr(w, 0x200, 0xc0000006);
    wr(w, 0x201, 0x3fffc0000800);
    refuses(w, 0x200, 0xc0000007);
    refuses(w, 0x200, 0xc0000100);
    refuses(w, 0x201, 1ull << 46);
    assert_int_equal(rd(w, 0x201), 0x3fffc0000800);
    wr(w, 0x26f, 0x0505050505050505);
    assert_int_equal(w->cpu.s.mtrr_fixed[10], 0x0505050505050505);
    refuses(w, 0x250, 0x07);
    absent(w, 0x251);
    absent(w, 0x210);
    world_free(w);
}

static void test_machine_check(void **state)
{
    struct world *w = world_new(1, "ring3-v2");
    unsigned banks = rd(w, 0x179) & 0xff;

    for (unsigned i = 0; i < 32; i++) {
        u32 ctl = 0x400 + 4 * i;
        if (i >= banks) {
            for (unsigned j = 0; j < 4; j++)
                absent(w, ctl + j);
            continue;
        }
        wr(w, ctl, 0);
        wr(w, ctl, ~0ull);
        refuses(w, ctl, NONCANONICAL);
        wr(w, ctl + 1, 0);
        refuses(w, ctl + 1, 1);
        wr(w, ctl + 2, ~0ull);
        assert_int_equal(rd(w, ctl + 2), ~0ull);
    }
    world_free(w);
}

static void test_speculation(void **state)
{
    struct world *w = world_new(1, "ring3-v2");
    u64 v;

    assert_int_equal(rd(w, 0x10a) & 0x0d10e17b, 0x0d10e17b);
    refuses(w, 0x10a, 0);
    wr(w, 0x48, 7);
    refuses(w, 0x48, 8);
    assert_int_equal(rd(w, 0x48), 7);
    wr(w, 0x49, 1);
    refuses(w, 0x49, 2);
    assert_fault(w, x86_msr_read(&w->cpu, 0x49, &v), X86_GP, 0);
    world_free(w);
}

static void test_world_and_unknown(void **state)
{
    struct world *w = world_new(1, "ring3-v2");

    absent(w, 0x12345678);
    absent(w, 0x480);      /* VMX */
    absent(w, 0xc0010015); /* AMD only */
    w->msr = 0x6e0;
    wr(w, 0x6e0, 99);
    assert_int_equal(rd(w, 0x6e0), 99);
    assert_int_equal(rd(w, 0x3a), 1);
    refuses(w, 0x3a, 1);
    assert_int_equal(rd(w, 0x8b) >> 32 != 0, 1);
    wr(w, 0x8b, 0);
    world_free(w);
}

static void test_misc_enable(void **state)
{
    struct world *w = world_new(1, "ring3-v2");
    u64 was = rd(w, 0x1a0), keep = 0x1880;

    assert_true(was & 1); /* fast strings */
    wr(w, 0x1a0, 0x400c51889);
    assert_int_equal(rd(w, 0x1a0), (0x400c50809 & ~keep) | (was & keep));
    world_free(w);
}

static void test_cr0_rules(void **state)
{
    struct world *w = world_new(4, "ring3-v2");
    struct x86_cpu *c = &w->cpu;

    world_protected(w, 32, 0);
    u64 cr0 = c->s.cr0 & ~(u64)(CR0_CD | CR0_NW);
    assert_int_equal(x86_set_cr0(c, cr0), X86_OK);
    assert_fault(w, x86_set_cr0(c, cr0 | 1ull << 32), X86_GP, 0);
    assert_fault(w, x86_set_cr0(c, (cr0 & ~(u64)CR0_PE) | CR0_PG), X86_GP, 0);
    assert_fault(w, x86_set_cr0(c, cr0 | CR0_NW), X86_GP, 0);
    assert_int_equal(
        x86_set_cr0(c, (cr0 | 0x1ffaffc0u) & ~(u64)CR0_ET & ~(u64)CR0_AM & ~(u64)CR0_WP), X86_OK);
    assert_int_equal(c->s.cr0 & 0x1ffaffd0, CR0_ET);
    assert_int_equal(x86_set_efer(c, EFER_LME), X86_OK);
    assert_fault(w, x86_set_cr0(c, cr0 | CR0_PG), X86_GP, 0); /* no PAE */
    assert_int_equal(x86_set_cr4(c, CR4_PAE), X86_OK);
    c->s.seg[X86_CS].attr |= SEG_L;
    assert_fault(w, x86_set_cr0(c, cr0 | CR0_PG), X86_GP, 0);
    c->s.seg[X86_CS].attr &= ~SEG_L;
    c->s.tr.attr = SEG_P | 3;
    assert_fault(w, x86_set_cr0(c, cr0 | CR0_PG), X86_GP, 0);
    c->s.tr.attr = SEG_P | 11;
    assert_int_equal(x86_set_cr0(c, cr0 | CR0_PG), X86_OK);
    assert_true(c->s.efer & EFER_LMA);
    assert_int_equal(c->paging, X86_PAGING_4LEVEL);
    assert_fault(w, x86_set_cr4(c, 0), X86_GP, 0);
    assert_fault(w, x86_set_efer(c, 0), X86_GP, 0);
    assert_int_equal(x86_set_efer(c, EFER_LME | EFER_SCE), X86_OK); /* LMA as written is ignored */
    assert_true(c->s.efer & EFER_LMA);
    assert_int_equal(x86_set_cr0(c, cr0), X86_OK); /* from compatibility mode */
    assert_false(c->s.efer & EFER_LMA);
    world_long(w, 0, 64, 0);
    assert_fault(w, x86_set_cr0(c, cr0), X86_GP, 0);
    world_free(w);
}

static void test_cr_instructions(void **state)
{
    struct world *w = world_new(16, "ring3-v2");
    struct x86_cpu *c = &w->cpu;

    world_long(w, 0, 64, 0);
    c->s.gpr[X86_RAX] = 9;
    assert_int_equal(WORLD_EXEC(w, 0x44, 0x0f, 0x22, 0xc0), X86_YIELD); /* mov cr8, rax */
    assert_int_equal(w->cr8, 9);
    c->s.gpr[X86_RAX] = 16;
    assert_fault(w, WORLD_EXEC(w, 0x44, 0x0f, 0x22, 0xc0), X86_GP, 0);
    assert_int_equal(WORLD_EXEC(w, 0x44, 0x0f, 0x20, 0xc3), X86_OK); /* mov rbx, cr8 */
    assert_int_equal(c->s.gpr[X86_RBX], 9);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x22, 0xc8), X86_UD, -1); /* mov cr1, rax */
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0xe3), X86_OK);    /* smsw ebx */
    assert_int_equal(c->s.gpr[X86_RBX], c->s.cr0);
    c->s.gpr[X86_RAX] = 0x8; /* lmsw sets TS, keeps PE */
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0xf0), X86_YIELD);
    assert_int_equal(c->s.cr0 & 0xf, CR0_PE | CR0_TS);
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x06), X86_OK); /* clts */
    assert_int_equal(c->s.cr0 & CR0_TS, 0);
    c->s.cr4 |= CR4_UMIP;
    world_cpl(w, 3);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x01, 0xe3), X86_GP, 0);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x20, 0xc0), X86_GP, 0);
    assert_fault(w, WORLD_EXEC(w, 0xf4), X86_GP, 0);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x01, 0xcb), X86_UD, -1); /* stac */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x20, 0xc8), X86_UD, -1); /* cr1 before privilege */
    world_free(w);
}

static void test_debug_registers(void **state)
{
    struct world *w = world_new(16, "ring3-v2");
    struct x86_cpu *c = &w->cpu;

    world_long(w, 0, 64, 0);
    c->s.gpr[X86_RAX] = 0xffffffff;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x23, 0xf0), X86_YIELD); /* mov dr6, rax */
    assert_int_equal(c->s.dr6, 0xffffefff);
    c->s.gpr[X86_RAX] = 1ull << 32;
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x23, 0xf8), X86_GP, 0); /* mov dr7, rax */
    c->s.gpr[X86_RAX] = 0;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x23, 0xe8), X86_YIELD); /* mov dr5 = dr7 */
    assert_int_equal(c->s.dr7, 0x400);
    c->s.cr4 |= CR4_DE;
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x23, 0xe8), X86_UD, -1);
    c->s.dr7 |= DR7_GD;
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x21, 0xc0), X86_DB, -1);
    assert_int_equal(c->exc.dr6, DR6_BD);
    world_cpl(w, 3);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x21, 0xc0), X86_GP, 0);
    world_free(w);
}

static void test_flags_vme(void **state)
{
    struct world *w = world_new(16, "ring3-v2");
    struct x86_cpu *c = &w->cpu;
    struct x86_state *s = &c->s;

    world_segments(w, 16, 3);
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i].limit = 0xffff;
    s->gpr[X86_RSP] = 0x800;
    s->rflags = RFLAGS_ONE | RFLAGS_VM | RFLAGS_IF;
    x86_update_mode(c);
    assert_fault(w, WORLD_EXEC(w, 0xfa), X86_GP, 0); /* cli */
    assert_fault(w, WORLD_EXEC(w, 0x9c), X86_GP, 0); /* pushf */
    s->cr4 |= CR4_VME;
    assert_int_equal(WORLD_EXEC(w, 0xfb), X86_OK); /* sti */
    assert_int_equal(s->rflags & (RFLAGS_VIF | RFLAGS_IF), RFLAGS_VIF | RFLAGS_IF);
    assert_int_equal(WORLD_EXEC(w, 0x9c), X86_OK);
    assert_int_equal(world_get(w, 0x7fe, 2), RFLAGS_ONE | RFLAGS_IF | RFLAGS_IOPL);
    assert_fault(w, WORLD_EXEC(w, 0x66, 0x9c), X86_GP, 0);
    world_put(w, 0x7fe, 2, RFLAGS_TF);
    assert_fault(w, WORLD_EXEC(w, 0x9d), X86_GP, 0); /* popf */
    assert_int_equal(s->gpr[X86_RSP], 0x7fe);
    world_put(w, 0x7fe, 2, RFLAGS_CF | RFLAGS_IOPL);
    assert_int_equal(WORLD_EXEC(w, 0x9d), X86_YIELD);
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_VM | RFLAGS_IF | RFLAGS_CF);
    s->rflags |= RFLAGS_VIP;
    assert_fault(w, WORLD_EXEC(w, 0xfb), X86_GP, 0);
    world_free(w);
}

static void test_flags_privilege(void **state)
{
    struct world *w = world_new(16, "ring3-v2");
    struct x86_state *s = &w->cpu.s;
    u64 all = 0xffffffff;

    world_protected(w, 32, 0);
    s->gpr[X86_RSP] = 0x800;
    s->rflags = RFLAGS_ONE;
    world_put(w, 0x800, 4, all);
    assert_int_equal(WORLD_EXEC(w, 0x9d), X86_YIELD);
    assert_int_equal(s->rflags, 0x247fd7); /* not VM, RF, VIF, VIP */
    s->gpr[X86_RSP] = 0x800;
    s->rflags = RFLAGS_ONE;
    world_cpl(w, 3);
    assert_int_equal(WORLD_EXEC(w, 0x9d), X86_YIELD);
    assert_int_equal(s->rflags, 0x244dd7); /* nor IOPL, IF */
    s->rflags = RFLAGS_ONE | RFLAGS_RF;
    assert_int_equal(WORLD_EXEC(w, 0x9c), X86_OK);
    assert_int_equal(world_get(w, s->gpr[X86_RSP], 4), RFLAGS_ONE);
    assert_fault(w, WORLD_EXEC(w, 0xfa), X86_GP, 0);
    s->cr4 |= CR4_PVI;
    assert_int_equal(WORLD_EXEC(w, 0xfb), X86_OK);
    assert_true(s->rflags & RFLAGS_VIF);
    world_cpl(w, 0);
    s->rflags = RFLAGS_ONE;
    assert_int_equal(WORLD_EXEC(w, 0xfb), X86_YIELD);
    assert_int_equal(s->shadow, X86_SHADOW_STI);
    assert_true(x86_attn(&w->cpu) & X86_ATTN_SHADOW);
    world_free(w);
}

static void test_tables(void **state)
{
    struct world *w = world_new(16, "ring3-v2");
    struct x86_state *s = &w->cpu.s;

    world_protected(w, 32, 0);
    world_put(w, 0x100, 8, 0x12345678abcd);
    s->gpr[X86_RAX] = 0x100;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0x10), X86_OK); /* lgdt [eax] */
    assert_int_equal(s->gdtr.limit, 0xabcd);
    assert_int_equal(s->gdtr.base, 0x12345678);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x01, 0x18), X86_OK); /* 16-bit lidt */
    assert_int_equal(s->idtr.base, 0x345678);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x01, 0x00), X86_OK); /* sgdt stores all of it */
    assert_int_equal(world_get(w, 0x100, 8), 0x12345678abcd);
    world_free(w);
}

static void test_invpcid(void **state)
{
    struct world *w = world_new(16, "ring3-v2");
    struct x86_state *s = &w->cpu.s;
    const u8 op[] = {0x66, 0x0f, 0x38, 0x82, 0x03}; /* invpcid eax, [ebx] */

    world_protected(w, 32, 0);
    s->gpr[X86_RBX] = 0x100;
    for (unsigned type = 0; type < 4; type++) {
        s->gpr[X86_RAX] = type;
        assert_int_equal(world_exec(w, op, sizeof(op)), X86_YIELD);
    }
    s->gpr[X86_RAX] = 4;
    assert_fault(w, world_exec(w, op, sizeof(op)), X86_GP, 0);
    world_put(w, 0x100, 8, 1);
    s->gpr[X86_RAX] = 1; /* PCID without CR4.PCIDE */
    assert_fault(w, world_exec(w, op, sizeof(op)), X86_GP, 0);
    s->gpr[X86_RAX] = 2;
    assert_int_equal(world_exec(w, op, sizeof(op)), X86_YIELD);
    world_put(w, 0x100, 8, 0x1000);
    assert_fault(w, world_exec(w, op, sizeof(op)), X86_GP, 0);
    world_put(w, 0x100, 8, 0);
    world_put(w, 0x108, 8, NONCANONICAL);
    s->gpr[X86_RAX] = 0;
    assert_fault(w, world_exec(w, op, sizeof(op)), X86_GP, 0);
    world_free(w);
}

static void test_long_mode_instructions(void **state)
{
    struct world *w = world_new(16, "ring3-v2");
    struct x86_state *s = &w->cpu.s;

    world_long(w, 0, 64, 0);
    s->seg[X86_GS].base = 1;
    s->kernel_gs_base = 2;
    x86_update_mode(&w->cpu);
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0xf8), X86_OK); /* swapgs */
    assert_int_equal(w->cpu.seg_base[X86_GS], 2);
    assert_int_equal(s->kernel_gs_base, 1);
    assert_fault(w, WORLD_EXEC(w, 0xf3, 0x48, 0x0f, 0xae, 0xd8), X86_UD, -1); /* wrgsbase rax */
    s->cr4 |= CR4_FSGSBASE;
    s->gpr[X86_RAX] = NONCANONICAL;
    assert_fault(w, WORLD_EXEC(w, 0xf3, 0x48, 0x0f, 0xae, 0xd8), X86_GP, 0);
    assert_int_equal(WORLD_EXEC(w, 0xf3, 0x0f, 0xae, 0xd8), X86_OK); /* wrgsbase eax */
    assert_int_equal(s->seg[X86_GS].base, 0xaaaaaaaa);
    w->random = 0x1122334455667788;
    s->rflags = RFLAGS_ONE | RFLAGS_ARITH;
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0xc7, 0xf1), X86_OK); /* rdrand cx */
    assert_int_equal(s->gpr[X86_RCX], 0x7788);
    assert_int_equal(s->rflags, RFLAGS_ONE | RFLAGS_CF);
    w->random_rc = -1;
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xc7, 0xf9), X86_OK); /* rdseed rcx */
    assert_int_equal(s->gpr[X86_RCX], 0);
    assert_int_equal(s->rflags, RFLAGS_ONE);
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0xc1), X86_OK); /* vmcall */
    assert_int_equal(s->gpr[X86_RAX], (u64)-1000);
    w->model.kvm_leaves = false;
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x01, 0xc1), X86_UD, -1);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x01, 0xc8), X86_UD, -1); /* monitor */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0xaa), X86_UD, -1);       /* rsm */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x01, 0xd0), X86_UD, -1); /* xgetbv without XSAVE */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0xae, 0x3c, 0x25, 0, 0x10, 0, 0), X86_PF, 0); /* clflush */
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x18, 0x0c, 0x25, 0, 0x10, 0, 0), X86_OK);   /* prefetch */
    assert_int_equal(WORLD_EXEC(w, 0xf4), X86_YIELD);
    assert_int_equal(s->activity, X86_HALTED);
    world_free(w);
}

static int note_ipis(void *ctx, unsigned __int128 map, u64 first, u64 icr)
{
    struct world *w = ctx;

    w->input = (u64)map;
    w->msr_val = first << 16 | icr;
    return 3;
}

static void test_hypercalls(void **state)
{
    struct world *w = world_new(1, "ring3-v2");
    struct x86_state *s = &w->cpu.s;
    struct x86_ops ops = *w->cpu.ops;

    ops.send_ipis = note_ipis;
    w->cpu.ops = &ops;
    s->gpr[X86_RAX] = 10;
    s->gpr[X86_RBX] = 5;
    s->gpr[X86_RCX] = 1;
    s->gpr[X86_RDX] = 7;
    s->gpr[X86_RSI] = 0x4042;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0xc1), X86_OK);
    assert_int_equal(s->gpr[X86_RAX], 3);
    assert_int_equal(w->input, 0x100000005); /* two words of 32 bits outside 64-bit mode */
    assert_int_equal(w->msr_val, 0x74042);
    s->gpr[X86_RAX] = 11; /* another call */
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0xd9), X86_OK);
    assert_int_equal(s->gpr[X86_RAX], (u32)-1000);
    s->gpr[X86_RAX] = 10;
    s->cpl = 3;
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x01, 0xc1), X86_OK);
    assert_int_equal(s->gpr[X86_RAX], (u32)-1);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hypercalls),
        cmocka_unit_test(test_time_stamp),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_memory_types),
        cmocka_unit_test(test_machine_check),
        cmocka_unit_test(test_speculation),
        cmocka_unit_test(test_world_and_unknown),
        cmocka_unit_test(test_misc_enable),
        cmocka_unit_test(test_cr0_rules),
        cmocka_unit_test(test_cr_instructions),
        cmocka_unit_test(test_debug_registers),
        cmocka_unit_test(test_flags_vme),
        cmocka_unit_test(test_flags_privilege),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_invpcid),
        cmocka_unit_test(test_long_mode_instructions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
