/* p9.c - the 9P server's life, and the way of a request to the code that does it */
#include "host/p9/p9.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "host/p9/server.h"

#define RLERROR     7
#define MESSAGE_MAX 128

/* ---- vectors ---- */

u64 p9_vec_bytes(const struct iovec *iov, int n)
{
    u64 sum = 0;

    for (int i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

int p9_vec_cut(const struct iovec *iov, int n, u64 off, u64 len, struct iovec *out)
{
    int k = 0;

    for (int i = 0; i < n && len; i++) {
        u64 have = iov[i].iov_len, step;

        if (off >= have) {
            off -= have;
            continue;
        }
        step = MIN(have - off, len);
        out[k++] = (struct iovec){(u8 *)iov[i].iov_base + off, step};
        len -= step;
        off = 0;
    }
    return len ? -EINVAL : k;
}

enum way { TO_VECTORS, FROM_VECTORS };

static void vec_copy(const struct iovec *iov, int n, u64 off, u8 *data, u64 len, enum way way)
{
    for (int i = 0; i < n && len; i++) {
        u64 have = iov[i].iov_len, step;

        if (off >= have) {
            off -= have;
            continue;
        }
        step = MIN(have - off, len);
        if (way == TO_VECTORS)
            memcpy((u8 *)iov[i].iov_base + off, data, step);
        else
            memcpy(data, (const u8 *)iov[i].iov_base + off, step);
        data += step;
        len -= step;
        off = 0;
    }
    ASSERT(!len);
}

void p9_vec_put(const struct iovec *iov, int n, u64 off, const void *data, u64 len)
{
    vec_copy(iov, n, off, (u8 *)data, len, TO_VECTORS);
}

void p9_vec_get(const struct iovec *iov, int n, u64 off, void *data, u64 len)
{
    vec_copy(iov, n, off, data, len, FROM_VECTORS);
}

/* ---- fields that handlers share ---- */

int p9_get_fid(struct p9_call *c, struct p9_fid **f)
{
    u32 id = p9_get32(&c->in);

    if (c->in.bad)
        return -EINVAL;
    *f = p9_fid_find(c->s, id);
    return *f && (*f)->kind == FID_FILE ? 0 : -EBADF;
}

int p9_get_dir(struct p9_call *c, struct p9_fid **f)
{
    int rc = p9_get_fid(c, f);

    return rc ? rc : p9_node_inside(c->s, (*f)->node);
}

int p9_get_name(struct p9_call *c, char name[NAME_MAX + 1])
{
    int rc = p9_get_string(&c->in, name, NAME_MAX + 1);

    if (rc)
        return rc;
    if (!*name)
        return -ENOENT;
    return strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..") ? -EINVAL : 0;
}

/* ---- session ---- */

int p9_do_version(struct p9_call *c)
{
    static const char known[] = "9P2000.L", unknown[] = "unknown";
    struct p9 *s = c->s;
    u32 msize = p9_get32(&c->in);
    char version[32];
    int rc = p9_get_string(&c->in, version, sizeof(version));
    bool good = rc == 0 && !strcmp(version, known);

    if (c->in.bad)
        return -EINVAL;
    if (msize < P9_MSIZE_MIN)
        return -EMSGSIZE;
    p9_reset(s);
    msize = MIN(msize, (u32)P9_MSIZE_MAX);
    if (good)
        s->msize = msize;
    p9_put(&c->out, 4, msize);
    p9_put_string(&c->out, good ? known : unknown, (u32)strlen(good ? known : unknown));
    return 0;
}

int p9_do_auth(struct p9_call *c)
{
    return -EOPNOTSUPP; /* no authentication is needed: attach with NOFID */
}

int p9_do_attach(struct p9_call *c)
{
    u32 id = p9_get32(&c->in), afid = p9_get32(&c->in), uid;
    char user[256], tree[PATH_MAX];
    struct p9_qid qid;
    struct p9_fid *f;
    struct stat st;
    int rc = p9_get_string(&c->in, user, sizeof(user));

    if (!rc)
        rc = p9_get_string(&c->in, tree, sizeof(tree));
    uid = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (afid != UINT32_MAX)
        return -EBADF;
    if (*tree && strcmp(tree, "/"))
        return -ENOENT;
    if (fstat(c->s->root->fd, &st))
        return -errno;
    rc = p9_fid_new(c->s, id, uid, p9_node_get(c->s->root), &f);
    if (rc)
        return rc;
    qid = p9_qid_of(c->s, &st);
    p9_put_qid(&c->out, &qid);
    return 0;
}

/* Requests are done one after the other: what is to be flushed was answered before. */
int p9_do_flush(struct p9_call *c)
{
    p9_get16(&c->in);
    return c->in.bad ? -EINVAL : 0;
}

/* ---- requests ---- */

static const struct {
    int (*fn)(struct p9_call *c);
    bool changes;
} messages[MESSAGE_MAX] = {
#define MESSAGE(type, name, changes) [type] = {p9_do_##name, changes},
#include "host/p9/messages.def"
#undef MESSAGE
};

static int dispatch(struct p9_call *c, u8 type)
{
    if (type >= MESSAGE_MAX || !messages[type].fn)
        return -EOPNOTSUPP;
    if (!c->s->msize && messages[type].fn != p9_do_version)
        return -EPROTO;
    if (messages[type].changes && c->s->read_only)
        return -EROFS;
    return messages[type].fn(c);
}

/* The size of the request by its own word, when that can be: 7 to msize, and as much is there. */
static int request_size(struct p9 *s, const struct p9_message *m, u32 *size)
{
    u64 there = p9_vec_bytes(m->out, m->out_n);

    memset(s->head, 0, P9_HEADER_BYTES);
    if (there < P9_HEADER_BYTES)
        return -EINVAL;
    p9_vec_get(m->out, m->out_n, 0, s->head, P9_HEADER_BYTES);
    memcpy(size, s->head, 4);
    if (*size < P9_HEADER_BYTES || *size > there)
        return -EINVAL;
    if (*size > MAX(s->msize, (u32)P9_MSIZE_MIN))
        return -EMSGSIZE;
    p9_vec_get(m->out, m->out_n, 0, s->head, MIN(*size, (u32)sizeof(s->head)));
    memcpy(s->head, size, 4); /* it may have changed between the looks */
    return 0;
}

/* Writes the reply's header and what the handler put; returns the reply's size. */
static u32 answer(struct p9_call *c, int rc, u8 type, u16 tag)
{
    struct p9_writer w = {c->s->reply, P9_HEADER_BYTES, false};
    u32 body = (u32)(c->out.at - c->s->reply) - P9_HEADER_BYTES;

    if (!rc && c->out.full)
        rc = -EMSGSIZE;
    if (rc) {
        u32 code = (u32)-rc;

        type = RLERROR - 1;
        body = 4;
        c->payload = 0;
        memcpy(c->s->reply + P9_HEADER_BYTES, &code, 4);
    }
    p9_put(&w, 4, P9_HEADER_BYTES + body + c->payload);
    p9_put(&w, 1, type + 1u);
    p9_put(&w, 2, tag);
    p9_vec_put(c->m->in, c->m->in_n, 0, c->s->reply, P9_HEADER_BYTES + body);
    return P9_HEADER_BYTES + body + c->payload;
}

u32 p9_request(struct p9 *s, const struct p9_message *m)
{
    u64 room = p9_vec_bytes(m->in, m->in_n);
    struct p9_call c = {.s = s, .m = m};
    u16 tag;
    int rc;

    if (room < P9_IO_BYTES)
        return 0;
    c.room = (u32)MIN(room, MAX(s->msize, (u32)P9_MSIZE_MIN));
    c.out = (struct p9_writer){s->reply + P9_HEADER_BYTES,
                               MIN(c.room, (u32)sizeof(s->reply)) - P9_HEADER_BYTES, false};
    rc = request_size(s, m, &c.size);
    memcpy(&tag, s->head + 5, 2);
    if (!rc) {
        u32 have = MIN(c.size, (u32)sizeof(s->head));

        c.in = (struct p9_reader){s->head + P9_HEADER_BYTES, have - P9_HEADER_BYTES, false};
        rc = dispatch(&c, s->head[4]);
    }
    return answer(&c, rc, s->head[4], tag);
}

/* ---- life ---- */

#define FDS_ELSEWHERE 256
#define FDS_LEAST     64

unsigned p9_fds_for(unsigned shares)
{
    struct rlimit limit;
    rlim_t spare;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return FDS_LEAST;
    if (limit.rlim_cur < limit.rlim_max) {
        rlim_t before = limit.rlim_cur;

        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit))
            limit.rlim_cur = before;
    }
    spare = limit.rlim_cur > FDS_ELSEWHERE ? (limit.rlim_cur - FDS_ELSEWHERE) / shares : 0;
    return (unsigned)MIN(MAX(spare, (rlim_t)FDS_LEAST), (rlim_t)P9_FDS_MAX);
}

