/* cache.c - the code cache: regions, blocks by address and page, links between blocks */
#include "engine/bt/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "mem/mem.h"

#define HASH_BITS      16
#define PAGE_HASH_BITS 14
#define GRANULE_SHIFT  6 /* 64 granules of 64 bytes in a page */
#define BACK_BYTES     (256 * KiB)
#define TB_CODE_MIN    96 /* host bytes a block takes at least: sizes the table of blocks */

struct cpage {
    u64 gpa;
    u64 granules; /* a bit for each that holds code */
    u32 blocks;
    u16 run_end, run; /* bytes of code just written one after the other, and where they end */
    struct cpage *next;
};

/* --- create and destroy ----------------------------------------------------------------------- */

void *cache_reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void layout_regions(struct cache *c)
{
    u32 bytes = (u32)((c->buf.size - CACHE_STUBS) / CACHE_REGIONS) & ~63u;

    for (unsigned i = 0; i < CACHE_REGIONS; i++) {
        struct cregion *r = &c->region[i];
        r->start = r->used = r->backed = CACHE_STUBS + i * bytes;
        r->end = r->cold_start = r->cold_used = r->cold_backed = r->start + bytes / 2;
        r->cold_end = r->start + bytes;
        r->tb_first = r->tb_used = 1 + i * (bytes / TB_CODE_MIN);
        r->tb_end = r->tb_first + bytes / TB_CODE_MIN;
        r->link_first = r->link_used = 1 + i * (bytes / 32);
        r->link_end = r->link_first + bytes / 32;
        r->insn_first = r->insn_used = i * (bytes / 64);
        r->insn_end = r->insn_first + bytes / 64;
    }
}

int cache_create(struct cache **out, struct mem *mem, size_t bytes, struct bt_stats *stats,
                 struct err *e)
{
    struct cache *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, ENOMEM, "no memory for the code cache");
    lock_init(&c->lock);
    c->mem = mem;
    c->stats = stats;
    int rc = wxbuf_create(&c->buf, MAX(bytes, CACHE_MIN_BYTES) + CACHE_STUBS, e);
    if (rc) {
        cache_destroy(c);
        return rc;
    }
    layout_regions(c);
    c->tbs_bytes = c->region[CACHE_REGIONS - 1].tb_end * sizeof(struct tb);
    c->links_bytes = c->region[CACHE_REGIONS - 1].link_end * sizeof(struct link);
    c->tbs = cache_reserve(c->tbs_bytes);
    c->links = cache_reserve(c->links_bytes);
    c->hash = calloc(1u << HASH_BITS, sizeof(*c->hash));
    c->pages = calloc(1u << PAGE_HASH_BITS, sizeof(struct cpage *));
    c->npages = 2 * c->region[CACHE_REGIONS - 1].tb_end; /* two for each block at most */
    c->pool_bytes = c->npages * sizeof(struct cpage);
    c->page_pool = cache_reserve(c->pool_bytes);
    c->insns_bytes = c->region[CACHE_REGIONS - 1].insn_end * sizeof(struct x86_insn);
    c->insns = cache_reserve(c->insns_bytes);
    if (!c->tbs || !c->links || !c->hash || !c->pages || !c->page_pool || !c->insns) {
        cache_destroy(c);
        return err_set(e, ENOMEM, "no memory for the code cache");
    }
    *out = c;
    return 0;
}

void cache_destroy(struct cache *c)
{
    if (!c)
        return;
    free(c->pages);
    free(c->hash);
    if (c->tbs)
        munmap(c->tbs, c->tbs_bytes);
    if (c->links)
        munmap(c->links, c->links_bytes);
    if (c->page_pool)
        munmap(c->page_pool, c->pool_bytes);
    if (c->insns)
        munmap(c->insns, c->insns_bytes);
    wxbuf_destroy(&c->buf);
    lock_destroy(&c->lock);
    free(c);
}

void cache_share(struct cache *c, bool shared)
{
    c->shared = shared;
}

