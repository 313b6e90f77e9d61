/* test_disk_power.c - the power fails at any write of a qcow2 file
 *
 * All that is done to the image's file is recorded. A cut after call k leaves everything before the
 * last sync before k; of what came since then, any calls and any 512-byte sectors of them, in any
 * mixture. Such a file must have no errors (leaks at most, and none once a file of version 3 was
 * opened for writing), and each sector holds what it held at the guest's last flush before the cut,
 * or something that was written to it later.
 */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "disk_files.h"
#include "host/disk/disk.h"
#include "host/disk/image.h"

#define SECTOR   512u
#define SECTORS  400u
#define BYTES    (SECTORS * SECTOR)
#define BASE     (150u * SECTOR)
#define CALLS    6000u
#define WRITES   600u /* of one sector */
#define BLOCK    (64 * KiB)
#define FILE_MAX (10 * MiB)

/* ---- the record: linked in front of libc's (--wrap) ---- */

static struct {
    bool on;
    unsigned n;
    u64 base_bytes; /* the file as it was when the record began */
    u8 *base;
    struct call {
        enum { WRITE, ZERO, SIZE, SYNC } what;
        u64 off, len;
        u8 *data;
    } call[CALLS];
} rec;

static u8 disk_now[FILE_MAX];

static struct call *add(int what, u64 off, u64 len)
{
    struct call *c = &rec.call[rec.n++];

    assert_true(rec.n < CALLS);
    *c = (struct call){.what = what, .off = off, .len = len};
    return c;
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
    ssize_t done = __real_pwritev64(fd, iov, n, off);

    if (rec.on && done > 0) {
        struct call *c = add(WRITE, (u64)off, (u64)done);
        u64 at = 0;

        c->data = malloc((size_t)done);
        assert_non_null(c->data);
        for (int i = 0; i < n && at < c->len; at += iov[i++].iov_len)
            memcpy(c->data + at, iov[i].iov_base, MIN(iov[i].iov_len, c->len - at));
    }
    return done;
}

int __wrap_fdatasync(int fd)
{
    if (rec.on)
        add(SYNC, 0, 0);
    return 0;
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
    int rc = __real_fallocate64(fd, mode, off, len);

    if (rec.on && !rc) /* punched holes and zeroed ranges, that do not change the size */
        add(ZERO, (u64)off, (u64)len);
    return rc;
}

int __wrap_ftruncate64(int fd, off_t len)
{
    int rc = __real_ftruncate64(fd, len);

    if (rec.on && !rc)
        add(SIZE, 0, (u64)len);
    return rc;
}

static void forget(void)
{
    for (unsigned i = 0; i < rec.n; i++)
        free(rec.call[i].data);
    free(rec.base);
    memset(&rec, 0, sizeof(rec));
}

/* ---- the guest ---- */

/* What each sector may hold: a list of stamps, oldest first, and where the record was when the
 * request began. Stamp 0: zeros. */
static struct {
    unsigned n[SECTORS];
    struct {
        u32 stamp;
        unsigned call;
    } w[SECTORS][WRITES];
    unsigned flushes, flush_call[CALLS];   /* where the record was when a flush had ended */
    unsigned flush_n[CALLS / 16][SECTORS]; /* writes of each sector when it began */
} past;


static u32 base_stamp(u64 sector)
{
    return sector < BASE / SECTOR ? 0x80000000u | (u32)sector : 0;
}

static void stamp(u8 *p, u32 value)
{
    for (unsigned i = 0; i < SECTOR; i += 4)
        memcpy(p + i, &value, 4);
}

static void note(u64 sector, u32 value)
{
    unsigned n = past.n[sector]++;

    assert_true(n < WRITES);
    past.w[sector][n].stamp = value;
    past.w[sector][n].call = rec.n;
}

static void note_flush(const unsigned *before)
{
    assert_true(past.flushes < CALLS / 16);
    memcpy(past.flush_n[past.flushes], before, sizeof(past.n));
    past.flush_call[past.flushes++] = rec.n;
}

