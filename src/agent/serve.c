/* serve.c - the agent's loop: frames in, the command's streams out, nothing waits for another */
#include "serve.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

/* Room that output leaves for one CREDIT and for EXIT, so that those never wait. */
#define RESERVE (2 * PROTO_HEADER_SIZE + PROTO_CREDIT_SIZE + PROTO_EXIT_SIZE)

/* At least what two pipes or a pty hold by default. */
#define LEFTOVER_MIN (128 * 1024)

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void queue_credit(struct session *s)
{
    uint8_t payload[PROTO_CREDIT_SIZE];

    if (s->phase == FLUSHING || s->credit_due < PROTO_WINDOW / 4 ||
        !channel_has_room(s->channel, RESERVE))
        return;
    frame_put32(payload, s->credit_due);
    channel_send(s->channel, PROTO_CREDIT, payload, sizeof(payload));
    s->credit += s->credit_due;
    s->credit_due = 0;
}

static void kill_child(struct session *s)
{
    if (s->child.pid > 0)
        kill(-s->child.pid, SIGKILL);
}

static int on_channel_readable(struct session *s)
{
    uint8_t bytes[4096];
    const uint8_t *data = bytes;
    struct frame frame;
    size_t size;
    int n = channel_read(s->channel, bytes, sizeof(bytes));

    if (n < 0)
        return n;
    size = (size_t)n;
    while (s->phase != FLUSHING && (n = frame_parse(&s->parser, &data, &size, &frame)) != 0) {
        if (n > 0)
            n = session_request(s, &frame);
        if (n < 0) {
            fprintf(stderr, "ring3-agent: refused a malformed frame\n");
            kill_child(s);
            session_queue_exit(s, PROTO_FAILED, EPROTO);
        }
    }
    return 0;
}

/* On a pty the end is a character, and twice that when a line is open (tcsetattr(3), VEOF). */
static bool write_pty_eof(struct session *s)
{
    struct termios tio;
    char eof[2];

    if (tcgetattr(s->child.slave, &tio) < 0 || !(tio.c_lflag & ICANON))
        return true;
    eof[0] = eof[1] = (char)tio.c_cc[VEOF];
    return write(s->child.in, eof, s->input_mid_line ? 2 : 1) > 0 || errno != EAGAIN;
}

static void write_input(struct session *s)
{
    ssize_t n = 0;

    if (s->input_len > 0)
        n = write(s->child.in, s->input, s->input_len);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        session_close_input(s); /* the command closed its stdin */
        return;
    }
    if (n > 0) {
        s->input_mid_line = s->input[n - 1] != '\n';
        s->input_len -= (size_t)n;
        s->credit_due += (uint32_t)n;
        memmove(s->input, s->input + n, s->input_len);
    }
    if (s->input_eof && s->input_len == 0 && (s->child.slave < 0 || write_pty_eof(s)))
        session_close_input(s);
}

static bool has_output_room(const struct session *s)
{
    return channel_has_room(s->channel, PROTO_PAYLOAD_MAX + RESERVE);
}

/* Moves one read's worth. A pty's master fails with EIO where a pipe ends with 0. */
static void forward_output(struct session *s, int *fd, enum proto_type type)
{
    uint8_t bytes[PROTO_PAYLOAD_MAX];
    ssize_t n;

    if (*fd < 0 || !has_output_room(s))
        return;
    n = read(*fd, bytes, sizeof(bytes));
    if (n > 0) {
        channel_send(s->channel, type, bytes, (size_t)n);
        if (s->phase != DRAINING)
            return;
        s->leftover -= (size_t)n < s->leftover ? (size_t)n : s->leftover;
        if (s->leftover == 0)
            child_close(fd);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR) || s->phase == DRAINING) {
        child_close(fd);
    }
}

static void on_child_end(struct session *s, int status)
{
    s->child.pid = -1;
    s->exit_kind = WIFSIGNALED(status) ? PROTO_SIGNALED : PROTO_EXITED;
    s->exit_value = (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    child_close(&s->child.slave);
    session_close_input(s);
    if (s->phase == TALKING) {
        s->phase = LINGERING;
        s->linger_until_ms = now_ms() + PROTO_LINGER_MS;
    }
}

/* Reaps everything that ended, orphans too. A signal that ends the conversation, or 0. */
static int on_signal_fd(struct session *s, int signal_fd)
{
    struct signalfd_siginfo info;
    int status, signo = 0;
    pid_t pid;

    while (read(signal_fd, &info, sizeof(info)) == sizeof(info))
        if (info.ssi_signo != SIGCHLD)
            signo = (int)info.ssi_signo;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == s->child.pid)
            on_child_end(s, status);
    return signo;
}

