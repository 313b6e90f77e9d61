/* test_p9_escape.c - nothing leads out of a shared folder, whatever client and host do */
#include "unit.h"
#include "p9_client.h"

#include <pthread.h>
#include <sys/syscall.h>

#define RACE_ROUNDS 1500

static void check_outside(void)
{
    struct stat st;

    assert_string_equal(host_read("outside/secret"), "secret");
    assert_int_equal(stat(path("outside"), &st), 0);
    assert_int_equal(st.st_nlink, 2); /* no directory in it */
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_false(host_has("outside/new"));
}

static void link_to(const char *target)
{
    unlink(path("share/l"));
    assert_int_equal(symlink(target, path("share/l")), 0);
}

static void test_symbolic_links(void **state)
{
    char absolute[128];
    const char *target[] = {absolute, "../outside", "sub/../../outside"};

    snprintf(absolute, sizeof(absolute), "%s/outside", c.top);
    for (unsigned i = 0; i < ARRAY_SIZE(target); i++) {
        link_to(target[i]);
        assert_int_equal(rpc(T_WALK, "ddwss", ROOT_FID, 2, 2, "l", "secret"), 0);
        assert_int_equal(take(2), 1); /* the link, and no further */
        assert_int_equal(walk1(ROOT_FID, 2, "l"), 0);
        assert_int_equal(walk1(2, 3, "secret"), ENOTDIR);
        assert_int_equal(rpc(T_LOPEN, "dd", 2, O_RDONLY), ELOOP);
        assert_int_equal(rpc(T_LOPEN, "dd", 2, O_RDONLY | O_DIRECTORY), ELOOP);
        assert_int_equal(rpc(T_MKDIR, "dsdd", 2, "new", 0755, 0), ENOTDIR);
        assert_int_equal(rpc(T_UNLINKAT, "dsd", 2, "secret", 0), ENOTDIR);
        assert_int_equal(rpc(T_RENAMEAT, "dsds", 2, "secret", ROOT_FID, "got"), ENOTDIR);
        assert_int_equal(rpc(T_RENAMEAT, "dsds", ROOT_FID, "file", 2, "new"), ENOTDIR);
        assert_int_equal(rpc(T_LCREATE, "dsddd", 2, "new", O_RDWR, 0666, 0), ENOTDIR);
        assert_int_equal(
            rpc(T_SETATTR, "dddddqqqqq", 2, 1, 0777, 0, 0, 0ull, 0ull, 0ull, 0ull, 0ull),
            EOPNOTSUPP);
        assert_int_equal(rpc(T_XATTRWALK, "dds", 2, 3, "user.x"), EOPNOTSUPP);
        assert_int_equal(do_clunk(2), 0);
    }
    check_outside();
}

static void test_creating_over_a_link(void **state)
{
    link_to("../outside/new");
    assert_int_equal(walk1(ROOT_FID, 2, ""), 0);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 2, "l", O_RDWR, 0666, 0), ELOOP);
    link_to("../outside/secret");
    assert_int_equal(rpc(T_LCREATE, "dsddd", 2, "l", O_RDWR | O_TRUNC, 0666, 0), ELOOP);
    assert_int_equal(rpc(T_MKDIR, "dsdd", 2, "l", 0755, 0), EEXIST);
    assert_int_equal(rpc(T_MKNOD, "dsdddd", 2, "l", 0644, 0, 0, 0), EEXIST);
    assert_int_equal(rpc(T_RENAMEAT, "dsds", 2, "file", 2, "l"), 0); /* replaces the link */
    check_outside();
    link_to("../outside/secret");
    assert_int_equal(rpc(T_UNLINKAT, "dsd", 2, "l", 0), 0);
    check_outside();
}

static void test_names_that_are_paths(void **state)
{
    static const char *const name[] = {"..", "../outside", "sub/..", "/etc", "/", "./x", "."};

    for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
        assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, name[i], 0755, 0), EINVAL);
        assert_int_equal(rpc(T_SYMLINK, "dssd", ROOT_FID, name[i], "x", 0), EINVAL);
        assert_int_equal(rpc(T_MKNOD, "dsdddd", ROOT_FID, name[i], 0644, 0, 0, 0), EINVAL);
        assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, name[i], 0), EINVAL);
        assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, name[i], AT_REMOVEDIR), EINVAL);
        assert_int_equal(rpc(T_LCREATE, "dsddd", ROOT_FID, name[i], 0, 0644, 0), EINVAL);
        assert_int_equal(rpc(T_RENAMEAT, "dsds", ROOT_FID, "file", ROOT_FID, name[i]), EINVAL);
        assert_int_equal(rpc(T_RENAMEAT, "dsds", ROOT_FID, name[i], ROOT_FID, "x"), EINVAL);
        if (i)
            assert_int_equal(walk1(ROOT_FID, 2, name[i]), EINVAL);
    }
    check_outside();
}

