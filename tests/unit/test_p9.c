/* test_p9.c - the 9P server by hand-made messages: session, walking, names, limits */
#include "unit.h"
#include "p9_client.h"

#include "base/limits.h"

/* ---- session ---- */

static void test_version(void **state)
{
    assert_int_equal(rpc(T_VERSION, "ds", 8192, "9P2000.L"), 0);
    assert_int_equal(take(4), 8192);
    assert_int_equal(take(2), 8);
    assert_memory_equal(c.in + c.at, "9P2000.L", 8);
    assert_int_equal(rpc(T_GETATTR, "dq", ROOT_FID, ~0ull), EBADF); /* it ends the session */
    assert_int_equal(rpc(T_VERSION, "ds", 1u << 30, "9P2000.L"), 0);
    assert_int_equal(take(4), P9_MSIZE_MAX);
    assert_int_equal(rpc(T_VERSION, "ds", 100, "9P2000.L"), EMSGSIZE);
    assert_int_equal(rpc(T_VERSION, "ds", 8192, "9P2000"), 0);
    assert_int_equal(take(4), 8192);
    assert_int_equal(take(2), 7);
    assert_memory_equal(c.in + c.at, "unknown", 7);
    assert_int_equal(attach(1), EPROTO); /* no version was agreed on */
}

static void test_attach_and_auth(void **state)
{
    assert_int_equal(rpc(T_AUTH, "dssd", 7, "root", "", 0), EOPNOTSUPP);
    assert_int_equal(attach(2), 0);
    assert_int_equal(take(1), 0x80);
    assert_int_equal(attach(2), EBADF);
    assert_int_equal(attach(NOFID), EBADF);
    assert_int_equal(rpc(T_ATTACH, "ddssd", 3, 4, "root", "", 0), EBADF);
    assert_int_equal(rpc(T_ATTACH, "ddssd", 3, NOFID, "root", "/etc", 0), ENOENT);
    assert_int_equal(rpc(T_ATTACH, "ddssd", 3, NOFID, "root", "/", 0), 0);
}

static void test_flush_and_unknown_messages(void **state)
{
    assert_int_equal(rpc(T_FLUSH, "w", 1), 0);
    for (unsigned type = 0; type < 256; type++) {
        begin((u8)type); /* every message without fields: none crashes, all but none is refused */
        assert_int_not_equal(send_it(), 0);
    }
    assert_int_equal(rpc(T_GETATTR, "dq", ROOT_FID, ~0ull), 0);
}