void p9_reset(struct p9 *s)
{
    p9_fids_drop(s);
    s->msize = 0;
}

static int open_root(struct p9 *s, const char *dir, struct err *e)
{
    int fd, rc;

    s->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->proc < 0)
        return err_set(e, errno, "sharing %s needs /proc: cannot open /proc/self/fd: %s", dir,
                       strerror(errno));
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* links on the way are the user's wish */
    if (fd < 0)
        return err_set(e, errno, "cannot share %s: %s", dir, strerror(errno));
    rc = p9_node_open(s, fd, ".", &s->root);
    close(fd);
    if (rc == -EACCES)
        return err_set(e, EACCES, "cannot share %s: it is a file system of the host's kernel", dir);
    return rc ? err_set(e, -rc, "cannot share %s: %s", dir, strerror(-rc)) : 0;
}

int p9_open(struct p9 **out, const struct p9_config *cfg, struct err *e)
{
    struct p9 *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return err_set(e, ENOMEM, "cannot share %s: no memory", cfg->dir);
    s->read_only = cfg->read_only;
    s->as_root = geteuid() == 0;
    s->fds_max = cfg->fds_max;
    rc = open_root(s, cfg->dir, e);
    if (rc) {
        p9_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void p9_close(struct p9 *s)
{
    p9_fids_drop(s);
    p9_node_put(s, s->root);
    if (s->proc >= 0)
        close(s->proc);
    free(s);
}
