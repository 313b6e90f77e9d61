/* test_bus.c - the bus: who is found, size rules, splitting, straddling, changes while in use */
#include <pthread.h>
#include <stdio.h>

#include "unit.h"

#include "mem/bus.h"

/* A chip that writes down what reaches it; a read gives bytes that name their own offset. */
struct chip {
    char log[512];
    struct lock lock;
    bool want_lock;
};

static u64 chip_read(void *dev, u64 off, unsigned size)
{
    struct chip *c = dev;
    u64 val = 0;

    assert_true(!c->want_lock || lock_held(&c->lock));
    snprintf(c->log + strlen(c->log), 32, "r%u@%x ", size, (unsigned)off);
    for (unsigned i = 0; i < size; i++)
        val |= (0xa0 + off + i) << (i * 8);
    return val;
}

static void chip_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct chip *c = dev;

    assert_true(!c->want_lock || lock_held(&c->lock));
    snprintf(c->log + strlen(c->log), 48, "w%u@%x=%llx ", size, (unsigned)off,
             (unsigned long long)val);
}

static const struct region_ops any = {chip_read, chip_write, .impl_max = 8, .unaligned = true};
static const struct region_ops isa = {chip_read, chip_write, .impl_max = 1};
static const struct region_ops dword = {chip_read, chip_write, .impl_min = 4, .impl_max = 4};
static const struct region_ops picky = {chip_read, chip_write, .guest_min = 4, .guest_max = 4,
                                        .impl_min = 4, .impl_max = 4};
static const struct region_ops plain = {.read = chip_read, .write = chip_write};
static const struct region_ops deaf = {.impl_max = 8};

struct fixture {
    struct bus *pio, *mmio;
    struct chip chip;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_ok(bus_create(&f->pio, "PIO", 0x10000, &f->e), f->e);
    assert_ok(bus_create(&f->mmio, "MMIO", BIT64(46), &f->e), f->e);
    lock_init(&f->chip.lock);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    bus_destroy(f->pio);
    bus_destroy(f->mmio);
    lock_destroy(&f->chip.lock);
    free(f);
    return 0;
}

static struct region at(struct fixture *f, u64 base, u64 size, const struct region_ops *ops,
                        const char *name)
{
    return (struct region){base, size, ops, &f->chip, NULL, name};
}

static void add(struct fixture *f, struct bus *b, u64 base, u64 size, const struct region_ops *ops)
{
    struct region r = at(f, base, size, ops, "chip");

    assert_ok(bus_add(b, &r, &f->e), f->e);
}

static void expect(struct fixture *f, const char *log)
{
    assert_string_equal(f->chip.log, log);
    f->chip.log[0] = '\0';
}

static void test_unclaimed(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 2; i++) {
        struct bus *b = i ? f->pio : f->mmio;
        assert_int_equal(bus_read(b, 0x80, 1), 0xff);
        assert_int_equal(bus_read(b, 0x80, 4), 0xffffffffu);
        assert_true(bus_read(b, 0x80, 8) == UINT64_MAX);
        bus_write(b, 0x80, 4, 1);
        assert_null(bus_find(b, 0x80));
        assert_true(bus_read(b, UINT64_MAX, 8) == UINT64_MAX);
        bus_write(b, UINT64_MAX, 8, 0);
    }
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    struct region r = at(f, 0x3f8, 8, &isa, "uart0");

    assert_ok(bus_add(f->pio, &r, &f->e), f->e);
    r = at(f, 0x100, 0, &isa, "empty");
    assert_refused(bus_add(f->pio, &r, &f->e), EINVAL, f->e, "empty");
    r = at(f, 0xffff, 2, &isa, "past");
    assert_refused(bus_add(f->pio, &r, &f->e), EINVAL, f->e, "past");
    r = at(f, UINT64_MAX, 2, &isa, "wraps");
    assert_refused(bus_add(f->mmio, &r, &f->e), EINVAL, f->e, "wraps");
    r = at(f, 0x3f0, 9, &isa, "floppy");
    assert_refused(bus_add(f->pio, &r, &f->e), EEXIST, f->e, "floppy 0x3f0-0x3f8 overlaps uart0");
    r = at(f, 0x3ff, 1, &isa, "tail");
    assert_refused(bus_add(f->pio, &r, &f->e), EEXIST, f->e, "uart0 0x3f8-0x3ff");
    r = at(f, 0, 0x10000, &isa, "all");
    assert_refused(bus_add(f->pio, &r, &f->e), EEXIST, f->e, "uart0");
    add(f, f->pio, 0x3f0, 8, &isa);
    add(f, f->pio, 0x400, 8, &isa);
    assert_int_equal(bus_del(f->pio, 0x3f9), -ENOENT);
    assert_int_equal(bus_del(f->pio, 0x3f8), 0);
    assert_null(bus_find(f->pio, 0x3f8));
    assert_non_null(bus_find(f->pio, 0x3f7));
    assert_non_null(bus_find(f->pio, 0x400));
}

