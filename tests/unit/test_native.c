/* test_native.c - SSE, AVX, bit manipulation, masked moves, gathers: results and faults */
#include <pthread.h>

#include "fp_world.h"

/* --- moves ------------------------------------------------------------------------------------ */

static void test_moves(void **state)
{
    struct world *w = long_world();

    for (unsigned i = 0; i < 8; i++)
        world_put(w, DATA + 0x20 + i * 8, 8, 0x1010101010101010ull * (i + 1));
    set_vec(w, 1, ~0ull, ~0ull, ~0ull, ~0ull);
    RDI_IS(w, 0x20);
    assert_int_equal(WORLD_EXEC(w, 0xf3, 0x0f, 0x6f, 0x4f, 0x01),
                     X86_OK); /* movdqu xmm1, [rdi+1] */
    assert_vec(w, 1, 0x2010101010101010ull, 0x3020202020202020ull, ~0ull, ~0ull);
    assert_int_equal(WORLD_EXEC(w, 0xf3, 0x0f, 0x10, 0x0f), X86_OK); /* movss xmm1, [rdi] */
    assert_vec(w, 1, 0x10101010, 0, ~0ull, ~0ull);
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x16, 0x0f), X86_OK); /* movhps xmm1, [rdi] */
    assert_vec(w, 1, 0x10101010, 0x1010101010101010ull, ~0ull, ~0ull);
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0x11, 0x4f, 0x40), X86_OK); /* movups [rdi+40h], xmm1 */
    assert_int_equal(world_get(w, DATA + 0x60, 8), 0x10101010);
    assert_int_equal(world_get(w, DATA + 0x68, 8), 0x1010101010101010ull);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x48, 0x0f, 0x7e, 0xc8), X86_OK); /* movq rax, xmm1 */
    assert_int_equal(w->cpu.s.gpr[X86_RAX], 0x10101010);
    if (has(w, X86_FEATURE_AVX)) {
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xfa, 0x7e, 0x0f), X86_OK); /* vmovq xmm1, [rdi] */
        assert_vec(w, 1, 0x1010101010101010ull, 0, 0, 0);
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xfc, 0x10, 0x0f), X86_OK); /* vmovups ymm1, [rdi] */
        assert_vec(w, 1, 0x1010101010101010ull, 0x2020202020202020ull, 0x3030303030303030ull,
                   0x4040404040404040ull);
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xf8, 0x28, 0xd1), X86_OK); /* vmovaps xmm2, xmm1 */
        assert_vec(w, 2, 0x1010101010101010ull, 0x2020202020202020ull, 0, 0);
    }
    world_free(w);
}

static void test_alignment(void **state)
{
    struct world *w = long_world();

    RDI_IS(w, 0x28);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x28, 0x07), X86_GP, 0);       /* movaps xmm0, [rdi] */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x29, 0x07), X86_GP, 0);       /* movaps [rdi], xmm0 */
    assert_fault(w, WORLD_EXEC(w, 0x66, 0x0f, 0xfe, 0x07), X86_GP, 0); /* paddd xmm0, [rdi] */
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x2e, 0x07), X86_OK);   /* ucomisd xmm0, [rdi] */
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x3a, 0x63, 0x07, 0), X86_OK); /* pcmpistri */
    if (has(w, X86_FEATURE_AVX)) {
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xf9, 0xfe, 0x07),
                         X86_OK); /* vpaddd xmm0, xmm0, [rdi] */
        assert_fault(w, WORLD_EXEC(w, 0xc5, 0xf8, 0x28, 0x07), X86_GP, 0); /* vmovaps xmm0, [rdi] */
        RDI_IS(w, 0x30);
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xf8, 0x28, 0x07), X86_OK);
        assert_fault(w, WORLD_EXEC(w, 0xc5, 0xfc, 0x28, 0x07), X86_GP, 0); /* vmovaps ymm0, [rdi] */
    }
    /* Misalignment is found before the page is. */
    RDI_IS(w, HOLE + 8);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x28, 0x07), X86_GP, 0);
    RDI_IS(w, HOLE);
    assert_pf(w, WORLD_EXEC(w, 0x0f, 0x28, 0x07), HOLE, PF_U);
    /* A store over the end of memory changes nothing. */
    RDI_IS(w, HOLE - 8);
    set_vec(w, 0, 1, 2, 3, 4);
    assert_pf(w, WORLD_EXEC(w, 0x0f, 0x11, 0x07), HOLE, PF_U | PF_W);
    assert_int_equal(world_get(w, DATA + HOLE - 8, 8), 0);
    world_free(w);
}

