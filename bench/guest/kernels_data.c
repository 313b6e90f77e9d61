/* kernels_data.c - an LZ compressor with its decompressor, and a pointer chase */
#include "kernels.h"

/* ---- lz: runs of literals {n - 1, bytes} and matches {0x80 | length - 4, offset LE16} ---- */

#define LZ_BYTES     (256u * 1024)
#define LZ_SLOTS     4096
#define LZ_MATCH_MIN 4
#define LZ_MATCH_MAX (LZ_MATCH_MIN + 127)
#define LZ_RUN_MAX   128

static u8 lz_in[LZ_BYTES], lz_packed[LZ_BYTES + LZ_BYTES / 64], lz_out[LZ_BYTES];
static u32 lz_last[LZ_SLOTS]; /* position + 1 of the last word with this hash */

/* Words of 2 to 9 letters from a small alphabet, and one in four repeated from before. */
static void lz_fill(u32 seed)
{
    for (u32 at = 0, word = 0; at < LZ_BYTES; word++) {
        seed = seed * 1664525 + 1013904223;
        u32 letters = 2 + (seed >> 24) % 8, back = (seed >> 8) % 2048 + 16;
        for (u32 i = 0; i < letters && at < LZ_BYTES; i++, at++)
            lz_in[at] = word % 4 == 3 && at >= back ? lz_in[at - back] : 'a' + (seed >> i * 3) % 16;
    }
}

static u32 load32(const u8 *p)
{
    u32 v;

    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static u8 *put_literals(u8 *out, const u8 *from, u32 n)
{
    while (n) {
        u32 run = n < LZ_RUN_MAX ? n : LZ_RUN_MAX;
        *out++ = (u8)(run - 1);
        for (u32 i = 0; i < run; i++)
            *out++ = *from++;
        n -= run;
    }
    return out;
}

static u32 match_length(const u8 *a, const u8 *b, u32 max)
{
    u32 n = LZ_MATCH_MIN;

    while (n < max && a[n] == b[n])
        n++;
    return n;
}

static u32 lz_pack(void)
{
    u32 at = 0, literals = 0;
    u8 *out = lz_packed;

    for (u32 i = 0; i < LZ_SLOTS; i++)
        lz_last[i] = 0;
    while (at + LZ_MATCH_MIN <= LZ_BYTES) {
        u32 word = load32(lz_in + at), *slot = &lz_last[word * 2654435761u >> 20], last = *slot;
        *slot = at + 1;
        u32 offset = at + 1 - last, left = LZ_BYTES - at;
        if (!last || offset > 0xffff || load32(lz_in + last - 1) != word) {
            at++;
            continue;
        }
        u32 n =
            match_length(lz_in + last - 1, lz_in + at, left < LZ_MATCH_MAX ? left : LZ_MATCH_MAX);
        out = put_literals(out, lz_in + literals, at - literals);
        *out++ = (u8)(0x80 | (n - LZ_MATCH_MIN));
        *out++ = (u8)offset;
        *out++ = (u8)(offset >> 8);
        literals = at += n;
    }
    out = put_literals(out, lz_in + literals, LZ_BYTES - literals);
    return (u32)(out - lz_packed);
}

static void lz_unpack(u32 bytes)
{
    const u8 *in = lz_packed, *end = in + bytes;
    u8 *out = lz_out;

    while (in < end) {
        u32 n = *in++;
        if (n < 0x80) {
            for (n++; n; n--)
                *out++ = *in++;
            continue;
        }
        const u8 *from = out - (in[0] | in[1] << 8);
        in += 2;
        for (n = (n & 0x7f) + LZ_MATCH_MIN; n; n--)
            *out++ = *from++;
    }
}

u64 kernel_lz(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++) {
        lz_fill(r);
        u32 bytes = lz_pack();
        lz_unpack(bytes);
        for (u32 i = 0; i < LZ_BYTES; i += 16)
            sum = sum * 31 + lz_out[i] + (u64)(lz_out[i] != lz_in[i]) * 0x100000000;
        sum += bytes;
    }
    return sum;
}

/* ---- chase: one cycle through all lines of 4 MiB, in random order ---- */

#define CHASE_LINES (4u * 1024 * 1024 / 64)
#define CHASE_STEPS 65536

static struct line {
    struct line *next;
    u64 value, unused[6];
} lines[CHASE_LINES];

/* Sattolo's shuffle makes a permutation of one cycle; the values hold it meanwhile. */
static void chase_link(void)
{
    u32 seed = 1;

    for (u32 i = 0; i < CHASE_LINES; i++)
        lines[i].value = i;
    for (u32 i = CHASE_LINES - 1; i > 0; i--) {
        seed = seed * 1664525 + 1013904223;
        u32 j = (u32)((u64)seed * i >> 32);
        u64 value = lines[i].value;
        lines[i].value = lines[j].value;
        lines[j].value = value;
    }
    for (u32 i = 0; i < CHASE_LINES; i++)
        lines[i].next = &lines[lines[i].value];
}

u64 kernel_chase(u32 rounds)
{
    u64 sum = 0;

    if (!lines[0].next)
        chase_link();
    const struct line *at = lines;
    for (u32 i = 0; i < rounds * CHASE_STEPS; i++) {
        sum += at->value;
        at = at->next;
    }
    return sum;
}
