/* test_state.c - reset values, the plausibility check and the snapshot record of a processor */
#include "snap/snap.h"
#include "x86_world.h"

static void power_up(void **state)
{
    struct x86_state s;

    memset(&s, 0xa5, sizeof(s));
    x86_state_reset(&s, false);
    assert_int_equal(s.rip, 0xfff0);
    assert_int_equal(s.rflags, 2);
    assert_int_equal(s.cr0, 0x60000010);
    assert_int_equal(s.seg[X86_CS].sel, 0xf000);
    assert_int_equal(s.seg[X86_CS].base, 0xffff0000);
    assert_int_equal(s.seg[X86_CS].limit, 0xffff);
    assert_int_equal(s.idtr.limit, 0xffff);
    assert_int_equal(s.dr6, 0xffff0ff0);
    assert_int_equal(s.dr7, 0x400);
    assert_int_equal(s.fpu.fcw, 0x40);
    assert_int_equal(s.fpu.mxcsr, 0x1f80);
    assert_int_equal(s.zero, 0);
    assert_int_equal(x86_state_check(&s, NULL), 0);
}

static void init_keeps_caches_fpu_and_msrs(void **state)
{
    struct x86_state s;

    x86_state_reset(&s, false);
    s.cr0 = CR0_PE | CR0_ET | CR0_PG;
    s.cr4 = CR4_PAE;
    s.fpu.fcw = 0x37f;
    s.lstar = 0x1234;
    s.tsc_offset = 77;
    s.gpr[X86_RAX] = 1;
    x86_state_reset(&s, true);
    assert_int_equal(s.cr0, CR0_ET);
    assert_int_equal(s.cr4, 0);
    assert_int_equal(s.gpr[X86_RAX], 0);
    assert_int_equal(s.fpu.fcw, 0x37f);
    assert_int_equal(s.lstar, 0x1234);
    assert_int_equal(s.tsc_offset, 77);
}

static void check_names_the_field(void **state)
{
    struct x86_state s;
    struct err e;

#define REFUSED(change, part)                                                                      \
    x86_state_reset(&s, false);                                                                    \
    change;                                                                                        \
    assert_refused(x86_state_check(&s, &e), EINVAL, e, part)

    REFUSED(s.rflags = 0, "rflags");
    REFUSED(s.rflags |= BIT(15), "rflags");
    REFUSED(s.cr0 |= CR0_PG, "cr0");
    REFUSED(s.cr0 |= BIT64(32), "cr0");
    REFUSED(s.cr4 = CR4_LA57, "cr4");
    REFUSED(s.efer = EFER_LMA, "efer");
    REFUSED(s.cpl = 1, "cpl");
    REFUSED((s.cr0 |= CR0_PE, s.rflags |= RFLAGS_VM), "cpl");
    REFUSED(s.seg[X86_DS].base = 1ull << 47, "seg[3].base");
    REFUSED(s.seg[X86_DS].attr = 0x100, "attributes");
    REFUSED(s.lstar = 1ull << 63, "lstar");
    REFUSED(s.pat = 2, "pat");
    REFUSED(s.xcr0 = XCR0_X87 | XCR0_AVX, "xcr0");
    REFUSED(s.fpu.mxcsr = BIT(16), "mxcsr");
    REFUSED(s.activity = 4, "activity");
    REFUSED(s.shadow = 8, "shadow");
    REFUSED(s.dr7 |= BIT64(32), "dr7");
#undef REFUSED
}

/* Every byte of the state that is not padding, the zero register or 52-bit reserved survives a
 * round trip. */
static void snapshot_round_trip(void **state)
{
    struct x86_state a, b;
    struct snap_item item = {.desc = &x86_state_snap, .obj = &a};
    struct snap_buf first = {0}, second = {0};
    struct err e = {0};

    x86_state_reset(&a, false);
    for (unsigned i = 0; i < 16; i++)
        a.gpr[i] = 0x1111111111111111ull * i;
    memset(a.fpu.vec, 0x5a, sizeof(a.fpu.vec));
    a.star = 42;
    a.seg[X86_GS].base = 0xffff800000000000;
    a.mc_misc[3] = 9;
    a.tr.sel = 0x40;
    b = a;
    assert_ok(snap_save(&first, &item, 1, &e), e);
    memset(&a, 0, sizeof(a));
    assert_ok(snap_load(first.data, first.len, &item, 1, &e), e);
    assert_memory_equal(&a.fpu.vec, &b.fpu.vec, sizeof(a.fpu.vec));
    assert_memory_equal(a.gpr, b.gpr, sizeof(a.gpr));
    assert_true(a.seg[X86_GS].base == b.seg[X86_GS].base);
    assert_int_equal(a.tr.sel, 0x40);
    assert_ok(snap_save(&second, &item, 1, &e), e);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    snap_buf_free(&first);
    snap_buf_free(&second);
}

/* All bytes of the struct are in the record, but for `zero` and padding. */
static void snapshot_lists_every_field(void **state)
{
    static const u8 width[] = {[SNAP_T_U8] = 1, [SNAP_T_U16] = 2, [SNAP_T_U32] = 4,
                               [SNAP_T_U64] = 8, [SNAP_T_BOOL] = 1};
    u8 seen[sizeof(struct x86_state)] = {0};
    unsigned missing = 0, run = 0;

    for (const struct snap_field *f = x86_state_snap.fields; f->name; f++) {
        assert_true(strlen(f->name) < SNAP_NAME_MAX);
        for (u32 i = 0; i < f->count * width[f->type]; i++)
            assert_int_equal(seen[f->offset + i]++, 0);
    }
    for (unsigned i = 0; i < sizeof(seen); i++) {
        run = seen[i] ? 0 : run + 1;
        missing += !seen[i];
        bool zero_register = i >= offsetof(struct x86_state, zero) &&
                             i < offsetof(struct x86_state, zero) + 8;
        bool before_fpu = i < offsetof(struct x86_state, fpu) &&
                          i >= offsetof(struct x86_state, fpu) - 64;
        bool tail = i >= sizeof(seen) - 64;
        if (run >= 7 && !zero_register && !before_fpu && !tail)
            fail_msg("bytes up to %u of struct x86_state are in no field", i);
    }
    assert_true(missing < 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_up),
        cmocka_unit_test(init_keeps_caches_fpu_and_msrs),
        cmocka_unit_test(check_names_the_field),
        cmocka_unit_test(snapshot_round_trip),
        cmocka_unit_test(snapshot_lists_every_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
