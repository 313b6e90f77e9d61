/* test_mem.c - guest memory: slots, copies, dirty log, code pages, listeners */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "unit.h"

#include "mem/mem.h"

struct seen {
    unsigned code, remap;
    u64 gpa, len;
};

static void on_code(void *ctx, u64 gpa, u64 len)
{
    struct seen *s = ctx;

    s->code++;
    s->gpa = gpa;
    s->len = len;
}

static void on_remap(void *ctx, u64 gpa, u64 len)
{
    struct seen *s = ctx;

    s->remap++;
    s->gpa = gpa;
    s->len = len;
}

struct fixture {
    struct mem *m;
    struct seen seen;
    struct err e;
};

/* RAM 0-0x10000, ROM 0x10000-0x12000, RAM 0x12000-0x14000, a hole, RAM 4G-4G+16M. */
static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct mem_listener l = {.code_written = on_code, .remapped = on_remap, .ctx = &f->seen};

    assert_ok(mem_create(&f->m, &f->e), f->e);
    assert_ok(mem_add_ram(f->m, 4 * GiB, 16 * MiB, &f->e), f->e);
    assert_ok(mem_add_rom(f->m, 0x10000, 0x2000, "rom!", 4, &f->e), f->e);
    assert_ok(mem_add_ram(f->m, 0x12000, 0x2000, &f->e), f->e);
    assert_ok(mem_add_ram(f->m, 0, 0x10000, &f->e), f->e);
    assert_int_equal(mem_listen(f->m, &l), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    mem_unlisten(f->m, &f->seen);
    mem_destroy(f->m);
    free(f);
    return 0;
}

static void test_slots(void **state)
{
    struct fixture *f = *state;
    struct mem_slot_info info[8];

    assert_int_equal(mem_slots(f->m, info, 8), 4);
    assert_int_equal(info[0].gpa, 0);
    assert_int_equal(info[1].flags, MEM_ROM);
    assert_int_equal(info[2].gpa, 0x12000);
    assert_int_equal(info[3].gpa, 4 * GiB);
    assert_int_equal(info[3].size, 16 * MiB);
    assert_int_equal(mem_slots(f->m, info, 1), 4);
}

static void test_slot_fd_is_the_memory(void **state)
{
    struct fixture *f = *state;
    struct mem_slot_info info[4];
    char back[5] = {0};

    mem_slots(f->m, info, 4);
    assert_int_equal(mem_write(f->m, 0x12345, "here", 4), 0);
    assert_int_equal(pread(info[2].fd, back, 4, (off_t)(info[2].fd_off + 0x345)), 4);
    assert_string_equal(back, "here");
}

static void test_refused_slots(void **state)
{
    struct fixture *f = *state;
    struct mem *m = f->m;

    assert_refused(mem_add_ram(m, 0x20000, 0, &f->e), EINVAL, f->e, "size");
    assert_refused(mem_add_ram(m, 0x20000, 100, &f->e), EINVAL, f->e, "size");
    assert_refused(mem_add_ram(m, 0x20001, 0x1000, &f->e), EINVAL, f->e, "size");
    assert_refused(mem_add_ram(m, UINT64_MAX & ~PAGE_MASK, 0x2000, &f->e), EINVAL, f->e, "size");
    assert_refused(mem_add_ram(m, 0x20000, RAM_MAX + 0x1000, &f->e), EINVAL, f->e, "size");
    assert_refused(mem_add_ram(m, 0xf000, 0x1000, &f->e), EEXIST, f->e, "0x0-0xffff");
    assert_refused(mem_add_ram(m, 0x13000, 0x2000, &f->e), EEXIST, f->e, "0x12000-0x13fff");
    assert_refused(mem_add_ram(m, 0, 8 * GiB, &f->e), EEXIST, f->e, "overlaps");
    assert_refused(mem_add_rom(m, 0x20000, 0x1000, "", 0x1001, &f->e), EINVAL, f->e, "fit");
    assert_int_equal(mem_slots(m, NULL, 0), 4);
    for (unsigned i = 4; i < MEM_SLOTS_MAX; i++)
        assert_ok(mem_add_ram(m, 8 * GiB + i * 0x2000, 0x1000, &f->e), f->e);
    assert_refused(mem_add_ram(m, 0x20000, 0x1000, &f->e), ENOSPC, f->e, "slots");
}