/* Every message cut off at every byte is refused, and changes nothing that a full one did not. */
static void test_cut_off_messages(void **state)
{
    static const struct {
        u8 type;
        const char *fields;
    } all[] = {
        {T_VERSION, "ds"},
        {T_ATTACH, "ddssd"},
        {T_WALK, "ddws"},
        {T_LOPEN, "dd"},
        {T_MKNOD, "dsdddd"},
        {T_RENAME, "dds"},
        {T_GETATTR, "dq"},
        {T_XATTRWALK, "dds"},
        {T_READDIR, "dqd"},
        {T_XATTRCREATE, "dsqd"},
        {T_LOCK, "dbdqqds"},
        {T_GETLOCK, "dbqqds"},
        {T_LINK, "dds"},
        {T_MKDIR, "dsdd"},
        {T_RENAMEAT, "dsds"},
        {T_UNLINKAT, "dsd"},
        {T_READ, "dqd"},
        {T_WRITE, "dqd"},
        {T_CLUNK, "d"},
        {T_REMOVE, "d"},
        {T_FLUSH, "w"},
        {T_STATFS, "d"},
        {T_LCREATE, "dsddd"},
        {T_SYMLINK, "dssd"},
        {T_SETATTR, "dddddqqqqq"},
        {T_READLINK, "d"},
        {T_FSYNC, "d"},
        {T_AUTH, "dssd"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        u8 body[256];
        u32 n = 0;

        for (const char *f = all[i].fields; *f; f++) {
            u32 size = *f == 'b' ? 1 : *f == 'w' ? 2 : *f == 'q' ? 8 : *f == 's' ? 5 : 4;

            memset(body + n, 0, size);
            if (*f == 's')
                memcpy(body + n, "\3\0new", 5);
            n += size;
        }
        for (u32 cut_at = 0; cut_at < n; cut_at++) {
            begin(all[i].type);
            put(body, cut_at);
            assert_int_not_equal(send_it(), 0);
        }
    }
    assert_false(host_has("share/new"));
}

static void test_sizes_that_lie(void **state)
{
    u32 size;

    begin(T_GETATTR);
    put_int(ROOT_FID, 4);
    put_int(0, 8);
    size = c.len + 1; /* more than is there */
    memcpy(c.out, &size, 4);
    assert_int_equal(send_raw(), EINVAL);
    size = 6;
    memcpy(c.out, &size, 4);
    assert_int_equal(send_raw(), EINVAL);
    size = 70000; /* more than was agreed on */
    c.len = 70000;
    memcpy(c.out, &size, 4);
    assert_int_equal(send_raw(), EMSGSIZE);
    c.len = 5; /* no header */
    assert_int_equal(send_raw(), EINVAL);
    c.len = 0;
    assert_int_equal(send_raw(), EINVAL);
    c.room = 10; /* no room for an error */
    assert_int_equal(rpc(T_CLUNK, "d", 77), -1);
    c.room = 11;
    assert_int_equal(rpc(T_CLUNK, "d", 77), EBADF);
    assert_int_equal(rpc(T_GETATTR, "dq", ROOT_FID, ~0ull), EMSGSIZE);
    c.room = OUT_MAX;
    begin(T_WALK); /* a string that is longer than the message */
    put_int(ROOT_FID, 4);
    put_int(9, 4);
    put_int(1, 2);
    put_int(0xffff, 2);
    put("file", 4);
    assert_int_equal(send_it(), EINVAL);
}

/* ---- walking ---- */

static void test_walk(void **state)
{
    assert_int_equal(rpc(T_WALK, "ddwss", ROOT_FID, 2, 2, "sub", "inner"), 0);
    assert_int_equal(take(2), 2);
    assert_int_equal(take(1), 0x80);
    take(4);
    take(8);
    assert_int_equal(take(1), 0);
    /* stops where a name is missing, and makes no fid then */
    assert_int_equal(rpc(T_WALK, "ddwss", ROOT_FID, 3, 2, "sub", "none"), 0);
    assert_int_equal(take(2), 1);
    assert_int_equal(do_clunk(3), EBADF);
    assert_int_equal(rpc(T_WALK, "ddwss", ROOT_FID, 3, 2, "none", "x"), ENOENT);
    assert_int_equal(rpc(T_WALK, "ddwss", ROOT_FID, 3, 2, "file", "x"), 0);
    assert_int_equal(take(2), 1);
    assert_int_equal(walk1(2, 3, "x"), ENOTDIR);
    assert_int_equal(walk1(ROOT_FID, 2, "file"), EBADF); /* in use */
    assert_int_equal(walk1(99, 3, "file"), EBADF);
    assert_int_equal(walk1(ROOT_FID, NOFID, "file"), EBADF);
    assert_int_equal(walk1(ROOT_FID, 3, "sub/inner"), EINVAL);
    assert_int_equal(walk1(ROOT_FID, 3, "."), EINVAL);
    assert_int_equal(rpc(T_WALK, "ddws", ROOT_FID, 3, 1, ""), ENOENT);
    assert_int_equal(rpc(T_WALK, "ddw", ROOT_FID, 3, 17), EINVAL);
    /* in place, and a clone */
    assert_int_equal(walk1(ROOT_FID, 3, ""), 0);
    assert_int_equal(walk1(3, 3, "sub"), 0);
    assert_int_equal(walk1(3, 3, "inner"), 0);
    assert_int_equal(rpc(T_LOPEN, "dd", 3, O_RDONLY), 0);
    assert_int_equal(walk1(3, 4, "x"), EINVAL); /* an open fid does not walk */
    assert_int_equal(walk1(3, 4, ""), 0);
}

static void test_long_names(void **state)
{
    char name[400];

    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    assert_int_equal(walk1(ROOT_FID, 2, name), ENAMETOOLONG);
    assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, name, 0755, 0), ENAMETOOLONG);
    name[255] = '\0';
    assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, name, 0755, 0), 0);
    assert_int_equal(walk1(ROOT_FID, 2, name), 0);
    assert_int_equal(rpc(T_REMOVE, "d", 2), 0);
}

static void test_a_nul_in_a_name(void **state)
{
    begin(T_MKDIR);
    put_int(ROOT_FID, 4);
    put_int(3, 2);
    put("a\0b", 3);
    put_int(0755, 4);
    put_int(0, 4);
    assert_int_equal(send_it(), EINVAL);
    assert_false(host_has("share/a"));
}

