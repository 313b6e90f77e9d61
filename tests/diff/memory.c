/* memory.c - the data area: equal for host and guest before every case */
#include <string.h>

#include "gen.h"

static u8 base[DATA_BYTES];

void memory_init(u64 seed)
{
    struct rng r = {seed ^ 0x6d656d6f7279ull};

    for (unsigned i = 0; i < DATA_BYTES; i += 8) {
        u64 v = random_value(&r);
        memcpy(base + i, &v, 8);
    }
    /* A stretch of equal bytes for compares and scans, and one of small numbers. */
    memset(base + 0x400, 0x20, 0x100);
    for (unsigned i = 0x600; i < 0x800; i++)
        base[i] = i & 3;
    for (unsigned i = 0; i < RO_BYTES; i++)
        native_data[DATA_BYTES + i] = guest_data[DATA_BYTES + i] = (u8)rnd(&r);
    memory_restore();
}

void memory_restore(void)
{
    memcpy(native_data, base, DATA_BYTES);
    memcpy(guest_data, base, DATA_BYTES);
}

void memory_poke(u64 lin, const void *buf, unsigned n)
{
    u64 off = lin - DATA_ADDR;

    if (native_has.low_alias && lin - LOW_ADDR < DATA_BYTES)
        off = lin - LOW_ADDR;
    if (off >= DATA_BYTES)
        return;
    n = MIN(n, DATA_BYTES - off);
    memcpy(native_data + off, buf, n);
    memcpy(guest_data + off, buf, n);
}

bool memory_equal(const struct dcase *c)
{
    return !memcmp(native_data, guest_data, DATA_BYTES);
}
