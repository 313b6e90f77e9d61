/* bus.c - the map of a bus: who claims which addresses */
#include "mem/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "mem/busmap.h"

/* ---- the read side ---- */

/* Index of the last region at or below addr; a bounded guess while the map changes. */
static inline u64 search(const struct bus_map *m, u64 addr)
{
    u64 n = MIN(latch_load(&m->n), (u64)BUS_REGIONS_MAX), at = 0;

    while (n > 1) {
        u64 half = n / 2;
        at = latch_load(&m->base[at + half]) <= addr ? at + half : at;
        n -= half;
    }
    return at;
}

static inline struct region *lookup(const struct bus_map *m, u64 addr)
{
    u64 at;

    if (m->port) {
        u16 i = addr < BUS_PORTS ? latch_load(&m->port[addr]) : 0;
        return i && i <= BUS_REGIONS_MAX ? latch_load(&m->region[i - 1]) : NULL;
    }
    at = search(m, addr);
    if (at >= latch_load(&m->n))
        return NULL;
    return latch_load(&m->region[at]);
}

static inline void copy_region(struct region *to, const struct region *from)
{
    to->base = latch_load(&from->base);
    to->size = latch_load(&from->size);
    to->ops = latch_load(&from->ops);
    to->dev = latch_load(&from->dev);
    to->lock = latch_load(&from->lock);
    to->name = latch_load(&from->name);
}

/* Region structs are never freed before the bus, so reading one that was just removed is harmless;
 * the latch then discards what was read. */
bool bus_lookup(struct bus *b, u64 addr, struct region *r)
{
    const struct region *at;
    u32 seq;

    do {
        seq = latch_begin(&b->latch);
        at = lookup(&b->map[seq & 1], addr);
        if (at)
            copy_region(r, at);
    } while (latch_retry(&b->latch, seq));
    return at && addr - r->base < r->size;
}

const struct region *bus_find(struct bus *b, u64 addr)
{
    const struct region *at;
    struct region r;
    u32 seq;

    do {
        seq = latch_begin(&b->latch);
        at = lookup(&b->map[seq & 1], addr);
        if (at)
            copy_region(&r, at);
    } while (latch_retry(&b->latch, seq));
    return at && addr - r.base < r.size ? at : NULL;
}

/* ---- the write side ---- */

static void set_ports(struct bus_map *m, const struct region *r, u16 val)
{
    for (u64 i = 0; i < r->size; i++)
        latch_store(&m->port[r->base + i], val);
}

/* Rewrites one copy from the ordered list `to`. With a port table the indices have moved, so it is
 * written anew: rare, and a few hundred ports. */
static void store_map(struct bus_map *m, struct region *const *to, u64 n)
{
    u64 was = m->n;

    if (m->port) {
        for (u64 i = 0; i < was; i++)
            set_ports(m, m->region[i], 0);
    }
    for (u64 i = 0; i < n; i++) {
        latch_store(&m->base[i], to[i]->base);
        latch_store(&m->region[i], to[i]);
        if (m->port)
            set_ports(m, to[i], (u16)(i + 1));
    }
    latch_store(&m->n, n);
}

static void publish_locked(struct bus *b, struct region *const *to, u64 n)
{
    ASSERT(lock_held(&b->lock));
    latch_flip(&b->latch);
    store_map(&b->map[0], to, n);
    latch_flip(&b->latch);
    store_map(&b->map[1], to, n);
}

static bool size_rule_ok(u8 min, u8 max)
{
    return min <= max && max <= 8 && !(min & (min - 1)) && !(max & (max - 1));
}

/* Rules are written by chip authors: wrong ones are bugs. */
static void assert_rules(const struct region_ops *ops)
{
    struct bus_rules u = bus_rules(ops);

    ASSERT(size_rule_ok(u.guest_min, u.guest_max));
    ASSERT(size_rule_ok(u.impl_min, u.impl_max));
}