/* A directory that the host took out of the folder is out of reach, though a fid names it. */
static void test_a_directory_that_left(void **state)
{
    assert_int_equal(walk1(ROOT_FID, 2, "sub"), 0);
    assert_int_equal(walk1(ROOT_FID, 3, "sub"), 0);
    assert_int_equal(rpc(T_LOPEN, "dd", 3, O_RDONLY), 0);
    assert_int_equal(rename(path("share/sub"), path("outside/sub")), 0);
    assert_int_equal(walk1(2, 4, "inner"), ESTALE);
    assert_int_equal(walk1(2, 4, ".."), ESTALE);
    assert_int_equal(rpc(T_MKDIR, "dsdd", 2, "new", 0755, 0), ESTALE);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 2, "new", O_RDWR, 0644, 0), ESTALE);
    assert_int_equal(rpc(T_UNLINKAT, "dsd", 2, "inner", 0), ESTALE);
    assert_int_equal(rpc(T_RENAMEAT, "dsds", 2, "inner", ROOT_FID, "got"), ESTALE);
    assert_int_equal(rpc(T_READDIR, "dqd", 3, 0ull, 1000), ESTALE);
    assert_int_equal(rpc(T_LOPEN, "dd", 2, O_RDONLY), ESTALE);
    assert_int_equal(rpc(T_REMOVE, "d", 2), ESTALE);
    assert_int_equal(rename(path("outside/sub"), path("share/back")), 0);
    assert_int_equal(rpc(T_READDIR, "dqd", 3, 0ull, 1000), 0);
    check_outside();
}

static void test_the_folder_itself_is_renamed(void **state)
{
    assert_int_equal(walk1(ROOT_FID, 2, "sub"), 0);
    assert_int_equal(rename(path("share"), path("moved")), 0);
    assert_int_equal(walk1(2, 3, "inner"), 0);
    assert_int_equal(rpc(T_WALK, "ddwsss", 2, 4, 3, "..", "..", "file"), 0);
    assert_int_equal(take(2), 3);
    assert_int_equal(rename(path("moved"), path("share")), 0);
}

/* A sibling whose name begins like the folder's. */
static void test_a_name_that_begins_alike(void **state)
{
    assert_int_equal(walk1(ROOT_FID, 2, "sub"), 0);
    assert_int_equal(mkdir(path("share2"), 0755), 0);
    assert_int_equal(rename(path("share/sub"), path("share2/sub")), 0);
    assert_int_equal(walk1(2, 3, "inner"), ESTALE);
}

static void test_the_hosts_kernel_stays_out_of_reach(void **state)
{
    struct p9_config cfg = {"/", true, 1000};

    p9_close(c.s);
    assert_int_equal(p9_open(&c.s, &cfg, NULL), 0);
    assert_int_equal(version(8192), 0);
    assert_int_equal(attach(ROOT_FID), 0);
    assert_int_equal(walk1(ROOT_FID, 2, "proc"), EACCES);
    assert_int_equal(rpc(T_WALK, "ddwsss", ROOT_FID, 2, 3, "..", "tmp", ".."), 0);
    assert_int_equal(take(2), 3);
    assert_int_equal(walk1(ROOT_FID, 3, "tmp"), 0);
}

/* ---- the host renames meanwhile ---- */

static bool racing; /* atomic */

/* `d` is in turn a directory of the folder and a link that leads out of it. */
static void *swap(void *arg)
{
    const char *a = path("share/d"), *b = path("share/l");

    while (__atomic_load_n(&racing, __ATOMIC_SEQ_CST)) {
        syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
        usleep(10);
    }
    return NULL;
}

/* What the client made in the empty directory goes first. */
static void remove_empty(const char *dir)
{
    int fd = open(dir, O_PATH | O_DIRECTORY);

    (void)!unlinkat(fd, "new", 0);
    (void)!unlinkat(fd, "new", AT_REMOVEDIR);
    (void)!unlinkat(fd, "secret", 0);
    close(fd);
    (void)!rmdir(dir);
}

