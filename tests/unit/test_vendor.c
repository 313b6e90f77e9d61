/* test_vendor.c - what AMD processors do otherwise than Intel's, beyond what other tests show */
#include "fp_world.h"

static struct world *vendor_world(bool intel)
{
    struct world *w = long_world();

    w->cpu.intel = intel;
    return w;
}

static struct world *vendor_flat(unsigned bits, bool intel)
{
    struct world *w = flat_world(bits);

    w->cpu.intel = intel;
    return w;
}

#define EACH_VENDOR(intel) for (unsigned intel = 0; intel < 2; intel++)

static void decoding(void **state)
{
    EACH_VENDOR(intel)
    {
        struct world *w = vendor_world(intel);
        u64 *r = w->cpu.s.gpr;

        /* pause, with REX.B */
        r[X86_RAX] = 1, r[8] = 2;
        assert_int_equal(WORLD_EXEC(w, 0xf3, 0x41, 0x90), X86_OK);
        assert_int_equal(r[X86_RAX], intel ? 1 : 2);
        assert_int_equal(r[8], intel ? 2 : 1);
        /* prefetch of a register */
        int rc = WORLD_EXEC(w, 0x0f, 0x0d, 0xca);
        if (intel)
            assert_int_equal(rc, X86_OK);
        else
            assert_fault(w, rc, X86_UD, -1);
        /* ud0 at the end of what can be fetched */
        struct x86_insn in;
        rc = x86_decode(&w->cpu, (const u8[]){0x0f, 0xff}, 2, &in);
        assert_int_equal(rc, intel ? X86_DECODE_MORE : X86_FAULT);
        /* vpermq without W */
        if (has(w, X86_FEATURE_AVX2)) {
            set_vec(w, 1, 1, 2, 3, 4);
            rc = WORLD_EXEC(w, 0xc4, 0xe3, 0x7d, 0x00, 0xc1, 0x1b);
            assert_int_equal(rc, intel ? X86_FAULT : X86_OK);
            if (!intel)
                assert_vec(w, 0, 4, 3, 2, 1);
        }
        world_free(w);
    }
}

static void branches(void **state)
{
    EACH_VENDOR(intel)
    {
        struct world *w = vendor_world(intel);
        struct x86_state *s = &w->cpu.s;

        /* jz with an operand-size prefix */
        s->rip = 0x12345, s->rflags |= RFLAGS_ZF;
        assert_int_equal(WORLD_EXEC(w, 0x66, 0x74, 0x10), X86_OK);
        assert_int_equal(s->rip, intel ? 0x12358 : 0x2358);
        /* loope under F2: as loopne */
        s->gpr[X86_RCX] = 9, s->rip = 0x100;
        assert_int_equal(WORLD_EXEC(w, 0xf2, 0xe1, 0x10), X86_OK);
        assert_int_equal(s->rip, intel ? 0x113 : 0x103);
        s->gpr[X86_RCX] = 9, s->rip = 0x100;
        assert_int_equal(WORLD_EXEC(w, 0xf3, 0xe0, 0x10), X86_OK);
        assert_int_equal(s->rip, intel ? 0x103 : 0x113);
        /* a call to nowhere: what becomes of the stack */
        s->gpr[X86_RSP] = 0x800, s->gpr[X86_RAX] = 1ull << 60, s->rip = 0x100;
        world_put(w, DATA + 0x7f8, 8, 0x77);
        assert_fault(w, WORLD_EXEC(w, 0xff, 0xd0), X86_GP, 0);
        assert_int_equal(s->gpr[X86_RSP], 0x800);
        assert_int_equal(world_get(w, DATA + 0x7f8, 8), intel ? 0x102 : 0x77);
        s->gpr[X86_RSP] = HOLE + 8;
        assert_pf(w, WORLD_EXEC(w, 0xff, 0xd0), HOLE, PF_U | PF_W);
        world_free(w);
    }
}

static void far_pointers(void **state)
{
    EACH_VENDOR(intel)
    {
        struct world *w = vendor_world(intel);

        /* lfs rax, [rdi] with REX.W: the null selector at 8 or at 4 */
        world_put(w, DATA + 0x100, 8, 0x1122334455667788ull);
        world_put(w, DATA + (intel ? 0x108 : 0x104), 2, 0);
        RDI_IS(w, 0x100);
        assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xb4, 0x07), X86_YIELD);
        assert_int_equal(w->cpu.s.gpr[X86_RAX], intel ? 0x1122334455667788ull : 0x55667788);
        world_free(w);
    }
}

static void alignment(void **state)
{
    EACH_VENDOR(intel)
    {
        struct world *w = vendor_world(intel);

        if (has(w, X86_FEATURE_SHA)) {
            RDI_IS(w, 0x104);
            int rc = WORLD_EXEC(w, 0x0f, 0x38, 0xc9, 0x07); /* sha1msg1 xmm0, [rdi] */
            assert_int_equal(rc, intel ? X86_FAULT : X86_OK);
        }
        w->cpu.s.cr0 |= CR0_AM;
        w->cpu.s.rflags |= RFLAGS_AC;
        x86_update_mode(&w->cpu);
        RDI_IS(w, 0x104);
        int rc = WORLD_EXEC(w, 0x0f, 0x10, 0x07); /* movups xmm0, [rdi] */
        if (intel)
            assert_int_equal(rc, X86_OK);
        else
            assert_fault(w, rc, X86_AC, 0);
        RDI_IS(w, 0x110);
        if (has(w, X86_FEATURE_AVX)) /* of 16 bytes, for 32 too: vmovups ymm0, [rdi] */
            assert_int_equal(WORLD_EXEC(w, 0xc5, 0xfc, 0x10, 0x07), X86_OK);
        /* of a misaligned operand that reaches into the hole */
        RDI_IS(w, 0x7fffffffffff);
        assert_fault(w, WORLD_EXEC(w, 0x8b, 0x07), intel ? X86_AC : X86_GP, 0);
        world_free(w);
    }
}

