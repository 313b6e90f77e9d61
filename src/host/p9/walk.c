/* walk.c - 9P: from fid to fid, and their end */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "host/p9/server.h"

#define WALK_MAX 16 /* names in a Twalk, by the protocol */

/* One step from `from`, which stays the caller's. */
static int step(struct p9 *s, struct p9_node *from, const char *name, struct p9_node **to)
{
    if (from->type != S_IFDIR)
        return -ENOTDIR;
    if (!strcmp(name, ".."))
        return p9_node_parent(s, from, to);
    return p9_node_open(s, from->fd, name, to);
}

static int walk_name(struct p9_call *c, char name[NAME_MAX + 1])
{
    int rc = p9_get_name(c, name);

    return rc == -EINVAL && !strcmp(name, "..") ? 0 : rc;
}

/* Walks up to n names as far as they go; *at changes hands at each step. Stops with the error of
 * the first name that is not there; *done says how many were. */
static int walk(struct p9_call *c, struct p9_node **at, u32 n, u32 *done)
{
    char name[NAME_MAX + 1];

    for (*done = 0; *done < n; ++*done) {
        struct p9_node *next;
        struct p9_qid qid;
        struct stat st;
        int rc = walk_name(c, name);

        if (!rc)
            rc = step(c->s, *at, name, &next);
        if (rc)
            return rc;
        p9_node_put(c->s, *at);
        *at = next;
        if (fstat(next->fd, &st))
            return -errno;
        qid = p9_qid_of(c->s, &st);
        p9_put_qid(&c->out, &qid);
    }
    return 0;
}

/* A walk that ends early but not at once tells how far it came, and makes no fid. */
int p9_do_walk(struct p9_call *c)
{
    struct p9_fid *from, *old;
    u32 id, n, done = 0;
    struct p9_node *at;
    u8 *count;
    int rc = p9_get_fid(c, &from);

    id = p9_get32(&c->in);
    n = p9_get16(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (n > WALK_MAX || (n && from->io >= 0))
        return -EINVAL;
    if (n)
        rc = p9_node_inside(c->s, from->node);
    if (rc)
        return rc;
    old = p9_fid_find(c->s, id);
    if (old && old != from)
        return -EBADF;
    count = c->out.at;
    p9_put(&c->out, 2, 0);
    at = p9_node_get(from->node);
    rc = walk(c, &at, n, &done);
    if (!c->out.full)
        memcpy(count, &(u16){(u16)done}, 2);
    if (rc || c->out.full) {
        p9_node_put(c->s, at);
        return done ? 0 : rc;
    }
    if (!old)
        return p9_fid_new(c->s, id, from->uid, at, &old);
    p9_node_put(c->s, old->node);
    old->node = at;
    return 0;
}

int p9_do_clunk(struct p9_call *c)
{
    u32 id = p9_get32(&c->in);
    struct p9_fid *f = p9_fid_find(c->s, id);

    if (c->in.bad)
        return -EINVAL;
    return f ? p9_fid_clunk(c->s, f) : -EBADF;
}

/* Ends the fid whether the file could be removed or not. */
int p9_do_remove(struct p9_call *c)
{
    struct p9_fid *f;
    char name[NAME_MAX + 1];
    int dir, rc = p9_get_fid(c, &f);

    if (rc)
        return rc;
    rc = c->s->read_only ? -EROFS : p9_node_locate(c->s, f->node, &dir, name);
    if (!rc) {
        rc = unlinkat(dir, name, f->node->type == S_IFDIR ? AT_REMOVEDIR : 0) ? -errno : 0;
        p9_fd_close(c->s, dir);
    }
    p9_fid_clunk(c->s, f);
    return rc;
}
