/* optable.h - how handlers come in families: by operand size, and by operand form and size */
#pragma once

#include "x86/insn.h"

/* Forms of two-operand instructions: destination register or memory, source register, memory or
 * immediate. One-operand instructions use RR for a register and MR for memory. */
enum { X86_FORM_RR, X86_FORM_RI, X86_FORM_RM, X86_FORM_MR, X86_FORM_MI, X86_FORMS };

/* Handlers of mnemonics that stand for several instructions; decode.c picks by operands. */
int x86_op_jmp_far(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_call_far(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_ret_far(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_mov_to_sreg(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_mov_from_sreg(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_push_sreg(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_pop_sreg(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_mov_to_cr(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_mov_from_cr(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_mov_to_dr(struct x86_cpu *cpu, const struct x86_insn *in);
int x86_op_mov_from_dr(struct x86_cpu *cpu, const struct x86_insn *in);
