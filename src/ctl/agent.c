/* agent.c - the host's side of a command in the guest (agent/proto.h) */
#include "ctl/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/frame.h"

_Static_assert(AGENT_INPUT_MAX == PROTO_PAYLOAD_MAX, "one frame of input");

#define TX_BYTES   (4 * PROTO_FRAME_MAX)
#define TX_CONTROL 64 /* kept free for signals, sizes and the end of input */

struct agent {
    struct agent_ops ops;
    struct frame_parser parser;
    struct agent_result result;
    bool telling; /* done() was called */

    /* the command */
    char *spec;
    size_t spec_len, spec_sent;
    struct proto_exec exec;
    bool exec_sent, input_eof, eof_sent;
    char name[64];

    /* to the guest */
    u32 credit; /* payload bytes of SPEC and STDIN that may still be sent */
    u8 tx[TX_BYTES];
    size_t tx_len;

    /* output that its stream did not take yet */
    enum agent_stream stalled_stream;
    u8 stalled[PROTO_PAYLOAD_MAX];
    size_t stalled_at, stalled_len;
};

static void broken(struct agent *a, const char *what)
{
    if (a->result.phase == AGENT_ENDED || a->result.phase == AGENT_BROKEN)
        return;
    a->result.phase = AGENT_BROKEN;
    err_set(&a->result.err, EPROTO, "the guest's agent broke the protocol: %s", what);
}

/* ---- to the guest ---- */

static void flush(struct agent *a)
{
    size_t n = a->tx_len ? a->ops.send(a->ops.ctx, a->tx, a->tx_len) : 0;

    ASSERT(n <= a->tx_len);
    memmove(a->tx, a->tx + n, a->tx_len - n);
    a->tx_len -= n;
}

static bool queue(struct agent *a, u8 type, const void *payload, size_t len)
{
    size_t n = frame_encode(a->tx + a->tx_len, TX_BYTES - a->tx_len, type, payload, len);

    a->tx_len += n;
    return n > 0;
}

/* Payload bytes that credit and buffer allow in one frame now. */
static size_t payload_room(const struct agent *a)
{
    size_t used = a->tx_len + PROTO_HEADER_SIZE + TX_CONTROL;
    size_t room = used < TX_BYTES ? TX_BYTES - used : 0;

    return MIN(MIN(room, (size_t)a->credit), PROTO_PAYLOAD_MAX);
}

static void queue_command(struct agent *a)
{
    u8 payload[PROTO_EXEC_SIZE];
    size_t n;

    while (a->spec_sent < a->spec_len) {
        n = MIN(payload_room(a), a->spec_len - a->spec_sent);
        if (n == 0 || !queue(a, PROTO_SPEC, a->spec + a->spec_sent, n))
            return;
        a->spec_sent += n;
        a->credit -= (u32)n;
    }
    if (a->exec_sent)
        return;
    frame_put_exec(payload, &a->exec);
    a->exec_sent = queue(a, PROTO_EXEC, payload, sizeof(payload));
}

static void pump(struct agent *a)
{
    if (a->result.phase != AGENT_RUNNING)
        return;
    flush(a);
    queue_command(a);
    if (a->exec_sent && a->input_eof && !a->eof_sent)
        a->eof_sent = queue(a, PROTO_STDIN_EOF, NULL, 0);
    flush(a);
}

void agent_transport_room(struct agent *a)
{
    pump(a);
    if (agent_input_room(a))
        a->ops.input_room(a->ops.ctx);
}

size_t agent_input_room(const struct agent *a)
{
    if (a->result.phase != AGENT_RUNNING || !a->exec_sent || a->input_eof)
        return 0;
    return payload_room(a);
}

void agent_input(struct agent *a, const u8 *data, size_t len)
{
    ASSERT(len <= agent_input_room(a));
    if (len && queue(a, PROTO_STDIN, data, len))
        a->credit -= (u32)len;
    flush(a);
}

