/* e820.c - the guest's memory map as firmware reports it (ACPI 6.4, 15) */
#include "machine/e820.h"

#include <errno.h>

#include "base/checked.h"
#include "base/limits.h"
#include "machine/layout.h"

static u64 entry_end(const struct e820_entry *e)
{
    return e->addr + e->size;
}

/* Appends to a map that is being built in order of address; false when it is full. */
static bool append(struct e820_map *m, u64 addr, u64 end, u32 type)
{
    struct e820_entry *last = m->count ? &m->entry[m->count - 1] : NULL;

    if (addr >= end)
        return true;
    if (last && last->type == type && entry_end(last) == addr) {
        last->size = end - last->addr;
        return true;
    }
    if (m->count == E820_MAX)
        return false;
    m->entry[m->count++] = (struct e820_entry){addr, end - addr, type};
    return true;
}

int e820_set(struct e820_map *m, u64 addr, u64 size, enum e820_type type, struct err *e)
{
    struct e820_map out = {.count = 0};
    bool placed = false, fits = true;
    u64 end;

    if (size == 0 || !add_ok(addr, size, &end))
        return err_set(e, EINVAL, "memory map: bad range %#llx + %#llx", (unsigned long long)addr,
                       (unsigned long long)size);
    for (unsigned i = 0; i < m->count; i++) {
        const struct e820_entry *old = &m->entry[i];

        fits &= append(&out, old->addr, MIN(entry_end(old), addr), old->type);
        if (!placed && entry_end(old) > addr) {
            fits &= append(&out, addr, end, type);
            placed = true;
        }
        fits &= append(&out, MAX(old->addr, end), entry_end(old), old->type);
    }
    if (!placed)
        fits &= append(&out, addr, end, type);
    if (!fits)
        return err_set(e, ENOSPC, "memory map: more than %d entries", E820_MAX);
    *m = out;
    return 0;
}

int e820_pc(struct e820_map *m, u64 ram_bytes, struct err *e)
{
    u64 low = MIN(ram_bytes, MMIO_HOLE_GPA);
    int rc;

    m->count = 0;
    if (ram_bytes < RAM_MIN || ram_bytes > RAM_MAX || ram_bytes % 4096)
        return err_set(e, EINVAL,
                       "memory: %llu bytes is not a whole number of pages from 1 MiB to 1 TiB",
                       (unsigned long long)ram_bytes);
    rc = e820_set(m, 0, EBDA_GPA, E820_RAM, e);
    if (!rc)
        rc = e820_set(m, EBDA_GPA, VIDEO_HOLE_GPA - EBDA_GPA, E820_RESERVED, e);
    if (!rc)
        rc = e820_set(m, FIRMWARE_GPA, HIGH_MEM_GPA - FIRMWARE_GPA, E820_RESERVED, e);
    if (!rc && low > HIGH_MEM_GPA)
        rc = e820_set(m, HIGH_MEM_GPA, low - HIGH_MEM_GPA, E820_RAM, e);
    if (!rc && ram_bytes > low)
        rc = e820_set(m, ABOVE_4G_GPA, ram_bytes - low, E820_RAM, e);
    return rc;
}

bool e820_holds(const struct e820_map *m, u64 addr, u64 size, enum e820_type type)
{
    for (unsigned i = 0; i < m->count; i++) {
        const struct e820_entry *x = &m->entry[i];

        if (x->type == type && addr >= x->addr && range_ok(addr - x->addr, size, x->size))
            return true;
    }
    return false;
}

u64 e820_highest(const struct e820_map *m, u64 size, u64 align, u64 floor, u64 limit)
{
    for (unsigned i = m->count; i-- > 0;) {
        const struct e820_entry *x = &m->entry[i];
        u64 top = MIN(entry_end(x), limit);
        u64 bottom = MAX(x->addr, floor);
        u64 at;

        if (x->type != E820_RAM || top < bottom || top - bottom < size)
            continue;
        at = (top - size) & ~(align - 1);
        if (at >= bottom && at != 0)
            return at;
    }
    return 0;
}