/* `d` leaves the folder, an empty one takes its place, and it comes back. */
static void *leave(void *arg)
{
    const char *a = path("share/d"), *b = path("outside2/d");

    while (__atomic_load_n(&racing, __ATOMIC_SEQ_CST)) {
        (void)!rename(a, b);
        if (mkdir(a, 0755) == 0)
            remove_empty(a);
        while (rename(b, a) && __atomic_load_n(&racing, __ATOMIC_SEQ_CST))
            remove_empty(a);
        usleep(10);
    }
    return NULL;
}

/* Everything that goes through the name `d`. */
static void go_through(u32 *reached)
{
    u32 fid = 2;
    int rc = rpc(T_WALK, "ddwss", ROOT_FID, fid, 2, "d", "secret");

    if (rc == 0 && take(2) == 2) {
        assert_int_equal(rpc(T_LOPEN, "dd", fid, O_RDWR), 0);
        assert_int_equal(rpc(T_READ, "dqd", fid, 0ull, 100), 0);
        assert_int_equal(take(4), 5);
        assert_memory_equal(c.in + 11, "inner", 5);
        ++*reached;
    }
    (void)do_clunk(fid);
    if (walk1(ROOT_FID, fid, "d"))
        return;
    (void)!rpc(T_MKDIR, "dsdd", fid, "new", 0755, 0);
    (void)!rpc(T_UNLINKAT, "dsd", fid, "new", AT_REMOVEDIR);
    (void)!rpc(T_SETATTR, "dddddqqqqq", fid, 1, 0711, 0, 0, 0ull, 0ull, 0ull, 0ull, 0ull);
    (void)!rpc(T_RENAMEAT, "dsds", fid, "secret", ROOT_FID, "got");
    (void)!rpc(T_RENAMEAT, "dsds", ROOT_FID, "got", fid, "secret");
    (void)!rpc(T_WALK, "ddwss", fid, 3, 2, "..", "secret");
    assert_int_not_equal(do_clunk(3), 0);
    (void)!rpc(T_LCREATE, "dsddd", fid, "new", O_RDWR, 0644, 0);
    (void)do_clunk(fid);
    (void)!rpc(T_WALK, "ddws", ROOT_FID, fid, 1, "d");
    (void)!rpc(T_UNLINKAT, "dsd", fid, "new", 0);
    (void)do_clunk(fid);
}

static void race(void *(*host)(void *arg))
{
    pthread_t thread;
    u32 reached = 0;
    int d, fd;

    assert_int_equal(mkdir(path("share/d"), 0755), 0);
    d = open(path("share/d"), O_RDONLY | O_DIRECTORY);
    assert_true(d >= 0);
    link_to("../outside");
    __atomic_store_n(&racing, true, __ATOMIC_SEQ_CST);
    assert_int_equal(pthread_create(&thread, NULL, host, NULL), 0);
    for (unsigned i = 0; i < RACE_ROUNDS; i++) {
        fd = openat(d, "secret", O_WRONLY | O_CREAT, 0644);
        assert_int_equal(write(fd, "inner", 5), 5);
        close(fd);
        go_through(&reached);
    }
    __atomic_store_n(&racing, false, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    close(d);
    print_message("# reached the file %u times of %u\n", reached, RACE_ROUNDS);
    check_outside();
}

static void test_race_with_a_link(void **state)
{
    race(swap);
}

static void test_race_with_a_move(void **state)
{
    assert_int_equal(mkdir(path("outside2"), 0755), 0);
    host_write("outside2/secret", "secret");
    race(leave);
    assert_string_equal(host_read("outside2/secret"), "secret");
}

#define T(name) cmocka_unit_test_setup_teardown(name, client_setup, client_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_symbolic_links),
        T(test_creating_over_a_link),
        T(test_names_that_are_paths),
        T(test_a_directory_that_left),
        T(test_the_folder_itself_is_renamed),
        T(test_a_name_that_begins_alike),
        T(test_the_hosts_kernel_stays_out_of_reach),
        T(test_race_with_a_link),
        T(test_race_with_a_move),
    };

    return cmocka_run_group_tests_name("p9 escape", tests, NULL, NULL);
}
