/* test_p9_files.c - the 9P server by hand-made messages: files, attributes, locks, read-only */
#include "unit.h"
#include "p9_client.h"

#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* ---- files ---- */

static void test_read_and_write(void **state)
{
    char data[] = "0123456789";

    assert_int_equal(open_at_root("file", O_RDWR), 0);
    assert_int_equal(rpc(T_READ, "dqd", 100, 3ull, 100), 0);
    assert_int_equal(take(4), 4);
    assert_memory_equal(c.in + c.at, "tent", 4);
    assert_int_equal(rpc(T_READ, "dqd", 100, 100ull, 100), 0);
    assert_int_equal(take(4), 0);
    assert_int_equal(do_write(100, 5, data, 10), 0);
    assert_int_equal(take(4), 10);
    assert_string_equal(host_read("share/file"), "conte0123456789");
    assert_int_equal(do_write(100, ~0ull, data, 10), EFBIG);
    assert_int_equal(rpc(T_READ, "dqd", 100, ~0ull, 1), EINVAL);
    assert_int_equal(rpc(T_READ, "dqd", ROOT_FID, 0ull, 1), EBADF); /* not open */
    assert_int_equal(do_write(ROOT_FID, 0, data, 1), EBADF);
    begin(T_WRITE); /* claims more data than it brings */
    put_int(100, 4);
    put_int(0, 8);
    put_int(11, 4);
    put(data, 10);
    assert_int_equal(send_it(), EINVAL);
    assert_int_equal(rpc(T_FSYNC, "dd", 100, 1), 0);
    assert_int_equal(rpc(T_FSYNC, "d", 100), 0);
    assert_int_equal(rpc(T_FSYNC, "d", ROOT_FID), EBADF);
    assert_int_equal(rpc(T_LOPEN, "dd", 100, O_RDONLY), EBUSY);
    assert_int_equal(open_at_root("file", O_RDONLY), 0);
    assert_int_equal(do_write(100, 0, data, 1), EBADF);
    assert_int_equal(open_at_root("file", O_WRONLY | O_TRUNC), 0);
    assert_string_equal(host_read("share/file"), "");
    assert_int_equal(open_at_root("sub", O_RDONLY), 0);
    assert_int_equal(rpc(T_READ, "dqd", 100, 0ull, 1), EISDIR);
    assert_int_equal(open_at_root("sub", O_WRONLY), EISDIR);
}

/* Data far larger than the part of a message that is copied, in pieces of odd sizes. */
static void test_big_transfers_in_pieces(void **state)
{
    static u8 data[60000];

    for (u32 i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 7 + i / 251);
    for (unsigned pieces = 0; pieces <= 9001; pieces += 3000) {
        c.pieces = pieces ? pieces + 9001 : 0;
        assert_int_equal(rpc(T_VERSION, "ds", 65536, "9P2000.L") | attach(ROOT_FID), 0);
        assert_int_equal(open_at_root("file", O_RDWR), 0);
        assert_int_equal(do_write(100, 13, data, sizeof(data)), 0);
        assert_int_equal(take(4), sizeof(data));
        memset(c.in, 0, OUT_MAX);
        assert_int_equal(rpc(T_READ, "dqd", 100, 13ull, 1u << 30), 0);
        assert_int_equal(take(4), sizeof(data));
        assert_memory_equal(c.in + 11, data, sizeof(data));
    }
}

static void test_reads_end_at_the_message_size(void **state)
{
    static u8 data[9000];

    assert_int_equal(open_at_root("file", O_RDWR), 0);
    assert_int_equal(do_write(100, 0, data, 9000), 0);
    assert_int_equal(rpc(T_VERSION, "ds", 4096, "9P2000.L") | attach(ROOT_FID), 0);
    assert_int_equal(open_at_root("file", O_RDWR), 0);
    assert_int_equal(rpc(T_READ, "dqd", 100, 0ull, 9000), 0);
    assert_int_equal(take(4), 4096 - 11);
    c.room = 100;
    assert_int_equal(rpc(T_READ, "dqd", 100, 0ull, 9000), 0);
    assert_int_equal(take(4), 100 - 11);
}

