/* test_aio.c - asynchronous disk requests by every way they can take */
#include "unit.h"

#include <stdio.h>

#include "fake_disk.h"
#include "host/disk/aio.h"

#define DISK_BYTES (4 * MiB)

static const char *const modes[] = {"auto", "uring", "threads"};

struct world {
    struct disk *disk;
    struct loop *loop;
    struct aio *aio;
    unsigned batches, done;
};

static void batch_done(void *arg)
{
    ((struct world *)arg)->batches++;
}

/* False when the host has no such way. */
static bool open_world(struct world *w, const char *mode, u64 run)
{
    struct err e = {0};
    int rc;

    *w = (struct world){.disk = fake_disk(DISK_BYTES, run)};
    setenv("RING3_AIO", mode, 1);
    assert_ok(loop_create(&w->loop, NULL, &e), e);
    rc = aio_create(&w->aio, w->disk, w->loop, batch_done, w, &e);
    if (rc && !strcmp(mode, "uring")) {
        fprintf(stderr, "# SKIP %s\n", e.msg);
        loop_destroy(w->loop);
        fake_disk_free(w->disk);
        return false;
    }
    assert_ok(rc, e);
    return true;
}

static void close_world(struct world *w)
{
    aio_destroy(w->aio);
    loop_destroy(w->loop);
    fake_disk_free(w->disk);
}

struct test_req {
    struct aio_req io;
    struct world *w;
    struct iovec iov[8];
    int rc; /* 1: not done */
};

static void done(struct aio_req *io, int rc)
{
    struct test_req *r = container_of(io, struct test_req, io);

    assert_int_equal(r->rc, 1);
    r->rc = rc;
    r->w->done++;
}

/* Splits the buffer into vectors of odd lengths. */
static void prepare(struct world *w, struct test_req *r, enum aio_op op, u64 off, u8 *buf, u64 len)
{
    unsigned n = 0;

    *r = (struct test_req){.w = w, .rc = 1};
    r->io = (struct aio_req){.op = op, .off = off, .len = len, .iov = r->iov, .done = done};
    while (buf && len) {
        u64 step = n == 7 ? len : MIN(len, 1 + 997ull * n * n);
        r->iov[n++] = (struct iovec){buf, step};
        buf += step;
        len -= step;
    }
    r->io.n = (int)n;
}

static int perform(struct world *w, enum aio_op op, u64 off, u8 *buf, u64 len)
{
    struct test_req r;

    prepare(w, &r, op, off, buf, len);
    aio_submit(w->aio, &r.io);
    aio_drain(w->aio);
    return r.rc;
}

static void fill(u8 *buf, u64 len, unsigned seed)
{
    for (u64 i = 0; i < len; i++)
        buf[i] = (u8)((i * 7 + i / 256 + seed) ^ seed >> 3);
}

/* Ranges of any alignment over runs, holes and their borders. */
static void transfers(const char *mode, u64 run, bool holes)
{
    static const u64 ranges[][2] = {{0, 512},          {512, 4096},    {4096, 65536},
                                    {0, DISK_BYTES},   {12345, 54321}, {1 * MiB - 1, 2},
                                    {DISK_BYTES, 0},   {3 * MiB, MiB}, {DISK_BYTES - 1, 1},
                                    {2 * MiB - 8, 16}, {100, 0}};
    u8 *out = malloc(DISK_BYTES), *in = malloc(DISK_BYTES);
    struct world w;

    assert_true(out && in);
    if (open_world(&w, mode, run)) {
        w.disk->holes = holes;
        for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
            u64 off = ranges[i][0], len = ranges[i][1];

            fill(out, len, (unsigned)i * 31);
            assert_int_equal(perform(&w, AIO_WRITE, off, out, len), 0);
            assert_true(pread(w.disk->fd, in, len, (off_t)off) == (ssize_t)len);
            assert_memory_equal(in, out, len);
            memset(in, 0, len);
            assert_int_equal(perform(&w, AIO_READ, off, in, len), 0);
            assert_memory_equal(in, out, len);
        }
        assert_int_equal(w.disk->maps, 0);
        assert_true(holes || !strcmp(mode, "threads") || w.disk->reads == 0);
        close_world(&w);
    }
    free(out);
    free(in);
}

