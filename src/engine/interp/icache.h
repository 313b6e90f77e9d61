/* icache.h - decoded instructions, kept by guest-physical address until their bytes change */
#pragma once

#include "base/err.h"
#include "mem/mem.h"
#include "x86/insn.h"

#define IBLOCK_INSNS_MAX 32

/* A straight run of instructions in one page, ending at a control transfer, the page's end or the
 * cap. An instruction that crosses into another page is a block of its own, with gpa2 set. */
struct iblock {
    u64 gpa;                     /* of the first byte */
    u64 gpa2;                    /* page of the continuation, ~0 = none */
    struct iblock *same_page[2]; /* next block of the page of gpa, of gpa2 */
    u16 bytes;
    u8 mode; /* icache_mode() it was decoded for */
    u8 n;
    struct x86_insn insn[];
};

struct icache;

struct icache_stats {
    u64 blocks_built, blocks_dropped, flushes, smc_writes;
};

/* One vCPU's cache. Only its own thread calls it. Marks code pages in mem; `drop_writes` must
 * revoke write permissions of a page that just became a code page. */
must_check int icache_create(struct icache **out, struct mem *mem,
                             void (*drop_writes)(void *ctx, u64 gpa_page), void *ctx,
                             struct err *e);
void icache_destroy(struct icache *c);

/* The decode mode of a cpu: code size and whether protected, long. */
u8 icache_mode(const struct x86_cpu *cpu);

/* The block at gpa for mode, or NULL. */
struct iblock *icache_find(const struct icache *c, u64 gpa, u8 mode);

/* Stores a copy of n decoded instructions (bytes long in all). May flush everything first: pointers
 * got before are then void. Never fails. */
struct iblock *icache_add(struct icache *c, u64 gpa, u64 gpa2, u8 mode, const struct x86_insn *insn,
                          unsigned n, unsigned bytes);

/* Bytes [gpa, gpa + len) changed: forgets the blocks they may belong to. Blocks stay readable until
 * the next icache_add. True when any block was dropped. */
bool icache_invalidate(struct icache *c, u64 gpa, u64 len);
void icache_flush(struct icache *c);

const struct icache_stats *icache_stats(const struct icache *c);
