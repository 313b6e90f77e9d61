/* cpu.h - a processor in motion: architectural state, derived state, and its view of the world */
#pragma once

#include "base/types.h"
#include "x86/feature.h"
#include "x86/state.h"
#include "x86/tlb.h"

struct x86_cpu;
struct x86_cpuid_model;

/* What every step of x86/ returns. */
enum x86_rc {
    X86_OK = 0, /* done; the caller may go straight on to the next instruction */
    X86_YIELD,  /* done (or `rep` in progress, RIP on it): look at attn and look RIP up anew */
    /* cpu->exc holds an exception; registers, memory and RIP are as before the instruction except
     * where the manual says otherwise (e.g. completed iterations of rep). */
    X86_FAULT,
    X86_HALT,     /* HLT retired, nothing to deliver */
    X86_SHUTDOWN, /* triple fault */
    X86_KICKED,   /* x86_boundary only: X86_ATTN_KICK was set (it has been cleared) */
};

#define TRY(expr)          \
    do {                   \
        int rc_ = (expr);  \
        if (unlikely(rc_)) \
            return rc_;    \
    } while (0)

enum x86_vector {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS_FAULT = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_MC = 18,
    X86_XM = 19
};

/* Page-fault error code bits (SDM vol. 3 4.7). */
#define PF_P    BIT(0)
#define PF_W    BIT(1)
#define PF_U    BIT(2)
#define PF_RSVD BIT(3)
#define PF_I    BIT(4)

struct x86_exc {
    u8 vector;
    bool has_error;
    u32 error;
    u64 cr2; /* #PF: goes to CR2 on delivery */
    u64 dr6; /* #DB: bits to set in DR6 on delivery */
};

/* A page of guest-physical memory as the world shows it. */
struct x86_page {
    u8 *hva;       /* page-aligned host address of the 4 KiB */
    bool writable; /* RAM; false: ROM, guest writes vanish */
    bool code;     /* decoded instructions are cached from it: report writes to ops->code_write */
};

#define X86_KVM_ENOSYS 1000 /* the one error of KVM hypercalls that is no errno */

/* The world, seen from a processor. All calls from the thread that runs the cpu. `w` is
 * cpu->world. */
struct x86_ops {
    /* Page at gpa (4 KiB aligned). `write`: it is about to be written (dirty log). False: no memory
     * there. */
    bool (*page)(void *w, u64 gpa, bool write, struct x86_page *out);
    /* MMIO or hole. size 1, 2, 4, 8. */
    u64 (*mmio_read)(void *w, u64 gpa, unsigned size);
    void (*mmio_write)(void *w, u64 gpa, unsigned size, u64 val);
    /* Bytes of a page with `code` set were just written by this cpu. The world drops stale decoded
     * code and sets X86_ATTN_CODE when the running block may be among it. */
    void (*code_write)(void *w, u64 gpa, unsigned size);
    u64 (*io_in)(void *w, u16 port, unsigned size);
    void (*io_out)(void *w, u16 port, unsigned size, u64 val);
    u64 (*tsc)(void *w); /* before tsc_offset */
    u64 (*cr8_read)(void *w);
    void (*cr8_write)(void *w, u64 val);
    /* MSRs that x86/msr.c does not hold. 0, or negative: #GP(0). */
    int (*msr_read)(void *w, u32 msr, u64 *val);
    int (*msr_write)(void *w, u32 msr, u64 val);
    bool (*irq_pending)(void *w);
    int (*irq_ack)(void *w); /* vector or -1 */
    bool (*nmi_take)(void *w);
    void (*ferr)(void *w, bool asserted);
    int (*random)(void *w, u64 *val); /* 0 or negative: CF clear */
    /* Paravirtual IPI: vector and mode as in the ICR's low half, to the APIC ids `first` + n of the
     * bits n set in the map. How many took it, or -errno, or -X86_KVM_ENOSYS. May be NULL. */
    int (*send_ipis)(void *w, unsigned __int128 map, u64 first, u64 icr);
    /* Translations that translators may have built on are void: in the contexts of the bit map
     * (bit n: context n, as in cpu->tlb_ctx), those of the page at lin, or all when lin is
     * X86_TLB_ALL_PAGES. `global`: also the global translations of that page, or all global ones,
     * whatever context they were used in; else those stay valid. Comes as well when a context is
     * given to another PCID; not when MOV CR3 merely makes another context the current one, and
     * not when a page fault makes the TLB forget its page. May be NULL. */
    void (*tlb_flushed)(void *w, u32 contexts, u64 lin, bool global);
};

/* Reasons to leave the fast path before the next instruction. Or-ed atomically; KICK, IRQ and NMI
 * by any thread, the others by the cpu's own. */