static int check_new(const struct bus *b, const struct region *r, u64 *at, struct err *e)
{
    const struct bus_map *m = &b->map[0];
    u64 end, i;

    if (r->size == 0 || !add_ok(r->base, r->size, &end) || end > b->limit)
        return err_set(e, EINVAL,
                       "%s bus: region %s at 0x%" PRIx64 " of 0x%" PRIx64 " bytes does not fit",
                       b->name, r->name, r->base, r->size);
    for (i = 0; i < m->n && m->base[i] < end; i++) {
        const struct region *s = m->region[i];
        if (s->base + s->size > r->base)
            return err_set(e, EEXIST,
                           "%s bus: region %s 0x%" PRIx64 "-0x%" PRIx64 " overlaps %s 0x%" PRIx64
                           "-0x%" PRIx64,
                           b->name, r->name, r->base, end - 1, s->name, s->base,
                           s->base + s->size - 1);
    }
    if (m->n == BUS_REGIONS_MAX)
        return err_set(e, ENOSPC, "%s bus: no room for region %s, all %u are taken", b->name,
                       r->name, BUS_REGIONS_MAX);
    *at = i;
    return 0;
}

int bus_add(struct bus *b, const struct region *r, struct err *e)
{
    struct region *list[BUS_REGIONS_MAX], *fresh;
    u64 n, at = 0;
    int ret;

    ASSERT(r->ops && r->name);
    assert_rules(r->ops);
    lock_take(&b->lock);
    ret = check_new(b, r, &at, e);
    if (ret)
        goto out;
    n = b->map[0].n;
    fresh = b->idle[--b->idle_n];
    latch_store(&fresh->base, r->base);
    latch_store(&fresh->size, r->size);
    latch_store(&fresh->ops, r->ops);
    latch_store(&fresh->dev, r->dev);
    latch_store(&fresh->lock, r->lock);
    latch_store(&fresh->name, r->name);
    memcpy(list, b->map[0].region, at * sizeof(list[0]));
    list[at] = fresh;
    memcpy(&list[at + 1], &b->map[0].region[at], (n - at) * sizeof(list[0]));
    publish_locked(b, list, n + 1);
out:
    lock_drop(&b->lock);
    return ret;
}

int bus_del(struct bus *b, u64 base)
{
    struct region *list[BUS_REGIONS_MAX], *gone;
    u64 n, at;

    lock_take(&b->lock);
    n = b->map[0].n;
    memcpy(list, b->map[0].region, n * sizeof(list[0]));
    for (at = 0; at < n && list[at]->base != base; at++)
        continue;
    if (at == n) {
        lock_drop(&b->lock);
        return -ENOENT;
    }
    gone = list[at];
    memmove(&list[at], &list[at + 1], (n - 1 - at) * sizeof(list[0]));
    publish_locked(b, list, n - 1);
    b->idle[b->idle_n++] = gone;
    lock_drop(&b->lock);
    return 0;
}

/* ---- life ---- */

int bus_create(struct bus **out, const char *name, u64 limit, struct err *e)
{
    struct bus *b = calloc(1, sizeof(*b));

    if (!b)
        goto fail;
    b->name = name;
    b->limit = limit;
    lock_init(&b->lock);
    for (unsigned i = 0; i < BUS_REGIONS_MAX; i++)
        b->idle[b->idle_n++] = &b->pool[i];
    for (unsigned i = 0; i < 2 && limit <= BUS_PORTS; i++) {
        b->map[i].port = calloc(BUS_PORTS, sizeof(u16));
        if (!b->map[i].port)
            goto fail;
    }
    *out = b;
    return 0;
fail:
    bus_destroy(b);
    return err_set(e, ENOMEM, "%s bus: no memory", name);
}

void bus_destroy(struct bus *b)
{
    if (!b)
        return;
    free(b->map[0].port);
    free(b->map[1].port);
    lock_destroy(&b->lock);
    free(b);
}
