/* tree.c - 9P: making, naming and removing entries of directories */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "host/p9/server.h"

/* ---- what was just made ---- */

mode_t p9_mode(mode_t type, u32 mode)
{
    return mode & (type == S_IFDIR ? 03777 : 01777);
}

/* This process's umask has no say, and as root the file is its maker's. Who may not give it away
 * keeps it. */
int p9_made(struct p9 *s, const struct p9_node *n, u32 mode, u32 uid, u32 gid)
{
    struct p9_link l = p9_node_link(n);
    struct stat st;

    if (s->as_root && fchownat(s->proc, l.name, uid, gid, 0) && errno != EPERM && errno != EINVAL)
        return -errno;
    if (n->type == S_IFLNK)
        return 0;
    if (fstat(n->fd, &st))
        return -errno;
    if ((st.st_mode & 0777) == (mode & 0777))
        return 0;
    mode = p9_mode(n->type, mode) | (st.st_mode & S_ISGID);
    return fchmodat(s->proc, l.name, mode, 0) ? -errno : 0;
}

/* Completes a new entry and answers with its qid. When that fails the entry stays: by now it may
 * be another one. */
static int finish(struct p9_call *c, const struct p9_fid *dir, const char *name, u32 mode, u32 gid)
{
    struct p9_node *n;
    struct p9_qid qid;
    struct stat st;
    int rc = p9_node_open(c->s, dir->node->fd, name, &n);

    if (rc)
        return rc;
    rc = p9_made(c->s, n, mode, dir->uid, gid);
    if (!rc && fstat(n->fd, &st))
        rc = -errno;
    p9_node_put(c->s, n);
    if (rc)
        return rc;
    qid = p9_qid_of(c->s, &st);
    p9_put_qid(&c->out, &qid);
    return 0;
}

int p9_do_mkdir(struct p9_call *c)
{
    struct p9_fid *dir;
    char name[NAME_MAX + 1];
    u32 mode, gid;
    int rc = p9_get_dir(c, &dir);

    if (!rc)
        rc = p9_get_name(c, name);
    mode = p9_get32(&c->in);
    gid = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (mkdirat(dir->node->fd, name, p9_mode(S_IFDIR, mode)))
        return -errno;
    return finish(c, dir, name, mode, gid);
}

int p9_do_symlink(struct p9_call *c)
{
    struct p9_fid *dir;
    char name[NAME_MAX + 1], target[PATH_MAX];
    u32 gid;
    int rc = p9_get_dir(c, &dir);

    if (!rc)
        rc = p9_get_name(c, name);
    if (!rc)
        rc = p9_get_string(&c->in, target, sizeof(target));
    gid = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (symlinkat(target, dir->node->fd, name))
        return -errno;
    return finish(c, dir, name, 0, gid);
}

/* Pipes and sockets are names only: guests use their own. Devices would be the host's. */
int p9_do_mknod(struct p9_call *c)
{
    struct p9_fid *dir;
    char name[NAME_MAX + 1];
    u32 mode, gid;
    int rc = p9_get_dir(c, &dir);

    if (!rc)
        rc = p9_get_name(c, name);
    mode = p9_get32(&c->in);
    p9_get64(&c->in);
    gid = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (S_ISCHR(mode) || S_ISBLK(mode))
        return -EPERM;
    if ((mode & S_IFMT) && !S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
        return -EINVAL;
    if (mknodat(dir->node->fd, name, (mode & S_IFMT) | p9_mode(S_IFREG, mode), 0))
        return -errno;
    return finish(c, dir, name, mode, gid);
}

int p9_do_link(struct p9_call *c)
{
    struct p9_fid *dir, *f;
    char name[NAME_MAX + 1];
    int rc = p9_get_dir(c, &dir);

    if (!rc)
        rc = p9_get_fid(c, &f);
    if (!rc)
        rc = p9_get_name(c, name);
    if (rc)
        return rc;
    if (f->node->type == S_IFDIR)
        return -EPERM;
    return linkat(c->s->proc, p9_node_link(f->node).name, dir->node->fd, name, AT_SYMLINK_FOLLOW)
               ? -errno
               : 0;
}

int p9_do_readlink(struct p9_call *c)
{
    struct p9_fid *f;
    char target[PATH_MAX];
    ssize_t len;
    int rc = p9_get_fid(c, &f);

    if (rc)
        return rc;
    if (f->node->type != S_IFLNK)
        return -EINVAL;
    len = readlinkat(f->node->fd, "", target, sizeof(target));
    if (len < 0)
        return -errno;
    p9_put_string(&c->out, target, (u32)len);
    return 0;
}

/* ---- names ---- */

int p9_do_unlinkat(struct p9_call *c)
{
    struct p9_fid *dir;
    char name[NAME_MAX + 1];
    u32 flags;
    int rc = p9_get_dir(c, &dir);

    if (!rc)
        rc = p9_get_name(c, name);
    flags = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (flags & ~(u32)AT_REMOVEDIR) /* the protocol has the same value */
        return -EINVAL;
    return unlinkat(dir->node->fd, name, (int)flags) ? -errno : 0;
}

int p9_do_renameat(struct p9_call *c)
{
    struct p9_fid *from, *to;
    char old[NAME_MAX + 1], name[NAME_MAX + 1];
    int rc = p9_get_dir(c, &from);

    if (!rc)
        rc = p9_get_name(c, old);
    if (!rc)
        rc = p9_get_dir(c, &to);
    if (!rc)
        rc = p9_get_name(c, name);
    if (rc)
        return rc;
    return renameat(from->node->fd, old, to->node->fd, name) ? -errno : 0;
}

int p9_do_rename(struct p9_call *c)
{
    struct p9_fid *f, *to;
    char old[NAME_MAX + 1], name[NAME_MAX + 1];
    int dir, rc = p9_get_fid(c, &f);

    if (!rc)
        rc = p9_get_dir(c, &to);
    if (!rc)
        rc = p9_get_name(c, name);
    if (!rc)
        rc = p9_node_locate(c->s, f->node, &dir, old);
    if (rc)
        return rc;
    rc = renameat(dir, old, to->node->fd, name) ? -errno : 0;
    p9_fd_close(c->s, dir);
    return rc;
}
