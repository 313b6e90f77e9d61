/* ports.c - the virtio console's ports as serial lines of the machine */
#include <errno.h>
#include <string.h>

#include "dev/virtio/console.h"
#include "host/iothread.h"
#include "machine/machine_priv.h"

/* ---- device to line: the I/O thread ---- */

static size_t port_output(void *ctx, const u8 *data, size_t len)
{
    struct machine_port *p = ctx;

    return serial_output(p->serial, data, len);
}

static void port_input_room(void *ctx)
{
    struct machine_port *p = ctx;

    serial_input_room(p->serial);
}

/* ---- line to device: the loop thread ---- */

static size_t line_room(void *ctx)
{
    struct machine_port *p = ctx;

    return virtio_console_room(p->console, p->n);
}

static size_t line_input(void *ctx, const u8 *data, size_t len)
{
    struct machine_port *p = ctx;

    return virtio_console_input(p->console, p->n, data, len);
}

static void line_output_room(void *ctx)
{
    struct machine_port *p = ctx;

    virtio_console_resume(p->console);
}

static void line_connected(void *ctx, bool on)
{
    struct machine_port *p = ctx;

    virtio_console_open(p->console, p->n, on);
}

static void hold_up_nobody(void *ctx, bool on)
{
}

/* ---- making them ---- */

static int make_lines(struct machine *m, const struct machine_config *cfg,
                      struct virtio_console_config *con, struct err *e)
{
    if (cfg->ports > ARRAY_SIZE(cfg->port))
        return err_set(e, EINVAL, "ports: at most %d have names", CONSOLE_PORTS_MAX - 1);
    con->ports = 1 + cfg->ports;
    for (unsigned i = 0; i < con->ports; i++) {
        struct machine_port *p = &m->port[i];
        const char *name = i ? cfg->port[i - 1] : NULL;
        int rc;

        if (name && (!*name || strlen(name) > CONSOLE_NAME_MAX))
            return err_set(e, EINVAL, "port '%s': a name has 1 to %d bytes", name,
                           CONSOLE_NAME_MAX);
        rc = serial_create(&p->serial, m->loop, hold_up_nobody, NULL, e);
        if (rc)
            return rc;
        p->n = i;
        con->port[i] = (struct virtio_console_port){
            .name = name,
            .output = port_output,
            .input_room = port_input_room,
            .ctx = p,
        };
    }
    return 0;
}

static void attach_lines(struct machine *m, struct virtio_console *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct serial_line line = {line_room, line_input, line_output_room, line_connected,
                                   &m->port[i]};

        m->port[i].console = c;
        serial_attach_line(m->port[i].serial, &line);
    }
}

int ports_create(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    struct virtio_console_config con = {.ports = 0};
    struct virtio_console *dev;
    struct device *d = NULL;
    int rc;

    if (!cfg->console)
        return 0;
    rc = make_lines(m, cfg, &con, e);
    if (!rc)
        rc = device_new(m, "console", &d, e);
    if (!rc)
        rc = virtio_console_create(&con, m->mem, iothread_loop(d->io), &dev, e);
    if (rc)
        return rc;
    attach_lines(m, dev, con.ports);
    m->port_io = d->io;
    return device_plug(m, d, &dev->dev, virtio_console_destroy, &virtio_console_snap, e);
}

void ports_destroy(struct machine *m)
{
    for (unsigned i = 0; i < CONSOLE_PORTS_MAX; i++)
        serial_destroy(m->port[i].serial);
}

/* ---- for the machine's user ---- */

struct serial *machine_port(struct machine *m, unsigned n)
{
    return n < CONSOLE_PORTS_MAX ? m->port[n].serial : NULL;
}

static void nothing(void *arg)
{
}

void machine_ports_settle(struct machine *m)
{
    if (m->port_io)
        iothread_call(m->port_io, nothing, NULL);
}

void machine_console_resize(struct machine *m, u16 cols, u16 rows)
{
    if (m->port_io)
        virtio_console_resize(m->port[0].console, cols, rows);
}
