/* server.h - the inside of the 9P server: nodes, fids, and a request on its way */
#pragma once

#include <sys/stat.h>

#include "base/limits.h"
#include "host/p9/p9.h"
#include "host/p9/wire.h"

/* ---- nodes (node.c): files of the tree, held by O_PATH descriptors ---- */

/* Shared by the fids that were cloned from each other. The descriptor pins the file itself: names
 * may come and go. */
struct p9_node {
    int fd;
    unsigned refs;
    mode_t type; /* S_IFMT bits; a file does not change them */
    dev_t dev;
    ino_t ino;
};

/* ---- fids (fid.c) ---- */

enum p9_fid_kind {
    FID_FILE,
    FID_XATTR_READ, /* the value, or the names, are in `value` */
    FID_XATTR_WRITE /* `value` is set as attribute `name` at the clunk */
};

struct p9_fid {
    u32 id;
    u32 uid; /* who attached */
    enum p9_fid_kind kind;
    struct p9_node *node;
    int io; /* opened for I/O, -1: not opened */
    bool writable;
    u64 dir_pos; /* where the directory's next entries come from */
    struct p9_xattr {
        char *name;
        u8 *value;
        u32 len;
        u32 written;
        u32 flags;
    } xattr;
    struct p9_fid *next; /* in its bucket */
};

#define P9_BUCKETS 1024
#define P9_DEVICES 254

struct p9 {
    struct p9_node *root;
    int proc; /* /proc/self/fd: names of our own descriptors */
    bool read_only;
    bool as_root;
    unsigned fds, fds_max;
    u32 msize; /* 0 before Tversion */

    struct p9_fid *bucket[P9_BUCKETS];
    unsigned fid_count;
    u32 xattr_bytes; /* held by fids */

    dev_t device[P9_DEVICES]; /* met so far: the index is the top byte of qid.path */
    bool closed[P9_DEVICES];  /* a file system of the kernel's own */
    unsigned devices;

    struct iovec vec[IOV_MAX]; /* of one transfer */
    u8 head[P9_HEAD_MAX];      /* of the request, copied */
    u8 reply[P9_HEAD_MAX];
    u8 dirents[P9_DIRENTS_BYTES];
};

/* The only ways descriptors are opened and closed; -EMFILE at the limit. Adds O_CLOEXEC, O_NOCTTY,
 * O_NONBLOCK and O_NOFOLLOW. */
must_check int p9_fd_open(struct p9 *s, int dir, const char *name, int flags, mode_t mode);
void p9_fd_close(struct p9 *s, int fd);

/* Opens one name in a directory as a node: name has no '/' and is not "..". */
must_check int p9_node_open(struct p9 *s, int dir, const char *name, struct p9_node **out);
/* The node of a file that is open, whatever its names. */
must_check int p9_node_of_fd(struct p9 *s, int fd, struct p9_node **out);
/* The parent of a directory; that of the root is the root. */
must_check int p9_node_parent(struct p9 *s, struct p9_node *n, struct p9_node **out);
struct p9_node *p9_node_get(struct p9_node *n);
void p9_node_put(struct p9 *s, struct p9_node *n); /* NULL: nothing */

/* 0 when the node is a directory and (still) in the tree; else -ENOTDIR or -ESTALE. */
must_check int p9_node_inside(struct p9 *s, const struct p9_node *n);
/* The name the node was opened by, wherever renames took it: its directory, which the caller closes
 * by p9_fd_close, and its last component. -ENOENT when it is gone, -EBUSY for the root. */
must_check int p9_node_locate(struct p9 *s, const struct p9_node *n, int *dir,
                              char name[NAME_MAX + 1]);
/* Opens the file itself once more, for I/O: a regular file or a directory. */
must_check int p9_node_reopen(struct p9 *s, const struct p9_node *n, int flags);
/* The node as an entry of s->proc, for calls that take a directory and a name and follow links. */
struct p9_link {
    char name[16];
};
struct p9_link p9_node_link(const struct p9_node *n);

/* Permission bits that a client may set: no set-user-ID, set-group-ID for directories only. */
mode_t p9_mode(mode_t type, u32 mode);
/* Completes what a client just made (tree.c): permissions whatever this process's umask, and as
 * root the owner. */
must_check int p9_made(struct p9 *s, const struct p9_node *n, u32 mode, u32 uid, u32 gid);

struct p9_qid p9_qid_of(struct p9 *s, const struct stat *st);
u64 p9_qid_path(struct p9 *s, dev_t dev, ino_t ino);

/* ---- fids ---- */

struct p9_fid *p9_fid_find(struct p9 *s, u32 id);
/* A new fid of a node, whose reference it takes over also on failure. -EBADF when the number is in
 * use, -ENFILE, -ENOMEM. */
must_check int p9_fid_new(struct p9 *s, u32 id, u32 uid, struct p9_node *n, struct p9_fid **out);
/* Ends a fid; an attribute that was being written is set now: 0 or -errno, ended all the same. */
int p9_fid_clunk(struct p9 *s, struct p9_fid *f);
/* Ends all of them; attributes that were being written are not set. */
void p9_fids_drop(struct p9 *s);

/* ---- a request ---- */

struct p9_call {
    struct p9 *s;
    const struct p9_message *m;
    u32 size; /* bytes of the request */
    u32 room; /* bytes of the reply at most */
    struct p9_reader in;
    struct p9_writer out; /* the reply behind its header */
    u32 payload;          /* bytes already put into m->in at P9_IO_BYTES */
};

/* One for each row of messages.def: 0 or -errno. */
#define MESSAGE(type, name, changes) int p9_do_##name(struct p9_call *c);
#include "host/p9/messages.def"
#undef MESSAGE

/* The next field, as a fid of kind FID_FILE. 0, -EINVAL, -EBADF. */
must_check int p9_get_fid(struct p9_call *c, struct p9_fid **f);
/* The same, of a directory inside the tree. */
must_check int p9_get_dir(struct p9_call *c, struct p9_fid **f);
/* The next field, as the name of a new or existing entry: not empty, ".", "..", no '/'. */
must_check int p9_get_name(struct p9_call *c, char name[NAME_MAX + 1]);

/* Bytes off..off+len-1 of vectors as vectors: their number, or -EINVAL when there are fewer
 * bytes. */
must_check int p9_vec_cut(const struct iovec *iov, int n, u64 off, u64 len, struct iovec *out);
u64 p9_vec_bytes(const struct iovec *iov, int n);
/* Copies to vectors from offset `off`; the caller knows that there is room. */
void p9_vec_put(const struct iovec *iov, int n, u64 off, const void *data, u64 len);
void p9_vec_get(const struct iovec *iov, int n, u64 off, void *data, u64 len);
