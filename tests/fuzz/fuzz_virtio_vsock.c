/* fuzz_virtio_vsock.c - packets of a hostile driver, and programs of the host that come and go */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio_input.h"

#include "dev/virtio/vsock_priv.h"
#include "host/usock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PEERS 4

static struct {
    char path[64];
    struct virtio_vsock *v;
    int listener; /* port 1 */
    int peer[PEERS];
} w;

/* A packet that is mostly right: the generic inputs would seldom find one. */
static void put_packet(struct virtio_fuzz *f)
{
    u64 ring = VF_RING_GPA + VF_RING_BYTES, bits = vf_take(f, 1);
    struct vsock_header h = {
        .src_cid = 3,
        .dst_cid = 2,
        .src_port = (u32)vf_take(f, 1) & 3,
        .dst_port = bits & 1 ? 1 : VSOCK_HOST_PORT + ((u32)bits >> 4),
        .len = (u32)vf_take(f, 2),
        .type = bits & 2 ? 1 : (u16)vf_take(f, 1),
        .op = (u16)(vf_take(f, 1) & 7),
        .flags = (u32)vf_take(f, 1),
        .buf_alloc = bits & 4 ? 65536 : (u32)vf_take(f, 4),
        .fwd_cnt = bits & 8 ? 0 : (u32)vf_take(f, 4),
    };
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } d = {0x80000, 0x10000, 0, 0};

    (void)!mem_write(f->mem, 0x80000, &h, VSOCK_HEADER);
    (void)!mem_write(f->mem, ring, &d, sizeof(d));
    (void)!mem_write(f->mem, ring + 0x804 + 2ull * (f->avail[1] % VF_QUEUE_SIZE), &d.flags, 2);
    f->avail[1]++;
    (void)!mem_write(f->mem, ring + 0x802, &f->avail[1], 2);
    vf_set(f, 0x3004, 2, 1);
    vf_settle(f);
}

static void host_acts(struct virtio_fuzz *f)
{
    static const char greeting[] = "CONNECT 2\nsome bytes for the guest";
    unsigned what = (unsigned)vf_take(f, 1);
    int *peer = &w.peer[what % PEERS];
    char bytes[4096];

    switch (what >> 2 & 7) {
    case 0:
        if (*peer >= 0)
            close(*peer);
        *peer = usock_connect(w.path);
        break;
    case 1:
        if (*peer >= 0)
            close(*peer);
        *peer = usock_accept(w.listener);
        break;
    case 2: (void)!usock_send(*peer, greeting, vf_take(f, 1) % sizeof(greeting)); break;
    case 3: (void)!usock_send(*peer, greeting, 10); break;
    case 4: (void)!usock_recv(*peer, bytes, sizeof(bytes)); break;
    case 5: usock_shutdown(*peer, what & 32, what & 64); break;
    case 6:
        if (*peer >= 0)
            close(*peer);
        *peer = -1;
        break;
    default: put_packet(f); break;
    }
    vf_settle(f);
}

static void make_world(struct virtio_fuzz *f)
{
    struct virtio_vsock_config cfg = {.cid = 3, .path = w.path};
    char listener[80];
    int rc;

    snprintf(w.path, sizeof(w.path), "/tmp/ring3-fuzz-vsock-%d", (int)getpid());
    snprintf(listener, sizeof(listener), "%s_1", w.path);
    for (unsigned i = 0; i < PEERS; i++)
        w.peer[i] = -1;
    rc = usock_listen(listener, &w.listener, NULL);
    if (!rc)
        rc = virtio_vsock_create(&cfg, f->mem, f->loop, &w.v, NULL);
    ASSERT(rc == 0);
}

static void end_world(void)
{
    char listener[80];

    for (unsigned i = 0; i < PEERS; i++)
        if (w.peer[i] >= 0)
            close(w.peer[i]);
    virtio_vsock_destroy(virtio_vsock_dev(w.v));
    snprintf(listener, sizeof(listener), "%s_1", w.path);
    usock_unlisten(listener, w.listener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_fuzz *f = malloc(sizeof(*f));

    ASSERT(f);
    vf_open(f, data, size);
    make_world(f);
    f->act = host_acts;
    vf_run(f, virtio_vsock_dev(w.v));
    ASSERT(w.v->conns == 0);
    end_world();
    vf_close(f);
    free(f);
    return 0;
}