/* --- pages ------------------------------------------------------------------------------------ */

static unsigned page_hash(u64 gpa)
{
    return (gpa >> PAGE_SHIFT ^ gpa >> (PAGE_SHIFT + PAGE_HASH_BITS)) &
           ((1u << PAGE_HASH_BITS) - 1);
}

static struct cpage *find_page(const struct cache *c, u64 gpa)
{
    for (struct cpage *p = c->pages[page_hash(gpa)]; p; p = p->next)
        if (p->gpa == (gpa & ~PAGE_MASK))
            return p;
    return NULL;
}

static struct cpage *get_page(struct cache *c, u64 gpa)
{
    struct cpage *p = find_page(c, gpa);

    if (p)
        return p;
    p = c->free_pages;
    if (p)
        c->free_pages = p->next;
    else
        p = &c->page_pool[c->pool_used++];
    struct cpage **chain = &c->pages[page_hash(gpa)];
    *p = (struct cpage){.gpa = gpa & ~PAGE_MASK, .next = *chain};
    *chain = p;
    return p;
}

u32 cache_page_locked(struct cache *c, u64 gpa)
{
    return (u32)(get_page(c, gpa) - c->page_pool);
}

static void free_page(struct cache *c, struct cpage *p)
{
    struct cpage **at = &c->pages[page_hash(p->gpa)];

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    mem_code_clear(c->mem, p->gpa);
    p->next = c->free_pages;
    c->free_pages = p;
}

/* Granules of a page that the bytes [from, from + len) of it touch. */
static u64 granule_mask(unsigned from, unsigned len)
{
    unsigned first = from >> GRANULE_SHIFT;
    unsigned last = MIN((from + len - 1) >> GRANULE_SHIFT, 63u);
    u64 upto = last == 63 ? ~0ull : BIT64(last + 1) - 1;

    return upto & ~(BIT64(first) - 1);
}

/* Which of a block's two page links belongs to the page. */
static unsigned page_slot(const struct tb *tb, const struct cpage *p)
{
    return (tb->gpa & ~PAGE_MASK) == p->gpa ? 0 : 1;
}

static void page_remove(struct cache *c, u64 gpa, u32 index)
{
    struct cpage *p = find_page(c, gpa);
    u32 *at;

    if (!p)
        return;
    for (at = &p->blocks; *at; at = &c->tbs[*at].page_next[page_slot(&c->tbs[*at], p)])
        if (*at == index) {
            *at = c->tbs[index].page_next[page_slot(&c->tbs[index], p)];
            break;
        }
    if (!p->blocks)
        free_page(c, p);
}

/* --- links ------------------------------------------------------------------------------------ */

static void patch(struct cache *c, u32 field, u32 to)
{
    s32 rel = (s32)(to - (field + 4));

    __atomic_store_n((s32 *)(void *)(c->buf.w + field), rel, __ATOMIC_RELEASE);
}

static void set_guard(struct cache *c, const struct link *l, u32 gen)
{
    __atomic_store_n((u32 *)(void *)(c->buf.w + l->guard), gen, __ATOMIC_RELEASE);
}

static void unlink_one(struct cache *c, struct link *l)
{
    l->tb_to = l->next_in = 0;
    if (l->guard)
        set_guard(c, l, 0);
    else
        patch(c, l->field, l->unlinked);
}

static void remove_in(struct cache *c, struct link *l)
{
    u32 *at = &c->tbs[l->tb_to].links_in;

    while (&c->links[*at] != l)
        at = &c->links[*at].next_in;
    *at = l->next_in;
}

static void link_to(struct cache *c, struct link *l, struct tb *target)
{
    l->tb_to = tb_index(c, target);
    l->next_in = target->links_in;
    target->links_in = (u32)(l - c->links);
    patch(c, l->field, l->flags_saved ? target->entry_saved : target->entry_native);
    c->stats->links++;
}

