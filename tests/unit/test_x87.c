/* test_x87.c - x87 and MMX: arithmetic, stack and tags, deferred exceptions, environments */
#include "x86/fpu.h"
#include "x86/seg.h"
#include "x86_world.h"

static struct world *fpu_world(unsigned bits)
{
    struct world *w = world_new(64, "ring3-v2");

    if (bits == 64) {
        world_put(w, 0x1000, 8, 0x2007);
        world_put(w, 0x2000, 8, 0x3007);
        world_put(w, 0x3000, 8, 0x0087);
        world_long(w, 0x1000, 64, 3);
    } else if (bits) {
        world_protected(w, bits, 0);
    } else {
        for (unsigned i = 0; i < X86_SREGS; i++) /* real mode, base 0 */
            x86_set_seg_real(&w->cpu, i, 0);
    }
    w->cpu.s.cr0 = (w->cpu.s.cr0 | CR0_MP | CR0_NE) & ~(u64)(CR0_EM | CR0_TS);
    w->cpu.s.cr4 |= CR4_OSFXSR;
    x86_update_mode(&w->cpu);
    x87_init(&w->cpu.s.fpu);
    w->cpu.s.rip = 0x1234;
    return w;
}

#define FPU(w)     (&(w)->cpu.s.fpu)
#define AT(w, v)   ((w)->cpu.s.gpr[X86_RDI] = (w)->cpu.s.gpr[X86_RBX] = (v))
#define OK(w, ...) assert_int_equal(WORLD_EXEC(w, __VA_ARGS__), X86_OK)
#define ONE        0x3ff0000000000000ull

static void assert_st(struct world *w, unsigned i, u64 mantissa, u16 exponent)
{
    u64 m;
    u16 e;

    memcpy(&m, FPU(w)->st[i], 8);
    memcpy(&e, FPU(w)->st[i] + 8, 2);
    assert_int_equal(m, mantissa);
    assert_int_equal(e, exponent);
}

static void test_arithmetic(void **state)
{
    struct world *w = fpu_world(64);

    AT(w, 0x8000);
    world_put(w, 0x8000, 8, 0x4008000000000000ull); /* 3.0 */
    OK(w, 0xd9, 0xe8);                              /* fld1 */
    assert_int_equal(x87_top(FPU(w)), 7);
    assert_int_equal(FPU(w)->ftw, 0x80);
    OK(w, 0xdc, 0x07); /* fadd qword [rdi] */
    assert_st(w, 0, 1ull << 63, 0x4001);
    OK(w, 0xdd, 0x07); /* fld qword [rdi] */
    OK(w, 0xde, 0xf9); /* fdivp st1, st0: 4 / 3 */
    assert_st(w, 0, 0xaaaaaaaaaaaaaaabull, 0x3fff);
    assert_int_equal(FPU(w)->fsw, 0x3a20); /* PE, rounded up (C1) */
    OK(w, 0xdd, 0x5f, 0x08);               /* fstp qword [rdi+8] */
    assert_int_equal(world_get(w, 0x8008, 8), 0x3ff5555555555555ull);
    assert_int_equal(FPU(w)->ftw, 0);
    OK(w, 0xd9, 0xeb);       /* fldpi */
    OK(w, 0xdb, 0x7f, 0x10); /* fstp tbyte [rdi+10h] */
    assert_int_equal(world_get(w, 0x8010, 8), 0xc90fdaa22168c235ull);
    assert_int_equal(world_get(w, 0x8018, 8), 0x4000);
    world_put(w, 0x8020, 2, 0x8001);
    OK(w, 0xdf, 0x47, 0x20); /* fild word [rdi+20h] */
    OK(w, 0xdf, 0x77, 0x30); /* fbstp [rdi+30h] */
    assert_int_equal(world_get(w, 0x8030, 8), 0x32767);
    assert_int_equal(world_get(w, 0x8038, 2), 0x8000);
    world_free(w);
}

static void test_flags(void **state)
{
    struct world *w = fpu_world(64);
    u64 *fl = &w->cpu.s.rflags;

    OK(w, 0xd9, 0xe8); /* fld1 */
    OK(w, 0xd9, 0xee); /* fldz */
    *fl = 2 | RFLAGS_ARITH | RFLAGS_IF;
    OK(w, 0xdb, 0xf1); /* fcomi st0, st1: 0 < 1 */
    assert_int_equal(*fl, 2 | RFLAGS_CF | RFLAGS_IF);
    OK(w, 0xdb, 0xc1); /* fcmovnb st0, st1: no */
    assert_st(w, 0, 0, 0);
    OK(w, 0xda, 0xc1); /* fcmovb: yes */
    assert_st(w, 0, 1ull << 63, 0x3fff);
    assert_int_equal(*fl, 2 | RFLAGS_CF | RFLAGS_IF);
    w->cpu.s.gpr[X86_RAX] = 0x1111111111111111ull;
    OK(w, 0xdf, 0xe0); /* fnstsw ax */
    assert_int_equal(w->cpu.s.gpr[X86_RAX], 0x1111111111113000ull);
    world_free(w);
}

