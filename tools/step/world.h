/* world.h - the little world in which a processor core runs test cases: sparse RAM and a few
 * ports */
#pragma once

#include "base/checked.h"
#include "base/err.h"
#include "base/types.h"
#include "x86/cpu.h"
#include "x86/cpuid.h"

#define WORLD_RAM       (16ull * GiB) /* address space reserved, not memory used */
#define WORLD_IO_MAX    256           /* port accesses recorded for one case */
#define WORLD_PAGES_MAX 65536         /* pages one case may touch by setup or by writing */

/* A page that the case set up or that the guest wrote. `before` is its content when the run
 * began; NULL until the guest first asks to write. */
struct world_page {
    u64 gpa;
    u8 *before;
};

struct world_io {
    u16 port;
    u8 size;
    bool out;
    u64 val;
};

struct world {
    u8 *ram;                      /* WORLD_RAM bytes, mapped without reserve */
    u64 addr_mask;                /* physical addresses are and-ed with it (8086: 20 bits) */
    u64 hidden_gpa, hidden_bytes; /* the tool's own tables: not in the list of changes */
    struct world_page *pages;
    unsigned npages;
    u32 *page_slot; /* by page frame: index + 1 in pages, 0 = untouched */
    bool too_many_pages;
    bool running; /* writes are recorded as the guest's */

    u64 tsc;
    u8 in_ports[65536]; /* what IN reads: 0xff unless the case says otherwise */
    u16 in_changed[256];
    unsigned nin_changed;
    struct world_io io[WORLD_IO_MAX];
    unsigned nio;
    u64 random;

    struct x86_cpuid_model model;
    struct x86_cpu cpu;
};

/* Maps the RAM and wires w->cpu for the named CPU model. 0 or -errno with *e set. */
must_check int world_create(struct world **out, const char *model, struct err *e);
void world_destroy(struct world *w);
/* Another CPU model for the cases that follow. */
must_check int world_set_model(struct world *w, const char *model, struct err *e);

/* Back to all-zero memory and quiet ports; forgets recorded writes. The cpu is left as it is. */
void world_reset(struct world *w);

/* Bytes put into RAM by the case (not reported as changes). -ERANGE outside RAM. */
must_check int world_poke(struct world *w, u64 gpa, const void *buf, u64 len);
void world_set_port(struct world *w, u16 port, u8 val);
static inline u8 *world_at(struct world *w, u64 gpa)
{
    return w->ram + (gpa & w->addr_mask);
}

/* From here on writes count as the guest's. */
void world_begin(struct world *w);
/* Calls fn for every byte that differs from what it was at world_begin, by ascending address. */
void world_changes(struct world *w, void (*fn)(void *arg, u64 gpa, u8 before, u8 now), void *arg);