static void test_transfers(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        transfers(modes[i], DISK_BYTES, false);
        transfers(modes[i], 65536, true);
        transfers(modes[i], 5000, true);
    }
}

static void test_other_requests(void **state)
{
    static u8 buf[65536], zero[65536];

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct world w;

        if (!open_world(&w, modes[i], DISK_BYTES))
            continue;
        fill(buf, sizeof(buf), 1);
        assert_int_equal(perform(&w, AIO_WRITE, 0, buf, sizeof(buf)), 0);
        assert_int_equal(perform(&w, AIO_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(w.disk->flushes, 1);
        assert_int_equal(perform(&w, AIO_WRITE_ZEROES, 4096, NULL, 4096), 0);
        assert_int_equal(perform(&w, AIO_DISCARD, 8192, NULL, 512), 0);
        assert_int_equal(perform(&w, AIO_READ, 4096, buf, 4096 + 512), 0);
        assert_memory_equal(buf, zero, 4096 + 512);
        assert_int_equal(perform(&w, AIO_DISCARD, 8192, NULL, 0), 0);
        close_world(&w);
    }
}

static void test_refused(void **state)
{
    static u8 buf[4096];

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct world w;

        if (!open_world(&w, modes[i], DISK_BYTES))
            continue;
        for (enum aio_op op = AIO_READ; op <= AIO_WRITE_ZEROES; op++) {
            if (op == AIO_FLUSH)
                continue;
            assert_int_equal(perform(&w, op, DISK_BYTES - 512, buf, 1024), -EINVAL);
            assert_int_equal(perform(&w, op, ~0ull - 100, buf, 512), -EINVAL);
            assert_int_equal(perform(&w, op, DISK_BYTES + 1, buf, 1), -EINVAL);
        }
        w.disk->read_only = true;
        assert_int_equal(perform(&w, AIO_WRITE, 0, buf, 512), -EROFS);
        assert_int_equal(perform(&w, AIO_DISCARD, 0, NULL, 512), -EROFS);
        assert_int_equal(perform(&w, AIO_WRITE_ZEROES, 0, NULL, 512), -EROFS);
        assert_int_equal(perform(&w, AIO_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(w.disk->writes + w.disk->erases, 0);
        close_world(&w);
    }
    setenv("RING3_AIO", "magic", 1);
    struct disk *d = fake_disk(512, 512);
    struct loop *l;
    struct aio *a;
    struct err e = {0};
    assert_ok(loop_create(&l, NULL, &e), e);
    assert_refused(aio_create(&a, d, l, NULL, NULL, &e), EINVAL, e, "RING3_AIO");
    loop_destroy(l);
    fake_disk_free(d);
}

/* Each call of the host fails once: the request says so, and the next one works. */
static void test_host_errors(void **state)
{
    static u8 buf[8192];

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct world w;
        int full = open("/dev/full", O_RDWR | O_CLOEXEC);
        int dir = open("/", O_RDONLY | O_CLOEXEC);

        assert_true(full >= 0 && dir >= 0);
        if (!open_world(&w, modes[i], DISK_BYTES))
            continue;
        if (strcmp(modes[i], "threads")) {
            w.disk->map_fd = full;
            assert_int_equal(perform(&w, AIO_WRITE, 0, buf, 8192), -ENOSPC);
            assert_int_equal(perform(&w, AIO_WRITE, 512, buf, 512), -ENOSPC);
            w.disk->map_fd = dir;
            assert_int_equal(perform(&w, AIO_READ, 0, buf, 8192), -EISDIR);
            w.disk->map_fd = w.disk->fd;
        }
        w.disk->no_map = true;
        w.disk->fail_read = w.disk->fail_write = w.disk->fail_flush = EIO;
        w.disk->fail_discard = ENOSPC;
        assert_int_equal(perform(&w, AIO_READ, 0, buf, 8192), -EIO);
        assert_int_equal(perform(&w, AIO_WRITE, 0, buf, 8192), -EIO);
        assert_int_equal(perform(&w, AIO_FLUSH, 0, NULL, 0), -EIO);
        assert_int_equal(perform(&w, AIO_DISCARD, 0, NULL, 512), -ENOSPC);
        assert_int_equal(perform(&w, AIO_READ, 0, buf, 8192), 0);
        assert_int_equal(perform(&w, AIO_WRITE, 0, buf, 8192), 0);
        assert_int_equal(perform(&w, AIO_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(perform(&w, AIO_DISCARD, 0, NULL, 512), 0);
        close_world(&w);
        close(full);
        close(dir);
    }
}

/* What is mapped but not in the file any more is for the blocking call to judge. */
static void test_file_too_short(void **state)
{
    static u8 buf[8192];

    for (size_t i = 0; i < 2; i++) {
        struct world w;

        if (!open_world(&w, modes[i], DISK_BYTES))
            continue;
        assert_int_equal(ftruncate(w.disk->fd, 4096), 0);
        assert_int_equal(perform(&w, AIO_READ, 0, buf, 8192), -EIO);
        assert_int_equal(w.disk->reads, 1);
        assert_int_equal(w.disk->maps, 0);
        close_world(&w);
    }
}

#define MANY      300
#define MANY_STEP (DISK_BYTES / MANY / 512 * 512)

static void stop_when_done(struct aio_req *io, int rc)
{
    struct test_req *r = container_of(io, struct test_req, io);

    done(io, rc);
    if (r->w->done == MANY)
        loop_stop(r->w->loop);
}

/* Many at once, with the loop running: each done once, and its bytes are right. */
static void run_many(struct world *w, struct test_req *r, u8 *buf, enum aio_op op)
{
    w->done = w->batches = 0;
    for (unsigned i = 0; i < MANY; i++) {
        prepare(w, &r[i], op, i * MANY_STEP, buf + i * MANY_STEP, MANY_STEP);
        r[i].io.done = stop_when_done;
        aio_submit(w->aio, &r[i].io);
    }
    aio_kick(w->aio);
    assert_true(w->done == MANY || aio_in_flight(w->aio));
    assert_int_equal(loop_run(w->loop), 0);
    assert_int_equal(w->done, MANY);
    assert_int_equal(aio_in_flight(w->aio), 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(r[i].rc, 0);
}

static void test_many(void **state)
{
    struct test_req *r = calloc(MANY, sizeof(*r));
    u8 *out = malloc(DISK_BYTES), *in = calloc(1, DISK_BYTES);

    assert_true(r && out && in);
    fill(out, DISK_BYTES, 77);
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct world w;

        if (!open_world(&w, modes[i], 65536))
            continue;
        w.disk->holes = true;
        w.disk->delay_us = 100;
        memset(in, 0, DISK_BYTES);
        run_many(&w, r, out, AIO_WRITE);
        run_many(&w, r, in, AIO_READ);
        assert_true(w.batches > 0);
        assert_memory_equal(in, out, MANY * MANY_STEP);
        close_world(&w);
    }
    free(r);
    free(out);
    free(in);
}

/* What is in flight when the machine ends is finished. */
static void test_destroy_drains(void **state)
{
    static u8 buf[4096];

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct test_req r[8];
        struct world w;

        if (!open_world(&w, modes[i], DISK_BYTES))
            continue;
        w.disk->delay_us = 2000;
        for (unsigned k = 0; k < 8; k++) {
            prepare(&w, &r[k], k & 1 ? AIO_FLUSH : AIO_READ, 0, k & 1 ? NULL : buf,
                    k & 1 ? 0 : 4096);
            aio_submit(w.aio, &r[k].io);
        }
        close_world(&w);
        for (unsigned k = 0; k < 8; k++)
            assert_int_equal(r[k].rc, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transfers),      cmocka_unit_test(test_other_requests),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_host_errors),
        cmocka_unit_test(test_file_too_short), cmocka_unit_test(test_many),
        cmocka_unit_test(test_destroy_drains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