static void test_availability(void **state)
{
    struct world *w = fpu_world(64);
    u64 *cr0 = &w->cpu.s.cr0;

    *cr0 |= CR0_TS;
    assert_fault(w, WORLD_EXEC(w, 0xd9, 0xe8), X86_NM, -1);
    assert_fault(w, WORLD_EXEC(w, 0xdb, 0xe3), X86_NM, -1); /* fninit too */
    assert_fault(w, WORLD_EXEC(w, 0x9b), X86_NM, -1);       /* fwait with MP */
    *cr0 &= ~(u64)CR0_MP;
    OK(w, 0x9b);
    *cr0 = (*cr0 & ~(u64)CR0_TS) | CR0_EM;
    assert_fault(w, WORLD_EXEC(w, 0xd9, 0xe8), X86_NM, -1);
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0x77), X86_UD, -1); /* emms */
    OK(w, 0x9b);
    world_free(w);
}

/* --- exceptions ------------------------------------------------------------------------------- */

static void test_masked(void **state)
{
    struct world *w = fpu_world(64);

    OK(w, 0xd9, 0xc0); /* fld st0 of an empty stack: indefinite, IE and SF */
    assert_st(w, 0, 0xc000000000000000ull, 0xffff);
    assert_int_equal(FPU(w)->fsw, 0x3841);
    OK(w, 0xdb, 0xe2); /* fnclex */
    assert_int_equal(FPU(w)->fsw, 0x3800);
    world_free(w);
}

static void test_unmasked(void **state)
{
    struct world *w = fpu_world(64);

    FPU(w)->fcw = 0x37e; /* invalid unmasked */
    AT(w, 0x8000);
    world_put(w, 0x8000, 4, 0x55555555);
    OK(w, 0xd9, 0x17); /* fst dword [rdi] of an empty stack: no store, and no fault yet */
    assert_int_equal(world_get(w, 0x8000, 4), 0x55555555);
    assert_int_equal(FPU(w)->fsw, 0x80c1);
    assert_int_equal(FPU(w)->fip, 0x1234);
    assert_int_equal(FPU(w)->fdp, 0x8000);
    assert_int_equal(FPU(w)->fop, 0x117);
    w->cpu.s.rip = 0x2000;
    assert_fault(w, WORLD_EXEC(w, 0xd9, 0xe8), X86_MF, -1); /* fld1 */
    assert_int_equal(w->cpu.s.rip, 0x2000);
    assert_fault(w, WORLD_EXEC(w, 0x9b), X86_MF, -1);             /* fwait */
    assert_fault(w, WORLD_EXEC(w, 0x0f, 0xef, 0xc0), X86_MF, -1); /* pxor mm0, mm0 */
    assert_fault(w, WORLD_EXEC(w, 0xd9, 0x2f), X86_MF, -1);       /* fldcw */
    AT(w, 0x400000);
    assert_fault(w, WORLD_EXEC(w, 0xd8, 0x07), X86_MF, -1); /* fadd from no page: #MF first */
    AT(w, 0x8000);
    OK(w, 0xd9, 0x3f); /* fnstcw, fnstsw, fnstenv do not wait */
    OK(w, 0xdd, 0x7f, 0x02);
    assert_int_equal(world_get(w, 0x8000, 4), 0x80c1037e);
    OK(w, 0xd9, 0x77, 0x10);
    assert_int_equal(FPU(w)->fcw, 0x37f); /* fnstenv masks all, nothing is pending any more */
    assert_int_equal(FPU(w)->fsw, 0x0041);
    assert_int_equal(world_get(w, 0x8014, 2), 0x80c1);
    OK(w, 0xd9, 0xe8);
    /* fldenv brings it back. */
    OK(w, 0xd9, 0x67, 0x10);
    assert_int_equal(FPU(w)->fsw, 0x80c1);
    assert_fault(w, WORLD_EXEC(w, 0xd9, 0xe8), X86_MF, -1);
    OK(w, 0xdb, 0xe2);
    OK(w, 0xd9, 0xe8);
    world_free(w);
}

