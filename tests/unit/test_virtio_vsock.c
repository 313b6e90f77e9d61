/* test_virtio_vsock.c - sockets between a small driver and programs of the host */
#include <sys/resource.h>

#include "vsock_world.h"

/* ---- tests ---- */

static void test_guest_connects(void **state)
{
    int listener = host_listen("_52"), fd;
    struct packet p;

    give_buffers(16);
    fd = open_from_guest(listener);
    send_op(OP_RW, 52, 0, "hello", 5);
    assert_read(fd, "hello", 5);
    assert_int_equal(write(fd, "world!", 6), 6);
    assert_op(OP_RW, &p);
    assert_int_equal(p.h.len, 6);
    assert_int_equal(p.h.fwd_cnt, 5);
    assert_memory_equal(p.data, "world!", 6);
    /* Each direction ends by itself. */
    shutdown(fd, SHUT_WR);
    assert_op(OP_SHUTDOWN, &p);
    assert_int_equal(p.h.flags, SHUT_SEND);
    send_op(OP_RW, 52, 0, "more", 4);
    assert_read(fd, "more", 4);
    send_op(OP_SHUTDOWN, 52, SHUT_SEND | SHUT_RECEIVE, NULL, 0);
    assert_op(OP_RST, &p);
    assert_end(fd);
    send_op(OP_RW, 52, 0, "late", 4);
    assert_op(OP_RST, &p);
    close(listener);
}

static void test_guest_ends_its_half(void **state)
{
    int listener = host_listen("_52"), fd;
    struct packet p;

    give_buffers(16);
    fd = open_from_guest(listener);
    send_op(OP_RW, 52, 0, "bye", 3);
    send_op(OP_SHUTDOWN, 52, SHUT_SEND, NULL, 0);
    assert_read(fd, "bye", 3);
    assert_int_equal(read(fd, &p, 1), 0);
    assert_int_equal(write(fd, "answer", 6), 6);
    close(fd);
    assert_op(OP_RW, &p);
    assert_int_equal(p.h.len, 6);
    /* The device may see the end of the data before it sees that nobody reads. */
    assert_op(OP_SHUTDOWN, &p);
    if (p.h.flags == SHUT_SEND)
        assert_op(OP_SHUTDOWN, &p);
    assert_int_equal(p.h.flags, SHUT_SEND | SHUT_RECEIVE);
    send_op(OP_RST, 52, 0, NULL, 0);
    assert_silent();
    close(listener);
}

static void test_nobody_listens(void **state)
{
    struct packet p;

    give_buffers(4);
    send_op(OP_REQUEST, 99, 0, NULL, 0);
    assert_op(OP_RST, &p);
    assert_int_equal(p.h.src_port, 99);
    assert_int_equal(t.v->conns, 0);
}

static void test_host_connects(void **state)
{
    char want[32];
    struct packet p;
    int fd = host_connect();

    give_buffers(16);
    assert_int_equal(write(fd, "CONN", 4), 4);
    assert_silent();
    assert_int_equal(write(fd, "ECT 1024\nearly", 14), 14);
    assert_op(OP_REQUEST, &p);
    assert_true(p.h.src_port >= VSOCK_HOST_PORT);
    assert_silent(); /* no data before the answer */
    send_op(OP_RESPONSE, p.h.src_port, 0, NULL, 0);
    snprintf(want, sizeof(want), "OK %u\n", p.h.src_port);
    assert_read(fd, want, strlen(want));
    assert_op(OP_RW, &p);
    assert_int_equal(p.h.len, 5);
    assert_memory_equal(p.data, "early", 5);
    send_op(OP_RW, p.h.src_port, 0, "pong", 4);
    assert_read(fd, "pong", 4);
    send_op(OP_RST, p.h.src_port, 0, NULL, 0);
    assert_end(fd);
    assert_silent();
}

static void test_guest_refuses(void **state)
{
    struct packet p;
    int fd = host_connect();

    give_buffers(4);
    assert_int_equal(write(fd, "CONNECT 1024\n", 13), 13);
    assert_op(OP_REQUEST, &p);
    send_op(OP_RST, p.h.src_port, 0, NULL, 0);
    assert_end(fd);
    /* Who goes away before the answer is forgotten. */
    fd = host_connect();
    assert_int_equal(write(fd, "CONNECT 1024\n", 13), 13);
    assert_op(OP_REQUEST, &p);
    close(fd);
    assert_op(OP_RST, &p);
    assert_int_equal(t.v->conns, 0);
}

