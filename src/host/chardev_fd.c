/* chardev_fd.c - byte streams over descriptors that may be shared with the user's shell */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "host/chardev_priv.h"
#include "host/file.h"
#include "host/loop.h"

#define READ_MAX 4096u

/* One end. O_NONBLOCK belongs to the open file, which others share: their `cat` would break. So a
 * terminal or pipe is opened anew through /proc, where the flag is ours alone; a socket takes the
 * flag by call; a regular file never makes us wait. What can be had no other way stays blocking and
 * is written only when poll says so, at most PIPE_BUF at a time. */
struct end {
    int fd;      /* our own descriptor, -1 = none */
    bool polled; /* epoll can watch it; else it is always ready */
    bool socket, pipe;
    bool nonblock; /* no call on it waits */
    bool watched;  /* known to the loop; loop thread only */
};

struct fd_chardev {
    struct chardev c;
    struct loop *loop;
    struct end in, out;
    struct loop_task send, recv;
    bool eof; /* loop thread only */
};

/* ---- opening ---- */

/* Opening the master side of a pseudo-terminal again would make a new one. */
static bool can_reopen(int fd, const struct stat *st)
{
    if (S_ISCHR(st->st_mode))
        return isatty(fd) && st->st_rdev != makedev(5, 2);
    return S_ISFIFO(st->st_mode);
}

static int open_end(struct end *d, int fd, int flags, struct err *e)
{
    char path[32];
    struct stat st;

    *d = (struct end){.fd = -1};
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "character device: descriptor %d: %s", fd, strerror(errno));
    d->socket = S_ISSOCK(st.st_mode);
    d->pipe = S_ISFIFO(st.st_mode);
    d->polled = !S_ISREG(st.st_mode);
    d->nonblock = d->socket || !d->polled || fcntl(fd, F_GETFL) & O_NONBLOCK;
    if (!d->nonblock && can_reopen(fd, &st)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        d->fd = open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        d->nonblock = d->fd >= 0;
    }
    if (d->fd < 0)
        d->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (d->fd < 0)
        return err_set(e, errno, "character device: descriptor %d: %s", fd, strerror(errno));
    return 0;
}

static void close_end(struct fd_chardev *f, struct end *d)
{
    if (d->watched)
        loop_del_fd(f->loop, d->fd);
    if (d->fd >= 0)
        close(d->fd);
    *d = (struct end){.fd = -1};
}

/* Watches or stops watching. A descriptor that cannot be polled is served by tasks instead. */
static void watch(struct fd_chardev *f, struct end *d, unsigned events, loop_fd_fn *fn)
{
    if (d->fd < 0 || !d->polled || d->watched == (events != 0))
        return;
    if (!events) {
        loop_del_fd(f->loop, d->fd);
        d->watched = false;
    } else if (loop_add_fd(f->loop, d->fd, events, fn, f, NULL) == 0) {
        d->watched = true;
    } else {
        d->polled = false; /* /dev/null and its like */
    }
}

/* ---- input ---- */

static void input_ready(void *arg, unsigned events)
{
    struct fd_chardev *f = arg;

    loop_task_queue(f->loop, &f->recv);
}

static ssize_t read_end(const struct end *d, u8 *buf, size_t len)
{
    ssize_t n;

    do {
        n = d->socket ? recv(d->fd, buf, len, MSG_DONTWAIT) : read(d->fd, buf, len);
    } while (n < 0 && errno == EINTR);
    return n;
}

static bool readable(const struct end *d)
{
    struct pollfd p = {.fd = d->fd, .events = POLLIN};

    return d->nonblock || (poll(&p, 1, 0) == 1 && p.revents);
}

static void input_over(struct fd_chardev *f)
{
    watch(f, &f->in, 0, NULL);
    f->eof = true;
    if (f->c.user.event)
        f->c.user.event(f->c.user.arg, CHARDEV_EOF);
}

/* One round: what the device takes, what the host has. Watches the descriptor only while the device
 * has room, so that a full one costs nothing. */
static void receive(void *arg)
{
    struct fd_chardev *f = arg;
    struct chardev_user *u = &f->c.user;
    u8 buf[READ_MAX];
    size_t room;
    ssize_t n;

    if (f->in.fd < 0 || f->eof)
        return;
    room = u->can_receive && u->receive ? u->can_receive(u->arg) : 0;
    if (room == 0) {
        watch(f, &f->in, 0, NULL);
        return;
    }
    if (readable(&f->in)) {
        n = read_end(&f->in, buf, MIN(room, sizeof(buf)));
        if (n > 0) {
            u->receive(u->arg, buf, (size_t)n);
        } else if (n == 0 || errno != EAGAIN) {
            input_over(f);
            return;
        }
    }
    watch(f, &f->in, LOOP_READ, input_ready);
    if (!f->in.polled)
        loop_task_queue(f->loop, &f->recv);
}

