/* test_xsave.c - FXSAVE and the XSAVE family: layouts, round trips, what they refuse */
#include "fp_world.h"

static void fill_fpu(struct world *w)
{
    struct x86_fpu *f = &w->cpu.s.fpu;

    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < 32; j++)
            f->vec[i][j] = (u8)(i * 16 + j + 1);
    for (unsigned i = 0; i < 8; i++)
        for (unsigned j = 0; j < 10; j++)
            f->st[i][j] = (u8)(0x80 + i * 8 + j);
    f->fcw = 0x027f;
    f->fsw = 0x3123;
    f->ftw = 0x5a;
    f->fop = 0x123;
    f->fip = 0x123456789a;
    f->fdp = 0x7fff00001234;
    f->mxcsr = 0x9f95;
    w->cpu.intel = true; /* AMD processors give no pointers away: see amd_hides_pointers */
}

static void assert_same_fpu(const struct x86_fpu *a, const struct x86_fpu *b)
{
    assert_memory_equal(a->vec, b->vec, sizeof(a->vec));
    assert_memory_equal(a->st, b->st, sizeof(a->st));
    assert_int_equal(a->mxcsr, b->mxcsr);
    assert_int_equal(a->fcw, b->fcw);
    assert_int_equal(a->fsw, b->fsw);
    assert_int_equal(a->ftw, b->ftw);
    assert_int_equal(a->fop, b->fop);
    assert_int_equal(a->fip, b->fip);
    assert_int_equal(a->fdp, b->fdp);
}

static void test_fxsave(void **state)
{
    struct world *w = long_world();
    struct x86_fpu before;

    fill_fpu(w);
    before = w->cpu.s.fpu;
    memset(w->ram + DATA + 0x200, 0xee, 512);
    RDI_IS(w, 0x200);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x07), X86_OK); /* fxsave64 [rdi] */
    assert_int_equal(world_get(w, DATA + 0x200, 8), 0x0123005a3123027full);
    assert_int_equal(world_get(w, DATA + 0x208, 8), 0x123456789a);
    assert_int_equal(world_get(w, DATA + 0x218, 8), 0x0000ffff00009f95ull);
    assert_int_equal(world_get(w, DATA + 0x200 + 416, 8), 0xeeeeeeeeeeeeeeeeull);
    x87_init(&w->cpu.s.fpu);
    for (unsigned i = 0; i < 16; i++)
        memset(w->cpu.s.fpu.vec[i], 0x77, 16);
    w->cpu.s.fpu.mxcsr = MXCSR_INIT;
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x0f), X86_OK); /* fxrstor64 [rdi] */
    assert_same_fpu(&w->cpu.s.fpu, &before);
    /* Bad MXCSR and bad alignment leave all as it is. */
    world_put(w, DATA + 0x218, 4, 0x10000);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x0f), X86_GP, 0);
    RDI_IS(w, 0x208);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x0f), X86_GP, 0);
    RDI_IS(w, HOLE - 256);
    assert_pf(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x07), HOLE, PF_U | PF_W);
    assert_int_equal(world_get(w, DATA + HOLE - 256, 8), 0);
    assert_same_fpu(&w->cpu.s.fpu, &before);
    world_free(w);
}

static void amd_hides_pointers(void **state)
{
    struct world *w = long_world();

    fill_fpu(w);
    w->cpu.intel = false;
    RDI_IS(w, 0x200);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x07), X86_OK); /* fxsave64 [rdi] */
    assert_int_equal(world_get(w, DATA + 0x208, 8), 0);
    assert_int_equal(world_get(w, DATA + 0x210, 8), 0);
    w->cpu.s.fpu.fsw |= FSW_ES;
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x07), X86_OK);
    assert_int_equal(world_get(w, DATA + 0x208, 8), 0x123456789a);
    world_free(w);
}

static void xs_mask(struct world *w, u64 mask)
{
    w->cpu.s.gpr[X86_RAX] = (u32)mask;
    w->cpu.s.gpr[X86_RDX] = mask >> 32;
}

