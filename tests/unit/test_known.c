/* test_known.c - decoding with a memory gives what decoding without gives */
#include "x86/known.h"
#include "x86_world.h"

#define HEADS  40000
#define TAILS  6
#define MODES  3
#define NBYTES 16

static u64 seed = 0x2545f4914f6cdd1dull;

static u32 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (u32)(seed >> 16);
}

static void choose_mode(struct world *w, unsigned mode)
{
    if (mode == 0)
        world_long(w, 0, 64, 0);
    else
        world_protected(w, mode == 1 ? 32 : 16, 0);
}

/* Often a REX or another prefix, often one of the first two maps, often a SIB byte. */
static void random_head(u8 *b)
{
    static const u8 prefix[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x65, 0x64};
    unsigned i = 0;

    for (unsigned k = 0; k < NBYTES; k++)
        b[k] = (u8)rnd();
    if (rnd() % 4 == 0)
        b[i++] = prefix[rnd() % ARRAY_SIZE(prefix)];
    if (rnd() % 2)
        b[i++] = 0x40 | (rnd() & 15);
    if (rnd() % 3 == 0)
        b[i++] = 0x0f;
    if (rnd() % 4 == 0)
        b[i + 2] = 0x24;
}

static void same_as_without(void **state)
{
    struct world *w = world_new(1, "ring3-v3");
    struct x86_known *known = calloc(1, x86_known_bytes());
    unsigned decoded = 0;

    assert_non_null(known);
    for (unsigned n = 0; n < HEADS; n++) {
        unsigned mode = rnd() % MODES;
        u8 b[NBYTES];
        choose_mode(w, mode);
        random_head(b);
        for (unsigned t = 0; t < TAILS; t++) {
            struct x86_insn want, got;
            int rc = x86_decode(&w->cpu, b, X86_INSN_MAX, &want);
            assert_int_equal(x86_decode_known(&w->cpu, known, 1 + mode, b, &got), rc);
            if (rc == X86_OK && memcmp(&want, &got, sizeof(want)))
                fail_msg("mode %u: %02x %02x %02x %02x %02x %02x: len %u %u imm %llx %llx", mode,
                         b[0], b[1], b[2], b[3], b[4], b[5], want.len, got.len,
                         (unsigned long long)want.imm, (unsigned long long)got.imm);
            decoded += rc == X86_OK;
            /* Another tail: from some byte on, perhaps with many high or low bits. */
            for (unsigned k = 1 + rnd() % 7; k < NBYTES; k++)
                b[k] = (u8)(rnd() % 3 ? rnd() : rnd() % 2 ? 0xff : 0);
        }
    }
    assert_true(decoded > HEADS);
    free(known);
    world_free(w);
}

/* ADD r/m32, imm8 is widened by its sign, INT imm8 is not; which one cannot be seen of 7f. */
static void widening(void **state)
{
    static const u8 low[] = {0x83, 0xc0, 0x7f}, high[] = {0x83, 0xc0, 0x80};
    static const u8 int_low[] = {0xcd, 0x7f}, int_high[] = {0xcd, 0x80};
    struct world *w = world_new(1, "ring3-v2");
    struct x86_known *known = calloc(1, x86_known_bytes());
    struct x86_insn in;
    u8 b[NBYTES] = {0};

    assert_non_null(known);
    world_long(w, 0, 64, 0);
#define IMM(bytes)                    \
    (memcpy(b, bytes, sizeof(bytes)), \
     x86_decode_known(&w->cpu, known, 1, b, &in) == X86_OK ? in.imm : 0xdead)
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(IMM(low), 0x7f);
        assert_true(IMM(high) == (u64)-0x80);
        assert_int_equal(IMM(int_low), 0x7f);
        assert_int_equal(IMM(int_high), 0x80);
    }
#undef IMM
    free(known);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_without),
        cmocka_unit_test(widening),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
