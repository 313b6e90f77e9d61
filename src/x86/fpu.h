/* fpu.h - inside the x87, MMX, SSE and AVX part of x86/: availability, stubs, state helpers */
#pragma once

#include <string.h>

#include "x86/exec.h"

struct ZydisDecodedInstruction_;
struct ZydisDecodedOperand_;

/* --- when an instruction may run (SDM vol. 2 2.4-2.8, 23.25; vol. 3 2.5) ---------------------- */

enum fp_kind {
    FP_GPR,     /* general registers, legacy encoding: always */
    FP_GPR_VEX, /* general registers, VEX: #UD in real and virtual-8086 mode */
    FP_MMX,     /* #UD by EM, #NM by TS, pending x87 exceptions */
    FP_SSE,     /* #UD by EM or !OSFXSR, #NM by TS */
    FP_SSE_MMX, /* FP_SSE, then pending x87 exceptions */
    FP_AVX,     /* #UD outside protected mode, by !OSXSAVE or XCR0; #NM by TS */
};

/* The slow half of fp_check: finds out which exception it is, if any. */
must_check int fp_refuse(struct x86_cpu *cpu, enum fp_kind kind);

static inline must_check int fp_check(struct x86_cpu *cpu, enum fp_kind kind)
{
    u64 cr0 = cpu->s.cr0, cr4 = cpu->s.cr4;

    switch (kind) {
    case FP_GPR: return X86_OK;
    case FP_SSE:
        if (likely(!(cr0 & (CR0_EM | CR0_TS)) && (cr4 & CR4_OSFXSR)))
            return X86_OK;
        break;
    case FP_AVX:
        if (likely(!(cr0 & CR0_TS) && (cr4 & CR4_OSXSAVE) && cpu->prot &&
                   (~cpu->s.xcr0 & (XCR0_SSE | XCR0_AVX)) == 0))
            return X86_OK;
        break;
    default: break;
    }
    return fp_refuse(cpu, kind);
}

/* --- memory operands -------------------------------------------------------------------------- */

static inline void fp_copy(void *to, const void *from, unsigned n)
{
    switch (n) {
    case 1: memcpy(to, from, 1); break;
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    case 16: memcpy(to, from, 16); break;
    case 32: memcpy(to, from, 32); break;
    default: memcpy(to, from, n); break;
    }
}

/* Comes before the segment's checks: processors raise #GP(0), not #SS(0), for a misaligned operand
 * beyond the limit of the stack segment. */
static inline bool fp_misaligned(const struct x86_cpu *cpu, const struct x86_insn *in,
                                 unsigned align)
{
    return align > 1 && (cpu->seg_base[in->seg] + x86_ea(cpu, in)) & (align - 1);
}

/* Reads or writes the memory operand of `in`. align: bytes it must be aligned to, else #GP(0); 1 =
 * any. */
static inline must_check int fp_load(struct x86_cpu *cpu, const struct x86_insn *in, void *buf,
                                     unsigned n, unsigned align)
{
    u64 lin;

    if (unlikely(fp_misaligned(cpu, in, align)))
        return x86_gp(cpu, 0);
    TRY(x86_linear(cpu, in->seg, x86_ea(cpu, in), n, X86_R, &lin));
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);
    if (unlikely(e->tag_read != ((lin + n - 1) & ~4095ull)))
        return x86_mem_read(cpu, in->seg, lin, buf, n);
    fp_copy(buf, (const void *)(uintptr_t)(lin + e->addend), n);
    return X86_OK;
}

static inline must_check int fp_store(struct x86_cpu *cpu, const struct x86_insn *in,
                                      const void *buf, unsigned n, unsigned align)
{
    u64 lin;

    if (unlikely(fp_misaligned(cpu, in, align)))
        return x86_gp(cpu, 0);
    TRY(x86_linear(cpu, in->seg, x86_ea(cpu, in), n, X86_W, &lin));
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);
    if (unlikely(e->tag_write != ((lin + n - 1) & ~4095ull)))
        return x86_mem_write(cpu, in->seg, lin, buf, n);
    fp_copy((void *)(uintptr_t)(lin + e->addend), buf, n);
    return X86_OK;
}

