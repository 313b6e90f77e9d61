/* xfer.h - the pieces that segment loads, far transfers, returns, events and task switches share */
#pragma once

#include "x86/debug.h"
#include "x86/exec.h"

/* System descriptor types (SDM vol. 3 table 3-2). In long mode TSS32 and the 32-bit gates are
 * 64-bit ones. */
enum {
    SYS_TSS16 = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INT16 = 6,
    SYS_TRAP16 = 7,
    SYS_TSS32 = 9,
    SYS_TSS32_BUSY = 11,
    SYS_CALL32 = 12,
    SYS_INT32 = 14,
    SYS_TRAP32 = 15
};
#define SYS_BUSY  2u /* type bit of a TSS descriptor */
#define SYS_32BIT 8u /* type bit of a TSS or gate */

/* Attributes of the segments that real mode, SYSCALL and SYSENTER load. */
#define ATTR_DATA16    (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED)
#define ATTR_FLAT_DATA (ATTR_DATA16 | SEG_DB | SEG_G)
#define ATTR_FLAT_CODE (ATTR_DATA16 | SEG_CODE | SEG_G) /* plus SEG_L or SEG_DB */

/* What of an image of RFLAGS that IRET loads is kept. RF lets the next instruction pass its
 * breakpoint (SDM vol. 3 17.3.1.1): while none is enabled it is as good as cleared behind that
 * instruction, and nobody has to stop there to do so. */
static inline u64 iret_image(const struct x86_cpu *cpu, u64 flags)
{
    return cpu->s.dr7 & DR7_ENABLES ? flags : flags & ~(u64)RFLAGS_RF;
}

static inline bool sel_null(u16 sel)
{
    return !(sel & 0xfffc);
}

static inline unsigned sel_rpl(u16 sel)
{
    return sel & 3;
}

static inline unsigned attr_dpl(u16 attr)
{
    return (attr & SEG_DPL) >> SEG_DPL_SHIFT;
}