void agent_input_eof(struct agent *a)
{
    a->input_eof = true;
    pump(a);
}

bool agent_signal(struct agent *a, int signo)
{
    u8 payload = (u8)signo;
    bool sent;

    if (a->result.phase != AGENT_RUNNING || !a->exec_sent)
        return false;
    sent = queue(a, PROTO_SIGNAL, &payload, 1);
    flush(a);
    return sent;
}

bool agent_resize(struct agent *a, u16 rows, u16 cols)
{
    u8 payload[PROTO_WINSIZE_SIZE];
    bool sent;

    a->exec.rows = rows;
    a->exec.cols = cols;
    if (a->result.phase != AGENT_RUNNING || !a->exec_sent)
        return false;
    frame_put16(payload, rows);
    frame_put16(payload + 2, cols);
    sent = queue(a, PROTO_WINSIZE, payload, sizeof(payload));
    flush(a);
    return sent;
}

/* ---- from the guest ---- */

bool agent_output_room(struct agent *a)
{
    size_t left = a->stalled_len - a->stalled_at;

    if (left)
        a->stalled_at +=
            a->ops.output(a->ops.ctx, a->stalled_stream, a->stalled + a->stalled_at, left);
    ASSERT(a->stalled_at <= a->stalled_len);
    return a->stalled_at == a->stalled_len;
}

static void on_output(struct agent *a, enum agent_stream stream, const struct frame *f)
{
    a->stalled_stream = stream;
    memcpy(a->stalled, f->payload, f->len);
    a->stalled_at = 0;
    a->stalled_len = f->len;
    agent_output_room(a);
}

static void on_ready(struct agent *a, const struct frame *f)
{
    if (a->result.phase != AGENT_WAITING || f->len != PROTO_READY_SIZE) {
        broken(a, "misplaced READY");
    } else if (frame_get32(f->payload) != PROTO_VERSION) {
        a->result.phase = AGENT_BROKEN;
        err_set(&a->result.err, EPROTO,
                "the guest's agent speaks version %u of the protocol, not %u; make "
                "its image anew with tools/guest",
                frame_get32(f->payload), PROTO_VERSION);
    } else {
        a->result.phase = AGENT_RUNNING;
        a->ops.ready(a->ops.ctx);
    }
}

static void on_credit(struct agent *a, const struct frame *f)
{
    u32 more = f->len == PROTO_CREDIT_SIZE ? frame_get32(f->payload) : 0;

    if (more == 0 || more > PROTO_WINDOW - MIN(a->credit, PROTO_WINDOW)) {
        broken(a, "bad CREDIT");
        return;
    }
    a->credit += more;
    agent_transport_room(a);
}

static void on_end(struct agent *a, const struct frame *f)
{
    enum proto_exit kind;
    u32 value;

    if (frame_get_exit(f, &kind, &value) || (kind == PROTO_SIGNALED && value > 127)) {
        broken(a, "bad EXIT");
        return;
    }
    a->result.phase = AGENT_ENDED;
    switch (kind) {
    case PROTO_EXITED: a->result.status = value & 0xff; return;
    case PROTO_SIGNALED: a->result.status = 128 + (int)value; return;
    case PROTO_FAILED:
        a->result.status = value == ENOENT ? 127 : 126;
        err_set(&a->result.err, (int)(value & 0xfff), "%s: %s", a->name,
                strerror((int)(value & 0xfff)));
        return;
    case PROTO_UNSTARTED:
        a->result.status = 126;
        err_set(&a->result.err, (int)(value & 0xfff), "cannot start %s in the guest: %s", a->name,
                strerror((int)(value & 0xfff)));
        return;
    }
}

