/* copy.c - bounded copies into and out of guest memory, and the code pages they may hit */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "mem/slots.h"

#define BACK_MIN (64 * KiB)

/* What a walk over a range does with one piece that lies in one slot. */
typedef void piece_fn(struct mem *m, const struct slot *s, u64 off, u64 len, void *ctx);

static const struct slot *in_table(const struct slot_table *t, u64 gpa)
{
    for (u64 i = 0; i < t->n; i++) {
        if (gpa - t->slot[i].gpa < t->slot[i].size)
            return &t->slot[i];
    }
    return NULL;
}

/* A range that crosses slots: all of it must be there before the first byte moves, so both passes
 * use one copy of the table. */
static int walk_slow(struct mem *m, u64 gpa, u64 len, unsigned deny, piece_fn *fn, void *ctx)
{
    struct slot_table t;
    u64 end;

    if (!add_ok(gpa, len, &end))
        return -EFAULT;
    slot_snapshot(m, &t);
    for (int pass = 0; pass < 2; pass++) {
        for (u64 at = gpa, step; at < end; at += step) {
            const struct slot *s = in_table(&t, at);
            if (!s || s->flags & deny)
                return -EFAULT;
            step = MIN(end - at, s->size - (at - s->gpa));
            if (pass)
                fn(m, s, at - s->gpa, step, ctx);
        }
    }
    return 0;
}

static int walk(struct mem *m, u64 gpa, u64 len, unsigned deny, piece_fn *fn, void *ctx)
{
    struct slot s;

    if (len == 0)
        return 0;
    if (!slot_find(m, gpa, &s))
        return -EFAULT;
    if (!range_ok(gpa - s.gpa, len, s.size))
        return walk_slow(m, gpa, len, deny, fn, ctx);
    if (s.flags & deny)
        return -EFAULT;
    fn(m, &s, gpa - s.gpa, len, ctx);
    return 0;
}

/* Aligned 2, 4 and 8 bytes move in one access: rings are shared with running vCPUs. */
static void copy_guest(void *to, const void *from, u64 len)
{
    uintptr_t both = (uintptr_t)to | (uintptr_t)from;

    if (len == 2 && !(both & 1))
        __atomic_store_n((u16 *)to, __atomic_load_n((const u16 *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else if (len == 4 && !(both & 3))
        __atomic_store_n((u32 *)to, __atomic_load_n((const u32 *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else if (len == 8 && !(both & 7))
        __atomic_store_n((u64 *)to, __atomic_load_n((const u64 *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else
        memcpy(to, from, len);
}

/* Marks after the bytes have moved: a page fetched from the dirty log in between would otherwise be
 * copied without them and never be seen again. The fence orders the bytes before the looks at the
 * switch of the log and at the code marks. mem_code_mark() has the other half: either the marker
 * decodes the new bytes or it is told. */
static void wrote(struct mem *m, const struct slot *s, u64 off, u64 len)
{
    u64 last = (off + len - 1) >> PAGE_SHIFT;
    bool dirty;

    __atomic_fetch_add(&m->writes, 1, __ATOMIC_SEQ_CST); /* a fence, too */
    dirty = __atomic_load_n(&m->dirty_on, __ATOMIC_ACQUIRE);
    for (u64 page = off >> PAGE_SHIFT; page <= last; page++) {
        u64 from = MAX(off, page << PAGE_SHIFT);
        u64 to = MIN(off + len, (page + 1) << PAGE_SHIFT);
        if (dirty)
            bit_set(s->backing->dirty, page);
        if (bit_test(s->backing->code, page))
            tell_code_written(m, s->gpa + from, to - from);
    }
}

static void read_piece(struct mem *m, const struct slot *s, u64 off, u64 len, void *ctx)
{
    u8 **to = ctx;

    copy_guest(*to, s->hva + off, len);
    *to += len;
}

static void write_piece(struct mem *m, const struct slot *s, u64 off, u64 len, void *ctx)
{
    const u8 **from = ctx;
    u64 first = off & ~PAGE_MASK;

    if (len >= BACK_MIN) /* a loader: not fault by fault; should the host decline, then so */
        (void)madvise(s->hva + first, off + len - first, MADV_POPULATE_WRITE);
    copy_guest(s->hva + off, *from, len);
    *from += len;
    wrote(m, s, off, len);
}

static void fill_piece(struct mem *m, const struct slot *s, u64 off, u64 len, void *ctx)
{
    memset(s->hva + off, *(u8 *)ctx, len);
    wrote(m, s, off, len);
}

/* The host may refuse to take the pages (a sealed or pinned file); they are zeroed all the same. */
static void discard_piece(struct mem *m, const struct slot *s, u64 off, u64 len, void *ctx)
{
    if (madvise(s->hva + off, len, MADV_REMOVE) < 0)
        memset(s->hva + off, 0, len);
    wrote(m, s, off, len);
}

static void wrote_piece(struct mem *m, const struct slot *s, u64 off, u64 len, void *ctx)
{
    wrote(m, s, off, len);
}

int mem_read(struct mem *m, u64 gpa, void *buf, u64 len)
{
    return walk(m, gpa, len, 0, read_piece, &buf);
}

int mem_write(struct mem *m, u64 gpa, const void *buf, u64 len)
{
    return walk(m, gpa, len, MEM_ROM, write_piece, &buf);
}

int mem_fill(struct mem *m, u64 gpa, u8 byte, u64 len)
{
    return walk(m, gpa, len, MEM_ROM, fill_piece, &byte);
}

void *mem_range(struct mem *m, u64 gpa, u64 len, bool write)
{
    struct slot s;

    if (!slot_find(m, gpa, &s) || !range_ok(gpa - s.gpa, len, s.size))
        return NULL;
    return write && s.flags & MEM_ROM ? NULL : s.hva + (gpa - s.gpa);
}

int mem_discard(struct mem *m, u64 gpa, u64 len)
{
    if ((gpa | len) & PAGE_MASK)
        return -EINVAL;
    return walk(m, gpa, len, MEM_ROM, discard_piece, NULL);
}

void mem_written(struct mem *m, u64 gpa, u64 len)
{
    /* A range that left the map meanwhile has nobody to be reported to. */
    (void)!walk(m, gpa, len, MEM_ROM, wrote_piece, NULL);
}

u64 mem_writes(const struct mem *m)
{
    return __atomic_load_n(&m->writes, __ATOMIC_SEQ_CST);
}

void mem_code_mark(struct mem *m, u64 gpa_page)
{
    struct slot s;

    if (slot_find(m, gpa_page, &s))
        bit_set(s.backing->code, (gpa_page - s.gpa) >> PAGE_SHIFT);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void mem_code_clear(struct mem *m, u64 gpa_page)
{
    struct slot s;

    if (slot_find(m, gpa_page, &s))
        bit_clear(s.backing->code, (gpa_page - s.gpa) >> PAGE_SHIFT);
}

bool mem_code_marked(struct mem *m, u64 gpa_page)
{
    struct slot s;

    return slot_find(m, gpa_page, &s) &&
           bit_test(s.backing->code, (gpa_page - s.gpa) >> PAGE_SHIFT);
}
