/* bloom.h - Bloom filters: whether a key may have been added, or surely not */
#pragma once

#include "base/types.h"

/* A key has three bits in a map of `bits` of them, a power of two up to 32768: parts of one
 * product. With 32 bits a key hardly any other key is found by mistake. The map is the caller's. */
#define BLOOM_HASHES 3u

static inline unsigned bloom_bit(unsigned bits, u64 key, unsigned hash)
{
    return key * 0x9e3779b97f4a7c15ull >> (49 - 15 * hash) & (bits - 1);
}

static inline void bloom_add(u64 *map, unsigned bits, u64 key)
{
    for (unsigned i = 0; i < BLOOM_HASHES; i++) {
        unsigned bit = bloom_bit(bits, key, i);
        map[bit / 64] |= BIT64(bit % 64);
    }
}

static inline bool bloom_has(const u64 *map, unsigned bits, u64 key)
{
    for (unsigned i = 0; i < BLOOM_HASHES; i++) {
        unsigned bit = bloom_bit(bits, key, i);
        if (!(map[bit / 64] >> (bit % 64) & 1))
            return false;
    }
    return true;
}
