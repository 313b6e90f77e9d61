/* stream.c - a network over a stream socket: each frame behind its length (32 bits, big-endian) */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/loop.h"
#include "host/net/net.h"
#include "host/usock.h"

#define LENGTH_BYTES 4u
#define BUFFER_BYTES (NET_FRAME_MAX + LENGTH_BYTES)

struct stream_net {
    struct netdev net;
    struct loop *loop;
    int listen_fd, fd; /* -1: none */
    char *path;
    bool refused;  /* the guest had no room for the frame at the start of `in` */
    size_t in_len; /* bytes in `in` */
    size_t out_at, out_len;
    u8 in[BUFFER_BYTES], out[BUFFER_BYTES];
};

static void watch(struct stream_net *s)
{
    (void)!loop_mod_fd(s->loop, s->fd,
                       (s->refused ? 0u : LOOP_READ) | (s->out_len ? LOOP_WRITE : 0u));
}

static void tell_link(struct stream_net *s, bool up)
{
    s->net.link = up;
    if (s->net.user.link)
        s->net.user.link(s->net.user.arg, up);
}

/* A peer that leaves, or breaks the framing, is a cable pulled out. */
static void hang_up(struct stream_net *s)
{
    loop_del_fd(s->loop, s->fd);
    close(s->fd);
    s->fd = -1;
    s->in_len = s->out_len = s->out_at = 0;
    s->refused = false;
    tell_link(s, false);
    if (s->net.user.writable)
        s->net.user.writable(s->net.user.arg);
}

/* Hands over whole frames from the start of `in`. False: the framing is broken. */
static bool hand_over(struct stream_net *s)
{
    const struct netdev_user *u = &s->net.user;
    size_t at = 0;

    s->refused = false;
    while (s->in_len - at >= LENGTH_BYTES) {
        const u8 *p = s->in + at;
        u32 len = (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];

        if (len == 0 || len > NET_FRAME_MAX)
            return false;
        if (s->in_len - at - LENGTH_BYTES < len)
            break;
        if (u->receive && !u->receive(u->arg, p + LENGTH_BYTES, len)) {
            s->refused = true;
            break;
        }
        at += LENGTH_BYTES + len;
    }
    memmove(s->in, s->in + at, s->in_len - at);
    s->in_len -= at;
    return true;
}

/* False: the peer is gone. */
static bool flush_out(struct stream_net *s)
{
    while (s->out_len) {
        s64 n = usock_send(s->fd, s->out + s->out_at, s->out_len);

        if (n < 0)
            return n == -EAGAIN;
        s->out_at += (size_t)n;
        s->out_len -= (size_t)n;
    }
    s->out_at = 0;
    return true;
}

static bool read_in(struct stream_net *s)
{
    s64 n = usock_recv(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len);

    if (n < 0)
        return n == -EAGAIN;
    s->in_len += (size_t)n;
    return n > 0 && hand_over(s);
}

static void ready(void *arg, unsigned events)
{
    struct stream_net *s = arg;
    bool alive = true;

    if (events & LOOP_WRITE && s->out_len) {
        alive = flush_out(s);
        if (alive && !s->out_len && s->net.user.writable)
            s->net.user.writable(s->net.user.arg);
    }
    if (alive && s->refused)
        alive = !(events & LOOP_HUP); /* it is reported without end: what waits is lost */
    else if (alive && events & (LOOP_READ | LOOP_HUP))
        alive = read_in(s);
    if (alive)
        watch(s);
    else
        hang_up(s);
}

static int stream_send(struct netdev *n, const u8 *frame, size_t len)
{
    struct stream_net *s = container_of(n, struct stream_net, net);

    if (s->fd < 0)
        return 0;
    if (s->out_len)
        return -EAGAIN;
    s->out[0] = (u8)(len >> 24);
    s->out[1] = (u8)(len >> 16);
    s->out[2] = (u8)(len >> 8);
    s->out[3] = (u8)len;
    memcpy(s->out + LENGTH_BYTES, frame, len);
    s->out_len = LENGTH_BYTES + len;
    if (flush_out(s) && s->out_len)
        watch(s); /* a peer that is gone shows when its descriptor is looked at */
    return 0;
}

static void stream_resume(struct netdev *n)
{
    struct stream_net *s = container_of(n, struct stream_net, net);

    if (s->fd < 0 || !s->refused)
        return;
    if (hand_over(s))
        watch(s);
    else
        hang_up(s);
}

static void stream_close(struct netdev *n)
{
    struct stream_net *s = container_of(n, struct stream_net, net);

    if (s->fd >= 0) {
        loop_del_fd(s->loop, s->fd);
        close(s->fd);
    }
    if (s->listen_fd >= 0) {
        loop_del_fd(s->loop, s->listen_fd);
        usock_unlisten(s->path, s->listen_fd);
    }
    free(s->path);
    free(s);
}

static const struct netdev_ops stream_ops = {stream_send, stream_resume, stream_close};

/* One peer at a time; another one waits until this one has left. */
static void peer_calls(void *arg, unsigned events)
{
    struct stream_net *s = arg;
    int fd = usock_accept(s->listen_fd);

    if (fd < 0)
        return;
    if (s->fd >= 0 || loop_add_fd(s->loop, fd, LOOP_READ, ready, s, NULL)) {
        close(fd);
        return;
    }
    s->fd = fd;
    tell_link(s, true);
}

static int connect_to(struct stream_net *s, struct err *e)
{
    int fd = usock_connect(s->path);

    if (fd < 0)
        return err_set(e, -fd, "network: %s: %s%s", s->path, strerror(-fd),
                       fd == -ENOENT || fd == -ECONNREFUSED ? " (is its server running?)" : "");
    s->fd = fd;
    s->net.link = true;
    return loop_add_fd(s->loop, fd, LOOP_READ, ready, s, e);
}

int net_open_stream(const char *path, bool server, struct loop *loop, struct netdev **out,
                    struct err *e)
{
    struct stream_net *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return err_set(e, ENOMEM, "network: no memory");
    s->net.ops = &stream_ops;
    s->loop = loop;
    s->fd = s->listen_fd = -1;
    s->path = strdup(path);
    if (!s->path) {
        rc = err_set(e, ENOMEM, "network: no memory");
    } else if (server) {
        rc = usock_listen(path, &s->listen_fd, e);
        if (!rc)
            rc = loop_add_fd(loop, s->listen_fd, LOOP_READ, peer_calls, s, e);
    } else {
        rc = connect_to(s, e);
    }
    if (rc)
        stream_close(&s->net);
    else
        *out = &s->net;
    return rc;
}