static void test_parents(void **state)
{
    u64 root;

    assert_int_equal(rpc(T_WALK, "ddws", ROOT_FID, 2, 1, ".."), 0);
    skip_bytes(2 + 5);
    root = take(8);
    assert_int_equal(rpc(T_WALK, "ddwsss", ROOT_FID, 3, 3, "..", "..", "outside"), 0);
    assert_int_equal(take(2), 2); /* the parent of the root is the root */
    assert_int_equal(rpc(T_WALK, "ddwss", ROOT_FID, 3, 2, "sub", ".."), 0);
    skip_bytes(2 + 13 + 5);
    assert_int_equal(take(8), root);
    /* the parent is where the directory is now */
    assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, "other", 0755, 0), 0);
    assert_int_equal(walk1(ROOT_FID, 4, "sub"), 0);
    assert_int_equal(rpc(T_RENAMEAT, "dsds", ROOT_FID, "sub", ROOT_FID, "sub2"), 0);
    assert_int_equal(rename(path("share/sub2"), path("share/other/sub3")), 0);
    assert_int_equal(rpc(T_WALK, "ddwss", 4, 5, 2, "..", "sub3"), 0);
    assert_int_equal(take(2), 2);
    assert_int_equal(rpc(T_WALK, "ddws", 4, 6, 1, "inner"), 0);
}

/* ---- names ---- */

static void test_mkdir_link_rename_unlink(void **state)
{
    struct stat st;

    assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, "d", 01777, getgid()), 0);
    assert_int_equal(take(1), 0x80);
    assert_int_equal(stat(path("share/d"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 01777);
    assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, "d", 0755, 0), EEXIST);
    assert_int_equal(walk1(ROOT_FID, 2, "d"), 0);
    assert_int_equal(walk1(ROOT_FID, 3, "file"), 0);
    assert_int_equal(rpc(T_LINK, "dds", 2, 3, "hard"), 0);
    assert_int_equal(stat(path("share/d/hard"), &st), 0);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(rpc(T_LINK, "dds", 2, 2, "dir"), EPERM);
    assert_int_equal(rpc(T_LINK, "dds", 3, 3, "x"), ENOTDIR);
    assert_int_equal(rpc(T_RENAMEAT, "dsds", 2, "hard", ROOT_FID, "hard2"), 0);
    assert_true(host_has("share/hard2"));
    assert_int_equal(rpc(T_RENAME, "dds", 3, 2, "moved"), 0);
    assert_true(host_has("share/d/moved") && !host_has("share/file"));
    assert_int_equal(rpc(T_RENAME, "dds", ROOT_FID, 2, "root"), EBUSY);
    assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, "d", 0), EISDIR);
    assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, "d", AT_REMOVEDIR), ENOTEMPTY);
    assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, "d", 0x1000), EINVAL);
    assert_int_equal(rpc(T_REMOVE, "d", 2), ENOTEMPTY);
    assert_int_equal(rpc(T_REMOVE, "d", 3), 0);
    assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, "d", AT_REMOVEDIR), 0);
    assert_int_equal(walk1(ROOT_FID, 5, ""), 0);
    assert_int_equal(rpc(T_REMOVE, "d", 5), EBUSY);
    assert_true(host_has("share"));
}

static void test_symlinks(void **state)
{
    assert_int_equal(rpc(T_SYMLINK, "dssd", ROOT_FID, "l", "../outside/secret", 0), 0);
    assert_int_equal(take(1), 2);
    assert_int_equal(walk1(ROOT_FID, 2, "l"), 0);
    assert_int_equal(rpc(T_READLINK, "d", 2), 0);
    assert_int_equal(take(2), 17);
    assert_memory_equal(c.in + 9, "../outside/secret", 17);
    assert_int_equal(rpc(T_READLINK, "d", ROOT_FID), EINVAL);
    assert_int_equal(rpc(T_GETATTR, "dq", 2, ~0ull), 0);
    assert_int_equal(rpc(T_LINK, "dds", ROOT_FID, 2, "l2"), 0); /* the link itself */
    assert_int_equal(walk1(ROOT_FID, 3, "l2"), 0);
    assert_int_equal(rpc(T_READLINK, "d", 3), 0);
    assert_int_equal(rpc(T_SYMLINK, "dssd", ROOT_FID, "l", "x", 0), EEXIST);
    assert_int_equal(rpc(T_SYMLINK, "dssd", ROOT_FID, "e", "", 0), ENOENT);
}

/* ---- directories ---- */