static void test_precision_stores(void **state)
{
    struct world *w = fpu_world(64);

    AT(w, 0x8000);
    OK(w, 0xd9, 0xeb);   /* fldpi */
    FPU(w)->fcw = 0x35f; /* precision unmasked: the store happens all the same */
    OK(w, 0xdd, 0x1f);   /* fstp qword [rdi] */
    assert_int_equal(world_get(w, 0x8000, 8), 0x400921fb54442d18ull);
    assert_int_equal(FPU(w)->ftw, 0);
    assert_fault(w, WORLD_EXEC(w, 0x9b), X86_MF, -1);
    world_free(w);
}

static void test_faults(void **state)
{
    struct world *w = fpu_world(64);
    struct x86_fpu before;

    OK(w, 0xd9, 0xe8);
    before = *FPU(w);
    AT(w, 0x40000000);                                                /* not mapped */
    assert_pf(w, WORLD_EXEC(w, 0xdd, 0x1f), 0x40000000, PF_U | PF_W); /* fstp */
    assert_pf(w, WORLD_EXEC(w, 0xdd, 0x07), 0x40000000, PF_U);        /* fld */
    assert_pf(w, WORLD_EXEC(w, 0xdd, 0x37), 0x40000000, PF_U | PF_W); /* fnsave */
    assert_pf(w, WORLD_EXEC(w, 0xd9, 0x37), 0x40000000, PF_U | PF_W); /* fnstenv */
    assert_memory_equal(&before, FPU(w), sizeof(before));
    /* #AC: an 80-bit operand wants 8, an environment 4 bytes. */
    w->cpu.s.cr0 |= CR0_AM;
    w->cpu.s.rflags |= RFLAGS_AC;
    x86_update_mode(&w->cpu);
    AT(w, 0x8008);
    OK(w, 0xdb, 0x3f); /* fstp tbyte [rdi] */
    AT(w, 0x8004);
    assert_fault(w, WORLD_EXEC(w, 0xdb, 0x2f), X86_AC, 0); /* fld tbyte [rdi] */
    OK(w, 0xd9, 0x37);
    AT(w, 0x8002);
    assert_fault(w, WORLD_EXEC(w, 0xd9, 0x37), X86_AC, 0);
    world_free(w);
}

/* CR0.NE clear: FERR# instead of #MF, and the instruction waits. */
static int ferr_line;

static void note_ferr(void *ctx, bool asserted)
{
    ferr_line = asserted;
}

static void test_ferr(void **state)
{
    struct world *w = fpu_world(32);
    struct x86_ops ops = world_ops;

    ops.ferr = note_ferr;
    w->cpu.ops = &ops;
    w->cpu.s.cr0 &= ~(u64)CR0_NE;
    ferr_line = 0;
    FPU(w)->fcw = 0x37b; /* division by zero */
    OK(w, 0xd9, 0xe8);
    OK(w, 0xd9, 0xee);
    OK(w, 0xd8, 0xf9); /* fdivr st0, st1: 1 / 0 */
    w->cpu.s.rip = 0x2000;
    assert_int_equal(WORLD_EXEC(w, 0x9b), X86_YIELD);
    assert_int_equal(w->cpu.s.rip, 0x2000);
    assert_int_equal(ferr_line, 1);
    OK(w, 0xdb, 0xe2); /* fnclex */
    assert_int_equal(ferr_line, 0);
    OK(w, 0x9b);
    world_free(w);
}

/* --- environments ----------------------------------------------------------------------------- */

static void sample(struct world *w)
{
    struct x86_fpu *f = FPU(w);

    OK(w, 0xd9, 0xe8); /* fld1 */
    OK(w, 0xd9, 0xee); /* fldz */
    f->fcw = 0x027f;
    f->fip = 0x00a1b2c3;
    f->fdp = 0x00d4e5f6;
    f->fcs = 0x10;
    f->fds = 0x20;
    f->fop = 0x5ab;
}

static void assert_words(struct world *w, u64 at, unsigned size, const u32 want[7])
{
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(world_get(w, at + i * size, size), want[i]);
}