static void test_bad_greetings(void **state)
{
    static const char *const bad[] = {
        "\n",
        "CONNECT\n",
        "CONNECT \n",
        "CONNECT x\n",
        "CONNECT -1\n",
        "CONNECT 1x\n",
        "CONNECT 4294967296\n",
        "CONNECT +1\n",
        "GET / HTTP/1.1\n",
        "CONNECT 11111111111111111111111111111111111111111111111111111111",
    };

    give_buffers(4);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int fd = host_connect();

        assert_int_equal(write(fd, bad[i], strlen(bad[i])), strlen(bad[i]));
        assert_end(fd);
    }
    assert_silent();
}

static void test_credit_of_the_guest(void **state)
{
    int listener = host_listen("_52"), fd;
    char data[3000] = {0};
    struct packet p;

    t.buf_alloc = 1000;
    give_buffers(16);
    fd = open_from_guest(listener);
    assert_int_equal(write(fd, data, 3000), 3000);
    assert_op(OP_RW, &p);
    assert_int_equal(p.h.len, 1000);
    assert_silent();
    t.fwd_cnt = 400;
    send_op(OP_CREDIT_UPDATE, 52, 0, NULL, 0);
    assert_op(OP_RW, &p);
    assert_int_equal(p.h.len, 400);
    t.fwd_cnt = 500000; /* more than was ever sent */
    send_op(OP_CREDIT_UPDATE, 52, 0, NULL, 0);
    assert_silent();
    t.fwd_cnt = 1400;
    t.buf_alloc = UINT32_MAX;
    close(fd); /* what was written before still comes */
    send_op(OP_CREDIT_UPDATE, 52, 0, NULL, 0);
    assert_op(OP_RW, &p);
    assert_int_equal(p.h.len, 1600);
    assert_op(OP_SHUTDOWN, &p);
    assert_int_equal(p.h.flags, SHUT_SEND | SHUT_RECEIVE);
    close(listener);
}

/* A host that does not read: the guest's bytes wait up to its credit, then it broke the rules. */
static void test_credit_of_the_host(void **state)
{
    static u8 data[60000];
    int listener = host_listen("_52"), fd;
    u64 sent = 0, got = 0;
    struct packet p;

    give_buffers(32);
    fd = open_from_guest(listener);
    for (;;) {
        struct vsock_conn *c = vsock_find(t.v, GUEST_PORT, 52);

        assert_non_null(c);
        if (c->out_len + sizeof(data) > VSOCK_BUFFER)
            break;
        for (size_t i = 0; i < sizeof(data); i++)
            data[i] = (u8)((sent + i) * 2654435761u >> 24);
        send_op(OP_RW, 52, 0, data, sizeof(data));
        sent += sizeof(data);
        assert_true(sent < 10 * MiB);
    }
    while (got < sent) {
        ssize_t n = read(fd, data, sizeof(data));

        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            if (data[i] != (u8)((got + (u64)i) * 2654435761u >> 24))
                fail_msg("byte %llu", (unsigned long long)got + i);
        got += (u64)n;
    }
    do {
        assert_op(OP_CREDIT_UPDATE, &p);
    } while (sent - p.h.fwd_cnt >= VSOCK_BUFFER / 2);
    send_op(OP_CREDIT_REQUEST, 52, 0, NULL, 0);
    assert_op(OP_CREDIT_UPDATE, &p);
    assert_int_equal(p.h.fwd_cnt, sent);

    for (unsigned i = 0; i < 200 && vsock_find(t.v, GUEST_PORT, 52); i++)
        send_op(OP_RW, 52, 0, data, sizeof(data));
    do {
        assert_true(get(&p));
    } while (p.h.op == OP_CREDIT_UPDATE);
    assert_int_equal(p.h.op, OP_RST);
    close(fd);
    close(listener);
}

