/* cache.h - the code cache: host code of translation blocks, found by guest-physical address */
#pragma once

#include "engine/bt/bt.h"

/* One a VM, shared by its vCPUs. Code lies in regions that fill one after the other; when all are
 * full the oldest is evicted as a whole. `lock` guards everything below. Functions named _locked
 * want it held.
 *
 * While other vCPUs run in translated code these changes are made, all of them by aligned 4-byte
 * stores: a link gets its target for the first time, or the same one again; a link goes back to its
 * stub; a guard changes. A vCPU inside a dropped block runs on to its end, as processors do that
 * have fetched an instruction before another one changes it; everything that the block needs there
 * (the bytes of its instructions too) stays in its region. Functions named _alone do the rest, and
 * want all other vCPUs stopped as well (stop.h). What a block found without the lock says (all but
 * `dead`) is constant while `epoch` is. */
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
    u32 epoch;   /* counts evictions; changes while no other vCPU runs */
    bool shared; /* by several vCPUs */
    u32 dropped; /* blocks whose entries are to be overwritten, through hash_next */
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
/* Whether several vCPUs use it; while none runs. */
void cache_share(struct cache *c, bool shared);

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

/* Whether the current region has room for another block. */
bool cache_has_room_locked(const struct cache *c);
/* Goes on to the next region and evicts what it holds. Evicting counts up `epoch`: jump caches and
 * resume addresses from before are void then. */
void cache_make_room_alone_locked(struct cache *c);
/* With room: a fresh block (not yet found by anyone); code may be written from buf.w + region.used
 * and region.cold_used on. */
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
 * have had another target before; one that gets ever new ones has none in the end. False: it has
 * another target now, which is for cache_link_far_alone_locked to change. */
bool cache_link_far_locked(struct cache *c, struct link *l, struct tb *target, u64 rip, u32 gen);
void cache_link_far_alone_locked(struct cache *c, struct link *l, struct tb *target, u64 rip,
                                 u32 gen);

/* Bytes [gpa, gpa + len) changed: drops the blocks that contain them, or all of the page when more
 * and more of it is written. True when one was dropped. Where several vCPUs share the cache, jump
 * caches may still enter dropped blocks until cache_close_dropped_alone. */
bool cache_invalidate_locked(struct cache *c, u64 gpa, u64 len);
bool cache_invalidate(struct cache *c, u64 gpa, u64 len); /* takes the lock */
/* Makes the entries of dropped blocks lead to C. */
bool cache_to_close(struct cache *c);            /* there are such; takes the lock */
void cache_close_dropped_alone(struct cache *c); /* takes the lock */
/* Drops every block. Takes the lock. */
void cache_flush_alone(struct cache *c);

static inline bool tb_dead(const struct tb *tb)
{
    return __atomic_load_n(&tb->dead, __ATOMIC_RELAXED);
}

static inline u32 tb_index(const struct cache *c, const struct tb *tb)
{
    return (u32)(tb - c->tbs);
}

/* RIP at an offset in the page of a block that translated code is in or came from. */
static inline u64 rip_at(const struct engine_vcpu *v, u32 tb, s64 off)
{
    return v->base[v->vm->cache->tbs[tb].page].rip + (u64)off;
}
