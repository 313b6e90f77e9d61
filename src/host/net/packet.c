/* packet.c - networks that carry a frame a message: a tap interface, unix datagram sockets */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/loop.h"
#include "host/net/net.h"

struct packet_net {
    struct netdev net;
    struct loop *loop;
    int fd;
    bool tap;
    bool gone;    /* the interface was removed */
    bool blocked; /* a send is waited for */
    struct sockaddr_un local, remote;
    size_t held; /* of a frame that the guest had no room for; 0: none */
    u8 frame[NET_FRAME_MAX];
};

/* Reading stops while a frame waits for the guest: the host's queue is the back-pressure. */
static void watch(struct packet_net *p)
{
    (void)!loop_mod_fd(p->loop, p->fd, (p->held ? 0u : LOOP_READ) | (p->blocked ? LOOP_WRITE : 0u));
}

static bool hand_over(struct packet_net *p)
{
    const struct netdev_user *u = &p->net.user;

    if (!p->held || (u->receive && !u->receive(u->arg, p->frame, p->held)))
        return !p->held;
    p->held = 0;
    return true;
}

/* A tap interface that somebody removed: the cable is out, and nothing is waited for. */
static void lose(struct packet_net *p)
{
    loop_del_fd(p->loop, p->fd);
    p->gone = true;
    p->net.link = false;
    if (p->net.user.link)
        p->net.user.link(p->net.user.arg, false);
}

static void ready(void *arg, unsigned events)
{
    struct packet_net *p = arg;

    if (events & LOOP_WRITE) {
        p->blocked = false;
        watch(p);
        if (p->net.user.writable)
            p->net.user.writable(p->net.user.arg);
    }
    for (unsigned i = 0; i < 64 && !p->held; i++) {
        ssize_t n = read(p->fd, p->frame, sizeof(p->frame));

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            events |= LOOP_HUP;
        if (n <= 0)
            break;
        p->held = (size_t)n;
        hand_over(p);
    }
    if (p->tap && events & LOOP_HUP)
        lose(p);
    else
        watch(p);
}

static int packet_send(struct netdev *n, const u8 *frame, size_t len)
{
    struct packet_net *p = container_of(n, struct packet_net, net);
    ssize_t done;

    if (p->gone)
        return 0;
    done = p->tap ? write(p->fd, frame, len)
                  : sendto(p->fd, frame, len, MSG_NOSIGNAL, (const struct sockaddr *)&p->remote,
                           sizeof(p->remote));
    /* Nobody there, or a peer whose queue is full: lost, as on any network. A socket that is not
     * connected cannot tell when its peer has room again. */
    if (done >= 0 || !p->tap || errno != EAGAIN)
        return 0;
    p->blocked = true;
    watch(p);
    return -EAGAIN;
}

static void packet_resume(struct netdev *n)
{
    struct packet_net *p = container_of(n, struct packet_net, net);

    if (hand_over(p) && !p->gone)
        watch(p);
}

static void packet_close(struct netdev *n)
{
    struct packet_net *p = container_of(n, struct packet_net, net);

    if (p->fd >= 0) {
        loop_del_fd(p->loop, p->fd);
        close(p->fd);
    }
    if (p->local.sun_path[0])
        unlink(p->local.sun_path);
    free(p);
}

static const struct netdev_ops packet_ops = {packet_send, packet_resume, packet_close};

static int start(struct packet_net *p, struct loop *loop, struct netdev **out, struct err *e)
{
    int rc;

    p->net = (struct netdev){.ops = &packet_ops, .link = true};
    p->loop = loop;
    rc = loop_add_fd(loop, p->fd, LOOP_READ, ready, p, e);
    if (!rc)
        *out = &p->net;
    return rc;
}

int net_open_tap(const char *name, struct loop *loop, struct netdev **out, struct err *e)
{
    struct packet_net *p = calloc(1, sizeof(*p));
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int rc = 0;

    if (!p)
        return err_set(e, ENOMEM, "network: no memory");
    p->tap = true;
    strncpy(r.ifr_name, name, IFNAMSIZ - 1);
    p->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (p->fd < 0)
        rc = err_set(e, errno, "network: /dev/net/tun: %s", strerror(errno));
    else if (ioctl(p->fd, TUNSETIFF, &r))
        rc = err_set(e, errno,
                     "network: tap %s: %s (make it for this user: ip tuntap add %s mode tap user "
                     "NAME)",
                     name, strerror(errno), name);
    if (!rc)
        rc = start(p, loop, out, e);
    if (rc)
        packet_close(&p->net);
    return rc;
}

static int set_path(struct sockaddr_un *a, const char *path, struct err *e)
{
    a->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(a->sun_path))
        return err_set(e, ENAMETOOLONG, "network: %s: longer than a socket's name may be", path);
    strcpy(a->sun_path, path);
    return 0;
}

/* A socket left behind by a process that died is no obstacle; one in use is. */
static int bind_fresh(int fd, const struct sockaddr_un *a, struct err *e)
{
    if (bind(fd, (const struct sockaddr *)a, sizeof(*a)) == 0)
        return 0;
    if (errno == EADDRINUSE) {
        int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        bool dead = probe >= 0 && connect(probe, (const struct sockaddr *)a, sizeof(*a)) &&
                    errno == ECONNREFUSED;

        if (probe >= 0)
            close(probe);
        errno = EADDRINUSE;
        if (dead && unlink(a->sun_path) == 0 &&
            bind(fd, (const struct sockaddr *)a, sizeof(*a)) == 0)
            return 0;
    }
    return err_set(e, errno, "network: %s: %s", a->sun_path, strerror(errno));
}

int net_open_dgram(const char *local, const char *remote, struct loop *loop, struct netdev **out,
                   struct err *e)
{
    struct packet_net *p = calloc(1, sizeof(*p));
    struct sockaddr_un here = {0};
    int room = 1 << 20, rc;

    if (!p)
        return err_set(e, ENOMEM, "network: no memory");
    p->fd = -1;
    rc = set_path(&here, local, e);
    if (!rc)
        rc = set_path(&p->remote, remote, e);
    if (!rc) {
        p->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (p->fd < 0)
            rc = err_set(e, errno, "network: %s: %s", local, strerror(errno));
    }
    if (!rc)
        rc = bind_fresh(p->fd, &here, e);
    if (!rc) {
        p->local = here;
        (void)setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        rc = start(p, loop, out, e);
    }
    if (rc)
        packet_close(&p->net);
    return rc;
}