static void on_frame(struct agent *a, const struct frame *f)
{
    if (a->result.phase == AGENT_WAITING && f->type != PROTO_READY) {
        broken(a, "a frame before READY");
        return;
    }
    switch (f->type) {
    case PROTO_READY: on_ready(a, f); break;
    case PROTO_STDOUT: on_output(a, AGENT_STDOUT, f); break;
    case PROTO_STDERR: on_output(a, AGENT_STDERR, f); break;
    case PROTO_CREDIT: on_credit(a, f); break;
    case PROTO_EXIT: on_end(a, f); break;
    default: broken(a, "unknown frame type"); break;
    }
}

static bool over(const struct agent *a)
{
    return a->result.phase == AGENT_ENDED || a->result.phase == AGENT_BROKEN;
}

bool agent_hear(struct agent_ear *ear, const u8 *data, size_t len, size_t *used)
{
    static const char greeting[] = PROTO_SYNC;

    for (size_t i = 0; i < len; i++) {
        if (data[i] == (u8)greeting[ear->matched])
            ear->matched++;
        else
            ear->matched = data[i] == (u8)greeting[0];
        if (ear->matched == sizeof(greeting) - 1) {
            *ear = (struct agent_ear){0};
            *used = i + 1;
            return true;
        }
    }
    return false;
}

void agent_greeted(struct agent *a)
{
    frame_parser_init(&a->parser, false);
}

size_t agent_receive(struct agent *a, const u8 *data, size_t len)
{
    const u8 *p = data;
    size_t left = len;
    struct frame frame;

    while (!over(a) && agent_output_room(a)) {
        int rc = frame_parse(&a->parser, &p, &left, &frame);

        if (rc < 0)
            broken(a, "bad frame header");
        if (rc <= 0)
            break;
        on_frame(a, &frame);
    }
    if (!over(a))
        return len - left;
    if (!a->telling && agent_output_room(a)) {
        a->telling = true;
        a->ops.done(a->ops.ctx);
    }
    return len; /* what follows the end means nothing */
}

/* ---- life ---- */

static size_t add_string(char *spec, size_t at, const char *text)
{
    size_t n = strlen(text) + 1;

    if (spec)
        memcpy(spec + at, text, n);
    return at + n;
}

/* The strings of SPEC one after the other; returns their length (spec may be NULL). */
static size_t put_spec(char *spec, const struct agent_command *cmd, struct proto_exec *exec)
{
    size_t at = add_string(spec, 0, cmd->cwd ? cmd->cwd : ""), argc = 0, envc = 0;

    for (; cmd->argv[argc]; argc++)
        at = add_string(spec, at, cmd->argv[argc]);
    for (; cmd->env && cmd->env[envc]; envc++)
        at = add_string(spec, at, cmd->env[envc]);
    exec->argc = (u16)MIN(argc, 0xffffu);
    exec->envc = (u16)MIN(envc, 0xffffu);
    return argc > 0xffff || envc > 0xffff ? SIZE_MAX : at;
}

int agent_create(struct agent **out, const struct agent_command *cmd, const struct agent_ops *ops,
                 struct err *e)
{
    struct agent *a = calloc(1, sizeof(*a));
    size_t len;

    if (!a)
        return err_set(e, ENOMEM, "no memory for the command");
    len = put_spec(NULL, cmd, &a->exec);
    a->spec = len <= PROTO_SPEC_MAX ? malloc(len) : NULL;
    if (!a->spec) {
        free(a);
        return err_set(e, E2BIG, "the command: its arguments are longer than %u bytes",
                       PROTO_SPEC_MAX);
    }
    a->spec_len = put_spec(a->spec, cmd, &a->exec);
    a->exec.flags = cmd->tty ? PROTO_EXEC_TTY : 0;
    a->exec.rows = cmd->rows;
    a->exec.cols = cmd->cols;
    strncpy(a->name, cmd->argv[0], sizeof(a->name) - 1);
    a->ops = *ops;
    frame_parser_init(&a->parser, true);
    *out = a;
    return 0;
}

void agent_destroy(struct agent *a)
{
    if (!a)
        return;
    free(a->spec);
    free(a);
}

void agent_result(const struct agent *a, struct agent_result *out)
{
    *out = a->result;
}
