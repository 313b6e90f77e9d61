/* undefined.h - results that the manual leaves undefined, by instruction and operands */
#pragma once

#include <Zydis/Zydis.h>

#include "x86/state.h"

struct undefined {
    u32 flags;   /* RFLAGS bits */
    bool result; /* the destination operand too (double shifts by more than the operand size) */
    u8 count;    /* the masked count of a shift or rotate */
};

/* What the instruction leaves undefined when it starts from state s. */
struct undefined undefined_by(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                              const struct x86_state *s);