#define X86_ATTN_KICK   BIT(0)
#define X86_ATTN_IRQ    BIT(1) /* ask ops->irq_pending; stays set while pending but masked */
#define X86_ATTN_NMI    BIT(2)
#define X86_ATTN_SHADOW BIT(3) /* s.shadow has STI or MOV SS set */
#define X86_ATTN_STEP   BIT(4) /* TF or RF, dr6_pending, or DR7 breakpoints: one at a time */
#define X86_ATTN_CODE   BIT(5) /* code of the running block may have changed; engines clear it */
#define X86_ATTN_HALT   BIT(6) /* s.activity is not X86_ACTIVE */

/* What an instruction asks of x86_retire. Cleared there and whenever x86_boundary lets one
 * execute. */
#define X86_RETIRE_NO_STEP BIT(0) /* no single-step trap for it, whatever TF was: INT n, SYSCALL */
#define X86_RETIRE_KEEP_RF BIT(1) /* it loaded RF itself: IRET, task switch */
#define X86_RETIRE_MID_REP BIT(2) /* `rep` in progress, RIP on it: RF stays, and is pushed as 1 */
#define X86_RETIRE_BRANCH  BIT(3) /* it branched, says the engine; matters with DEBUGCTL.BTF only */

enum x86_paging { X86_PAGING_NONE, X86_PAGING_32, X86_PAGING_PAE, X86_PAGING_4LEVEL };

struct x86_cpu {
    struct x86_state s;

    /* Derived by x86_update_mode() whenever CR0, CR4, EFER, CS, SS, RFLAGS.VM/AC, CPL or a data
     * segment changed. Code outside x86/ only reads them. */
    u8 code_bits;            /* 16, 32, 64: default operand and address size */
    u8 stack_bytes;          /* 2, 4, 8: width of the stack pointer */
    bool prot;               /* CR0.PE and not virtual-8086 */
    bool vm86;               /* RFLAGS.VM */
    bool lma;                /* EFER.LMA */
    u8 paging;               /* enum x86_paging */
    u8 mmu_set;              /* which tlb set explicit accesses use: X86_TLB_* */
    u8 seg_fast;             /* bit per sreg: access needs no check but paging */
    u64 seg_base[X86_SREGS]; /* zero for ES, CS, SS, DS in 64-bit mode */
    u64 lin_mask;            /* ~0 in 64-bit mode, else 0xffffffff */
    bool align_check;        /* #AC is on: CPL 3, CR0.AM, RFLAGS.AC */

    /* The current TLB set, or the always-empty one while align_check or no_hits is on; see
     * x86_tlb_at. Any call that may fill or flush can move it. */
    struct x86_tlb_entry *tlb;
    u64 tlb_mask; /* (entries - 1) * X86_TLB_ENTRY_BYTES */
    struct x86_tlb_set *tlb_ac; /* KERNEL_AC of the current context */
    u32 tlb_ctx;  /* current context: 0 to X86_TLB_CONTEXTS - 1 */

    u32 attn; /* X86_ATTN_*, atomic */
    /* x86_boundary found ATTN_IRQ while RFLAGS.IF was clear, cleared it and set this;
     * x86_update_attention turns it back into ATTN_IRQ as soon as IF is set, so that masked
     * interrupts cost nothing meanwhile. */
    bool irq_masked;

    struct x86_exc exc;
    u64 insn_rip; /* RIP of the instruction being executed (for faults, FIP, restarts) */
    u8 retire;    /* X86_RETIRE_*: what that instruction asks of x86_retire */

    const struct x86_ops *ops;
    void *world;
    const struct x86_cpuid_model *cpuid;
    u64 features[X86_FEATURE_WORDS]; /* bitmap of enum x86_feature, from cpuid */
    u64 phys_mask;                   /* bits below MAXPHYADDR */
    u32 apic_id; /* initial x2APIC id, for CPUID; set by who creates the cpu, after x86_cpu_init */
    bool intel;  /* vendor-dependent behaviour: GenuineIntel, else AuthenticAMD */
    /* For tests: every probe of x86_tlb_at misses. Set by who creates the cpu, then
     * x86_tlb_select. */
    bool no_hits;

    struct x86_tlb tlbs;
};

static inline bool x86_has(const struct x86_cpu *cpu, enum x86_feature f)
{
    return cpu->features[f / 64] >> (f % 64) & 1;
}

static inline void x86_attn_set(struct x86_cpu *cpu, u32 bits)
{
    __atomic_fetch_or(&cpu->attn, bits, __ATOMIC_SEQ_CST);
}

static inline void x86_attn_clear(struct x86_cpu *cpu, u32 bits)
{
    __atomic_fetch_and(&cpu->attn, ~bits, __ATOMIC_SEQ_CST);
}

static inline u32 x86_attn(const struct x86_cpu *cpu)
{
    return __atomic_load_n(&cpu->attn, __ATOMIC_RELAXED);
}

/* The entry of the current set that stands for the page of lin, if any does. */
static inline struct x86_tlb_entry *x86_tlb_at(const struct x86_cpu *cpu, u64 lin)
{
    return (struct x86_tlb_entry *)((char *)cpu->tlb + (lin >> 7 & cpu->tlb_mask));
}

