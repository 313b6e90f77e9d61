/* test_virtio_rng.c - the entropy device under a small driver, a hostile one, and a failing host */
#include "unit.h"
#include "virtio_driver.h"

#include "dev/virtio/rng.h"

static struct {
    struct drv drv;
    struct virtio_rng *rng;
    unsigned asked; /* calls of the host */
    u32 longest;
    int fail; /* errno of the next call */
} t;

static int host_random(void *ctx, void *buf, size_t len)
{
    int rc = -t.fail;

    t.asked++;
    t.fail = 0;
    t.longest = MAX(t.longest, (u32)len);
    memset(buf, 0x5a, len);
    return rc;
}

static int setup(void **state)
{
    struct virtio_rng_config cfg = {.random = host_random};
    struct err e = {0};

    memset(&t, 0, sizeof(t));
    drv_open(&t.drv);
    assert_ok(virtio_rng_create(&cfg, t.drv.mem, iothread_loop(t.drv.io), &t.rng, &e), e);
    drv_attach(&t.drv, &t.rng->dev);
    drv_start(&t.drv, 0, 16);
    return 0;
}

static int teardown(void **state)
{
    drv_stop(&t.drv);
    virtio_rng_destroy(&t.rng->dev);
    drv_close(&t.drv);
    return 0;
}

/* The length that the used ring tells of one request with these pieces. */
static u32 ask(const struct virtq_seg *in, unsigned n)
{
    u32 head, len = 0;
    u16 mine = drv_chain(&t.drv, 0, NULL, 0, in, n);

    drv_kick(&t.drv, 0);
    assert_true(drv_used(&t.drv, 0, &head, &len));
    assert_int_equal(head, mine);
    return len;
}

static void test_fills_the_pieces(void **state)
{
    struct virtq_seg in[] = {{DRV_BUF_GPA, 5}, {DRV_BUF_GPA + 100, 11}};
    u8 got[112];

    assert_int_equal(ask(in, 2), 16);
    drv_get(&t.drv, DRV_BUF_GPA, got, sizeof(got));
    assert_int_equal(got[0], 0x5a);
    assert_int_equal(got[4], 0x5a);
    assert_int_equal(got[5], 0);
    assert_int_equal(got[110], 0x5a);
    assert_int_equal(got[111], 0);
}

static void test_a_request_is_bounded(void **state)
{
    struct virtq_seg in = {DRV_BUF_GPA, 1 * MiB};

    assert_int_equal(ask(&in, 1), RNG_REQUEST_MAX);
    assert_int_equal(t.longest, RNG_REQUEST_MAX);
}

static void test_memory_that_is_not_there(void **state)
{
    struct virtq_seg hole = {DRV_RAM_BYTES - 1, 2}, good = {DRV_BUF_GPA, 4};

    assert_int_equal(ask(&hole, 1), 0);
    assert_int_equal(ask(&good, 1), 4);
}

static void test_nothing_to_write_to(void **state)
{
    struct virtq_seg out = {DRV_BUF_GPA, 8};
    u32 head, len;

    drv_chain(&t.drv, 0, &out, 1, NULL, 0);
    drv_kick(&t.drv, 0);
    assert_true(drv_used(&t.drv, 0, &head, &len));
    assert_int_equal(len, 0);
    assert_int_equal(t.asked, 0);
}

static void test_host_error_keeps_the_request(void **state)
{
    struct virtq_seg in = {DRV_BUF_GPA, 4};
    u32 head, len;

    t.fail = EIO;
    drv_chain(&t.drv, 0, NULL, 0, &in, 1);
    drv_kick(&t.drv, 0);
    assert_false(drv_used(&t.drv, 0, &head, &len));
    drv_kick(&t.drv, 0);
    assert_true(drv_used(&t.drv, 0, &head, &len));
    assert_int_equal(len, 4);
    assert_false(drv_needs_reset(&t.drv));
}

static void test_broken_chain(void **state)
{
    drv_desc(&t.drv, 0, 0, DRV_BUF_GPA, 4, 3, 0); /* leads to itself */
    drv_offer(&t.drv, 0, 0);
    drv_kick(&t.drv, 0);
    assert_true(drv_needs_reset(&t.drv));
    drv_start(&t.drv, 0, 16); /* and works again after a reset */
    assert_int_equal(ask(&(struct virtq_seg){DRV_BUF_GPA, 4}, 1), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fills_the_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_request_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_that_is_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_to_write_to, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_error_keeps_the_request, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_chain, setup, teardown),
    };

    return cmocka_run_group_tests_name("virtio-rng", tests, NULL, NULL);
}
