/* slirp.c - user-mode networking by libslirp, driven by an event loop */
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "host/clock.h"
#include "host/loop.h"
#include "host/net/queue.h"

struct user_net;

/* A descriptor of libslirp's, as of its last list. */
struct watch {
    struct user_net *net;
    int fd;
    unsigned events;  /* SLIRP_POLL_* it wants */
    unsigned revents; /* SLIRP_POLL_* it gets */
    bool listed;
};

struct slirp_timer {
    SlirpTimerCb cb;
    void *arg;
    u64 at_ms; /* UINT64_MAX: not armed */
    struct slirp_timer *next;
};

struct user_net {
    struct netdev net;
    struct loop *loop;
    struct clock *clock;
    Slirp *slirp;
    struct net_queue queue;
    struct watch watch[SLIRP_FDS_MAX];
    int watches;
    struct slirp_timer *timers;
    int timer_fd;
    struct loop_task update; /* lists descriptors anew */
};

static void fd_ready(void *arg, unsigned events);

/* ---- what libslirp asks of us ---- */

static ssize_t send_packet(const void *frame, size_t len, void *opaque)
{
    struct user_net *u = opaque;

    if (len <= NET_FRAME_MAX)
        net_queue_deliver(&u->queue, &u->net.user, frame, len);
    return (ssize_t)len;
}

static void guest_error(const char *msg, void *opaque)
{
    log_guest("network: %s", msg);
}

static int64_t clock_ns(void *opaque)
{
    struct user_net *u = opaque;

    return (int64_t)clock_now_ns(u->clock);
}

static void *timer_new(SlirpTimerCb cb, void *arg, void *opaque)
{
    struct user_net *u = opaque;
    struct slirp_timer *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    *t = (struct slirp_timer){cb, arg, UINT64_MAX, u->timers};
    u->timers = t;
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    struct user_net *u = opaque;

    for (struct slirp_timer **p = &u->timers; *p; p = &(*p)->next) {
        if (*p != timer)
            continue;
        *p = (*p)->next;
        free(timer);
        return;
    }
}

static void timer_mod(void *timer, int64_t at_ms, void *opaque)
{
    struct slirp_timer *t = timer;

    if (t)
        t->at_ms = (u64)MAX(at_ms, 0);
}

static void register_fd(int fd, void *opaque)
{
}

/* Before it is closed: the number may come back as another descriptor. */
static void unregister_fd(int fd, void *opaque)
{
    struct user_net *u = opaque;

    for (int i = 0; i < u->watches; i++) {
        if (u->watch[i].fd != fd)
            continue;
        loop_del_fd(u->loop, fd);
        u->watch[i].fd = -1;
        return;
    }
}

static void notify(void *opaque)
{
    struct user_net *u = opaque;

    loop_task_queue(u->loop, &u->update);
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = register_fd,
    .unregister_poll_fd = unregister_fd,
    .notify = notify,
};

/* ---- descriptors ---- */

static unsigned loop_events(unsigned events)
{
    return (events & SLIRP_POLL_IN ? LOOP_READ : 0u) | (events & SLIRP_POLL_OUT ? LOOP_WRITE : 0u);
}

/* libslirp lists a descriptor; the index identifies it in the next poll. Beyond the limit a
 * connection gets no attention, which is the guest's own loss. */
static int add_poll(int fd, int events, void *opaque)
{
    struct user_net *u = opaque;
    int free_slot = -1;

    for (int i = 0; i < u->watches; i++) {
        struct watch *w = &u->watch[i];

        if (w->fd == -1)
            free_slot = i;
        if (w->fd != fd)
            continue;
        w->listed = true;
        if (w->events != (unsigned)events)
            (void)!loop_mod_fd(u->loop, fd, loop_events((unsigned)events));
        w->events = (unsigned)events;
        return i;
    }
    if (free_slot < 0 && u->watches < SLIRP_FDS_MAX)
        free_slot = u->watches++;
    if (free_slot < 0)
        return -1;
    if (loop_add_fd(u->loop, fd, loop_events((unsigned)events), fd_ready, &u->watch[free_slot],
                    NULL)) {
        u->watch[free_slot].fd = -1;
        return -1;
    }
    u->watch[free_slot] = (struct watch){u, fd, (unsigned)events, 0, true};
    return free_slot;
}

static int get_revents(int index, void *opaque)
{
    struct user_net *u = opaque;

    return index < 0 ? 0 : (int)u->watch[index].revents;
}

static void arm(struct user_net *u, u32 timeout_ms)
{
    u64 now_ms = clock_now_ns(u->clock) / 1000000, wait = timeout_ms;
    struct itimerspec at = {0};

    for (struct slirp_timer *t = u->timers; t; t = t->next)
        if (t->at_ms != UINT64_MAX)
            wait = MIN(wait, t->at_ms > now_ms ? t->at_ms - now_ms : 0);
    if (wait < UINT32_MAX) {
        at.it_value.tv_sec = (time_t)(wait / 1000);
        at.it_value.tv_nsec = (long)(wait % 1000) * 1000000 + 1;
    }
    timerfd_settime(u->timer_fd, 0, &at, NULL);
}

/* Asks libslirp what it waits for, and makes the loop wait for that. */
static void update(void *arg)
{
    struct user_net *u = arg;
    u32 timeout = UINT32_MAX;

    for (int i = 0; i < u->watches; i++) {
        u->watch[i].listed = false;
        u->watch[i].revents = 0;
    }
    slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
    for (int i = 0; i < u->watches; i++) {
        if (u->watch[i].fd == -1 || u->watch[i].listed)
            continue;
        loop_del_fd(u->loop, u->watch[i].fd);
        u->watch[i].fd = -1;
    }
    arm(u, timeout);
}