/* A pipe that was made larger may hold more than LEFTOVER_MIN. */
static size_t pipe_fill(int fd)
{
    int size;

    return fd >= 0 && ioctl(fd, FIONREAD, &size) == 0 && size > 0 ? (size_t)size : 0;
}

/* From the command's end to EXIT. */
static void advance(struct session *s)
{
    if (s->phase == LINGERING && now_ms() >= s->linger_until_ms) {
        s->phase = DRAINING;
        s->leftover = LEFTOVER_MIN + pipe_fill(s->child.out) + pipe_fill(s->child.err);
    }
    if ((s->phase == LINGERING || s->phase == DRAINING) && s->child.out < 0 && s->child.err < 0)
        session_queue_exit(s, s->exit_kind, s->exit_value);
}

static int wait_ms(const struct session *s)
{
    int64_t left;

    if (s->phase == DRAINING && has_output_room(s))
        return 0;
    if (s->phase != LINGERING)
        return -1;
    left = s->linger_until_ms - now_ms();
    return left > 0 ? (int)left : 0;
}

enum { FD_CHANNEL, FD_SIGNALS, FD_IN, FD_OUT, FD_ERR, FD_COUNT };

/* A descriptor nothing is wanted of stays out: its POLLHUP would turn the loop into a spin. */
static void fill_poll(const struct session *s, int signal_fd, struct pollfd *fds)
{
    bool output = has_output_room(s) && s->phase != FLUSHING;
    bool input = s->input_len > 0 || s->input_eof;

    fds[FD_CHANNEL].fd = s->channel->fd;
    fds[FD_CHANNEL].events =
        (short)((s->phase != FLUSHING ? POLLIN : 0) | (channel_pending(s->channel) ? POLLOUT : 0));
    fds[FD_SIGNALS] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
    fds[FD_IN] = (struct pollfd){.fd = input ? s->child.in : -1, .events = POLLOUT};
    fds[FD_OUT] = (struct pollfd){.fd = output ? s->child.out : -1, .events = POLLIN};
    fds[FD_ERR] = (struct pollfd){.fd = output ? s->child.err : -1, .events = POLLIN};
}

static int step(struct session *s, int signal_fd)
{
    struct pollfd fds[FD_COUNT];
    int err = 0;

    fill_poll(s, signal_fd, fds);
    if (poll(fds, FD_COUNT, wait_ms(s)) < 0)
        return errno == EINTR ? 0 : -errno;

    if (fds[FD_SIGNALS].revents)
        err = on_signal_fd(s, signal_fd);
    if (!err && fds[FD_CHANNEL].revents & ~POLLOUT && s->phase != FLUSHING)
        err = on_channel_readable(s);
    if (err)
        return err;
    if (fds[FD_IN].revents && s->child.in >= 0)
        write_input(s);
    if (s->phase != FLUSHING && (fds[FD_OUT].revents || s->phase == DRAINING))
        forward_output(s, &s->child.out, PROTO_STDOUT);
    if (s->phase != FLUSHING && (fds[FD_ERR].revents || s->phase == DRAINING))
        forward_output(s, &s->child.err, PROTO_STDERR);
    advance(s);
    queue_credit(s);
    return channel_flush(s->channel) ? -EPIPE : 0;
}

static void greet(struct session *s)
{
    uint8_t ready[PROTO_READY_SIZE] = {0};

    frame_put32(ready, PROTO_VERSION);
    channel_send_raw(s->channel, PROTO_SYNC, sizeof(PROTO_SYNC) - 1);
    channel_send(s->channel, PROTO_READY, ready, sizeof(ready));
    s->credit_due = PROTO_WINDOW;
    queue_credit(s);
}

int serve(struct channel *channel, int signal_fd)
{
    static struct session session;
    struct session *s = &session;
    int err = 0;

    *s = (struct session){.channel = channel,
                          .child = {.pid = -1, .in = -1, .out = -1, .err = -1, .slave = -1}};
    frame_parser_init(&s->parser, false);
    greet(s);
    while (!err && (s->phase != FLUSHING || channel_pending(channel) > 0))
        err = step(s, signal_fd);

    if (err)
        kill_child(s);
    child_close(&s->child.in);
    child_close(&s->child.out);
    child_close(&s->child.err);
    child_close(&s->child.slave);
    free(s->spec);
    return err;
}
