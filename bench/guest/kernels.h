/* kernels.h - the integer kernels of the benches */
#pragma once

typedef unsigned int u32;
typedef unsigned long u64;

struct kernel {
    const char *name;
    u64 (*run)(u32 rounds); /* a checksum of the work */
    u32 rounds;             /* a quarter of a second or so under the interpreter */
};

#define KERNELS 4
extern const struct kernel kernels[KERNELS];
