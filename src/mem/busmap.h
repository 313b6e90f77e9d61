/* busmap.h - the region map of a bus (private to mem/) */
#pragma once

#include "base/latch.h"
#include "mem/bus.h"

#define BUS_PORTS 0x10000u

/* One copy of the map. `base` repeats region[i]->base so that a search stays in few cache lines. */
struct bus_map {
    u64 n;
    u64 base[BUS_REGIONS_MAX]; /* ascending */
    struct region *region[BUS_REGIONS_MAX];
    u16 *port; /* PIO: for each port 1 + index of its region, 0 = nobody; NULL on a larger bus */
};

struct bus {
    const char *name;
    u64 limit;
    struct latch latch;
    struct bus_map map[2];

    struct lock lock; /* writers of all above, and the pool */
    struct region *idle[BUS_REGIONS_MAX];
    unsigned idle_n;
    struct region pool[BUS_REGIONS_MAX];
};

/* The sizes of a chip with the zeros of its table replaced by what they stand for. */
struct bus_rules {
    u8 guest_min, guest_max, impl_min, impl_max;
};

static inline struct bus_rules bus_rules(const struct region_ops *ops)
{
    return (struct bus_rules){
        ops->guest_min ? ops->guest_min : 1,
        ops->guest_max ? ops->guest_max : 8,
        ops->impl_min ? ops->impl_min : 1,
        ops->impl_max ? ops->impl_max : 4,
    };
}

/* Finds the region that claims addr and copies it. Any thread, lock-free. */
bool bus_lookup(struct bus *b, u64 addr, struct region *r);
