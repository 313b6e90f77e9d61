/* child.c - starts the command on pipes or on a pty and learns whether its execve worked */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the new process reports through a pipe that a successful execve closes. */
struct start_report {
    enum proto_exit kind;
    int error;
};

/* The command's own ends; with a pty all three are its slave. */
struct stdio {
    int in, out, err;
};

void child_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static int open_pty(struct child *child, struct stdio *stdio, const struct command *command)
{
    struct winsize size = {.ws_row = command->rows, .ws_col = command->cols};
    int master, slave;

    if (openpty(&master, &slave, NULL, NULL, size.ws_row && size.ws_col ? &size : NULL) < 0)
        return -1;
    child->out = master;
    child->slave = stdio->in = stdio->out = stdio->err = slave;
    child->in = fcntl(master, F_DUPFD_CLOEXEC, 0);
    if (child->in < 0 || fcntl(master, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(slave, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return set_nonblocking(master);
}

static int open_pipes(struct child *child, struct stdio *stdio)
{
    int in[2], out[2], err[2];

    if (pipe2(in, O_CLOEXEC) < 0)
        return -1;
    stdio->in = in[0];
    child->in = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return -1;
    child->out = out[0];
    stdio->out = out[1];
    if (pipe2(err, O_CLOEXEC) < 0)
        return -1;
    child->err = err[0];
    stdio->err = err[1];
    if (set_nonblocking(child->in) < 0 || set_nonblocking(child->out) < 0)
        return -1;
    return set_nonblocking(child->err);
}

void child_reset_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, SIG_DFL); /* fails for those that cannot change */
}

/* In the new process, up to the execve. Returns only on failure. */
static struct start_report run(const struct command *command, const struct stdio *stdio)
{
    struct start_report report = {PROTO_UNSTARTED, 0};

    child_reset_signals();
    setsid();
    if ((command->tty && ioctl(stdio->in, TIOCSCTTY, 0) < 0) || dup2(stdio->in, STDIN_FILENO) < 0 ||
        dup2(stdio->out, STDOUT_FILENO) < 0 || dup2(stdio->err, STDERR_FILENO) < 0 ||
        (command->cwd[0] && chdir(command->cwd) < 0)) {
        report.error = errno;
        return report;
    }
    for (char **env = command->env; *env; env++)
        putenv(*env);
    execvp(command->argv[0], command->argv);
    report.kind = PROTO_FAILED;
    report.error = errno;
    return report;
}

static int fork_and_run(struct child *child, const struct command *command,
                        const struct stdio *stdio, enum proto_exit *kind)
{
    struct start_report report;
    int pipe_fds[2];
    ssize_t n;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return errno;
    child->pid = fork();
    if (child->pid == 0) {
        report = run(command, stdio);
        n = write(pipe_fds[1], &report, sizeof(report));
        _exit(n == sizeof(report) ? 127 : 126);
    }
    if (child->pid < 0)
        report.error = errno;
    close(pipe_fds[1]);
    do
        n = read(pipe_fds[0], &report, sizeof(report));
    while (n < 0 && errno == EINTR);
    close(pipe_fds[0]);
    if (child->pid < 0)
        return report.error;
    if (n != sizeof(report))
        return 0;
    waitpid(child->pid, NULL, 0);
    *kind = report.kind;
    return report.error;
}

int child_start(struct child *child, const struct command *command, enum proto_exit *kind)
{
    struct stdio stdio = {-1, -1, -1};
    int error;

    *child = (struct child){.pid = -1, .in = -1, .out = -1, .err = -1, .slave = -1};
    *kind = PROTO_UNSTARTED;
    if ((command->tty ? open_pty(child, &stdio, command) : open_pipes(child, &stdio)) < 0)
        error = errno;
    else
        error = fork_and_run(child, command, &stdio, kind);

    if (!command->tty) {
        child_close(&stdio.in);
        child_close(&stdio.out);
        child_close(&stdio.err);
    }
    if (error) {
        child_close(&child->in);
        child_close(&child->out);
        child_close(&child->err);
        child_close(&child->slave);
        child->pid = -1;
    }
    return error;
}
