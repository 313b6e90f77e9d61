/* test_disk.c - raw disks, slices of them, and what opening refuses */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "host/disk/disk.h"
#include "host/disk/image.h"

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

/* Two halves of one file have two writers; whoever overlaps them waits. */
static void slices_of_two(void **state)
{
    struct disk_config cfg = {.path = path, .format = DISK_RAW, .size = BYTES / 2};
    struct disk *a = open_disk(&cfg), *b, *c;
    struct err e = {0};

    cfg.offset = BYTES / 2;
    b = open_disk(&cfg);
    cfg.offset = BYTES / 4;
    assert_refused(disk_open(&cfg, &c, &e), EBUSY, e, "in use");
    assert_int_equal(disk_close(a), 0);
    assert_int_equal(disk_close(b), 0);
    c = open_disk(&cfg);
    assert_int_equal(disk_close(c), 0);
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

/* ---- qcow2 ---- */

static char image[80], base[80];

static void make_image(u64 cluster, const char *backing)
{
    struct image_config cfg = {
        .path = image,
        .format = DISK_QCOW2,
        .bytes = BYTES,
        .cluster = cluster,
        .backing = backing,
    };
    struct err e = {0};

    snprintf(image, sizeof(image), "%s.qcow2", path);
    assert_ok(image_create(&cfg, &e), e);
}

static void assert_clean(void)
{
    struct image_info info;
    struct err e = {0};

    assert_ok(image_examine(image, DISK_AUTO, &info, &e), e);
    if (info.errors || info.leaks)
        fail_msg("%llu errors, %llu leaks: %s", (unsigned long long)info.errors,
                 (unsigned long long)info.leaks, info.problem);
    assert_false(info.dirty);
}

static struct disk *open_image(bool snapshot)
{
    struct disk_config cfg = {.path = image, .snapshot = snapshot};
    struct disk *d = NULL;
    struct err e = {0};

    assert_ok(disk_open(&cfg, &d, &e), e);
    assert_int_equal(disk_format(d), DISK_QCOW2);
    return d;
}

static void qcow2(void **state)
{
    static const u64 clusters[] = {512, 4096, 65536, 2 * MiB};

    for (size_t i = 0; i < ARRAY_SIZE(clusters); i++) {
        make_image(clusters[i], NULL);
        for (unsigned round = 0; round < 3; round++) {
            struct disk *d = open_image(false);

            shadow(d, BYTES, clusters[i] > 65536 ? 200 : 1000);
            assert_int_equal(disk_close(d), 0);
            assert_clean();
        }
        assert_int_equal(unlink(image), 0);
    }
}

/* What is not written shows through, also from a shorter file below; the file below stays. */
static void backing(void **state)
{
    struct disk_config cfg = {.path = path, .format = DISK_RAW};
    u8 *below = malloc(BYTES / 2), *after = malloc(BYTES / 2);
    struct disk *d;
    struct err e = {0};

    memset(below, 0x77, BYTES / 2);
    assert_int_equal(truncate(path, BYTES / 2), 0);
    assert_ok(disk_open(&cfg, &d, &e), e);
    assert_int_equal(disk_writev(d, 0, &(struct iovec){below, BYTES / 2}, 1), 0);
    assert_int_equal(disk_close(d), 0);
    for (u64 cluster = 512; cluster <= 65536; cluster *= 128) {
        u8 byte = 0;

        make_image(cluster, path);
        d = open_image(false);
        assert_int_equal(disk_readv(d, BYTES / 2 - 1, &(struct iovec){&byte, 1}, 1), 0);
        assert_int_equal(byte, 0x77);
        assert_int_equal(disk_readv(d, BYTES / 2, &(struct iovec){&byte, 1}, 1), 0);
        assert_int_equal(byte, 0);
        shadow(d, BYTES, 1000);
        assert_int_equal(disk_close(d), 0);
        assert_clean();
        assert_int_equal(unlink(image), 0);
    }
    cfg.read_only = true;
    assert_ok(disk_open(&cfg, &d, &e), e);
    assert_int_equal(disk_readv(d, 0, &(struct iovec){after, BYTES / 2}, 1), 0);
    assert_memory_equal(after, below, BYTES / 2);
    assert_int_equal(disk_close(d), 0);
    free(below);
    free(after);
}

/* A snapshot takes all writes and leaves no trace. */
static void snapshot(void **state)
{
    struct disk *d;
    u8 byte = 9;

    make_image(4096, NULL);
    d = open_image(false);
    assert_int_equal(disk_writev(d, 5000, &(struct iovec){&byte, 1}, 1), 0);
    assert_int_equal(disk_close(d), 0);
    d = open_image(true);
    assert_int_equal(disk_readv(d, 5000, &(struct iovec){&byte, 1}, 1), 0);
    assert_int_equal(byte, 9);
    shadow(d, BYTES, 1000);
    assert_int_equal(disk_close(d), 0);
    d = open_image(false);
    assert_int_equal(disk_readv(d, 5000, &(struct iovec){&byte, 1}, 1), 0);
    assert_int_equal(byte, 9);
    assert_int_equal(disk_close(d), 0);
    assert_clean();
    assert_int_equal(unlink(image), 0);
}

/* An image that was not closed: its refcounts are put right when it is opened for writing. */
static void dirty(void **state)
{
    struct image_info info;
    struct disk *d;
    struct err e = {0};
    u8 byte = 3, zeros[2048] = {0};
    int fd, fd2;

    make_image(4096, NULL);
    d = open_image(false);
    assert_int_equal(disk_writev(d, 0, &(struct iovec){&byte, 1}, 1), 0);
    fd = open(image, O_RDONLY);
    snprintf(base, sizeof(base), "%s.copy", path);
    fd2 = open(base, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && fd2 >= 0);
    assert_true(copy_file_range(fd, NULL, fd2, NULL, 1 << 20, 0) > 0);
    close(fd);
    assert_int_equal(disk_close(d), 0);
    assert_int_equal(pwrite(fd2, zeros, sizeof(zeros), 2 * 4096), sizeof(zeros)); /* refcounts */
    close(fd2);
    assert_int_equal(rename(base, image), 0);
    assert_ok(image_examine(image, DISK_AUTO, &info, &e), e);
    assert_true(info.dirty && info.errors);
    d = open_image(false);
    assert_int_equal(disk_readv(d, 0, &(struct iovec){&byte, 1}, 1), 0);
    assert_int_equal(byte, 3);
    assert_int_equal(disk_close(d), 0);
    assert_clean();
    assert_int_equal(unlink(image), 0);
}

/* One byte of metadata after the other is changed: opening is refused or works, nothing crashes. */
static void mutated(void **state)
{
    struct disk *d;
    u8 buf[4096];
    int fd;

    make_image(512, NULL);
    d = open_image(false);
    shadow(d, BYTES, 100);
    assert_int_equal(disk_close(d), 0);
    fd = open(image, O_RDWR);
    for (unsigned at = 0; at < 8192; at += at < 128 ? 1 : 61) {
        struct disk_config cfg = {.path = image, .format = DISK_QCOW2};
        struct err e = {0};
        u8 was, now;

        assert_int_equal(pread(fd, &was, 1, at), 1);
        now = (u8)(was ^ (at % 2 ? 0x80 : 0xff));
        assert_int_equal(pwrite(fd, &now, 1, at), 1);
        if (disk_open(&cfg, &d, &e) == 0) {
            u64 bytes = MIN(disk_bytes(d), BYTES);

            for (u64 off = 0; off + sizeof(buf) <= bytes; off += 13 * 512) {
                (void)!disk_readv(d, off, &(struct iovec){buf, sizeof(buf)}, 1);
                (void)!disk_writev(d, off, &(struct iovec){buf, 700}, 1);
            }
            (void)!disk_close(d);
        } else {
            assert_true(e.msg[0]);
        }
        assert_int_equal(pwrite(fd, &was, 1, at), 1);
    }
    close(fd);
    assert_int_equal(unlink(image), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(raw, setup, teardown),
        cmocka_unit_test_setup_teardown(beyond, setup, teardown),
        cmocka_unit_test_setup_teardown(slice, setup, teardown),
        cmocka_unit_test_setup_teardown(slices_of_two, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(holes, setup, teardown),
        cmocka_unit_test_setup_teardown(qcow2, setup, teardown),
        cmocka_unit_test_setup_teardown(backing, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(dirty, setup, teardown),
        cmocka_unit_test_setup_teardown(mutated, setup, teardown),
    };

    return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