/* Data that found no buffer goes on when there are some. */
static void test_data_waits_for_buffers(void **state)
{
    int listener = host_listen("_52"), fd;
    struct packet p;

    give_buffers(1);
    fd = open_from_guest(listener);
    assert_int_equal(write(fd, "data", 4), 4);
    assert_silent();
    give_buffers(1);
    assert_op(OP_RW, &p);
    assert_int_equal(write(fd, "more", 4), 4);
    assert_silent();
    close(fd);
    give_buffers(4);
    assert_op(OP_RW, &p);
    assert_memory_equal(p.data, "more", 4);
    assert_op(OP_SHUTDOWN, &p);
    close(listener);
}

static void test_no_buffers(void **state)
{
    int listener = host_listen("_52"), fd;
    struct vsock_header h = {
        .src_cid = CID, .dst_cid = 2, .src_port = GUEST_PORT, .type = 1, .op = OP_RW};
    unsigned waiting = 0, resets = 0;
    struct packet p;

    send_op(OP_REQUEST, 52, 0, NULL, 0);
    fd = host_accept(listener);
    assert_int_equal(write(fd, "data", 4), 4);
    /* Answers wait, up to a number; then packets do. */
    for (unsigned i = 0; i < VSOCK_RESETS + 10; i++) {
        u32 head, len;

        put(&h, NULL, 0);
        waiting += !drv_used(&t.drv, TX, &head, &len);
    }
    assert_true(waiting >= 9);
    give_buffers(40);
    give_buffers(24);
    for (unsigned i = 0; i < 64; i++) {
        assert_true(get(&p));
        resets += p.h.op == OP_RST;
    }
    give_buffers(24);
    while (resets < VSOCK_RESETS + 10) {
        assert_true(get(&p));
        resets += p.h.op == OP_RST;
        if (p.h.op == OP_RST)
            continue;
        assert_int_equal(p.h.op, OP_RESPONSE);
    }
    assert_true(get(&p));
    if (p.h.op == OP_RESPONSE)
        assert_true(get(&p));
    assert_int_equal(p.h.op, OP_RW);
    close(fd);
    close(listener);
}

static void test_hostile_packets(void **state)
{
    struct vsock_header good = {.src_cid = CID,
                                .dst_cid = 2,
                                .src_port = GUEST_PORT,
                                .dst_port = 52,
                                .type = 1,
                                .op = OP_REQUEST},
                        h;
    int listener = host_listen("_52"), fd;
    struct packet p;

    give_buffers(32);
    h = good;
    h.src_cid = CID + 1; /* another's name */
    put(&h, NULL, 0);
    h = good;
    h.dst_cid = 9;
    put(&h, NULL, 0);
    drv_chain(&t.drv, TX, &(struct virtq_seg){DRV_BUF_GPA, VSOCK_HEADER - 1}, 1, NULL, 0);
    drv_chain(&t.drv, TX, &(struct virtq_seg){DRV_RAM_BYTES - 1, VSOCK_HEADER}, 1, NULL, 0);
    drv_kick(&t.drv, TX);
    assert_silent();
    h = good;
    h.type = 2; /* seqpacket */
    put(&h, NULL, 0);
    assert_op(OP_RST, &p);
    assert_int_equal(p.h.type, 2);
    h = good;
    h.op = OP_RST;
    put(&h, NULL, 0);
    assert_silent(); /* no answer to an answer */

    fd = open_from_guest(listener);
    h = good;
    h.op = OP_RW;
    h.len = 100; /* and no such payload */
    put(&h, "x", 1);
    h.len = UINT32_MAX;
    put(&h, "x", 1);
    send_op(OP_RW, 52, 0, "ok", 2);
    assert_read(fd, "ok", 2);
    put(&good, NULL, 0); /* connected already */
    assert_op(OP_RST, &p);
    assert_end(fd);
    fd = open_from_guest(listener);
    h.op = 77;
    put(&h, NULL, 0);
    assert_op(OP_RST, &p);
    assert_end(fd);
    assert_false(drv_needs_reset(&t.drv));
    close(listener);
}

