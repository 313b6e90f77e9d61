/* test_p9_errors.c - the 9P server when the host's calls fail, each of them once
 *
 * The calls below are the C library's, as this program defines them. */
#include "unit.h"
#include "p9_client.h"

#include <dirent.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

static struct {
    bool on;
    unsigned calls;   /* so far */
    unsigned fail_at; /* the one that fails, from 1; 0: none */
    int code;
    size_t shorten; /* the next write takes no more than this; 0: all */
} host;

static bool fails(void)
{
    if (!host.on || ++host.calls != host.fail_at)
        return false;
    errno = host.code;
    return true;
}

#define CALL(type, name, args, ...)                       \
    type name args                                        \
    {                                                     \
        return fails() ? -1 : (type)syscall(__VA_ARGS__); \
    }

CALL(int, fstatfs, (int fd, struct statfs *s), SYS_fstatfs, fd, s)
CALL(int, mkdirat, (int d, const char *n, mode_t m), SYS_mkdirat, d, n, m)
CALL(int, mknodat, (int d, const char *n, mode_t m, dev_t dev), SYS_mknodat, d, n, m, dev)
CALL(int, symlinkat, (const char *t, int d, const char *n), SYS_symlinkat, t, d, n)
CALL(int, unlinkat, (int d, const char *n, int f), SYS_unlinkat, d, n, f)
CALL(int, renameat, (int d, const char *n, int e, const char *m), SYS_renameat, d, n, e, m)
CALL(int, linkat, (int d, const char *n, int e, const char *m, int f), SYS_linkat, d, n, e, m, f)
CALL(int, fchownat, (int d, const char *n, uid_t u, gid_t g, int f), SYS_fchownat, d, n, u, g, f)
CALL(int, fchmodat, (int d, const char *n, mode_t m, int f), SYS_fchmodat, d, n, m)
CALL(int, utimensat, (int d, const char *n, const struct timespec t[2], int f), SYS_utimensat, d, n,
     t, f)
CALL(int, ftruncate, (int fd, off_t n), SYS_ftruncate, fd, n)
CALL(int, fsync, (int fd), SYS_fsync, fd)
CALL(ssize_t, readlinkat, (int d, const char *n, char *b, size_t s), SYS_readlinkat, d, n, b, s)
CALL(ssize_t, preadv, (int fd, const struct iovec *v, int n, off_t o), SYS_preadv, fd, v, n, o, 0)
CALL(int, fstat, (int fd, struct stat *st), SYS_fstat, fd, st)

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t o)
{
    struct iovec one = v[0];

    if (fails())
        return -1;
    if (!host.shorten)
        return syscall(SYS_pwritev, fd, v, n, o, 0);
    one.iov_len = MIN(one.iov_len, host.shorten);
    host.shorten = 0;
    return syscall(SYS_pwritev, fd, &one, 1, o, 0);
}

int openat(int dir, const char *name, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = va_arg(ap, mode_t);
    va_end(ap);
    return fails() ? -1 : (int)syscall(SYS_openat, dir, name, flags, mode);
}

/* ---- tests ---- */

