/* simd.c - vector rows: matrix products, copies and string lengths by loops of our own
 *
 * Not libc's: that would choose another loop on another processor model.
 */
#include <immintrin.h>
#include <stdlib.h>

#include "rows.h"

/* ---- dgemm: C += A B, 4 x 4 (SSE2) or 4 x 8 (AVX2) sums in registers ---- */

#define N 192

static double a[N][N] __attribute__((aligned(64)));
static double b[N][N] __attribute__((aligned(64)));
static double c[N][N] __attribute__((aligned(64)));

static const char *fill_matrices(void)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)((i * 7 + j * 3) % 11) / 7 - 0.6;
            b[i][j] = (double)((i * 5 + j * 13) % 17) / 15 - 0.3;
        }
    return NULL;
}

static u64 sum_matrix(void)
{
    u64 sum = 0;

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            union {
                double d;
                u64 u;
            } bits = {.d = c[i][j]};
            sum = sum * 31 + bits.u;
            c[i][j] = 0;
        }
    return sum;
}

/* Written out, so that the sums are in registers whichever compiler it is. */
#define ROW(r)                      \
    x = SPREAD(&a[i + r][k]);       \
    left##r = MADD(left##r, x, at); \
    right##r = MADD(right##r, x, next);
#define TILE(name, isa, vector, width)                                          \
    __attribute__((target(isa))) static void name(int i, int j)                 \
    {                                                                           \
        vector x, left0 = LOAD(&c[i][j]), right0 = LOAD(&c[i][j + width]);      \
        vector left1 = LOAD(&c[i + 1][j]), right1 = LOAD(&c[i + 1][j + width]); \
        vector left2 = LOAD(&c[i + 2][j]), right2 = LOAD(&c[i + 2][j + width]); \
        vector left3 = LOAD(&c[i + 3][j]), right3 = LOAD(&c[i + 3][j + width]); \
        for (int k = 0; k < N; k++) {                                           \
            vector at = LOAD(&b[k][j]), next = LOAD(&b[k][j + width]);          \
            ROW(0) ROW(1) ROW(2) ROW(3)                                         \
        }                                                                       \
        STORE(&c[i][j], left0), STORE(&c[i][j + width], right0);                \
        STORE(&c[i + 1][j], left1), STORE(&c[i + 1][j + width], right1);        \
        STORE(&c[i + 2][j], left2), STORE(&c[i + 2][j + width], right2);        \
        STORE(&c[i + 3][j], left3), STORE(&c[i + 3][j + width], right3);        \
    }

#define LOAD            _mm_load_pd
#define STORE           _mm_store_pd
#define SPREAD          _mm_load1_pd
#define MADD(sum, p, q) _mm_add_pd(sum, _mm_mul_pd(p, q))
TILE(tile_sse2, "sse2", __m128d, 2)
#undef LOAD
#undef STORE
#undef SPREAD
#undef MADD
#define LOAD            _mm256_load_pd
#define STORE           _mm256_store_pd
#define SPREAD          _mm256_broadcast_sd
#define MADD(sum, p, q) _mm256_fmadd_pd(p, q, sum)
TILE(tile_avx2, "avx2,fma", __m256d, 4)

static u64 dgemm_sse2(u32 rounds)
{
    for (u32 r = 0; r < rounds; r++)
        for (int j = 0; j < N; j += 4)
            for (int i = 0; i < N; i += 4)
                tile_sse2(i, j);
    return sum_matrix();
}

static u64 dgemm_avx2(u32 rounds)
{
    for (u32 r = 0; r < rounds; r++)
        for (int j = 0; j < N; j += 8)
            for (int i = 0; i < N; i += 4)
                tile_avx2(i, j);
    return sum_matrix();
}

static const char *need_avx2(void)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return "no AVX2 and FMA";
    return fill_matrices();
}

/* ---- memcpy: 256 KiB back and forth ---- */

#define COPY_BYTES (256 * 1024)

static u8 *copy_from, *copy_to;

static const char *make_buffers(void)
{
    copy_from = aligned_alloc(64, COPY_BYTES);
    copy_to = aligned_alloc(64, COPY_BYTES);
    if (!copy_from || !copy_to)
        return "no memory";
    for (int i = 0; i < COPY_BYTES; i++)
        copy_from[i] = copy_to[i] = (u8)(i * 7 >> 3);
    return NULL;
}

static void copy(u8 *to, const u8 *from)
{
    const __m128i *in = (const __m128i *)from;
    __m128i *out = (__m128i *)to;

    for (size_t i = 0; i < COPY_BYTES / 16; i += 4) {
        __m128i w = _mm_load_si128(in + i), x = _mm_load_si128(in + i + 1);
        __m128i y = _mm_load_si128(in + i + 2), z = _mm_load_si128(in + i + 3);
        _mm_store_si128(out + i, w);
        _mm_store_si128(out + i + 1, x);
        _mm_store_si128(out + i + 2, y);
        _mm_store_si128(out + i + 3, z);
    }
}

static u64 row_memcpy(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++) {
        copy_from[r * 64 % COPY_BYTES] = (u8)r;
        copy(copy_to, copy_from);
        copy(copy_from, copy_to);
    }
    for (u32 i = 0; i < COPY_BYTES; i++)
        sum = sum * 31 + copy_to[i];
    return sum;
}

/* ---- strlen: strings of 0 to 255 bytes ---- */

static size_t length(const u8 *s)
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i *at = (const __m128i *)((size_t)s & ~(size_t)15);
    unsigned skip = (unsigned)((size_t)s & 15);
    unsigned mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(at), zero)) >> skip;

    if (mask)
        return (size_t)__builtin_ctz(mask);
    do
        mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(++at), zero));
    while (!mask);
    return (size_t)((const u8 *)at - s) + (size_t)__builtin_ctz(mask);
}

static const char *make_strings(void)
{
    const char *why = make_buffers();

    if (why)
        return why;
    for (int i = 0; i < COPY_BYTES; i++)
        copy_from[i] |= 1;
    for (u32 at = 0, seed = 1; at < COPY_BYTES; at += 1 + (seed >> 24)) {
        copy_from[at] = 0;
        seed = seed * 1664525 + 1013904223;
    }
    copy_from[COPY_BYTES - 1] = 0;
    return NULL;
}

static u64 row_strlen(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++)
        for (size_t at = 0, n; at < COPY_BYTES; at += n + 1) {
            n = length(copy_from + at);
            sum += n * at;
        }
    return sum;
}

const struct row simd_rows[] = {
    {"dgemm-sse2", dgemm_sse2, 8, fill_matrices},
    {"dgemm-avx2", dgemm_avx2, 10, need_avx2},
    {"memcpy", row_memcpy, 800, make_buffers},
    {"strlen", row_strlen, 600, make_strings},
    {NULL, NULL, 0, NULL},
};
