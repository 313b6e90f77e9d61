/* test_virtio.c - virtqueues and the life of a virtio device, against a device that echoes */
#include "unit.h"

#include "virtio_driver.h"

/* Copies what it reads to where it may write, as much as fits. */
struct echo {
    struct virtio_dev v;
    u8 config[8];
    unsigned started, stopped, kicks;
    bool stall, endless; /* endless: each chain makes another one available */
};

static struct drv drv;

static s64 echo_one(struct virtio_dev *v, struct virtq *q, struct virtq_chain *c)
{
    struct echo *d = container_of(v, struct echo, v);
    u32 n = MIN(c->out_bytes, c->in_bytes);
    static u8 buf[1 << 20];

    if (d->stall)
        return VIRTIO_STALL;
    if (d->endless)
        drv_offer(&drv, 0, c->head);
    n = MIN(n, (u32)sizeof(buf));
    if (virtq_read(q, c, 0, buf, n) || virtq_write(q, c, 0, buf, n))
        return 0;
    return n;
}

static void echo_kick(struct virtio_dev *v, unsigned q)
{
    container_of(v, struct echo, v)->kicks++;
    virtio_process(v, q, echo_one);
}

static void echo_start(struct virtio_dev *v)
{
    container_of(v, struct echo, v)->started++;
}

static void echo_stop(struct virtio_dev *v)
{
    container_of(v, struct echo, v)->stopped++;
}

static const struct virtio_ops echo_ops = {
    .name = "echo",
    .id = VIRTIO_RNG,
    .pci_class = 0xff0000,
    .start = echo_start,
    .stop = echo_stop,
    .kick = echo_kick,
};

static struct echo echo;

static int setup(void **state)
{
    static const u16 sizes[] = {256, 8};
    int rc;

    memset(&echo, 0, sizeof(echo));
    drv_open(&drv);
    echo.v.features = 1;
    echo.v.config = echo.config;
    echo.v.config_len = sizeof(echo.config);
    rc = virtio_init(&echo.v, &echo_ops, drv.mem, iothread_loop(drv.io), sizes, 2, NULL);
    assert_int_equal(rc, 0);
    drv_attach(&drv, &echo.v);
    return 0;
}

static int teardown(void **state)
{
    drv_stop(&drv);
    virtio_fini(&echo.v);
    drv_close(&drv);
    return 0;
}

#define ALL_FEATURES (BIT64(VIRTIO_F_INDIRECT_DESC) | BIT64(VIRTIO_F_EVENT_IDX))

static void assert_used(unsigned q, u32 head, u32 len)
{
    u32 got_head, got_len;

    assert_true(drv_used(&drv, q, &got_head, &got_len));
    assert_int_equal(got_head, head);
    assert_int_equal(got_len, len);
}

static void chains(void **state)
{
    char text[40] = "";
    u16 head;

    drv_start(&drv, ALL_FEATURES, 8);
    drv_put(&drv, DRV_BUF_GPA, "hello, ", 7);
    drv_put(&drv, DRV_BUF_GPA + 0x1ffe, "world", 5); /* crosses a page */
    head = drv_chain(&drv, 1, (struct virtq_seg[]){{DRV_BUF_GPA, 7}, {DRV_BUF_GPA + 0x1ffe, 5}}, 2,
                     (struct virtq_seg[]){{DRV_BUF_GPA + 0x4000, 3},
                                          {DRV_BUF_GPA + 0x5000, 0},
                                          {DRV_BUF_GPA + 0x4003, 30}},
                     3);
    drv_kick(&drv, 1);
    assert_used(1, head, 12);
    drv_get(&drv, DRV_BUF_GPA + 0x4000, text, 12);
    assert_string_equal(text, "hello, world");
    assert_int_equal(drv.signals, 1);
    assert_false(drv_needs_reset(&drv));
}

/* More rounds than the ring and its indices have, with event indices. */
static void wraps(void **state)
{
    struct virtq_seg out = {DRV_BUF_GPA, 4}, in = {DRV_BUF_GPA + 64, 4};

    drv_start(&drv, ALL_FEATURES, 4);
    for (u32 i = 0; i < 70000; i++) {
        u16 head;
        u32 got;

        drv_put(&drv, out.gpa, &i, 4);
        head = drv_chain(&drv, 0, &out, 1, &in, 1);
        virtio_kick(&echo.v, 0);
        if (i % 1000 == 0 || i < 10) {
            drv_settle(&drv);
        } else {
            u16 idx; /* the I/O thread is a moment away */

            do
                drv_get(&drv, drv_ring(0) + 0x8000 + 2, &idx, 2);
            while (idx != drv.queue[0].avail_idx);
        }
        assert_used(0, head, 4);
        drv_get(&drv, in.gpa, &got, 4);
        assert_int_equal(got, i);
    }
}

