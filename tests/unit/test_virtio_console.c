/* test_virtio_console.c - the console device under a small driver, hostile ones, and slow hosts */
#include "unit.h"
#include "virtio_driver.h"

#include "dev/virtio/console.h"

#define MULTIPORT BIT64(1)
#define NAME      "org.ring3.agent"

/* Control messages */
enum { DEVICE_READY, PORT_ADD, REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME };

struct message {
    u32 id;
    u16 event, value;
    u8 more[64];
};

static struct {
    struct drv drv;
    struct virtio_console *con;
    u8 out[2][65536]; /* what the host got, a port */
    size_t out_len[2];
    size_t room[2]; /* what the host takes */
    unsigned rooms; /* calls of input_room */
} t;

static size_t host_output(void *ctx, const u8 *data, size_t len)
{
    size_t port = (size_t)(uintptr_t)ctx, n = MIN(len, t.room[port]);

    memcpy(t.out[port] + t.out_len[port], data, n);
    t.out_len[port] += n;
    t.room[port] -= n;
    return n;
}

static void host_input_room(void *ctx)
{
    t.rooms++;
}

static int setup_with(u64 features)
{
    struct virtio_console_config cfg = {.ports = 2};
    struct err e = {0};

    memset(&t, 0, sizeof(t));
    for (unsigned i = 0; i < 2; i++) {
        t.room[i] = sizeof(t.out[i]);
        cfg.port[i] = (struct virtio_console_port){i ? NAME : NULL, host_output, host_input_room,
                                                   (void *)(uintptr_t)i};
    }
    drv_open(&t.drv);
    assert_ok(virtio_console_create(&cfg, t.drv.mem, iothread_loop(t.drv.io), &t.con, &e), e);
    drv_attach(&t.drv, &t.con->dev);
    drv_start(&t.drv, features, 64);
    return 0;
}

static int setup(void **state)
{
    return setup_with(MULTIPORT);
}

static int setup_plain(void **state)
{
    return setup_with(0);
}

static int teardown(void **state)
{
    drv_stop(&t.drv);
    virtio_console_destroy(&t.con->dev);
    drv_close(&t.drv);
    return 0;
}

/* ---- the driver ---- */

static void control(u32 id, u16 event, u16 value)
{
    struct message m = {id, event, value, {0}};
    struct virtq_seg out = {DRV_BUF_GPA, 8};

    drv_put(&t.drv, DRV_BUF_GPA, &m, 8);
    drv_chain(&t.drv, 3, &out, 1, NULL, 0);
    drv_kick(&t.drv, 3);
}

/* The next control message of the device, which got a buffer of `room` bytes. */
static bool told(struct message *m, u32 room, u32 *len)
{
    struct virtq_seg in = {DRV_BUF_GPA + 0x1000, room};
    u32 head;

    memset(m, 0, sizeof(*m));
    if (!drv_used(&t.drv, 2, &head, len)) {
        drv_chain(&t.drv, 2, NULL, 0, &in, 1);
        drv_kick(&t.drv, 2);
        if (!drv_used(&t.drv, 2, &head, len))
            return false;
    }
    drv_get(&t.drv, DRV_BUF_GPA + 0x1000, m, sizeof(*m));
    return true;
}

static void assert_told(u32 id, u16 event, u16 value)
{
    struct message m;
    u32 len;

    assert_true(told(&m, 64, &len));
    assert_int_equal(m.id, id);
    assert_int_equal(m.event, event);
    assert_int_equal(m.value, value);
}

static void ports_up(void)
{
    virtio_console_resize(t.con, 80, 25);
    control(0, DEVICE_READY, 1);
    assert_told(0, PORT_ADD, 1);
    assert_told(1, PORT_ADD, 1);
    control(0, PORT_READY, 1);
    control(1, PORT_READY, 1);
    assert_told(0, CONSOLE_PORT, 1);
    assert_told(0, RESIZE, 1);
    assert_told(1, PORT_NAME, 1);
}

