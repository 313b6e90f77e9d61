/* readdir.c - 9P: entries of directories */
#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/p9/server.h"

/* qid[13] offset[8] type[1] name[s] */
#define ENTRY_BYTES 24

static u8 entry_type(u8 dtype)
{
    return dtype == DT_DIR ? QID_DIR : dtype == DT_LNK ? QID_SYMLINK : 0;
}

/* Nothing of what is above the root shows, not even a number. */
static struct p9_qid entry_qid(struct p9_call *c, const struct p9_fid *f, const struct dirent64 *d)
{
    const struct p9_node *root = c->s->root, *n = f->node;
    bool top = n->dev == root->dev && n->ino == root->ino;
    ino_t ino = top && !strcmp(d->d_name, "..") ? root->ino : d->d_ino;

    return (struct p9_qid){entry_type(d->d_type), 0, p9_qid_path(c->s, n->dev, ino)};
}

/* Puts the entries in front of `end` into the reply as long as they fit in `room` bytes; returns
 * their bytes. */
static u32 put_entries(struct p9_call *c, struct p9_fid *f, const u8 *at, const u8 *end, u32 room)
{
    u32 used = 0;

    while (at < end) {
        const struct dirent64 *d = (const struct dirent64 *)at;
        u32 len = (u32)strlen(d->d_name), size = ENTRY_BYTES + len;
        u8 entry[ENTRY_BYTES + NAME_MAX];
        struct p9_writer w = {entry, sizeof(entry), false};
        struct p9_qid qid = entry_qid(c, f, d);

        if (size > room - used || len > NAME_MAX)
            break;
        p9_put_qid(&w, &qid);
        p9_put(&w, 8, (u64)d->d_off);
        p9_put(&w, 1, d->d_type);
        p9_put_string(&w, d->d_name, len);
        p9_vec_put(c->m->in, c->m->in_n, P9_IO_BYTES + used, entry, size);
        used += size;
        f->dir_pos = (u64)d->d_off;
        at += d->d_reclen;
    }
    return used;
}

/* Offsets are the host's own cookies, which stay good while entries come and go. */
int p9_do_readdir(struct p9_call *c)
{
    struct p9_fid *f;
    u64 off;
    u32 count, size;
    long n;
    int rc = p9_get_fid(c, &f);

    off = p9_get64(&c->in);
    count = p9_get32(&c->in);
    if (rc || c->in.bad)
        return rc ? rc : -EINVAL;
    if (f->io < 0)
        return -EBADF;
    rc = p9_node_inside(c->s, f->node);
    if (rc)
        return rc;
    count = MIN(count, c->room - P9_IO_BYTES);
    if (lseek(f->io, (off_t)off, SEEK_SET) < 0)
        return -errno;
    /* Entries take about as many bytes in both forms. */
    size = (u32)MIN(MAX(count, 512u), sizeof(c->s->dirents));
    n = syscall(SYS_getdents64, f->io, c->s->dirents, size);
    if (n < 0)
        return -errno;
    c->payload = put_entries(c, f, c->s->dirents, c->s->dirents + n, count);
    if (n && !c->payload)
        return -EINVAL; /* as getdents(2): no room for one entry */
    p9_put(&c->out, 4, c->payload);
    return 0;
}
