/* test_virtio_balloon.c - the balloon under a small driver and a hostile one */
#include <sys/stat.h>

#include "unit.h"
#include "virtio_driver.h"

#include "dev/virtio/balloon.h"

#define POISON    BIT64(4)
#define HINTS     BIT64(3)
#define REPORTING BIT64(5)

enum { INFLATE, DEFLATE, STATS, HINT, REPORT };

static struct {
    struct drv drv;
    struct virtio_balloon *bal;
} t;

static int setup(void **state)
{
    struct err e = {0};

    memset(&t, 0, sizeof(t));
    drv_open(&t.drv);
    assert_ok(virtio_balloon_create(t.drv.mem, iothread_loop(t.drv.io), &t.bal, &e), e);
    drv_attach(&t.drv, &t.bal->dev);
    drv_start(&t.drv, HINTS | REPORTING, 64);
    return 0;
}

static int teardown(void **state)
{
    drv_stop(&t.drv);
    virtio_balloon_destroy(&t.bal->dev);
    drv_close(&t.drv);
    return 0;
}

static u64 memory_used(void)
{
    struct mem_slot_info info;
    struct stat st;

    assert_int_equal(mem_slots(t.drv.mem, &info, 1), 1);
    assert_int_equal(fstat(info.fd, &st), 0);
    return (u64)st.st_blocks * 512;
}

static bool done(unsigned q)
{
    u32 head, len;

    return drv_used(&t.drv, q, &head, &len);
}

static void send(unsigned q, const void *data, u32 len)
{
    struct virtq_seg out = {DRV_BUF_GPA, len};

    drv_put(&t.drv, DRV_BUF_GPA, data, len);
    drv_chain(&t.drv, q, &out, 1, NULL, 0);
    drv_kick(&t.drv, q);
}

static u8 byte_at(u64 gpa)
{
    u8 byte;

    drv_get(&t.drv, gpa, &byte, 1);
    return byte;
}

static void test_inflate(void **state)
{
    u32 pfn[600], n = 0;
    u64 before;

    assert_int_equal(mem_fill(t.drv.mem, 0xa00000, 0xaa, 6 * MiB), 0);
    for (u32 i = 0; i < 256; i++) /* upward, downward, single */
        pfn[n++] = 0xa00 + i;
    for (u32 i = 0; i < 256; i++)
        pfn[n++] = 0xdff - i;
    pfn[n++] = 0xf00;
    send(DEFLATE, pfn, n * 4); /* rings and buffers are in memory afterwards */
    assert_true(done(DEFLATE));
    before = memory_used();
    send(INFLATE, pfn, n * 4);
    assert_true(done(INFLATE));
    assert_true(memory_used() <= before - 513 * 4096);
    assert_int_equal(byte_at(0xa00000), 0);
    assert_int_equal(byte_at(0xafffff), 0);
    assert_int_equal(byte_at(0xb00000), 0xaa);
    assert_int_equal(byte_at(0xcfffff), 0xaa);
    assert_int_equal(byte_at(0xd00000), 0);
    assert_int_equal(byte_at(0xdfffff), 0);
    assert_int_equal(byte_at(0xefffff), 0xaa);
    assert_int_equal(byte_at(0xf00fff), 0);
    assert_int_equal(byte_at(0xf01000), 0xaa);
}

static void test_hostile_pages(void **state)
{
    static u32 pfn[BALLOON_REQUEST_MAX + 1];
    const u32 odd[] = {UINT32_MAX, 0, 0x1000, 0xfff, 0x1000000, 0xfff, 0xfff};

    assert_int_equal(mem_fill(t.drv.mem, 0xfff000, 0xaa, 4096), 0);
    send(INFLATE, odd, sizeof(odd));
    assert_true(done(INFLATE));
    assert_int_equal(byte_at(0xfff000), 0); /* those that exist went all the same */
    send(INFLATE, odd, 3);
    assert_true(done(INFLATE));
    drv_chain(&t.drv, INFLATE, &(struct virtq_seg){DRV_RAM_BYTES, 400}, 1, NULL, 0);
    drv_kick(&t.drv, INFLATE);
    assert_true(done(INFLATE));
    assert_false(drv_needs_reset(&t.drv));
    for (u32 i = 0; i < ARRAY_SIZE(pfn); i++)
        pfn[i] = 0xf00;
    send(INFLATE, pfn, sizeof(pfn));
    assert_false(done(INFLATE));
    assert_true(drv_needs_reset(&t.drv));
}

static void report(unsigned q, u64 gpa, u32 len)
{
    struct virtq_seg in[] = {{gpa, len}, {DRV_RAM_BYTES - 4096, 8192}};

    assert_int_equal(mem_fill(t.drv.mem, 0xc00000, 0xaa, 1 * MiB), 0);
    drv_chain(&t.drv, q, NULL, 0, in, 2);
    drv_kick(&t.drv, q);
    assert_true(done(q));
}

