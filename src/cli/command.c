/* command.c - the user's streams on one side, the command in the guest on the other */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "cli/report.h"
#include "cli/session.h"
#include "host/term.h"

#define POWER_OFF_GRACE_S 10

/* ---- from the guest ---- */

/* The agent's transport is the one on which it is heard first. */
static size_t transport_receive(void *arg, const u8 *data, size_t len)
{
    struct transport *t = arg;
    struct session *s = t->session;
    size_t used = 0;

    if (!s->port && agent_hear(&t->ear, data, len, &used)) {
        s->port = t->port;
        agent_greeted(s->agent);
    }
    if (s->port != t->port)
        return len;
    return used + agent_receive(s->agent, data + used, len - used);
}

static void transport_room(void *arg)
{
    struct transport *t = arg;

    if (t->session->port == t->port)
        agent_transport_room(t->session->agent);
}

static size_t agent_send(void *ctx, const u8 *data, size_t len)
{
    struct session *s = ctx;

    return s->port ? serial_send(s->port, data, len) : 0;
}

static size_t agent_output(void *ctx, enum agent_stream stream, const u8 *data, size_t len)
{
    struct session *s = ctx;

    return chardev_write(stream == AGENT_STDOUT ? s->io : s->err, data, len);
}

static void agent_ready(void *ctx)
{
    struct session *s = ctx;

    s->ready_ms = report_elapsed_ms();
    report_progress("guest up in %llu.%llu s", (unsigned long long)s->ready_ms / 1000,
                    (unsigned long long)s->ready_ms % 1000 / 100);
}

static void send_typed(struct session *s)
{
    size_t n = MIN(s->typed_len, agent_input_room(s->agent));

    agent_input(s->agent, s->typed, n);
    session_keys_taken(s, n);
}

static void agent_wants_input(void *ctx)
{
    struct session *s = ctx;

    send_typed(s);
    chardev_accept(s->io);
}

static void agent_done(void *ctx)
{
    struct session *s = ctx;
    struct agent_result r;

    agent_result(s->agent, &r);
    if (r.phase == AGENT_ENDED)
        signals_grace(s, POWER_OFF_GRACE_S);
    else
        machine_stop(s->m, STOP_COMMAND_DONE);
}

/* ---- from and to the user ---- */

static size_t stdin_room(void *arg)
{
    struct session *s = arg;

    return s->raw ? session_keys_room(s) : agent_input_room(s->agent);
}

static void stdin_bytes(void *arg, const u8 *data, size_t len)
{
    struct session *s = arg;

    if (!s->raw) {
        agent_input(s->agent, data, len);
        return;
    }
    session_keys(s, data, len);
    send_typed(s);
}

static void stdout_writable(void *arg)
{
    struct session *s = arg;

    if (agent_output_room(s->agent) && s->port)
        serial_resume(s->port);
}

static void stdio_event(void *arg, enum chardev_event ev)
{
    struct session *s = arg;

    if (ev == CHARDEV_EOF)
        agent_input_eof(s->agent);
    else
        agent_signal(s->agent,
                     SIGPIPE); /* nobody reads stdout: as for a process on a broken pipe */
}

static int make_agent(struct session *s, struct err *e)
{
    struct agent_ops ops = {
        .send = agent_send,
        .output = agent_output,
        .input_room = agent_wants_input,
        .ready = agent_ready,
        .done = agent_done,
        .ctx = s,
    };
    struct agent_command cmd = {
        .argv = s->o->command,
        .env = s->o->env.item,
        .cwd = s->o->workdir,
        .tty = s->raw,
    };
    unsigned cols, rows;

    if (s->raw && term_size(STDIN_FILENO, &cols, &rows) == 0) {
        cmd.rows = (u16)rows;
        cmd.cols = (u16)cols;
    }
    return agent_create(&s->agent, &cmd, &ops, e);
}

static void open_transport(struct session *s, struct transport *t, struct serial *port)
{
    struct serial_user user = {.receive = transport_receive, .room = transport_room, .arg = t};

    *t = (struct transport){.session = s, .port = port};
    serial_connect(port, &user);
}

int command_open(struct session *s, struct err *e)
{
    struct chardev_user in_out = {
        .can_receive = stdin_room,
        .receive = stdin_bytes,
        .writable = stdout_writable,
        .event = stdio_event,
        .arg = s,
    };
    struct chardev_user err = {.writable = stdout_writable, .arg = s};
    int rc = make_agent(s, e);

    if (!rc)
        rc = chardev_open_fds(&s->err, s->loop, -1, STDERR_FILENO, e);
    if (rc)
        return rc;
    open_transport(s, &s->transport[0], machine_serial(s->m, 1));
    open_transport(s, &s->transport[1], machine_port(s->m, 1));
    chardev_connect(s->io, &in_out);
    chardev_connect(s->err, &err);
    return 0;
}