static void indirect(void **state)
{
    char text[8] = "";

    drv_start(&drv, ALL_FEATURES, 8);
    drv_put(&drv, DRV_BUF_GPA, "abcdef", 6);
    /* a table of three in the place behind the rings, reached through descriptor 5 */
    drv_desc(&drv, 0, 0xc000 / 16 + 0, DRV_BUF_GPA, 6, 1, 2);
    drv_desc(&drv, 0, 0xc000 / 16 + 2, DRV_BUF_GPA + 100, 6, 2, 0);
    drv_desc(&drv, 0, 5, drv_ring(0) + 0xc000, 48, 4, 0);
    drv_offer(&drv, 0, 5);
    drv_kick(&drv, 0);
    assert_used(0, 5, 6);
    drv_get(&drv, DRV_BUF_GPA + 100, text, 6);
    assert_string_equal(text, "abcdef");
}

/* Each breaks a rule: the device says so and lives on after a reset. */
static void hostile(void **state)
{
    static const struct {
        u64 gpa;
        u32 len;
        u16 flags, next, head;
    } bad[] = {
        {DRV_BUF_GPA, 4, 1, 0, 0},            /* a loop */
        {DRV_BUF_GPA, 4, 1, 99, 0},           /* next beyond the table */
        {DRV_BUF_GPA, 4, 0, 0, 77},           /* head beyond the table */
        {DRV_RING_GPA + 0xc000, 47, 4, 0, 0}, /* indirect, odd length */
        {DRV_RING_GPA + 0xc000, 0, 4, 0, 0},  /* indirect, empty */
        {DRV_RING_GPA + 0xc000, 16, 5, 0, 0}, /* indirect and next */
        {UINT64_MAX - 7, 16, 4, 0, 0},        /* indirect, wraps around */
        {DRV_RAM_BYTES, 64, 4, 0, 0},         /* indirect, no memory */
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        drv_start(&drv, ALL_FEATURES, 8);
        drv_desc(&drv, 0, 0, bad[i].gpa, bad[i].len, bad[i].flags, bad[i].next);
        drv_offer(&drv, 0, bad[i].head);
        drv_kick(&drv, 0);
        assert_true(drv_needs_reset(&drv));
    }
    /* an indirect one inside an indirect one */
    drv_start(&drv, ALL_FEATURES, 8);
    drv_desc(&drv, 0, 0, drv_ring(0) + 0xc000, 16, 4, 0);
    drv_desc(&drv, 0, 0xc000 / 16, drv_ring(0) + 0xc000, 16, 4, 0);
    drv_offer(&drv, 0, 0);
    drv_kick(&drv, 0);
    assert_true(drv_needs_reset(&drv));
    /* to read behind to write */
    drv_start(&drv, ALL_FEATURES, 8);
    drv_desc(&drv, 0, 0, DRV_BUF_GPA, 4, 3, 1);
    drv_desc(&drv, 0, 1, DRV_BUF_GPA, 4, 0, 0);
    drv_offer(&drv, 0, 0);
    drv_kick(&drv, 0);
    assert_true(drv_needs_reset(&drv));
    /* indirect without having been negotiated */
    drv_start(&drv, 0, 8);
    drv_desc(&drv, 0, 0, drv_ring(0) + 0xc000, 16, 4, 0);
    drv_offer(&drv, 0, 0);
    drv_kick(&drv, 0);
    assert_true(drv_needs_reset(&drv));
    chains(state);
}

/* An index that jumps, and rings that lie nowhere. */
static void hostile_rings(void **state)
{
    u16 idx = 100;

    drv_start(&drv, 0, 8);
    drv_put(&drv, drv_ring(0) + 0x4002, &idx, 2);
    drv_kick(&drv, 0);
    assert_true(drv_needs_reset(&drv));

    drv_start(&drv, 0, 8);
    echo.v.queue[0].avail = DRV_RAM_BYTES + 0x1000;
    drv_kick(&drv, 0);
    assert_true(drv_needs_reset(&drv));

    drv_start(&drv, 0, 8);
    echo.v.queue[0].used = UINT64_MAX - 3;
    drv_chain(&drv, 0, (struct virtq_seg[]){{DRV_BUF_GPA, 4}}, 1, NULL, 0);
    drv_kick(&drv, 0);
    assert_true(drv_needs_reset(&drv));
}

/* Data that lies nowhere is the device's to report; the queue goes on. */
static void bad_buffers(void **state)
{
    u16 head;

    drv_start(&drv, ALL_FEATURES, 8);
    head = drv_chain(&drv, 0, (struct virtq_seg[]){{DRV_RAM_BYTES - 2, 4}}, 1,
                     (struct virtq_seg[]){{DRV_BUF_GPA, 4}}, 1);
    drv_kick(&drv, 0);
    assert_used(0, head, 0);
    head = drv_chain(&drv, 0, (struct virtq_seg[]){{UINT64_MAX - 1, 4}}, 1,
                     (struct virtq_seg[]){{DRV_BUF_GPA, 4}}, 1);
    drv_kick(&drv, 0);
    assert_used(0, head, 0);
    assert_false(drv_needs_reset(&drv));
}

