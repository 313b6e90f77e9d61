/* test_virtio_blk.c - requests of a virtio disk, good and hostile, over a disk that can fail */
#include "unit.h"

#include "dev/virtio/blk.h"
#include "fake_disk.h"
#include "virtio_driver.h"

#define F_RO           5
#define F_FLUSH        9
#define F_CONFIG_WCE   11
#define F_DISCARD      13
#define F_WRITE_ZEROES 14

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NOTHING = 0xee };

#define DISK_BYTES (1 * MiB)
#define SECTORS    (DISK_BYTES / 512)
#define HEADER_GPA DRV_BUF_GPA
#define STATUS_GPA (DRV_BUF_GPA + 0x100)
#define DATA_GPA   (DRV_BUF_GPA + 0x1000)
#define ALL_FEATURES \
    (BIT64(F_FLUSH) | BIT64(F_CONFIG_WCE) | BIT64(F_DISCARD) | BIT64(F_WRITE_ZEROES))

struct world {
    struct drv drv;
    struct disk *disk;
    struct virtio_blk *blk;
};

static void open_world(struct world *w, bool read_only)
{
    struct err e = {0};

    memset(w, 0, sizeof(*w));
    drv_open(&w->drv);
    w->disk = fake_disk(DISK_BYTES, 65536);
    w->disk->read_only = read_only;
    w->disk->holes = true;
    assert_ok(
        virtio_blk_create(&(struct virtio_blk_config){w->disk, "serial-number-of-25-bytes", 2},
                          w->drv.mem, iothread_loop(w->drv.io), &w->blk, &e),
        e);
    drv_attach(&w->drv, virtio_blk_dev(w->blk));
}

static void close_world(struct world *w)
{
    drv_stop(&w->drv);
    virtio_blk_destroy(w->drv.dev);
    drv_close(&w->drv);
}

static void quiesce(void *arg)
{
    struct virtio_dev *d = arg;

    d->ops->quiesce(d);
}

/* Waits for what is in flight and takes one used entry; its written bytes. */
static u32 answer(struct world *w, unsigned q)
{
    u32 head, len = 0;

    iothread_call(w->drv.io, quiesce, w->drv.dev);
    assert_true(drv_used(&w->drv, q, &head, &len));
    return len;
}

static void put_header(struct world *w, u32 type, u64 sector)
{
    u32 head[4] = {type, 0, (u32)sector, (u32)(sector >> 32)};
    u8 nothing = NOTHING;

    drv_put(&w->drv, HEADER_GPA, head, sizeof(head));
    drv_put(&w->drv, STATUS_GPA, &nothing, 1);
}

static u8 status(struct world *w)
{
    u8 s;

    drv_get(&w->drv, STATUS_GPA, &s, 1);
    return s;
}

/* A request with `bytes` of data at DATA_GPA in the usual framing; its status. */
static u8 request(struct world *w, u32 type, u64 sector, u32 bytes)
{
    struct virtq_seg out[2] = {{HEADER_GPA, 16}, {DATA_GPA, bytes}};
    struct virtq_seg in[2] = {{DATA_GPA, bytes}, {STATUS_GPA, 1}};
    bool reads = type == IN || type == GET_ID;
    u32 len;

    put_header(w, type, sector);
    drv_chain(&w->drv, 0, out, bytes && !reads ? 2 : 1, bytes && reads ? in : in + 1,
              bytes && reads ? 2 : 1);
    drv_kick(&w->drv, 0);
    len = answer(w, 0);
    assert_true(len == 1 || (len == bytes + 1 && reads && status(w) == OK));
    return status(w);
}

static void fill(u8 *buf, u32 len, unsigned seed)
{
    for (u32 i = 0; i < len; i++)
        buf[i] = (u8)(i * 13 + i / 512 + seed);
}