static void test_env_protected(void **state)
{
    struct world *w = fpu_world(32);
    u32 fcs = x86_has(&w->cpu, X86_FEATURE_ZERO_FCS_FDS) ? 0 : 0x10;
    u32 fds = x86_has(&w->cpu, X86_FEATURE_ZERO_FCS_FDS) ? 0 : 0x20;

    sample(w);
    AT(w, 0x8000);
    OK(w, 0xd9, 0x37); /* fnstenv [edi] */
    assert_words(w, 0x8000, 4,
                 (const u32[]){0xffff027f, 0xffff3000, 0xffff1fff, 0x00a1b2c3, 0x05ab0000 | fcs,
                               0x00d4e5f6, 0xffff0000 | fds});
    FPU(w)->fcw = 0x027f;
    OK(w, 0x66, 0xd9, 0x77, 0x40); /* 16-bit */
    assert_words(w, 0x8040, 2, (const u32[]){0x027f, 0x3000, 0x1fff, 0xb2c3, fcs, 0xe5f6, fds});
    OK(w, 0xdd, 0xb7, 0x00, 0x01, 0x00, 0x00); /* fnsave [edi+100h] */
    assert_int_equal(FPU(w)->fcw, 0x37f);
    assert_int_equal(FPU(w)->ftw, 0);
    assert_int_equal(FPU(w)->fip, 0);
    assert_int_equal(world_get(w, 0x811c, 8), 0);          /* ST0 = 0 */
    assert_int_equal(world_get(w, 0x8126, 8), 1ull << 63); /* ST1 = 1 */
    assert_int_equal(world_get(w, 0x812e, 2), 0x3fff);
    OK(w, 0xdd, 0xa7, 0x00, 0x01, 0x00, 0x00); /* frstor */
    assert_int_equal(FPU(w)->fsw, 0x3000);
    assert_int_equal(FPU(w)->ftw, 0xc0);
    assert_int_equal(FPU(w)->fip, 0x00a1b2c3);
    assert_int_equal(FPU(w)->fop, 0x5ab);
    assert_st(w, 1, 1ull << 63, 0x3fff);
    world_free(w);
}

static void test_env_real(void **state)
{
    struct world *w = fpu_world(0);

    sample(w);
    FPU(w)->fip = 0xb2c3;
    FPU(w)->fdp = 0xe5f6;
    FPU(w)->fcs = 0x1000;
    FPU(w)->fds = 0x2000;
    AT(w, 0x8000);
    OK(w, 0xd9, 0x37); /* fnstenv [bx] */
    assert_words(w, 0x8000, 2,
                 (const u32[]){0x027f, 0x3000, 0x1fff, 0xb2c3, 0x15ab, 0xe5f6, 0x2000});
    FPU(w)->fcw = 0x027f;
    OK(w, 0x66, 0xd9, 0x77, 0x40);
    assert_words(
        w, 0x8040, 4,
        (const u32[]){0xffff027f, 0xffff3000, 0xffff1fff, 0xffffb2c3, 0x15ab, 0xffffe5f6, 0x2000});
    OK(w, 0xd9, 0x27); /* fldenv */
    assert_int_equal(FPU(w)->fip, 0x1b2c3);
    assert_int_equal(FPU(w)->fop, 0x5ab);
    assert_int_equal(FPU(w)->fcw, 0x27f);
    world_free(w);
}

static void test_tags(void **state)
{
    struct world *w = fpu_world(32);

    AT(w, 0x8000);
    OK(w, 0xd9, 0xe8);          /* valid */
    OK(w, 0xd9, 0xee);          /* zero */
    world_put(w, 0x8000, 8, 1); /* denormal once loaded as 80 bits */
    world_put(w, 0x8008, 2, 0);
    OK(w, 0xdb, 0x2f);
    world_put(w, 0x8008, 2, 0x7fff);
    world_put(w, 0x8000, 8, 1ull << 63); /* infinity */
    OK(w, 0xdb, 0x2f);
    OK(w, 0xd9, 0x37);
    assert_int_equal(world_get(w, 0x8008, 2), 0x1aff); /* 00 01 10 10 11 11 11 11 */
    assert_int_equal(FPU(w)->ftw, 0xf0);
    /* FLDENV with another TOP: physical registers stay where they are. */
    world_put(w, 0x8004, 2, 6 << 11);
    OK(w, 0xd9, 0x27);
    assert_int_equal(x87_top(FPU(w)), 6);
    assert_st(w, 1, 1ull << 63, 0x3fff);
    world_free(w);
}

