/* test_snap.c - state records: round trips, and streams that must be refused whole */
#include "unit.h"

#include "snap/snap.h"

struct chip {
    u8 mode;
    bool on;
    u16 count[3];
    u32 addr;
    u64 when;
    int host_only; /* never saved */
    unsigned loads, saves;
};

static int check_chip(const void *scratch, struct err *e)
{
    const struct chip *c = scratch;

    assert_int_equal(c->host_only, 0);
    if (c->mode > 5)
        return err_set(e, EINVAL, "mode %u does not exist", c->mode);
    if (c->count[2] == 0xdead)
        return -ERANGE; /* a check without a message of its own */
    return 0;
}

static void chip_loaded(void *obj)
{
    ((struct chip *)obj)->loads++;
}

static void chip_saving(void *obj)
{
    ((struct chip *)obj)->saves++;
}

static const struct snap_field chip_fields[] = {
    SNAP_U8(struct chip, mode),  SNAP_BOOL(struct chip, on),  SNAP_U16(struct chip, count),
    SNAP_U32(struct chip, addr), SNAP_U64(struct chip, when), SNAP_END,
};
static const struct snap_desc chip_desc = {
    .name = "chip", .version = 3, .size = sizeof(struct chip), .fields = chip_fields,
    .check = check_chip, .loaded = chip_loaded, .saving = chip_saving,
};

static const struct chip sample[2] = {
    {.mode = 2, .on = true, .count = {1, 0x203, 0xffff}, .addr = 0xfee00000, .when = 1ull << 60},
    {.mode = 5, .count = {9, 8, 7}, .addr = 1, .when = 2, .host_only = 99},
};

struct fixture {
    struct chip chip[2];
    struct snap_item item[2];
    struct snap_buf buf;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    memcpy(f->chip, sample, sizeof(sample));
    f->item[0] = (struct snap_item){&chip_desc, 0, &f->chip[0]};
    f->item[1] = (struct snap_item){&chip_desc, 1, &f->chip[1]};
    assert_ok(snap_save(&f->buf, f->item, 2, &f->e), f->e);
    memset(f->chip, 0x77, sizeof(f->chip));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    snap_buf_free(&f->buf);
    free(f);
    return 0;
}

static void assert_untouched(const struct fixture *f)
{
    for (size_t i = 0; i < sizeof(f->chip); i++)
        assert_int_equal(((const u8 *)f->chip)[i], 0x77);
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct snap_buf again = {0};

    memset(f->chip, 0, sizeof(f->chip));
    f->chip[1].host_only = 5;
    assert_ok(snap_check(f->buf.data, f->buf.len, f->item, 2, &f->e), f->e);
    assert_int_equal(f->chip[0].mode, 0);
    assert_ok(snap_load(f->buf.data, f->buf.len, f->item, 2, &f->e), f->e);
    assert_int_equal(f->chip[0].count[2], 0xffff);
    assert_true(f->chip[0].on);
    assert_int_equal(f->chip[0].when, 1ull << 60);
    assert_int_equal(f->chip[1].mode, 5);
    assert_int_equal(f->chip[1].host_only, 5);
    assert_int_equal(f->chip[0].loads, 1);
    assert_ok(snap_save(&again, f->item, 2, &f->e), f->e);
    assert_int_equal(f->chip[0].saves, 1);
    assert_int_equal(again.len, f->buf.len);
    assert_memory_equal(again.data, f->buf.data, again.len);
    snap_buf_free(&again);
}

static void test_wire_format(void **state)
{
    static const u8 begin[] = {'R', '3', 'S', 'N', 'A', 'P', 0, 1, 2, 0, 0, 0, 4,
                               'c', 'h', 'i', 'p', 0,   0,   0, 0, 3, 0, 0, 0};
    static const u8 count_field[] = {SNAP_T_U16, 3, 0, 0, 0, 1, 0, 3, 2, 0xff, 0xff};
    struct fixture *f = *state;

    assert_memory_equal(f->buf.data, begin, sizeof(begin));
    assert_memory_equal(f->buf.data + sizeof(begin) + 4 + 6 + 6, count_field, sizeof(count_field));
}

static void test_items_in_another_order(void **state)
{
    struct fixture *f = *state;
    struct snap_item swapped[2] = {f->item[1], f->item[0]};

    assert_ok(snap_load(f->buf.data, f->buf.len, swapped, 2, &f->e), f->e);
    assert_int_equal(f->chip[0].mode, 2);
    assert_int_equal(f->chip[1].mode, 5);
}

static void test_truncated(void **state)
{
    struct fixture *f = *state;

    for (size_t len = 0; len < f->buf.len; len++) {
        u8 *exact = malloc(len + 1); /* so that a sanitizer sees reads past the end */
        memcpy(exact, f->buf.data, len);
        assert_refused(snap_load(exact, len, f->item, 2, &f->e), EINVAL, f->e, "snapshot");
        free(exact);
        assert_untouched(f);
    }
}

static void test_mutated(void **state)
{
    struct fixture *f = *state;

    for (size_t at = 0; at < f->buf.len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            f->buf.data[at] ^= (u8)(1u << bit);
            memset(&f->e, 0, sizeof(f->e));
            assert_true(snap_load(f->buf.data, f->buf.len, f->item, 2, &f->e) < 0);
            assert_true(f->e.code > 0 && f->e.msg[0]);
            assert_untouched(f);
            f->buf.data[at] ^= (u8)(1u << bit);
        }
    }
}

