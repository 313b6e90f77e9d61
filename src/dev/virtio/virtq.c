/* virtq.c - split virtqueues as the device sees them (virtio 1.2, 2.7) */
#include "dev/virtio/virtq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "dev/virtio/virtio.h"

/* struct virtq_desc: le64 addr, le32 len, le16 flags, le16 next */
#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

struct desc {
    u64 addr;
    u32 len;
    u16 flags, next;
};

/* struct virtq_avail: le16 flags, idx, ring[size], used_event; struct virtq_used: le16 flags, idx,
 * {le32 id, len} ring[size], le16 avail_event */
#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY     1

static int broken(struct virtq *q, const char *why)
{
    if (!q->broken)
        log_guest("virtqueue: %s", why);
    q->broken = why;
    return -EPROTO;
}

/* Ring memory: the guest chose the address, so it may lie in a hole. */
static u16 ring_read(struct virtq *q, u64 gpa)
{
    u16 val = 0;

    if (mem_read(q->mem, gpa, &val, sizeof(val)))
        broken(q, "a ring lies outside of memory");
    return val;
}

static void ring_write(struct virtq *q, u64 gpa, const void *data, u64 len)
{
    if (mem_write(q->mem, gpa, data, len))
        broken(q, "a ring lies outside of memory");
}

static u64 used_event_gpa(const struct virtq *q)
{
    return q->avail + 4 + 2ull * q->size;
}

static u64 avail_event_gpa(const struct virtq *q)
{
    return q->used + 4 + 8ull * q->size;
}

/* ---- chains ---- */

/* A table of descriptors: the queue's own or an indirect one. */
struct table {
    u64 gpa;
    u32 n;
};

static int read_desc(struct virtq *q, const struct table *t, u32 i, struct desc *d)
{
    u64 gpa;

    if (i >= t->n)
        return broken(q, "a descriptor index beyond its table");
    if (!add_ok(t->gpa, 16ull * i, &gpa) || mem_read(q->mem, gpa, d, sizeof(*d)))
        return broken(q, "a descriptor table outside of memory");
    return 0;
}

static int add_seg(struct virtq *q, struct virtq_chain *c, const struct desc *d)
{
    u32 *bytes = d->flags & DESC_WRITE ? &c->in_bytes : &c->out_bytes;

    if (c->out_n + c->in_n == VIRTQ_CHAIN_MAX)
        return broken(q, "a chain with too many descriptors");
    if (!(d->flags & DESC_WRITE) && c->in_n)
        return broken(q, "a descriptor to read behind one to write");
    if (__builtin_add_overflow(*bytes, d->len, bytes))
        return broken(q, "a chain of more than 4 GiB");
    c->seg[c->out_n + c->in_n] = (struct virtq_seg){d->addr, d->len};
    if (d->flags & DESC_WRITE)
        c->in_n++;
    else
        c->out_n++;
    return 0;
}

/* An indirect table replaces the chain from here on (2.7.5.3): it is not nested, and nothing
 * follows it. */
static int enter_indirect(struct virtq *q, const struct desc *d, struct table *t, bool *inside)
{
    if (!q->indirect || *inside)
        return broken(q, "an indirect descriptor where none may be");
    if (d->flags & DESC_NEXT)
        return broken(q, "an indirect descriptor with a next one");
    if (d->len == 0 || d->len % 16)
        return broken(q, "an indirect table of odd length");
    *t = (struct table){d->addr, d->len / 16};
    *inside = true;
    return 0;
}

static int read_chain(struct virtq *q, u16 head, struct virtq_chain *c)
{
    struct table t = {q->desc, q->size};
    bool inside = false;
    struct desc d;
    u32 i = head;
    int rc;

    for (unsigned steps = 0; steps <= VIRTQ_CHAIN_MAX; steps++) {
        rc = read_desc(q, &t, i, &d);
        if (rc)
            return rc;
        if (d.flags & DESC_INDIRECT) {
            rc = enter_indirect(q, &d, &t, &inside);
            i = 0;
        } else {
            rc = add_seg(q, c, &d);
            if (!rc && !(d.flags & DESC_NEXT))
                return 0;
            i = d.next;
        }
        if (rc)
            return rc;
    }
    return broken(q, "a chain that does not end");
}

