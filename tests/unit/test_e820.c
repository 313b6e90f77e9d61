/* test_e820.c - the memory map: splitting, joining, and the PC's own */
#include "unit.h"

#include "base/limits.h"
#include "machine/e820.h"
#include "machine/layout.h"

static void add(struct e820_map *m, u64 addr, u64 size, enum e820_type type)
{
    struct err e = {0};

    assert_ok(e820_set(m, addr, size, type, &e), e);
}

static void assert_entry(const struct e820_map *m, unsigned i, u64 addr, u64 size, u32 type)
{
    assert_true(i < m->count);
    assert_int_equal(m->entry[i].addr, addr);
    assert_int_equal(m->entry[i].size, size);
    assert_int_equal(m->entry[i].type, type);
}

static void splits_and_joins(void **state)
{
    struct e820_map m = {.count = 0};

    add(&m, 0x1000, 0x9000, E820_RAM);
    add(&m, 0x3000, 0x1000, E820_RESERVED);
    assert_int_equal(m.count, 3);
    assert_entry(&m, 0, 0x1000, 0x2000, E820_RAM);
    assert_entry(&m, 1, 0x3000, 0x1000, E820_RESERVED);
    assert_entry(&m, 2, 0x4000, 0x6000, E820_RAM);
    add(&m, 0x3000, 0x1000, E820_RAM);
    assert_int_equal(m.count, 1);
    assert_entry(&m, 0, 0x1000, 0x9000, E820_RAM);
    add(&m, 0, 0x100, E820_RESERVED);
    add(&m, 0x20000, 0x100, E820_ACPI);
    add(&m, 0x9000, 0x17050, E820_NVS);
    assert_int_equal(m.count, 4);
    assert_entry(&m, 2, 0x9000, 0x17050, E820_NVS);
    assert_entry(&m, 3, 0x20050, 0xb0, E820_ACPI);
}

/* Random ranges over a byte-per-unit model of the same map. */
static void agrees_with_model(void **state)
{
    u8 model[256] = {0};
    struct e820_map m = {.count = 0};
    unsigned seed = 1;

    for (unsigned round = 0; round < 20000; round++) {
        unsigned at = (unsigned)rand_r(&seed) % 256, n = (unsigned)rand_r(&seed) % (257 - at);
        unsigned type = 1 + (unsigned)rand_r(&seed) % 3;
        struct e820_map before = m;
        int rc = e820_set(&m, at, n, type, NULL);

        if (n == 0 || rc == -ENOSPC) {
            assert_int_equal(rc, n == 0 ? -EINVAL : -ENOSPC);
            assert_memory_equal(&before, &m, sizeof(m));
            continue;
        }
        assert_int_equal(rc, 0);
        memset(model + at, (int)type, n);
        for (unsigned i = 0, unit = 0; i < m.count; i++) {
            assert_true(m.entry[i].addr >= unit && m.entry[i].size > 0);
            for (; unit < m.entry[i].addr; unit++)
                assert_int_equal(model[unit], 0);
            for (; unit < m.entry[i].addr + m.entry[i].size; unit++)
                assert_int_equal(model[unit], m.entry[i].type);
        }
    }
}

static void refuses(void **state)
{
    struct e820_map m = {.count = 0};
    struct err e;

    assert_refused(e820_set(&m, 5, 0, E820_RAM, &e), EINVAL, e, "range");
    assert_refused(e820_set(&m, UINT64_MAX, 2, E820_RAM, &e), EINVAL, e, "range");
    assert_refused(e820_pc(&m, RAM_MIN - 4096, &e), EINVAL, e, "memory");
    assert_refused(e820_pc(&m, RAM_MIN + 1, &e), EINVAL, e, "memory");
    assert_refused(e820_pc(&m, RAM_MAX + 4096, &e), EINVAL, e, "memory");
}

static void pc_map(void **state)
{
    struct e820_map m;
    struct err e = {0};

    assert_ok(e820_pc(&m, MiB, &e), e);
    assert_int_equal(m.count, 3); /* low RAM, EBDA, firmware */
    assert_false(e820_holds(&m, HIGH_MEM_GPA, 1, E820_RAM));

    assert_ok(e820_pc(&m, 512 * MiB, &e), e);
    assert_true(e820_holds(&m, HIGH_MEM_GPA, 511 * MiB, E820_RAM));
    assert_false(e820_holds(&m, HIGH_MEM_GPA, 511 * MiB + 1, E820_RAM));
    assert_true(e820_holds(&m, 0, EBDA_GPA, E820_RAM));
    assert_true(e820_holds(&m, FIRMWARE_GPA, HIGH_MEM_GPA - FIRMWARE_GPA, E820_RESERVED));

    assert_ok(e820_pc(&m, 4 * GiB, &e), e);
    assert_true(e820_holds(&m, HIGH_MEM_GPA, 3 * GiB - HIGH_MEM_GPA, E820_RAM));
    assert_true(e820_holds(&m, ABOVE_4G_GPA, GiB, E820_RAM));
    assert_false(e820_holds(&m, MMIO_HOLE_GPA, 1, E820_RAM));
}

static void highest(void **state)
{
    struct e820_map m;
    struct err e = {0};

    assert_ok(e820_pc(&m, 4 * GiB, &e), e);
    assert_int_equal(e820_highest(&m, 4096, 4096, 0, UINT64_MAX), 5 * GiB - 4096);
    assert_int_equal(e820_highest(&m, 5000, 4096, 0, ABOVE_4G_GPA), 3 * GiB - 8192);
    assert_int_equal(e820_highest(&m, 4096, 4096, 0, 0x9fc00), 0x9e000);
    assert_int_equal(e820_highest(&m, 4096, 4096, 2 * GiB, 2 * GiB + 4095), 0);
    assert_int_equal(e820_highest(&m, 4 * GiB, 4096, 0, UINT64_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_and_joins), cmocka_unit_test(agrees_with_model),
        cmocka_unit_test(refuses),          cmocka_unit_test(pc_map),
        cmocka_unit_test(highest),
    };

    return cmocka_run_group_tests_name("e820", tests, NULL, NULL);
}
