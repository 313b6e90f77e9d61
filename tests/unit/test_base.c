/* test_base.c - errors, log, locks, checked arithmetic, code buffers */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "unit.h"

#include "base/checked.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/wxbuf.h"

static void test_err_first_wins(void **state)
{
    struct err e = {0};

    assert_int_equal(err_set(&e, EIO, "disk %d", 3), -EIO);
    assert_int_equal(err_set(&e, ENOENT, "later"), -ENOENT);
    assert_int_equal(e.code, EIO);
    assert_string_equal(e.msg, "disk 3");
    assert_int_equal(err_set(NULL, EINVAL, "nobody listens"), -EINVAL);
}

static void test_err_prefix(void **state)
{
    struct err e = {0};

    err_prefix(&e, "nothing yet");
    assert_string_equal(e.msg, "");
    err_prefix(NULL, "nobody");
    err_set(&e, EIO, "short read");
    err_prefix(&e, "disk %s", "a.img");
    assert_string_equal(e.msg, "disk a.img: short read");
}

static void test_err_long_messages(void **state)
{
    struct err e = {0};
    char big[3000];

    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    err_set(&e, EIO, "%s", big);
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    err_prefix(&e, "head");
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    assert_memory_equal(e.msg, "head: xxx", 9);
    err_prefix(&e, "%s", big);
    assert_true(strlen(e.msg) < sizeof(e.msg));
}

/* Runs fn with stderr in a pipe; returns what came out. */
static size_t with_stderr(void (*fn)(void), char *out, size_t cap)
{
    int p[2], keep = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe(p), 0);
    dup2(p[1], STDERR_FILENO);
    close(p[1]);
    fn();
    dup2(keep, STDERR_FILENO);
    close(keep);
    n = read(p[0], out, cap - 1);
    close(p[0]);
    assert_true(n >= 0);
    out[n] = '\0';
    return (size_t)n;
}

static void log_some(void)
{
    log_set_level(LOG_WARN);
    errno = 77;
    log_msg(LOG_INFO, "not shown");
    log_msg(LOG_WARN, "bell \a and\033[2J %d", 5);
    assert_int_equal(errno, 77);
}

static void log_flood(void)
{
    log_set_level(LOG_DEBUG);
    for (int i = 0; i < 1000; i++)
        log_guest("again");
    log_set_level(LOG_WARN);
}

static void test_log(void **state)
{
    char out[4096];
    unsigned lines = 0;

    with_stderr(log_some, out, sizeof(out));
    assert_string_equal(out, "ring3: warning: bell ? and?[2J 5\n");
    with_stderr(log_flood, out, sizeof(out));
    for (char *p = out; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, LOG_GUEST_MAX);
    assert_false(log_enabled(LOG_DEBUG));
}

static void take_twice(void *arg)
{
    lock_take(arg);
    lock_take(arg);
}

static void *holds_not(void *arg)
{
    return (void *)(uintptr_t)lock_held(arg);
}

static void test_lock(void **state)
{
    struct lock l;
    pthread_t t;
    void *held;

    lock_init(&l);
    assert_false(lock_held(&l));
    lock_take(&l);
    assert_true(lock_held(&l));
    pthread_create(&t, NULL, holds_not, &l);
    pthread_join(t, &held);
    assert_null(held);
    lock_drop(&l);
    assert_false(lock_held(&l));
    assert_true(dies(take_twice, &l));
    assert_true(dies((void (*)(void *))lock_drop, &l));
    lock_destroy(&l);
}

static void test_checked(void **state)
{
    u64 r;

    assert_true(add_ok(1, 2, &r) && r == 3);
    assert_false(add_ok(UINT64_MAX, 1, &r));
    assert_false(mul_ok(1ull << 33, 1ull << 33, &r));
    assert_true(range_ok(0, 0, 0));
    assert_true(range_ok(4096, 0, 4096));
    assert_false(range_ok(4097, 0, 4096));
    assert_false(range_ok(1, UINT64_MAX, 4096));
    assert_int_equal(align_up(4097, 4096), 8192);
}

static void write_x(void *arg)
{
    *(volatile u8 *)arg = 1;
}

static bool faults(void (*fn)(void *), void *arg)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        close(STDERR_FILENO);
        fn(arg);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_wxbuf(void **state)
{
    static const u8 code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
    struct err e = {0};
    struct wxbuf b;
    int (*fn)(void);

    assert_ok(wxbuf_create(&b, 5000, &e), e);
    assert_int_equal(b.size, 8192);
    memcpy(b.w + 4096, code, sizeof(code));
    fn = (int (*)(void))(uintptr_t)(b.x + 4096);
    assert_int_equal(fn(), 42);
    assert_true(faults(write_x, (void *)b.x));
    assert_true(faults((void (*)(void *))(uintptr_t)(b.w + 4096), NULL));
    wxbuf_destroy(&b);
    assert_null(b.w);
    wxbuf_destroy(&b);
    assert_refused(wxbuf_create(&b, 0, &e), EINVAL, e, "size");
    assert_refused(wxbuf_create(&b, (size_t)1 << 62, &e), ENOMEM, e, "code buffer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_first_wins), cmocka_unit_test(test_err_prefix),
        cmocka_unit_test(test_err_long_messages), cmocka_unit_test(test_log),
        cmocka_unit_test(test_lock), cmocka_unit_test(test_checked), cmocka_unit_test(test_wxbuf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
