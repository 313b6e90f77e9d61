/* bus.h - PIO and MMIO dispatch with access-size rules as data */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "base/lock.h"
#include "base/types.h"

/* How a chip is accessed. `read`/`write` are called with offsets relative to the region, naturally
 * only with sizes the chip implements: an access the guest may not make reads all ones and its
 * write is dropped; an allowed one that is wider than impl_max is split, low part first; narrower
 * than impl_min is widened (read) or dropped (write) - as on an ISA or PCI bus. Sizes in bytes,
 * powers of two. */
struct region_ops {
    /* NULL: reads give all ones, writes vanish. */
    u64 (*read)(void *dev, u64 off, unsigned size);
    void (*write)(void *dev, u64 off, unsigned size, u64 val);
    u8 guest_min, guest_max; /* 0 means 1 and 8 */
    u8 impl_min, impl_max;   /* 0 means 1 and 4 */
    bool unaligned;          /* accesses at an unaligned offset reach the chip; otherwise split into
                                bytes if impl_min is 1, else refused */
};

struct region {
    u64 base, size;
    const struct region_ops *ops;
    void *dev;
    struct lock *lock; /* taken around every call; NULL when the chip locks for itself */
    const char *name;
};

struct bus;

/* `limit` is the size of the address space: 0x10000 for PIO, 1 << phys-bits for MMIO. */
must_check int bus_create(struct bus **out, const char *name, u64 limit, struct err *e);
void bus_destroy(struct bus *b);

/* Adds a region (copied). Refuses zero sizes, wrap-around, space past the limit and overlaps,
 * naming both regions. Safe while vCPUs run: readers see the old or the new map. */
must_check int bus_add(struct bus *b, const struct region *r, struct err *e);
/* Removes the region with this base; -ENOENT when there is none. May be called from a region's own
 * write, so it does not wait: a vCPU that looked the region up just before may still call it once.
 * `dev` must therefore outlive the vCPUs' current accesses (in practice: the VM). */
must_check int bus_del(struct bus *b, u64 base);

/* Any vCPU thread. Never fails: unclaimed reads give all ones, unclaimed writes vanish.
 * size 1, 2, 4 or 8; an access that straddles a region's start or end is done byte by byte. */
u64 bus_read(struct bus *b, u64 addr, unsigned size);
void bus_write(struct bus *b, u64 addr, unsigned size, u64 val);
/* The region that claims addr, or NULL (for tests, monitors and fast paths). Valid until it is
 * removed. */
const struct region *bus_find(struct bus *b, u64 addr);