/* --- arithmetic, MXCSR, #XM ------------------------------------------------------------------- */

static void test_arithmetic(void **state)
{
    struct world *w = long_world();
    u32 *mxcsr = &w->cpu.s.fpu.mxcsr;

    set_vec(w, 1, ONE, 7, 8, 9);
    set_vec(w, 9, THREE, 0, 0, 0);
    assert_int_equal(WORLD_EXEC(w, 0xf2, 0x41, 0x0f, 0x58, 0xc9), X86_OK); /* addsd xmm1, xmm9 */
    assert_vec(w, 1, 0x4010000000000000ull, 7, 8, 9);
    assert_int_equal(*mxcsr, MXCSR_INIT);
    set_vec(w, 1, ONE, 7, 8, 9);
    assert_int_equal(WORLD_EXEC(w, 0xf2, 0x41, 0x0f, 0x5e, 0xc9), X86_OK); /* divsd xmm1, xmm9 */
    assert_vec(w, 1, 0x3fd5555555555555ull, 7, 8, 9);
    assert_int_equal(*mxcsr, MXCSR_INIT | 0x20);
    *mxcsr = MXCSR_INIT | 0x4000; /* round up */
    set_vec(w, 1, ONE, 7, 8, 9);
    assert_int_equal(WORLD_EXEC(w, 0xf2, 0x41, 0x0f, 0x5e, 0xc9), X86_OK);
    assert_vec(w, 1, 0x3fd5555555555556ull, 7, 8, 9);
    assert_int_equal(*mxcsr, MXCSR_INIT | 0x4020);
    /* CVTSD2SI follows the rounding mode too; the monitor's own arithmetic does not. */
    set_vec(w, 1, 0x3ff8000000000000ull, 0, 0, 0);
    *mxcsr = MXCSR_INIT | 0x6000;
    assert_int_equal(WORLD_EXEC(w, 0xf2, 0x0f, 0x2d, 0xc1), X86_OK);
    assert_int_equal(w->cpu.s.gpr[X86_RAX], 1);
    volatile double third = 1.0;
    third /= 3.0;
    assert_true(third == 0x1.5555555555555p-2);
    world_free(w);
}

static void test_unmasked(void **state)
{
    struct world *w = long_world();
    struct x86_state *s = &w->cpu.s;

    /* Divide by zero unmasked: #XM, registers kept, the flag set, none of what would have
     * followed. */
    s->fpu.mxcsr = MXCSR_INIT & ~0x200u;
    set_vec(w, 1, ONE, 7, 8, 9);
    set_vec(w, 2, 0, 0, 0, 0);
    assert_fault(w, WORLD_EXEC(w, 0xf2, 0x0f, 0x5e, 0xca), X86_XM, -1); /* divsd xmm1, xmm2 */
    assert_vec(w, 1, ONE, 7, 8, 9);
    assert_int_equal(s->fpu.mxcsr, (MXCSR_INIT & ~0x200u) | 4);
    /* A pending flag alone raises nothing. */
    assert_int_equal(WORLD_EXEC(w, 0xf2, 0x0f, 0x58, 0xc9), X86_OK); /* addsd xmm1, xmm1 */
    s->cr4 &= ~(u64)CR4_OSXMMEXCPT;
    assert_fault(w, WORLD_EXEC(w, 0xf2, 0x0f, 0x5e, 0xca), X86_UD, -1);
    s->cr4 |= CR4_OSXMMEXCPT;
    /* Packed, with a memory operand that faults first. */
    RDI_IS(w, HOLE);
    assert_pf(w, WORLD_EXEC(w, 0x66, 0x0f, 0x5e, 0x0f), HOLE, PF_U); /* divpd xmm1, [rdi] */
    /* To a general register and to flags: both stay. */
    s->fpu.mxcsr = 0;
    s->gpr[X86_RAX] = 0x1234;
    s->rflags = 2 | RFLAGS_CF;
    set_vec(w, 1, 0x7ff0000000000001ull, 0, 0, 0);
    assert_fault(w, WORLD_EXEC(w, 0xf2, 0x48, 0x0f, 0x2d, 0xc1), X86_XM,
                 -1); /* cvtsd2si rax, xmm1 */
    assert_int_equal(s->gpr[X86_RAX], 0x1234);
    s->fpu.mxcsr = 0;
    assert_fault(w, WORLD_EXEC(w, 0x66, 0x0f, 0x2e, 0xc9), X86_XM, -1); /* ucomisd xmm1, xmm1 */
    assert_int_equal(s->rflags, 2 | RFLAGS_CF);
    assert_int_equal(s->fpu.mxcsr, 1);
    world_free(w);
}

