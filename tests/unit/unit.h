/* unit.h - cmocka with the headers it wants, and the checks the unit tests share */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/types.h"

/* An expression of 0-or-minus-errno that must be 0; shows the message of `e` (struct err) when
 * not. */
#define assert_ok(expr, e)                                                                         \
    do {                                                                                           \
        int ret_ = (expr);                                                                         \
        if (ret_)                                                                                  \
            fail_msg("%s: %d: %s", #expr, ret_, (e).msg);                                          \
    } while (0)

/* Must fail with this errno, and leave a message that holds `part`. */
#define assert_refused(expr, errno_, e, part)                                                      \
    do {                                                                                           \
        memset(&(e), 0, sizeof(e));                                                                \
        assert_int_equal((expr), -(errno_));                                                       \
        assert_int_equal((e).code, errno_);                                                        \
        if (!strstr((e).msg, part))                                                                \
            fail_msg("\"%s\" is not in \"%s\"", part, (e).msg);                                    \
    } while (0)

/* True when fn(arg) ends a child process by SIGABRT: a broken invariant was caught. */
static inline maybe_unused bool dies(void (*fn)(void *arg), void *arg)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        close(STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        fn(arg);
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