static void test_read_and_write(void **state)
{
    static u8 out[256 * 1024], in[sizeof(out)];
    static const struct {
        u64 sector;
        u32 bytes;
    } ranges[] = {{0, 512}, {1, 4096}, {120, 65536}, {0, 262144}, {SECTORS - 1, 512}, {7, 0}};
    struct world w;

    open_world(&w, false);
    drv_start(&w.drv, ALL_FEATURES, 256);
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        u32 bytes = ranges[i].bytes;

        fill(out, bytes, (unsigned)i);
        drv_put(&w.drv, DATA_GPA, out, bytes);
        assert_int_equal(request(&w, OUT, ranges[i].sector, bytes), OK);
        assert_int_equal(mem_fill(w.drv.mem, DATA_GPA, 0, bytes), 0);
        assert_int_equal(request(&w, IN, ranges[i].sector, bytes), OK);
        drv_get(&w.drv, DATA_GPA, in, bytes);
        assert_memory_equal(in, out, bytes);
        assert_int_equal(pread(w.disk->fd, in, bytes, (off_t)ranges[i].sector * 512), bytes);
        assert_memory_equal(in, out, bytes);
    }
    assert_true(w.drv.signals > 0);
    assert_false(drv_needs_reset(&w.drv));
    close_world(&w);
}

/* 2.7.4.1: nothing is said about how the bytes are cut into pieces. */
static void test_any_framing(void **state)
{
    struct virtq_seg out[] = {
        {HEADER_GPA, 3}, {HEADER_GPA + 3, 0}, {HEADER_GPA + 3, 12}, {HEADER_GPA + 15, 1}};
    struct virtq_seg in[] = {{DATA_GPA, 511}, {DATA_GPA + 511, 1}, {DATA_GPA + 512, 513}};
    u8 data[1025];
    struct world w;

    open_world(&w, false);
    drv_start(&w.drv, 0, 64);
    fill(data, 1024, 9);
    assert_int_equal(pwrite(w.disk->fd, data, 1024, 512), 1024);
    put_header(&w, IN, 1);
    drv_chain(&w.drv, 0, out, 4, in, 3);
    drv_kick(&w.drv, 0);
    assert_int_equal(answer(&w, 0), 1025);
    u8 got[1025];
    drv_get(&w.drv, DATA_GPA, got, sizeof(got));
    assert_memory_equal(got, data, 1024);
    assert_int_equal(got[1024], OK);
    /* Header and data in one piece. */
    fill(data, 512, 77);
    u32 head[4] = {OUT, 0, 5, 0};
    drv_put(&w.drv, DATA_GPA, head, 16);
    drv_put(&w.drv, DATA_GPA + 16, data, 512);
    drv_chain(&w.drv, 0, &(struct virtq_seg){DATA_GPA, 528}, 1, &(struct virtq_seg){STATUS_GPA, 1},
              1);
    drv_kick(&w.drv, 0);
    assert_int_equal(answer(&w, 0), 1);
    assert_int_equal(status(&w), OK);
    assert_int_equal(pread(w.disk->fd, got, 512, 5 * 512), 512);
    assert_memory_equal(got, data, 512);
    close_world(&w);
}

static void test_hostile_ranges(void **state)
{
    struct world w;

    open_world(&w, false);
    drv_start(&w.drv, ALL_FEATURES, 64);
    for (u32 type = IN; type <= OUT; type++) {
        assert_int_equal(request(&w, type, SECTORS, 512), IOERR);
        assert_int_equal(request(&w, type, SECTORS - 1, 1024), IOERR);
        assert_int_equal(request(&w, type, ~0ull, 512), IOERR);
        assert_int_equal(request(&w, type, 1ull << 55, 512), IOERR);
        assert_int_equal(request(&w, type, 0, 511), IOERR);
        assert_int_equal(request(&w, type, 0, 513), IOERR);
    }
    assert_int_equal(request(&w, 2, 0, 512), UNSUPP);
    assert_int_equal(request(&w, 14, 0, 0), UNSUPP);
    assert_int_equal(request(&w, ~0u, 0, 0), UNSUPP);
    assert_int_equal(request(&w, IN, 0, 512), OK);
    assert_int_equal(w.disk->writes + w.disk->erases, 0);
    close_world(&w);
}

