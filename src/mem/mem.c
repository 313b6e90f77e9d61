/* mem.c - guest-physical memory: slots of RAM and ROM in memfds */
#include "mem/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "mem/slots.h"

/* ---- backings ---- */

static void *map_anon(u64 bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void backing_free(struct backing *b)
{
    if (b->hva)
        munmap(b->hva, b->size);
    if (b->dirty)
        munmap(b->dirty, bitmap_bytes(b->size));
    if (b->code)
        munmap(b->code, bitmap_bytes(b->size));
    if (b->backed)
        munmap(b->backed, bitmap_bytes(b->size));
    if (b->fd >= 0)
        close(b->fd);
    free(b);
}

static struct backing *backing_new(u64 size, struct err *e)
{
    struct backing *b = calloc(1, sizeof(*b));
    const char *what = "no memory";
    void *hva;
    int code = ENOMEM;

    if (!b)
        goto fail;
    b->size = size;
    what = "memfd_create";
    b->fd = memfd_create("ring3-ram", MFD_CLOEXEC);
    if (b->fd < 0)
        goto fail_errno;
    what = "ftruncate";
    if (ftruncate(b->fd, (off_t)size) < 0)
        goto fail_errno;
    what = "mmap";
    hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, b->fd, 0);
    if (hva == MAP_FAILED)
        goto fail_errno;
    b->hva = hva;
    b->dirty = map_anon(bitmap_bytes(size));
    b->code = map_anon(bitmap_bytes(size));
    b->backed = map_anon(bitmap_bytes(size));
    if (!b->dirty || !b->code || !b->backed)
        goto fail_errno;
    /* Both are wishes: a host may have neither huge pages for shared memory nor core dumps. */
    (void)madvise(hva, size, MADV_HUGEPAGE);
    (void)madvise(hva, size, MADV_DONTDUMP);
    return b;

fail_errno:
    code = errno;
fail:
    err_set(e, code, "guest memory of %" PRIu64 " MiB: %s: %s", size >> 20, what, strerror(code));
    if (b)
        backing_free(b);
    return NULL;
}

/* Gives the pages back; whoever still reads the old addresses sees zeros. */
static void backing_retire_locked(struct mem *m, struct backing *b)
{
    ASSERT(lock_held(&m->lock));
    if (madvise(b->hva, b->size, MADV_REMOVE) < 0)
        memset(b->hva, 0, b->size);
    bitmap_clear(b->code, b->size);
    bitmap_clear(b->dirty, b->size);
    bitmap_clear(b->backed, b->size);
    b->next = m->idle;
    m->idle = b;
}

static struct backing *backing_get_locked(struct mem *m, u64 size, struct err *e)
{
    ASSERT(lock_held(&m->lock));
    for (struct backing **p = &m->idle; *p; p = &(*p)->next) {
        struct backing *b = *p;
        if (b->size == size) {
            *p = b->next;
            return b;
        }
    }
    return backing_new(size, e);
}

/* ---- the table ---- */

/* The last slot at or below gpa, in a table that may be changing: only a bounded guess then. */
static inline const struct slot *search(const struct slot_table *t, u64 gpa)
{
    const struct slot *at = t->slot;
    u64 n = MIN(latch_load(&t->n), (u64)MEM_SLOTS_MAX);

    if (n == 0)
        return NULL;
    while (n > 1) {
        u64 half = n / 2;
        at = latch_load(&at[half].gpa) <= gpa ? at + half : at;
        n -= half;
    }
    return at;
}

static inline void copy_slot(struct slot *to, const struct slot *from)
{
    to->gpa = latch_load(&from->gpa);
    to->size = latch_load(&from->size);
    to->hva = latch_load(&from->hva);
    to->backing = latch_load(&from->backing);
    to->flags = latch_load(&from->flags);
}

/* *seq is that of the table in which it was found. */
static bool slot_find_in(struct mem *m, u64 gpa, struct slot *s, u32 *seq)
{
    const struct slot *at;

    do {
        *seq = latch_begin(&m->latch);
        at = search(&m->table[*seq & 1], gpa);
        if (at)
            copy_slot(s, at);
    } while (latch_retry(&m->latch, *seq));
    return at && gpa - s->gpa < s->size;
}

bool slot_find(struct mem *m, u64 gpa, struct slot *s)
{
    u32 seq;

    return slot_find_in(m, gpa, s, &seq);
}

