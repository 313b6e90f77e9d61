/* test_virtio_p9.c - the 9P device under a small driver: chains, resets, a hostile driver */
#include "unit.h"
#include "p9_client.h"
#include "virtio_driver.h"

#include "dev/virtio/p9.h"

#define OUT_GPA DRV_BUF_GPA
#define IN_GPA  (DRV_BUF_GPA + 4 * MiB)

static struct {
    struct drv drv;
    struct virtio_p9 *dev;
} t;

static int setup(void **state)
{
    struct virtio_p9_config cfg = {.tag = "r3share0"};
    struct p9_config p9 = {c.dir, false, 1000};
    struct err e = {0};

    client_setup(state);
    p9.dir = c.dir;
    memset(&t, 0, sizeof(t));
    drv_open(&t.drv);
    assert_ok(p9_open(&cfg.server, &p9, &e), e);
    assert_ok(virtio_p9_create(&cfg, t.drv.mem, iothread_loop(t.drv.io), &t.dev, &e), e);
    drv_attach(&t.drv, &t.dev->dev);
    drv_start(&t.drv, BIT64(0), 64);
    return 0;
}

static int teardown(void **state)
{
    drv_stop(&t.drv);
    virtio_p9_destroy(&t.dev->dev);
    drv_close(&t.drv);
    return client_teardown(state);
}

/* Sends the request in c.out, cut into pieces of `step` bytes, with as much room as `room`: the
 * used length; the reply is in c.in. */
static u32 request(u32 step, u32 room)
{
    struct virtq_seg out[16], in[16];
    unsigned outs = 0, ins = 0;
    u32 head, len = 0;
    u16 mine;

    memcpy(c.out, &c.len, 4);
    drv_put(&t.drv, OUT_GPA, c.out, c.len);
    for (u32 at = 0; at < c.len; at += step)
        out[outs++] = (struct virtq_seg){OUT_GPA + at, MIN(step, c.len - at)};
    for (u32 at = 0; at < room; at += step)
        in[ins++] = (struct virtq_seg){IN_GPA + at, MIN(step, room - at)};
    mine = drv_chain(&t.drv, 0, out, outs, in, ins);
    drv_kick(&t.drv, 0);
    assert_true(drv_used(&t.drv, 0, &head, &len));
    assert_int_equal(head, mine);
    drv_get(&t.drv, IN_GPA, c.in, MIN(room, OUT_MAX));
    c.got = len;
    c.at = 7;
    return len;
}

static u8 ask(u8 type, const char *fields, ...)
{
    va_list ap;

    begin(type);
    va_start(ap, fields);
    put_fields(fields, ap);
    va_end(ap);
    assert_true(request(4096, 8192) >= 7);
    return c.in[4];
}

static void start_session(void)
{
    assert_int_equal(ask(T_VERSION, "ds", 512000, "9P2000.L"), T_VERSION + 1);
    assert_int_equal(ask(T_ATTACH, "ddssd", ROOT_FID, NOFID, "root", "", 0), T_ATTACH + 1);
}

static void test_config(void **state)
{
    assert_int_equal(t.dev->dev.config_len, 10);
    assert_memory_equal(t.dev->dev.config, "\10\0r3share0", 10);
}

static void test_a_session_in_pieces(void **state)
{
    static u8 data[100000];

    memset(data, 0x77, sizeof(data));
    start_session();
    assert_int_equal(ask(T_WALK, "ddws", ROOT_FID, 2, 1, "file"), T_WALK + 1);
    assert_int_equal(ask(T_LOPEN, "dd", 2, O_RDWR), T_LOPEN + 1);
    begin(T_WRITE);
    put_int(2, 4);
    put_int(0, 8);
    put_int(sizeof(data), 4);
    put(data, sizeof(data));
    assert_int_equal(request(9001, 11), 11);
    assert_int_equal(take(4), sizeof(data));
    begin(T_READ);
    put_int(2, 4);
    put_int(0, 8);
    put_int(1 << 20, 4);
    assert_int_equal(request(12289, 150000), sizeof(data) + 11);
    assert_memory_equal(c.in + 11, data, sizeof(data));
}

static void test_no_room_for_an_answer(void **state)
{
    start_session();
    begin(T_CLUNK);
    put_int(9, 4);
    assert_int_equal(request(4096, 10), 0);
    assert_int_equal(request(4096, 0), 0);
    assert_int_equal(request(4096, 11), 11);
    assert_false(drv_needs_reset(&t.drv));
}

static void test_memory_that_is_not_there(void **state)
{
    struct virtq_seg hole = {DRV_RAM_BYTES - 4, 8}, good = {OUT_GPA, 64};
    u32 head, len;

    for (unsigned i = 0; i < 2; i++) {
        drv_chain(&t.drv, 0, i ? &good : &hole, 1, i ? &hole : &good, 1);
        drv_kick(&t.drv, 0);
        assert_true(drv_used(&t.drv, 0, &head, &len));
        assert_int_equal(len, 0);
    }
    start_session();
}

static void test_empty_and_broken_chains(void **state)
{
    struct virtq_seg in = {IN_GPA, 64};
    u32 head, len;

    drv_chain(&t.drv, 0, NULL, 0, &in, 1);
    drv_kick(&t.drv, 0);
    assert_true(drv_used(&t.drv, 0, &head, &len));
    assert_int_equal(len, 11);                /* Rlerror */
    drv_desc(&t.drv, 0, 0, OUT_GPA, 4, 1, 0); /* leads to itself */
    drv_offer(&t.drv, 0, 0);
    drv_kick(&t.drv, 0);
    assert_true(drv_needs_reset(&t.drv));
    drv_start(&t.drv, BIT64(0), 64);
    start_session();
}

static void test_reset_ends_the_session(void **state)
{
    start_session();
    assert_int_equal(ask(T_GETATTR, "dq", ROOT_FID, ~0ull), T_GETATTR + 1);
    drv_start(&t.drv, BIT64(0), 64);
    assert_int_equal(ask(T_GETATTR, "dq", ROOT_FID, ~0ull), 7);
    assert_int_equal(take(4), EPROTO);
    start_session();
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_config),
        T(test_a_session_in_pieces),
        T(test_no_room_for_an_answer),
        T(test_memory_that_is_not_there),
        T(test_empty_and_broken_chains),
        T(test_reset_ends_the_session),
    };

    return cmocka_run_group_tests_name("virtio-9p", tests, NULL, NULL);
}