static void test_page(void **state)
{
    struct fixture *f = *state;
    unsigned flags = 99;
    u8 *p = mem_page(f->m, 0x10000, false, &flags);

    assert_memory_equal(p, "rom!", 4);
    assert_int_equal(flags, MEM_ROM);
    p = mem_page(f->m, 0x3fff & ~PAGE_MASK, true, &flags);
    assert_int_equal(flags, 0);
    p[1] = 0x5a;
    assert_int_equal(mem_read(f->m, 0x3001, &flags, 1), 0);
    assert_int_equal(flags & 0xff, 0x5a);
    assert_null(mem_page(f->m, 0x14000, false, &flags));
    assert_null(mem_page(f->m, 4 * GiB - PAGE_BYTES, false, NULL));
    assert_null(mem_page(f->m, 4 * GiB + 16 * MiB, false, NULL));
    assert_null(mem_page(f->m, UINT64_MAX & ~PAGE_MASK, false, NULL));
    assert_non_null(mem_page(f->m, 4 * GiB + 16 * MiB - PAGE_BYTES, false, NULL));
}

static void test_page_near(void **state)
{
    struct fixture *f = *state;
    struct mem_hint hint = {0};
    unsigned flags, plain;

    for (unsigned round = 0; round < 2; round++) {
        for (u64 gpa = 0; gpa < 0x14000; gpa += 0x1000) {
            assert_ptr_equal(mem_page_near(f->m, &hint, gpa + 5, false, &flags),
                             mem_page(f->m, gpa, false, &plain));
            assert_int_equal(flags, plain);
        }
        assert_null(mem_page_near(f->m, &hint, 0x14000, false, &flags));
        assert_ptr_equal(mem_page_near(f->m, &hint, 4 * GiB + 0x1000, false, &flags),
                         mem_page(f->m, 4 * GiB + 0x1000, false, &plain));
    }
    mem_code_mark(f->m, 0x3000);
    assert_non_null(mem_page_near(f->m, &hint, 0x3000, false, &flags));
    assert_int_equal(flags, MEM_CODE);
    mem_code_clear(f->m, 0x3000);
    assert_non_null(mem_page_near(f->m, &hint, 0x3000, false, &flags));
    assert_int_equal(flags, 0);
    /* The slot it knows goes, and another takes its place. */
    assert_int_equal(mem_del(f->m, 0), 0);
    assert_null(mem_page_near(f->m, &hint, 0x3000, false, &flags));
    assert_ok(mem_add_rom(f->m, 0, 0x4000, NULL, 0, &f->e), f->e);
    assert_ptr_equal(mem_page_near(f->m, &hint, 0x3000, true, &flags),
                     mem_page(f->m, 0x3000, false, &plain));
    assert_int_equal(flags, MEM_ROM);
    /* The dirty log is kept. */
    u8 map[4096 / 8];
    assert_int_equal(mem_dirty_start(f->m), 0);
    assert_non_null(mem_page_near(f->m, &hint, 4 * GiB + 0x1000, true, &flags));
    assert_int_equal(mem_dirty_fetch(f->m, 4 * GiB, map, sizeof(map)), 0);
    assert_int_equal(map[0], 2);
}

static void test_copies(void **state)
{
    struct fixture *f = *state;
    u8 buf[0x5000], back[0x5000];

    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i * 7 + 1);
    assert_int_equal(mem_write(f->m, 0x9003, buf, sizeof(buf)), 0);
    assert_int_equal(mem_read(f->m, 0x9003, back, sizeof(back)), 0);
    assert_memory_equal(buf, back, sizeof(buf));
    assert_int_equal(mem_fill(f->m, 0x9003, 0xee, 0x4fff), 0);
    assert_int_equal(mem_read(f->m, 0x9003, back, sizeof(back)), 0);
    assert_int_equal(back[0x4ffe], 0xee);
    assert_int_equal(back[0x4fff], buf[0x4fff]);
    for (unsigned len = 1; len <= 8; len++) {
        assert_int_equal(mem_write(f->m, 0x100, buf, len), 0);
        assert_int_equal(mem_read(f->m, 0x100, back, len), 0);
        assert_memory_equal(buf, back, len);
    }
}