static void test_mxcsr(void **state)
{
    struct world *w = long_world();

    RDI_IS(w, 0x40);
    world_put(w, DATA + 0x40, 4, 0x10000);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0xae, 0x17), X86_GP, 0); /* ldmxcsr [rdi] */
    world_put(w, DATA + 0x40, 4, 0x9fc0);
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0xae, 0x17), X86_OK);
    assert_int_equal(WORLD_EXEC(w, 0x0f, 0xae, 0x5f, 0x04), X86_OK); /* stmxcsr [rdi+4] */
    assert_int_equal(world_get(w, DATA + 0x44, 4), 0x9fc0);
    world_free(w);
}

/* --- flags and general registers -------------------------------------------------------------- */

static void test_flags(void **state)
{
    struct world *w = long_world();
    struct x86_state *s = &w->cpu.s;

    s->rflags = 2 | RFLAGS_ARITH | RFLAGS_DF | RFLAGS_IF;
    set_vec(w, 0, ONE, 0, 0, 0);
    set_vec(w, 1, TWO, 0, 0, 0);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x2f, 0xc1), X86_OK); /* comisd xmm0, xmm1 */
    assert_int_equal(s->rflags, 2 | RFLAGS_CF | RFLAGS_DF | RFLAGS_IF);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x38, 0x17, 0xc0), X86_OK); /* ptest xmm0, xmm0 */
    assert_int_equal(s->rflags, 2 | RFLAGS_CF | RFLAGS_DF | RFLAGS_IF);
    s->gpr[X86_RBX] = 0;
    assert_int_equal(WORLD_EXEC(w, 0xf3, 0x48, 0x0f, 0xb8, 0xc3), X86_OK); /* popcnt rax, rbx */
    assert_int_equal(s->rflags, 2 | RFLAGS_ZF | RFLAGS_DF | RFLAGS_IF);
    assert_int_equal(s->gpr[X86_RAX], 0);
    world_free(w);
}

static void test_bits(void **state)
{
    struct world *w = long_world();
    u64 *r = w->cpu.s.gpr;

    r[X86_RBX] = 0xf0f0;
    assert_int_equal(WORLD_EXEC(w, 0xf3, 0x0f, 0xb8, 0xc3), X86_OK); /* popcnt eax, ebx */
    assert_int_equal(r[X86_RAX], 8);
    r[X86_RAX] = ~0ull;
    assert_int_equal(WORLD_EXEC(w, 0x66, 0xf3, 0x0f, 0xb8, 0xc3), X86_OK); /* popcnt ax, bx */
    assert_int_equal(r[X86_RAX], 0xffffffffffff0008ull);
    r[X86_RAX] = 0;
    r[X86_RBX] = 0x6100;                                                   /* BH = 'a' */
    assert_int_equal(WORLD_EXEC(w, 0xf2, 0x0f, 0x38, 0xf0, 0xc7), X86_OK); /* crc32 eax, bh */
    assert_int_equal(r[X86_RAX], 0x93ad1061);
    if (has(w, X86_FEATURE_BMI2)) {
        r[X86_RDX] = 1ull << 63;
        r[X86_RBX] = 6;
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe2, 0xf3, 0xf6, 0xc3),
                         X86_OK); /* mulx rax, rcx, rbx */
        assert_int_equal(r[X86_RAX], 3);
        assert_int_equal(r[X86_RCX], 0);
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe2, 0xfb, 0xf6, 0xc3),
                         X86_OK); /* mulx rax, rax, rbx */
        assert_int_equal(r[X86_RAX], 3);
        r[X86_RBX] = 0x12345678;
        r[X86_RDX] = 0xff00fff0;
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe2, 0x62, 0xf5, 0xc2),
                         X86_OK); /* pext eax, ebx, edx */
        assert_int_equal(r[X86_RAX], 0x12567);
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe3, 0x7b, 0xf0, 0xc3, 0x08),
                         X86_OK); /* rorx eax, ebx, 8 */
        assert_int_equal(r[X86_RAX], 0x78123456);
    }
    if (has(w, X86_FEATURE_ADX)) {
        w->cpu.s.rflags = 2 | RFLAGS_CF | RFLAGS_ZF;
        r[X86_RAX] = ~0ull;
        r[X86_RBX] = 0;
        assert_int_equal(WORLD_EXEC(w, 0xf3, 0x48, 0x0f, 0x38, 0xf6, 0xc3),
                         X86_OK); /* adox rax, rbx */
        assert_int_equal(r[X86_RAX], ~0ull);
        assert_int_equal(WORLD_EXEC(w, 0x66, 0x48, 0x0f, 0x38, 0xf6, 0xc3),
                         X86_OK); /* adcx rax, rbx */
        assert_int_equal(r[X86_RAX], 0);
        assert_int_equal(w->cpu.s.rflags, 2 | RFLAGS_CF | RFLAGS_ZF);
    }
    world_free(w);
}