static void test_lcreate(void **state)
{
    mode_t before = umask(077);
    struct stat st;

    assert_int_equal(walk1(ROOT_FID, 2, ""), 0);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 2, "new", O_RDWR, 0666, getgid()), 0);
    umask(before);
    assert_int_equal(do_write(2, 0, "x", 1), 0); /* the fid is the file's now, and open */
    assert_int_equal(stat(path("share/new"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0666); /* whatever the host's umask */
    assert_int_equal(rpc(T_LCREATE, "dsddd", 2, "more", O_RDWR, 0666, 0), ENOTDIR);
    assert_int_equal(walk1(ROOT_FID, 3, ""), 0);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 3, "new", O_RDWR | O_EXCL, 0666, 0), EEXIST);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 3, "sub", O_RDWR, 0666, 0), EISDIR);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 3, "..", O_RDWR, 0666, 0), EINVAL);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 3, "new", O_RDWR | O_TRUNC, 0600, 0), 0);
    assert_string_equal(host_read("share/new"), "");
    assert_int_equal(walk1(ROOT_FID, 4, ""), 0);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 4, "suid", O_RDWR, 06755, getgid()), 0);
    assert_int_equal(stat(path("share/suid"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
}

static void test_an_unlinked_file_lives_on(void **state)
{
    assert_int_equal(open_at_root("file", O_RDWR), 0);
    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, "file", 0), 0);
    assert_false(host_has("share/file"));
    assert_int_equal(do_write(100, 0, "CON", 3), 0);
    assert_int_equal(rpc(T_READ, "dqd", 100, 0ull, 7), 0);
    assert_memory_equal(c.in + 11, "CONtent", 7);
    assert_int_equal(rpc(T_LOPEN, "dd", 2, O_RDONLY), 0); /* even one that is only held */
    assert_int_equal(rpc(T_GETATTR, "dq", 2, ~0ull), 0);
    assert_int_equal(rpc(T_REMOVE, "d", 2), ENOENT);
    assert_int_equal(do_clunk(2), EBADF); /* remove ends the fid in any case */
}

static void test_special_files_are_not_opened(void **state)
{
    struct stat st;

    assert_int_equal(rpc(T_MKNOD, "dsdddd", ROOT_FID, "pipe", S_IFIFO | 0640, 0, 0, getgid()), 0);
    assert_int_equal(rpc(T_MKNOD, "dsdddd", ROOT_FID, "sock", S_IFSOCK | 0640, 0, 0, getgid()), 0);
    assert_int_equal(rpc(T_MKNOD, "dsdddd", ROOT_FID, "plain", 0640, 0, 0, getgid()), 0);
    assert_int_equal(lstat(path("share/pipe"), &st), 0);
    assert_true(S_ISFIFO(st.st_mode) && (st.st_mode & 07777) == 0640);
    assert_int_equal(open_at_root("pipe", O_RDONLY), EOPNOTSUPP);
    assert_int_equal(open_at_root("pipe", O_RDWR), EOPNOTSUPP);
    assert_int_equal(open_at_root("sock", O_RDONLY), EOPNOTSUPP);
    assert_int_equal(walk1(ROOT_FID, 3, ""), 0);
    assert_int_equal(rpc(T_LCREATE, "dsddd", 3, "pipe", O_RDONLY, 0666, 0), EOPNOTSUPP);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(
            rpc(T_MKNOD, "dsdddd", ROOT_FID, "dev", (i ? S_IFCHR : S_IFBLK) | 0666, 1, 3, 0),
            EPERM);
    assert_int_equal(rpc(T_MKNOD, "dsdddd", ROOT_FID, "dev", S_IFDIR | 0666, 0, 0, 0), EINVAL);
    assert_false(host_has("share/dev"));
    if (mknod(path("share/null"), S_IFCHR | 0666, makedev(1, 3)) == 0)
        assert_int_equal(open_at_root("null", O_RDWR), EOPNOTSUPP);
    assert_int_equal(walk1(ROOT_FID, 4, "pipe"), 0);
    assert_int_equal(rpc(T_SETATTR, "dddddqqqqq", 4, 8, 0, 0, 0, 0ull, 0ull, 0ull, 0ull, 0ull),
                     EINVAL); /* nor truncated */
}