static void stalls(void **state)
{
    u16 head;

    drv_start(&drv, 0, 8);
    echo.stall = true;
    head = drv_chain(&drv, 0, (struct virtq_seg[]){{DRV_BUF_GPA, 4}}, 1,
                     (struct virtq_seg[]){{DRV_BUF_GPA, 4}}, 1);
    drv_kick(&drv, 0);
    assert_int_equal(drv.signals, 0);
    echo.stall = false;
    drv_kick(&drv, 0);
    assert_used(0, head, 4);
}

static void status(void **state)
{
    drv_start(&drv, 0, 8);
    assert_int_equal(echo.started, 1);
    virtio_set_status(&echo.v, 0);
    drv_settle(&drv);
    assert_int_equal(echo.stopped, 1);
    assert_int_equal(drv.resets, 1);
    assert_int_equal(echo.v.status, 0);
    assert_false(echo.v.queue[0].enabled);

    /* features that are not offered, and none of version 1, are refused */
    virtio_set_status(&echo.v, 3);
    echo.v.driver_features = BIT64(VIRTIO_F_VERSION_1) | BIT64(20);
    virtio_set_status(&echo.v, 3 | STATUS_FEATURES_OK);
    assert_int_equal(echo.v.status, 3);
    echo.v.driver_features = 1;
    virtio_set_status(&echo.v, 3 | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
    assert_int_equal(echo.v.status, 3);
    drv_settle(&drv);
    assert_int_equal(echo.started, 1);

    /* a reset of what never ran is done at once */
    virtio_set_status(&echo.v, 0);
    assert_int_equal(echo.v.status, 0);
}

static void config_change(void **state)
{
    u8 generation = echo.v.generation;

    virtio_config_changed(&echo.v);
    assert_int_equal(drv.config_changes, 0); /* nobody listens yet */
    drv_start(&drv, 0, 8);
    virtio_config_changed(&echo.v);
    assert_int_equal(drv.config_changes, 1);
    assert_int_equal(echo.v.generation, (u8)(generation + 2));
}

static void vectors(void **state)
{
    struct virtq *q = &echo.v.queue[0];
    struct virtq_seg segs[] = {{DRV_BUF_GPA, 100}, {DRV_RAM_BYTES - 50, 100}};
    struct virtq_chain c = {.out_n = 2, .out_bytes = 200, .seg = segs};
    struct iovec iov[4];

    assert_int_equal(virtq_iov(q, &c, false, 10, 100, iov, 4), 2);
    assert_int_equal(iov[0].iov_len, 90);
    assert_int_equal(iov[1].iov_len, 10);
    assert_int_equal(virtq_iov(q, &c, false, 10, 100, iov, 1), -E2BIG);
    assert_int_equal(virtq_iov(q, &c, false, 100, 101, iov, 4), -EINVAL);
    assert_int_equal(virtq_iov(q, &c, false, 100, 51, iov, 4), -EFAULT);
    assert_int_equal(virtq_iov(q, &c, true, 0, 1, iov, 4), -EINVAL);
    assert_int_equal(virtq_iov(q, &c, false, 0, 0, iov, 4), 0);
}

/* A driver that feeds the queue without end stops neither a pause nor a reset. */
static void endless_chains(void **state)
{
    struct virtq_seg seg[] = {{DRV_BUF_GPA, 4}, {DRV_BUF_GPA + 64, 4}};

    drv_start(&drv, ALL_FEATURES, 16);
    echo.endless = true;
    drv_chain(&drv, 0, &seg[0], 1, &seg[1], 1);
    virtio_kick(&echo.v, 0);
    usleep(2000);
    iothread_pause(drv.io);
    assert_true(echo.kicks > 1);
    iothread_resume(drv.io);
    virtio_set_status(&echo.v, 0);
    drv_settle(&drv);
    assert_int_equal(echo.stopped, 1);
    assert_int_equal(echo.v.status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chains, setup, teardown),
        cmocka_unit_test_setup_teardown(wraps, setup, teardown),
        cmocka_unit_test_setup_teardown(indirect, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_rings, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(stalls, setup, teardown),
        cmocka_unit_test_setup_teardown(status, setup, teardown),
        cmocka_unit_test_setup_teardown(config_change, setup, teardown),
        cmocka_unit_test_setup_teardown(vectors, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_chains, setup, teardown),
    };

    return cmocka_run_group_tests_name("virtio", tests, NULL, NULL);
}
