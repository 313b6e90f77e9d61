/* vsock_priv.h - connections of the socket device (private to vsock.c and vsock_conn.c)
 *
 * Everything here belongs to the device's I/O thread.
 */
#pragma once

#include "dev/virtio/vsock.h"

#define VSOCK_BUCKETS   64
#define VSOCK_RESETS    64 /* answers to packets of no connection that may wait for a buffer */
#define VSOCK_LINE      24 /* bytes of "CONNECT 4294967295\n" and some */
#define VSOCK_HOST_PORT 0x40000000u /* the first of the host's own ends */

/* struct virtio_vsock_hdr, packed: 5.10.6 */
struct vsock_header {
    u64 src_cid, dst_cid;
    u32 src_port, dst_port, len;
    u16 type, op;
    u32 flags, buf_alloc, fwd_cnt;
};
#define VSOCK_HEADER 44u

enum vsock_op {
    OP_REQUEST = 1,
    OP_RESPONSE = 2,
    OP_RST = 3,
    OP_SHUTDOWN = 4,
    OP_RW = 5,
    OP_CREDIT_UPDATE = 6,
    OP_CREDIT_REQUEST = 7,
};

#define SHUT_RECEIVE 1u /* flags of OP_SHUTDOWN: its sender will not receive, will not send */
#define SHUT_SEND    2u

enum conn_state {
    CONN_GREETING,  /* the host's program has not said which port it wants */
    CONN_REQUESTED, /* the guest has not answered */
    CONN_OPEN,
    CONN_CLOSED, /* without descriptor: until OP_RST is sent */
};

struct vsock_conn {
    struct virtio_vsock *v;
    struct vsock_conn *next; /* in the bucket */
    enum conn_state state;
    u32 guest_port, host_port;
    int fd;
    unsigned events; /* that the loop watches */
    bool watched, hung_up;
    u8 pending; /* packets to send: 1 << enum vsock_op */

    char line[VSOCK_LINE]; /* CONN_GREETING */
    size_t line_len;

    /* guest to host: what the socket has not taken, a ring of VSOCK_BUFFER that is made when
     * needed */
    u8 *out;
    u32 out_head, out_len;
    u32 fwd_cnt;      /* bytes the host has taken, modulo 2^32 */
    u32 fwd_told;     /* ...as the guest knows */
    unsigned shut;    /* SHUT_* that the guest sent */
    bool shut_passed; /* the host's reader was told of SHUT_SEND */

    /* host to guest */
    u32 sent, peer_buf_alloc, peer_fwd_cnt;
    bool end_read; /* the host's program sends no more */
    u8 shut_flags; /* of the OP_SHUTDOWN that is pending */
};

struct virtio_vsock {
    struct virtio_dev dev;
    u64 cid;
    char path[VSOCK_PATH_BYTES];
    u8 config[8];
    int listener;
    bool deaf;        /* the listener is not watched for now */
    bool stalled;     /* packets of the driver wait for room in `reset` */
    bool starved;     /* the driver gave no buffers; it will kick */
    bool reset_event; /* the guest is to be told that its connections are gone */
    struct loop_task task;

    struct vsock_conn *bucket[VSOCK_BUCKETS];
    unsigned conns;
    u32 next_port;
    struct vsock_header reset[VSOCK_RESETS];
    unsigned resets;
    u8 scratch[VSOCK_PACKET_MAX];
};

/* ---- vsock.c ---- */

/* A packet of the connection with the first len bytes of v->scratch; false when there is no buffer.
 * *room is what one buffer takes. */
bool vsock_send(struct vsock_conn *c, enum vsock_op op, u32 flags, u32 len);
/* Bytes of payload that the next buffer of the driver takes; 0: there is none, v->starved. */
u32 vsock_room(struct virtio_vsock *v);
/* Sends what is pending and what the host's programs have sent, as far as there are buffers. */
void vsock_pump(struct virtio_vsock *v);

/* ---- vsock_conn.c ---- */

struct vsock_conn *vsock_find(struct virtio_vsock *v, u32 guest_port, u32 host_port);
/* The guest asks for a connection; it becomes one, or a pending OP_RST. False: there are too many,
 * the caller answers. */
bool vsock_connect(struct virtio_vsock *v, const struct vsock_header *h);
/* A packet of the guest for the connection; a payload of h->len bytes is in v->scratch. */
void vsock_receive(struct vsock_conn *c, const struct vsock_header *h);
/* Sends what is pending and readable. False when it found no buffer. Frees c when it is over. */
bool vsock_conn_pump(struct vsock_conn *c);
void vsock_conn_free(struct vsock_conn *c);
/* The host's program waits at the listener. */
void vsock_accept(void *arg, unsigned events);
