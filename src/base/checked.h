/* checked.h - arithmetic on untrusted numbers that cannot wrap unseen */
#pragma once

#include "base/types.h"

static inline must_check bool add_ok(u64 a, u64 b, u64 *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline must_check bool mul_ok(u64 a, u64 b, u64 *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* True when [off, off+len) lies inside [0, size). An empty range at `size` is inside. */
static inline bool range_ok(u64 off, u64 len, u64 size)
{
    return off <= size && len <= size - off;
}

static inline u64 align_up(u64 x, u64 align)
{
    return (x + align - 1) & ~(align - 1);
}
