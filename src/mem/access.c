/* access.c - bus accesses: size rules, splitting and widening */
#include "base/checked.h"
#include "mem/busmap.h"

static inline u64 ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : BIT64(size * 8) - 1;
}

/* How an access of `size` bytes at `off` reaches the chip: in pieces of this many bytes, 0 = not at
 * all. */
static unsigned piece_size(const struct region_ops *ops, u64 off, unsigned size)
{
    struct bus_rules u = bus_rules(ops);

    if (size < u.guest_min || size > u.guest_max)
        return 0;
    if (off & (size - 1) && !ops->unaligned)
        return u.impl_min == 1 ? 1 : 0;
    return MIN(size, u.impl_max);
}

/* The chip cannot do so little: it reads the word around it, and the bus picks the lane. */
static u64 read_wide(const struct region *r, u64 off, unsigned size, unsigned impl_min)
{
    u64 start = off & ~(u64)(impl_min - 1);

    if (!range_ok(start, impl_min, r->size) || off - start + size > impl_min)
        return ones(size);
    return r->ops->read(r->dev, start, impl_min) >> ((off - start) * 8) & ones(size);
}

static u64 region_read(const struct region *r, u64 off, unsigned size)
{
    unsigned piece = piece_size(r->ops, off, size), impl_min = bus_rules(r->ops).impl_min;
    u64 val = 0;

    if (piece == 0 || !r->ops->read)
        return ones(size);
    if (r->lock)
        lock_take(r->lock);
    if (piece < impl_min) {
        val = read_wide(r, off, size, impl_min);
    } else {
        for (unsigned i = 0; i < size; i += piece)
            val |= (r->ops->read(r->dev, off + i, piece) & ones(piece)) << (i * 8);
    }
    if (r->lock)
        lock_drop(r->lock);
    return val;
}

static void region_write(const struct region *r, u64 off, unsigned size, u64 val)
{
    unsigned piece = piece_size(r->ops, off, size);

    if (piece < bus_rules(r->ops).impl_min || !r->ops->write)
        return;
    if (r->lock)
        lock_take(r->lock);
    for (unsigned i = 0; i < size; i += piece)
        r->ops->write(r->dev, off + i, piece, val >> (i * 8) & ones(piece));
    if (r->lock)
        lock_drop(r->lock);
}

/* An unclaimed first byte says nothing about the ones behind it: a wide access below a region
 * reaches it with its upper bytes. */
static bool tail_claimed(struct bus *b, u64 addr, unsigned size)
{
    struct region r;

    for (unsigned i = 1; i < size && addr + i > addr; i++) {
        if (bus_lookup(b, addr + i, &r))
            return true;
    }
    return false;
}

u64 bus_read(struct bus *b, u64 addr, unsigned size)
{
    struct region r;
    bool found = bus_lookup(b, addr, &r);
    u64 val = 0;

    if (likely(found && range_ok(addr - r.base, size, r.size)))
        return region_read(&r, addr - r.base, size);
    if (!found && !tail_claimed(b, addr, size))
        return ones(size);
    for (unsigned i = 0; i < size; i++) {
        u64 byte = 0xff;
        if (addr + i >= addr && bus_lookup(b, addr + i, &r))
            byte = region_read(&r, addr + i - r.base, 1);
        val |= byte << (i * 8);
    }
    return val;
}

void bus_write(struct bus *b, u64 addr, unsigned size, u64 val)
{
    struct region r;
    bool found = bus_lookup(b, addr, &r);

    if (likely(found && range_ok(addr - r.base, size, r.size))) {
        region_write(&r, addr - r.base, size, val);
        return;
    }
    if (!found && !tail_claimed(b, addr, size))
        return;
    for (unsigned i = 0; i < size; i++) {
        if (addr + i >= addr && bus_lookup(b, addr + i, &r))
            region_write(&r, addr + i - r.base, 1, val >> (i * 8) & 0xff);
    }
}
