/* session.c - the user's terminal and the guest's console */
#include "cli/session.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/report.h"
#include "host/term.h"

#define DRAIN_MS 200

size_t session_keys_room(const struct session *s)
{
    return MAX(TYPED_MAX - s->typed_len, 1u);
}

static void one_key(struct session *s, u8 byte)
{
    int key = escape_byte(&s->escape, byte);

    switch (key) {
    case ESCAPE_NONE: break;
    case ESCAPE_QUIT: machine_stop(s->m, STOP_QUIT); break;
    case ESCAPE_MONITOR: monitor_toggle(&s->monitor); break;
    case ESCAPE_HELP: report_text("\n%s", ESCAPE_TEXT); break;
    default:
        if (s->monitor.active)
            monitor_key(&s->monitor, s->m, (u8)key);
        else if (s->typed_len < TYPED_MAX)
            s->typed[s->typed_len++] = (u8)key;
    }
}

void session_keys(struct session *s, const u8 *in, size_t len)
{
    for (size_t i = 0; i < len; i++)
        one_key(s, in[i]);
}

void session_keys_taken(struct session *s, size_t n)
{
    memmove(s->typed, s->typed + n, s->typed_len - n);
    s->typed_len -= n;
}

void session_resized(struct session *s)
{
    unsigned cols, rows;

    if (!s->raw || term_size(STDIN_FILENO, &cols, &rows))
        return;
    if (s->agent)
        agent_resize(s->agent, (u16)rows, (u16)cols);
    else if (s->o->hvc)
        machine_console_resize(s->m, (u16)cols, (u16)rows);
}

/* ---- the console, interactive ---- */

static size_t console_receive(void *arg, const u8 *data, size_t len)
{
    struct session *s = arg;
    size_t n = chardev_write(s->io, data, len);

    tail_add(s, data, n);
    return n;
}

static void send_typed(struct session *s)
{
    if (s->typed_len)
        session_keys_taken(s, serial_send(s->console, s->typed, s->typed_len));
}

static void console_room(void *arg)
{
    struct session *s = arg;

    send_typed(s);
    chardev_accept(s->io);
}

static size_t keys_room(void *arg)
{
    struct session *s = arg;

    return s->raw ? session_keys_room(s) : serial_room(s->console);
}

static void keys_typed(void *arg, const u8 *data, size_t len)
{
    struct session *s = arg;

    if (!s->raw) {
        if (serial_send(s->console, data, len) < len)
            log_guest("console: the guest's receiver shrank, input is lost");
        return;
    }
    session_keys(s, data, len);
    send_typed(s);
}

static void output_writable(void *arg)
{
    struct session *s = arg;

    serial_resume(s->console);
}

static void open_console(struct session *s)
{
    struct serial_user port = {.receive = console_receive, .room = console_room, .arg = s};
    struct chardev_user user = {
        .can_receive = keys_room,
        .receive = keys_typed,
        .writable = output_writable,
        .arg = s,
    };

    serial_connect(s->console, &port);
    chardev_connect(s->io, &user);
    session_resized(s);
}

/* ---- the console while a command runs ---- */

static size_t kept_receive(void *arg, const u8 *data, size_t len)
{
    struct session *s = arg;
    size_t n = s->console_out ? chardev_write(s->console_out, data, len) : len;

    tail_add(s, data, n);
    return n;
}

static int keep_console(struct session *s, struct err *e)
{
    struct serial_user port = {.receive = kept_receive, .arg = s};
    struct chardev_user out = {.writable = output_writable, .arg = s};
    const char *path = s->o->console;
    int rc = 0;

    if (path && !strcmp(path, "-"))
        rc = chardev_open_fds(&s->console_out, s->loop, -1, STDERR_FILENO, e);
    else if (path)
        rc = chardev_open_file(&s->console_out, s->loop, path, false, e);
    if (rc)
        return rc;
    if (s->console_out)
        chardev_connect(s->console_out, &out);
    serial_connect(s->console, &port);
    return 0;
}

/* ---- life ---- */

/* A command gets a terminal when both ends are one; the console needs only the keyboard. */
static int go_raw(struct session *s, struct err *e)
{
    bool wanted = term_is_tty(STDIN_FILENO) && (!s->o->command || term_is_tty(STDOUT_FILENO));
    int rc = wanted ? term_raw(STDIN_FILENO, e) : 0;

    if (rc)
        return rc;
    s->raw = wanted;
    if (wanted) {
        report_raw(true);
        report_note(ESCAPE_HINT);
    }
    return 0;
}

int session_open(struct session *s, struct err *e)
{
    int rc = signals_open(s, e);

    if (!rc)
        rc = save_open(s, e);

    if (!rc && s->o->script)
        return 0; /* a script sees no terminal */
    if (!rc)
        rc = chardev_open_stdio(&s->io, s->loop, e);
    s->console = s->o->hvc ? machine_port(s->m, 0) : machine_serial(s->m, 0);
    if (!rc)
        rc = ports_open(&s->links, s->o, s->m, e);
    if (!rc)
        rc = go_raw(s, e);
    if (rc)
        return rc;
    if (!s->o->command) {
        open_console(s);
        return 0;
    }
    rc = keep_console(s, e);
    return rc ? rc : command_open(s, e);
}

/* Output on its way from the guest to the user. */
static bool output_waits(struct session *s)
{
    struct chardev *all[] = {s->io, s->err, s->console_out};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i] && chardev_room(all[i]) < CHARDEV_BUFFER)
            return true;
    machine_ports_settle(s->m);
    return (s->port && serial_waiting(s->port)) || (s->console && serial_waiting(s->console));
}

static void drain(struct session *s)
{
    s->draining = true;
    while (!s->abandoned && output_waits(s)) {
        signals_tick();
        if (loop_run(s->loop))
            break;
    }
}

void session_close(struct session *s, bool wait)
{
    struct chardev *all[] = {s->io, s->err, s->console_out};

    machine_ports_settle(s->m);
    if (s->console)
        serial_drain(s->console);
    if (s->port)
        serial_drain(s->port);
    if (wait)
        drain(s);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i])
            chardev_close(all[i], DRAIN_MS);
    if (s->console)
        serial_connect(s->console, NULL);
    for (size_t i = 0; i < TRANSPORTS; i++)
        if (s->transport[i].port)
            serial_connect(s->transport[i].port, NULL);
    ports_close(&s->links);
    term_restore();
    report_raw(false);
}

void session_free(struct session *s)
{
    agent_destroy(s->agent);
}