static void wrap_at_4g(void **state)
{
    EACH_VENDOR(intel)
    {
        struct world *w = vendor_flat(32, intel);

        RDI_IS(w, 0xfffffffe);
        int rc = WORLD_EXEC(w, 0x8b, 0x07); /* mov eax, [edi] */
        if (intel)
            assert_int_equal(rc, X86_OK);
        else
            assert_fault(w, rc, X86_GP, 0);
        world_free(w);
    }
}

static void order_of_accesses(void **state)
{
    EACH_VENDOR(intel)
    {
        struct world *w = vendor_world(intel);
        struct x86_state *s = &w->cpu.s;

        /* fistp word [rdi] of a number too large, unmasked: no store, but the address */
        s->fpu.fcw &= ~1u;
        assert_int_equal(WORLD_EXEC(w, 0xd9, 0xeb), X86_OK); /* fldpi */
        s->fpu.st[0][9] = 0x7f;
        RDI_IS(w, HOLE);
        int rc = WORLD_EXEC(w, 0xdf, 0x1f);
        if (intel)
            assert_int_equal(rc, X86_OK);
        else
            assert_pf(w, rc, HOLE, PF_U | PF_W);
        /* repne scasb that runs into the hole: the flags */
        s->gpr[X86_RAX] = 0xff, s->gpr[X86_RCX] = 100;
        s->rflags = RFLAGS_ONE | RFLAGS_ZF;
        RDI_IS(w, HOLE - 4);
        assert_pf(w, WORLD_EXEC(w, 0xf2, 0xae), HOLE, PF_U);
        assert_int_equal(s->gpr[X86_RCX], 96);
        assert_int_equal(!!(s->rflags & RFLAGS_ZF), intel);
        /* retf to an outer frame beyond the hole, by way of a selector that will not do */
        s->gpr[X86_RSP] = HOLE - 8;
        world_put(w, DATA + HOLE - 4, 2, 0x7ff8);
        rc = WORLD_EXEC(w, 0xcb);
        assert_int_equal(rc, X86_FAULT);
        assert_int_equal(w->cpu.exc.vector, intel ? X86_GP : X86_PF);
        if (!intel) /* SS first */
            assert_int_equal(w->cpu.exc.cr2, HOLE + 4);
        world_free(w);

        /* bound eax, [edi] below the lower bound, the upper one beyond the limit */
        w = vendor_flat(32, intel);
        w->cpu.s.seg[X86_DS].limit = 0x1003;
        x86_update_mode(&w->cpu);
        world_put(w, 0x1000, 4, 5);
        w->cpu.s.gpr[X86_RAX] = 1;
        RDI_IS(w, 0x1000);
        rc = WORLD_EXEC(w, 0x62, 0x07);
        assert_int_equal(rc, X86_FAULT);
        assert_int_equal(w->cpu.exc.vector, intel ? X86_BR : X86_GP);
        world_free(w);
    }
}

static void x87_pointers(void **state)
{
    EACH_VENDOR(intel)
    {
        struct world *w = vendor_world(intel);
        struct x86_fpu *f = &w->cpu.s.fpu;

        assert_int_equal(WORLD_EXEC(w, 0xd9, 0xe8), X86_OK); /* fld1 */
        assert_int_equal(f->fop, intel ? 0 : 0x1e8);
        f->fop = 0x123, f->fip = 0x123456789a, f->fdp = 0xf00000001234;
        RDI_IS(w, 0x200);
        assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x07), X86_OK); /* fxsave64 [rdi] */
        assert_int_equal(world_get(w, DATA + 0x206, 2), intel ? 0x123 : 0);
        assert_int_equal(world_get(w, DATA + 0x208, 8), intel ? f->fip : 0);
        assert_int_equal(world_get(w, DATA + 0x210, 8), intel ? f->fdp : 0);
        /* with an exception pending */
        f->fcw &= ~1u;
        f->fsw |= FSW_ES | FSW_B | 1;
        assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x07), X86_OK);
        assert_int_equal(world_get(w, DATA + 0x206, 2), 0x123);
        assert_int_equal(world_get(w, DATA + 0x208, 8), f->fip);
        /* loaded in any case */
        f->fop = 0, f->fip = f->fdp = 0;
        world_put(w, DATA + 0x202, 2, 0);
        assert_int_equal(WORLD_EXEC(w, 0x48, 0x0f, 0xae, 0x0f), X86_OK); /* fxrstor64 [rdi] */
        assert_int_equal(f->fop, 0x123);
        assert_int_equal(f->fip, 0x123456789a);
        assert_int_equal(f->fdp, intel ? 0xf00000001234 : 0xfffff00000001234);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding),     cmocka_unit_test(branches),
        cmocka_unit_test(far_pointers), cmocka_unit_test(alignment),
        cmocka_unit_test(wrap_at_4g),   cmocka_unit_test(order_of_accesses),
        cmocka_unit_test(x87_pointers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
