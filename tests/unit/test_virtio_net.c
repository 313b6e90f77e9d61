/* test_virtio_net.c - virtio-net over a backend that keeps what it gets; checksums */
#include "unit.h"

#include "dev/virtio/net.h"
#include "host/net/checksum.h"
#include "virtio_driver.h"

#define HDR 12u

struct fake {
    struct netdev net;
    unsigned sent;
    bool full;
    u8 last[NET_FRAME_MAX];
    size_t last_len;
    unsigned resumes;
};

static struct drv drv;
static struct fake fake;
static struct virtio_dev *dev;

static int fake_send(struct netdev *n, const u8 *frame, size_t len)
{
    struct fake *f = container_of(n, struct fake, net);

    if (f->full)
        return -EAGAIN;
    memcpy(f->last, frame, len);
    f->last_len = len;
    f->sent++;
    return 0;
}

static void fake_resume(struct netdev *n)
{
    container_of(n, struct fake, net)->resumes++;
}

static void fake_close(struct netdev *n)
{
}

static const struct netdev_ops fake_ops = {fake_send, fake_resume, fake_close};

static int setup(void **state)
{
    static const u8 mac[6] = {2, 0, 0, 0, 0, 9};
    int rc;

    memset(&fake, 0, sizeof(fake));
    fake.net = (struct netdev){.ops = &fake_ops, .gso = true, .link = true};
    drv_open(&drv);
    rc = virtio_net_create(mac, &fake.net, drv.mem, iothread_loop(drv.io), &dev, NULL);
    assert_int_equal(rc, 0);
    drv_attach(&drv, dev);
    return 0;
}

static int teardown(void **state)
{
    drv_stop(&drv);
    virtio_net_destroy(dev);
    drv_close(&drv);
    return 0;
}

/* A frame of `len` bytes behind a header, offered for sending and kicked. */
static void send_frame(const u8 *hdr, const u8 *frame, u32 len)
{
    drv_put(&drv, DRV_BUF_GPA, hdr, HDR);
    drv_put(&drv, DRV_BUF_GPA + 0x1000, frame, len);
    drv_chain(&drv, 1, (struct virtq_seg[]){{DRV_BUF_GPA, HDR}, {DRV_BUF_GPA + 0x1000, len}}, 2,
              NULL, 0);
    drv_kick(&drv, 1);
}

static bool tx_done(void)
{
    u32 head = 0, len = 0;

    return drv_used(&drv, 1, &head, &len);
}

static void sends(void **state)
{
    static u8 frame[NET_FRAME_MAX + 10], hdr[HDR];

    drv_start(&drv, UINT64_MAX & dev->features, 64);
    for (size_t i = 0; i < sizeof(frame); i++)
        frame[i] = (u8)(i * 7);
    send_frame(hdr, frame, 60);
    assert_true(tx_done());
    assert_int_equal(fake.last_len, 60);
    assert_memory_equal(fake.last, frame, 60);
    send_frame(hdr, frame, NET_FRAME_MAX);
    assert_true(tx_done());
    assert_int_equal(fake.last_len, NET_FRAME_MAX);
    /* too long, or nothing: given back, not sent */
    send_frame(hdr, frame, NET_FRAME_MAX + 1);
    assert_true(tx_done());
    drv_chain(&drv, 1, (struct virtq_seg[]){{DRV_BUF_GPA, HDR}}, 1, NULL, 0);
    drv_kick(&drv, 1);
    assert_true(tx_done());
    assert_int_equal(fake.sent, 2);
    assert_false(drv_needs_reset(&drv));
}

