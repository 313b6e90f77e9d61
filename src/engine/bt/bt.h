/* bt.h - inside the binary translator: registers, vCPU, translation blocks, what calls what */
#pragma once

#include <stdio.h>
#include <pthread.h>

#include "base/lock.h"
#include "base/wxbuf.h"
#include "engine/bt/emit.h"
#include "engine/engine.h"
#include "engine/world.h"
#include "x86/insn.h"

/* Registers in translated code:
 *
 *   rcx rdx rbx rbp rsi rdi r8 r9 r12 r13 r14   the guest's own
 *   r11, r15                                    the guest's rax, rsp
 *   rax, r10                                    scratch
 *   rsp                                         the shadow stack (struct ibtc)
 *   guest r10, r11, r15                         in memory (x86_state.gpr): the least used
 *   GS base                                     struct engine_vcpu
 *   flags                                       the guest's, or scratch (enum fl)
 *   xmm/ymm, MXCSR                              the guest's while fp_ready, else scratch
 *
 * C's stack pointer is kept in engine_vcpu.host_rsp. */
#define H_SP H_R15

/* Host register of a guest one; H_NONE: it lives in memory. */
static inline unsigned host_reg(unsigned guest)
{
    switch (guest) {
    case X86_RAX: return H_R11;
    case X86_RSP: return H_SP;
    case X86_R10:
    case X86_R11:
    case X86_R15: return H_NONE;
    default: return guest;
    }
}

/* --- jump cache (IBTC): linear RIP to translated code ----------------------------------------- */

#define IBTC_START 1024u /* entries; doubled when they push each other out */
#define IBTC_MAX   65536u
/* The tag of an empty slot: an address whose probe looks into another slot. */
#define IBTC_EMPTY(slot) ((slot) ? 0ull : 1ull)

/* A kernel runs in a thousand pages: of others one in 1500 then passes for one of them. */
#define IBTC_PAGES_BITS 32768u

struct ibtc_entry {
    u64 rip;
    const u8 *host; /* entry with flags saved */
};

/* Where a page with blocks is mapped; known since the table's last clearing when `gen` is its. */
struct page_base {
    u64 rip; /* of its first byte */
    u32 gen;
};

/* A shadow stack holds two words for each guest CALL: the guest's return address, and below it the
 * host's, where the host's CALL has left it: the code that compares the two worlds and goes on
 * behind the guest's CALL. A guest RET is a host RET, which the processor predicts. A full one
 * begins again at the top: SHADOW_BYTES, a bit of every address in it, is set in the stack pointer
 * before each CALL. At its top lies the address of the stub for a RET without a CALL. */
#define SHADOW_BYTES (16 * KiB)

/* Valid for one TLB context in ring 3, or for the kernel in all of them; and for one mode. */
struct ibtc {
    struct ibtc_entry *e;
    struct page_base *base; /* by tb.page */
    size_t base_bytes;
    u8 *shadow;    /* 2 SHADOW_BYTES, the stack is the upper half; below is room for signals */
    u64 shadow_sp; /* when another table is in use */
    u32 mask;      /* entries - 1 */
    u32 evicted;   /* entries replaced since the last growth or clearing */
    u32 mode;
    u32 epoch;  /* of the code cache when last cleared */
    u32 ctx;    /* TLB context in which entries were last added */
    u32 gen;    /* a number of its own since the last clearing, never 0 */
    bool used;  /* has entries */
    bool local; /* some of them from translations of `ctx` that are not global */
    u64 pages[IBTC_PAGES_BITS / 64]; /* Bloom filter of the linear pages that entries came from */
};

#define BT_KERNEL_TABLE X86_TLB_CONTEXTS

/* An entry's offset is bits of a product, in the place where they count entries of 16 bytes. */
#define IBTC_FACTOR 0x9e3779b1u
#define IBTC_SHIFT  12
_Static_assert(sizeof(struct ibtc_entry) == 16, "translated code counts on it");

static inline struct ibtc_entry *ibtc_at(const struct ibtc *t, u64 rip)
{
    return &t->e[((u32)rip * IBTC_FACTOR >> IBTC_SHIFT) / sizeof(struct ibtc_entry) & t->mask];
}

/* --- translated code -------------------------------------------------------------------------- */

/* A place in translated code that C may be called for. Offsets are from the start of the code
 * cache's executable view; 0: none. Lies in the code cache, behind the block's code. */
struct site {
    u32 retry;  /* where to try the access again; SITE_KEPT: cache_insn's number instead */
    u32 resume; /* behind the instruction; 0: C finds the next block */
    u32 tb;     /* index of the block */
    u32 off : 12, size : 11, flags : 9; /* of the instruction in its page; of the access; SITE_* */
};

#define SITE_WRITE BIT(0)
#define SITE_FP    BIT(1) /* the code behind it counts on vector registers being loaded */
#define SITE_KEPT  BIT(2) /* the decoded instruction is kept with the block */
#define SITE_GROUP BIT(3) /* the access stands for several, which count on it (group.c) */