/* Data that is not memory, and status that is not. */
static void test_hostile_addresses(void **state)
{
    struct virtq_seg out = {HEADER_GPA, 16}, hole = {1ull << 40, 512}, st = {STATUS_GPA, 1};
    struct virtq_seg end = {DRV_RAM_BYTES - 8, 512}, wrap = {~0ull - 100, 512};
    struct virtq_seg *bad[] = {&hole, &end, &wrap};
    struct world w;

    open_world(&w, false);
    drv_start(&w.drv, ALL_FEATURES, 64);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct virtq_seg outs[2] = {out, *bad[i]}, ins[2] = {*bad[i], st};

        put_header(&w, IN, 0);
        drv_chain(&w.drv, 0, &out, 1, ins, 2);
        drv_kick(&w.drv, 0);
        assert_int_equal(answer(&w, 0), 1);
        assert_int_equal(status(&w), IOERR);
        put_header(&w, OUT, 0);
        drv_chain(&w.drv, 0, outs, 2, &st, 1);
        drv_kick(&w.drv, 0);
        answer(&w, 0);
        assert_int_equal(status(&w), IOERR);
        drv_chain(&w.drv, 0, &out, 1, bad[i], 1);
        drv_kick(&w.drv, 0);
        assert_int_equal(answer(&w, 0), 0);
        put_header(&w, IN, 0);
        drv_chain(&w.drv, 0, bad[i], 1, &st, 1);
        drv_kick(&w.drv, 0);
        answer(&w, 0);
        assert_int_equal(status(&w), IOERR);
    }
    assert_int_equal(request(&w, IN, 0, 4096), OK);
    close_world(&w);
}

/* More pieces than the limit that the device states. */
static void test_too_many_pieces(void **state)
{
    static struct virtq_seg in[400];
    struct world w;

    open_world(&w, false);
    for (unsigned i = 0; i < 400; i++)
        in[i] = (struct virtq_seg){DATA_GPA + 512 * i, 512};
    drv_start(&w.drv, 0, 256);
    in[254] = (struct virtq_seg){STATUS_GPA, 1};
    put_header(&w, IN, 0);
    drv_chain(&w.drv, 0, &(struct virtq_seg){HEADER_GPA, 16}, 1, in, 255);
    drv_kick(&w.drv, 0);
    assert_int_equal(answer(&w, 0), 254 * 512 + 1);
    assert_int_equal(status(&w), OK);
    /* A table of its own makes the chain longer than the queue. */
    drv_start(&w.drv, BIT64(VIRTIO_F_INDIRECT_DESC), 64);
    put_header(&w, IN, 0);
    for (unsigned i = 0; i < 300; i++) {
        struct {
            u64 addr;
            u32 len;
            u16 flags, next;
        } d = {i ? DATA_GPA + 512 * i : HEADER_GPA, i ? 512 : 16, (u16)(i ? 3 : 1), (u16)(i + 1)};

        if (i == 299) {
            d.addr = STATUS_GPA;
            d.len = 1;
            d.flags = 2;
        }
        drv_put(&w.drv, drv_ring(0) + 0xc000 + 16 * i, &d, sizeof(d));
    }
    drv_desc(&w.drv, 0, 0, drv_ring(0) + 0xc000, 300 * 16, 4, 0);
    drv_offer(&w.drv, 0, 0);
    drv_kick(&w.drv, 0);
    assert_int_equal(answer(&w, 0), 1);
    assert_int_equal(status(&w), IOERR);
    close_world(&w);
}

static void test_no_header_or_status(void **state)
{
    struct virtq_seg header = {HEADER_GPA, 16}, half = {HEADER_GPA, 15}, st = {STATUS_GPA, 1};
    struct virtq_seg empty = {STATUS_GPA, 0};
    struct {
        struct virtq_seg *out, *in;
    } cases[] = {{&header, NULL}, {NULL, &st}, {&half, &st}, {&header, &empty}};
    struct world w;

    open_world(&w, false);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        u32 head, len;

        drv_start(&w.drv, ALL_FEATURES, 64);
        put_header(&w, OUT, 0);
        drv_chain(&w.drv, 0, cases[i].out, cases[i].out != NULL, cases[i].in, cases[i].in != NULL);
        drv_kick(&w.drv, 0);
        assert_true(drv_needs_reset(&w.drv));
        assert_false(drv_used(&w.drv, 0, &head, &len));
    }
    /* A reset mends it. */
    drv_start(&w.drv, ALL_FEATURES, 64);
    assert_int_equal(request(&w, IN, 0, 512), OK);
    close_world(&w);
}

struct range {
    u64 sector;
    u32 sectors, flags;
};

static u8 ranges(struct world *w, u32 type, const struct range *r, unsigned n)
{
    drv_put(&w->drv, DATA_GPA, r, n * sizeof(*r));
    return request(w, type, 0, n * (u32)sizeof(*r));
}

