/* ibtc.c - jump caches: linear RIP to translated code, a table for each address space */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/bloom.h"
#include "engine/bt/cache.h"

static u32 new_gen(void)
{
    static u32 gens; /* of all tables of the process, so that a number says which table it is */
    u32 gen;

    while (!(gen = __atomic_add_fetch(&gens, 1, __ATOMIC_RELAXED)))
        ;
    return gen;
}

static struct ibtc_entry *entries_alloc(u32 n)
{
    struct ibtc_entry *e = aligned_alloc(64, n * sizeof(*e));

    for (u32 i = 0; e && i < n; i++)
        e[i] = (struct ibtc_entry){IBTC_EMPTY(i), NULL};
    return e;
}

/* Where the stub's address lies. */
static u64 shadow_top(const struct ibtc *t)
{
    return (u64)(uintptr_t)t->shadow + 2 * SHADOW_BYTES - 16;
}

struct ibtc *ibtc_create(u32 pages, const u8 *underflow)
{
    struct ibtc *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->gen = new_gen();
    t->mask = IBTC_START - 1;
    t->e = entries_alloc(IBTC_START);
    t->base_bytes = pages * sizeof(*t->base);
    t->base = cache_reserve(t->base_bytes);
    t->shadow = aligned_alloc(2 * SHADOW_BYTES, 2 * SHADOW_BYTES);
    if (!t->e || !t->base || !t->shadow) {
        ibtc_destroy(t);
        return NULL;
    }
    t->shadow_sp = shadow_top(t);
    memcpy((void *)(uintptr_t)t->shadow_sp, &underflow, sizeof(underflow));
    return t;
}

void ibtc_destroy(struct ibtc *t)
{
    if (!t)
        return;
    if (t->base)
        munmap(t->base, t->base_bytes);
    free(t->shadow);
    free(t->e);
    free(t);
}

void ibtc_clear(struct ibtc *t)
{
    if (!t->used)
        return;
    for (u32 i = 0; i <= t->mask; i++)
        t->e[i] = (struct ibtc_entry){IBTC_EMPTY(i), NULL};
    memset(t->pages, 0, sizeof(t->pages));
    t->used = t->local = false;
    t->evicted = 0;
    t->gen = new_gen();
    t->shadow_sp = shadow_top(t);
}

/* Twice as many entries; the old ones stay. Without memory for it nothing changes. */
static void grow(struct ibtc *t)
{
    u32 n = (t->mask + 1) * 2;
    struct ibtc_entry *old = t->e, *e = entries_alloc(n);

    t->evicted = 0;
    if (!e)
        return;
    u32 old_mask = t->mask;
    t->e = e;
    t->mask = n - 1;
    for (u32 i = 0; i <= old_mask; i++)
        if (old[i].host)
            *ibtc_at(t, old[i].rip) = old[i];
    free(old);
}

void ibtc_add(struct ibtc *t, u64 rip, u64 lin, bool local, const u8 *host)
{
    struct ibtc_entry *e = ibtc_at(t, rip);

    if (e->host && e->rip != rip && ++t->evicted > t->mask / 4 && t->mask + 1 < IBTC_MAX) {
        grow(t);
        e = ibtc_at(t, rip);
    }
    *e = (struct ibtc_entry){rip, host};
    t->used = true;
    ibtc_add_page(t, lin, local);
}

void ibtc_add_page(struct ibtc *t, u64 lin, bool local)
{
    t->local |= local;
    bloom_add(t->pages, IBTC_PAGES_BITS, lin >> 12);
}

bool ibtc_has_page(const struct ibtc *t, u64 lin)
{
    return bloom_has(t->pages, IBTC_PAGES_BITS, lin >> 12);
}
