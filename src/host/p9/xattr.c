/* xattr.c - 9P: extended attributes of users */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host/p9/server.h"

#define VALUE_MAX 65536 /* as the kernel's XATTR_SIZE_MAX and XATTR_LIST_MAX */

/* Other name spaces are rules of the host's kernel (capabilities, ACLs, labels). */
static bool users_own(const char *name)
{
    return !strncmp(name, "user.", 5) && name[5];
}

/* Memory for a value, within what one server may hold. */
static int claim(struct p9 *s, struct p9_xattr *x, u32 len)
{
    if (len > P9_XATTR_BYTES_MAX - s->xattr_bytes)
        return -ENOSPC;
    x->value = malloc(MAX(len, 1u));
    if (!x->value)
        return -ENOMEM;
    x->len = len;
    s->xattr_bytes += len;
    return 0;
}

/* Leaves the users' own names of a list; returns their bytes. */
static u32 keep_users(u8 *list, u32 len)
{
    u32 kept = 0;

    for (u32 at = 0; at < len;) {
        u32 n = (u32)strlen((char *)list + at) + 1;

        if (users_own((char *)list + at)) {
            memmove(list + kept, list + at, n);
            kept += n;
        }
        at += n;
    }
    return kept;
}

/* Reads a value, or with an empty name the names, into a buffer that the caller frees. */
static int fetch(struct p9 *s, const struct p9_node *n, const char *name, u8 **value, u32 *len)
{
    int fd = p9_node_reopen(s, n, O_RDONLY), rc = 0;
    ssize_t got;
    u8 *buf;

    if (fd < 0)
        return fd;
    buf = malloc(VALUE_MAX);
    if (!buf) {
        p9_fd_close(s, fd);
        return -ENOMEM;
    }
    got = *name ? fgetxattr(fd, name, buf, VALUE_MAX) : flistxattr(fd, (char *)buf, VALUE_MAX);
    if (got < 0)
        rc = -errno;
    p9_fd_close(s, fd);
    *value = buf;
    *len = rc ? 0 : *name ? (u32)got : keep_users(buf, (u32)got);
    return rc;
}

int p9_do_xattrwalk(struct p9_call *c)
{
    struct p9_fid *f, *x;
    char name[XATTR_NAME_MAX + 1];
    u8 *value = NULL;
    u32 id, len = 0;
    int rc = p9_get_fid(c, &f);

    id = p9_get32(&c->in);
    if (!rc)
        rc = p9_get_string(&c->in, name, sizeof(name));
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if ((*name && !users_own(name)) || (f->node->type != S_IFREG && f->node->type != S_IFDIR))
        return -EOPNOTSUPP;
    rc = fetch(c->s, f->node, name, &value, &len);
    if (!rc)
        rc = p9_fid_new(c->s, id, f->uid, p9_node_get(f->node), &x);
    if (!rc) {
        x->kind = FID_XATTR_READ;
        rc = claim(c->s, &x->xattr, len);
        if (rc)
            p9_fid_clunk(c->s, x);
        else
            memcpy(x->xattr.value, value, len);
    }
    free(value);
    p9_put(&c->out, 8, len);
    return rc;
}

/* The fid becomes one that takes the value in Twrite messages; its clunk sets the attribute. */
int p9_do_xattrcreate(struct p9_call *c)
{
    struct p9_fid *f;
    char name[XATTR_NAME_MAX + 1], *copy;
    u64 size;
    u32 flags;
    int rc = p9_get_fid(c, &f);

    if (!rc)
        rc = p9_get_string(&c->in, name, sizeof(name));
    size = p9_get64(&c->in);
    flags = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (!users_own(name) || (f->node->type != S_IFREG && f->node->type != S_IFDIR))
        return -EOPNOTSUPP;
    if (f->io >= 0)
        return -EBUSY;
    if (size > VALUE_MAX)
        return -E2BIG;
    if (flags & ~(u32)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    copy = strdup(name);
    rc = copy ? claim(c->s, &f->xattr, (u32)size) : -ENOMEM;
    if (rc) {
        free(copy);
        return rc;
    }
    f->kind = FID_XATTR_WRITE;
    f->xattr.name = copy;
    f->xattr.flags = flags;
    return 0;
}
