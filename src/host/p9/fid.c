/* fid.c - fids: a client's handles of files */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host/p9/server.h"

static struct p9_fid **bucket_of(struct p9 *s, u32 id)
{
    return &s->bucket[(id ^ id >> 10 ^ id >> 20) % P9_BUCKETS];
}

struct p9_fid *p9_fid_find(struct p9 *s, u32 id)
{
    struct p9_fid *f = *bucket_of(s, id);

    while (f && f->id != id)
        f = f->next;
    return f;
}

int p9_fid_new(struct p9 *s, u32 id, u32 uid, struct p9_node *n, struct p9_fid **out)
{
    struct p9_fid **bucket = bucket_of(s, id), *f = NULL;
    int rc = 0;

    if (p9_fid_find(s, id) || id == UINT32_MAX)
        rc = -EBADF;
    else if (s->fid_count == P9_FIDS_MAX)
        rc = -ENFILE;
    else if (!(f = malloc(sizeof(*f))))
        rc = -ENOMEM;
    if (rc) {
        p9_node_put(s, n);
        return rc;
    }
    *f = (struct p9_fid){.id = id, .uid = uid, .node = n, .io = -1, .next = *bucket};
    *bucket = f;
    s->fid_count++;
    *out = f;
    return 0;
}

/* ---- their end ---- */

/* A size of 0 with XATTR_REPLACE is how clients remove an attribute. */
static int set_xattr(struct p9 *s, struct p9_fid *f)
{
    const struct p9_xattr *x = &f->xattr;
    int fd, rc;

    if (x->written != x->len)
        return -EINVAL;
    fd = p9_node_reopen(s, f->node, O_RDONLY);
    if (fd < 0)
        return fd;
    if (x->len == 0 && x->flags == XATTR_REPLACE)
        rc = fremovexattr(fd, x->name);
    else
        rc = fsetxattr(fd, x->name, x->value, x->len, (int)x->flags);
    rc = rc ? -errno : 0;
    p9_fd_close(s, fd);
    return rc;
}

static void fid_free(struct p9 *s, struct p9_fid *f)
{
    struct p9_fid **at = bucket_of(s, f->id);

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    s->fid_count--;
    s->xattr_bytes -= f->xattr.len;
    free(f->xattr.name);
    free(f->xattr.value);
    if (f->io >= 0)
        p9_fd_close(s, f->io);
    p9_node_put(s, f->node);
    free(f);
}

int p9_fid_clunk(struct p9 *s, struct p9_fid *f)
{
    int rc = f->kind == FID_XATTR_WRITE ? set_xattr(s, f) : 0;

    fid_free(s, f);
    return rc;
}

void p9_fids_drop(struct p9 *s)
{
    for (unsigned i = 0; i < P9_BUCKETS; i++)
        while (s->bucket[i])
            fid_free(s, s->bucket[i]);
}
