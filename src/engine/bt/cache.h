/* cache.h - the code cache: host code of translation blocks, found by guest-physical address */
#pragma once

#include "engine/bt/bt.h"

/* One a VM, shared by its vCPUs. Code lies in regions that fill one after the other; when all are
 * full the oldest is evicted as a whole. `lock` guards everything below. Linking changes code that
 * may be executing by aligned 4-byte stores only (displacement, guard). Dropping a block also
 * overwrites the start of its code, and evicting hands the code's place to others: with more than
 * one running vCPU the others must be called out of translated code first, which nothing does yet.
 * Functions named _locked want the lock held. */
#define CACHE_REGIONS   8
#define CACHE_MIN_BYTES (512 * KiB)
#define CACHE_STUBS     (16 * KiB)
#define BLOCK_CODE_MAX  (20 * KiB) /* what one block may take of each part */
#define BLOCK_LINKS_MAX 192

struct cpage;

struct cregion {
    u32 start, end, used;                /* hot code: offsets in the buffer */
    u32 cold_start, cold_end, cold_used; /* what blocks seldom run lies apart */
    u32 tb_first, tb_end, tb_used;
    u32 link_first, link_end, link_used;
    u32 insn_first, insn_end, insn_used;
    u32 backed, cold_backed; /* up to where the host was asked for pages */
};

struct cache {
    struct lock lock;
    struct wxbuf buf;
    struct mem *mem;
    struct bt_stats *stats;
    struct cregion region[CACHE_REGIONS];
    unsigned current;
    u32 epoch; /* counts evictions; atomic */
    struct tb *tbs;
    struct link *links;
    u32 *hash;
    struct cpage **pages;
    struct cpage *page_pool, *free_pages;
    u32 pool_used, npages; /* numbers of pages: 0 to npages - 1 */
    struct x86_insn *insns;
    size_t tbs_bytes, links_bytes, insns_bytes, pool_bytes;
};

/* Zeros that take memory when they are touched; freed by munmap. NULL: no memory. */
void *cache_reserve(size_t bytes);

must_check int cache_create(struct cache **out, struct mem *mem, size_t bytes,
                            struct bt_stats *stats, struct err *e);
void cache_destroy(struct cache *c);

static inline const u8 *cache_x(const struct cache *c, u32 off)
{
    return c->buf.x + off;
}

static inline u32 cache_off(const struct cache *c, const void *x)
{
    return (u32)((const u8 *)x - c->buf.x);
}

/* The block at gpa for mode, or NULL. */
struct tb *cache_find_locked(struct cache *c, u64 gpa, u32 mode);

/* Makes room for a block in the current region, evicting the next one when it is full: *tb is a
 * fresh block (not yet found by anyone) and code may be written from buf.w + region.used and
 * region.cold_used on.
 * Evicting counts up `epoch`: jump caches and resume addresses from before are void then. */
struct tb *cache_begin_locked(struct cache *c);
/* The number of a page that will hold the block. */
u32 cache_page_locked(struct cache *c, u64 gpa);
/* Takes it in: the offsets are those behind its code. */
void cache_commit_locked(struct cache *c, struct tb *tb, u32 end, u32 cold_end);
struct link *cache_link_add_locked(struct cache *c, struct tb *tb);
/* Keeps a copy while the region lives; returns its number for cache_insn. */
u32 cache_insn_add_locked(struct cache *c, const struct x86_insn *in);
const struct x86_insn *cache_insn(const struct cache *c, u32 n);

/* Lets a link without a guard lead to its target's code. Does nothing when it does already or the
 * target is dropped. */
void cache_link_locked(struct cache *c, struct link *l, struct tb *target);
/* The same for one with a guard, to the code at `rip`, while engine_vcpu.link_gen is `gen`. It may
 * have had another target before; one that gets ever new ones has none in the end. */
void cache_link_far_locked(struct cache *c, struct link *l, struct tb *target, u64 rip, u32 gen);

/* Bytes [gpa, gpa + len) changed: drops the blocks that contain them, or all of the page when more
 * and more of it is written. True when one was dropped. Takes the lock. */
bool cache_invalidate(struct cache *c, u64 gpa, u64 len);
/* Drops every block. Takes the lock. */
void cache_flush(struct cache *c);

static inline u32 tb_index(const struct cache *c, const struct tb *tb)
{
    return (u32)(tb - c->tbs);
}

/* RIP at an offset in the page of a block that translated code is in or came from. */
static inline u64 rip_at(const struct engine_vcpu *v, u32 tb, s64 off)
{
    return v->base[v->vm->cache->tbs[tb].page].rip + (u64)off;
}
