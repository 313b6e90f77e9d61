/* step.h - one instruction at a time: the interpreter's slow path, and the translator's */
#pragma once

#include "x86/insn.h"

/* Fetches, executes and retires one instruction, without any cache; faults are delivered. X86_OK,
 * X86_YIELD, X86_HALT or X86_SHUTDOWN. The cpu's own thread; x86_boundary was called before when
 * attn was set. */
must_check int interp_step(struct x86_cpu *cpu);