static void test_other_modes(void **state)
{
    struct world *w = flat_world(16);
    u64 *r = w->cpu.s.gpr;

    r[X86_RAX] = 0x11110000;
    r[X86_RBX] = 0xffff0003;
    assert_int_equal(WORLD_EXEC(w, 0xf3, 0x0f, 0xb8, 0xc3), X86_OK); /* popcnt ax, bx */
    assert_int_equal(r[X86_RAX], 0x11110002);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0xf3, 0x0f, 0xb8, 0xc3), X86_OK); /* popcnt eax, ebx */
    assert_int_equal(r[X86_RAX], 18);
    r[X86_RAX] = 0xdeadbeef;
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x6e, 0xc8), X86_OK); /* movd xmm1, eax */
    assert_vec(w, 1, 0xdeadbeef, 0, 0, 0);
    w->ram[0x123] = 0x80;
    r[X86_RBX] = 0x100;
    r[X86_RSI] = 0x20;
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0xfc, 0x08), X86_OK); /* paddb xmm1, [bx+si] */
    assert_vec(w, 1, 0x5eadbeefull, 0, 0, 0);
    world_free(w);

    w = flat_world(32);
    if (has(w, X86_FEATURE_BMI1)) {
        w->cpu.s.gpr[X86_RBX] = 0xff;
        w->cpu.s.gpr[X86_RAX] = 0xffff;
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe2, 0xe0, 0xf2, 0xc8),
                         X86_OK); /* andn ecx, ebx, eax; W=1 */
        assert_int_equal(w->cpu.s.gpr[X86_RCX], 0xff00);
        w->cpu.s.rflags |= RFLAGS_VM;
        x86_update_mode(&w->cpu);
    }
    world_free(w);
}

/* --- availability ----------------------------------------------------------------------------- */

