/* file.c - 9P: opening files, their bytes and locks */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "host/p9/server.h"

/* Open flags on the wire are those of Linux on most machines, x86 among them. O_DIRECT is a hint
 * that the server's transfers cannot follow. */
#define OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_APPEND | O_DSYNC | O_SYNC | O_DIRECTORY)

#define LOCK_SUCCESS 0
#define LOCK_BLOCKED 1
#define LOCK_ERROR   2
#define LOCK_FLAGS   3 /* block, reclaim */

/* ---- opening ---- */

static bool wants_change(u32 flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

static int answer_open(struct p9_call *c, const struct p9_node *n)
{
    struct p9_qid qid;
    struct stat st;

    if (fstat(n->fd, &st))
        return -errno;
    qid = p9_qid_of(c->s, &st);
    p9_put_qid(&c->out, &qid);
    p9_put(&c->out, 4, 0); /* iounit: as much as a message holds */
    return 0;
}

int p9_do_lopen(struct p9_call *c)
{
    struct p9_fid *f;
    u32 flags;
    int fd, rc = p9_get_fid(c, &f);

    flags = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (f->io >= 0)
        return -EBUSY;
    if (c->s->read_only && wants_change(flags))
        return -EROFS;
    if (f->node->type == S_IFDIR)
        rc = p9_node_inside(c->s, f->node);
    if (rc)
        return rc;
    fd = p9_node_reopen(c->s, f->node, (int)(flags & OPEN_FLAGS));
    if (fd < 0)
        return fd;
    f->io = fd;
    f->writable = (flags & O_ACCMODE) != O_RDONLY;
    f->dir_pos = 0;
    return answer_open(c, f->node);
}

/* A new file: its descriptor, and *n. */
static int make(struct p9 *s, const struct p9_fid *dir, const char *name, int flags, u32 mode,
                u32 gid, struct p9_node **n)
{
    int rc,
        fd = p9_fd_open(s, dir->node->fd, name, flags | O_CREAT | O_EXCL, p9_mode(S_IFREG, mode));

    if (fd < 0)
        return fd;
    rc = p9_node_of_fd(s, fd, n);
    if (!rc)
        rc = p9_made(s, *n, mode, dir->uid, gid);
    if (!rc)
        return fd;
    p9_fd_close(s, fd);
    return rc;
}

/* One that is there. It is not opened by its name: that could become a pipe or a link meanwhile. */
static int take(struct p9 *s, const struct p9_fid *dir, const char *name, int flags,
                struct p9_node **n)
{
    int rc = p9_node_open(s, dir->node->fd, name, n);

    if (rc)
        return rc;
    return (*n)->type == S_IFDIR ? -EISDIR : p9_node_reopen(s, *n, flags);
}

int p9_do_lcreate(struct p9_call *c)
{
    struct p9_fid *f;
    struct p9_node *n = NULL;
    char name[NAME_MAX + 1];
    u32 flags, mode, gid;
    int fd, rc = p9_get_dir(c, &f);

    if (!rc)
        rc = p9_get_name(c, name);
    flags = p9_get32(&c->in);
    mode = p9_get32(&c->in);
    gid = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (f->io >= 0)
        return -EBUSY;
    fd = make(c->s, f, name, (int)(flags & OPEN_FLAGS), mode, gid, &n);
    if (fd == -EEXIST && !(flags & O_EXCL))
        fd = take(c->s, f, name, (int)(flags & OPEN_FLAGS), &n);
    if (fd < 0) {
        p9_node_put(c->s, n);
        return fd;
    }
    p9_node_put(c->s, f->node);
    f->node = n;
    f->io = fd;
    f->writable = (flags & O_ACCMODE) != O_RDONLY;
    return answer_open(c, n);
}

/* ---- bytes ---- */

/* Bytes of an attribute, which lie in memory. */
static int read_value(struct p9_call *c, const struct p9_fid *f, u64 off, u32 count)
{
    const struct p9_xattr *x = &f->xattr;
    u32 n = off < x->len ? MIN(count, x->len - (u32)off) : 0;

    if (n)
        p9_vec_put(c->m->in, c->m->in_n, P9_IO_BYTES, x->value + off, n);
    p9_put(&c->out, 4, n);
    c->payload = n;
    return 0;
}

int p9_do_read(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    u64 off = p9_get64(&c->in);
    u32 count = p9_get32(&c->in);
    ssize_t n;
    int vecs;

    if (c->in.bad)
        return -EINVAL;
    count = MIN(count, c->room - P9_IO_BYTES);
    if (f && f->kind == FID_XATTR_READ)
        return read_value(c, f, off, count);
    if (!f || f->io < 0)
        return -EBADF;
    if (f->node->type == S_IFDIR)
        return -EISDIR;
    if (off > INT64_MAX)
        return -EINVAL;
    vecs = p9_vec_cut(c->m->in, c->m->in_n, P9_IO_BYTES, count, c->s->vec);
    if (vecs < 0)
        return vecs;
    do
        n = preadv(f->io, c->s->vec, vecs, (off_t)off);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    p9_put(&c->out, 4, (u64)n);
    c->payload = (u32)n;
    return 0;
}

static int write_value(struct p9_call *c, struct p9_fid *f, u64 off, u32 count)
{
    struct p9_xattr *x = &f->xattr;

    if (off != x->written || count > x->len - x->written)
        return -EINVAL;
    if (count)
        p9_vec_get(c->m->out, c->m->out_n, P9_WRITE_BYTES, x->value + off, count);
    x->written += count;
    p9_put(&c->out, 4, count);
    return 0;
}

int p9_do_write(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    u64 off = p9_get64(&c->in);
    u32 count = p9_get32(&c->in);
    ssize_t n;
    int vecs;

    if (c->in.bad || count > c->size - P9_WRITE_BYTES)
        return -EINVAL;
    if (f && f->kind == FID_XATTR_WRITE)
        return write_value(c, f, off, count);
    if (!f || f->io < 0)
        return -EBADF;
    if (off > INT64_MAX)
        return -EFBIG;
    vecs = p9_vec_cut(c->m->out, c->m->out_n, P9_WRITE_BYTES, count, c->s->vec);
    if (vecs < 0)
        return vecs;
    do
        n = pwritev(f->io, c->s->vec, vecs, (off_t)off);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    p9_put(&c->out, 4, (u64)n);
    return 0;
}

int p9_do_fsync(struct p9_call *c)
{
    struct p9_fid *f;
    bool data = false;
    int rc = p9_get_fid(c, &f);

    if (rc)
        return rc;
    if (c->in.left >= 4)
        data = p9_get32(&c->in);
    if (f->io < 0)
        return -EBADF;
    return (data ? fdatasync(f->io) : fsync(f->io)) ? -errno : 0;
}

/* ---- locks ---- */

/* type[1] start[8] length[8]; the client's processes are its own affair: on the host the open file
 * is the owner. */
static int get_flock(struct p9_call *c, struct flock *l, bool with_flags)
{
    u32 type = (u32)p9_get(&c->in, 1), flags = with_flags ? p9_get32(&c->in) : 0;
    u64 start = p9_get64(&c->in), len = p9_get64(&c->in);

    if (c->in.bad || type > F_UNLCK || flags & ~(u32)LOCK_FLAGS || start > INT64_MAX ||
        len > INT64_MAX)
        return -EINVAL;
    *l = (struct flock){
        .l_type = (short)type, .l_whence = SEEK_SET, .l_start = (off_t)start, .l_len = (off_t)len};
    return 0;
}

/* Never waits: the client tries again. A lock that the host only grants to another open mode
 * (flock(2) asks for none) holds among the client's own processes, which it sees to by itself. */
int p9_do_lock(struct p9_call *c)
{
    struct p9_fid *f;
    struct flock l;
    u32 status = LOCK_SUCCESS;
    int rc = p9_get_fid(c, &f);

    if (!rc)
        rc = get_flock(c, &l, true);
    if (rc)
        return rc;
    if (f->io < 0)
        return -EBADF;
    if (fcntl(f->io, F_OFD_SETLK, &l) && errno != EBADF)
        status = errno == EAGAIN || errno == EACCES ? LOCK_BLOCKED : LOCK_ERROR;
    p9_put(&c->out, 1, status);
    return 0;
}

int p9_do_getlock(struct p9_call *c)
{
    struct p9_fid *f;
    struct flock l;
    char client[256];
    u32 process;
    int rc = p9_get_fid(c, &f);

    if (!rc)
        rc = get_flock(c, &l, false);
    process = p9_get32(&c->in);
    if (!rc)
        rc = p9_get_string(&c->in, client, sizeof(client));
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (f->io < 0)
        return -EBADF;
    if (fcntl(f->io, F_OFD_GETLK, &l))
        return -errno;
    p9_put(&c->out, 1, (u64)l.l_type);
    p9_put(&c->out, 8, (u64)l.l_start);
    p9_put(&c->out, 8, (u64)l.l_len);
    p9_put(&c->out, 4, l.l_type == F_UNLCK ? process : 0);
    p9_put_string(&c->out, client, (u32)strlen(client));
    return 0;
}