static void give_input_buffer(unsigned q, u32 len)
{
    struct virtq_seg in = {DRV_BUF_GPA + 0x10000 * (q + 1), len};

    drv_chain(&t.drv, q, NULL, 0, &in, 1);
    drv_kick(&t.drv, q);
}

static void send_output(unsigned q, const void *data, u32 len)
{
    struct virtq_seg out = {DRV_BUF_GPA + 0x10000 * (q + 1), len};

    drv_put(&t.drv, out.gpa, data, len);
    drv_chain(&t.drv, q, &out, 1, NULL, 0);
    drv_kick(&t.drv, q);
}

static bool done(unsigned q)
{
    u32 head, len;

    return drv_used(&t.drv, q, &head, &len);
}

/* ---- tests ---- */

static void test_control(void **state)
{
    struct message m;
    u32 ports, len;

    memcpy(&ports, t.con->dev.config + 4, 4);
    assert_int_equal(ports, 2);
    virtio_console_resize(t.con, 132, 43);
    control(0, DEVICE_READY, 1);
    assert_told(0, PORT_ADD, 1);
    assert_told(1, PORT_ADD, 1);
    control(1, PORT_READY, 1);
    assert_true(told(&m, 64, &len));
    assert_int_equal(m.event, PORT_NAME);
    assert_int_equal(len, 8 + strlen(NAME));
    assert_memory_equal(m.more, NAME, strlen(NAME));
    control(0, PORT_READY, 1);
    assert_told(0, CONSOLE_PORT, 1);
    assert_true(told(&m, 64, &len));
    assert_int_equal(m.event, RESIZE);
    assert_int_equal(len, 12);
    assert_int_equal(m.more[0] | m.more[1] << 8, 132);
    assert_int_equal(m.more[2] | m.more[3] << 8, 43);
    assert_false(told(&m, 64, &len));

    virtio_console_open(t.con, 1, true);
    drv_settle(&t.drv);
    assert_told(1, PORT_OPEN, 1);
    virtio_console_open(t.con, 1, false);
    drv_settle(&t.drv);
    assert_told(1, PORT_OPEN, 0);
    virtio_console_resize(t.con, 80, 25);
    drv_settle(&t.drv);
    assert_told(0, RESIZE, 1);
}

static void test_hostile_control(void **state)
{
    struct message m;
    u32 len;

    control(2, PORT_READY, 1);
    control(UINT32_MAX, PORT_OPEN, 1);
    control(0, 77, 1);
    drv_chain(&t.drv, 3, &(struct virtq_seg){DRV_BUF_GPA, 7}, 1, NULL, 0);
    drv_chain(&t.drv, 3, &(struct virtq_seg){DRV_RAM_BYTES, 8}, 1, NULL, 0);
    drv_kick(&t.drv, 3);
    assert_false(told(&m, 64, &len));
    /* A thousand wishes: one message finds the buffer that waits, one more is kept. */
    for (unsigned i = 0; i < 1000; i++) {
        control(1, PORT_READY, 1);
        while (done(3))
            continue;
    }
    assert_told(1, PORT_NAME, 1);
    assert_told(1, PORT_NAME, 1);
    assert_false(told(&m, 64, &len));
    /* A buffer too small for the message comes back empty. */
    drv_start(&t.drv, MULTIPORT, 64);
    control(1, PORT_READY, 1);
    assert_true(told(&m, 9, &len));
    assert_int_equal(len, 0);
    assert_false(drv_needs_reset(&t.drv));
}

