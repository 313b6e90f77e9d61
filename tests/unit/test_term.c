/* test_term.c - raw mode comes and, however the process ends, goes */
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "unit.h"

#include "host/term.h"

struct tty {
    int master, slave;
    struct termios before;
};

static int setup(void **state)
{
    struct tty *t = calloc(1, sizeof(*t));
    struct winsize ws = {.ws_row = 43, .ws_col = 132};

    if (openpty(&t->master, &t->slave, NULL, NULL, &ws) < 0)
        return -1;
    tcgetattr(t->slave, &t->before);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct tty *t = *state;

    close(t->master);
    close(t->slave);
    free(t);
    return 0;
}

static bool is_raw(struct tty *t)
{
    struct termios now;

    assert_int_equal(tcgetattr(t->slave, &now), 0);
    return !(now.c_lflag & (ICANON | ECHO | ISIG));
}

static void assert_as_before(struct tty *t)
{
    struct termios now;

    assert_int_equal(tcgetattr(t->slave, &now), 0);
    assert_int_equal(now.c_lflag, t->before.c_lflag);
    assert_int_equal(now.c_iflag, t->before.c_iflag);
    assert_int_equal(now.c_oflag, t->before.c_oflag);
}

static void test_raw_and_back(void **state)
{
    struct tty *t = *state;
    struct termios now;
    struct err e = {0};

    assert_true(term_is_tty(t->slave));
    assert_false(is_raw(t));
    assert_ok(term_raw(t->slave, &e), e);
    assert_ok(term_raw(t->slave, &e), e);
    assert_true(is_raw(t));
    tcgetattr(t->slave, &now);
    assert_false(now.c_oflag & OPOST);
    term_restore();
    assert_as_before(t);
    term_restore();
    assert_ok(term_raw(t->slave, &e), e);
    assert_true(is_raw(t));
    term_restore();
    assert_as_before(t);
}

/* In a child: goes raw, says so through the pipe, and ends in the given way. */
static int raw_child(struct tty *t, int how)
{
    int status, ready[2];
    char c;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        for (int s = 1; s < 32; s++)
            signal(s, SIG_DFL);
        close(STDERR_FILENO);
        if (term_raw(t->slave, NULL))
            _exit(99);
        (void)!write(ready[1], "r", 1);
        if (how == 0)
            exit(7);
        if (how < 0)
            abort();
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    if (how > 0) {
        assert_true(is_raw(t));
        kill(pid, how);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(ready[0]);
    close(ready[1]);
    return status;
}

static void test_restored_at_exit(void **state)
{
    int status = raw_child(*state, 0);

    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_as_before(*state);
}

static void test_restored_by_deadly_signals(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGSEGV, SIGBUS, SIGQUIT, SIGPIPE};

    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        int status = raw_child(*state, signals[i]);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signals[i]);
        assert_as_before(*state);
    }
}

static void test_restored_by_abort(void **state)
{
    int status = raw_child(*state, -1);

    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_as_before(*state);
}

static void test_size(void **state)
{
    struct tty *t = *state;
    unsigned cols, rows;

    assert_int_equal(term_size(t->slave, &cols, &rows), 0);
    assert_int_equal(cols, 132);
    assert_int_equal(rows, 43);
}

static void test_no_terminal(void **state)
{
    unsigned cols, rows;
    struct err e;
    int p[2];

    assert_int_equal(pipe(p), 0);
    assert_false(term_is_tty(p[0]));
    assert_refused(term_raw(p[0], &e), ENOTTY, e, "terminal");
    assert_int_equal(term_size(p[0], &cols, &rows), -ENOTTY);
    assert_int_equal(cols, 80);
    close(p[0]);
    close(p[1]);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_raw_and_back), T(test_restored_at_exit), T(test_restored_by_deadly_signals),
        T(test_restored_by_abort), T(test_size), T(test_no_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