static void test_copies_cross_slots(void **state)
{
    struct fixture *f = *state;
    u8 buf[0x2100];

    assert_int_equal(mem_fill(f->m, 0xfff0, 0x11, 16), 0);
    assert_int_equal(mem_fill(f->m, 0x12000, 0x22, 0xf0), 0);
    assert_int_equal(mem_read(f->m, 0xfff0, buf, sizeof(buf)), 0);
    assert_int_equal(buf[0], 0x11);
    assert_memory_equal(buf + 16, "rom!", 4);
    assert_int_equal(buf[0x2010], 0x22);
}

static void test_copies_all_or_nothing(void **state)
{
    struct fixture *f = *state;
    u8 buf[0x5000], back[16];

    memset(buf, 0x33, sizeof(buf));
    assert_int_equal(mem_write(f->m, 0xfff0, buf, 0x2100), -EFAULT); /* ROM in the middle */
    assert_int_equal(mem_write(f->m, 0x13ff0, buf, 17), -EFAULT);    /* a hole behind */
    assert_int_equal(mem_read(f->m, 0x13ff0, buf, 17), -EFAULT);
    assert_int_equal(buf[0], 0x33);
    assert_int_equal(mem_read(f->m, 0xfff0, back, 16), 0);
    assert_int_equal(back[0], 0);
    assert_int_equal(mem_read(f->m, 0x13ff0, back, 16), 0);
    assert_int_equal(back[0], 0);
    assert_int_equal(mem_write(f->m, 0x10000, buf, 1), -EFAULT);
    assert_int_equal(mem_read(f->m, 0x100000, buf, 1), -EFAULT);
    assert_int_equal(mem_read(f->m, UINT64_MAX, buf, 2), -EFAULT);
    assert_int_equal(mem_read(f->m, 0, buf, UINT64_MAX), -EFAULT);
    assert_int_equal(mem_read(f->m, 16, buf, UINT64_MAX - 8), -EFAULT);
    assert_int_equal(mem_read(f->m, 0x100000, buf, 0), 0);
}

static void test_dirty_log(void **state)
{
    struct fixture *f = *state;
    u8 map[2];

    assert_int_equal(mem_dirty_fetch(f->m, 0, map, 2), -EINVAL);
    assert_int_equal(mem_fill(f->m, 0, 1, 1), 0); /* off: not recorded */
    f->seen.remap = 0;
    assert_int_equal(mem_dirty_start(f->m), 0);
    assert_int_equal(f->seen.remap, 4);
    assert_int_equal(mem_dirty_fetch(f->m, 0x1000, map, 2), -ENOENT);
    assert_int_equal(mem_dirty_fetch(f->m, 0, map, 3), -EINVAL);
    assert_int_equal(mem_fill(f->m, 0x1fff, 1, 2), 0);
    assert_non_null(mem_page(f->m, 0xf000, true, NULL));
    assert_non_null(mem_page(f->m, 0xe000, false, NULL));
    mem_written(f->m, 0x9000, 1);
    f->seen.remap = 0;
    assert_int_equal(mem_dirty_fetch(f->m, 0, map, 2), 0);
    assert_int_equal(map[0], 0x06);
    assert_int_equal(map[1], 0x82);
    assert_int_equal(f->seen.remap, 1);
    assert_int_equal(f->seen.len, 0x10000);
    assert_int_equal(mem_dirty_fetch(f->m, 0, map, 2), 0);
    assert_int_equal(map[0] | map[1], 0);
    assert_int_equal(mem_fill(f->m, 0, 1, 1), 0);
    assert_int_equal(mem_dirty_start(f->m), 0); /* clears */
    assert_int_equal(mem_dirty_fetch(f->m, 0, map, 2), 0);
    assert_int_equal(map[0], 0);
    mem_dirty_stop(f->m);
    assert_int_equal(mem_dirty_fetch(f->m, 0, map, 2), -EINVAL);
}