static void test_output_waits_for_the_host(void **state)
{
    u8 data[10000];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 7);
    ports_up();
    send_output(5, data, 100); /* nobody is there: dropped */
    assert_true(done(5));
    virtio_console_open(t.con, 1, true);
    drv_settle(&t.drv);
    t.room[1] = 5000;
    send_output(5, data, sizeof(data));
    assert_false(done(5));
    assert_int_equal(t.out_len[1], 5000);
    drv_kick(&t.drv, 5);
    assert_int_equal(t.out_len[1], 5000);
    t.room[1] = 60000;
    virtio_console_resume(t.con);
    drv_settle(&t.drv);
    assert_true(done(5));
    assert_int_equal(t.out_len[1], sizeof(data));
    assert_memory_equal(t.out[1], data, sizeof(data));
}

static void test_output_nobody_takes(void **state)
{
    ports_up();
    virtio_console_open(t.con, 1, true);
    t.room[1] = 3;
    send_output(5, "0123456789", 10);
    assert_false(done(5));
    virtio_console_open(t.con, 1, false); /* the host went away in the middle */
    drv_settle(&t.drv);
    assert_true(done(5));
    virtio_console_open(t.con, 1, true);
    t.room[1] = 100;
    send_output(5, "new", 3);
    assert_true(done(5));
    assert_int_equal(t.out_len[1], 6);
    assert_memory_equal(t.out[1], "012new", 6);
}

static void test_input_waits_for_the_guest(void **state)
{
    u8 data[CONSOLE_INPUT + 10] = {1, 2, 3};
    u32 head, len;

    ports_up();
    assert_int_equal(virtio_console_input(t.con, 1, data, sizeof(data)), CONSOLE_INPUT);
    assert_int_equal(virtio_console_room(t.con, 1), 0);
    give_input_buffer(4, 4000);
    assert_false(drv_used(&t.drv, 4, &head, &len)); /* nobody has the port open */
    control(1, PORT_OPEN, 1);
    assert_true(drv_used(&t.drv, 4, &head, &len));
    assert_int_equal(len, 4000);
    assert_int_equal(t.rooms, 1);
    assert_int_equal(virtio_console_room(t.con, 1), 4000);
    assert_int_equal(virtio_console_input(t.con, 1, data, 4000), 4000); /* around the end */
    give_input_buffer(4, 8000);
    assert_true(drv_used(&t.drv, 4, &head, &len));
    assert_int_equal(len, CONSOLE_INPUT);
    drv_get(&t.drv, DRV_BUF_GPA + 0x50000 + 96, data, 3);
    assert_memory_equal(data, "\1\2\3", 3);
    /* What waits when the guest closes the port is forgotten. */
    assert_int_equal(virtio_console_input(t.con, 1, data, 5), 5);
    control(1, PORT_OPEN, 0);
    assert_int_equal(virtio_console_room(t.con, 1), CONSOLE_INPUT);
}

static void test_input_into_a_hole(void **state)
{
    u32 head, len;

    ports_up();
    control(1, PORT_OPEN, 1);
    assert_int_equal(virtio_console_input(t.con, 1, (const u8 *)"abc", 3), 3);
    drv_chain(&t.drv, 4, NULL, 0, &(struct virtq_seg){DRV_RAM_BYTES, 100}, 1);
    drv_chain(&t.drv, 4, &(struct virtq_seg){DRV_BUF_GPA, 100}, 1, NULL, 0);
    drv_kick(&t.drv, 4);
    assert_true(drv_used(&t.drv, 4, &head, &len));
    assert_int_equal(len, 0);
    assert_true(drv_used(&t.drv, 4, &head, &len));
    assert_int_equal(len, 0);
    give_input_buffer(4, 100);
    assert_true(drv_used(&t.drv, 4, &head, &len));
    assert_int_equal(len, 3);
}