static void test_trailing_bytes(void **state)
{
    struct fixture *f = *state;
    u8 *longer = calloc(1, f->buf.len + 1);

    memcpy(longer, f->buf.data, f->buf.len);
    assert_refused(snap_load(longer, f->buf.len + 1, f->item, 2, &f->e), EINVAL, f->e,
                   "after the last");
    assert_untouched(f);
    free(longer);
}

static void test_set_of_records(void **state)
{
    struct fixture *f = *state;
    struct snap_item more[3] = {f->item[0], f->item[1], {&chip_desc, 2, &f->chip[0]}};

    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 1, &f->e), ENOENT, f->e, "chip.1");
    assert_refused(snap_load(f->buf.data, f->buf.len, more, 3, &f->e), ENOENT, f->e, "chip.2");
    assert_untouched(f);
}

static void test_record_twice(void **state)
{
    struct fixture *f = *state;
    size_t record = (f->buf.len - 12) / 2;

    memcpy(f->buf.data + 12 + record, f->buf.data + 12, record);
    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 2, &f->e), EINVAL, f->e, "twice");
    assert_untouched(f);
}

/* Saves with `desc`, loads with chip_desc. */
static void save_as(struct fixture *f, const struct snap_desc *desc, struct chip *c)
{
    struct snap_item it = {desc, 0, c};

    snap_buf_free(&f->buf);
    assert_ok(snap_save(&f->buf, &it, 1, &f->e), f->e);
}

static void test_versions_and_shapes(void **state)
{
    static const struct snap_field fewer[] = {SNAP_U8(struct chip, mode), SNAP_END};
    static const struct snap_field other[] = {
        SNAP_U8(struct chip, mode),      SNAP_BOOL(struct chip, on),
        SNAP_U16(struct chip, count[0]), SNAP_U32(struct chip, addr),
        SNAP_U64(struct chip, when),     SNAP_END,
    };
    static const struct snap_field more[] = {
        SNAP_U8(struct chip, mode),  SNAP_BOOL(struct chip, on),  SNAP_U16(struct chip, count),
        SNAP_U32(struct chip, addr), SNAP_U64(struct chip, when), SNAP_U32(struct chip, loads),
        SNAP_END,
    };
    struct fixture *f = *state;
    struct snap_desc d = chip_desc;
    struct chip c = sample[0];

    d.version = 4;
    save_as(f, &d, &c);
    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 1, &f->e), EINVAL, f->e,
                   "version 4");
    d.version = 3;
    d.fields = fewer;
    save_as(f, &d, &c);
    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 1, &f->e), EINVAL, f->e,
                   "field on");
    d.fields = other;
    save_as(f, &d, &c);
    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 1, &f->e), EINVAL, f->e,
                   "field count");
    d.fields = more;
    save_as(f, &d, &c);
    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 1, &f->e), EINVAL, f->e,
                   "after the last field");
    assert_untouched(f);
}

static void test_check_refuses(void **state)
{
    struct fixture *f = *state;
    struct chip c = sample[0];

    c.mode = 6;
    save_as(f, &chip_desc, &c);
    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 1, &f->e), EINVAL, f->e,
                   "chip.0: mode 6");
    c.mode = 1;
    c.count[2] = 0xdead;
    save_as(f, &chip_desc, &c);
    assert_refused(snap_load(f->buf.data, f->buf.len, f->item, 1, &f->e), ERANGE, f->e,
                   "impossible state");
    assert_untouched(f);
}

static void test_bool_is_strict(void **state)
{
    static const struct snap_field lie[] = {SNAP_FIELD_(struct chip, mode, SNAP_T_U8, 1),
                                            SNAP_FIELD_(struct chip, on, SNAP_T_BOOL, 1),
                                            SNAP_END};
    static const struct snap_field forged[] = {
        {"mode", offsetof(struct chip, mode), SNAP_T_U8, 1},
        {"on", offsetof(struct chip, mode), SNAP_T_BOOL, 1}, SNAP_END};
    struct snap_desc honest = chip_desc, forger = chip_desc;
    struct fixture *f = *state;
    struct chip c = {.mode = 2};
    struct snap_item it = {&honest, 0, &f->chip[0]};

    honest.fields = lie;
    forger.fields = forged;
    save_as(f, &forger, &c);
    assert_refused(snap_load(f->buf.data, f->buf.len, &it, 1, &f->e), EINVAL, f->e, "field on");
}

static void save_duplicates(void *arg)
{
    struct fixture *f = arg;
    struct snap_item twice[2] = {f->item[0], f->item[0]};

    (void)!snap_save(&f->buf, twice, 2, NULL);
}

static void test_our_own_bugs_are_caught(void **state)
{
    assert_true(dies(save_duplicates, *state));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_round_trip), T(test_wire_format), T(test_items_in_another_order), T(test_truncated),
        T(test_mutated), T(test_trailing_bytes), T(test_set_of_records), T(test_record_twice),
        T(test_versions_and_shapes), T(test_check_refuses), T(test_bool_is_strict),
        T(test_our_own_bugs_are_caught),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