/* ---- attributes ---- */

static int setattr(u32 fid, u32 valid, u32 mode, u32 uid, u64 size, u64 sec)
{
    return rpc(T_SETATTR, "dddddqqqqq", fid, valid, mode, uid, uid, size, sec, 7ull, sec + 1, 8ull);
}

static void test_getattr(void **state)
{
    struct stat st;

    assert_int_equal(stat(path("share/file"), &st), 0);
    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    assert_int_equal(rpc(T_GETATTR, "dq", 2, ~0ull), 0);
    assert_int_equal(take(8), 0x7ff);
    skip_bytes(13);
    assert_int_equal(take(4), st.st_mode);
    assert_int_equal(take(4), st.st_uid);
    assert_int_equal(take(4), st.st_gid);
    assert_int_equal(take(8), 1);
    assert_int_equal(take(8), 0);
    assert_int_equal(take(8), 7);
    assert_int_equal(take(8), st.st_blksize);
    assert_int_equal(take(8), st.st_blocks);
    assert_int_equal(take(8), st.st_atim.tv_sec);
    assert_int_equal(take(8), st.st_atim.tv_nsec);
    assert_int_equal(take(8), st.st_mtim.tv_sec);
    assert_int_equal(c.got, 7 + 153);
}

static void test_setattr(void **state)
{
    struct stat st;

    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    assert_int_equal(setattr(2, 1 | 8 | 0x10 | 0x20 | 0x80 | 0x100, 06751, 0, 3, 1000), 0);
    assert_int_equal(stat(path("share/file"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0751);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(st.st_atim.tv_sec, 1000);
    assert_int_equal(st.st_atim.tv_nsec, 7);
    assert_int_equal(st.st_mtim.tv_sec, 1001);
    assert_int_equal(setattr(2, 0x20, 0, 0, 0, 0), 0); /* now */
    assert_int_equal(stat(path("share/file"), &st), 0);
    assert_true(st.st_mtim.tv_sec > 1000000);
    assert_int_equal(st.st_atim.tv_sec, 1000);
    assert_int_equal(setattr(2, 6, 0, getuid(), 0, 0), 0);
    assert_int_equal(setattr(2, 0x40, 0, 0, 0, 0), 0);
    assert_int_equal(setattr(2, 8, 0, 0, ~0ull, 0), EFBIG);
    assert_int_equal(setattr(2, 0x200, 0, 0, 0, 0), EINVAL);
    assert_int_equal(
        rpc(T_SETATTR, "dddddqqqqq", 2, 0x90, 0, 0, 0, 0ull, 0ull, 1000000000ull, 0ull, 0ull),
        EINVAL);
    assert_int_equal(setattr(ROOT_FID, 8, 0, 0, 3, 0), EISDIR);
    assert_int_equal(rpc(T_SYMLINK, "dssd", ROOT_FID, "l", "file", 0), 0);
    assert_int_equal(walk1(ROOT_FID, 3, "l"), 0);
    assert_int_equal(setattr(3, 1, 0777, 0, 0, 0), EOPNOTSUPP);
    assert_int_equal(setattr(3, 8, 0, 0, 0, 0), EINVAL);
    assert_int_equal(setattr(3, 0x20 | 0x100, 0, 0, 0, 5), 0); /* the link's own time */
    assert_int_equal(lstat(path("share/l"), &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 6);
    assert_int_equal(stat(path("share/file"), &st), 0);
    assert_true(st.st_mtim.tv_sec > 1000000 && st.st_size == 3);
    if (getuid())
        assert_int_equal(setattr(2, 2, 0, 0, 0, 0), EPERM);
}

static void test_truncate_an_open_file_without_rights(void **state)
{
    assert_int_equal(open_at_root("file", O_RDWR), 0);
    assert_int_equal(chmod(path("share/file"), 0), 0);
    assert_int_equal(setattr(100, 8, 0, 0, 2, 0), 0);
    assert_int_equal(chmod(path("share/file"), 0600), 0);
    assert_string_equal(host_read("share/file"), "co");
}

static void test_statfs(void **state)
{
    struct statvfs fs;

    assert_int_equal(statvfs(c.dir, &fs), 0);
    assert_int_equal(rpc(T_STATFS, "d", ROOT_FID), 0);
    assert_int_equal(take(4), 0x01021997);
    assert_int_equal(take(4), fs.f_bsize);
    assert_int_equal(take(8), fs.f_blocks);
}

static void test_xattrs(void **state)
{
    char value[8];

    if (setxattr(path("share/file"), "user.a", "one", 3, 0)) {
        print_message("# SKIP user attributes: %s on this file system\n", strerror(errno));
        skip();
    }
    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    assert_int_equal(rpc(T_XATTRWALK, "dds", 2, 3, "user.a"), 0);
    assert_int_equal(take(8), 3);
    assert_int_equal(rpc(T_READ, "dqd", 3, 1ull, 100), 0);
    assert_int_equal(take(4), 2);
    assert_memory_equal(c.in + 11, "ne", 2);
    assert_int_equal(do_write(3, 0, "x", 1), EBADF);
    assert_int_equal(rpc(T_XATTRWALK, "dds", 2, 4, ""), 0);
    assert_int_equal(take(8), 7);
    assert_int_equal(rpc(T_READ, "dqd", 4, 0ull, 100), 0);
    assert_memory_equal(c.in + 11, "user.a", 7);
    assert_int_equal(rpc(T_XATTRWALK, "dds", 2, 5, "user.none"), ENODATA);
    assert_int_equal(rpc(T_XATTRWALK, "dds", 2, 5, "security.capability"), EOPNOTSUPP);
    assert_int_equal(rpc(T_XATTRWALK, "dds", 2, 4, "user.a"), EBADF); /* in use */
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", 2, "trusted.x", 1ull, 0), EOPNOTSUPP);
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", 2, "user.b", 70000ull, 0), E2BIG);
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", 2, "user.b", 4ull, 4), EINVAL);
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", 2, "user.b", 4ull, 0), 0);
    assert_int_equal(do_write(2, 0, "12", 2), 0);
    assert_int_equal(do_write(2, 2, "345", 3), EINVAL); /* more than was told */
    assert_int_equal(do_write(2, 2, "34", 2), 0);
    assert_int_equal(do_clunk(2), 0);
    assert_int_equal(getxattr(path("share/file"), "user.b", value, 8), 4);
    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", 2, "user.b", 4ull, 0), 0);
    assert_int_equal(do_clunk(2), EINVAL); /* less than was told */
    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", 2, "user.b", 0ull, XATTR_REPLACE), 0);
    assert_int_equal(do_clunk(2), 0);
    assert_int_equal(getxattr(path("share/file"), "user.b", value, 8), -1);
}

/* ---- locks ---- */

static int lock(u32 fid, unsigned type, u64 start, u64 len)
{
    return rpc(T_LOCK, "dbdqqds", fid, type, 0, start, len, 1, "guest");
}

static void test_locks(void **state)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
    int fd = open(path("share/file"), O_RDWR);

    assert_int_equal(open_at_root("file", O_RDWR), 0);
    assert_int_equal(lock(100, F_WRLCK, 0, 10), 0);
    assert_int_equal(take(1), 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0); /* the host's processes lock against guests */
    assert_int_equal(lock(100, F_WRLCK, 0, 0), 0);
    assert_int_equal(take(1), 1);
    assert_int_equal(rpc(T_GETLOCK, "dbqqds", 100, F_RDLCK, 0ull, 0ull, 9, "guest"), 0);
    assert_int_equal(take(1), F_WRLCK);
    assert_int_equal(take(8), 10);
    assert_int_equal(take(8), 5);
    assert_int_equal(lock(100, F_UNLCK, 0, 0), 0);
    assert_int_equal(take(1), 0);
    l.l_start = 0;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
    assert_int_equal(lock(100, 3, 0, 0), EINVAL);
    assert_int_equal(lock(100, F_RDLCK, ~0ull, 0), EINVAL);
    assert_int_equal(lock(ROOT_FID, F_RDLCK, 0, 0), EBADF);
    close(fd);
    assert_int_equal(open_at_root("file", O_RDONLY), 0);
    assert_int_equal(lock(100, F_WRLCK, 0, 0), 0); /* flock(2) may */
    assert_int_equal(take(1), 0);
}

/* ---- read-only ---- */

static void test_read_only(void **state)
{
    client_reopen(true, 1000);
    assert_int_equal(walk1(ROOT_FID, 2, "file"), 0);
    assert_int_equal(rpc(T_LCREATE, "dsddd", ROOT_FID, "new", O_RDWR, 0666, 0), EROFS);
    assert_int_equal(rpc(T_SYMLINK, "dssd", ROOT_FID, "new", "x", 0), EROFS);
    assert_int_equal(rpc(T_MKNOD, "dsdddd", ROOT_FID, "new", 0644, 0, 0, 0), EROFS);
    assert_int_equal(rpc(T_RENAME, "dds", 2, ROOT_FID, "new"), EROFS);
    assert_int_equal(setattr(2, 1, 0777, 0, 0, 0), EROFS);
    assert_int_equal(rpc(T_XATTRCREATE, "dsqd", 2, "user.b", 4ull, 0), EROFS);
    assert_int_equal(rpc(T_LINK, "dds", ROOT_FID, 2, "new"), EROFS);
    assert_int_equal(rpc(T_MKDIR, "dsdd", ROOT_FID, "new", 0755, 0), EROFS);
    assert_int_equal(rpc(T_RENAMEAT, "dsds", ROOT_FID, "file", ROOT_FID, "new"), EROFS);
    assert_int_equal(rpc(T_UNLINKAT, "dsd", ROOT_FID, "file", 0), EROFS);
    assert_int_equal(open_at_root("file", O_RDWR), EROFS);
    assert_int_equal(open_at_root("file", O_WRONLY), EROFS);
    assert_int_equal(open_at_root("file", O_RDONLY | O_TRUNC), EROFS);
    assert_int_equal(open_at_root("file", O_RDONLY), 0);
    assert_int_equal(do_write(100, 0, "x", 1), EROFS);
    assert_int_equal(rpc(T_READ, "dqd", 100, 0ull, 7), 0);
    assert_memory_equal(c.in + 11, "content", 7);
    assert_int_equal(rpc(T_REMOVE, "d", 2), EROFS);
    assert_int_equal(do_clunk(2), EBADF);
    assert_false(host_has("share/new"));
    assert_string_equal(host_read("share/file"), "content");
}

#define T(name) cmocka_unit_test_setup_teardown(name, client_setup, client_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_read_and_write),
        T(test_big_transfers_in_pieces),
        T(test_reads_end_at_the_message_size),
        T(test_lcreate),
        T(test_an_unlinked_file_lives_on),
        T(test_special_files_are_not_opened),
        T(test_getattr),
        T(test_setattr),
        T(test_truncate_an_open_file_without_rights),
        T(test_statfs),
        T(test_xattrs),
        T(test_locks),
        T(test_read_only),
    };

    return cmocka_run_group_tests_name("p9 files", tests, NULL, NULL);
}