/* #GP(0) or, by way of SS, #SS(0) for n bytes that are not all canonical. */
must_check int fp_canonical_check(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned n);
/* Checks that n bytes, canonical ones, could be written, without regard to their alignment. */
must_check int fp_probe_bytewise(struct x86_cpu *cpu, u64 lin, unsigned n);
/* Segment and #AC checks for operands whose alignment is not their size n (80-bit reals,
 * environments). */
must_check int fp_alignment_check(struct x86_cpu *cpu, const struct x86_insn *in, unsigned n,
                                  unsigned align, unsigned access);

/* --- x87 and MMX state ------------------------------------------------------------------------ */

#define FSW_EXCEPTIONS 0x3fu /* IE DE ZE OE UE PE */
#define FSW_PE         0x20u
#define FSW_SF         0x40u
#define FSW_ES         0x80u
#define FSW_TOP        0x3800u
#define FSW_TOP_SHIFT  11
#define FSW_B          0x8000u
#define FCW_ALWAYS     0x0040u /* reads as one */
#define FCW_SETTABLE   0x1f3fu /* X, RC, PC and the masks */
#define FCW_INIT       0x037fu
#define MXCSR_INIT     0x1f80u
#define MXCSR_VALID    0xffffu /* also the MXCSR_MASK that FXSAVE reports */

static inline unsigned x87_top(const struct x86_fpu *f)
{
    return (f->fsw & FSW_TOP) >> FSW_TOP_SHIFT;
}

/* Exceptions that are flagged and not masked: the next waiting instruction reports them. */
static inline unsigned x87_unmasked(const struct x86_fpu *f)
{
    return f->fsw & ~f->fcw & FSW_EXCEPTIONS;
}

/* Register slot (index in st[]) that MMX register `mm` has now. */
static inline u8 *mmx_reg(struct x86_fpu *f, unsigned mm)
{
    return f->st[(mm - x87_top(f)) & 7];
}

/* Makes ES and B follow the flags and masks, as every load of FSW or FCW does. */
void x87_update_es(struct x86_fpu *f);
/* Changes TOP and turns st[] so that every physical register keeps its contents. */
void x87_set_top(struct x86_fpu *f, unsigned top);
/* FNINIT. Register contents stay. */
void x87_init(struct x86_fpu *f);
/* Raises a pending x87 exception: #MF, or with CR0.NE clear FERR# and the wait for its interrupt
 * (X86_YIELD with RIP on the instruction again). */
must_check int x87_pending(struct x86_cpu *cpu);
/* After an instruction that may have taken the last unmasked exception away: drops FERR#. */
void x87_ferr_update(struct x86_cpu *cpu, bool was_pending);
/* What every MMX instruction leaves behind: TOP 0, all tags valid. */
void mmx_enter(struct x86_fpu *f);

/* --- native stubs ----------------------------------------------------------------------------- */

/* What a stub works on; RDI points at it. Offsets are known to native_emit.c (NF_*). */
struct native_frame {
    _Alignas(64) u8 mem[64]; /* the memory operand */
    u64 gpr[4];              /* RAX, RCX, RDX, R9 before and after */
    u32 mxcsr;               /* guest's, before and after */
    u32 host_mxcsr;          /* written by the stub */
    u16 flags;               /* low byte OF, high byte as LAHF; before and after */
    u8 trapped;              /* signal number when the host CPU refused; the caller clears it */
    u8 pad;
    u16 host_fcw; /* x87 stubs: control word the host goes on with */
};

/* x87 stubs: the FXSAVE image follows directly. */
struct x87_frame {
    struct native_frame f;
    _Alignas(64) u8 fx[512];
};

enum { /* offsets; asserted in native.c */
       NF_MEM = 0,
       NF_GPR = 64,
       NF_MXCSR = 96,
       NF_HOST_MXCSR = 100,
       NF_FLAGS = 104,
       NF_HOST_FCW = 108,
       NF_FX = 128
};

/* Vector slots: where an operand was encoded. Each has a fixed pointer argument and a fixed
 * register. */
enum { NV_REG, NV_VVVV, NV_RM, NV_EXTRA, NV_SLOTS };

typedef void native_stub(struct native_frame *f, void *reg, void *vvvv, void *rm, void *extra);

/* Byte of native_op.vec: kind in the high half, operand index in the low (NV_FIXED: XMM0). */
#define NV_KIND    0xf0
#define NV_NONE    0x00
#define NV_XMM     0x10 /* legacy: 16 bytes loaded and stored */
#define NV_VXMM    0x20 /* VEX.128: 16 loaded, 32 stored */
#define NV_YMM     0x30 /* VEX.256 */
#define NV_MM      0x40
#define NV_OPERAND 0x07
#define NV_FIXED   0x04