static void test_code_pages(void **state)
{
    struct fixture *f = *state;

    mem_code_mark(f->m, 0x3000);
    assert_true(mem_code_marked(f->m, 0x3000));
    assert_false(mem_code_marked(f->m, 0x4000));
    assert_int_equal(mem_fill(f->m, 0x4000, 1, 0x1000), 0);
    assert_int_equal(f->seen.code, 0);
    assert_int_equal(mem_fill(f->m, 0x2ff0, 1, 0x20), 0);
    assert_int_equal(f->seen.code, 1);
    assert_int_equal(f->seen.gpa, 0x3000);
    assert_int_equal(f->seen.len, 0x10);
    mem_written(f->m, 0x3fff, 1);
    assert_int_equal(f->seen.code, 2);
    mem_code_clear(f->m, 0x3000);
    assert_int_equal(mem_fill(f->m, 0x3000, 1, 0x20), 0);
    assert_int_equal(f->seen.code, 2);
    mem_code_mark(f->m, 0x100000); /* holes hold no code */
    assert_false(mem_code_marked(f->m, 0x100000));
}

static void test_delete_and_reuse(void **state)
{
    struct fixture *f = *state;
    u8 *first = mem_page(f->m, 0x12000, true, NULL), back = 9;

    *first = 0x44;
    mem_code_mark(f->m, 0x12000);
    f->seen.remap = 0;
    assert_int_equal(mem_del(f->m, 0x12000), 0);
    assert_int_equal(f->seen.remap, 1);
    assert_int_equal(mem_del(f->m, 0x12000), -ENOENT);
    assert_int_equal(mem_read(f->m, 0x12000, &back, 1), -EFAULT);
    assert_int_equal(*first, 0); /* a stale pointer is harmless */
    assert_ok(mem_add_ram(f->m, 0x200000, 0x2000, &f->e), f->e);
    assert_false(mem_code_marked(f->m, 0x200000));
    assert_int_equal(mem_read(f->m, 0x200000, &back, 1), 0);
    assert_int_equal(back, 0);
}

/* A guest that moves a window for ever must not use up descriptors or addresses. */
static void test_endless_remapping_is_free(void **state)
{
    struct fixture *f = *state;
    int low = dup(0), high;

    close(low);
    for (unsigned i = 0; i < 5000; i++) {
        u64 gpa = 0x1000000 + (i % 7) * 0x10000;
        assert_ok(mem_add_ram(f->m, gpa, 0x3000, &f->e), f->e);
        assert_int_equal(mem_fill(f->m, gpa, (u8)i, 0x3000), 0);
        assert_int_equal(mem_del(f->m, gpa), 0);
    }
    high = dup(0);
    close(high);
    assert_true(high - low <= 1);
}

static void test_listeners(void **state)
{
    struct fixture *f = *state;
    struct seen more[8] = {0};
    struct mem_listener l = {.code_written = on_code, .remapped = on_remap};

    for (unsigned i = 0; i < 7; i++) {
        l.ctx = &more[i];
        assert_int_equal(mem_listen(f->m, &l), 0);
    }
    l.ctx = &more[7];
    assert_int_equal(mem_listen(f->m, &l), -ENOSPC);
    mem_unlisten(f->m, &more[3]);
    mem_code_mark(f->m, 0);
    assert_int_equal(mem_fill(f->m, 0, 0, 1), 0);
    assert_int_equal(more[2].code, 1);
    assert_int_equal(more[3].code, 0);
    assert_int_equal(more[6].code, 1);
}

static bool churn_stop;

static void *reader(void *arg)
{
    struct mem *m = arg;
    u64 rounds = 0;

    while (!__atomic_load_n(&churn_stop, __ATOMIC_RELAXED) || rounds < 1000) {
        unsigned flags;
        u8 *p = mem_page(m, 4 * GiB + 0x5000, true, &flags), byte;
        if (!p || *p != 0xc3)
            return "lost a slot that was there all the time";
        if (mem_read(m, 0x10000, &byte, 1) || byte != 'r')
            return "lost the ROM";
        (void)mem_page(m, 0x800000, true, NULL);
        rounds++;
    }
    return NULL;
}

static void test_readers_while_slots_change(void **state)
{
    struct fixture *f = *state;
    pthread_t t[2];
    void *why;

    assert_int_equal(mem_fill(f->m, 4 * GiB + 0x5000, 0xc3, 1), 0);
    churn_stop = false;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, reader, f->m), 0);
    for (unsigned i = 0; i < 3000; i++) {
        assert_ok(mem_add_ram(f->m, 0x800000, 0x1000, &f->e), f->e);
        assert_int_equal(mem_del(f->m, 0x800000), 0);
    }
    __atomic_store_n(&churn_stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(t[i], &why);
        assert_null(why);
    }
}

