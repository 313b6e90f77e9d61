/* test_options.c - the command line */
#include "unit.h"

#include "cli/options.h"
#include "cli/share.h"
#include "cli/tuning.h"

static struct options o;
static struct err e;

#define PARSE(...)                                        \
    ({                                                    \
        static char words[][40] = {__VA_ARGS__};          \
        char *argv[ARRAY_SIZE(words) + 1] = {0};          \
        for (size_t i_ = 0; i_ < ARRAY_SIZE(words); i_++) \
            argv[i_] = words[i_];                         \
        parse(ARRAY_SIZE(words), argv);                   \
    })

static char *kept[16];

static int parse(size_t argc, char **argv)
{
    memcpy(kept, argv, (argc + 1) * sizeof(*argv));
    memset(&e, 0, sizeof(e));
    return options_parse(&o, V_RUN, (int)argc, kept, &e);
}

static void forms(void **state)
{
    assert_ok(PARSE("run", "-e", "interp", "-m512", "--kernel=vmlinuz", "--initrd", "img", "-q"),
              e);
    assert_string_equal(o.engine, "interp");
    assert_int_equal(o.memory, 512 * MiB);
    assert_string_equal(o.kernel, "vmlinuz");
    assert_string_equal(o.initrd, "img");
    assert_true(o.quiet);
    assert_null(o.command);
    assert_int_equal(o.rest_count, 0);

    assert_ok(PARSE("run", "-qm", "4G", "--json"), e);
    assert_true(o.quiet && o.json);
    assert_int_equal(o.memory, 4 * GiB);

    assert_ok(PARSE("run", "-a", "--not-an-option", "--append="), e);
    assert_string_equal(o.append, "");
}

static void command(void **state)
{
    assert_ok(PARSE("run", "-q", "--", "sh", "-c", "exit 7", "--", "-m"), e);
    assert_string_equal(o.command[0], "sh");
    assert_string_equal(o.command[3], "--");
    assert_string_equal(o.command[4], "-m");
    assert_null(o.command[5]);

    assert_ok(PARSE("run", "--"), e);
    assert_non_null(o.command);
    assert_null(o.command[0]);

    assert_ok(PARSE("run", "stray", "-q", "other"), e);
    assert_int_equal(o.rest_count, 2);
    assert_string_equal(o.rest[0], "stray");
    assert_string_equal(o.rest[1], "other");
}

static void lists(void **state)
{
    assert_ok(PARSE("run", "--debugcon", "0xe9=a", "--debugcon=0x402=b", "-EA=1", "-E", "B=2"), e);
    assert_int_equal(o.debugcon.count, 2);
    assert_string_equal(o.debugcon.item[1], "0x402=b");
    assert_int_equal(o.env.count, 2);
    assert_string_equal(o.env.item[0], "A=1");
    assert_null(o.env.item[2]);
}

static void refusals(void **state)
{
    assert_refused(PARSE("run", "--nonsense"), EINVAL, e, "unknown option '--nonsense'");
    assert_refused(PARSE("run", "--nonsense=3"), EINVAL, e, "unknown option '--nonsense'");
    assert_refused(PARSE("run", "-Z"), EINVAL, e, "unknown option '-Z'");
    assert_refused(PARSE("run", "-qZ"), EINVAL, e, "unknown option '-Z'");
    assert_refused(PARSE("run", "-m"), EINVAL, e, "-m needs a value");
    assert_refused(PARSE("run", "--memory"), EINVAL, e, "--memory needs a value");
    assert_refused(PARSE("run", "--quiet=1"), EINVAL, e, "--quiet takes no value");
    assert_refused(PARSE("run", "-m", "lots"), EINVAL, e, "--memory: bad value 'lots'");
    assert_refused(PARSE("run", "--timeout", "-1"), EINVAL, e, "--timeout: bad value");
    assert_refused(PARSE("run", "--kern", "x"), EINVAL, e, "unknown option '--kern'");
}

static void counts(void **state)
{
    assert_ok(PARSE("run", "--lockstep", "-q"), e);
    assert_true(o.lockstep == 1 && o.quiet);
    assert_ok(PARSE("run", "--lockstep=50"), e);
    assert_int_equal(o.lockstep, 50);
    assert_refused(PARSE("run", "--lockstep=0"), EINVAL, e, "--lockstep: bad value '0'");
    assert_refused(PARSE("run", "--lockstep="), EINVAL, e, "--lockstep: bad value");
}

