/* kernels_flow.c - control flow: calls and returns, indirect calls, a bytecode interpreter */
#include "kernels.h"

/* ---- fib: calls and returns; built without tail calls, and not inlined into itself ---- */

static __attribute__((noinline)) u64 fib(u64 n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

u64 kernel_fib(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++)
        sum += fib(20 + r % 3);
    return sum;
}

/* ---- indirect: eight functions behind a table, in an order that predictors learn in part ---- */

#define METHOD(n, step)         \
    static u64 method##n(u64 x) \
    {                           \
        return step;            \
    }
METHOD(0, x + 0x9e3779b97f4a7c15)
METHOD(1, x ^ x >> 7)
METHOD(2, x * 5)
METHOD(3, x << 13 | x >> 51)
METHOD(4, ~x)
METHOD(5, x - (x >> 3))
METHOD(6, x ^ 0x5bd1e995)
METHOD(7, x + (x << 6))

static u64 (*const volatile methods[8])(u64) = {method0, method1, method2, method3,
                                                method4, method5, method6, method7};

#define CALLS   100000
#define PATTERN 61

u64 kernel_indirect(u32 rounds)
{
    u8 order[PATTERN];
    u32 seed = 3;
    u64 x = 1;

    for (u32 i = 0; i < PATTERN; i++) {
        seed = seed * 1664525 + 1013904223;
        order[i] = seed >> 29;
    }
    for (u32 r = 0; r < rounds; r++)
        for (u32 i = 0, at = 0; i < CALLS; i++) {
            x = methods[order[at]](x);
            at = at + 1 < PATTERN ? at + 1 : 0;
        }
    return x;
}

/* ---- bytecode: a register machine, one switch; it sieves primes ---- */

enum op { OP_SET, OP_ADD, OP_MUL, OP_XOR, OP_LOAD, OP_STORE, OP_LESS, OP_ZERO, OP_JUMP, OP_HALT };

struct code {
    u8 op, a, b, c;
    int value; /* a constant, or how far a jump goes from the next instruction */
};

#define SIEVED 4096

/* r0 limit, r1 candidate, r2 multiple, r3 result, r4 one, r5 scratch */
static const struct code sieve[] = {
    {OP_SET, 0, 0, 0, SIEVED}, /* 0 */
    {OP_SET, 4, 0, 0, 1},      /* 1 */
    {OP_SET, 1, 0, 0, 0},      /* 2 */
    {OP_SET, 5, 0, 0, 0},      /* 3 */
    {OP_STORE, 5, 1, 0, 0},    /* 4: clear the cells */
    {OP_ADD, 1, 1, 4, 0},      /* 5 */
    {OP_LESS, 1, 0, 0, -3},    /* 6: to 4 */
    {OP_SET, 1, 0, 0, 2},      /* 7 */
    {OP_LOAD, 5, 1, 0, 0},     /* 8: the next candidate */
    {OP_ZERO, 5, 0, 0, 1},     /* 9: to 11 */
    {OP_JUMP, 0, 0, 0, 7},     /* 10: to 18 */
    {OP_MUL, 3, 3, 1, 0},      /* 11: a prime */
    {OP_XOR, 3, 3, 1, 0},      /* 12 */
    {OP_ADD, 2, 1, 1, 0},      /* 13 */
    {OP_JUMP, 0, 0, 0, 2},     /* 14: to 17 */
    {OP_STORE, 4, 2, 0, 0},    /* 15: strike a multiple */
    {OP_ADD, 2, 2, 1, 0},      /* 16 */
    {OP_LESS, 2, 0, 0, -3},    /* 17: to 15 */
    {OP_ADD, 1, 1, 4, 0},      /* 18 */
    {OP_LESS, 1, 0, 0, -12},   /* 19: to 8 */
    {OP_HALT, 0, 0, 0, 0},     /* 20 */
};

static u64 cells[SIEVED];

static u64 execute(const struct code *pc)
{
    u64 r[6] = {0};

    for (;; pc++)
        switch (pc->op) {
        case OP_SET: r[pc->a] = (u64)pc->value; break;
        case OP_ADD: r[pc->a] = r[pc->b] + r[pc->c]; break;
        case OP_MUL: r[pc->a] = r[pc->b] * r[pc->c]; break;
        case OP_XOR: r[pc->a] = r[pc->b] ^ r[pc->c]; break;
        case OP_LOAD: r[pc->a] = cells[r[pc->b] % SIEVED]; break;
        case OP_STORE: cells[r[pc->b] % SIEVED] = r[pc->a]; break;
        case OP_LESS: pc += r[pc->a] < r[pc->b] ? pc->value : 0; break;
        case OP_ZERO: pc += r[pc->a] == 0 ? pc->value : 0; break;
        case OP_JUMP: pc += pc->value; break;
        case OP_HALT: return r[3];
        }
}

u64 kernel_bytecode(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++)
        sum = sum * 31 + execute(sieve);
    return sum;
}