static void test_availability(void **state)
{
    struct world *w = long_world();
    struct x86_state *s = &w->cpu.s;
    static const u8 sse[] = {0x0f, 0x58, 0xc1}, move[] = {0x0f, 0x28, 0xc1},
                    mmx[] = {0x0f, 0xfc, 0xc1}, avx[] = {0xc5, 0xf8, 0x58, 0xc1},
                    popcnt[] = {0xf3, 0x0f, 0xb8, 0xc1}, andn[] = {0xc4, 0xe2, 0x60, 0xf2, 0xc8};
#define RUN(b) world_exec(w, b, sizeof(b))

    s->cr0 |= CR0_TS;
    assert_fault(w, RUN(sse), X86_NM, -1);
    assert_fault(w, RUN(move), X86_NM, -1);
    assert_fault(w, RUN(mmx), X86_NM, -1);
    assert_int_equal(RUN(popcnt), X86_OK);
    s->cr0 |= CR0_EM; /* #UD goes before #NM */
    assert_fault(w, RUN(sse), X86_UD, -1);
    assert_fault(w, RUN(mmx), X86_UD, -1);
    s->cr0 &= ~(u64)(CR0_TS | CR0_EM);
    s->cr4 &= ~(u64)CR4_OSFXSR;
    assert_fault(w, RUN(sse), X86_UD, -1);
    assert_fault(w, RUN(move), X86_UD, -1);
    assert_int_equal(RUN(mmx), X86_OK);
    if (has(w, X86_FEATURE_AVX)) {
        s->cr0 |= CR0_EM; /* neither bit counts for VEX */
        assert_int_equal(RUN(avx), X86_OK);
        s->cr0 |= CR0_TS;
        assert_fault(w, RUN(avx), X86_NM, -1);
        s->xcr0 = XCR0_X87 | XCR0_SSE;
        assert_fault(w, RUN(avx), X86_UD, -1);
        s->xcr0 |= XCR0_AVX;
        s->cr4 &= ~(u64)CR4_OSXSAVE;
        assert_fault(w, RUN(avx), X86_UD, -1);
        if (has(w, X86_FEATURE_BMI1))
            assert_int_equal(RUN(andn), X86_OK);
    }
    world_free(w);
}

/* --- masked moves and gathers ----------------------------------------------------------------- */

static void test_masked(void **state)
{
    struct world *w = long_world();

    /* MASKMOVDQU: bytes 0 and 7 only, the rest lies in the hole. */
    RDI_IS(w, HOLE - 8);
    set_vec(w, 0, 0x8877665544332211ull, ~0ull, 0, 0);
    set_vec(w, 1, 0x8000000000000080ull, 0, 0, 0);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0xf7, 0xc1), X86_OK);
    assert_int_equal(world_get(w, DATA + HOLE - 8, 8), 0x8800000000000011ull);
    set_vec(w, 1, 0x80, 0x80, 0, 0);
    set_vec(w, 0, 0, 0, 0, 0);
    assert_pf(w, WORLD_EXEC(w, 0x66, 0x0f, 0xf7, 0xc1), HOLE, PF_U | PF_W);
    assert_int_equal(world_get(w, DATA + HOLE - 8, 8), 0x8800000000000011ull);
    if (has(w, X86_FEATURE_AVX)) {
        set_vec(w, 1, 0x8000000080000000ull, 0, 0, 0);
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe2, 0x75, 0x2c, 0x17),
                         X86_OK); /* vmaskmovps ymm2, ymm1, [rdi] */
        assert_vec(w, 2, 0x8800000000000011ull, 0, 0, 0);
        set_vec(w, 1, 0, 1ull << 31, 0, 0);
        assert_pf(w, WORLD_EXEC(w, 0xc4, 0xe2, 0x75, 0x2c, 0x17), HOLE, PF_U);
        set_vec(w, 2, 1, 2, 3, 4);
        set_vec(w, 1, 1ull << 63, 0, 0, 0);
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe2, 0x75, 0x2f, 0x17),
                         X86_OK); /* vmaskmovpd [rdi], ymm1, ymm2 */
        assert_int_equal(world_get(w, DATA + HOLE - 8, 8), 1);
    }
    world_free(w);
}