static void test_control_word(void **state)
{
    struct world *w = fpu_world(32);

    AT(w, 0x8000);
    world_put(w, 0x8000, 2, 0xffff);
    OK(w, 0xd9, 0x2f);
    assert_int_equal(FPU(w)->fcw, 0x1f7f);
    world_put(w, 0x8000, 2, 0);
    OK(w, 0xd9, 0x2f);
    assert_int_equal(FPU(w)->fcw, 0x0040);
    /* A flag set while masked becomes pending when its mask goes. */
    OK(w, 0xdb, 0xe3);
    OK(w, 0xd9, 0xc0); /* fld st0: IE */
    world_put(w, 0x8000, 2, 0x37e);
    OK(w, 0xd9, 0x2f);
    assert_int_equal(FPU(w)->fsw & 0x80ff, 0x80c1);
    world_free(w);
}

static void test_pointers(void **state)
{
    struct world *w = fpu_world(64);

    w->cpu.s.rip = 0x1000;
    OK(w, 0xd9, 0xe8);
    assert_int_equal(FPU(w)->fip, 0x1000);
    AT(w, 0x8000);
    w->cpu.s.rip = 0x1010;
    OK(w, 0xd9, 0x3f); /* fnstcw: control */
    OK(w, 0xd9, 0x2f); /* fldcw */
    assert_int_equal(FPU(w)->fip, 0x1000);
    w->cpu.s.rip = 0x1020;
    OK(w, 0xd8, 0x07); /* fadd dword [rdi] */
    assert_int_equal(FPU(w)->fip, 0x1020);
    assert_int_equal(FPU(w)->fdp, x86_has(&w->cpu, X86_FEATURE_FDP_EXCPTN_ONLY) ? 0 : 0x8000);
    world_free(w);
}

/* --- MMX -------------------------------------------------------------------------------------- */

static void test_mmx(void **state)
{
    struct world *w = fpu_world(64);

    AT(w, 0x8000);
    world_put(w, 0x8000, 8, 0x0102030405060708ull);
    OK(w, 0xd9, 0xe8);       /* fld1: physical register 7, TOP 7 */
    OK(w, 0x0f, 0x6f, 0x0f); /* movq mm1, [rdi] */
    assert_int_equal(x87_top(FPU(w)), 0);
    assert_int_equal(FPU(w)->ftw, 0xff);
    assert_st(w, 1, 0x0102030405060708ull, 0xffff);
    assert_st(w, 7, 1ull << 63, 0x3fff); /* MM7 is what FLD1 wrote */
    OK(w, 0x0f, 0xfc, 0xc9);             /* paddb mm1, mm1 */
    OK(w, 0x0f, 0x7f, 0x4f, 0x08);       /* movq [rdi+8], mm1 */
    assert_int_equal(world_get(w, 0x8008, 8), 0x020406080a0c0e10ull);
    OK(w, 0x66, 0x0f, 0x6f, 0x07); /* movdqa xmm0, [rdi] */
    OK(w, 0xf3, 0x0f, 0xd6, 0xd1); /* movq2dq xmm2, mm1 */
    assert_memory_equal(FPU(w)->vec[2], "\x10\x0e\x0c\x0a\x08\x06\x04\x02\0\0\0\0\0\0\0\0", 16);
    OK(w, 0x0f, 0x77);
    assert_int_equal(FPU(w)->ftw, 0);
    /* A conversion from memory touches no MMX register and leaves the x87 state alone. */
    OK(w, 0xd9, 0xe8);
    OK(w, 0x0f, 0x2a, 0x07); /* cvtpi2ps xmm0, [rdi] */
    assert_int_equal(x87_top(FPU(w)), 7);
    OK(w, 0x0f, 0x2a, 0xc1); /* cvtpi2ps xmm0, mm1 */
    assert_int_equal(x87_top(FPU(w)), 0);
    /* A store that faults changes nothing. */
    OK(w, 0x0f, 0x77);
    OK(w, 0xd9, 0xe8);
    AT(w, 0x40000000);
    assert_pf(w, WORLD_EXEC(w, 0x0f, 0x7f, 0x0f), 0x40000000, PF_U | PF_W);
    assert_int_equal(x87_top(FPU(w)), 7);
    assert_int_equal(FPU(w)->ftw, 0x80);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic),    cmocka_unit_test(test_flags),
        cmocka_unit_test(test_availability),  cmocka_unit_test(test_masked),
        cmocka_unit_test(test_unmasked),      cmocka_unit_test(test_precision_stores),
        cmocka_unit_test(test_faults),        cmocka_unit_test(test_ferr),
        cmocka_unit_test(test_env_protected), cmocka_unit_test(test_env_real),
        cmocka_unit_test(test_tags),          cmocka_unit_test(test_control_word),
        cmocka_unit_test(test_pointers),      cmocka_unit_test(test_mmx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