void slot_snapshot(struct mem *m, struct slot_table *t)
{
    u32 seq;

    do {
        const struct slot_table *from;
        seq = latch_begin(&m->latch);
        from = &m->table[seq & 1];
        t->n = MIN(latch_load(&from->n), (u64)MEM_SLOTS_MAX);
        for (u64 i = 0; i < t->n; i++)
            copy_slot(&t->slot[i], &from->slot[i]);
    } while (latch_retry(&m->latch, seq));
}

static void store_table(struct slot_table *to, const struct slot_table *from)
{
    for (u64 i = 0; i < from->n; i++) {
        latch_store(&to->slot[i].gpa, from->slot[i].gpa);
        latch_store(&to->slot[i].size, from->slot[i].size);
        latch_store(&to->slot[i].hva, from->slot[i].hva);
        latch_store(&to->slot[i].backing, from->slot[i].backing);
        latch_store(&to->slot[i].flags, from->slot[i].flags);
    }
    latch_store(&to->n, from->n);
}

static void publish_locked(struct mem *m, const struct slot_table *t)
{
    ASSERT(lock_held(&m->lock));
    latch_flip(&m->latch);
    store_table(&m->table[0], t);
    latch_flip(&m->latch);
    store_table(&m->table[1], t);
}

static int check_new(const struct slot_table *t, u64 gpa, u64 size, u64 *at, struct err *e)
{
    u64 end, i;

    if (size == 0 || size > RAM_MAX || (gpa | size) & PAGE_MASK || !add_ok(gpa, size, &end) ||
        end > BIT64(52))
        return err_set(e, EINVAL, "guest memory at 0x%" PRIx64 ": impossible size 0x%" PRIx64, gpa,
                       size);
    if (t->n == MEM_SLOTS_MAX)
        return err_set(e, ENOSPC, "guest memory at 0x%" PRIx64 ": all %u slots are taken", gpa,
                       MEM_SLOTS_MAX);
    for (i = 0; i < t->n && t->slot[i].gpa < end; i++) {
        const struct slot *s = &t->slot[i];
        if (s->gpa + s->size > gpa)
            return err_set(e, EEXIST,
                           "guest memory 0x%" PRIx64 "-0x%" PRIx64 " overlaps 0x%" PRIx64
                           "-0x%" PRIx64,
                           gpa, end - 1, s->gpa, s->gpa + s->size - 1);
    }
    *at = i;
    return 0;
}

static int add_slot(struct mem *m, u64 gpa, u64 size, unsigned flags, const void *data, u64 len,
                    struct err *e)
{
    struct slot_table t;
    struct backing *b;
    u64 at = 0;
    int ret;

    lock_take(&m->lock);
    slot_snapshot(m, &t);
    ret = check_new(&t, gpa, size, &at, e);
    if (ret)
        goto out;
    b = backing_get_locked(m, size, e);
    if (!b) {
        ret = e ? -e->code : -ENOMEM;
        goto out;
    }
    if (len)
        memcpy(b->hva, data, len);
    memmove(&t.slot[at + 1], &t.slot[at], (t.n - at) * sizeof(t.slot[0]));
    t.slot[at] = (struct slot){gpa, size, b->hva, b, flags};
    t.n++;
    publish_locked(m, &t);
out:
    lock_drop(&m->lock);
    if (ret == 0)
        tell_remapped(m, gpa, size);
    return ret;
}

int mem_add_ram(struct mem *m, u64 gpa, u64 size, struct err *e)
{
    return add_slot(m, gpa, size, 0, NULL, 0, e);
}

int mem_add_rom(struct mem *m, u64 gpa, u64 size, const void *data, u64 len, struct err *e)
{
    if (len > size)
        return err_set(e, EINVAL, "ROM at 0x%" PRIx64 ": %" PRIu64 " bytes do not fit in %" PRIu64,
                       gpa, len, size);
    return add_slot(m, gpa, size, MEM_ROM, data, len, e);
}