/* ---- the rings ---- */

bool virtq_has_more(struct virtq *q)
{
    u16 waiting;

    if (!q->enabled || q->broken)
        return false;
    waiting = (u16)(ring_read(q, q->avail + 2) - q->last_avail);
    if (waiting > q->size)
        broken(q, "more entries available than the queue has");
    return waiting && !q->broken;
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
    int rc;

    if (q->broken)
        return -EPROTO;
    if (!virtq_has_more(q))
        return q->broken ? -EPROTO : 0;
    /* x86 keeps the order of loads: the entry is read after the index that covers it. */
    *c = (struct virtq_chain){.seg = q->segs};
    c->head = ring_read(q, q->avail + 4 + 2ull * (q->last_avail & (q->size - 1)));
    if (q->broken)
        return -EPROTO;
    if (c->head >= q->size)
        return broken(q, "a head beyond the descriptor table");
    rc = read_chain(q, c->head, c);
    if (rc)
        return rc;
    q->last_avail++;
    return 1;
}

void virtq_unpop(struct virtq *q)
{
    q->last_avail--;
}

void virtq_push(struct virtq *q, u16 head, u32 written)
{
    u32 elem[2] = {head, written};

    if (q->broken)
        return;
    ring_write(q, q->used + 4 + 8ull * (q->used_idx & (q->size - 1)), elem, sizeof(elem));
    q->used_idx++;
    ring_write(q, q->used + 2, &q->used_idx, sizeof(q->used_idx));
}

bool virtq_want_signal(struct virtq *q)
{
    u16 old = q->signalled, event;

    if (q->broken || old == q->used_idx)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index is out before we look */
    q->signalled = q->used_idx;
    if (!q->event_idx)
        return !(ring_read(q, q->avail) & AVAIL_NO_INTERRUPT);
    event = ring_read(q, used_event_gpa(q));
    return (u16)(q->used_idx - event - 1) < (u16)(q->used_idx - old);
}

bool virtq_ask_kicks(struct virtq *q, bool on)
{
    u16 flags = on ? 0 : USED_NO_NOTIFY;

    if (!q->enabled || q->broken)
        return false;
    if (q->event_idx && on)
        ring_write(q, avail_event_gpa(q), &q->last_avail, sizeof(q->last_avail));
    else if (!q->event_idx && q->kicks != on)
        ring_write(q, q->used, &flags, sizeof(flags));
    q->kicks = on;
    if (!on)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the wish is out before we look */
    return virtq_has_more(q);
}

/* ---- contents ---- */

/* Calls fn for the pieces of bytes off..off+len-1 of one part. */
typedef int part_fn(struct virtq *q, u64 gpa, u32 len, void *ctx);

static int each_piece(struct virtq *q, const struct virtq_chain *c, bool in, u32 off, u32 len,
                      part_fn *fn, void *ctx)
{
    const struct virtq_seg *s = in ? c->seg + c->out_n : c->seg;
    unsigned n = in ? c->in_n : c->out_n;
    u64 skip = off, left = len;

    if (!range_ok(off, len, in ? c->in_bytes : c->out_bytes))
        return -EINVAL;
    for (; left && n; s++, n--) {
        u64 gpa, step;
        int rc;

        if (skip >= s->len) {
            skip -= s->len;
            continue;
        }
        step = MIN(s->len - skip, left);
        if (!add_ok(s->gpa, skip, &gpa))
            return -EFAULT;
        rc = fn(q, gpa, (u32)step, ctx);
        if (rc)
            return rc;
        left -= step;
        skip = 0;
    }
    return 0;
}

static int read_part(struct virtq *q, u64 gpa, u32 len, void *ctx)
{
    u8 **to = ctx;
    int rc = mem_read(q->mem, gpa, *to, len);

    *to += len;
    return rc;
}

static int write_part(struct virtq *q, u64 gpa, u32 len, void *ctx)
{
    const u8 **from = ctx;
    int rc = mem_write(q->mem, gpa, *from, len);

    *from += len;
    return rc;
}

static int written_part(struct virtq *q, u64 gpa, u32 len, void *ctx)
{
    mem_written(q->mem, gpa, len);
    return 0;
}

