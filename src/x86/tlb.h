/* tlb.h - the software TLB: what both the interpreter and translated code probe */
#pragma once

#include "base/types.h"

/* Sets: by privilege of the access, because SMAP and U/S change what a page allows. */
enum {
    X86_TLB_USER,      /* CPL 3 */
    X86_TLB_KERNEL,    /* CPL 0-2, SMAP enforced; and every implicit supervisor access */
    X86_TLB_KERNEL_AC, /* CPL 0-2 with RFLAGS.AC (or CR4.SMAP clear) */
    X86_TLB_SETS
};

/* Contexts: the PCIDs used last, each with sets of its own for USER and KERNEL_AC. The KERNEL set
 * is one; what it holds beside global translations belongs to the current context. Without
 * CR4.PCIDE there is one context, of PCID 0. */
#define X86_TLB_CONTEXTS     16
#define X86_TLB_ALL_CONTEXTS (BIT(X86_TLB_CONTEXTS) - 1)

#define X86_TLB_NO_PAGE   (~0ull) /* equals no page address */
#define X86_TLB_ALL_PAGES (~0ull) /* for ops->tlb_flushed */

/* Tags are linear page addresses. A hit allows the access outright: rights, A and D bits, code
 * pages, ROM, dirty log, breakpoints were settled when the tag was set. hva = lin + addend. */
struct x86_tlb_entry {
    u64 tag_read, tag_write, tag_exec;
    u64 addend;
};

#define X86_TLB_ENTRY_BYTES 32u
_Static_assert(sizeof(struct x86_tlb_entry) == X86_TLB_ENTRY_BYTES, "translated code counts on it");

/* The tag of an empty entry: bit 0 is set, and it names a page whose number has the other parity
 * than those that lead to the entry. Translated code that looks only at the bits above 11 of the
 * difference between address and tag misses too. Sets begin at multiples of 64. */
static inline u64 x86_tlb_none(const struct x86_tlb_entry *e)
{
    return ((uintptr_t)e & X86_TLB_ENTRY_BYTES ? 0 : 0x1000) | 1;
}

static inline bool x86_tlb_is_none(u64 tag)
{
    return tag & 1;
}

/* Entries of a set: a power of two between these. It doubles when pages push each other out. */
#define X86_TLB_MIN   256u
#define X86_TLB_START 512u
#define X86_TLB_MAX   65536u

/* What is known of an entry beside the entry:
 *
 *  51                                    12   7    3   2   1   0
 * | guest-physical page                    | | shift | IG| IL| G |
 *
 * G: a global translation. IL, IG: the entry is in the list of local, of global fills.
 * shift: log2 of the size of the guest's page, 12, 21, 22 or 30. */
#define X86_TLB_INFO_GPA    0x000ffffffffff000ull
#define X86_TLB_INFO_SHIFT  3
#define X86_TLB_INFO_GLOBAL BIT64(0)

/* Bitmaps that say of an address "surely not" or "perhaps". */
#define X86_TLB_LARGE_BITS   8192u
#define X86_TLB_GLOBAL_BITS  32768u
#define X86_TLB_WRITTEN_BITS 65536u

#define X86_TLB_TABLES 128u /* a power of two */

enum { X86_TLB_LOCAL, X86_TLB_GLOBAL };

struct x86_tlb_set {
    struct x86_tlb_entry *entry; /* one allocation with the next two; x86_tlb.none at first */
    u64 *info;                   /* of each entry; NULL while nothing is allocated */
    u16 *list[2];                /* entries filled with local, with global translations */
    u64 mask;                    /* (entries - 1) * X86_TLB_ENTRY_BYTES */
    u32 count[2];                /* of each list; each has room for every entry once */
    u32 evicted;                 /* live entries replaced since the last resize or flush */
    u8 sparse;                   /* flushes in a row that found few entries */
    bool large[2];               /* anything in: */
    u64 large_seen[2][X86_TLB_LARGE_BITS / 64]; /* regions around large pages, local and global */
};

struct x86_tlb {
    struct x86_tlb_set kernel;
    struct x86_tlb_set ctx[X86_TLB_CONTEXTS][2]; /* USER, KERNEL_AC */
    u16 pcid[X86_TLB_CONTEXTS];                  /* or X86_TLB_FREE */
    u64 used_at[X86_TLB_CONTEXTS], clock;        /* for the least recently used one */
    /* Pages that have or had global translations in the sets of contexts. */
    u64 global_seen[X86_TLB_GLOBAL_BITS / 64];
    /* Guest-physical pages, by the low bits of their number, that have or had a write tag. */
    u64 written[X86_TLB_WRITTEN_BITS / 64];
    _Alignas(64) struct x86_tlb_entry none[2]; /* never filled: the smallest set */
    /* Where paging structures are in the host, for reads; no translations. Direct-mapped by page
     * number. Void with every hva. */
    struct {
        u64 gpa; /* or X86_TLB_NO_PAGE */
        const u8 *hva;
    } table[X86_TLB_TABLES];
};

#define X86_TLB_FREE 0xffffu /* no PCID */

static inline struct x86_tlb_entry *x86_tlb_set_at(const struct x86_tlb_set *s, u64 lin)
{
    return (struct x86_tlb_entry *)((char *)s->entry + (lin >> 7 & s->mask));
}

/* Of an entry that was ever filled: the page address behind it. */
static inline u64 x86_tlb_set_gpa(const struct x86_tlb_set *s, u64 lin)
{
    return s->info[lin >> 12 & s->mask / X86_TLB_ENTRY_BYTES] & X86_TLB_INFO_GPA;
}

struct x86_cpu;
struct x86_page;
struct x86_walk;

/* For x86_cpu_init and x86_cpu_fini. Sets are allocated by their first fill; one that cannot be
 * stays empty, which is slow and otherwise harmless. */
void x86_tlb_init(struct x86_cpu *cpu);
void x86_tlb_fini(struct x86_cpu *cpu);

/* Enters the 4 KiB page of lin as `w` and `pg` describe it; `write` when pg was taken for
 * writing. Tags only what an access may do without any further look. May move the set. */
void x86_tlb_fill(struct x86_cpu *cpu, unsigned set, u64 lin, const struct x86_walk *w,
                  const struct x86_page *pg, bool write);
/* Forgets the page of lin after a page fault on it (SDM vol. 3 4.10.4.1). Tells nobody. */
void x86_tlb_forget(struct x86_cpu *cpu, u64 lin);

/* Everything, of all contexts; or all but global translations. The first also looks anew which
 * PCID is the current one. */
void x86_tlb_flush(struct x86_cpu *cpu, bool globals_too);
/* After MOV CR3: makes the context of the PCID the current one; without `keep` its translations
 * that are not global go (SDM vol. 3 4.10.4.1). */
void x86_tlb_load_cr3(struct x86_cpu *cpu, bool keep);
/* INVLPG: the page in the current context, and global translations of it in all. */
void x86_tlb_flush_page(struct x86_cpu *cpu, u64 lin);
/* INVPCID types 0 and 1: what is not global of one page, of one PCID. */
void x86_tlb_flush_pcid_page(struct x86_cpu *cpu, u16 pcid, u64 lin);
void x86_tlb_flush_pcid(struct x86_cpu *cpu, u16 pcid);
/* Drop by physical page: after RAM changes (`writes_only`: only write tags, for code marks, dirty
 * log). */
void x86_tlb_drop_gpa(struct x86_cpu *cpu, u64 gpa, u64 len, bool writes_only);
