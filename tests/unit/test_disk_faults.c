/* test_disk_faults.c - the host fails, or ring3 dies, at each write of a qcow2 file in turn */
#include "unit.h"

#include <stdio.h>
#include <sys/uio.h>

#include "disk_files.h"
#include "host/disk/disk.h"
#include "host/disk/image.h"

#define BYTES  (96 * KiB)
#define BASE   (40 * KiB)
#define ROUNDS 60
#define CALLS  4000 /* more than any run makes */

/* ---- the host: linked in front of libc's (--wrap) ---- */

static struct {
    unsigned calls, at; /* the at-th call fails, 0: none */
    int code;
    bool stay; /* and all after it: for the file it is as if the monitor was killed there */
    bool half; /* the first failing write does a part before */
} host;

static bool fails(void)
{
    host.calls++;
    return host.at && (host.calls == host.at || (host.stay && host.calls > host.at));
}

ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off);
int __wrap_fdatasync(int fd);
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);
int __real_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len);

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off)
{
    bool first = host.calls + 1 == host.at;

    if (!fails())
        return __real_pwritev64(fd, iov, n, off);
    if (first && host.half && iov[0].iov_len >= 1024)
        (void)!__real_pwritev64(fd, &(struct iovec){iov[0].iov_base, 512}, 1, off);
    errno = host.code;
    return -1;
}

static int failed(void)
{
    errno = host.code;
    return -1;
}

int __wrap_fdatasync(int fd)
{
    return fails() ? failed() : 0; /* a kill loses nothing that a sync would have saved */
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
    return fails() ? failed() : __real_fallocate64(fd, mode, off, len);
}

int __wrap_ftruncate64(int fd, off_t len)
{
    return fails() ? failed() : __real_ftruncate64(fd, len);
}

/* ---- the work ---- */

static int teardown(void **state)
{
    return remove_files();
}

static void make(u64 cluster, bool over)
{
    struct image_config cfg = {
        .path = image, .format = DISK_QCOW2, .bytes = BYTES, .cluster = cluster};
    struct err e = {0};

    unlink(image);
    if (over) {
        FILE *f = fopen(base, "w");

        assert_non_null(f);
        for (unsigned i = 0; i < BASE; i++)
            fputc((int)(i / 512 % 251 + 1), f);
        assert_int_equal(fclose(f), 0);
        cfg.backing = "base";
        cfg.backing_format = DISK_RAW;
    }
    assert_ok(image_create(&cfg, &e), e);
}

static struct disk *reopen(void)
{
    struct disk *d = NULL;
    struct err e = {0};

    assert_ok(disk_open(&(struct disk_config){.path = image}, &d, &e), e);
    return d;
}

/* Whether the range is known at all: a request that failed leaves it undefined. */
static void compare(struct disk *d, const u8 *want, const bool *known)
{
    static u8 got[BYTES];

    assert_int_equal(disk_readv(d, 0, &(struct iovec){got, BYTES}, 1), 0);
    for (u64 i = 0; i < BYTES; i++)
        if (known[i] && got[i] != want[i])
            fail_msg("call %u of the host (%s): byte %llu is %#x, not %#x", host.at,
                     strerror(host.code), (unsigned long long)i, got[i], want[i]);
}

/* The same requests each time. Those that succeed are in `want`. */
static void work(struct disk *d, u8 *want, bool *known)
{
    static u8 buf[BYTES];
    unsigned seed = 5;

    for (unsigned i = 0; i < ROUNDS; i++) {
        u64 off = (u64)rand_r(&seed) % BYTES;
        u64 len = 1 + (u64)rand_r(&seed) % MIN(BYTES - off, 12000);
        int rc = 0, value = 0;

        switch (rand_r(&seed) % 5) {
        case 0: rc = disk_write_zeroes(d, off, len, true); break;
        case 1:
            rc = disk_flush(d);
            len = 0;
            break;
        default:
            value = (int)(i + 1);
            memset(buf, value, len);
            rc = disk_writev(d, off, &(struct iovec){buf, len}, 1);
        }
        if (!rc)
            memset(want + off, value, len);
        for (u64 k = 0; k < len; k++)
            known[off + k] = !rc;
    }
}

static void assert_mended(bool leaks_allowed)
{
    struct image_info info;
    struct err e = {0};

    assert_ok(image_examine(image, DISK_AUTO, &info, &e), e);
    if (info.errors || (info.leaks && !leaks_allowed))
        fail_msg("call %u of the host (%s): %llu errors, %llu leaks: %s", host.at,
                 strerror(host.code), (unsigned long long)info.errors,
                 (unsigned long long)info.leaks, info.problem);
}

/* One run; false when it was over before the fault came. */
static bool run(u64 cluster, bool over)
{
    static u8 want[BYTES];
    static bool known[BYTES];
    struct disk *d;
    unsigned at = host.at, calls;
    int rc;

    host.at = 0;
    make(cluster, over);
    d = reopen();
    assert_int_equal(disk_readv(d, 0, &(struct iovec){want, BYTES}, 1), 0);
    memset(known, true, sizeof(known));
    host.calls = 0;
    host.at = at;
    work(d, want, known);
    compare(d, want, known);
    rc = disk_close(d);
    calls = host.calls;
    if (host.stay && calls >= at)
        assert_true(rc < 0);
    host.at = 0;
    if (!host.stay)
        assert_mended(true);
    d = reopen();
    host.at = at;
    compare(d, want, known);
    host.at = 0;
    assert_int_equal(disk_close(d), 0);
    host.at = at;
    assert_mended(!host.stay);
    return calls >= at;
}

static void each_call(u64 cluster, bool over, int code, bool stay, bool half)
{
    unsigned at = 1;

    memset(&host, 0, sizeof(host));
    host.code = code;
    host.stay = stay;
    host.half = half;
    for (host.at = at; run(cluster, over) && at < CALLS; host.at = at)
        at += at < 60 ? 1 : 5;
    assert_in_range(at, 60, CALLS - 1);
}

static void io_error(void **state)
{
    each_call(512, false, EIO, false, false);
    each_call(4096, true, EIO, false, true);
}

static void no_space(void **state)
{
    each_call(512, true, ENOSPC, false, true);
    each_call(4096, false, ENOSPC, false, false);
}

static void no_space_from_then_on(void **state)
{
    each_call(1024, true, ENOSPC, true, true);
}

/* Killed there: what was acknowledged is in the file, and opening it for writing mends it. */
static void killed(void **state)
{
    each_call(512, true, EIO, true, false);
    each_call(4096, false, EIO, true, true);
    each_call(16384, true, EIO, true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(io_error, setup, teardown),
        cmocka_unit_test_setup_teardown(no_space, setup, teardown),
        cmocka_unit_test_setup_teardown(no_space_from_then_on, setup, teardown),
        cmocka_unit_test_setup_teardown(killed, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