static void test_reporting(void **state)
{
    const u32 poison = 0xaaaaaaaa, zero = 0;
    struct virtio_dev *d = &t.bal->dev;

    report(REPORT, 0xc00000, 0x80000);
    assert_int_equal(byte_at(0xc00000), 0);
    assert_int_equal(byte_at(0xc80000), 0xaa);
    report(REPORT, 0xc00800, 0x1000); /* no whole page */
    assert_int_equal(byte_at(0xc00800), 0xaa);
    report(HINT, 0xc00000, 0x1000);
    assert_int_equal(byte_at(0xc00000), 0xaa);

    drv_start(&t.drv, REPORTING, 64); /* without hints either queue may be the one */
    report(HINT, 0xc00000, 0x1000);
    assert_int_equal(byte_at(0xc00000), 0);
    drv_start(&t.drv, 0, 64);
    report(REPORT, 0xc00000, 0x1000);
    assert_int_equal(byte_at(0xc00000), 0xaa);

    drv_start(&t.drv, REPORTING | HINTS | POISON, 64);
    memcpy(d->config + 12, &poison, 4);
    report(REPORT, 0xc00000, 0x1000);
    assert_int_equal(byte_at(0xc00000), 0xaa);
    memcpy(d->config + 12, &zero, 4);
    report(REPORT, 0xc00000, 0x1000);
    assert_int_equal(byte_at(0xc00000), 0);
}

static void test_target(void **state)
{
    struct virtio_dev *d = &t.bal->dev;
    const u32 lies[4] = {77, 100, 5, 0};
    u32 target, actual;

    virtio_balloon_set(t.bal, 1234);
    assert_int_equal(t.drv.config_changes, 1);
    lock_take(&d->lock);
    memcpy(d->config, lies, 16); /* as the transport stores what the driver writes */
    d->ops->config_written(d, 0, 16);
    lock_drop(&d->lock);
    virtio_balloon_get(t.bal, &target, &actual);
    assert_int_equal(target, 1234);
    assert_int_equal(actual, 100);
    drv_start(&t.drv, 0, 64);
    virtio_balloon_get(t.bal, &target, &actual);
    assert_int_equal(target, 1234); /* the wish outlives a reset, the balloon does not */
    assert_int_equal(actual, 0);
}

static void put_stat(u8 *at, u16 tag, u64 val)
{
    memcpy(at, &tag, 2);
    memcpy(at + 2, &val, 8);
}

static void test_statistics(void **state)
{
    struct virtio_balloon_stats s;
    u8 entry[100 * 10];
    u64 discarded;

    put_stat(entry, 4, 111);
    put_stat(entry + 10, 9, 5);
    put_stat(entry + 20, 10, 3);
    put_stat(entry + 30, UINT16_MAX, 3);
    send(STATS, entry, 45);
    assert_false(done(STATS)); /* the device keeps it until it wants newer ones */
    virtio_balloon_stats(t.bal, &s, &discarded);
    assert_int_equal(s.known, BIT(4) | BIT(9));
    assert_int_equal(s.value[4], 111);
    drv_settle(&t.drv);
    assert_true(done(STATS));
    assert_false(done(STATS));
    virtio_balloon_stats(t.bal, &s, &discarded); /* with nothing to give back */
    drv_settle(&t.drv);
    assert_false(done(STATS));
    /* Buffers that nobody asked for come back, all but one. */
    for (unsigned i = 0; i < 100; i++)
        put_stat(entry + 10 * i, 0, i);
    send(STATS, entry, sizeof(entry));
    send(STATS, entry, 9);
    send(STATS, entry, 0);
    assert_true(done(STATS));
    assert_true(done(STATS));
    assert_false(done(STATS));
    virtio_balloon_stats(t.bal, &s, &discarded);
    assert_int_equal(s.value[0], 63);
    assert_false(drv_needs_reset(&t.drv));
}

static void test_snapshot(void **state)
{
    const struct snap_item item = {&virtio_balloon_snap, 0, t.bal};
    struct snap_buf a = {0}, b = {0};
    u8 entry[10];
    struct err e = {0};

    put_stat(entry, 4, 111);
    send(STATS, entry, 10);
    virtio_balloon_set(t.bal, 55);
    assert_ok(snap_save(&a, &item, 1, &e), e);
    drv_start(&t.drv, 0, 64);
    virtio_balloon_set(t.bal, 56);
    assert_false(t.bal->held);
    assert_ok(snap_load(a.data, a.len, &item, 1, &e), e);
    assert_true(t.bal->held);
    assert_int_equal(t.bal->target, 55);
    assert_ok(snap_save(&b, &item, 1, &e), e);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    t.bal->stats.known = BIT(BALLOON_STATS);
    snap_buf_free(&a);
    a = (struct snap_buf){0};
    assert_ok(snap_save(&a, &item, 1, &e), e);
    assert_refused(snap_load(a.data, a.len, &item, 1, &e), EINVAL, e, "unknown statistics");
    snap_buf_free(&a);
    snap_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_inflate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reporting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_statistics, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot, setup, teardown),
    };

    return cmocka_run_group_tests_name("virtio-balloon", tests, NULL, NULL);
}
