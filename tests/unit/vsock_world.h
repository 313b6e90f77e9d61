/* vsock_world.h - the socket device between a small driver and programs of the host */
#pragma once

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "unit.h"
#include "virtio_driver.h"

#include "dev/virtio/vsock_priv.h"

#define CID        7u
#define GUEST_PORT 1024u
#define RX         0
#define TX         1
#define EVENT      2
#define RX_BUF     (DRV_BUF_GPA + 0x100000)
#define RX_BYTES   8192u

static struct {
    struct drv drv;
    struct virtio_vsock *v;
    char dir[64], path[80];
    u32 buf_alloc, fwd_cnt; /* what the guest's packets say */
} t;

struct packet {
    struct vsock_header h;
    u32 used; /* as the used ring tells */
    u8 data[RX_BYTES];
};

static int setup(void **state)
{
    struct virtio_vsock_config cfg = {.cid = CID};
    struct err e = {0};

    memset(&t, 0, sizeof(t));
    strcpy(t.dir, "/tmp/ring3-vsock-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    snprintf(t.path, sizeof(t.path), "%s/v", t.dir);
    cfg.path = t.path;
    t.buf_alloc = 256 * 1024;
    drv_open(&t.drv);
    assert_ok(virtio_vsock_create(&cfg, t.drv.mem, iothread_loop(t.drv.io), &t.v, &e), e);
    drv_attach(&t.drv, virtio_vsock_dev(t.v));
    drv_start(&t.drv, 0, 64);
    return 0;
}

static int teardown(void **state)
{
    char cmd[96];

    drv_stop(&t.drv);
    assert_int_equal(t.v->conns, 0);
    virtio_vsock_destroy(virtio_vsock_dev(t.v));
    drv_close(&t.drv);
    assert_int_not_equal(access(t.path, F_OK), 0);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", t.dir);
    return system(cmd);
}

/* ---- the driver ---- */

static void give_buffers(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        u16 slot = t.drv.queue[RX].next_desc % 64;

        drv_chain(&t.drv, RX, NULL, 0, &(struct virtq_seg){RX_BUF + slot * RX_BYTES, RX_BYTES}, 1);
    }
    drv_kick(&t.drv, RX);
}

static void put(const struct vsock_header *h, const void *data, u32 len)
{
    struct virtq_seg out[] = {{DRV_BUF_GPA, VSOCK_HEADER}, {DRV_BUF_GPA + 64, len}};

    drv_put(&t.drv, DRV_BUF_GPA, h, VSOCK_HEADER);
    if (len)
        drv_put(&t.drv, DRV_BUF_GPA + 64, data, len);
    drv_chain(&t.drv, TX, out, len ? 2 : 1, NULL, 0);
    drv_kick(&t.drv, TX);
}

static void send_op(enum vsock_op op, u32 host_port, u32 flags, const void *data, u32 len)
{
    struct vsock_header h = {
        .src_cid = CID,
        .dst_cid = VSOCK_CID_HOST,
        .src_port = GUEST_PORT,
        .dst_port = host_port,
        .len = len,
        .type = 1,
        .op = (u16)op,
        .flags = flags,
        .buf_alloc = t.buf_alloc,
        .fwd_cnt = t.fwd_cnt,
    };

    put(&h, data, len);
}

/* The next packet to the guest, within a second. */
static bool get(struct packet *p)
{
    u32 head;

    for (unsigned i = 0; i < 1000; i++) {
        if (drv_used(&t.drv, RX, &head, &p->used)) {
            drv_get(&t.drv, RX_BUF + head * RX_BYTES, &p->h, VSOCK_HEADER);
            drv_get(&t.drv, RX_BUF + head * RX_BYTES + VSOCK_HEADER, p->data, RX_BYTES - 64);
            return true;
        }
        usleep(1000);
        drv_settle(&t.drv);
    }
    return false;
}

static void assert_op(enum vsock_op op, struct packet *p)
{
    assert_true(get(p));
    assert_int_equal(p->h.op, op);
    assert_int_equal(p->h.src_cid, VSOCK_CID_HOST);
    assert_int_equal(p->h.dst_cid, CID);
    assert_int_equal(p->h.dst_port, GUEST_PORT);
    assert_int_equal(p->used, VSOCK_HEADER + p->h.len);
}

static void assert_silent(void)
{
    u32 head, len;

    usleep(20000);
    drv_settle(&t.drv);
    assert_false(drv_used(&t.drv, RX, &head, &len));
}

/* ---- the host's programs ---- */

static struct sockaddr_un address(const char *suffix)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", t.path, suffix);
    return a;
}

static int host_listen(const char *suffix)
{
    struct sockaddr_un a = address(suffix);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 300), 0);
    return fd;
}

static int host_connect(void)
{
    struct sockaddr_un a = address("");
    struct timeval limit = {.tv_sec = 5};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static int host_accept(int listener)
{
    struct timeval limit = {.tv_sec = 5};
    int fd = accept(listener, NULL, NULL);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void assert_read(int fd, const void *want, size_t len)
{
    char got[256];
    size_t have = 0;

    while (have < len) {
        ssize_t n = read(fd, got + have, len - have);

        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_memory_equal(got, want, len);
}

static void assert_end(int fd)
{
    char byte;
    ssize_t n = read(fd, &byte, 1);

    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
    close(fd);
}

/* A connection of the guest to host port 52: the host's end. */
static int open_from_guest(int listener)
{
    struct packet p;
    int fd;

    send_op(OP_REQUEST, 52, 0, NULL, 0);
    fd = host_accept(listener);
    assert_op(OP_RESPONSE, &p);
    assert_int_equal(p.h.src_port, 52);
    assert_int_equal(p.h.buf_alloc, VSOCK_BUFFER);
    return fd;
}