static void test_xsave(void **state)
{
    struct world *w = long_world();
    struct x86_fpu before;

    if (!has(w, X86_FEATURE_AVX)) {
        world_free(w);
        return;
    }
    fill_fpu(w);
    before = w->cpu.s.fpu;
    RDI_IS(w, 0x400);
    xs_mask(w, ~0ull);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x27), X86_OK); /* xsave64 [rdi] */
    assert_int_equal(world_get(w, DATA + 0x600, 8), 7);
    assert_int_equal(world_get(w, DATA + 0x640, 8), 0x1817161514131211ull);
    memset(w->cpu.s.fpu.vec, 0, sizeof(before.vec));
    x87_init(&w->cpu.s.fpu);
    w->cpu.s.fpu.mxcsr = MXCSR_INIT;
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_OK); /* xrstor64 [rdi] */
    assert_same_fpu(&w->cpu.s.fpu, &before);
    /* A component whose bit is clear is initialised, one not asked for is left alone. */
    world_put(w, DATA + 0x600, 8, 3);
    xs_mask(w, XCR0_AVX);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_OK);
    assert_vec(w, 0, 0x0807060504030201ull, 0x100f0e0d0c0b0a09ull, 0, 0);
    assert_int_equal(w->cpu.s.fpu.fcw, before.fcw);
    /* Bits outside XCR0, reserved header bytes, MXCSR, alignment. */
    world_put(w, DATA + 0x600, 8, 11);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_GP, 0);
    world_put(w, DATA + 0x600, 8, 3);
    world_put(w, DATA + 0x610, 8, 1);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_GP, 0);
    world_put(w, DATA + 0x610, 8, 0);
    world_put(w, DATA + 0x418, 4, 0x80000000);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_GP, 0);
    RDI_IS(w, 0x420);
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x27), X86_GP, 0);
    w->cpu.s.cr4 &= ~(u64)CR4_OSXSAVE;
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x27), X86_UD, -1);
    world_free(w);
}

static void test_xsavec(void **state)
{
    struct world *w = long_world();
    struct x86_fpu before;

    if (!has(w, X86_FEATURE_XSAVEC)) {
        world_free(w);
        return;
    }
    fill_fpu(w);
    memset(w->cpu.s.fpu.vec, 0, sizeof(before.vec));
    w->cpu.s.fpu.mxcsr = MXCSR_INIT;
    before = w->cpu.s.fpu;
    RDI_IS(w, 0x400);
    xs_mask(w, 7);
    memset(w->ram + DATA + 0x400, 0xee, 832);
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xc7, 0x27), X86_OK); /* xsavec64 [rdi] */
    assert_int_equal(world_get(w, DATA + 0x600, 8), 1);
    assert_int_equal(world_get(w, DATA + 0x608, 8), 1ull << 63 | 7);
    assert_int_equal(world_get(w, DATA + 0x418, 8), 0xeeeeeeeeeeeeeeeeull); /* MXCSR not saved */
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_GP,
                 0); /* header bytes 63:16 not zero */
    memset(w->ram + DATA + 0x610, 0, 48);
    for (unsigned i = 0; i < 16; i++)
        set_vec(w, i, 1, 2, 3, 4);
    x87_init(&w->cpu.s.fpu);
    w->cpu.s.fpu.mxcsr = 0x1fff;
    assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_OK);
    assert_same_fpu(&w->cpu.s.fpu, &before);
    world_put(w, DATA + 0x600, 8, 4);
    world_put(w, DATA + 0x608, 8, 1ull << 63 | 3); /* XSTATE_BV beyond XCOMP_BV */
    assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x2f), X86_GP, 0);
    if (has(w, X86_FEATURE_XSAVES))
        assert_fault(w, WORLD_EXEC(w, 0x48, 0x0f, 0xc7, 0x2f), X86_GP, 0); /* xsaves64 at CPL 3 */
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fxsave),
        cmocka_unit_test(amd_hides_pointers),
        cmocka_unit_test(test_xsave),
        cmocka_unit_test(test_xsavec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
