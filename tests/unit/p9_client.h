/* p9_client.h - a 9P client of a few lines: messages by hand, on a scratch directory */
#pragma once

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "host/p9/p9.h"

#define NOFID    0xffffffffu
#define OUT_MAX  (600u << 10)
#define ROOT_FID 1

enum {
    T_STATFS = 8,
    T_LOPEN = 12,
    T_LCREATE = 14,
    T_SYMLINK = 16,
    T_MKNOD = 18,
    T_RENAME = 20,
    T_READLINK = 22,
    T_GETATTR = 24,
    T_SETATTR = 26,
    T_XATTRWALK = 30,
    T_XATTRCREATE = 32,
    T_READDIR = 40,
    T_FSYNC = 50,
    T_LOCK = 52,
    T_GETLOCK = 54,
    T_LINK = 70,
    T_MKDIR = 72,
    T_RENAMEAT = 74,
    T_UNLINKAT = 76,
    T_VERSION = 100,
    T_AUTH = 102,
    T_ATTACH = 104,
    T_FLUSH = 108,
    T_WALK = 110,
    T_READ = 116,
    T_WRITE = 118,
    T_CLUNK = 120,
    T_REMOVE = 122,
};

static struct client {
    char top[64]; /* scratch: share/ is served, outside/ is not */
    char dir[80]; /* of the share */
    struct p9 *s;
    u8 out[OUT_MAX], in[OUT_MAX];
    u32 len, got, at; /* of request, reply, and where the reply is read */
    u32 room;         /* for the reply */
    unsigned pieces;  /* bytes of a vector, 0: all in one */
} c;

/* ---- building ---- */

static inline void put(const void *data, u32 len)
{
    ASSERT(c.len + len <= OUT_MAX);
    memcpy(c.out + c.len, data, len);
    c.len += len;
}

static inline void put_int(u64 val, u32 len)
{
    put(&val, len);
}

/* Fields by letter: b 1 byte, w 2, d 4, q 8 (pass a u64), s string. */
static inline void put_fields(const char *fields, va_list ap)
{
    for (; *fields; fields++) {
        if (*fields == 's') {
            const char *text = va_arg(ap, const char *);

            put_int(strlen(text), 2);
            put(text, (u32)strlen(text));
        } else if (*fields == 'q') {
            put_int(va_arg(ap, u64), 8);
        } else {
            put_int(va_arg(ap, unsigned), *fields == 'b' ? 1 : *fields == 'w' ? 2 : 4);
        }
    }
}

static inline void begin(u8 type)
{
    c.len = 0;
    put_int(0, 4);
    put_int(type, 1);
    put_int(0x1234, 2);
}

static inline void skip_bytes(u32 len)
{
    ASSERT(c.at + len <= c.got);
    c.at += len;
}

static inline u64 take(u32 len)
{
    u64 val = 0;

    ASSERT(len <= 8 && c.at + len <= c.got);
    memcpy(&val, c.in + c.at, len);
    c.at += len;
    return val;
}

static inline int cut(struct iovec *iov, u8 *data, u32 len)
{
    u32 step = c.pieces ? c.pieces : len, n = 0;

    for (u32 at = 0; at < len; at += step)
        iov[n++] = (struct iovec){data + at, MIN(step, len - at)};
    return (int)n;
}

/* Sends what is in c.out as it is. The errno of the reply, 0 for success; -1: no reply at all. */
static inline int send_raw(void)
{
    struct iovec out[64], in[64];
    struct p9_message m = {out, cut(out, c.out, c.len), in, cut(in, c.in, c.room)};
    u8 type;

    memset(c.in, 0xee, 64);
    c.got = p9_request(c.s, &m);
    ASSERT(c.got <= c.room);
    if (!c.got)
        return -1;
    c.at = 0;
    ASSERT(take(4) == c.got);
    type = (u8)take(1);
    ASSERT(c.len < 7 || (u16)take(2) == (c.out[5] | c.out[6] << 8));
    c.at = 7;
    if (type == 7) {
        ASSERT(c.got == 11);
        return (int)take(4);
    }
    ASSERT(type == c.out[4] + 1);
    return 0;
}

static inline int send_it(void)
{
    memcpy(c.out, &c.len, 4);
    return send_raw();
}

static inline int rpc(u8 type, const char *fields, ...)
{
    va_list ap;

    begin(type);
    va_start(ap, fields);
    put_fields(fields, ap);
    va_end(ap);
    return send_it();
}

/* ---- common calls ---- */

/* One name; "" clones. */
static inline int walk1(u32 fid, u32 to, const char *name)
{
    int rc = *name ? rpc(T_WALK, "ddws", fid, to, 1, name) : rpc(T_WALK, "ddw", fid, to, 0);

    return rc;
}

static inline int do_write(u32 fid, u64 off, const void *data, u32 len)
{
    begin(T_WRITE);
    put_int(fid, 4);
    put_int(off, 8);
    put_int(len, 4);
    put(data, len);
    return send_it();
}

static inline int do_clunk(u32 fid)
{
    return rpc(T_CLUNK, "d", fid);
}

/* Walks to a name below the root as fid 100, opens it there, and returns the error. */
static inline int open_at_root(const char *name, u32 flags)
{
    int rc;

    (void)do_clunk(100);
    rc = walk1(ROOT_FID, 100, name);
    return rc ? rc : rpc(T_LOPEN, "dd", 100, flags);
}

static inline int version(u32 msize)
{
    return rpc(T_VERSION, "ds", msize, "9P2000.L");
}

static inline int attach(u32 fid)
{
    return rpc(T_ATTACH, "ddssd", fid, NOFID, "root", "", 0);
}

/* ---- the host's side ---- */

static inline char *path(const char *below)
{
    static char text[4][256];
    static unsigned turn;
    char *out = text[turn++ % 4];

    snprintf(out, sizeof(text[0]), "%s/%s", c.top, below);
    return out;
}

static inline void host_write(const char *name, const char *text)
{
    int fd = open(path(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

    ASSERT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static inline const char *host_read(const char *name)
{
    static char text[256];
    int fd = open(path(name), O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    ASSERT(n >= 0);
    text[n] = '\0';
    close(fd);
    return fd < 0 ? "(none)" : text;
}

static inline bool host_has(const char *name)
{
    struct stat st;

    return lstat(path(name), &st) == 0;
}

static inline int remove_one(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(name);
}

static inline void client_open(bool read_only, unsigned fds_max)
{
    struct p9_config cfg = {c.dir, read_only, fds_max};
    int rc = p9_open(&c.s, &cfg, NULL);

    ASSERT(rc == 0);
    c.room = OUT_MAX;
    c.pieces = 0;
    ASSERT(version(65536) == 0 && attach(ROOT_FID) == 0);
}

static inline void client_reopen(bool read_only, unsigned fds_max)
{
    p9_close(c.s);
    client_open(read_only, fds_max);
}

static inline int client_setup(void **state)
{
    memset(&c, 0, sizeof(c));
    strcpy(c.top, "/tmp/ring3-p9-XXXXXX");
    ASSERT(mkdtemp(c.top));
    snprintf(c.dir, sizeof(c.dir), "%s/share", c.top);
    ASSERT(mkdir(c.dir, 0755) == 0 && mkdir(path("outside"), 0755) == 0);
    host_write("outside/secret", "secret");
    host_write("share/file", "content");
    ASSERT(mkdir(path("share/sub"), 0755) == 0);
    host_write("share/sub/inner", "inner");
    client_open(false, 1000);
    return 0;
}

static inline int client_teardown(void **state)
{
    p9_close(c.s);
    nftw(c.top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