static void test_full(void **state)
{
    struct fixture *f = *state;
    struct region r = at(f, 0x9000, 1, &isa, "last");

    for (unsigned i = 0; i < BUS_REGIONS_MAX; i++)
        add(f, f->pio, (i * 37 % BUS_REGIONS_MAX) * 4, 2, &isa);
    assert_refused(bus_add(f->pio, &r, &f->e), ENOSPC, f->e, "last");
    for (unsigned i = 0; i < BUS_REGIONS_MAX; i++) {
        assert_int_equal(bus_find(f->pio, i * 4 + 1)->base, i * 4);
        assert_null(bus_find(f->pio, i * 4 + 2));
    }
    for (unsigned i = 0; i < BUS_REGIONS_MAX; i++)
        assert_int_equal(bus_del(f->pio, i * 4), 0);
    assert_null(bus_find(f->pio, 0));
    add(f, f->pio, 0x9000, 1, &isa);
}

static void test_mmio_search(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 100; i++)
        add(f, f->mmio, 0xfe000000ull + (i * 61 % 100) * 0x1000, 0x800, &plain);
    for (unsigned i = 0; i < 100; i++) {
        u64 base = 0xfe000000ull + i * 0x1000;
        assert_int_equal(bus_find(f->mmio, base)->base, base);
        assert_int_equal(bus_find(f->mmio, base + 0x7ff)->base, base);
        assert_null(bus_find(f->mmio, base + 0x800));
        assert_null(bus_find(f->mmio, base + 0xfff));
    }
    assert_null(bus_find(f->mmio, 0xfdffffff));
}

static void test_plain_accesses(void **state)
{
    struct fixture *f = *state;

    add(f, f->mmio, 0x1000, 0x100, &any);
    assert_int_equal(bus_read(f->mmio, 0x1002, 1), 0xa2);
    assert_int_equal(bus_read(f->mmio, 0x1002, 2), 0xa3a2);
    assert_true(bus_read(f->mmio, 0x1000, 8) == 0xa7a6a5a4a3a2a1a0ull);
    bus_write(f->mmio, 0x1004, 4, 0xffffffff12345678ull);
    bus_write(f->mmio, 0x1003, 2, 0xbeef);
    expect(f, "r1@2 r2@2 r8@0 w4@4=12345678 w2@3=beef ");
}

static void test_split_to_bytes(void **state)
{
    struct fixture *f = *state;

    add(f, f->pio, 0x70, 8, &isa);
    assert_int_equal(bus_read(f->pio, 0x70, 4), 0xa3a2a1a0u);
    bus_write(f->pio, 0x70, 2, 0x1234);
    expect(f, "r1@0 r1@1 r1@2 r1@3 w1@0=34 w1@1=12 ");
}

static void test_split_to_impl_max(void **state)
{
    struct fixture *f = *state;

    add(f, f->mmio, 0x1000, 0x100, &plain);
    assert_true(bus_read(f->mmio, 0x1008, 8) == 0xafaeadacabaaa9a8ull);
    bus_write(f->mmio, 0x1008, 8, 0x1122334455667788ull);
    expect(f, "r4@8 r4@c w4@8=55667788 w4@c=11223344 ");
}

static void test_unaligned_to_bytes(void **state)
{
    struct fixture *f = *state;

    add(f, f->mmio, 0x1000, 0x100, &plain);
    assert_int_equal(bus_read(f->mmio, 0x1001, 2), 0xa2a1);
    bus_write(f->mmio, 0x1001, 2, 0xcafe);
    expect(f, "r1@1 r1@2 w1@1=fe w1@2=ca ");
}

static void test_widened_read_dropped_write(void **state)
{
    struct fixture *f = *state;

    add(f, f->mmio, 0x1000, 0x12, &dword);
    assert_int_equal(bus_read(f->mmio, 0x1006, 1), 0xa6);
    assert_int_equal(bus_read(f->mmio, 0x1006, 2), 0xa7a6);
    expect(f, "r4@4 r4@4 ");
    bus_write(f->mmio, 0x1004, 1, 1);
    bus_write(f->mmio, 0x1004, 2, 1);
    expect(f, "");
    bus_write(f->mmio, 0x1008, 8, 0x200000001ull);
    expect(f, "w4@8=1 w4@c=2 ");
    assert_int_equal(bus_read(f->mmio, 0x1002, 4), 0xffffffffu); /* unaligned, no bytes: refused */
    assert_int_equal(bus_read(f->mmio, 0x1010, 1), 0xff);        /* no whole word there */
    expect(f, "");
}