/* A direct jump that may be patched to lead to its target. One to another page (`guard` not 0) is
 * taken while the jump cache in use is the one that knew the target, and has not been cleared:
 * while engine_vcpu.link_gen is what it was then. Otherwise the jump cache is asked. That of an
 * indirect jump (`rip` not 0) also compares where it leads with the RIP it was made for. */
struct link {
    u32 field;        /* offset of the rel32 */
    u32 unlinked;     /* offset of the stub it leads to without a target */
    u32 guard;        /* offset of the immediate that link_gen is compared with */
    u32 rip;          /* offset of the imm64 that RIP is compared with */
    u32 remake;       /* offset of the rel32 of the jump that has C make the link anew */
    u32 changes;      /* how often it got another RIP; at LINK_CHANGES_MAX C is no longer asked */
    u32 retargets;    /* how often another target was wanted, where vCPUs share the cache */
    s32 target;       /* RIP relative to the page's base */
    bool returns;     /* behind a CALL, by a RET: RIP is set already */
    bool was_set;     /* with a guard: it has had a target */
    bool flags_saved; /* it takes the target's entry_saved, else entry_native */
    bool no_groups;   /* the target is of MODE_NO_GROUPS */
    u32 tb;           /* the block it is in */
    u32 next_in;      /* next link to the same target; index into links, 0 = none */
    u32 tb_to;        /* block, 0 = none */
};

#define LINK_CHANGES_MAX 8

/* A block with a second page is one instruction long and is reached through C or a jump cache only,
 * so that a change of the page's translation is noticed. */
struct tb {
    u64 gpa;          /* of its first instruction */
    u64 gpa2;         /* page it continues in, ~0 = none */
    u32 page;         /* number of its first page */
    u32 mode;         /* tb_mode() */
    u32 entry_native; /* offsets: entries with flags in the host's flags, and saved */
    u32 entry_saved;
    u32 host_end;                /* behind its hot code */
    u32 dead_native, dead_saved; /* stubs that its entries lead to once it is dropped */
    u32 guest;                   /* its instructions as they were (insn_bytes) */
    u16 bytes;
    bool dead;
    u32 hash_next;
    u32 page_next[2];
    u32 links_in;
    u32 link_first;
    u16 nlinks;
};

struct cache;

struct bt_stats {
#define BT_STAT(name, text) u64 name;
#include "engine/bt/stats.def"
#undef BT_STAT
};

/* RDTSC in translated code (tsc.c): `guest`, plus `mult` for each tick of the host's TSC since
 * `host`, while these are less than `window`; behind that C is asked. */
struct bt_tsc {
    u64 host, guest, window;
    u64 mult;                  /* guest ticks in a host tick, 32.32; 0: not known */
    u64 from_host, from_guest; /* when it was measured last */
};

struct engine_vm {
    struct engine_vm_config cfg;
    struct x86_ops ops; /* those of world.c, and the jump caches follow the TLB */
    struct cache *cache;
    unsigned block_insns;        /* most instructions in a block, unrolled loops apart */
    bool unroll;                 /* blocks follow branches */
    bool linking;                /* blocks lead to each other, not through C */
    struct bt_stats stats;       /* added up when vCPUs leave run; atomic */
    struct bt_stats cache_stats; /* under the cache's lock */
    bool tsc_inline;             /* RDTSC is translated */
    struct profile *profiles;    /* of the vCPUs, or NULL */
    FILE *perfmap;               /* or NULL */

    /* Who is alone (stop.h). stop_lock guards stopper and engine_vcpu.in; the list of vCPUs changes
     * under both locks. */
    struct lock stop_lock;
    pthread_cond_t stop_changed;
    struct engine_vcpu *stopper;
    struct engine_vcpu *vcpus;
    unsigned nvcpus;

    /* Writes to code by devices and loaders, taken over by the next vCPU between instructions. */
    struct lock write_lock;
    struct {
        u64 gpa, len;
    } written[64];
    unsigned nwritten;
    bool flush; /* too many to list, or RAM is elsewhere now */
};

struct engine_vcpu {
    struct x86_cpu cpu; /* first: GS points here */

    /* What translated code and stubs use. */
    u64 host_rsp;
    u64 shadow_sp;          /* rsp of translated code */
    struct page_base *base; /* of the table in use */
    u64 tmp[3];             /* [0], [2]: of the stubs; [1]: inside one instruction */
    /* A TLB entry for the stack: a page that may be read and written, or BT_NO_STACK with the
     * addend to `nowhere`. What C does to the TLB is noticed on the way back (helpers.c). */
    u64 stack_tag, stack_addend;
    u64 stack_group; /* stack_addend when the group of stack accesses was checked */
    u64 nowhere_addend;
    u64 group_addend[4]; /* of the pages that groups of accesses found (group.c) */
    u32 flags;           /* guest's arithmetic flags while not native: AH as LAHF, AL = OF */
    u32 host_mxcsr;
    u32 fp_ready;            /* READY_*: vector registers hold the guest's */
    u32 fp_reload;           /* set by C: load them before going back, fp_ready becomes this */
    struct ibtc_entry *ibtc; /* the table in use; the mask is in bytes */
    u32 ibtc_mask;
    u32 link_gen; /* its gen */
    s32 relink;   /* so many times the jump cache serves a link before C makes it anew */
    struct bt_tsc tsc;
    struct engine_vcpu *self;
    u64 (*h_next)(struct engine_vcpu *v);
    u64 (*h_dead)(struct engine_vcpu *v);
    u64 (*h_generic)(struct engine_vcpu *v, const struct site *s);
    u64 (*h_slow)(struct engine_vcpu *v, u64 lin, const struct site *s);
    u64 (*h_link)(struct engine_vcpu *v, u64 link);
    u64 (*h_fp)(struct engine_vcpu *v, const struct site *s);

