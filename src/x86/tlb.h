/* tlb.h - the software TLB: what both the interpreter and translated code probe */
#pragma once

#include "base/types.h"

#define X86_TLB_BITS 11
#define X86_TLB_SIZE (1u << X86_TLB_BITS)

/* Sets: by privilege of the access, because SMAP and U/S change what a page allows. */
enum {
    X86_TLB_USER,      /* CPL 3 */
    X86_TLB_KERNEL,    /* CPL 0-2, SMAP enforced; and every implicit supervisor access */
    X86_TLB_KERNEL_AC, /* CPL 0-2 with RFLAGS.AC (or CR4.SMAP clear) */
    X86_TLB_SETS
};

#define X86_TLB_NONE (~0ull) /* a tag that equals no page address */

/* Tags are linear page addresses. A hit allows the access outright: rights, A and D bits, code
 * pages, ROM, dirty log, breakpoints were settled when the tag was set. hva = lin + addend. */
struct x86_tlb_entry {
    u64 tag_read, tag_write, tag_exec;
    u64 addend;
};

/* Flushes clear the entries filled since the last one, as long as they fit in this list. */
#define X86_TLB_FILLED 256

struct x86_tlb {
    struct x86_tlb_entry set[X86_TLB_SETS][X86_TLB_SIZE];
    struct x86_tlb_entry empty[X86_TLB_SIZE]; /* never filled */
    u64 gpa[X86_TLB_SETS][X86_TLB_SIZE];      /* page address behind each entry */
    bool global[X86_TLB_SETS][X86_TLB_SIZE];
    u8 shift[X86_TLB_SETS][X86_TLB_SIZE]; /* log2 of the size of the guest's page: 12, 21, 22, 30 */
    /* One aligned range around all large pages with entries: INVLPG in it looks at every entry. */
    u64 large_base, large_mask;
    bool large;
    unsigned filled; /* fills since the last flush; past X86_TLB_FILLED the list is incomplete */
    struct {
        u16 set, index;
    } fill[X86_TLB_FILLED];
};

static inline unsigned x86_tlb_index(u64 lin)
{
    return lin >> 12 & (X86_TLB_SIZE - 1);
}

struct x86_cpu;
struct x86_page;
struct x86_walk;

/* Enters the 4 KiB page of lin as `w` and `pg` describe it; `write` when pg was taken for
 * writing. Tags only what an access may do without any further look. */
void x86_tlb_fill(struct x86_cpu *cpu, unsigned set, u64 lin, const struct x86_walk *w,
                  const struct x86_page *pg, bool write);
/* Forgets the page of lin in all sets after a page fault on it (SDM vol. 3 4.10.4.1). */
void x86_tlb_forget(struct x86_cpu *cpu, u64 lin);