static void test_guest_sizes(void **state)
{
    struct fixture *f = *state;

    add(f, f->mmio, 0x1000, 0x100, &picky);
    assert_int_equal(bus_read(f->mmio, 0x1000, 1), 0xff);
    assert_int_equal(bus_read(f->mmio, 0x1000, 2), 0xffff);
    assert_true(bus_read(f->mmio, 0x1000, 8) == UINT64_MAX);
    bus_write(f->mmio, 0x1000, 8, 1);
    bus_write(f->mmio, 0x1000, 1, 1);
    expect(f, "");
    assert_int_equal(bus_read(f->mmio, 0x1004, 4), 0xa7a6a5a4u);
    expect(f, "r4@4 ");
}

static void test_no_functions(void **state)
{
    struct fixture *f = *state;

    add(f, f->mmio, 0x1000, 0x100, &deaf);
    assert_int_equal(bus_read(f->mmio, 0x1000, 2), 0xffff);
    bus_write(f->mmio, 0x1000, 2, 0);
}

static void test_straddling(void **state)
{
    struct fixture *f = *state;

    add(f, f->pio, 0x60, 1, &isa);
    add(f, f->pio, 0x62, 4, &isa);
    assert_int_equal(bus_read(f->pio, 0x60, 4), 0xa1a0ffa0u); /* 0x61 is nobody's */
    bus_write(f->pio, 0x60, 4, 0x44332211);
    expect(f, "r1@0 r1@0 r1@1 w1@0=11 w1@0=33 w1@1=44 ");
    assert_int_equal(bus_read(f->pio, 0x5f, 2), 0xa0ff); /* begins below the region */
    bus_write(f->pio, 0x5f, 2, 0x7788);
    expect(f, "r1@0 w1@0=77 ");
    add(f, f->pio, 0xfffe, 2, &isa);
    assert_int_equal(bus_read(f->pio, 0xfffe, 4), 0xffffa1a0u);
}

static void test_lock_is_held(void **state)
{
    struct fixture *f = *state;
    struct region r = at(f, 0x1000, 0x100, &plain, "locked");

    f->chip.want_lock = true;
    r.lock = &f->chip.lock;
    assert_ok(bus_add(f->mmio, &r, &f->e), f->e);
    bus_read(f->mmio, 0x1000, 8);
    bus_write(f->mmio, 0x1001, 4, 0);
    bus_write(f->mmio, 0x10fe, 4, 0);
    assert_false(lock_held(&f->chip.lock));
}

static void bad_rules(void *arg)
{
    static const struct region_ops three = {chip_read, chip_write, .impl_max = 3};

    add(arg, ((struct fixture *)arg)->mmio, 0x1000, 0x100, &three);
}

static void test_bad_rules_are_bugs(void **state)
{
    assert_true(dies(bad_rules, *state));
}

static u64 const_read(void *dev, u64 off, unsigned size)
{
    return (u64)(uintptr_t)dev;
}

static const struct region_ops const_ops = {const_read, NULL, .impl_max = 4};
static bool stop;

static void *read_forever(void *arg)
{
    struct fixture *f = arg;
    u64 rounds = 0;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) || rounds++ < 1000) {
        u64 moving = bus_read(f->pio, 0x2000, 1), fixed = bus_read(f->mmio, 0x5000, 1);
        if (fixed != 7 || bus_read(f->pio, 0x5000, 1) != 7)
            return "lost a region that was there all the time";
        if (moving != 0xff && moving != 5 && moving != 6)
            return "mixed two regions";
    }
    return NULL;
}

static void test_changes_while_in_use(void **state)
{
    struct fixture *f = *state;
    struct region r = {0x5000, 4, &const_ops, (void *)7, NULL, "fixed"};
    pthread_t t[2];
    void *why;

    stop = false;
    assert_ok(bus_add(f->pio, &r, &f->e), f->e);
    assert_ok(bus_add(f->mmio, &r, &f->e), f->e);
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, read_forever, f);
    for (unsigned i = 0; i < 10000; i++) {
        void *dev = (void *)(uintptr_t)(5 + i % 2);
        struct region m = {0x2000 - (i & 3), 4, &const_ops, dev, NULL, "m"};
        assert_ok(bus_add(f->pio, &m, &f->e), f->e);
        assert_ok(bus_add(f->mmio, &m, &f->e), f->e);
        assert_int_equal(bus_del(f->mmio, m.base), 0);
        assert_int_equal(bus_del(f->pio, m.base), 0);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(t[i], &why);
        assert_null(why);
    }
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_unclaimed), T(test_refused), T(test_full), T(test_mmio_search),
        T(test_plain_accesses), T(test_split_to_bytes), T(test_split_to_impl_max),
        T(test_unaligned_to_bytes), T(test_widened_read_dropped_write), T(test_guest_sizes),
        T(test_no_functions), T(test_straddling), T(test_lock_is_held), T(test_bad_rules_are_bugs),
        T(test_changes_while_in_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