static void test_discard_and_zeroes(void **state)
{
    static u8 data[65536], got[65536];
    struct range two[] = {{1, 2, 0}, {8, 8, 0}}, many[17] = {{0, 1, 0}};
    struct world w;

    open_world(&w, false);
    for (u32 type = DISCARD; type <= ZEROES; type += 2) {
        drv_start(&w.drv, ALL_FEATURES, 64);
        fill(data, sizeof(data), 5);
        assert_int_equal(pwrite(w.disk->fd, data, sizeof(data), 0), sizeof(data));
        assert_int_equal(ranges(&w, type, two, 2), OK);
        memset(data + 512, 0, 1024);
        memset(data + 4096, 0, 4096);
        assert_int_equal(pread(w.disk->fd, got, sizeof(got), 0), sizeof(got));
        assert_memory_equal(data, got, sizeof(got));

        unsigned before = w.disk->erases;
        assert_int_equal(ranges(&w, type, &(struct range){SECTORS, 1, 0}, 1), IOERR);
        assert_int_equal(ranges(&w, type, &(struct range){~0ull, 2, 0}, 1), IOERR);
        assert_int_equal(ranges(&w, type, &(struct range){0, ~0u, 0}, 1), IOERR);
        assert_int_equal(ranges(&w, type, &(struct range){0, 1, 2}, 1), UNSUPP);
        assert_int_equal(ranges(&w, type, &(struct range){0, 1, 1}, 1),
                         type == ZEROES ? OK : UNSUPP);
        assert_int_equal(ranges(&w, type, many, 17), IOERR);
        assert_int_equal(request(&w, type, 0, 0), IOERR);
        assert_int_equal(request(&w, type, 0, 15), IOERR);
        /* A bad range behind a good one: nothing happens. */
        two[1].sector = SECTORS;
        assert_int_equal(ranges(&w, type, two, 2), IOERR);
        two[1].sector = 8;
        assert_int_equal(w.disk->erases, before + (type == ZEROES));
        drv_start(&w.drv, BIT64(F_FLUSH), 64);
        assert_int_equal(ranges(&w, type, two, 2), UNSUPP);
    }
    close_world(&w);
}

static void test_serial(void **state)
{
    char id[21] = "";
    struct world w;

    open_world(&w, false);
    drv_start(&w.drv, 0, 64);
    assert_int_equal(request(&w, GET_ID, 0, 20), OK);
    drv_get(&w.drv, DATA_GPA, id, 20);
    assert_string_equal(id, "serial-number-of-25-");
    assert_int_equal(request(&w, GET_ID, 0, 5), OK);
    close_world(&w);
}

static void test_read_only(void **state)
{
    struct world w;

    open_world(&w, true);
    assert_true(w.drv.dev->features & BIT64(F_RO));
    assert_false(w.drv.dev->features & (BIT64(F_DISCARD) | BIT64(F_WRITE_ZEROES)));
    drv_start(&w.drv, BIT64(F_RO) | BIT64(F_FLUSH), 64);
    assert_int_equal(request(&w, OUT, 0, 512), IOERR);
    assert_int_equal(ranges(&w, DISCARD, &(struct range){0, 1, 0}, 1), UNSUPP);
    assert_int_equal(request(&w, IN, 0, 512), OK);
    assert_int_equal(request(&w, FLUSH, 0, 0), OK);
    close_world(&w);
}