static void test_too_many(void **state)
{
    int listener = host_listen("_52");
    struct packet p;

    for (unsigned i = 0; i < VSOCK_CONNS_MAX + 5; i++) {
        struct vsock_header h = {.src_cid = CID,
                                 .dst_cid = 2,
                                 .src_port = 5000 + i,
                                 .dst_port = 52,
                                 .type = 1,
                                 .op = OP_REQUEST};

        give_buffers(1);
        put(&h, NULL, 0);
        assert_true(get(&p));
        assert_int_equal(p.h.op, i < VSOCK_CONNS_MAX ? OP_RESPONSE : OP_RST);
    }
    assert_end(host_connect());
    close(listener);
}

static void test_reset_closes(void **state)
{
    int listener = host_listen("_52"), fd, waiting;

    give_buffers(8);
    fd = open_from_guest(listener);
    waiting = host_connect();
    drv_start(&t.drv, 0, 64);
    assert_end(fd);
    assert_end(waiting);
    give_buffers(8);
    close(open_from_guest(listener));
    close(listener);
}

static void save_and_load(void *arg)
{
    const struct snap_item item = {&virtio_vsock_snap, 0, virtio_vsock_dev(t.v)};
    struct snap_buf buf = {0};
    struct err e = {0};

    assert_ok(snap_save(&buf, &item, 1, &e), e);
    assert_ok(snap_load(buf.data, buf.len, &item, 1, &e), e);
    virtio_vsock_dev(t.v)->ops->start(virtio_vsock_dev(t.v));
    snap_buf_free(&buf);
}

static void test_snapshot_resets(void **state)
{
    int listener = host_listen("_52"), fd;
    u32 head, len, id = 9;

    give_buffers(8);
    drv_chain(&t.drv, EVENT, NULL, 0, &(struct virtq_seg){DRV_BUF_GPA + 0x1000, 8}, 1);
    drv_kick(&t.drv, EVENT);
    fd = open_from_guest(listener);
    iothread_call(t.drv.io, save_and_load, NULL);
    drv_settle(&t.drv);
    assert_end(fd);
    assert_true(drv_used(&t.drv, EVENT, &head, &len));
    assert_int_equal(len, 4);
    drv_get(&t.drv, DRV_BUF_GPA + 0x1000, &id, 4);
    assert_int_equal(id, 0);
    close(listener);
}

/* A host out of descriptors refuses, and goes on when there are some again. */
static void test_no_descriptors(void **state)
{
    struct rlimit old, none;
    int fd = host_connect(), other;
    struct packet p;

    give_buffers(8);
    assert_int_equal(write(fd, "CONNECT 1024\n", 13), 13);
    assert_op(OP_REQUEST, &p);
    other = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){3, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    send_op(OP_REQUEST, 52, 0, NULL, 0);
    {
        struct sockaddr_un a = address("");

        assert_int_equal(connect(other, (struct sockaddr *)&a, sizeof(a)), 0);
    }
    usleep(20000);
    drv_settle(&t.drv);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_op(OP_RST, &p);
    assert_int_equal(write(other, "CONNECT 1024\n", 13), 13);
    drv_kick(&t.drv, TX);
    assert_op(OP_REQUEST, &p);
    close(other);
    close(fd);
}

static void test_path_in_use(void **state)
{
    struct virtio_vsock_config cfg = {.cid = CID, .path = t.path};
    struct virtio_vsock *v;
    struct err e = {0};

    assert_refused(virtio_vsock_create(&cfg, t.drv.mem, iothread_loop(t.drv.io), &v, &e),
                   EADDRINUSE, e, "in use");
    close(host_listen("_stale"));
    {
        char stale[120];

        snprintf(stale, sizeof(stale), "%s_stale", t.path);
        cfg.path = stale;
        assert_ok(virtio_vsock_create(&cfg, t.drv.mem, iothread_loop(t.drv.io), &v, &e), e);
        virtio_vsock_destroy(virtio_vsock_dev(v));
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_guest_connects),      T(test_guest_ends_its_half),
        T(test_nobody_listens),      T(test_host_connects),
        T(test_guest_refuses),       T(test_bad_greetings),
        T(test_credit_of_the_guest), T(test_credit_of_the_host),
        T(test_no_buffers),          T(test_data_waits_for_buffers),
        T(test_hostile_packets),     T(test_too_many),
        T(test_reset_closes),        T(test_snapshot_resets),
        T(test_no_descriptors),      T(test_path_in_use),
    };

    return cmocka_run_group_tests_name("virtio-vsock", tests, NULL, NULL);
}