/* The sum over the words of a buffer, the slow way. */
static u16 reference(const u8 *p, size_t len)
{
    u32 sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (u32)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

static void checksums(void **state)
{
    static u8 buf[3000];
    unsigned seed = 1;

    for (unsigned i = 0; i < 2000; i++) {
        size_t at = (size_t)rand_r(&seed) % 16, len = (size_t)rand_r(&seed) % (sizeof(buf) - 16);

        for (size_t k = 0; k < sizeof(buf); k++)
            buf[k] = i % 3 ? (u8)rand_r(&seed) : 0xff;
        assert_int_equal(checksum_add(0, buf + at, len) % 0xffff,
                         reference(buf + at, len) % 0xffff);
    }
}

static void completes_checksums(void **state)
{
    u8 frame[100], hdr[HDR] = {1, 0, 0, 0, 0, 0, 34, 0, 16, 0};

    drv_start(&drv, UINT64_MAX & dev->features, 64);
    memset(frame, 0x5c, sizeof(frame));
    frame[50] = 0x12; /* the sum of the pseudo header */
    frame[51] = 0x34;
    send_frame(hdr, frame, sizeof(frame));
    assert_int_equal(fake.sent, 1);
    /* with the checksum in place the whole sums up to the pseudo header's complement: all ones */
    fake.last[50] = (u8)(fake.last[50]);
    assert_int_equal((reference(fake.last + 34, 66) + 0x1234) % 0xffff, 0);
    /* places outside of the frame */
    for (unsigned i = 0; i < 3; i++) {
        static const u8 at[3][4] = {{99, 0, 16, 0}, {34, 0, 65, 0}, {0xff, 0xff, 0xff, 0xff}};

        memcpy(hdr + 6, at[i], 4);
        send_frame(hdr, frame, sizeof(frame));
        assert_int_equal(fake.sent, 1);
    }
    /* a segmentation that nobody offered, and one without a checksum to complete */
    memset(hdr, 0, HDR);
    hdr[1] = 3;
    send_frame(hdr, frame, sizeof(frame));
    hdr[1] = 1;
    send_frame(hdr, frame, sizeof(frame));
    assert_int_equal(fake.sent, 1);
    assert_false(drv_needs_reset(&drv));
}

static void writable(void *arg)
{
    fake.full = false;
    fake.net.user.writable(fake.net.user.arg);
}

static void waits_for_the_backend(void **state)
{
    u8 frame[64] = {1}, hdr[HDR] = {0};

    drv_start(&drv, UINT64_MAX & dev->features, 64);
    fake.full = true;
    send_frame(hdr, frame, sizeof(frame));
    assert_false(tx_done());
    iothread_call(drv.io, writable, NULL);
    drv_settle(&drv);
    assert_true(tx_done());
    assert_int_equal(fake.sent, 1);
}

struct rx {
    const u8 *frame;
    size_t len;
    bool taken;
};

static void deliver(void *arg)
{
    struct rx *r = arg;

    r->taken = fake.net.user.receive(fake.net.user.arg, r->frame, r->len);
}

static bool receive(const u8 *frame, size_t len)
{
    struct rx r = {frame, len, false};

    iothread_call(drv.io, deliver, &r);
    return r.taken;
}

/* A frame larger than a buffer spreads over several, told in the first one's header. */
static void merges_buffers(void **state)
{
    static u8 frame[5000], got[5000 + HDR];
    u32 head = 0, len = 0, total = 0;

    for (size_t i = 0; i < sizeof(frame); i++)
        frame[i] = (u8)(i * 13);
    drv_start(&drv, UINT64_MAX & dev->features, 64);
    assert_false(receive(frame, sizeof(frame))); /* no buffers yet */
    for (unsigned i = 0; i < 4; i++)
        drv_chain(&drv, 0, NULL, 0, (struct virtq_seg[]){{DRV_BUF_GPA + 0x1000 * i, 1500}}, 1);
    assert_true(receive(frame, sizeof(frame)));
    for (unsigned i = 0; i < 4; i++) {
        assert_true(drv_used(&drv, 0, &head, &len));
        drv_get(&drv, DRV_BUF_GPA + 0x1000 * i, got + total, len);
        total += len;
    }
    assert_int_equal(total, sizeof(frame) + HDR);
    assert_int_equal(got[10] | got[11] << 8, 4);
    assert_memory_equal(got + HDR, frame, sizeof(frame));
    assert_false(receive(frame, 60));
    drv_kick(&drv, 0);
    assert_true(fake.resumes > 0);
}

/* Without merging, a frame that no buffer can hold is lost, not kept for ever. */
static void one_buffer_only(void **state)
{
    static u8 frame[5000];
    u32 head = 0, len = 0;

    drv_start(&drv, 0, 64);
    drv_chain(&drv, 0, NULL, 0, (struct virtq_seg[]){{DRV_BUF_GPA, 1600}}, 1);
    assert_true(receive(frame, sizeof(frame)));
    assert_false(drv_used(&drv, 0, &head, &len));
    assert_true(receive(frame, 60));
    assert_true(drv_used(&drv, 0, &head, &len));
    assert_int_equal(len, 60 + HDR);
}

static u8 control(u8 class, u8 command, const u8 *data, u32 len)
{
    u8 head[2] = {class, command}, ack = 0xee;
    u32 used, written;

    drv_put(&drv, DRV_BUF_GPA, head, 2);
    drv_put(&drv, DRV_BUF_GPA + 64, data, len);
    drv_put(&drv, DRV_BUF_GPA + 128, &ack, 1);
    drv_chain(&drv, 2, (struct virtq_seg[]){{DRV_BUF_GPA, 2}, {DRV_BUF_GPA + 64, len}}, 2,
              (struct virtq_seg[]){{DRV_BUF_GPA + 128, 1}}, 1);
    drv_kick(&drv, 2);
    assert_true(drv_used(&drv, 2, &used, &written));
    drv_get(&drv, DRV_BUF_GPA + 128, &ack, 1);
    return ack;
}

static void commands(void **state)
{
    static const u8 on[1] = {1}, mac[6] = {2, 1, 2, 3, 4, 5};

    drv_start(&drv, UINT64_MAX & dev->features, 64);
    assert_int_equal(control(0, 0, on, 1), 0);
    assert_int_equal(control(0, 9, on, 1), 1);
    assert_int_equal(control(1, 1, mac, 6), 0);
    assert_memory_equal(dev->config, mac, 6);
    assert_int_equal(control(1, 1, mac, 5), 1);
    assert_int_equal(control(77, 1, mac, 6), 1);
    assert_false(drv_needs_reset(&drv));
}

static void pull_cable(void *arg)
{
    fake.net.user.link(fake.net.user.arg, false);
}

static void link_status(void **state)
{
    drv_start(&drv, UINT64_MAX & dev->features, 64);
    assert_int_equal(dev->config[6], 1);
    iothread_call(drv.io, pull_cable, NULL);
    assert_int_equal(dev->config[6], 0);
    assert_int_equal(drv.config_changes, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums),
        cmocka_unit_test_setup_teardown(sends, setup, teardown),
        cmocka_unit_test_setup_teardown(completes_checksums, setup, teardown),
        cmocka_unit_test_setup_teardown(waits_for_the_backend, setup, teardown),
        cmocka_unit_test_setup_teardown(merges_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(one_buffer_only, setup, teardown),
        cmocka_unit_test_setup_teardown(commands, setup, teardown),
        cmocka_unit_test_setup_teardown(link_status, setup, teardown),
    };

    return cmocka_run_group_tests_name("virtio-net", tests, NULL, NULL);
}