/* 5.2.6.2: when a write counts as done before it is on stable storage. */
static void test_cache_modes(void **state)
{
    struct world w;

    open_world(&w, false);
    drv_start(&w.drv, 0, 64);
    assert_int_equal(request(&w, OUT, 0, 512), OK);
    assert_int_equal(w.disk->flushes, 1);
    assert_int_equal(request(&w, FLUSH, 0, 0), UNSUPP);
    drv_start(&w.drv, BIT64(F_FLUSH), 64);
    assert_int_equal(request(&w, OUT, 0, 512), OK);
    assert_int_equal(w.disk->flushes, 1);
    assert_int_equal(request(&w, FLUSH, 0, 0), OK);
    assert_int_equal(w.disk->flushes, 2);
    drv_start(&w.drv, ALL_FEATURES, 64);
    assert_int_equal(w.drv.dev->config[32], 1);
    lock_take(&w.drv.dev->lock);
    memset(w.drv.dev->config, 0xfe, 60); /* a driver that writes everywhere */
    w.drv.dev->ops->config_written(w.drv.dev, 0, 60);
    lock_drop(&w.drv.dev->lock);
    assert_int_equal(w.drv.dev->config[32], 0);
    assert_int_equal(w.drv.dev->config[0], SECTORS & 0xff);
    assert_int_equal(w.drv.dev->config[1], SECTORS >> 8);
    assert_int_equal(request(&w, OUT, 0, 512), OK);
    assert_int_equal(w.disk->flushes, 3);
    assert_int_equal(ranges(&w, ZEROES, &(struct range){0, 1, 0}, 1), OK);
    assert_int_equal(w.disk->flushes, 4);
    assert_int_equal(request(&w, IN, 0, 512), OK);
    assert_int_equal(w.disk->flushes, 4);
    w.disk->fail_flush = EIO;
    assert_int_equal(request(&w, OUT, 0, 512), IOERR);
    drv_start(&w.drv, ALL_FEATURES, 64);
    assert_int_equal(w.drv.dev->config[32], 1);
    close_world(&w);
}

/* Each call of the host fails once: an I/O error for the guest, and the next one works. */
static void test_host_errors(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EAGAIN};
    struct range one = {0, 1, 0};
    struct world w;

    open_world(&w, false);
    w.disk->no_map = true;
    drv_start(&w.drv, ALL_FEATURES, 64);
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        w.disk->fail_read = w.disk->fail_write = w.disk->fail_flush = errors[i];
        assert_int_equal(request(&w, IN, 0, 4096), IOERR);
        assert_int_equal(request(&w, OUT, 0, 4096), IOERR);
        assert_int_equal(request(&w, FLUSH, 0, 0), IOERR);
        w.disk->fail_discard = errors[i];
        assert_int_equal(ranges(&w, DISCARD, &one, 1), IOERR);
        w.disk->fail_discard = errors[i];
        assert_int_equal(ranges(&w, ZEROES, &one, 1), IOERR);
        assert_int_equal(request(&w, IN, 0, 4096), OK);
        assert_int_equal(request(&w, OUT, 0, 4096), OK);
        assert_int_equal(request(&w, FLUSH, 0, 0), OK);
        assert_int_equal(ranges(&w, DISCARD, &one, 1), OK);
    }
    assert_false(drv_needs_reset(&w.drv));
    close_world(&w);
}

/* More requests than the device takes at once, on two queues; and a reset with all in flight. */
static void test_many_in_flight(void **state)
{
    struct virtq_seg out = {HEADER_GPA, 16}, st = {STATUS_GPA, 1};
    u32 head, len;
    struct world w;

    open_world(&w, false);
    w.disk->no_map = true;
    w.disk->delay_us = 300;
    for (unsigned round = 0; round < 2; round++) {
        drv_start(&w.drv, ALL_FEATURES, 256);
        put_header(&w, IN, 3);
        for (unsigned i = 0; i < 2 * 85; i++) {
            struct virtq_seg in[] = {{DATA_GPA + 512 * i, 512}, st};
            drv_chain(&w.drv, i & 1, &out, 1, in, 2);
            if (i == 60)
                drv_kick(&w.drv, 0);
        }
        if (round) { /* the queues are the driver's again when the reset is done */
            virtio_kick(w.drv.dev, 0);
            continue;
        }
        /* 85 chains of three descriptors fit a queue. */
        drv_kick(&w.drv, 0);
        drv_kick(&w.drv, 1);
        iothread_call(w.drv.io, quiesce, w.drv.dev);
        for (unsigned i = 0; i < 2 * 85; i++)
            assert_true(drv_used(&w.drv, i & 1, &head, &len));
        assert_false(drv_used(&w.drv, 0, &head, &len));
    }
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_and_write),     cmocka_unit_test(test_any_framing),
        cmocka_unit_test(test_hostile_ranges),     cmocka_unit_test(test_hostile_addresses),
        cmocka_unit_test(test_too_many_pieces),    cmocka_unit_test(test_no_header_or_status),
        cmocka_unit_test(test_discard_and_zeroes), cmocka_unit_test(test_serial),
        cmocka_unit_test(test_read_only),          cmocka_unit_test(test_cache_modes),
        cmocka_unit_test(test_host_errors),        cmocka_unit_test(test_many_in_flight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