    /* C's own. */
    int rc;       /* why h_* returned 0; X86_OK: look at attn */
    bool step;    /* the next instruction is not for translation */
    bool cleared; /* the table in use was: translated code is entered by RIP only */
    u32 mode;     /* tb_mode() of what executes */
    struct ibtc *in_use;
    struct world world;
    struct lockstep *lockstep; /* or NULL */
    struct profile *profile;   /* or NULL */
    struct engine_vm *vm;
    struct ibtc *table[BT_KERNEL_TABLE + 1]; /* by TLB context, and the kernel's; on first use */
    struct decoded *decoded;                 /* cache of instructions that slow sites execute */
    struct x86_known *known;                 /* instructions that translate() decoded lately */
    struct bt_stats stats;
    u32 epoch; /* of the code cache this vCPU has seen */
    /* What the one page of non-canonical addresses shows that an empty stack entry has to match. */
    u8 nowhere[4096];

    bool in;                  /* executing: who wants to be alone waits for it (stop.h) */
    bool remapped;            /* RAM is elsewhere now; atomic */
    struct engine_vcpu *next; /* in engine_vm.vcpus */
};

#define BT_NO_STACK 0x9e3779b97f4a7000ull

static inline void bt_forget_stack(struct engine_vcpu *v)
{
    v->stack_tag = BT_NO_STACK;
    v->stack_addend = v->nowhere_addend;
}

#define READY_SSE BIT(0)
#define READY_AVX BIT(1)

#define VOFF(member) offsetof(struct engine_vcpu, member)
#define GPR_OFF(g)   (VOFF(cpu.s.gpr) + 8 * (g))

static inline struct hmem cell(size_t off)
{
    return gs_mem(off);
}
#define CELL(member) cell(VOFF(member))

/* Everything that translated code depends on besides the bytes: bits of the mode of a block. */
u32 tb_mode(const struct x86_cpu *cpu);

/* bt.c: the page is about to be read as code: writes to it are reported from now on. */
void bt_mark_code(struct engine_vcpu *v, u64 gpa_page);

/* bt.c: forgets what the table knows. Nothing that was entered before is returned to. */
void bt_clear_table(struct engine_vcpu *v, struct ibtc *t);

/* helpers.c: what translated code calls through the stubs. Each returns where to go on in
 * translated code, or 0: leave it (v->rc). */
u64 bt_next(struct engine_vcpu *v);
void bt_set_helpers(struct engine_vcpu *v);
#define MODE_64        BIT(0)
#define MODE_USER      BIT(1)
#define MODE_NATIVE    BIT(2)  /* flat 32- or 64-bit code: translated; else stepped */
#define MODE_SEG_FAST  3       /* 6 bits from here: x86_cpu.seg_fast */
#define MODE_SEG_BASE  9       /* 6 bits: the segment's base is not zero */
#define MODE_STACK32   BIT(15) /* 32-bit stack pointer */
#define MODE_DECODE    16      /* code size and modes that decoding depends on */
#define MODE_NO_GROUPS BIT(24) /* of a block, not of a vCPU: every access is checked by itself */

/* tsc.c: has RDTSC in line follow the time that C is told, where the host's TSC is steady. */
bool bt_tsc_setup(struct x86_ops *ops);
/* The next RDTSC asks C: time may have stood still or been moved. vCPU thread. */
void bt_tsc_ask(struct engine_vcpu *v);

/* ibtc.c: jump caches. */
/* pages: numbers that tb.page may have; underflow: of the shadow stack. NULL: no memory. */
struct ibtc *ibtc_create(u32 pages, const u8 *underflow);
void ibtc_destroy(struct ibtc *t);
void ibtc_clear(struct ibtc *t);
/* Enters a block found through the linear page of `lin`; `local`: by a translation that is not
 * global. May move the entries. */
void ibtc_add(struct ibtc *t, u64 rip, u64 lin, bool local, const u8 *host);
/* The block just entered continues in this page. */
void ibtc_add_page(struct ibtc *t, u64 lin, bool local);
bool ibtc_has_page(const struct ibtc *t, u64 lin); /* false: surely not */

size_t bt_decoded_bytes(void);