static inline bool attr_is_code(u16 attr)
{
    return (attr & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}

static inline bool attr_is_conforming(u16 attr)
{
    return (attr & (SEG_S | SEG_CODE | SEG_DOWN)) == (SEG_S | SEG_CODE | SEG_DOWN);
}

static inline bool attr_is_writable_data(u16 attr)
{
    return (attr & (SEG_S | SEG_CODE | SEG_WRITE)) == (SEG_S | SEG_WRITE);
}

static inline bool attr_is_system(u16 attr, unsigned type)
{
    return (attr & (SEG_S | SEG_TYPE)) == type;
}

/* Segment exception with the selector as error code. */
static inline int sel_fault(struct x86_cpu *cpu, u8 vector, u16 sel)
{
    return x86_raise_error(cpu, vector, sel & 0xfffc);
}

/* --- descriptors (seg.c) ---------------------------------------------------------------------- */

/* Decodes 8 bytes of a table, and for system descriptors of long mode the 8 that follow. */
void x86_desc_parse(u64 low, u64 high, struct x86_desc *out);
/* As x86_desc_read, but a selector outside its table only clears *found; reads 8 bytes. */
must_check int x86_desc_try(struct x86_cpu *cpu, u16 sel, struct x86_desc *out, bool *found);
/* Sets and clears type bits of the descriptor in memory, atomically towards other processors. */
must_check int x86_desc_update(struct x86_cpu *cpu, u64 table_lin, u8 set, u8 clear);
/* Sets the accessed bit of a code or data segment, in memory and in d, if it is clear. */
must_check int x86_desc_accessed(struct x86_cpu *cpu, struct x86_desc *d);
/* Fills a segment register; x86_update_mode is the caller's. */
void x86_seg_fill(struct x86_seg *seg, u16 sel, const struct x86_desc *d);
/* The null selector: unusable. */
void x86_seg_null(struct x86_cpu *cpu, unsigned sreg, u16 sel);
/* ES, DS, FS, GS whose DPL is inside the new CPL become null (return to an outer level). */
void x86_null_inner_segs(struct x86_cpu *cpu);

/* --- code segments (far.c, iret.c, event.c) --------------------------------------------------- */

/* #GP(0) unless off is inside the code segment, or canonical when it is a 64-bit one. */
u64 x86_return_offset(const struct x86_cpu *cpu, const struct x86_desc *cs, u64 off);
must_check int x86_check_ip(struct x86_cpu *cpu, const struct x86_desc *cs, u64 off);
/* Commits CS, CPL and RIP; x86_update_mode is the caller's. */
void x86_enter_code(struct x86_cpu *cpu, u16 sel, const struct x86_desc *cs, unsigned cpl, u64 rip);
/* Width of the stack pointer with these two loaded. */
unsigned x86_stack_width(const struct x86_cpu *cpu, u16 cs_attr, u16 ss_attr);

/* A return frame (RETF, IRET): checks the code segment, and then the stack segment of an outer
 * level. */
must_check int x86_return_code(struct x86_cpu *cpu, u16 sel, struct x86_desc *cs);
must_check int x86_return_stack(struct x86_cpu *cpu, u16 sel, u16 cs_sel, const struct x86_desc *cs,
                                struct x86_desc *ss);
/* Commits such a return; rsp is the popped stack pointer; x86_update_mode is the caller's. */
void x86_return_outer(struct x86_cpu *cpu, u16 cs_sel, const struct x86_desc *cs, u64 rip,
                      u16 ss_sel, const struct x86_desc *ss, u64 rsp);

/* --- short cuts of 64-bit mode (flat.c) ------------------------------------------------------- */

/* For 64-bit code: delivers an event that is no INT n, INT3 or INTO; `flags` is the image to push.
 * For 64-bit code of level 0: IRETQ. False: nothing was done, take the long way. x86_update_level
 * is the caller's. */
must_check bool x86_flat_deliver(struct x86_cpu *cpu, u8 vector, bool has_error, u32 error,
                                 u64 flags);
must_check bool x86_flat_iret(struct x86_cpu *cpu);

/* --- stacks (xfer.c) -------------------------------------------------------------------------- */

/* Reads the stack `off` bytes above the stack pointer, which does not move. */
must_check int x86_stack_peek(struct x86_cpu *cpu, unsigned off, unsigned size, u64 *val);
/* Adds to the stack pointer, within its present width. */
void x86_stack_move(struct x86_cpu *cpu, s64 bytes);

/* A frame under construction, on a stack that need not be the current one. Nothing changes before
 * x86_frame_write, which checks every page before it writes; the stack pointer is the caller's. */
#define X86_FRAME_MAX 40
struct x86_frame {
    struct x86_seg ss;
    u64 sp;          /* before the first push */
    unsigned width;  /* bytes of the stack pointer; 8: no segmentation */
    unsigned size;   /* bytes of each item */
    unsigned access; /* X86_W, with X86_SYS on an inner stack */
    u32 error;       /* error code of #SS */
    unsigned n;
    u64 item[X86_FRAME_MAX];
};

/* The stack in use, with items of `size` bytes. */
void x86_frame_current(struct x86_cpu *cpu, struct x86_frame *f, unsigned size);
/* The 64-bit stack at rsp. */
void x86_frame_long(struct x86_frame *f, u64 rsp, bool inner);
/* The legacy stack of privilege level `dpl` from the TSS (SDM vol. 3 5.8.5): all checks of its
 * segment, whose selector and descriptor go to *sel and *ss. */
must_check int x86_frame_inner(struct x86_cpu *cpu, struct x86_frame *f, unsigned dpl,
                               unsigned size, u16 *sel, struct x86_desc *ss);
/* RSPn or ISTn of the 64-bit TSS, at byte `off` of it. */
must_check int x86_tss_rsp(struct x86_cpu *cpu, unsigned off, u64 *rsp);

static inline void x86_frame_push(struct x86_frame *f, u64 val)
{
    f->item[f->n++] = val;
}
/* Room: segment limits or canonical addresses. */
must_check int x86_frame_check(struct x86_cpu *cpu, const struct x86_frame *f);
must_check int x86_frame_write(struct x86_cpu *cpu, const struct x86_frame *f);
/* The stack pointer after the pushes, in its width. */
u64 x86_frame_sp(const struct x86_frame *f);

/* A far pointer operand: immediate, or m16:16, m16:32, m16:64 as operand i. */
must_check int x86_far_pointer(struct x86_cpu *cpu, const struct x86_insn *in, unsigned i, u16 *sel,
                               u64 *off);
