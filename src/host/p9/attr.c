/* attr.c - 9P: attributes of files and of the file system */
#include <errno.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "host/p9/server.h"

#define GETATTR_BASIC 0x7ff /* all but birth time, generation and data version */

#define SET_MODE     0x001
#define SET_UID      0x002
#define SET_GID      0x004
#define SET_SIZE     0x008
#define SET_ATIME    0x010 /* to now, unless ... */
#define SET_MTIME    0x020
#define SET_CTIME    0x040
#define SET_ATIME_TO 0x080 /* ... the time is given */
#define SET_MTIME_TO 0x100
#define SET_ALL      0x1ff

#define V9FS_MAGIC 0x01021997

static void put_time(struct p9_writer *w, const struct timespec *t)
{
    p9_put(w, 8, (u64)t->tv_sec);
    p9_put(w, 8, (u64)t->tv_nsec);
}

int p9_do_getattr(struct p9_call *c)
{
    const struct timespec never = {0, 0};
    struct p9_writer *w = &c->out;
    struct p9_fid *f;
    struct p9_qid qid;
    struct stat st;
    int rc = p9_get_fid(c, &f);

    p9_get64(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (fstat(f->node->fd, &st))
        return -errno;
    qid = p9_qid_of(c->s, &st);
    p9_put(w, 8, GETATTR_BASIC);
    p9_put_qid(w, &qid);
    p9_put(w, 4, st.st_mode);
    p9_put(w, 4, st.st_uid);
    p9_put(w, 4, st.st_gid);
    p9_put(w, 8, st.st_nlink);
    p9_put(w, 8, st.st_rdev);
    p9_put(w, 8, (u64)st.st_size);
    p9_put(w, 8, (u64)st.st_blksize);
    p9_put(w, 8, (u64)st.st_blocks);
    put_time(w, &st.st_atim);
    put_time(w, &st.st_mtim);
    put_time(w, &st.st_ctim);
    put_time(w, &never);
    p9_put(w, 8, 0);
    p9_put(w, 8, 0);
    return 0;
}

/* ---- changing them ---- */

struct change {
    u32 valid, mode, uid, gid;
    u64 size;
    struct timespec atime, mtime;
};

static struct change get_change(struct p9_reader *r)
{
    struct change x;

    x.valid = p9_get32(r);
    x.mode = p9_get32(r);
    x.uid = p9_get32(r);
    x.gid = p9_get32(r);
    x.size = p9_get64(r);
    x.atime.tv_sec = (time_t)p9_get64(r);
    x.atime.tv_nsec = (long)p9_get64(r);
    x.mtime.tv_sec = (time_t)p9_get64(r);
    x.mtime.tv_nsec = (long)p9_get64(r);
    return x;
}

static int set_size(struct p9 *s, const struct p9_fid *f, u64 size)
{
    int fd, rc;

    if (f->node->type != S_IFREG)
        return f->node->type == S_IFDIR ? -EISDIR : -EINVAL;
    if (size > INT64_MAX)
        return -EFBIG;
    if (f->io >= 0 && f->writable)
        return ftruncate(f->io, (off_t)size) ? -errno : 0;
    fd = p9_node_reopen(s, f->node, O_WRONLY);
    if (fd < 0)
        return fd;
    rc = ftruncate(fd, (off_t)size) ? -errno : 0;
    p9_fd_close(s, fd);
    return rc;
}

static int set_mode(struct p9 *s, const struct p9_fid *f, u32 mode)
{
    struct p9_link l = p9_node_link(f->node);

    if (f->node->type == S_IFLNK)
        return -EOPNOTSUPP;
    return fchmodat(s->proc, l.name, p9_mode(f->node->type, mode), 0) ? -errno : 0;
}

/* One field of a time: left alone, now, or what is given. */
static struct timespec time_of(const struct change *x, u32 set, u32 to, const struct timespec *t)
{
    if (!(x->valid & set))
        return (struct timespec){0, UTIME_OMIT};
    return x->valid & to ? *t : (struct timespec){0, UTIME_NOW};
}

static int set_times(struct p9 *s, const struct p9_fid *f, const struct change *x)
{
    struct timespec t[2] = {time_of(x, SET_ATIME, SET_ATIME_TO, &x->atime),
                            time_of(x, SET_MTIME, SET_MTIME_TO, &x->mtime)};

    return utimensat(s->proc, p9_node_link(f->node).name, t, 0) ? -errno : 0;
}

/* Times come last, since the others change them. What failed leaves what was done before it. */
int p9_do_setattr(struct p9_call *c)
{
    struct p9_fid *f;
    struct change x;
    int rc = p9_get_fid(c, &f);
    bool owner;

    x = get_change(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (x.valid & ~(u32)SET_ALL || x.atime.tv_nsec < 0 || x.atime.tv_nsec > 999999999 ||
        x.mtime.tv_nsec < 0 || x.mtime.tv_nsec > 999999999)
        return -EINVAL;
    owner = x.valid & (SET_UID | SET_GID) || x.valid == SET_CTIME;
    if (x.valid & SET_SIZE)
        rc = set_size(c->s, f, x.size);
    if (!rc && owner)
        rc =
            fchownat(c->s->proc, p9_node_link(f->node).name, x.valid & SET_UID ? x.uid : UINT32_MAX,
                     x.valid & SET_GID ? x.gid : UINT32_MAX, 0)
                ? -errno
                : 0;
    if (!rc && x.valid & SET_MODE)
        rc = set_mode(c->s, f, x.mode);
    if (!rc && x.valid & (SET_ATIME | SET_MTIME))
        rc = set_times(c->s, f, &x);
    return rc;
}

int p9_do_statfs(struct p9_call *c)
{
    struct p9_writer *w = &c->out;
    struct p9_fid *f;
    struct statfs fs;
    u64 id;
    int rc = p9_get_fid(c, &f);

    if (rc)
        return rc;
    if (fstatfs(f->node->fd, &fs))
        return -errno;
    memcpy(&id, &fs.f_fsid, sizeof(id));
    p9_put(w, 4, V9FS_MAGIC);
    p9_put(w, 4, (u64)fs.f_bsize);
    p9_put(w, 8, fs.f_blocks);
    p9_put(w, 8, fs.f_bfree);
    p9_put(w, 8, fs.f_bavail);
    p9_put(w, 8, fs.f_files);
    p9_put(w, 8, fs.f_ffree);
    p9_put(w, 8, id);
    p9_put(w, 4, (u64)fs.f_namelen);
    return 0;
}
