/* kernels.h - the integer kernels of the benches: no libc, so that they also run in a bare guest */
#pragma once

#include "row.h"

u64 kernel_lz(u32 rounds);
u64 kernel_chase(u32 rounds);
u64 kernel_fib(u32 rounds);
u64 kernel_indirect(u32 rounds);
u64 kernel_bytecode(u32 rounds);

extern const struct row kernels[]; /* up to a NULL name */