void cache_link_locked(struct cache *c, struct link *l, struct tb *target)
{
    if (!target->dead && !l->tb_to)
        link_to(c, l, target);
}

/* False: the target changes too often. C is not asked any more then. */
static bool set_rip(struct cache *c, struct link *l, u64 rip)
{
    u8 *at = c->buf.w + l->rip;

    if (!memcmp(at, &rip, sizeof(rip)))
        return true;
    if (l->changes++ == LINK_CHANGES_MAX)
        patch(c, l->remake, l->remake + 4);
    memcpy(at, &rip, sizeof(rip));
    return l->changes <= LINK_CHANGES_MAX;
}

/* Whether some vCPU may be between the guard of a link and its jump, on the way to elsewhere. */
static bool retargets(const struct cache *c, const struct link *l, const struct tb *target, u64 rip)
{
    s32 rel = (s32)(target->entry_saved - (l->field + 4));

    return l->was_set && (memcmp(c->buf.w + l->field, &rel, sizeof(rel)) ||
                          (l->rip && memcmp(c->buf.w + l->rip, &rip, sizeof(rip))));
}

bool cache_link_far_locked(struct cache *c, struct link *l, struct tb *target, u64 rip, u32 gen)
{
    if (c->shared && retargets(c, l, target, rip))
        return l->retargets++ >= LINK_CHANGES_MAX;
    cache_link_far_alone_locked(c, l, target, rip, gen);
    return true;
}

void cache_link_far_alone_locked(struct cache *c, struct link *l, struct tb *target, u64 rip,
                                 u32 gen)
{
    if (l->tb_to) { /* the generation has changed, the target perhaps too */
        remove_in(c, l);
        unlink_one(c, l);
    }
    if (target->dead || (l->rip && !set_rip(c, l, rip)))
        return;
    link_to(c, l, target);
    set_guard(c, l, gen);
    l->was_set = true;
}

static void unlink_in(struct cache *c, struct tb *tb)
{
    for (u32 i = tb->links_in, next; i; i = next) {
        next = c->links[i].next_in;
        unlink_one(c, &c->links[i]);
    }
    tb->links_in = 0;
}

static void unlink_out(struct cache *c, struct tb *tb)
{
    for (u32 k = 0; k < tb->nlinks; k++) {
        struct link *l = &c->links[tb->link_first + k];
        if (!l->tb_to)
            continue;
        remove_in(c, l);
        unlink_one(c, l);
    }
}

/* --- blocks ----------------------------------------------------------------------------------- */

static unsigned block_hash(u64 gpa, u32 mode)
{
    return (unsigned)(gpa ^ gpa >> HASH_BITS ^ mode * 0x9e37u) & ((1u << HASH_BITS) - 1);
}

struct tb *cache_find_locked(struct cache *c, u64 gpa, u32 mode)
{
    for (u32 i = c->hash[block_hash(gpa, mode)]; i; i = c->tbs[i].hash_next)
        if (c->tbs[i].gpa == gpa && c->tbs[i].mode == mode)
            return &c->tbs[i];
    return NULL;
}

/* Replaces the first bytes of an entry by a jump. */
static void patch_entry(struct cache *c, u32 entry, u32 to)
{
    u8 *at = c->buf.w + entry;

    *at = 0xe9;
    patch_rel32(at + 1, c->buf.w + to);
}

/* Takes a block out of everything that could lead to it, but for jump caches. It may still be
 * executing. */
static void kill_block(struct cache *c, struct tb *tb)
{
    u32 index = tb_index(c, tb), *at = &c->hash[block_hash(tb->gpa, tb->mode)];

    if (tb->dead)
        return;
    __atomic_store_n(&tb->dead, true, __ATOMIC_RELAXED);
    while (*at != index)
        at = &c->tbs[*at].hash_next;
    *at = tb->hash_next;
    tb->hash_next = c->dropped;
    c->dropped = index;
    unlink_in(c, tb);
    unlink_out(c, tb);
    page_remove(c, tb->gpa, index);
    if (tb->gpa2 != ~0ull)
        page_remove(c, tb->gpa2, index);
    c->stats->dropped++;
}

