/* mem.h - guest-physical memory: slots of RAM and ROM, bounded copies, dirty log, code pages */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "base/types.h"

#define PAGE_SHIFT 12
#define PAGE_BYTES 4096u
#define PAGE_MASK  4095ull

struct mem;

enum mem_slot_flags {
    MEM_ROM = 1,  /* guest writes are dropped */
    MEM_CODE = 2, /* of a page, see mem_page_near */
};

/* Told of memory events that engines must follow. Called on the thread that caused them, which may
 * be a vCPU, an I/O thread or the main loop; must not block, and must not call mem_listen,
 * mem_unlisten or anything below that reports. */
struct mem_listener {
    /* Bytes of a page marked by mem_code_mark() are about to be, or were, changed by other than
     * the marking engine's own write path (DMA, another vCPU, a loader). */
    void (*code_written)(void *ctx, u64 gpa, u64 len);
    /* Slots changed or the dirty log was switched or fetched: every cached hva or write permission
     * of this range is void. When it returns no vCPU may use a stale one for new accesses. */
    void (*remapped)(void *ctx, u64 gpa, u64 len);
    void *ctx;
    /* For an engine whose processors write without asking mem; both may be NULL. The log was
     * switched, or with `on` begins anew; and: the pages of the slot that were written since, or
     * since the last call, are to be set in its bitmap (bit i = page i), by atomic OR. */
    void (*dirty_switched)(void *ctx, bool on);
    void (*dirty_collect)(void *ctx, u64 slot_gpa, u64 size, u64 *bitmap);
};

must_check int mem_create(struct mem **out, struct err *e);
void mem_destroy(struct mem *m);

/* Backs [gpa, gpa+size) with fresh zeroed memory (memfd, not touched until used). Page-aligned,
 * non-overlapping, at most MEM_SLOTS_MAX. */
must_check int mem_add_ram(struct mem *m, u64 gpa, u64 size, struct err *e);
/* The same, as ROM, filled from data (len <= size, rest zero). */
must_check int mem_add_rom(struct mem *m, u64 gpa, u64 size, const void *data, u64 len,
                           struct err *e);
/* Removes the slot that starts at gpa, or -ENOENT. Its pages go back to the host after `remapped`
 * has returned; a pointer into it that somebody kept all the same reaches zeros or the guest's own
 * later memory, never anything else of this process. */
must_check int mem_del(struct mem *m, u64 gpa);

/* -ENOSPC when there are too many. After mem_unlisten returned no callback with this ctx runs. */
must_check int mem_listen(struct mem *m, const struct mem_listener *l);
void mem_unlisten(struct mem *m, const void *ctx);

/* The host address of the page that holds gpa with *flags = enum mem_slot_flags, or NULL for a
 * hole. With `write` the page is recorded in the dirty log (not for ROM: the caller drops the
 * write). The pointer lives until `remapped`: a cache must not take in a pointer or write
 * permission looked up before a `remapped` that came since (compare a count of its own before and
 * after). Any thread; lock-free. */
void *mem_page(struct mem *m, u64 gpa, bool write, unsigned *flags);

/* The same for a caller that asks often: `hint` is where its thread keeps the slot met last, zeroed
 * at first. *flags may also have MEM_CODE: the page is marked as one of code. */
struct mem_hint {
    u32 seq; /* of the slot table that the rest was taken from */
    u32 flags;
    u64 gpa, size;
    u8 *hva;
    u64 *dirty, *code, *backed;
};
void *mem_page_near(struct mem *m, struct mem_hint *hint, u64 gpa, bool write, unsigned *flags);

/* Bounded copies for devices and loaders; gpa..gpa+len may cross slots of RAM. -EFAULT when any
 * byte is not RAM (nothing was copied then). mem_write marks dirty and reports code pages; ROM is
 * -EFAULT for it. Aligned 2, 4 and 8 bytes are one access, as rings need. Any thread. */
must_check int mem_read(struct mem *m, u64 gpa, void *buf, u64 len);
must_check int mem_write(struct mem *m, u64 gpa, const void *buf, u64 len);
must_check int mem_fill(struct mem *m, u64 gpa, u8 byte, u64 len);
/* Gives whole pages back to the host: they read as zeros until something is written. Pointers to
 * them stay good. -EINVAL when not page-aligned, -EFAULT as mem_write, and then nothing happened.
 * Marks dirty and reports code pages. Any thread. */
must_check int mem_discard(struct mem *m, u64 gpa, u64 len);
/* The host address of gpa..gpa+len-1 for a device's scatter-gather I/O, or NULL when the range does
 * not lie in one slot of RAM (or, with `write`, in one that is not ROM). Lives until `remapped`;
 * after writing call mem_written. Any thread; lock-free. */
void *mem_range(struct mem *m, u64 gpa, u64 len, bool write);
/* For a device that writes through pointers of mem_page or mem_range: call after the bytes are in
 * place; marks dirty and reports code pages as mem_write does. */
void mem_written(struct mem *m, u64 gpa, u64 len);

/* How often mem_write, mem_fill and mem_written were called: while it stays, memory was changed by
 * processors alone. Any thread. */
u64 mem_writes(const struct mem *m);

/* Code pages: an engine that holds decoded or translated instructions of a page marks it, so that
 * every other writer reports to `code_written`. Mark first, then read the bytes: a write in between
 * is then either seen by the read or reported. A mark outlives neither its slot nor
 * mem_code_clear. */
void mem_code_mark(struct mem *m, u64 gpa_page);
void mem_code_clear(struct mem *m, u64 gpa_page);
bool mem_code_marked(struct mem *m, u64 gpa_page);

/* Dirty log: off at first. start clears it; fetch hands out and clears the bits of a slot (bit i =
 * page i, (pages+7)/8 bytes), and voids write permissions through `remapped`; copy the pages after
 * it returned. -ENOENT: no such slot; -EINVAL: wrong size, or the log is off. One fetching thread
 * at a time. */
must_check int mem_dirty_start(struct mem *m);
must_check int mem_dirty_fetch(struct mem *m, u64 slot_gpa, u8 *bitmap, size_t bytes);
void mem_dirty_stop(struct mem *m);

/* Slots for iteration: returns the number of slots, fills up to n of them ordered by gpa. */
struct mem_slot_info {
    u64 gpa, size;
    unsigned flags;
    int fd;     /* memfd, owned by mem */
    u64 fd_off; /* offset of gpa in fd */
};
size_t mem_slots(struct mem *m, struct mem_slot_info *out, size_t n);
