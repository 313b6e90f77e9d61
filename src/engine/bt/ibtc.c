/* ibtc.c - jump caches: linear RIP to translated code, a table for each address space */
#include <stdlib.h>
#include <sys/mman.h>

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

/* Each hash is other 15 bits of one product. */
static unsigned page_bit(u64 product, unsigned hash)
{
    return product >> (49 - 15 * hash) & (IBTC_PAGES_BITS - 1);
}

static u64 page_product(u64 lin)
{
    return (lin >> 12) * 0x9e3779b97f4a7c15ull;
}

void ibtc_add_page(struct ibtc *t, u64 lin, bool local)
{
    u64 product = page_product(lin);

    t->local |= local;
    for (unsigned i = 0; i < IBTC_PAGES_HASHES; i++) {
        unsigned bit = page_bit(product, i);
        t->pages[bit / 64] |= BIT64(bit % 64);
    }
}

bool ibtc_has_page(const struct ibtc *t, u64 lin)
{
    u64 product = page_product(lin);

    for (unsigned i = 0; i < IBTC_PAGES_HASHES; i++) {
        unsigned bit = page_bit(product, i);
        if (!(t->pages[bit / 64] >> (bit % 64) & 1))
            return false;
    }
    return true;
}