/* Entries of dropped blocks lead to C from now on, for jump caches that still name them. */
static void close_dropped(struct cache *c)
{
    for (u32 i = c->dropped; i; i = c->tbs[i].hash_next) {
        const struct tb *tb = &c->tbs[i];
        patch_entry(c, tb->entry_saved, tb->dead_saved);
        if (tb->entry_native != tb->entry_saved)
            patch_entry(c, tb->entry_native, tb->dead_native);
    }
    c->dropped = 0;
}

static void evict(struct cache *c, struct cregion *r)
{
    u64 dropped = c->stats->dropped;

    for (u32 i = r->tb_first; i < r->tb_used; i++)
        kill_block(c, &c->tbs[i]);
    close_dropped(c);
    c->stats->dropped = dropped;
    r->used = r->start;
    r->cold_used = r->cold_start;
    r->tb_used = r->tb_first;
    r->link_used = r->link_first;
    r->insn_used = r->insn_first;
    c->stats->evictions++;
    c->epoch++;
}

static bool region_full(const struct cregion *r)
{
    return r->end - r->used < BLOCK_CODE_MAX || r->cold_end - r->cold_used < BLOCK_CODE_MAX ||
           r->tb_used == r->tb_end || r->link_end - r->link_used < BLOCK_LINKS_MAX ||
           r->insn_end - r->insn_used < BLOCK_LINKS_MAX;
}

/* Asks the host for the next pages of code at once: there would be a fault for each, in both
 * views. */
static void back(struct cache *c, u32 *backed, u32 used, u32 end)
{
    u32 first = *backed & ~(u32)PAGE_MASK;

    if (likely(used + BLOCK_CODE_MAX <= *backed || *backed >= end))
        return;
    *backed = MIN(MAX(*backed, used) + BACK_BYTES, end);
    if (!madvise(c->buf.w + first, *backed - first, MADV_POPULATE_WRITE))
        (void)madvise((void *)(c->buf.x + first), *backed - first, MADV_POPULATE_READ);
}

bool cache_has_room_locked(const struct cache *c)
{
    return !region_full(&c->region[c->current]);
}

void cache_make_room_alone_locked(struct cache *c)
{
    c->current = (c->current + 1) % CACHE_REGIONS;
    if (c->region[c->current].tb_used != c->region[c->current].tb_first)
        evict(c, &c->region[c->current]);
}

struct tb *cache_begin_locked(struct cache *c)
{
    struct cregion *r = &c->region[c->current];
    struct tb *tb = &c->tbs[r->tb_used];

    ASSERT(cache_has_room_locked(c));
    back(c, &r->backed, r->used, r->end);
    back(c, &r->cold_backed, r->cold_used, r->cold_end);
    *tb = (struct tb){.link_first = r->link_used, .gpa2 = ~0ull};
    return tb;
}

struct link *cache_link_add_locked(struct cache *c, struct tb *tb)
{
    struct cregion *r = &c->region[c->current];
    struct link *l = &c->links[r->link_used++];

    *l = (struct link){.tb = tb_index(c, tb)};
    tb->nlinks++;
    return l;
}

u32 cache_insn_add_locked(struct cache *c, const struct x86_insn *in)
{
    u32 n = c->region[c->current].insn_used++;

    c->insns[n] = *in;
    return n;
}

const struct x86_insn *cache_insn(const struct cache *c, u32 n)
{
    return &c->insns[n];
}

static void page_add(struct cache *c, u64 gpa, u32 index, unsigned slot, u64 granules)
{
    struct cpage *p = get_page(c, gpa);

    c->tbs[index].page_next[slot] = p->blocks;
    p->blocks = index;
    p->granules |= granules;
}

