/* test_file.c - whole files in and out */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "unit.h"

#include "host/file.h"

static char dir[64];

static int setup(void **state)
{
    strcpy(dir, "/tmp/ring3-test-file-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    return 0;
}

static int teardown(void **state)
{
    char cmd[96];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static void test_round_trip(void **state)
{
    struct err e = {0};
    u8 *data;
    size_t len;

    assert_ok(file_write_atomic("a", "hello", 5, 0600, &e), e);
    assert_ok(file_read("a", 5, &data, &len, &e), e);
    assert_int_equal(len, 5);
    assert_string_equal((char *)data, "hello");
    free(data);
    assert_ok(file_write_atomic("a", "", 0, 0600, &e), e);
    assert_ok(file_read("a", 0, &data, &len, &e), e);
    assert_int_equal(len, 0);
    free(data);
}

static void test_refused(void **state)
{
    struct err e;
    u8 *data;
    size_t len;

    assert_refused(file_read("none", 10, &data, &len, &e), ENOENT, e, "none");
    assert_refused(file_read(dir, 10, &data, &len, &e), EISDIR, e, dir);
    assert_ok(file_write_atomic("b", "123456", 6, 0600, &e), e);
    assert_refused(file_read("b", 5, &data, &len, &e), EFBIG, e, "larger than 5");
    assert_null(data);
    assert_refused(file_read("/dev/zero", 100000, &data, &len, &e), EFBIG, e, "/dev/zero");
    assert_refused(file_write_atomic("no/such/dir", "x", 1, 0600, &e), ENOENT, e, "no/such/dir");
}

static void test_sizes_that_lie(void **state)
{
    struct err e = {0};
    u8 *data;
    size_t len;

    assert_ok(file_read("/proc/self/maps", MiB, &data, &len, &e), e);
    assert_true(len > 100);
    assert_int_equal(strlen((char *)data), len);
    free(data);
}

static void test_failed_write_keeps_the_old(void **state)
{
    struct err e = {0};
    u8 *data;
    size_t len;

    assert_ok(file_write_atomic("c", "old", 3, 0600, &e), e);
    assert_int_equal(mkdir("d", 0700), 0);
    assert_refused(file_write_atomic("d", "new", 3, 0600, &e), EISDIR, e, "write d");
    assert_ok(file_read("c", 10, &data, &len, &e), e);
    assert_string_equal((char *)data, "old");
    free(data);
    assert_int_equal(system("test -z \"$(ls | grep tmp)\""), 0);
}

static void test_open_output(void **state)
{
    struct err e = {0};
    u8 *data;
    size_t len;
    int fd;

    for (unsigned i = 0; i < 3; i++) {
        assert_ok(file_open_output("log", i != 1, &fd, &e), e);
        assert_int_equal(file_write_all(fd, "line\n", 5), 0);
        close(fd);
    }
    assert_ok(file_read("log", 100, &data, &len, &e), e);
    assert_string_equal((char *)data, "line\nline\n");
    free(data);
    assert_refused(file_open_output("no/such", false, &fd, &e), ENOENT, e, "no/such");
}

static void test_disk_full(void **state)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        skip();
    assert_int_equal(file_write_all(fd, "x", 1), -ENOSPC);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_sizes_that_lie), cmocka_unit_test(test_failed_write_keeps_the_old),
        cmocka_unit_test(test_open_output), cmocka_unit_test(test_disk_full),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