static void test_readdir(void **state)
{
    unsigned seen[200] = {0}, dots = 0, entries = 0;
    char name[32];
    u64 off = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(seen); i++) {
        snprintf(name, sizeof(name), "share/sub/e%u", i);
        host_write(name, "");
    }
    assert_int_equal(rpc(T_READDIR, "dqd", ROOT_FID, 0ull, 500), EBADF);
    assert_int_equal(open_at_root("sub", O_RDONLY), 0);
    assert_int_equal(rpc(T_READDIR, "dqd", 100, 0ull, 10), EINVAL); /* too small for one */
    for (;;) {
        u32 count;

        assert_int_equal(rpc(T_READDIR, "dqd", 100, off, 500), 0);
        count = (u32)take(4);
        assert_true(count <= 500 && c.got == 11 + count);
        if (!count)
            break;
        while (c.at < c.got) {
            u32 len;

            skip_bytes(13);
            off = take(8);
            take(1);
            len = (u32)take(2);
            assert_true(len < sizeof(name));
            memcpy(name, c.in + c.at, len);
            name[len] = '\0';
            c.at += len;
            entries++;
            if (name[0] == '.')
                dots++;
            else if (name[0] == 'e')
                seen[strtoul(name + 1, NULL, 10)]++;
        }
        /* offsets stay good while entries come and go */
        snprintf(name, sizeof(name), "share/sub/z%u", entries);
        host_write(name, "");
        assert_int_equal(unlink(path(name)), 0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(seen); i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(dots, 2);
    assert_int_equal(open_at_root("file", O_RDONLY), 0);
    assert_int_equal(rpc(T_READDIR, "dqd", 100, 0ull, 500), ENOTDIR);
}

/* ---- limits ---- */

static void test_descriptors_are_counted(void **state)
{
    unsigned made = 0;

    client_reopen(false, 20);
    for (u32 fid = 10; fid < 60; fid++) {
        int rc = walk1(ROOT_FID, fid, "file");

        if (rc) {
            assert_int_equal(rc, EMFILE);
            break;
        }
        made++;
    }
    assert_int_equal(made, 19);
    assert_int_equal(rpc(T_LOPEN, "dd", 10, O_RDONLY), EMFILE);
    assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, "d", 0755, 0), EMFILE);
    for (u32 fid = 100; fid < 200; fid++)
        assert_int_equal(walk1(10, fid, ""), 0); /* clones share theirs */
    assert_int_equal(version(8192), 0);          /* gives all back */
    assert_int_equal(attach(ROOT_FID) | walk1(ROOT_FID, 2, "file"), 0);
}

static void test_fids_are_counted(void **state)
{
    for (u32 fid = 2; fid <= P9_FIDS_MAX; fid++)
        assert_int_equal(rpc(T_WALK, "ddw", ROOT_FID, fid, 0), 0);
    assert_int_equal(walk1(ROOT_FID, P9_FIDS_MAX + 1, ""), ENFILE);
    assert_int_equal(do_clunk(2), 0);
    assert_int_equal(walk1(ROOT_FID, P9_FIDS_MAX + 1, ""), 0);
}

static void test_attribute_memory_is_counted(void **state)
{
    u32 fid = 2;
    int rc = 0;

    for (; fid < 100 && !rc; fid++) {
        assert_int_equal(walk1(ROOT_FID, fid, "file"), 0);
        rc = rpc(T_XATTRCREATE, "dsqd", fid, "user.b", 65536ull, 0);
    }
    assert_int_equal(rc, ENOSPC);
    assert_int_equal(fid - 3, P9_XATTR_BYTES_MAX / 65536);
    assert_int_equal(do_clunk(2), EINVAL);
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", fid - 1, "user.b", 65536ull, 0), 0);
}

static void test_qids_tell_files_apart(void **state)
{
    u64 file, inner, again;

    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    take(7);
    file = take(8);
    assert_int_equal(rpc(T_WALK, "ddwss", ROOT_FID, 3, 2, "sub", "inner"), 0);
    skip_bytes(2 + 13 + 5);
    inner = take(8);
    assert_int_equal(walk1(ROOT_FID, 4, "file"), 0);
    take(7);
    again = take(8);
    assert_true(file != inner && file == again);
}

static void test_what_cannot_be_shared(void **state)
{
    struct p9_config cfg = {.fds_max = 100};
    struct err e;
    struct p9 *s;

    cfg.dir = path("none");
    assert_refused(p9_open(&s, &cfg, &e), ENOENT, e, "none");
    cfg.dir = path("share/file");
    assert_refused(p9_open(&s, &cfg, &e), ENOTDIR, e, "share/file");
    cfg.dir = "/proc/self";
    assert_refused(p9_open(&s, &cfg, &e), EACCES, e, "kernel");
}

#define T(name) cmocka_unit_test_setup_teardown(name, client_setup, client_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_version),
        T(test_attach_and_auth),
        T(test_flush_and_unknown_messages),
        T(test_cut_off_messages),
        T(test_sizes_that_lie),
        T(test_walk),
        T(test_long_names),
        T(test_a_nul_in_a_name),
        T(test_parents),
        T(test_mkdir_link_rename_unlink),
        T(test_symlinks),
        T(test_readdir),
        T(test_descriptors_are_counted),
        T(test_fids_are_counted),
        T(test_attribute_memory_is_counted),
        T(test_qids_tell_files_apart),
        T(test_what_cannot_be_shared),
    };

    return cmocka_run_group_tests_name("p9", tests, NULL, NULL);
}
