/* vsock_conn.c - one connection between a port of the guest and a unix socket */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/virtio/vsock_priv.h"
#include "host/usock.h"

#define READS_MAX 16 /* packets for one event: others want to be served, too */

/* ---- the table ---- */

static struct vsock_conn **bucket_of(struct virtio_vsock *v, u32 guest_port, u32 host_port)
{
    return &v->bucket[(guest_port * 31 + host_port) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_find(struct virtio_vsock *v, u32 guest_port, u32 host_port)
{
    struct vsock_conn *c = *bucket_of(v, guest_port, host_port);

    while (c &&
           (c->guest_port != guest_port || c->host_port != host_port || c->state == CONN_GREETING))
        c = c->next;
    return c;
}

static void link_conn(struct vsock_conn *c)
{
    struct vsock_conn **at = bucket_of(c->v, c->guest_port, c->host_port);

    c->next = *at;
    *at = c;
}

static void unlink_conn(struct vsock_conn *c)
{
    struct vsock_conn **at = bucket_of(c->v, c->guest_port, c->host_port);

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

static struct vsock_conn *new_conn(struct virtio_vsock *v, int fd)
{
    struct vsock_conn *c = v->conns < VSOCK_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

    if (!c)
        return NULL;
    c->v = v;
    c->fd = fd;
    v->conns++;
    return c;
}

static void unwatch(struct vsock_conn *c)
{
    if (c->watched)
        loop_del_fd(c->v->dev.loop, c->fd);
    c->watched = false;
}

static void close_fd(struct vsock_conn *c)
{
    unwatch(c);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    free(c->out);
    c->out = NULL;
    c->out_len = 0;
}

void vsock_conn_free(struct vsock_conn *c)
{
    close_fd(c);
    unlink_conn(c);
    c->v->conns--;
    free(c);
}

/* Over at once; the guest is told by OP_RST. */
static void reset(struct vsock_conn *c)
{
    close_fd(c);
    c->state = CONN_CLOSED;
    c->pending = BIT(OP_RST);
}

/* ---- guest to host ---- */

static void took(struct vsock_conn *c, u32 n)
{
    c->fwd_cnt += n;
    if (c->fwd_cnt - c->fwd_told >= VSOCK_BUFFER / 2)
        c->pending |= BIT(OP_CREDIT_UPDATE);
}

/* What the guest said about ending comes after its last byte. */
static void pass_shutdown(struct vsock_conn *c)
{
    if (c->out_len)
        return;
    if (c->shut == (SHUT_SEND | SHUT_RECEIVE)) {
        reset(c);
    } else if (c->shut & SHUT_SEND && !c->shut_passed) {
        c->shut_passed = true;
        usock_shutdown(c->fd, false, true);
    }
}

static void send_out(struct vsock_conn *c)
{
    while (c->out_len) {
        u32 run = MIN(c->out_len, VSOCK_BUFFER - c->out_head);
        s64 n = usock_send(c->fd, c->out + c->out_head, run);

        if (n == -EAGAIN)
            return;
        if (n < 0) {
            reset(c);
            return;
        }
        c->out_head = (c->out_head + (u32)n) % VSOCK_BUFFER;
        c->out_len -= (u32)n;
        took(c, (u32)n);
    }
    pass_shutdown(c);
}

/* Keeps bytes that the socket did not take. */
static bool keep(struct vsock_conn *c, const u8 *data, u32 len)
{
    u32 tail = (c->out_head + c->out_len) % VSOCK_BUFFER, first = MIN(len, VSOCK_BUFFER - tail);

    if (!c->out)
        c->out = malloc(VSOCK_BUFFER);
    if (!c->out)
        return false;
    memcpy(c->out + tail, data, first);
    memcpy(c->out, data + first, len - first);
    c->out_len += len;
    return true;
}

static void data_from_guest(struct vsock_conn *c, u32 len)
{
    s64 n = 0;

    if (c->state != CONN_OPEN || c->shut & SHUT_SEND || len > VSOCK_BUFFER - c->out_len) {
        reset(c); /* more than it was given credit for, or at the wrong time */
        return;
    }
    if (!c->out_len)
        n = usock_send(c->fd, c->v->scratch, len);
    if (n == -EAGAIN)
        n = 0;
    if (n >= 0)
        took(c, (u32)n);
    if (n < 0 || ((u32)n < len && !keep(c, c->v->scratch + n, len - (u32)n)))
        reset(c);
}

static void request_answered(struct vsock_conn *c)
{
    char line[VSOCK_LINE];
    int n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

    if (c->state != CONN_REQUESTED || usock_send(c->fd, line, (size_t)n) != n)
        reset(c);
    else
        c->state = CONN_OPEN;
}

void vsock_receive(struct vsock_conn *c, const struct vsock_header *h)
{
    if (c->state == CONN_CLOSED)
        return; /* its OP_RST is under way */
    c->peer_buf_alloc = h->buf_alloc;
    c->peer_fwd_cnt = h->fwd_cnt;
    switch (h->op) {
    case OP_RESPONSE: request_answered(c); break;
    case OP_RST: vsock_conn_free(c); break;
    case OP_SHUTDOWN:
        c->shut |= h->flags & (SHUT_SEND | SHUT_RECEIVE);
        pass_shutdown(c);
        break;
    case OP_RW: data_from_guest(c, h->len); break;
    case OP_CREDIT_UPDATE: break;
    case OP_CREDIT_REQUEST: c->pending |= BIT(OP_CREDIT_UPDATE); break;
    default: reset(c); break; /* OP_REQUEST of what is connected, and unknown ones */
    }
}

/* ---- host to guest ---- */

static u32 credit(const struct vsock_conn *c)
{
    u32 under_way = c->sent - c->peer_fwd_cnt;

    return under_way < c->peer_buf_alloc ? c->peer_buf_alloc - under_way : 0;
}

static bool wants_data(const struct vsock_conn *c)
{
    return c->state == CONN_OPEN && !c->end_read && !(c->shut & SHUT_RECEIVE) && credit(c);
}

/* One packet: 1; 0 when there is nothing now; -ENOBUFS. */
static int read_packet(struct vsock_conn *c)
{
    u32 room = vsock_room(c->v);
    s64 n;

    if (!room)
        return -ENOBUFS;
    n = usock_recv(c->fd, c->v->scratch, MIN(MIN(room, credit(c)), VSOCK_PACKET_MAX));
    if (n > 0) {
        c->sent += (u32)n;
        return vsock_send(c, OP_RW, 0, (u32)n) ? 1 : -ENOBUFS;
    }
    if (n == 0) {
        c->end_read = true;
        c->pending |= BIT(OP_SHUTDOWN);
        c->shut_flags |= c->hung_up ? SHUT_SEND | SHUT_RECEIVE : SHUT_SEND;
    } else if (n != -EAGAIN) {
        reset(c);
    }
    return 0;
}

static bool send_pending(struct vsock_conn *c)
{
    while (c->pending) {
        enum vsock_op op = (enum vsock_op)__builtin_ctz(c->pending);

        if (!vsock_send(c, op, op == OP_SHUTDOWN ? c->shut_flags : 0, 0))
            return false;
        c->pending &= (u8)~BIT(op);
    }
    return true;
}

static int read_packets(struct vsock_conn *c)
{
    int rc = send_pending(c) ? 1 : -ENOBUFS; /* in this order */

    for (unsigned i = 0; rc > 0 && wants_data(c) && (c->hung_up || i < READS_MAX); i++)
        rc = read_packet(c);
    return rc;
}

/* ---- the loop ---- */

static void on_event(void *arg, unsigned events);

/* A socket that was hung up is always ready: what it still holds is read when there is room. */
static void watch(struct vsock_conn *c)
{
    struct loop *loop = c->v->dev.loop;
    unsigned events = c->out_len ? LOOP_WRITE : 0;

    if (c->fd < 0 || c->hung_up) {
        unwatch(c);
        return;
    }
    if (c->state == CONN_GREETING || (wants_data(c) && !c->v->starved))
        events |= LOOP_READ;
    if (!c->watched)
        c->watched = loop_add_fd(loop, c->fd, events, on_event, c, NULL) == 0;
    else if (events != c->events)
        (void)!loop_mod_fd(loop, c->fd, events);
    c->events = events;
}

bool vsock_conn_pump(struct vsock_conn *c)
{
    bool sent = send_pending(c);

    if (sent && c->state == CONN_CLOSED) {
        vsock_conn_free(c);
        return true;
    }
    if (sent && c->hung_up && wants_data(c))
        sent = read_packets(c) != -ENOBUFS && send_pending(c);
    watch(c);
    return sent;
}

static u32 free_host_port(struct virtio_vsock *v, u32 guest_port)
{
    do {
        v->next_port = v->next_port == UINT32_MAX - 1 ? VSOCK_HOST_PORT : v->next_port + 1;
    } while (vsock_find(v, guest_port, v->next_port));
    return v->next_port;
}

static bool parse_greeting(const char *line, u32 *port)
{
    unsigned long long n;
    char *end;

    if (strncmp(line, "CONNECT ", 8) || line[8] < '0' || line[8] > '9')
        return false;
    n = strtoull(line + 8, &end, 10);
    *port = (u32)n;
    return n <= UINT32_MAX && !*end;
}

/* "CONNECT <port>\n": bytes behind it are for the guest. Frees c when it is something else. */
static void read_greeting(struct vsock_conn *c)
{
    u32 port;
    s64 n;

    while ((n = usock_recv(c->fd, c->line + c->line_len, 1)) > 0 && c->line[c->line_len] != '\n')
        if (++c->line_len == VSOCK_LINE - 1)
            break;
    if (n == -EAGAIN)
        return;
    c->line[c->line_len] = '\0';
    if (n <= 0 || c->line_len == VSOCK_LINE - 1 || !parse_greeting(c->line, &port)) {
        vsock_conn_free(c);
        return;
    }
    unlink_conn(c);
    c->guest_port = port;
    c->host_port = free_host_port(c->v, port);
    link_conn(c);
    c->state = CONN_REQUESTED;
    c->pending |= BIT(OP_REQUEST);
    vsock_pump(c->v);
}

/* Nobody reads any more; what was written before is still there. */
static void hang_up(struct vsock_conn *c)
{
    if (c->state == CONN_REQUESTED)
        reset(c);
    if (c->state != CONN_OPEN)
        return;
    c->hung_up = true;
    took(c, c->out_len);
    c->out_len = 0;
    if (c->end_read) {
        c->pending |= BIT(OP_SHUTDOWN);
        c->shut_flags = SHUT_SEND | SHUT_RECEIVE;
    }
}

static void on_event(void *arg, unsigned events)
{
    struct vsock_conn *c = arg;
    struct virtio_vsock *v = c->v;

    if (c->state == CONN_GREETING) {
        read_greeting(c);
        return;
    }
    if (events & LOOP_WRITE)
        send_out(c);
    if (events & LOOP_HUP)
        hang_up(c);
    if (events & (LOOP_READ | LOOP_HUP) && wants_data(c))
        read_packets(c);
    vsock_pump(v);
}

/* ---- how they begin ---- */

void vsock_accept(void *arg, unsigned events)
{
    struct virtio_vsock *v = arg;
    int fd = usock_accept(v->listener);
    struct vsock_conn *c;

    if (fd < 0) {
        /* Without descriptors the listener would be ready for ever: later, then. */
        v->deaf = fd != -EAGAIN;
        if (v->deaf)
            loop_del_fd(v->dev.loop, v->listener);
        return;
    }
    c = v->dev.started ? new_conn(v, fd) : NULL;
    if (!c) {
        close(fd);
        return;
    }
    c->state = CONN_GREETING;
    link_conn(c);
    watch(c);
}

bool vsock_connect(struct virtio_vsock *v, const struct vsock_header *h)
{
    char path[USOCK_PATH_MAX + 16];
    struct vsock_conn *c = new_conn(v, -1);

    if (!c)
        return false;
    c->guest_port = h->src_port;
    c->host_port = h->dst_port;
    c->peer_buf_alloc = h->buf_alloc;
    c->peer_fwd_cnt = h->fwd_cnt;
    link_conn(c);
    snprintf(path, sizeof(path), "%s_%u", v->path, h->dst_port);
    c->fd = usock_connect(path);
    if (c->fd < 0) {
        reset(c);
        return true;
    }
    c->state = CONN_OPEN;
    c->pending = BIT(OP_RESPONSE);
    return true;
}