/* The set of that name in the current context. */
static inline struct x86_tlb_set *x86_tlb_set(struct x86_cpu *cpu, unsigned set)
{
    struct x86_tlb *t = &cpu->tlbs;
    return set == X86_TLB_KERNEL ? &t->kernel : &t->ctx[cpu->tlb_ctx][set == X86_TLB_KERNEL_AC];
}

/* Where the instruction at lin is, if the TLB knows that it may be fetched; else x86_lin_fetch
 * knows. */
static inline bool x86_tlb_exec_gpa(struct x86_cpu *cpu, u64 lin, u64 *gpa)
{
    if (x86_tlb_at(cpu, lin)->tag_exec != (lin & ~4095ull))
        return false;
    *gpa = x86_tlb_set_gpa(x86_tlb_set(cpu, cpu->mmu_set), lin) | (lin & 4095);
    return true;
}

/* Zeroes, wires and resets a cpu. `ops`, `world` and `cpuid` outlive it. x86_cpu_fini frees what
 * it comes to own; a zeroed cpu owns nothing. */
void x86_cpu_init(struct x86_cpu *cpu, const struct x86_ops *ops, void *world,
                  const struct x86_cpuid_model *cpuid);
void x86_cpu_fini(struct x86_cpu *cpu);

/* Points tlb and tlb_mask to the set that mmu_set, align_check and no_hits ask for. */
static inline void x86_tlb_select(struct x86_cpu *cpu)
{
    const struct x86_tlb_set *s = x86_tlb_set(cpu, cpu->mmu_set);

    bool empty = cpu->align_check || cpu->no_hits;

    cpu->tlb = unlikely(empty) ? cpu->tlbs.none : s->entry;
    cpu->tlb_mask = unlikely(empty) ? X86_TLB_ENTRY_BYTES : s->mask;
}

/* What follows from CPL and RFLAGS.AC: which set is the current one. */
static inline void x86_update_sets(struct x86_cpu *cpu)
{
    const struct x86_state *s = &cpu->s;
    bool ac = s->rflags & RFLAGS_AC;

    if (s->cpl == 3)
        cpu->mmu_set = X86_TLB_USER;
    else
        cpu->mmu_set = ac || !(s->cr4 & CR4_SMAP) ? X86_TLB_KERNEL_AC : X86_TLB_KERNEL;
    cpu->align_check = s->cpl == 3 && ac && s->cr0 & CR0_AM;
    x86_tlb_select(cpu);
}

/* Recomputes derived state (and attn's SHADOW, STEP, HALT) from s; flushes nothing. */
void x86_update_mode(struct x86_cpu *cpu);
/* The same where only CPL, RFLAGS other than VM, shadow, activity, debug registers or what is
 * pending changed: 64-bit code that goes on as 64-bit code, whatever its level. */
void x86_update_level(struct x86_cpu *cpu);
/* The same without CPL and RFLAGS.AC. */
void x86_update_attention(struct x86_cpu *cpu);

/* Replaces the architectural state: update_mode and a full TLB flush. s was checked by the
 * caller. */
void x86_cpu_set_state(struct x86_cpu *cpu, const struct x86_state *s);

/* Raise: fill cpu->exc and return X86_FAULT, for `return x86_gp(cpu, 0);`. */
int x86_raise(struct x86_cpu *cpu, u8 vector); /* without error code */
int x86_raise_error(struct x86_cpu *cpu, u8 vector, u32 error);
int x86_raise_pf(struct x86_cpu *cpu, u64 lin, u32 error);
int x86_raise_db(struct x86_cpu *cpu, u64 dr6_bits); /* fault-class #DB */
static inline int x86_gp(struct x86_cpu *cpu, u32 error)
{
    return x86_raise_error(cpu, X86_GP, error);
}
static inline int x86_ud(struct x86_cpu *cpu)
{
    return x86_raise(cpu, X86_UD);
}

/* Delivers cpu->exc through the IDT (or IVT), with double and triple faults (SDM vol. 3 6.15).
 * X86_OK or X86_SHUTDOWN (then s.activity is X86_SHUTDOWN_STATE). RIP must be on the faulting
 * instruction. */
must_check int x86_deliver(struct x86_cpu *cpu);

/* To be called before an instruction when attn != 0: delivers pending traps, NMI and interrupts in
 * the order of SDM vol. 3 table 6-2, code breakpoints included. X86_OK: execute one instruction at
 * RIP, then call x86_retire when x86_attn has STEP or SHADOW. Or X86_HALT, X86_KICKED,
 * X86_SHUTDOWN. */
must_check int x86_boundary(struct x86_cpu *cpu);

/* After an instruction that began with STEP or SHADOW in attn: `before` is RFLAGS, and `shadow`
 * s.shadow, as they were when it began. Ends shadows, clears RF, records the single-step trap. */
void x86_retire(struct x86_cpu *cpu, u64 rflags_before, u8 shadow_before);
