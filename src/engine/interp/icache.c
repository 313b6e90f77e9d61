/* icache.c - decode cache keyed by guest-physical page */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "engine/interp/icache.h"

#define ARENA_BYTES    (96 * MiB) /* reserved, touched as it fills; full means a flush */
#define HASH_BITS      16
#define PAGE_HASH_BITS 14
#define GRANULE_SHIFT  6 /* 64 granules of 64 bytes in a page */

struct ipage {
    u64 gpa;
    u64 granules; /* bit per granule that holds code */
    struct iblock *blocks;
    struct ipage *next; /* in its hash chain */
};

/* Blocks and pages are bump-allocated and never freed one by one. */
struct icache {
    struct iblock *hash[1u << HASH_BITS]; /* direct-mapped: a collision costs a rebuild */
    struct ipage *pages[1u << PAGE_HASH_BITS];
    u8 *arena;
    size_t used;
    struct mem *mem;
    void (*drop_writes)(void *ctx, u64 gpa_page);
    void *ctx;
    struct icache_stats stats;
};

static unsigned block_hash(u64 gpa, u8 mode)
{
    return (gpa ^ gpa >> HASH_BITS ^ (u64)mode << 11) & ((1u << HASH_BITS) - 1);
}

static unsigned page_hash(u64 gpa)
{
    return (gpa >> PAGE_SHIFT ^ gpa >> (PAGE_SHIFT + PAGE_HASH_BITS)) &
           ((1u << PAGE_HASH_BITS) - 1);
}

int icache_create(struct icache **out, struct mem *mem,
                  void (*drop_writes)(void *ctx, u64 gpa_page), void *ctx, struct err *e)
{
    struct icache *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, ENOMEM, "no memory for the decode cache");
    c->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->arena == MAP_FAILED) {
        free(c);
        return err_set(e, ENOMEM, "cannot reserve %llu MiB of address space for the decode cache",
                       ARENA_BYTES / MiB);
    }
    c->mem = mem;
    c->drop_writes = drop_writes;
    c->ctx = ctx;
    *out = c;
    return 0;
}

void icache_destroy(struct icache *c)
{
    if (!c)
        return;
    munmap(c->arena, ARENA_BYTES);
    free(c);
}

u8 icache_mode(const struct x86_cpu *cpu)
{
    return cpu->code_bits >> 4 | cpu->prot << 3 | cpu->lma << 4;
}

struct iblock *icache_find(const struct icache *c, u64 gpa, u8 mode)
{
    struct iblock *b = c->hash[block_hash(gpa, mode)];
    return b && b->gpa == gpa && b->mode == mode ? b : NULL;
}

static struct ipage *find_page(const struct icache *c, u64 gpa)
{
    for (struct ipage *p = c->pages[page_hash(gpa)]; p; p = p->next)
        if (p->gpa == (gpa & ~PAGE_MASK))
            return p;
    return NULL;
}

static void *arena_take(struct icache *c, size_t bytes)
{
    void *p = c->arena + c->used;
    c->used += align_up(bytes, 16);
    return p;
}

static struct ipage *get_page(struct icache *c, u64 gpa)
{
    struct ipage *p = find_page(c, gpa);
    if (!p) {
        p = arena_take(c, sizeof(*p));
        struct ipage **chain = &c->pages[page_hash(gpa)];
        *p = (struct ipage){.gpa = gpa & ~PAGE_MASK, .next = *chain};
        *chain = p;
    }
    if (!p->blocks) {
        mem_code_mark(c->mem, p->gpa);
        c->drop_writes(c->ctx, p->gpa);
    }
    return p;
}

/* Granules of a page that the bytes [from, from + len) of it touch. */
static u64 granule_mask(unsigned from, unsigned len)
{
    unsigned first = from >> GRANULE_SHIFT;
    unsigned last = MIN((from + len - 1) >> GRANULE_SHIFT, 63u);
    u64 upto = last == 63 ? ~0ull : BIT64(last + 1) - 1;
    return upto & ~(BIT64(first) - 1);
}

struct iblock *icache_add(struct icache *c, u64 gpa, u64 gpa2, u8 mode, const struct x86_insn *insn,
                          unsigned n, unsigned bytes)
{
    size_t size = sizeof(struct iblock) + n * sizeof(*insn);
    if (c->used + size + 2 * sizeof(struct ipage) + 256 > ARENA_BYTES)
        icache_flush(c);

    struct ipage *page = get_page(c, gpa), *page2 = NULL;
    struct iblock *b = arena_take(c, size);
    *b = (struct iblock){.gpa = gpa, .gpa2 = gpa2, .bytes = bytes, .mode = mode, .n = n};
    memcpy(b->insn, insn, n * sizeof(*insn));
    b->same_page[0] = page->blocks;
    page->blocks = b;
    unsigned in_first = MIN(bytes, PAGE_BYTES - (unsigned)(gpa & PAGE_MASK));
    page->granules |= granule_mask(gpa & PAGE_MASK, in_first);
    if (gpa2 != ~0ull) {
        page2 = get_page(c, gpa2);
        b->same_page[1] = page2->blocks;
        page2->blocks = b;
        page2->granules |= granule_mask(0, bytes - in_first);
    }
    c->hash[block_hash(gpa, mode)] = b;
    c->stats.blocks_built++;
    return b;
}

/* Drops every block of the page. A block that also lies in another page stays on that page's list,
 * unhashed. */
static void drop_page(struct icache *c, struct ipage *p)
{
    for (struct iblock *b = p->blocks, *next; b; b = next) {
        next = (b->gpa & ~PAGE_MASK) == p->gpa ? b->same_page[0] : b->same_page[1];
        struct iblock **slot = &c->hash[block_hash(b->gpa, b->mode)];
        if (*slot == b)
            *slot = NULL;
        c->stats.blocks_dropped++;
    }
    p->blocks = NULL;
    p->granules = 0;
    mem_code_clear(c->mem, p->gpa);
}

bool icache_invalidate(struct icache *c, u64 gpa, u64 len)
{
    bool dropped = false;

    c->stats.smc_writes++;
    for (u64 end = gpa + len; gpa < end; gpa = (gpa | PAGE_MASK) + 1) {
        struct ipage *p = find_page(c, gpa);
        if (!p || !p->blocks)
            continue;
        unsigned from = gpa & PAGE_MASK;
        u64 here = MIN(end - gpa, PAGE_BYTES - from);
        if (p->granules & granule_mask(from, here)) {
            drop_page(c, p);
            dropped = true;
        }
    }
    return dropped;
}

void icache_flush(struct icache *c)
{
    for (unsigned i = 0; i < 1u << PAGE_HASH_BITS; i++)
        for (struct ipage *p = c->pages[i]; p; p = p->next)
            if (p->blocks)
                mem_code_clear(c->mem, p->gpa);
    memset(c->hash, 0, sizeof(c->hash));
    memset(c->pages, 0, sizeof(c->pages));
    c->used = 0;
    c->stats.flushes++;
}

const struct icache_stats *icache_stats(const struct icache *c)
{
    return &c->stats;
}