int virtq_read(struct virtq *q, const struct virtq_chain *c, u32 off, void *buf, u32 len)
{
    return each_piece(q, c, false, off, len, read_part, &buf);
}

int virtq_write(struct virtq *q, const struct virtq_chain *c, u32 off, const void *buf, u32 len)
{
    return each_piece(q, c, true, off, len, write_part, &buf);
}

void virtq_written(struct virtq *q, const struct virtq_chain *c, u32 off, u32 len)
{
    (void)!each_piece(q, c, true, off, len, written_part, NULL);
}

struct vectors {
    struct iovec *iov;
    int n, max;
    bool write;
};

/* A piece that crosses slots is split where they meet: the largest start that lies in one. */
static int vector_part(struct virtq *q, u64 gpa, u32 len, void *ctx)
{
    struct vectors *v = ctx;

    while (len) {
        u32 step = len;
        void *hva = mem_range(q->mem, gpa, step, v->write);

        if (!hva) { /* slots begin and end at page boundaries */
            step = (u32)MIN(len, PAGE_BYTES - (gpa & PAGE_MASK));
            hva = mem_range(q->mem, gpa, step, v->write);
        }
        if (!hva)
            return -EFAULT;
        if (v->n == v->max)
            return -E2BIG;
        v->iov[v->n++] = (struct iovec){hva, step};
        gpa += step;
        len -= step;
    }
    return 0;
}

int virtq_iov(struct virtq *q, const struct virtq_chain *c, bool in, u32 off, u32 len,
              struct iovec *iov, int max)
{
    struct vectors v = {iov, 0, max, in};
    int rc = each_piece(q, c, in, off, len, vector_part, &v);

    return rc ? rc : v.n;
}

/* ---- life ---- */

void virtq_reset(struct virtq *q)
{
    *q = (struct virtq){
        .size = q->size_max,
        .size_max = q->size_max,
        .vector = VIRTIO_NO_VECTOR,
        .kicks = true,
        .mem = q->mem,
        .segs = q->segs,
        .dev = q->dev,
        .bell = q->bell,
    };
}

int virtq_init(struct virtq *q, struct mem *mem, u16 size_max, struct err *e)
{
    ASSERT(size_max && size_max <= VIRTQ_SIZE_MAX && !(size_max & (size_max - 1)));
    *q = (struct virtq){.size_max = size_max, .mem = mem};
    q->segs = calloc(VIRTQ_CHAIN_MAX, sizeof(*q->segs));
    if (!q->segs)
        return err_set(e, ENOMEM, "virtqueue: no memory for its descriptors");
    virtq_reset(q);
    return 0;
}

void virtq_fini(struct virtq *q)
{
    free(q->segs);
}

/* ---- snapshots ---- */

static const struct snap_field fields[] = {
    SNAP_U16(struct virtq, size),
    SNAP_BOOL(struct virtq, enabled),
    SNAP_U16(struct virtq, vector),
    SNAP_U64(struct virtq, desc),
    SNAP_U64(struct virtq, avail),
    SNAP_U64(struct virtq, used),
    SNAP_U16(struct virtq, last_avail),
    SNAP_U16(struct virtq, used_idx),
    SNAP_U16(struct virtq, signalled),
    SNAP_BOOL(struct virtq, event_idx),
    SNAP_BOOL(struct virtq, indirect),
    SNAP_BOOL(struct virtq, kicks),
    SNAP_END,
};

static int check(const void *scratch, struct err *e)
{
    const struct virtq *q = scratch;

    if (q->size == 0 || q->size > VIRTQ_SIZE_MAX || q->size & (q->size - 1))
        return err_set(e, EINVAL, "virtqueue: %u entries", q->size);
    if (q->desc & 15 || q->avail & 1 || q->used & 3)
        return err_set(e, EINVAL, "virtqueue: a ring that is not aligned");
    return 0;
}

/* A queue that had been broken is found broken again, by the same entry. */
static void loaded(void *obj)
{
    struct virtq *q = obj;

    q->broken = NULL;
}

const struct snap_desc virtq_snap = {
    .name = "virtqueue",
    .version = 1,
    .size = sizeof(struct virtq),
    .fields = fields,
    .check = check,
    .loaded = loaded,
};
