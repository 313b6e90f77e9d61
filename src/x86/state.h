/* state.h - the engine-neutral architectural state of one processor */
#pragma once

#include "base/err.h"
#include "base/types.h"

struct snap_desc;

enum x86_gpr {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R9,
    X86_R10,
    X86_R11,
    X86_R12,
    X86_R13,
    X86_R14,
    X86_R15,
    X86_REG_RIP, /* index of rip in x86_state.r: base register of RIP-relative operands */
    X86_REG_NONE /* always reads 0: absent base or index */
};

/* Encoding order of segment registers (SDM vol. 2, Sreg field). */
enum x86_sreg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SREGS };

/* Descriptor attributes as in descriptor bits 40-55 (SDM vol. 3 3.4.5):
 *  15 G | 14 D/B | 13 L | 12 AVL | 11-8 limit (zero here) | 7 P | 6-5 DPL | 4 S | 3-0 type */
#define SEG_TYPE      0x000fu
#define SEG_ACCESSED  0x0001u
#define SEG_WRITE     0x0002u /* data: writable; code: readable */
#define SEG_DOWN      0x0004u /* data: expand-down; code: conforming */
#define SEG_CODE      0x0008u
#define SEG_S         0x0010u
#define SEG_DPL_SHIFT 5
#define SEG_DPL       0x0060u
#define SEG_P         0x0080u
#define SEG_AVL       0x1000u
#define SEG_L         0x2000u
#define SEG_DB        0x4000u
#define SEG_G         0x8000u

struct x86_seg {
    u64 base;
    u32 limit; /* in bytes, already scaled by G: offset of the last byte */
    u16 sel;
    u16 attr; /* SEG_*; P clear = unusable (null) */
};

struct x86_dtable {
    u64 base;
    u16 limit;
};

#define RFLAGS_CF         BIT(0)
#define RFLAGS_ONE        BIT(1)
#define RFLAGS_PF         BIT(2)
#define RFLAGS_AF         BIT(4)
#define RFLAGS_ZF         BIT(6)
#define RFLAGS_SF         BIT(7)
#define RFLAGS_TF         BIT(8)
#define RFLAGS_IF         BIT(9)
#define RFLAGS_DF         BIT(10)
#define RFLAGS_OF         BIT(11)
#define RFLAGS_IOPL       (3u << 12)
#define RFLAGS_IOPL_SHIFT 12
#define RFLAGS_NT         BIT(14)
#define RFLAGS_RF         BIT(16)
#define RFLAGS_VM         BIT(17)
#define RFLAGS_AC         BIT(18)
#define RFLAGS_VIF        BIT(19)
#define RFLAGS_VIP        BIT(20)
#define RFLAGS_ID         BIT(21)
#define RFLAGS_ARITH      (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR3_PCID    0xfffull
#define CR3_NOFLUSH BIT64(63)

#define CR4_VME        BIT(0)
#define CR4_PVI        BIT(1)
#define CR4_TSD        BIT(2)
#define CR4_DE         BIT(3)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_PCE        BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_VMXE       BIT(13)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)

/* The x87, MMX, SSE and AVX registers. `st` is in stack order as FXSAVE stores it: st[0] is ST(0);
 * MMX register i aliases physical register i, i.e. st[(i - TOP) & 7]. */
struct x86_fpu {
    _Alignas(64) u8 vec[16][32]; /* YMM0..15; XMMi is the low half */
    u8 st[8][16];                /* 80 bits used, the rest zero */
    u64 fip, fdp;                /* last instruction and operand offset */
    u32 mxcsr;
    u16 fcw, fsw, fop, fcs, fds;
    u8 ftw; /* abridged: bit i set = physical register i not empty */
};

/* Blocking after STI and MOV SS / POP SS (SDM vol. 3 6.8.3), and after NMI delivery until IRET. */
#define X86_SHADOW_STI   BIT(0)
#define X86_SHADOW_MOVSS BIT(1)
#define X86_BLOCK_NMI    BIT(2)

enum x86_activity { X86_ACTIVE, X86_HALTED, X86_SHUTDOWN_STATE, X86_WAIT_SIPI };

struct x86_state {
    union {
        u64 r[18]; /* indexed by enum x86_gpr, RIP and the zero register included */
        struct {
            u64 gpr[16];
            u64 rip;
            u64 zero; /* invariant: 0 */
        };
    };
    u64 rflags;
    struct x86_seg seg[X86_SREGS], ldtr, tr;
    struct x86_dtable gdtr, idtr;
    u64 cr0, cr2, cr3, cr4, efer, xcr0;
    u64 pdpte[4]; /* PAE paging: registers loaded at MOV CR3 (SDM vol. 3 4.4.1) */
    u64 dr[4], dr6, dr7;
    u8 cpl;
    u8 shadow;   /* X86_SHADOW_*, X86_BLOCK_NMI */
    u8 activity; /* enum x86_activity */
    /* A fault or trap recognised but not yet delivered (snapshots between the two; engine kvm). */
    bool exc_pending, exc_has_error;
    u8 exc_vector;
    u32 exc_error;
    u64 dr6_pending; /* DR6 bits of a trap-class #DB to raise at the next boundary; 0 = none */

    u64 star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 tsc_offset; /* added to vcpu_env.tsc; IA32_TSC writes and TSC_ADJUST change it */
    u64 tsc_adjust, tsc_aux;
    u64 pat, misc_enable, spec_ctrl, xss, debugctl, umwait;
    u64 mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    u64 mcg_status, mc_ctl[4], mc_status[4], mc_addr[4], mc_misc[4];

    struct x86_fpu fpu;
};

/* Architectural state after power-up or RESET# (`init` false) or INIT (`init` true: keeps FPU,
 * MSRs, CR0.CD/NW as SDM vol. 3 table 10-1 says). Pure. */
void x86_state_reset(struct x86_state *s, bool init);

/* Refuses what no processor can be in (reserved CR bits, long mode without PAE, non-canonical
 * bases, bad MXCSR bits...). 0 or -EINVAL with *e naming the field. Used for snapshots and API
 * state. */
int x86_state_check(const struct x86_state *s, struct err *e);

/* The snapshot record "cpu". */
extern const struct snap_desc x86_state_snap;