void cache_commit_locked(struct cache *c, struct tb *tb, u32 end, u32 cold_end)
{
    struct cregion *r = &c->region[c->current];
    u32 index = tb_index(c, tb), *chain = &c->hash[block_hash(tb->gpa, tb->mode)];
    unsigned in_first = MIN((unsigned)tb->bytes, PAGE_BYTES - (unsigned)(tb->gpa & PAGE_MASK));

    r->tb_used++;
    r->used = (end + 15) & ~15u;
    tb->host_end = end;
    r->cold_used = (cold_end + 3) & ~3u;
    page_add(c, tb->gpa, index, 0, granule_mask(tb->gpa & PAGE_MASK, in_first));
    if (tb->gpa2 != ~0ull)
        page_add(c, tb->gpa2, index, 1, granule_mask(0, tb->bytes - in_first));
    tb->hash_next = *chain;
    *chain = index;
}

static void drop_page(struct cache *c, struct cpage *p)
{
    u64 gpa = p->gpa;

    while ((p = find_page(c, gpa)) && p->blocks)
        kill_block(c, &c->tbs[p->blocks]);
}

/* Whether a block has bytes in [from, from + len) of a page it is listed in. */
static bool overlaps(const struct tb *tb, const struct cpage *p, unsigned from, unsigned len)
{
    unsigned start = tb->gpa & PAGE_MASK, end = start + tb->bytes;

    if (page_slot(tb, p) == 1) {
        start = 0;
        end -= PAGE_BYTES;
    }
    return start < from + len && from < end;
}

static bool drop_overlapping(struct cache *c, struct cpage *p, unsigned from, unsigned len)
{
    u64 gpa = p->gpa;
    bool dropped = false;

    for (u32 i = p->blocks, next; i; i = next) {
        next = c->tbs[i].page_next[page_slot(&c->tbs[i], p)];
        if (!overlaps(&c->tbs[i], p, from, len))
            continue;
        kill_block(c, &c->tbs[i]);
        dropped = true;
        if (!find_page(c, gpa)) /* that was the last */
            break;
    }
    return dropped;
}

/* A patch drops what it hits; a page that is written over, byte after byte, is code no more. */
#define OVERWRITE_BYTES 64
static bool page_written(struct cache *c, struct cpage *p, unsigned from, unsigned len)
{
    if (!(p->granules & granule_mask(from, len)))
        return false;
    p->run = (u16)(p->run_end == from ? p->run + len : len);
    p->run_end = (u16)(from + len);
    if (p->run < OVERWRITE_BYTES)
        return drop_overlapping(c, p, from, len);
    drop_page(c, p);
    return true;
}

bool cache_invalidate_locked(struct cache *c, u64 gpa, u64 len)
{
    bool dropped = false;

    c->stats->smc_writes++;
    for (u64 end = gpa + len; gpa < end; gpa = (gpa | PAGE_MASK) + 1) {
        struct cpage *p = find_page(c, gpa);
        unsigned from = gpa & PAGE_MASK;
        unsigned here = (unsigned)MIN(end - gpa, PAGE_BYTES - from);
        if (!p) {
            mem_code_clear(c->mem, gpa & ~PAGE_MASK);
            continue;
        }
        dropped |= page_written(c, p, from, here);
    }
    if (!c->shared)
        close_dropped(c);
    return dropped;
}

bool cache_invalidate(struct cache *c, u64 gpa, u64 len)
{
    lock_take(&c->lock);
    bool dropped = cache_invalidate_locked(c, gpa, len);
    lock_drop(&c->lock);
    return dropped;
}

bool cache_to_close(struct cache *c)
{
    lock_take(&c->lock);
    bool any = c->dropped != 0;
    lock_drop(&c->lock);
    return any;
}

void cache_close_dropped_alone(struct cache *c)
{
    lock_take(&c->lock);
    close_dropped(c);
    lock_drop(&c->lock);
}

void cache_flush_alone(struct cache *c)
{
    lock_take(&c->lock);
    for (unsigned i = 0; i < CACHE_REGIONS; i++)
        evict(c, &c->region[i]);
    lock_drop(&c->lock);
}
