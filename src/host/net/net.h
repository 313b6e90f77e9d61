/* net.h - the host's side of a network interface: where the guest's Ethernet frames go */
#pragma once

#include <sys/uio.h>

#include "base/err.h"
#include "base/types.h"

struct loop;
struct netdev;

/* The largest frame that passes: an IPv4 packet of 65,535 bytes behind an Ethernet header. */
#define NET_FRAME_MAX 65550u

/* The device's side. Called on the loop thread, never from inside a function of the netdev. */
struct netdev_user {
    /* A frame for the guest, with all checksums right. False when the guest has no room: the frame
     * waits (up to a bound) until netdev_resume. */
    bool (*receive)(void *arg, const u8 *frame, size_t len);
    /* After netdev_send gave -EAGAIN: try again. */
    void (*writable)(void *arg);
    /* The cable was plugged in or out. */
    void (*link)(void *arg, bool up);
    void *arg;
};

/* What every backend implements. All run on the loop thread. */
struct netdev_ops {
    int (*send)(struct netdev *n, const u8 *frame, size_t len);
    void (*resume)(struct netdev *n);
    void (*close)(struct netdev *n);
};

struct netdev {
    const struct netdev_ops *ops;
    struct netdev_user user;
    bool gso;  /* takes TCP frames larger than the MTU, checksums right, in one piece */
    bool link; /* the cable is in */
};

/* Connects the device; before that frames for the guest are dropped. Before the loop runs, or on
 * its thread; NULL disconnects. */
static inline void netdev_connect(struct netdev *n, const struct netdev_user *user)
{
    n->user = user ? *user : (struct netdev_user){0};
}

/* A frame from the guest, checksums right: 0 (sent, or lost as on any network), or -EAGAIN: not
 * now, `writable` follows. */
static inline must_check int netdev_send(struct netdev *n, const u8 *frame, size_t len)
{
    return n->ops->send(n, frame, len);
}

/* The guest has room again for a frame that `receive` refused. */
static inline void netdev_resume(struct netdev *n)
{
    n->ops->resume(n);
}

/* Loop thread, or after the loop ended; NULL is nothing. */
static inline void netdev_close(struct netdev *n)
{
    if (n)
        n->ops->close(n);
}

/* A port of the host that leads to one of the guest. */
struct net_forward {
    bool udp;
    u8 host[4]; /* the address it listens at; 0.0.0.0: all */
    u16 host_port, guest_port;
};

/* User mode by libslirp: 10.0.2.0/24 with the guest at .15, the host's loopback at .2, DNS at .3;
 * no privileges. -EADDRINUSE names the forward that cannot listen. 0 or -errno. Main thread. */
struct net_user_config {
    const struct net_forward *forward;
    unsigned forwards;
    bool restricted; /* nothing but forwards: the guest reaches neither host nor world */
};
must_check int net_open_user(const struct net_user_config *cfg, struct loop *loop,
                             struct netdev **out, struct err *e);

/* An existing tap interface of the host, or a new one where the user may make it. */
must_check int net_open_tap(const char *name, struct loop *loop, struct netdev **out,
                            struct err *e);

/* Unix datagram sockets, a frame a datagram: `local` is made, `remote` need not be there yet. */
must_check int net_open_dgram(const char *local, const char *remote, struct loop *loop,
                              struct netdev **out, struct err *e);

/* A unix stream socket, each frame behind its length in 32 bits, big-endian. A server makes it and
 * waits for its peer, with the cable out meanwhile; a client needs the server. */
must_check int net_open_stream(const char *path, bool server, struct loop *loop,
                               struct netdev **out, struct err *e);