/* Bytes of native_op.gin/gout: operand index, or a fixed register. */
#define NG_FIXED 0x20
#define NG_NONE  0xff

#define NO_GPR       BIT(0)
#define NO_FLAGS     BIT(1) /* reads or writes arithmetic flags */
#define NO_MXCSR     BIT(2) /* rounds or can raise SIMD exceptions */
#define NO_MMX       BIT(3) /* uses MMX registers */
#define NO_YMM       BIT(4) /* dirties upper halves */
#define NO_X87       BIT(5)
#define NO_UNALIGNED BIT(6) /* memory operand exempt from #AC */

enum { NM_NONE, NM_READ, NM_WRITE };

/* A stub and what surrounds it. Shared by all instructions that differ in registers and address
 * only; lives until the process ends, so struct x86_insn.aux never dangles. */
struct native_op {
    native_stub *run;
    struct native_op *next;
    struct native_ident {
        u8 code[16]; /* the re-encoded instruction */
        u8 code_len;
        u8 check; /* enum fp_kind */
        u8 flags; /* NO_* */
        u8 mem;   /* NM_* */
        u8 mem_size, mem_align;
        u8 vec[NV_SLOTS];
        u8 vec_written; /* bit per slot */
        u8 gin[4], gout[4];
    } id;
};

/* Finds or makes the shared stub for id (zeroed by the caller where unused). NULL: no memory left
 * for it. Any thread. */
const struct native_op *native_intern(const struct native_ident *id);

#define NATIVE_STUB_MAX 192
/* Writes the stub for id to out (NATIVE_STUB_MAX bytes); returns its length. */
unsigned native_emit(const struct native_ident *id, u8 *out);
/* Writes the code where a stub that trapped leaves: cleans the host's vector and x87 state and
 * returns. */
unsigned native_emit_recovery(u8 *out);

bool native_host_avx(void);

static inline u16 native_flags_in(u64 rflags)
{
    return (u16)((rflags >> 11 & 1) | (rflags & 0xd5) << 8 | 0x200);
}

static inline u64 native_flags_out(u64 rflags, u16 flags)
{
    u64 arith = (flags >> 8 & (RFLAGS_ARITH & 0xff)) | (u64)(flags & 1) << 11;
    return (rflags & ~(u64)RFLAGS_ARITH) | arith;
}

/* --- the parts that x86_fp_bind joins --------------------------------------------------------- */

/* native.c: stubs of vector registers and a memory source only; any other. */
X86_HANDLER(native_vector);
X86_HANDLER(native);

x86_exec_fn *native_bind(struct x86_cpu *cpu, struct x86_insn *in,
                         const struct ZydisDecodedInstruction_ *z,
                         const struct ZydisDecodedOperand_ *ops);
x86_exec_fn *x87_bind(struct x86_cpu *cpu, struct x86_insn *in,
                      const struct ZydisDecodedInstruction_ *z,
                      const struct ZydisDecodedOperand_ *ops);
x86_exec_fn *simd_move_bind(const struct x86_insn *in, const struct ZydisDecodedOperand_ *ops);
x86_exec_fn *simd_special_bind(struct x86_insn *in, const struct ZydisDecodedOperand_ *ops);
x86_exec_fn *xsave_bind(const struct x86_insn *in);

/* x87_env.c */
X86_HANDLER(fldcw);
X86_HANDLER(fnstcw);
X86_HANDLER(fnstsw);
X86_HANDLER(fnstsw_ax);
X86_HANDLER(fldenv);
X86_HANDLER(fnstenv);
X86_HANDLER(frstor);
X86_HANDLER(fnsave);
X86_HANDLER(fnclex);
X86_HANDLER(fninit);
X86_HANDLER(fn_nop);
X86_HANDLER(fwait);
/* Entry checks of x87 instructions: #NM by EM or TS; `waiting` ones then report pending
 * exceptions. */
must_check int x87_enter(struct x86_cpu *cpu, bool waiting);

/* XINUSE as XGETBV with ECX = 1 shows it (SDM vol. 1 13.6). */
u64 x86_xinuse(const struct x86_cpu *cpu);
