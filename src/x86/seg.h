/* seg.h - segmentation, far transfers, gates, tasks and event delivery */
#pragma once

#include "x86/cpu.h"

/* Descriptor as read from a table: raw 8 or (long-mode system) 16 bytes, decoded. */
struct x86_desc {
    u64 base;
    u32 limit;
    u16 attr; /* SEG_* */
    /* gates */
    u16 gate_sel;
    u64 gate_off;
    u8 gate_ist, gate_params;
    u64 table_lin; /* linear address of the descriptor, for A and busy bits */
};

/* Reads a descriptor of the GDT or LDT. Out of range or (for `wide` system descriptors) malformed:
 * #GP/#NP/#TS... with vector `fault_vector` and error sel & ~3 (| EXT when delivering). */
must_check int x86_desc_read(struct x86_cpu *cpu, u16 sel, u8 fault_vector, struct x86_desc *out);

/* MOV/POP Sreg, LxS semantics for ES, SS, DS, FS, GS (SDM vol. 2 MOV): all checks, A bit; updates
 * mode. */
must_check int x86_load_seg(struct x86_cpu *cpu, unsigned sreg, u16 sel);
/* Real-mode and virtual-8086 form: base = sel << 4, no checks. The caller ends with
 * x86_update_mode. */
void x86_set_seg_real(struct x86_cpu *cpu, unsigned sreg, u16 sel);

/* Stack helpers: push and pop with the current stack width and SS, size 2, 4, 8 bytes. On fault RSP
 * unchanged. */
must_check int x86_push(struct x86_cpu *cpu, unsigned size, u64 val);
must_check int x86_pop(struct x86_cpu *cpu, unsigned size, u64 *val);

/* Near branch to off: checks CS limit or canonicality (#GP(0)), masks to opsize (bytes), sets
 * s.rip. */
must_check int x86_jump_near(struct x86_cpu *cpu, u64 off, unsigned opsize);

/* Far transfers with opsize in bytes. All privilege rules, gates and tasks of SDM vol. 3 chapters 5
 * and 7. */
must_check int x86_far_jmp(struct x86_cpu *cpu, u16 sel, u64 off, unsigned opsize);
must_check int x86_far_call(struct x86_cpu *cpu, u16 sel, u64 off, unsigned opsize);
must_check int x86_far_ret(struct x86_cpu *cpu, unsigned opsize, unsigned pop_bytes);
must_check int x86_iret(struct x86_cpu *cpu, unsigned opsize);

/* Hardware task switch (SDM vol. 3 7.3). */
enum x86_task_source {
    X86_TASK_JMP,
    X86_TASK_CALL,
    X86_TASK_IRET,
    X86_TASK_GATE,       /* task gate of the IDT: interrupt or trap */
    X86_TASK_GATE_FAULT, /* the same for a fault: RF is set in the flags saved */
};
/* `tss` was checked for type, busy bit, privilege and presence by the caller. Once the new task is
 * entered (faults from there on belong to it) insn_rip is its EIP, so that x86_exec does not put
 * the old one back. */
must_check int x86_task_switch(struct x86_cpu *cpu, u16 sel, const struct x86_desc *tss,
                               enum x86_task_source source, bool has_error, u32 error);

/* Where an event comes from: it decides DPL checks, the EXT bit, RIP pushed and RF. */
enum x86_event {
    X86_EV_HARDWARE, /* external interrupt, NMI */
    X86_EV_FAULT,    /* exception */
    X86_EV_INT_N, /* INT n: DPL-checked, IOPL-checked in virtual-8086 mode (and VME redirection) */
    X86_EV_INT3,  /* INT3 and INTO: DPL-checked */
    X86_EV_INT1,  /* INT1: privileged software exception, no DPL check */
};
/* Delivers one event through IVT, IDT gates or a task gate. For software events s.rip is already
 * behind the instruction. X86_FAULT when the delivery itself faults (cpu->exc replaced). */
must_check int x86_event_deliver(struct x86_cpu *cpu, u8 vector, enum x86_event ev, bool has_error,
                                 u32 error);

/* Control registers with all checks and side effects (TLB, mode); #GP on bad values. */
must_check int x86_set_cr0(struct x86_cpu *cpu, u64 val);
must_check int x86_set_cr3(struct x86_cpu *cpu, u64 val);
must_check int x86_set_cr4(struct x86_cpu *cpu, u64 val);
must_check int x86_set_efer(struct x86_cpu *cpu, u64 val);

/* RFLAGS as POPF/IRET would set them: only bits in mask change; updates mode. */
void x86_set_rflags(struct x86_cpu *cpu, u64 val, u64 mask);

/* I/O permission: IOPL or the TSS bitmap (SDM vol. 1 19.5). */
must_check int x86_io_check(struct x86_cpu *cpu, u16 port, unsigned size);

/* MSRs by number, as RDMSR/WRMSR at CPL 0 would: X86_OK or #GP(0). */
must_check int x86_msr_read(struct x86_cpu *cpu, u32 msr, u64 *val);
must_check int x86_msr_write(struct x86_cpu *cpu, u32 msr, u64 val);

/* Guest TSC now: ops->tsc + tsc_offset. */
u64 x86_tsc(struct x86_cpu *cpu);