/* Input that finds no buffer asks the driver to kick when it adds one: by event index. */
static void test_no_buffer_asks_for_kicks(void **state)
{
    u64 event = drv_ring(4) + 0x8000 + 4 + 8 * 64;
    u32 head, len;
    u16 idx;

    drv_start(&t.drv, MULTIPORT | BIT64(VIRTIO_F_EVENT_IDX), 64);
    ports_up();
    control(1, PORT_OPEN, 1);
    give_input_buffer(4, 10);
    assert_int_equal(virtio_console_input(t.con, 1, (const u8 *)"abcdefghijklmnop", 16), 16);
    drv_settle(&t.drv);
    assert_true(drv_used(&t.drv, 4, &head, &len));
    assert_int_equal(len, 10);
    drv_get(&t.drv, event, &idx, 2);
    assert_int_equal(idx, 1);
    virtio_console_open(t.con, 1, true);
    drv_settle(&t.drv);
    drv_get(&t.drv, drv_ring(2) + 0x8000 + 4 + 8 * 64, &idx, 2);
    assert_int_equal(idx, t.drv.queue[2].avail_idx);
}

static void test_without_multiport(void **state)
{
    u32 head, len;
    u16 cols;

    virtio_console_open(t.con, 0, true);
    send_output(1, "hello", 5);
    assert_true(done(1));
    assert_memory_equal(t.out[0], "hello", 5);
    assert_int_equal(virtio_console_input(t.con, 0, (const u8 *)"x", 1), 1);
    give_input_buffer(0, 16);
    assert_true(drv_used(&t.drv, 0, &head, &len));
    assert_int_equal(len, 1);
    virtio_console_resize(t.con, 100, 30);
    drv_settle(&t.drv);
    assert_int_equal(t.drv.config_changes, 1);
    memcpy(&cols, t.con->dev.config, 2);
    assert_int_equal(cols, 100);
    control(0, DEVICE_READY, 1); /* there is no control queue */
    assert_false(done(3));
}

static void test_reset_in_the_middle(void **state)
{
    ports_up();
    virtio_console_open(t.con, 1, true);
    t.room[1] = 3;
    send_output(5, "0123456789", 10);
    drv_start(&t.drv, MULTIPORT, 64);
    t.room[1] = 100;
    ports_up();
    assert_told(1, PORT_OPEN, 1);
    send_output(5, "abcdef", 6);
    assert_true(done(5));
    assert_memory_equal(t.out[1], "012abcdef", 9);
}

static void test_snapshot(void **state)
{
    const struct snap_item item = {&virtio_console_snap, 0, t.con};
    struct snap_buf a = {0}, b = {0};
    struct err e = {0};

    ports_up();
    control(1, PORT_OPEN, 1);
    assert_int_equal(virtio_console_input(t.con, 1, (const u8 *)"abc", 3), 3);
    control(0, DEVICE_READY, 1);
    drv_settle(&t.drv);
    assert_ok(snap_save(&a, &item, 1, &e), e);
    drv_start(&t.drv, MULTIPORT, 64);
    assert_int_equal(t.con->guest_open[1], 0);
    assert_ok(snap_load(a.data, a.len, &item, 1, &e), e);
    assert_int_equal(t.con->guest_open[1], 1);
    assert_int_equal(t.con->input_len[1], 3);
    assert_ok(snap_save(&b, &item, 1, &e), e);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    t.con->input_len[1] = CONSOLE_INPUT + 1;
    snap_buf_free(&a);
    a = (struct snap_buf){0};
    assert_ok(snap_save(&a, &item, 1, &e), e);
    assert_refused(snap_load(a.data, a.len, &item, 1, &e), EINVAL, e, "beyond its buffer");
    t.con->input_len[1] = 0;
    snap_buf_free(&a);
    snap_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_control, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_control, setup, teardown),
        cmocka_unit_test_setup_teardown(test_output_waits_for_the_host, setup, teardown),
        cmocka_unit_test_setup_teardown(test_output_nobody_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input_waits_for_the_guest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input_into_a_hole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_buffer_asks_for_kicks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_multiport, setup_plain, teardown),
        cmocka_unit_test_setup_teardown(test_reset_in_the_middle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot, setup, teardown),
    };

    return cmocka_run_group_tests_name("virtio-console", tests, NULL, NULL);
}
