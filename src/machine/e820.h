/* e820.h - the guest's memory map as firmware reports it (ACPI 6.4, 15) */
#pragma once

#include "base/err.h"
#include "base/types.h"

enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4, E820_UNUSABLE = 5 };

#define E820_MAX 32

struct e820_entry {
    u64 addr, size;
    u32 type; /* enum e820_type */
};

/* Sorted by address, without overlaps, adjacent entries of one type joined. */
struct e820_map {
    struct e820_entry entry[E820_MAX];
    unsigned count;
};

/* Lays [addr, addr+size) over the map with this type, splitting or replacing what was there.
 * -EINVAL for an empty or wrapping range, -ENOSPC when the map is full; it is unchanged then. */
must_check int e820_set(struct e820_map *m, u64 addr, u64 size, enum e820_type type, struct err *e);

/* The map of a PC with this much RAM as layout.h draws it. ram_bytes is page-aligned, at least
 * RAM_MIN. */
must_check int e820_pc(struct e820_map *m, u64 ram_bytes, struct err *e);

/* True when one entry of this type holds all of [addr, addr+size). */
bool e820_holds(const struct e820_map *m, u64 addr, u64 size, enum e820_type type);

/* The highest address <= limit - size, aligned (a power of two), of `size` bytes of RAM at or above
 * `floor`; 0 when there is none. */
u64 e820_highest(const struct e820_map *m, u64 size, u64 align, u64 floor, u64 limit);
