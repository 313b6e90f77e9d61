/* term.c - the user's terminal: raw mode that is always undone */
#include "host/term.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* Everything a signal handler needs is written before `raw_fd` is. */
static struct termios saved;
static int raw_fd = -1;

static const int deadly[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGTRAP, SIGABRT,
                             SIGBUS,  SIGFPE,  SIGSEGV, SIGPIPE, SIGALRM, SIGTERM,
                             SIGXCPU, SIGXFSZ, SIGSYS,  SIGUSR1, SIGUSR2};

bool term_is_tty(int fd)
{
    return isatty(fd) == 1;
}

/* tcsetattr from a background process group stops the process unless SIGTTOU is blocked. */
static int set_modes(int fd, const struct termios *modes)
{
    sigset_t ttou, old;
    int ret, code;

    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &old);
    do {
        ret = tcsetattr(fd, TCSANOW, modes);
    } while (ret < 0 && errno == EINTR);
    code = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ret < 0 ? -code : 0;
}

void term_restore(void)
{
    int keep = errno, fd = __atomic_exchange_n(&raw_fd, -1, __ATOMIC_SEQ_CST);

    if (fd >= 0)
        (void)set_modes(fd, &saved);
    errno = keep;
}

/* The action was reset to the default on entry (SA_RESETHAND), so raising again ends the process
 * with the right status, once this handler returns and the signal is no longer blocked. */
static void die(int signo)
{
    term_restore();
    raise(signo);
}

static void catch_deadly(void)
{
    struct sigaction catcher = {.sa_handler = die, .sa_flags = (int)SA_RESETHAND};

    sigemptyset(&catcher.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(deadly); i++) {
        struct sigaction now;
        if (sigaction(deadly[i], NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
            now.sa_handler == SIG_DFL)
            (void)sigaction(deadly[i], &catcher, NULL);
    }
}

int term_raw(int fd, struct err *e)
{
    static bool prepared;
    struct termios raw;
    int ret;

    if (__atomic_load_n(&raw_fd, __ATOMIC_SEQ_CST) >= 0)
        return 0;
    if (tcgetattr(fd, &saved) < 0)
        return err_set(e, errno, "terminal: cannot read its modes: %s", strerror(errno));
    raw = saved;
    cfmakeraw(&raw);
    if (!prepared) {
        prepared = true;
        atexit(term_restore);
    }
    catch_deadly();
    __atomic_store_n(&raw_fd, fd, __ATOMIC_SEQ_CST);
    ret = set_modes(fd, &raw);
    if (ret) {
        term_restore();
        return err_set(e, -ret, "terminal: cannot set raw mode: %s", strerror(-ret));
    }
    return 0;
}

int term_size(int fd, unsigned *cols, unsigned *rows)
{
    struct winsize ws;

    *cols = 80;
    *rows = 25;
    if (ioctl(fd, TIOCGWINSZ, &ws) < 0)
        return -errno;
    if (ws.ws_col && ws.ws_row) {
        *cols = ws.ws_col;
        *rows = ws.ws_row;
    }
    return 0;
}