static void work(struct disk *d, unsigned seed, unsigned rounds)
{
    static u8 buf[BYTES];
    unsigned before[SECTORS];

    for (unsigned i = 1; i <= rounds; i++) {
        u64 at = (u64)rand_r(&seed) % SECTORS, n = 1 + (u64)rand_r(&seed) % MIN(SECTORS - at, 40);
        int rc;

        switch (rand_r(&seed) % 8) {
        case 0:
        case 1:
            for (u64 k = at; k < at + n; k++)
                note(k, 0);
            rc = disk_write_zeroes(d, at * SECTOR, n * SECTOR, true);
            break;
        case 2:
            memcpy(before, past.n, sizeof(before));
            rc = disk_flush(d);
            note_flush(before);
            break;
        default:
            for (u64 k = 0; k < n; k++) {
                note(at + k, i << 12 | (u32)k);
                stamp(buf + k * SECTOR, i << 12 | (u32)k);
            }
            rc = disk_writev(d, at * SECTOR, &(struct iovec){buf, n * SECTOR}, 1);
        }
        assert_int_equal(rc, 0);
    }
}

/* ---- files ---- */

static void to_version_2(void)
{
    u8 h[112] = {0};
    FILE *f = fopen(image, "r+");

    assert_non_null(f);
    assert_int_equal(fread(h, sizeof(h), 1, f), 1);
    h[7] = 2;
    memset(h + 72, 0, sizeof(h) - 72);
    rewind(f);
    assert_int_equal(fwrite(h, sizeof(h), 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

static void make(u64 cluster, bool over, unsigned version)
{
    struct image_config cfg = {
        .path = image, .format = DISK_QCOW2, .bytes = BYTES, .cluster = cluster};
    struct err e = {0};
    u8 sector[SECTOR];

    unlink(image);
    if (over) {
        FILE *f = fopen(base, "w");

        assert_non_null(f);
        for (u64 i = 0; i < BASE / SECTOR; i++) {
            stamp(sector, base_stamp(i));
            assert_int_equal(fwrite(sector, SECTOR, 1, f), 1);
        }
        assert_int_equal(fclose(f), 0);
        cfg.backing = "base";
        cfg.backing_format = DISK_RAW;
    }
    assert_ok(image_create(&cfg, &e), e);
    if (version == 2)
        to_version_2();
}

static unsigned table_clusters(void)
{
    u8 h[60] = {0};
    FILE *f = fopen(image, "r");

    assert_non_null(f);
    assert_int_equal(fread(h, sizeof(h), 1, f), 1);
    fclose(f);
    return h[58] * 256u + h[59];
}

static struct disk *open_disk(void)
{
    struct disk *d = NULL;
    struct err e = {0};

    assert_ok(disk_open(&(struct disk_config){.path = image, .format = DISK_QCOW2}, &d, &e), e);
    return d;
}

static void begin_record(void)
{
    FILE *f = fopen(image, "r");
    struct stat st;

    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    rec.base_bytes = (u64)st.st_size;
    rec.base = malloc(rec.base_bytes);
    assert_non_null(rec.base);
    assert_int_equal(fread(rec.base, rec.base_bytes, 1, f), 1);
    fclose(f);
    rec.on = true;
}

/* ---- cuts ---- */

static void apply(const struct call *c, u64 *bytes, unsigned *seed, bool whole)
{
    u64 end = c->off + c->len;

    if (c->what == SIZE && (whole || rand_r(seed) % 2)) {
        if (c->len < MIN(*bytes, FILE_MAX))
            memset(disk_now + c->len, 0, MIN(*bytes, FILE_MAX) - c->len);
        *bytes = c->len;
    }
    if (c->what != WRITE && c->what != ZERO)
        return;
    if (!whole && rand_r(seed) % 3 == 0)
        return; /* all of it is lost */
    for (u64 at = c->off, step; at < end; at += step) {
        step = MIN(SECTOR - at % SECTOR, end - at);
        if ((!whole && rand_r(seed) % 3 == 0) || (c->what == ZERO && at >= *bytes))
            continue;
        assert_true(at + step <= FILE_MAX);
        if (c->what == WRITE)
            memcpy(disk_now + at, c->data + (at - c->off), step);
        else
            memset(disk_now + at, 0, step);
        if (c->what == WRITE)
            *bytes = MAX(*bytes, at + step);
    }
}

static void cut(unsigned k, unsigned seed)
{
    unsigned synced = 0;
    u64 bytes = rec.base_bytes;
    int fd;

    memset(disk_now, 0, FILE_MAX);
    memcpy(disk_now, rec.base, rec.base_bytes);
    for (unsigned i = 0; i < k; i++)
        if (rec.call[i].what == SYNC)
            synced = i;
    for (unsigned i = 0; i < k; i++)
        apply(&rec.call[i], &bytes, &seed, i < synced);
    fd = open(image, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    for (u64 at = 0; at < MIN(bytes, FILE_MAX); at += BLOCK) {
        u64 len = MIN(BLOCK, MIN(bytes, FILE_MAX) - at);

        if (disk_now[at] || memcmp(disk_now + at, disk_now + at + 1, len - 1) != 0)
            assert_int_equal(pwrite(fd, disk_now + at, len, (off_t)at), len);
    }
    assert_int_equal(__real_ftruncate64(fd, (off_t)bytes), 0);
    close(fd);
}

static void assert_no_errors(unsigned k, bool leaks_allowed)
{
    struct image_info info;
    struct err e = {0};

    assert_ok(image_examine(image, DISK_AUTO, &info, &e), e);
    if (info.errors || (info.leaks && !leaks_allowed))
        fail_msg("power cut at call %u: %llu errors, %llu leaks: %s", k,
                 (unsigned long long)info.errors, (unsigned long long)info.leaks, info.problem);
}

/* Whether the sector may hold this after a cut at call k. */
static bool may_hold(u64 sector, u32 value, unsigned k, bool over)
{
    unsigned from = 0;

    for (unsigned i = 0; i < past.flushes && past.flush_call[i] <= k; i++)
        from = past.flush_n[i][sector];
    if (!from && value == (over ? base_stamp(sector) : 0))
        return true;
    for (unsigned i = from ? from - 1 : 0; i < past.n[sector]; i++)
        if (past.w[sector][i].stamp == value && past.w[sector][i].call <= k)
            return true;
    return false;
}

static void compare(struct disk *d, unsigned k, bool over)
{
    static u8 got[BYTES];
    u8 want[SECTOR];
    u32 value;

    assert_int_equal(disk_readv(d, 0, &(struct iovec){got, BYTES}, 1), 0);
    for (u64 s = 0; s < SECTORS; s++) {
        memcpy(&value, got + s * SECTOR, 4);
        stamp(want, value);
        assert_memory_equal(got + s * SECTOR, want, SECTOR);
        if (!may_hold(s, value, k, over))
            fail_msg("power cut at call %u: sector %llu holds %#x", k, (unsigned long long)s,
                     value);
    }
}

static void after_cut(unsigned k, bool over, unsigned version)
{
    struct disk *d;

    if (version == 2) /* nothing says that it was not closed: it must be right as it is */
        assert_no_errors(k, true);
    d = open_disk();
    compare(d, k, over);
    assert_int_equal(disk_close(d), 0);
    assert_no_errors(k, version == 2);
}

/* With `tail` the file already reaches to where the refcount table ends, so that it has to grow. */
static void cuts(u64 cluster, bool over, unsigned version, u64 tail)
{
    const char *more = getenv("RING3_POWER_CUTS");
    unsigned tries = more ? (unsigned)atoi(more) : 25, seed = 11 + (unsigned)cluster + version;
    struct disk *d;

    memset(&past, 0, sizeof(past));
    make(cluster, over, version);
    if (tail)
        assert_int_equal(truncate(image, (off_t)tail), 0);
    begin_record();
    d = open_disk();
    work(d, seed, 150);
    assert_int_equal(disk_close(d), 0);
    rec.on = false;
    assert_true(!tail || table_clusters() > 1);
    for (unsigned i = 0; i < tries; i++) {
        unsigned k = (unsigned)rand_r(&seed) % (rec.n + 1);

        cut(k, seed);
        after_cut(k, over, version);
    }
    forget();
}

static void version_3(void **state)
{
    cuts(512, false, 3, 0);
    cuts(4096, false, 3, 0);
    cuts(16384, false, 3, 0);
}

static void version_3_over_a_backing_file(void **state)
{
    cuts(512, true, 3, 0);
    cuts(4096, true, 3, 0);
    cuts(16384, true, 3, 0);
}

static void version_2(void **state)
{
    cuts(512, false, 2, 0);
    cuts(4096, false, 2, 0);
}

static void version_2_over_a_backing_file(void **state)
{
    cuts(512, true, 2, 0);
    cuts(16384, true, 2, 0);
}

/* One cluster of table: 64 blocks of 256 counters. */
static void growing_table(void **state)
{
    cuts(512, false, 3, (64 * 256 - 30) * 512);
    cuts(512, true, 2, (64 * 256 - 30) * 512);
}

static int teardown(void **state)
{
    forget();
    return remove_files();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(version_3, setup, teardown),
        cmocka_unit_test_setup_teardown(version_3_over_a_backing_file, setup, teardown),
        cmocka_unit_test_setup_teardown(version_2, setup, teardown),
        cmocka_unit_test_setup_teardown(version_2_over_a_backing_file, setup, teardown),
        cmocka_unit_test_setup_teardown(growing_table, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
