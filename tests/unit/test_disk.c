/* test_disk.c - raw disks, slices of them, and what opening refuses */
#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "host/disk/disk.h"

#define BYTES (256 * KiB)

static char path[64];

static int setup(void **state)
{
    int fd;

    strcpy(path, "/tmp/ring3-disk-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0 && ftruncate(fd, BYTES) == 0);
    close(fd);
    return 0;
}

static int teardown(void **state)
{
    return unlink(path);
}

static struct disk *open_disk(const struct disk_config *cfg)
{
    struct disk_config c = *cfg;
    struct disk *d = NULL;
    struct err e = {0};

    c.path = path;
    assert_ok(disk_open(&c, &d, &e), e);
    return d;
}

/* Random requests against an array that does the same. */
static void shadow(struct disk *d, u64 bytes, unsigned rounds)
{
    u8 *want = calloc(1, bytes), *buf = malloc(bytes), *buf2 = malloc(bytes);
    unsigned seed = 7;

    assert_true(want && buf && buf2);
    assert_int_equal(disk_readv(d, 0, &(struct iovec){want, bytes}, 1), 0);
    for (unsigned i = 0; i < rounds; i++) {
        u64 off = (u64)rand_r(&seed) % bytes, len = (u64)rand_r(&seed) % (bytes - off + 1);
        u64 cut = len ? (u64)rand_r(&seed) % len : 0;
        struct iovec iov[3] = {{buf, cut}, {buf2, 0}, {buf + cut, len - cut}};

        len = len > 40000 && i % 8 ? len % 4000 : len;
        if (cut > len)
            cut = len;
        iov[0].iov_len = cut;
        iov[2] = (struct iovec){buf + cut, len - cut};
        switch (rand_r(&seed) % 6) {
        case 0:
        case 1:
            memset(buf, rand_r(&seed), len);
            assert_int_equal(disk_writev(d, off, iov, 3), 0);
            memcpy(want + off, buf, len);
            break;
        case 2:
            assert_int_equal(disk_write_zeroes(d, off, len, i & 1), 0);
            memset(want + off, 0, len);
            break;
        case 3: assert_int_equal(disk_flush(d), 0); break;
        case 4:
            assert_int_equal(disk_discard(d, off, len), 0);
            assert_int_equal(disk_readv(d, off, &(struct iovec){want + off, len}, 1), 0);
            break;
        default:
            memset(buf, 0xee, len);
            assert_int_equal(disk_readv(d, off, iov, 3), 0);
            assert_memory_equal(buf, want + off, len);
        }
    }
    assert_int_equal(disk_readv(d, 0, &(struct iovec){buf, bytes}, 1), 0);
    assert_memory_equal(buf, want, bytes);
    free(want);
    free(buf);
    free(buf2);
}

static void raw(void **state)
{
    struct disk *d = open_disk(&(struct disk_config){.format = DISK_RAW});

    assert_int_equal(disk_bytes(d), BYTES);
    assert_int_equal(disk_format(d), DISK_RAW);
    shadow(d, BYTES, 3000);
    assert_int_equal(disk_close(d), 0);
}

static void beyond(void **state)
{
    struct disk *d = open_disk(&(struct disk_config){.format = DISK_RAW});
    u8 byte = 1;
    struct iovec iov = {&byte, 1}, huge[2] = {{&byte, SIZE_MAX}, {&byte, 2}};

    assert_int_equal(disk_readv(d, BYTES, &iov, 1), -EINVAL);
    assert_int_equal(disk_writev(d, BYTES, &iov, 1), -EINVAL);
    assert_int_equal(disk_writev(d, UINT64_MAX, &iov, 1), -EINVAL);
    assert_int_equal(disk_writev(d, 0, huge, 2), -EINVAL);
    assert_int_equal(disk_discard(d, BYTES - 1, 2), -EINVAL);
    assert_int_equal(disk_write_zeroes(d, 1, UINT64_MAX, false), -EINVAL);
    assert_int_equal(disk_readv(d, BYTES, NULL, 0), 0);
    assert_int_equal(disk_close(d), 0);
}

/* A slice sees and changes its own range alone. */
static void slice(void **state)
{
    u8 *file = malloc(BYTES), *after = malloc(BYTES);
    struct disk *d = open_disk(&(struct disk_config){.format = DISK_RAW});

    memset(file, 0x5a, BYTES);
    assert_int_equal(disk_writev(d, 0, &(struct iovec){file, BYTES}, 1), 0);
    assert_int_equal(disk_close(d), 0);
    d = open_disk(&(struct disk_config){.format = DISK_RAW, .offset = 65536, .size = 32768});
    assert_int_equal(disk_bytes(d), 32768);
    shadow(d, 32768, 1000);
    assert_int_equal(disk_close(d), 0);
    d = open_disk(&(struct disk_config){.format = DISK_RAW, .read_only = true});
    assert_int_equal(disk_readv(d, 0, &(struct iovec){after, BYTES}, 1), 0);
    assert_int_equal(disk_close(d), 0);
    assert_memory_equal(after, file, 65536);
    assert_memory_equal(after + 65536 + 32768, file, BYTES - 65536 - 32768);
    free(file);
    free(after);
}

static void refusals(void **state)
{
    struct disk_config cfg = {.path = path, .format = DISK_RAW};
    struct disk *d, *other;
    struct err e;

    cfg.offset = 100;
    assert_refused(disk_open(&cfg, &d, &e), EINVAL, e, "multiples");
    cfg.offset = BYTES;
    assert_refused(disk_open(&cfg, &d, &e), EINVAL, e, "do not lie within");
    cfg.offset = 512;
    cfg.size = BYTES;
    assert_refused(disk_open(&cfg, &d, &e), EINVAL, e, "do not lie within");
    cfg = (struct disk_config){.path = "/no/such/disk"};
    assert_refused(disk_open(&cfg, &d, &e), ENOENT, e, "ring3 disk create");
    cfg.path = "/tmp";
    cfg.read_only = true;
    assert_refused(disk_open(&cfg, &d, &e), EINVAL, e, "neither a file");
    cfg = (struct disk_config){.path = path};
    d = open_disk(&cfg);
    assert_refused(disk_open(&cfg, &other, &e), EBUSY, e, "in use");
    cfg.read_only = true;
    assert_refused(disk_open(&cfg, &other, &e), EBUSY, e, "in use");
    assert_int_equal(disk_close(d), 0);
    d = open_disk(&cfg);
    other = open_disk(&cfg); /* two readers */
    assert_int_equal(disk_writev(d, 0, NULL, 0), -EROFS);
    assert_int_equal(disk_discard(d, 0, 1), -EROFS);
    assert_int_equal(disk_write_zeroes(d, 0, 1, true), -EROFS);
    assert_int_equal(disk_close(d), 0);
    assert_int_equal(disk_close(other), 0);
}

/* What is discarded gives its blocks back, and an odd tail of the file is not part of the disk. */
static void holes(void **state)
{
    u8 *data = malloc(BYTES);
    struct disk *d;
    struct stat st;

    assert_int_equal(truncate(path, BYTES + 100), 0);
    d = open_disk(&(struct disk_config){.format = DISK_RAW});
    assert_int_equal(disk_bytes(d), BYTES);
    memset(data, 1, BYTES);
    assert_int_equal(disk_writev(d, 0, &(struct iovec){data, BYTES}, 1), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_blocks * 512 >= (off_t)BYTES);
    assert_int_equal(disk_discard(d, 0, BYTES), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_blocks * 512 < (off_t)BYTES / 4);
    assert_int_equal(disk_close(d), 0);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(raw, setup, teardown),
        cmocka_unit_test_setup_teardown(beyond, setup, teardown),
        cmocka_unit_test_setup_teardown(slice, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(holes, setup, teardown),
    };

    return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