static u64 blocks(struct fixture *f, size_t slot)
{
    struct mem_slot_info info[8];
    struct stat st;

    assert_true(mem_slots(f->m, info, 8) > slot);
    assert_int_equal(fstat(info[slot].fd, &st), 0);
    return (u64)st.st_blocks * 512;
}

static void test_discard(void **state)
{
    struct fixture *f = *state;
    u8 byte, map[512];
    u64 before;

    assert_int_equal(mem_fill(f->m, 4 * GiB, 0xaa, 16 * MiB), 0);
    before = blocks(f, 3);
    assert_true(before >= 16 * MiB);
    assert_int_equal(mem_dirty_start(f->m), 0);
    mem_code_mark(f->m, 4 * GiB + 4 * MiB);
    f->seen = (struct seen){0};
    assert_int_equal(mem_discard(f->m, 4 * GiB + 4 * MiB, 8 * MiB), 0);
    assert_true(blocks(f, 3) <= before - 8 * MiB);
    assert_int_equal(f->seen.code, 1);
    assert_int_equal(f->seen.gpa, 4 * GiB + 4 * MiB);
    assert_int_equal(mem_dirty_fetch(f->m, 4 * GiB, map, sizeof(map)), 0);
    assert_int_equal(map[127], 0);
    assert_int_equal(map[128], 0xff);
    assert_int_equal(map[383], 0xff);
    assert_int_equal(map[384], 0);
    assert_int_equal(mem_read(f->m, 4 * GiB + 4 * MiB, &byte, 1), 0);
    assert_int_equal(byte, 0);
    assert_int_equal(mem_read(f->m, 4 * GiB + 4 * MiB - 1, &byte, 1), 0);
    assert_int_equal(byte, 0xaa);
    assert_int_equal(mem_read(f->m, 4 * GiB + 12 * MiB, &byte, 1), 0);
    assert_int_equal(byte, 0xaa);
    /* Memory that comes back can be used again. */
    assert_int_equal(mem_fill(f->m, 4 * GiB + 4 * MiB, 0x55, 100), 0);

    assert_int_equal(mem_discard(f->m, 4 * GiB + 1, 0x1000), -EINVAL);
    assert_int_equal(mem_discard(f->m, 4 * GiB, 100), -EINVAL);
    assert_int_equal(mem_discard(f->m, 0x10000, 0x1000), -EFAULT); /* ROM */
    assert_int_equal(mem_fill(f->m, 0xf000, 0xbb, 0x1000), 0);
    assert_int_equal(mem_discard(f->m, 0xf000, 0x2000), -EFAULT); /* all or nothing */
    assert_int_equal(mem_read(f->m, 0xf000, &byte, 1), 0);
    assert_int_equal(byte, 0xbb);
    assert_int_equal(mem_discard(f->m, UINT64_MAX & ~0xfffull, 0x2000), -EFAULT);
    assert_int_equal(mem_discard(f->m, 5 * GiB, 0x1000), -EFAULT);
}

static void test_huge_slot_costs_nothing(void **state)
{
    struct fixture *f = *state;
    struct mem_slot_info info[8];
    struct stat st;
    u8 byte = 1;

    assert_ok(mem_add_ram(f->m, 64 * GiB, 512 * GiB, &f->e), f->e);
    assert_int_equal(mem_write(f->m, 500 * GiB, &byte, 1), 0);
    assert_int_equal(mem_slots(f->m, info, 8), 5);
    assert_int_equal(fstat(info[4].fd, &st), 0);
    assert_true((u64)st.st_blocks * 512 <= 4 * MiB);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_slots), T(test_slot_fd_is_the_memory), T(test_refused_slots), T(test_page),
        T(test_page_near),
        T(test_copies), T(test_copies_cross_slots), T(test_copies_all_or_nothing),
        T(test_dirty_log), T(test_code_pages), T(test_delete_and_reuse),
        T(test_endless_remapping_is_free), T(test_listeners), T(test_readers_while_slots_change),
        T(test_discard), T(test_huge_slot_costs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