static unsigned descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* A bit of everything; its errors are whatever they are. */
static void a_session(void)
{
    (void)!attach(ROOT_FID);
    (void)!rpc(T_WALK, "ddwss", ROOT_FID, 2, 2, "sub", "inner");
    (void)!rpc(T_WALK, "ddwss", ROOT_FID, 3, 2, "sub", "..");
    (void)!rpc(T_LOPEN, "dd", 2, O_RDWR);
    (void)!do_write(2, 0, "x", 1);
    (void)!rpc(T_READ, "dqd", 2, 0ull, 10);
    (void)!rpc(T_FSYNC, "dd", 2, 0);
    (void)!rpc(T_GETATTR, "dq", 2, ~0ull);
    (void)!rpc(T_SETATTR, "dddddqqqqq", 2, 0x1ff, 0600, 0, 0, 1ull, 1ull, 1ull, 1ull, 1ull);
    (void)!rpc(T_STATFS, "d", 3);
    (void)!rpc(T_MKDIR, "dsdd", ROOT_FID, "d", 0777, 0);
    (void)!rpc(T_MKNOD, "dsdddd", ROOT_FID, "n", 0666, 0, 0, 0);
    (void)!rpc(T_SYMLINK, "dssd", ROOT_FID, "l", "target", 0);
    (void)!walk1(ROOT_FID, 4, "l");
    (void)!rpc(T_READLINK, "d", 4);
    (void)!rpc(T_LINK, "dds", ROOT_FID, 2, "h");
    (void)!rpc(T_RENAMEAT, "dsds", ROOT_FID, "h", ROOT_FID, "h2");
    (void)!walk1(ROOT_FID, 5, "h2");
    (void)!rpc(T_RENAME, "dds", 5, ROOT_FID, "h3");
    (void)!rpc(T_REMOVE, "d", 5);
    (void)!walk1(ROOT_FID, 6, "");
    (void)!rpc(T_LCREATE, "dsddd", 6, "new", O_RDWR, 0666, 0);
    (void)!walk1(ROOT_FID, 7, "");
    (void)!rpc(T_LCREATE, "dsddd", 7, "new", O_RDWR, 0666, 0);
    (void)!open_at_root("sub", O_RDONLY);
    (void)!rpc(T_READDIR, "dqd", 100, 0ull, 4000);
    for (unsigned i = 0; i < 5; i++)
        (void)!rpc(T_UNLINKAT, "dsd", ROOT_FID, (const char *[]){"d", "n", "l", "h2", "new"}[i],
                   i ? 0 : AT_REMOVEDIR);
    (void)!rpc(T_UNLINKAT, "dsd", ROOT_FID, "h3", 0);
    (void)!rpc(T_UNLINKAT, "dsd", ROOT_FID, "h", 0);
}

static void test_each_call_fails_once(void **state)
{
    unsigned before, calls;

    assert_int_equal(version(8192), 0);
    before = descriptors();
    host.on = true;
    host.calls = host.fail_at = 0;
    a_session();
    calls = host.calls;
    assert_true(calls > 60);
    for (unsigned at = 1; at <= calls; at++) {
        host.fail_at = at;
        host.calls = 0;
        host.code = at % 2 ? EIO : ENOSPC;
        host.on = true;
        a_session();
        host.on = false;
        assert_int_equal(version(8192), 0);
        assert_int_equal(descriptors(), before); /* nothing leaks */
        assert_int_equal(attach(ROOT_FID), 0);
        assert_int_equal(open_at_root("file", O_RDONLY), 0); /* and it goes on */
        assert_int_equal(version(8192), 0);
        host_write("share/sub/inner", "inner");
    }
}

static int fail_write(int code)
{
    host.on = true;
    host.calls = 0;
    host.fail_at = 1;
    host.code = code;
    return do_write(100, 0, "0123456789", 10);
}

static void test_errors_of_writes_reach_the_client(void **state)
{
    host.on = false;
    assert_int_equal(open_at_root("file", O_RDWR), 0);
    assert_int_equal(fail_write(EIO), EIO);
    assert_int_equal(fail_write(ENOSPC), ENOSPC);
    assert_int_equal(fail_write(EDQUOT), EDQUOT);
    assert_int_equal(fail_write(EAGAIN), EAGAIN);
    assert_string_equal(host_read("share/file"), "content");
    assert_int_equal(fail_write(EINTR), 0); /* again */
    assert_int_equal(take(4), 10);
    assert_string_equal(host_read("share/file"), "0123456789");
    host.shorten = 4;
    assert_int_equal(do_write(100, 0, "abcdefgh", 8), 0);
    assert_int_equal(take(4), 4);
    assert_string_equal(host_read("share/file"), "abcd456789");
    host.calls = 0;
    host.code = EINTR;
    assert_int_equal(rpc(T_READ, "dqd", 100, 0ull, 100), 0);
    assert_int_equal(take(4), 10);
    host.on = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_call_fails_once, client_setup, client_teardown),
        cmocka_unit_test_setup_teardown(test_errors_of_writes_reach_the_client, client_setup,
                                        client_teardown),
    };

    return cmocka_run_group_tests_name("p9 errors", tests, NULL, NULL);
}