static void sizes(void **state)
{
    static const struct {
        const char *text;
        u64 value; /* 0: refused */
    } rows[] = {
        {"1", MiB},
        {"512M", 512 * MiB},
        {"512MiB", 512 * MiB},
        {"64k", 64 * KiB},
        {"3G", 3 * GiB},
        {"2t", 2048 * GiB},
        {"", 0},
        {"G", 0},
        {"-1", 0},
        {"1.5G", 0},
        {"1GB", 0},
        {"1GG", 0},
        {"17592186044415", 17592186044415 * MiB},
        {"17592186044416", 0},
        {" 1", 0},
        {"99999999999999999999", 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        u64 value = 0;
        bool ok = parse_size(rows[i].text, &value);

        if (ok != (rows[i].value != 0) || (ok && value != rows[i].value))
            fail_msg("%s: %d %llu", rows[i].text, ok, (unsigned long long)value);
    }
}

static void numbers(void **state)
{
    u64 v;

    assert_true(parse_number("0xf4", &v) && v == 0xf4);
    assert_true(parse_number("010", &v) && v == 10);
    assert_false(parse_number("0x", &v));
    assert_false(parse_number("4x", &v));
    assert_false(parse_number("", &v));
    assert_true(parse_seconds("2", &v) && v == 2000);
    assert_true(parse_seconds("0.05", &v) && v == 50);
    assert_true(parse_seconds("1.2345s", &v) && v == 1234);
    assert_false(parse_seconds("1m", &v));
    assert_false(parse_seconds(".5", &v));
}

static void tuning(void **state)
{
    struct bt_config bt;

    assert_ok(tuning_parse("cache=512K", &bt, &e), e);
    assert_int_equal(bt.code_cache, 512 * KiB);
    assert_true(!bt.block_insns && !bt.no_chaining && !bt.no_hits);
    assert_ok(tuning_parse("block=1,chain=off,miss=on,cache=2M", &bt, &e), e);
    assert_true(bt.block_insns == 1 && bt.no_chaining && bt.no_hits && bt.code_cache == 2 * MiB);
    assert_ok(tuning_parse("chain=on,miss=off", &bt, &e), e);
    assert_true(!bt.no_chaining && !bt.no_hits && !bt.perfmap);
    assert_ok(tuning_parse("perfmap=on", &bt, &e), e);
    assert_true(bt.perfmap && !bt.no_hits);

    assert_refused(tuning_parse("", &bt, &e), EINVAL, e, "not KEY=VALUE");
    assert_refused(tuning_parse("chain", &bt, &e), EINVAL, e, "not KEY=VALUE");
    assert_refused(tuning_parse("chain=off,", &bt, &e), EINVAL, e, "not KEY=VALUE");
    assert_refused(tuning_parse("speed=9", &bt, &e), EINVAL, e, "unknown key 'speed'");
    assert_refused(tuning_parse("chain=maybe", &bt, &e), EINVAL, e, "on or off");
    assert_refused(tuning_parse("block=0", &bt, &e), EINVAL, e, "1 to 40");
    assert_refused(tuning_parse("block=41", &bt, &e), EINVAL, e, "1 to 40");
    assert_refused(tuning_parse("cache=511K", &bt, &e), EINVAL, e, "512K");
}

/* Letters and names are unique within a verb; lists of help and manual rely on the texts. */
static void table(void **state)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *a = &option_rows[i];

        assert_true(a->verbs && *a->name && *a->summary);
        assert_true((a->kind == OPT_FLAG) == (*a->argument == '\0'));
        for (size_t j = 0; j < i; j++) {
            const struct option_row *b = &option_rows[j];

            if (!(a->verbs & b->verbs))
                continue;
            assert_string_not_equal(a->name, b->name);
            assert_true(!a->letter || a->letter != b->letter);
        }
    }
}

static int volumes(struct shares *s, const char *one, const char *two)
{
    struct string_list list = {.item = {one, two}, .count = two ? 2 : 1};
    int rc;

    memset(&e, 0, sizeof(e));
    rc = shares_parse(s, &list, &e);
    if (rc)
        shares_free(s);
    return rc;
}

static void folders(void **state)
{
    struct shares s;
    char line[128] = "quiet";

    assert_ok(volumes(&s, ".:/mnt", "/a:b:/c/d:ro"), e);
    assert_int_equal(s.count, 2);
    assert_string_equal(s.machine[0].dir, ".");
    assert_false(s.machine[0].read_only);
    assert_string_equal(s.machine[1].dir, "/a:b"); /* HOST may hold colons */
    assert_string_equal(s.item[1].guest, "/c/d");
    assert_true(s.machine[1].read_only);
    assert_true(shares_append(&s, line, sizeof(line)));
    assert_string_equal(line, "quiet ring3.share=r3share0:/mnt ring3.share=r3share1:/c/d:ro");
    assert_false(shares_append(&s, line, 64));
    shares_free(&s);
    assert_ok(volumes(&s, "x:/y:rw", NULL), e);
    assert_string_equal(s.item[0].guest, "/y");
    shares_free(&s);
    assert_refused(volumes(&s, "/mnt", NULL), EINVAL, e, "HOST:GUEST");
    assert_refused(volumes(&s, ":/mnt", NULL), EINVAL, e, "HOST:GUEST");
    assert_refused(volumes(&s, "a:", NULL), EINVAL, e, "HOST:GUEST");
    assert_refused(volumes(&s, "a:b", NULL), EINVAL, e, "absolute");
    assert_refused(volumes(&s, "a://", NULL), EINVAL, e, "absolute");
    assert_refused(volumes(&s, "a:/b c", NULL), EINVAL, e, "blanks");
    assert_refused(volumes(&s, "a:/b\"c", NULL), EINVAL, e, "quotes");
    assert_refused(volumes(&s, "ok:/ok", ":ro"), EINVAL, e, "HOST:GUEST");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),    cmocka_unit_test(command), cmocka_unit_test(lists),
        cmocka_unit_test(refusals), cmocka_unit_test(sizes),   cmocka_unit_test(counts),
        cmocka_unit_test(numbers),  cmocka_unit_test(tuning),  cmocka_unit_test(folders),
        cmocka_unit_test(table),
    };

    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
