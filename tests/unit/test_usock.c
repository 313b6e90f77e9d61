/* test_usock.c - unix stream sockets */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "unit.h"

#include "host/usock.h"

static char dir[64], path[96];

static int setup(void **state)
{
    strcpy(dir, "/tmp/ring3-test-usock-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    return 0;
}

static int teardown(void **state)
{
    char cmd[96];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static void test_conversation(void **state)
{
    struct err e = {0};
    int listener, a, b;
    char buf[16];

    assert_ok(usock_listen(path, &listener, &e), e);
    assert_int_equal(usock_accept(listener), -EAGAIN);
    a = usock_connect(path);
    b = usock_accept(listener);
    assert_true(a >= 0 && b >= 0);
    assert_int_equal(usock_recv(b, buf, sizeof(buf)), -EAGAIN);
    assert_int_equal(usock_send(a, "hello", 5), 5);
    assert_int_equal(usock_recv(b, buf, sizeof(buf)), 5);
    assert_memory_equal(buf, "hello", 5);
    usock_shutdown(a, false, true);
    assert_int_equal(usock_recv(b, buf, sizeof(buf)), 0);
    assert_int_equal(usock_send(b, "x", 1), 1);
    close(a);
    assert_int_equal(usock_send(b, "x", 1), -EPIPE); /* no signal */
    close(b);
    usock_unlisten(path, listener);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(usock_connect(path), -ENOENT);
}

static void test_slow_peer(void **state)
{
    static char block[65536];
    struct err e = {0};
    int listener, a;
    s64 n;

    assert_ok(usock_listen(path, &listener, &e), e);
    a = usock_connect(path);
    for (unsigned i = 0; i < 1000 && (n = usock_send(a, block, sizeof(block))) > 0; i++)
        continue;
    assert_int_equal(n, -EAGAIN);
    close(a);
    usock_unlisten(path, listener);
}

static void test_path_in_use(void **state)
{
    struct err e = {0};
    int first, second;

    assert_ok(usock_listen(path, &first, &e), e);
    assert_refused(usock_listen(path, &second, &e), EADDRINUSE, e, "in use");
    close(first); /* as a process that was killed leaves it */
    assert_int_equal(access(path, F_OK), 0);
    memset(&e, 0, sizeof(e));
    assert_ok(usock_listen(path, &second, &e), e);
    usock_unlisten(path, second);
}

static void test_a_file_is_left_alone(void **state)
{
    FILE *f = fopen(path, "w");
    struct err e;
    int fd;

    fclose(f);
    assert_refused(usock_listen(path, &fd, &e), EADDRINUSE, e, path);
    assert_int_equal(access(path, F_OK), 0);
}

static void test_refusals(void **state)
{
    char longer[USOCK_PATH_MAX + 2];
    struct rlimit old, none;
    struct err e;
    int fd;

    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_refused(usock_listen(longer, &fd, &e), ENAMETOOLONG, e, "107 bytes");
    assert_int_equal(usock_connect(longer), -ENAMETOOLONG);
    assert_refused(usock_listen("/nonexistent/s", &fd, &e), ENOENT, e, "/nonexistent/s");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){0, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(usock_connect(path), -EMFILE);
    assert_refused(usock_listen(path, &fd, &e), EMFILE, e, path);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_conversation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_path_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
    };

    return cmocka_run_group_tests_name("usock", tests, NULL, NULL);
}
