/* kernels.c - integer work for the benches: the same code natively and in a bare guest */
#include "kernels.h"

static u32 rotr(u32 x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static const u32 k256[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static void sha256_block(u32 h[8], const u32 in[16])
{
    u32 w[64], s[8];

    for (int i = 0; i < 16; i++)
        w[i] = in[i];
    for (int i = 16; i < 64; i++) {
        u32 a = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
        u32 b = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    for (int i = 0; i < 8; i++)
        s[i] = h[i];
    for (int i = 0; i < 64; i++) {
        u32 t1 = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) +
                 ((s[4] & s[5]) ^ (~s[4] & s[6])) + k256[i] + w[i];
        u32 t2 = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) +
                 ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        for (int j = 7; j > 0; j--)
            s[j] = s[j - 1];
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        h[i] += s[i];
}

static u64 kernel_sha256(u32 rounds)
{
    u32 h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, in[16];

    for (u32 r = 0; r < rounds; r++) {
        for (u32 i = 0; i < 16; i++)
            in[i] = h[i & 7] + r + i;
        sha256_block(h, in);
    }
    return (u64)h[0] << 32 | h[7];
}

/* ---- sort: records by merging, in an order that a callback decides, as qsort() does ---- */

#define RECORDS 8192

struct record {
    u64 key, value;
};

static struct record records[RECORDS], merged[RECORDS];

static int by_key(const struct record *a, const struct record *b)
{
    return (a->key > b->key) - (a->key < b->key);
}

static void merge_sort(struct record *a, u32 n, struct record *room,
                       int (*compare)(const struct record *, const struct record *))
{
    u32 half = n / 2;

    if (n < 2)
        return;
    merge_sort(a, half, room, compare);
    merge_sort(a + half, n - half, room, compare);
    for (u32 i = 0; i < half; i++)
        room[i] = a[i];
    for (u32 left = 0, right = half, out = 0; left < half; out++)
        if (right < n && compare(&a[right], &room[left]) < 0)
            a[out] = a[right++];
        else
            a[out] = room[left++];
}

static u64 kernel_sort(u32 rounds)
{
    int (*const volatile compare)(const struct record *, const struct record *) = by_key;
    u64 sum = 0;
    u32 seed = 1;

    for (u32 r = 0; r < rounds; r++) {
        for (u32 i = 0; i < RECORDS; i++) {
            seed = seed * 1664525 + 1013904223;
            records[i] = (struct record){seed, i};
        }
        merge_sort(records, RECORDS, merged, compare);
        for (u32 i = 0; i < RECORDS; i += 16)
            sum = sum * 31 + records[i].key + records[i].value;
    }
    return sum;
}

/* ---- hash: open addressing, 128 KiB ---- */

#define SLOT_BITS 15
#define SLOTS     (1u << SLOT_BITS)
static u32 words[SLOTS];

/* The slot that holds the key, or the free one where it belongs. */
static u32 *find_slot(u32 key)
{
    u32 at = key * 2654435761u >> (32 - SLOT_BITS);

    while (words[at] && words[at] != key)
        at = (at + 1) & (SLOTS - 1);
    return &words[at];
}

/* Half full; then as many look-ups, of which half find their key. */
static u64 kernel_hash(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++) {
        u32 seed = r;
        for (u32 i = 0; i < SLOTS; i++)
            words[i] = 0;
        for (u32 i = 0; i < SLOTS / 2; i++) {
            seed = seed * 1664525 + 1013904223;
            *find_slot(seed | 1) = seed | 1;
        }
        for (u32 i = 0, seek = r; i < SLOTS / 2; i++) {
            seek = seek * 1664525 + 1013904223;
            sum = sum * 31 + *find_slot((seek | 1) ^ i << 31);
        }
    }
    return sum;
}

const struct row kernels[] = {
    {"sha256", kernel_sha256, 16000, NULL},
    {"sort", kernel_sort, 20, NULL},
    {"lz", kernel_lz, 8, NULL},
    {"hash", kernel_hash, 60, NULL},
    {"chase", kernel_chase, 12, NULL},
    {"fib", kernel_fib, 200, NULL},
    {"indirect", kernel_indirect, 30, NULL},
    {"bytecode", kernel_bytecode, 60, NULL},
    {NULL, NULL, 0, NULL},
};
