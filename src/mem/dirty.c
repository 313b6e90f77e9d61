/* dirty.c - the log of written pages, and the listeners that cache write permission */
#include <errno.h>
#include <string.h>

#include "mem/slots.h"

/* ---- listeners ---- */

int mem_listen(struct mem *m, const struct mem_listener *l)
{
    int ret = -ENOSPC;

    pthread_rwlock_wrlock(&m->listen_lock);
    if (m->listeners < MEM_LISTENERS_MAX) {
        m->listener[m->listeners++] = *l;
        ret = 0;
    }
    pthread_rwlock_unlock(&m->listen_lock);
    return ret;
}

void mem_unlisten(struct mem *m, const void *ctx)
{
    unsigned kept = 0;

    pthread_rwlock_wrlock(&m->listen_lock);
    for (unsigned i = 0; i < m->listeners; i++) {
        if (m->listener[i].ctx != ctx)
            m->listener[kept++] = m->listener[i];
    }
    m->listeners = kept;
    pthread_rwlock_unlock(&m->listen_lock);
}

void tell_remapped(struct mem *m, u64 gpa, u64 len)
{
    pthread_rwlock_rdlock(&m->listen_lock);
    for (unsigned i = 0; i < m->listeners; i++) {
        if (m->listener[i].remapped)
            m->listener[i].remapped(m->listener[i].ctx, gpa, len);
    }
    pthread_rwlock_unlock(&m->listen_lock);
}

void tell_code_written(struct mem *m, u64 gpa, u64 len)
{
    pthread_rwlock_rdlock(&m->listen_lock);
    for (unsigned i = 0; i < m->listeners; i++) {
        if (m->listener[i].code_written)
            m->listener[i].code_written(m->listener[i].ctx, gpa, len);
    }
    pthread_rwlock_unlock(&m->listen_lock);
}

static void tell_switched(struct mem *m, bool on)
{
    pthread_rwlock_rdlock(&m->listen_lock);
    for (unsigned i = 0; i < m->listeners; i++) {
        if (m->listener[i].dirty_switched)
            m->listener[i].dirty_switched(m->listener[i].ctx, on);
    }
    pthread_rwlock_unlock(&m->listen_lock);
}

static void collect(struct mem *m, const struct slot *s)
{
    pthread_rwlock_rdlock(&m->listen_lock);
    for (unsigned i = 0; i < m->listeners; i++) {
        if (m->listener[i].dirty_collect)
            m->listener[i].dirty_collect(m->listener[i].ctx, s->gpa, s->size, s->backing->dirty);
    }
    pthread_rwlock_unlock(&m->listen_lock);
}

/* ---- the log ---- */

static void tell_all_remapped(struct mem *m)
{
    struct slot_table t;

    slot_snapshot(m, &t);
    for (u64 i = 0; i < t.n; i++)
        tell_remapped(m, t.slot[i].gpa, t.slot[i].size);
}

int mem_dirty_start(struct mem *m)
{
    struct slot_table t;

    lock_take(&m->lock);
    slot_snapshot(m, &t);
    for (u64 i = 0; i < t.n; i++)
        bitmap_clear(t.slot[i].backing->dirty, t.slot[i].size);
    __atomic_store_n(&m->dirty_on, true, __ATOMIC_SEQ_CST);
    lock_drop(&m->lock);
    tell_switched(m, true);
    tell_all_remapped(m);
    return 0;
}

int mem_dirty_fetch(struct mem *m, u64 slot_gpa, u8 *bitmap, size_t bytes)
{
    struct slot s;
    u64 pages;

    if (!slot_find(m, slot_gpa, &s) || s.gpa != slot_gpa)
        return -ENOENT;
    pages = s.size >> PAGE_SHIFT;
    if (bytes != (pages + 7) / 8)
        return -EINVAL;
    if (!__atomic_load_n(&m->dirty_on, __ATOMIC_ACQUIRE))
        return -EINVAL;
    collect(m, &s);
    for (u64 i = 0; i < (pages + 63) / 64; i++) {
        u64 *word = &s.backing->dirty[i], bits = 0;
        if (__atomic_load_n(word, __ATOMIC_RELAXED))
            bits = __atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST);
        memcpy(bitmap + i * 8, &bits, MIN((size_t)8, bytes - i * 8));
    }
    /* A vCPU may have written a page whose bit is clear now, with the permission the bit gave it.
     * It is in the bitmap handed out, so its writer is seen as long as the caller copies pages
     * after this. */
    tell_remapped(m, s.gpa, s.size);
    return 0;
}

void mem_dirty_stop(struct mem *m)
{
    __atomic_store_n(&m->dirty_on, false, __ATOMIC_SEQ_CST);
    tell_switched(m, false);
    tell_all_remapped(m);
}