/* libslirp must see a poll between two lists, or it looks at sockets by indices of the old one. */
static void poll_now(struct user_net *u)
{
    slirp_pollfds_poll(u->slirp, 0, get_revents, u);
    update(u);
}

static void fd_ready(void *arg, unsigned events)
{
    struct watch *w = arg;

    w->revents = (events & LOOP_READ ? SLIRP_POLL_IN : 0u) |
                 (events & LOOP_WRITE ? SLIRP_POLL_OUT : 0u) |
                 (events & LOOP_HUP ? SLIRP_POLL_HUP | SLIRP_POLL_ERR : 0u);
    poll_now(w->net);
}

static void timer_ready(void *arg, unsigned events)
{
    struct user_net *u = arg;
    u64 count, now_ms = clock_now_ns(u->clock) / 1000000;

    if (read(u->timer_fd, &count, sizeof(count)) < 0 && errno == EAGAIN)
        return;
    for (struct slirp_timer *t = u->timers; t; t = t->next) {
        if (t->at_ms > now_ms)
            continue;
        t->at_ms = UINT64_MAX;
        t->cb(t->arg);
    }
    poll_now(u);
}

/* ---- the backend ---- */

static int user_send(struct netdev *n, const u8 *frame, size_t len)
{
    struct user_net *u = container_of(n, struct user_net, net);

    slirp_input(u->slirp, frame, (int)len);
    loop_task_queue(u->loop, &u->update);
    return 0;
}

static void user_resume(struct netdev *n)
{
    struct user_net *u = container_of(n, struct user_net, net);

    net_queue_resume(&u->queue, &n->user);
}

static void user_close(struct netdev *n)
{
    struct user_net *u = container_of(n, struct user_net, net);

    n->user = (struct netdev_user){0};
    loop_task_cancel(u->loop, &u->update);
    if (u->slirp)
        slirp_cleanup(u->slirp);
    for (int i = 0; i < u->watches; i++)
        if (u->watch[i].fd != -1)
            loop_del_fd(u->loop, u->watch[i].fd);
    while (u->timers)
        timer_free(u->timers, u);
    if (u->timer_fd >= 0) {
        loop_del_fd(u->loop, u->timer_fd);
        close(u->timer_fd);
    }
    net_queue_fini(&u->queue);
    if (u->clock)
        clock_destroy(u->clock);
    free(u);
}

static const struct netdev_ops user_ops = {user_send, user_resume, user_close};

static int forward(struct user_net *u, const struct net_forward *f, struct err *e)
{
    struct in_addr host, guest = {inet_addr("10.0.2.15")};

    memcpy(&host, f->host, sizeof(host));
    errno = 0;
    if (slirp_add_hostfwd(u->slirp, f->udp, host, f->host_port, guest, f->guest_port) == 0)
        return 0;
    return err_set(e, errno ? errno : EADDRINUSE,
                   "port %u.%u.%u.%u:%u (%s) cannot be forwarded to the guest's %u: %s", f->host[0],
                   f->host[1], f->host[2], f->host[3], f->host_port, f->udp ? "udp" : "tcp",
                   f->guest_port, errno ? strerror(errno) : "is it in use?");
}

static int make_slirp(struct user_net *u, const struct net_user_config *cfg, struct err *e)
{
    SlirpConfig c = {
        .version = 1,
        .restricted = cfg->restricted,
        .in_enabled = true,
        .vnetwork.s_addr = inet_addr("10.0.2.0"),
        .vnetmask.s_addr = inet_addr("255.255.255.0"),
        .vhost.s_addr = inet_addr("10.0.2.2"),
        .vdhcp_start.s_addr = inet_addr("10.0.2.15"),
        .vnameserver.s_addr = inet_addr("10.0.2.3"),
        .in6_enabled = true,
        .vprefix_len = 64,
        .vhostname = "ring3",
    };
    int rc = 0;

    inet_pton(AF_INET6, "fec0::", &c.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &c.vhost6);
    inet_pton(AF_INET6, "fec0::3", &c.vnameserver6);
    u->slirp = slirp_new(&c, &callbacks, u);
    if (!u->slirp)
        return err_set(e, ENOMEM, "network: libslirp does not start");
    for (unsigned i = 0; i < cfg->forwards && !rc; i++)
        rc = forward(u, &cfg->forward[i], e);
    return rc;
}

int net_open_user(const struct net_user_config *cfg, struct loop *loop, struct netdev **out,
                  struct err *e)
{
    struct user_net *u = calloc(1, sizeof(*u));
    int rc;

    if (!u)
        return err_set(e, ENOMEM, "network: no memory");
    u->net = (struct netdev){.ops = &user_ops, .gso = true, .link = true};
    u->loop = loop;
    u->update = (struct loop_task){.fn = update, .arg = u};
    net_queue_init(&u->queue);
    u->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    rc = u->timer_fd < 0 ? err_set(e, errno, "network: timerfd: %s", strerror(errno))
                         : clock_create_real(&u->clock, e);
    if (!rc)
        rc = make_slirp(u, cfg, e);
    if (!rc)
        rc = loop_add_fd(loop, u->timer_fd, LOOP_READ, timer_ready, u, e);
    if (rc) {
        user_close(&u->net);
        return rc;
    }
    loop_task_queue(loop, &u->update);
    *out = &u->net;
    return 0;
}