int mem_del(struct mem *m, u64 gpa)
{
    struct slot_table t;
    struct slot gone;
    u64 at;

    lock_take(&m->lock);
    slot_snapshot(m, &t);
    for (at = 0; at < t.n && t.slot[at].gpa != gpa; at++)
        continue;
    if (at == t.n) {
        lock_drop(&m->lock);
        return -ENOENT;
    }
    gone = t.slot[at];
    t.n--;
    memmove(&t.slot[at], &t.slot[at + 1], (t.n - at) * sizeof(t.slot[0]));
    publish_locked(m, &t);
    lock_drop(&m->lock);
    /* Only after the listeners dropped their pointers may the pages serve another slot. */
    tell_remapped(m, gone.gpa, gone.size);
    lock_take(&m->lock);
    backing_retire_locked(m, gone.backing);
    lock_drop(&m->lock);
    return 0;
}

size_t mem_slots(struct mem *m, struct mem_slot_info *out, size_t n)
{
    struct slot_table t;

    slot_snapshot(m, &t);
    for (size_t i = 0; i < MIN(n, t.n); i++) {
        const struct slot *s = &t.slot[i];
        out[i] = (struct mem_slot_info){s->gpa, s->size, (unsigned)s->flags, s->backing->fd, 0};
    }
    return t.n;
}

void *mem_page(struct mem *m, u64 gpa, bool write, unsigned *flags)
{
    struct slot s;
    u64 off;

    if (unlikely(!slot_find(m, gpa, &s)))
        return NULL;
    off = (gpa - s.gpa) & ~PAGE_MASK;
    if (flags)
        *flags = (unsigned)s.flags;
    if (write && !(s.flags & MEM_ROM) && __atomic_load_n(&m->dirty_on, __ATOMIC_ACQUIRE))
        bit_set(s.backing->dirty, off >> PAGE_SHIFT);
    return s.hva + off;
}

static bool hint_renew(struct mem *m, struct mem_hint *h, u64 gpa)
{
    struct slot s;
    u32 seq;

    if (!slot_find_in(m, gpa, &s, &seq))
        return false;
    *h = (struct mem_hint){.seq = seq,
                           .flags = (u32)s.flags,
                           .gpa = s.gpa,
                           .size = s.size,
                           .hva = s.hva,
                           .dirty = s.backing->dirty,
                           .code = s.backing->code,
                           .backed = s.backing->backed};
    return true;
}

/* Guests mostly write to fresh memory in order. Taken one by one each page costs a host fault, the
 * greater part of a guest's own work with it: so a few are asked for at once. A host that cannot
 * do that gives them one by one. */
#define MEM_BACK_PAGES 16u

static void back(const struct mem_hint *h, u64 chunk)
{
    u64 off = chunk * MEM_BACK_PAGES * PAGE_BYTES;

    bit_set(h->backed, chunk);
    (void)madvise(h->hva + off, MIN((u64)MEM_BACK_PAGES * PAGE_BYTES, h->size - off),
                  MADV_POPULATE_WRITE);
}

/* A slot is what it was as long as the latch has not moved. */
void *mem_page_near(struct mem *m, struct mem_hint *h, u64 gpa, bool write, unsigned *flags)
{
    if (unlikely(latch_begin(&m->latch) != h->seq || gpa - h->gpa >= h->size) &&
        !hint_renew(m, h, gpa))
        return NULL;
    u64 page = (gpa - h->gpa) >> PAGE_SHIFT;
    *flags = h->flags | (bit_test(h->code, page) ? MEM_CODE : 0);
    if (write && !(h->flags & MEM_ROM) && __atomic_load_n(&m->dirty_on, __ATOMIC_ACQUIRE))
        bit_set(h->dirty, page);
    if (write && unlikely(!bit_test(h->backed, page / MEM_BACK_PAGES)))
        back(h, page / MEM_BACK_PAGES);
    return h->hva + (page << PAGE_SHIFT);
}

/* ---- life ---- */

int mem_create(struct mem **out, struct err *e)
{
    struct mem *m = calloc(1, sizeof(*m));

    if (!m)
        return err_set(e, ENOMEM, "guest memory: no memory for its tables");
    lock_init(&m->lock);
    ASSERT(pthread_rwlock_init(&m->listen_lock, NULL) == 0);
    *out = m;
    return 0;
}

void mem_destroy(struct mem *m)
{
    struct slot_table *t;

    if (!m)
        return;
    t = &m->table[0];
    for (u64 i = 0; i < t->n; i++)
        backing_free(t->slot[i].backing);
    while (m->idle) {
        struct backing *b = m->idle;
        m->idle = b->next;
        backing_free(b);
    }
    pthread_rwlock_destroy(&m->listen_lock);
    lock_destroy(&m->lock);
    free(m);
}