static void gather(bool intel)
{
    struct world *w = long_world();

    w->cpu.intel = intel;
    if (has(w, X86_FEATURE_AVX2)) {
        for (unsigned i = 0; i < 4; i++)
            world_put(w, DATA + HOLE - 16 + 4 * i, 4, i + 1);
        RDI_IS(w, HOLE);
        set_vec(w, 1, 0xfffffffcull | 0xffffffffull << 32, 0xfffffffdull | 0ull << 32, 5, 5);
        set_vec(w, 2, 1ull << 31 | 1ull << 63, 1ull << 31 | 1ull << 63, 7, 7);
        set_vec(w, 3, 0, 0, 8, 8);
        /* vpgatherdd xmm3, [rdi + xmm1*4], xmm2: element 3 faults, 0 to 2 are done */
        static const u8 code[] = {0xc4, 0xe2, 0x69, 0x90, 0x1c, 0x8f};
        assert_pf(w, world_exec(w, code, sizeof(code)), HOLE, PF_U);
        /* Intel processors extend the signs in the mask and clear what lies above at once. */
        assert_vec(w, 3, 1 | 4ull << 32, 2, intel ? 0 : 8, intel ? 0 : 8);
        assert_vec(w, 2, 0, intel ? 0xffffffffull << 32 : 1ull << 63, intel ? 0 : 7, intel ? 0 : 7);
        set_vec(w, 1, 0, 0xfffffffeull << 32, 0, 0);
        assert_int_equal(world_exec(w, code, sizeof(code)), X86_OK);
        assert_vec(w, 3, 1 | 4ull << 32, 2 | 3ull << 32, 0, 0);
        assert_vec(w, 2, 0, 0, 0, 0);
        /* Registers must differ. */
        assert_fault(w, WORLD_EXEC(w, 0xc4, 0xe2, 0x61, 0x90, 0x1c, 0x8f), X86_UD, -1);
        /* vpgatherqd xmm3, [rdi + ymm1*1], xmm2: four dwords by four quadword indexes */
        set_vec(w, 1, -16ull, -12ull, -8ull, -4ull);
        set_vec(w, 2, ~0ull, ~0ull, 0, 0);
        assert_int_equal(WORLD_EXEC(w, 0xc4, 0xe2, 0x6d, 0x91, 0x1c, 0x0f), X86_OK);
        assert_vec(w, 3, 1 | 2ull << 32, 3 | 4ull << 32, 0, 0);
    }
    world_free(w);
}

static void test_gather(void **state)
{
    gather(true);
    gather(false);
}

static void test_vzero(void **state)
{
    struct world *w = long_world();

    if (has(w, X86_FEATURE_AVX)) {
        set_vec(w, 15, 1, 2, 3, 4);
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xf8, 0x77), X86_OK);
        assert_vec(w, 15, 1, 2, 0, 0);
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xfc, 0x77), X86_OK);
        assert_vec(w, 15, 0, 0, 0, 0);
        set_vec(w, 1, 1, 2, 3, 4); /* VEX.128 clears what is above, legacy does not */
        set_vec(w, 0, 1, 2, 3, 4);
        assert_int_equal(WORLD_EXEC(w, 0xc5, 0xf9, 0xfe, 0xc1),
                         X86_OK); /* vpaddd xmm0, xmm0, xmm1 */
        assert_vec(w, 0, 2, 4, 0, 0);
        assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0xfe, 0xc8), X86_OK); /* paddd xmm1, xmm0 */
        assert_vec(w, 1, 3, 6, 3, 4);
    }
    world_free(w);
}

/* --- sharing ---------------------------------------------------------------------------------- */

static void *pshufd_all(void *arg)
{
    struct world *w = long_world();

    for (unsigned imm = 0; imm < 256; imm++)
        for (unsigned r = 0; r < 8; r++) {
            u8 code[] = {0x66, 0x0f, 0x70, (u8)(0xc0 | r << 3 | 1), (u8)imm};
            set_vec(w, 1, 0x0000000100000000ull, 0x0000000300000002ull, 0, 0);
            assert_int_equal(world_exec(w, code, sizeof(code)), X86_OK);
            u32 *v = (u32 *)w->cpu.s.fpu.vec[r];
            for (unsigned i = 0; i < 4; i++)
                assert_int_equal(v[i], imm >> 2 * i & 3);
        }
    world_free(w);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t t[3];

    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, pshufd_all, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
}

/* A SIGFPE that no guest caused keeps its old effect. */
static void test_foreign_signal(void **state)
{
    int status = 0;

    for (unsigned async = 0; async < 2; async++) {
        pid_t pid = fork();
        if (pid == 0) {
            volatile int zero = 0;
            signal(SIGFPE, SIG_DFL);
            struct world *w = long_world();
            WORLD_EXEC(w, 0x0f, 0x58, 0xc1); /* addps: the handler is in place */
            if (async)
                raise(SIGFPE);
            else
                asm volatile("divl %0" : : "m"(zero) : "eax", "edx", "cc");
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_arithmetic),   cmocka_unit_test(test_unmasked),
        cmocka_unit_test(test_mxcsr),        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_bits),         cmocka_unit_test(test_other_modes),
        cmocka_unit_test(test_availability), cmocka_unit_test(test_masked),
        cmocka_unit_test(test_gather),       cmocka_unit_test(test_vzero),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_foreign_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
