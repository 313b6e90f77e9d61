/* request.c - what each frame from the host does to the conversation */
#include "session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>

void session_queue_exit(struct session *s, enum proto_exit kind, uint32_t value)
{
    uint8_t payload[PROTO_EXIT_SIZE];

    frame_put_exit(payload, kind, value);
    channel_send(s->channel, PROTO_EXIT, payload, sizeof(payload));
    s->phase = FLUSHING;
}

void session_close_input(struct session *s)
{
    child_close(&s->child.in);
    s->credit_due += (uint32_t)s->input_len;
    s->input_len = 0;
}

/* Each handler returns 0 or -EPROTO. */

static int take_credit(struct session *s, size_t len)
{
    if (len > s->credit)
        return -EPROTO;
    s->credit -= (uint32_t)len;
    return 0;
}

static int on_spec(struct session *s, const struct frame *frame)
{
    if (s->started || take_credit(s, frame->len) || frame->len > PROTO_SPEC_MAX - s->spec_len)
        return -EPROTO;
    if (s->spec_cap - s->spec_len < frame->len) {
        size_t cap = 2 * s->spec_cap + PROTO_PAYLOAD_MAX;
        char *spec = realloc(s->spec, cap);

        if (!spec)
            return -EPROTO;
        s->spec = spec;
        s->spec_cap = cap;
    }
    memcpy(s->spec + s->spec_len, frame->payload, frame->len);
    s->spec_len += frame->len;
    s->credit_due += frame->len;
    return 0;
}

/* Points list[0..count) at the next strings of the spec; where they end, or NULL if they are
 * short. */
static char *take_strings(char *at, const char *end, char **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *nul = at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;

        if (!nul)
            return NULL;
        list[i] = at;
        at = nul + 1;
    }
    list[count] = NULL;
    return at;
}

static int start(struct session *s, const struct proto_exec *exec, char **strings)
{
    struct command command = {
        .tty = exec->flags & PROTO_EXEC_TTY, .rows = exec->rows, .cols = exec->cols};
    char *end = s->spec + s->spec_len, *at = s->spec, *cwd[2] = {NULL};
    enum proto_exit kind;
    int error;

    command.argv = strings;
    command.env = strings + exec->argc + 1;
    at = take_strings(at, end, cwd, 1);
    at = at ? take_strings(at, end, command.argv, exec->argc) : NULL;
    at = at ? take_strings(at, end, command.env, exec->envc) : NULL;
    if (at != end)
        return -EPROTO;
    command.cwd = cwd[0];
    error = child_start(&s->child, &command, &kind);
    if (error)
        session_queue_exit(s, kind, (uint32_t)error);
    return 0;
}

static int on_exec(struct session *s, const struct frame *frame)
{
    struct proto_exec exec;
    char **strings;
    int err;

    if (s->started || !s->spec || frame_get_exec(frame, &exec))
        return -EPROTO;
    s->started = true;
    strings = calloc((size_t)exec.argc + exec.envc + 2, sizeof(*strings));
    err = strings ? start(s, &exec, strings) : -EPROTO;
    free(strings);
    free(s->spec);
    s->spec = NULL;
    return err;
}

static int on_stdin(struct session *s, const struct frame *frame)
{
    if (!s->started || s->input_eof || take_credit(s, frame->len))
        return -EPROTO;
    if (s->child.in < 0) {
        s->credit_due += frame->len;
        return 0;
    }
    /* Fits: credit_due, input_len and credit never add up to more than the window. */
    memcpy(s->input + s->input_len, frame->payload, frame->len);
    s->input_len += frame->len;
    return 0;
}

static int on_winsize(struct session *s, const struct frame *frame)
{
    struct winsize size = {0};

    if (frame->len != PROTO_WINSIZE_SIZE)
        return -EPROTO;
    size.ws_row = frame_get16(frame->payload);
    size.ws_col = frame_get16(frame->payload + 2);
    if (s->child.slave >= 0)
        ioctl(s->child.slave, TIOCSWINSZ, &size);
    return 0;
}

static int on_signal(struct session *s, const struct frame *frame)
{
    if (frame->len != PROTO_SIGNAL_SIZE || frame->payload[0] < 1 || frame->payload[0] > 64)
        return -EPROTO;
    if (s->child.pid > 0)
        kill(-s->child.pid, frame->payload[0]);
    return 0;
}

int session_request(struct session *s, const struct frame *frame)
{
    switch (frame->type) {
    case PROTO_SPEC: return on_spec(s, frame);
    case PROTO_EXEC: return on_exec(s, frame);
    case PROTO_STDIN: return on_stdin(s, frame);
    case PROTO_STDIN_EOF:
        if (!s->started || s->input_eof || frame->len)
            return -EPROTO;
        s->input_eof = true;
        return 0;
    case PROTO_WINSIZE: return on_winsize(s, frame);
    case PROTO_SIGNAL: return on_signal(s, frame);
    default: return -EPROTO;
    }
}