static void accept_input(struct chardev *c)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);

    if (f->in.fd >= 0)
        loop_task_queue(f->loop, &f->recv);
}

/* ---- output ---- */

/* A reader that went away is an error like any other, not the death of the VM by SIGPIPE. */
static ssize_t write_pipe(int fd, const u8 *data, size_t len)
{
    const struct timespec now = {0, 0};
    sigset_t pipe_set, old;
    ssize_t n;
    int code;

    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    n = write(fd, data, len);
    code = errno;
    if (n < 0 && code == EPIPE && !sigismember(&old, SIGPIPE))
        (void)sigtimedwait(&pipe_set, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = code;
    return n;
}

/* -1 with EAGAIN when the host takes nothing now. */
static ssize_t write_end(const struct end *d, const u8 *data, size_t len)
{
    struct pollfd p = {.fd = d->fd, .events = POLLOUT};
    ssize_t n;

    if (!d->nonblock) {
        len = MIN(len, (size_t)PIPE_BUF);
        if (poll(&p, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
    }
    do {
        if (d->socket)
            n = send(d->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
            n = d->pipe ? write_pipe(d->fd, data, len) : write(d->fd, data, len);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* True when the buffer ran empty (or the reader is gone), false when the host takes no more now. */
static bool send_buffer(struct fd_chardev *f)
{
    const u8 *data;
    size_t len;

    while ((len = chardev_peek(&f->c, &data)) > 0) {
        ssize_t n = write_end(&f->out, data, len);
        if (n > 0) {
            chardev_drop(&f->c, (size_t)n);
        } else if (n < 0 && errno == EAGAIN) {
            return false;
        } else {
            chardev_break(&f->c);
            return true;
        }
    }
    return true;
}

static void output_ready(void *arg, unsigned events)
{
    struct fd_chardev *f = arg;

    loop_task_queue(f->loop, &f->send);
}

static void send_task(void *arg)
{
    struct fd_chardev *f = arg;
    bool empty = send_buffer(f);

    watch(f, &f->out, empty ? 0 : LOOP_WRITE, output_ready);
    if (!empty && !f->out.polled)
        loop_task_queue(f->loop, &f->send);
}

static void start_output(struct chardev *c)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);

    loop_task_queue(f->loop, &f->send);
}

/* ---- life ---- */

static void close_fds(struct chardev *c, unsigned drain_ms)
{
    struct fd_chardev *f = container_of(c, struct fd_chardev, c);
    struct pollfd p = {.fd = f->out.fd, .events = POLLOUT};

    loop_task_cancel(f->loop, &f->send);
    loop_task_cancel(f->loop, &f->recv);
    c->user = (struct chardev_user){0};
    while (f->out.fd >= 0 && !send_buffer(f)) {
        int n = poll(&p, 1, (int)MIN(drain_ms, 60000u));
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
    }
    close_end(f, &f->in);
    close_end(f, &f->out);
    chardev_fini(c);
    free(f);
}

static const struct chardev_backend fd_backend = {start_output, accept_input, close_fds};

int chardev_open_fds(struct chardev **out, struct loop *l, int in_fd, int out_fd, struct err *e)
{
    struct fd_chardev *f = calloc(1, sizeof(*f));
    int ret;

    if (!f)
        return err_set(e, ENOMEM, "character device: no memory");
    ret = chardev_init(&f->c, &fd_backend, out_fd >= 0, e);
    if (ret) {
        free(f);
        return ret;
    }
    f->loop = l;
    f->send = (struct loop_task){.fn = send_task, .arg = f};
    f->recv = (struct loop_task){.fn = receive, .arg = f};
    f->out.fd = -1;
    ret = open_end(&f->in, in_fd, O_RDONLY, e);
    if (ret == 0)
        ret = open_end(&f->out, out_fd, O_WRONLY, e);
    if (ret) {
        close_fds(&f->c, 0);
        return ret;
    }
    *out = &f->c;
    return 0;
}

int chardev_open_stdio(struct chardev **out, struct loop *l, struct err *e)
{
    return chardev_open_fds(out, l, STDIN_FILENO, STDOUT_FILENO, e);
}

int chardev_open_file(struct chardev **out, struct loop *l, const char *path, bool append,
                      struct err *e)
{
    int fd, ret;

    ret = file_open_output(path, append, &fd, e);
    if (ret)
        return ret;
    ret = chardev_open_fds(out, l, -1, fd, e); /* it works on a duplicate */
    close(fd);
    return ret;
}
