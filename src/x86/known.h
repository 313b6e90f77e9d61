/* known.h - decoding with a memory: instructions decoded lately, and others of the same pattern */
#pragma once

#include "x86/insn.h"

struct x86_known;

/* All zeros at first. */
size_t x86_known_bytes(void);
/* As x86_decode, for at least X86_INSN_MAX bytes. `mode` stands for all that decoding depends on
 * beside the bytes, and is not 0. One thread at a time. */
must_check int x86_decode_known(struct x86_cpu *cpu, struct x86_known *known, u32 mode,
                                const u8 *bytes, struct x86_insn *out);
