/* row.h - one line of the bench table */
#pragma once

#include <stddef.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

struct row {
    const char *name;
    u64 (*run)(u32 rounds);     /* the work of one repetition; returns its checksum */
    u32 rounds;                 /* 10 to 50 ms natively; 0: a whole job, never repeated */
    const char *(*setup)(void); /* once, not timed: why the row cannot run, or NULL. May be NULL */
};
