/* test_probe.c - where a disk holds a root file system */
#include "unit.h"

#include "fake_disk.h"
#include "host/disk/probe.h"

#define PART2 (2048 * 512)

static struct disk *disk;

static void put(u64 off, const void *data, u64 len)
{
    assert_int_equal(pwrite(disk->fd, data, len, (off_t)off), len);
}

static int setup(void **state)
{
    disk = fake_disk(4 * MiB, 4096);
    return 0;
}

static int teardown(void **state)
{
    fake_disk_free(disk);
    return 0;
}

/* The partition found, -1 for none. */
static int found(void)
{
    unsigned partition;

    return disk_find_root(disk, &partition) ? (int)partition : -1;
}

static void put_ext4(u64 start)
{
    put(start + 1080, "\x53\xef", 2);
}

static void put_mbr(unsigned n, u8 type, u32 first)
{
    u8 entry[16] = {0, 0, 0, 0, type};

    memcpy(entry + 8, &first, 4);
    put(446 + 16 * n, entry, sizeof(entry));
    put(510, "\x55\xaa", 2);
}

static void put_gpt(unsigned n, const char *type, u64 first)
{
    u32 entries = 128, bytes = 128;
    u64 lba = 2;

    put(512, "EFI PART", 8);
    put(512 + 72, &lba, 8);
    put(512 + 80, &entries, 4);
    put(512 + 84, &bytes, 4);
    put(1024 + 128 * n, type, 16);
    put(1024 + 128 * n + 32, &first, 8);
}

#define ROOT  "\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09"
#define LINUX "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4"

static void test_nothing(void **state)
{
    assert_int_equal(found(), -1);
    put_mbr(1, 0x83, 2048); /* no file system there */
    assert_int_equal(found(), -1);
    put_mbr(1, 0x07, 2048); /* one, but not of Linux */
    put_ext4(PART2);
    assert_int_equal(found(), -1);
}

static void test_whole_disk(void **state)
{
    put(0, "XFSB", 4);
    assert_int_equal(found(), 0);
    put(0, "\0\0\0\0", 4);
    assert_int_equal(found(), -1);
    put(65600, "_BHRfS_M", 8);
    assert_int_equal(found(), 0);
}

static void test_partitions(void **state)
{
    put_mbr(0, 0xef, 1);
    put_mbr(2, 0x83, 2048);
    put_ext4(PART2);
    assert_int_equal(found(), 3);
    put_gpt(0, LINUX, 2048);
    assert_int_equal(found(), 1);
    put_gpt(7, ROOT, 2048);
    assert_int_equal(found(), 8);
}

/* Places beyond the end, numbers that wrap, and reads that fail. */
static void test_hostile(void **state)
{
    u32 many = ~0u;
    u64 far = ~0ull / 512 + 3;

    put_mbr(0, 0x83, ~0u);
    put_mbr(1, 0x83, 8191);
    assert_int_equal(found(), -1);
    put_gpt(0, ROOT, ~0ull / 512);
    put_gpt(1, ROOT, ~0ull);
    put(512 + 80, &many, 4);
    assert_int_equal(found(), -1);
    put_gpt(127, ROOT, 2048);
    put_ext4(PART2);
    assert_int_equal(found(), 128);
    put(512 + 72, &far, 8);
    assert_int_equal(found(), -1);
    put_ext4(0);
    assert_int_equal(found(), 0);
    disk->bytes = 512;
    assert_int_equal(found(), -1);
}

static void test_read_error(void **state)
{
    put(0, "XFSB", 4);
    disk->fail_read = EIO;
    assert_int_equal(found(), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whole_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_partitions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_error, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
