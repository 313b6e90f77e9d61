/* ports.c - --port NAME=unix:PATH: named console ports on unix sockets of the host */
#include "cli/ports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/report.h"
#include "host/usock.h"

#define DRAIN_MS 200

/* ---- options ---- */

static const char *path_of(const char *item)
{
    const char *equals = strchr(item, '=');

    return equals && !strncmp(equals + 1, "unix:", 5) && equals[6] ? equals + 6 : NULL;
}

static int add_port(struct machine_config *cfg, const char *item, struct err *e)
{
    const char *path = path_of(item);
    size_t len = path ? (size_t)(path - item) - 6 : 0;
    char *name;

    if (!path || !len)
        return err_set(e, EINVAL, "option --port: '%s' is not NAME=unix:PATH", item);
    if (len > CONSOLE_NAME_MAX)
        return err_set(e, EINVAL, "option --port: the name in '%s' has more than %d bytes", item,
                       CONSOLE_NAME_MAX);
    if (cfg->ports == ARRAY_SIZE(cfg->port))
        return err_set(e, EINVAL, "option --port: at most %zu ports", ARRAY_SIZE(cfg->port) - 1);
    name = strndup(item, len);
    if (!name)
        return err_set(e, ENOMEM, "option --port: no memory");
    for (unsigned i = 0; i < cfg->ports; i++)
        if (!strcmp(cfg->port[i], name)) {
            free(name);
            return err_set(e, EINVAL, "option --port: the name in '%s' is taken", item);
        }
    cfg->port[cfg->ports++] = name;
    return 0;
}

int ports_configure(const struct options *o, bool agent, struct machine_config *cfg, struct err *e)
{
    int rc = 0;

    cfg->console = true;
    if (agent)
        rc = add_port(cfg, PORT_AGENT "=unix:-", e);
    for (unsigned i = 0; i < o->port.count && !rc; i++)
        rc = add_port(cfg, o->port.item[i], e);
    return rc;
}

void ports_unconfigure(struct machine_config *cfg)
{
    while (cfg->ports)
        free((char *)cfg->port[--cfg->ports]);
}

/* ---- bytes ---- */

static size_t from_guest(void *arg, const u8 *data, size_t len)
{
    struct port_link *l = arg;

    return chardev_write(l->peer, data, len);
}

static void guest_takes(void *arg)
{
    struct port_link *l = arg;

    chardev_accept(l->peer);
}

static size_t guest_room(void *arg)
{
    struct port_link *l = arg;

    return serial_room(l->serial);
}

static void to_guest(void *arg, const u8 *data, size_t len)
{
    struct port_link *l = arg;

    (void)serial_send(l->serial, data, len); /* at most what guest_room told */
}

static void peer_takes(void *arg)
{
    struct port_link *l = arg;

    serial_resume(l->serial);
}

static void peer_event(void *arg, enum chardev_event ev)
{
    struct port_link *l = arg;

    loop_task_queue(l->loop, &l->hang_up); /* the peer still runs, below us */
}

/* ---- peers ---- */

static void peer_waits(void *arg, unsigned events);

static int await_peer(struct port_link *l, struct err *e)
{
    return loop_add_fd(l->loop, l->listener, LOOP_READ, peer_waits, l, e);
}

static void drop_peer(struct port_link *l, unsigned drain_ms)
{
    if (!l->peer)
        return;
    serial_connect(l->serial, NULL);
    chardev_close(l->peer, drain_ms);
    close(l->fd);
    l->peer = NULL;
}

static void hang_up(void *arg)
{
    struct port_link *l = arg;

    drop_peer(l, 0);
    (void)!await_peer(l, NULL);
}

static void peer_waits(void *arg, unsigned events)
{
    struct port_link *l = arg;
    struct serial_user port = {.receive = from_guest, .room = guest_takes, .arg = l};
    struct chardev_user user = {
        .can_receive = guest_room,
        .receive = to_guest,
        .writable = peer_takes,
        .event = peer_event,
        .arg = l,
    };

    l->fd = usock_accept(l->listener);
    if (l->fd == -EAGAIN)
        return;
    loop_del_fd(l->loop, l->listener);
    if (l->fd < 0) {
        report_note("port at %s: %s; it takes nobody any more", l->path, strerror(-l->fd));
        return;
    }
    if (chardev_open_fds(&l->peer, l->loop, l->fd, l->fd, NULL)) {
        close(l->fd);
        (void)!await_peer(l, NULL);
        return;
    }
    chardev_connect(l->peer, &user);
    serial_connect(l->serial, &port);
}

/* ---- life ---- */

int ports_open(struct port_links *p, const struct options *o, struct machine *m, struct err *e)
{
    unsigned first = o->command ? 2 : 1; /* behind the console, and the agent's */

    for (unsigned i = 0; i < o->port.count; i++) {
        struct port_link *l = &p->link[p->count];
        int rc;

        *l = (struct port_link){
            .loop = machine_loop(m),
            .serial = machine_port(m, first + i),
            .path = path_of(o->port.item[i]),
            .hang_up = {.fn = hang_up, .arg = l},
        };
        rc = usock_listen(l->path, &l->listener, e);
        if (rc) {
            err_prefix(e, "option --port");
            return rc;
        }
        p->count++;
        rc = await_peer(l, e);
        if (rc)
            return rc;
    }
    return 0;
}

void ports_close(struct port_links *p)
{
    while (p->count) {
        struct port_link *l = &p->link[--p->count];

        loop_task_cancel(l->loop, &l->hang_up);
        serial_drain(l->serial);
        drop_peer(l, DRAIN_MS);
        loop_del_fd(l->loop, l->listener);
        usock_unlisten(l->path, l->listener);
    }
}
