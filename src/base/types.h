/* types.h - fixed-width names and the handful of macros everything uses */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define KiB (1024ull)
#define MiB (1024ull * KiB)
#define GiB (1024ull * MiB)

#define BIT(n)                          (1u << (n))
#define BIT64(n)                        (1ull << (n))
#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define likely(x)              __builtin_expect(!!(x), 1)
#define unlikely(x)            __builtin_expect(!!(x), 0)
#define must_check             __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define maybe_unused           __attribute__((unused))

/* Asserts stay on in every build: a broken invariant of ours must not go on running a guest. */
#define ASSERT(c)                                  \
    do {                                           \
        if (unlikely(!(c)))                        \
            assert_failed(#c, __FILE__, __LINE__); \
    } while (0)
__attribute__((noreturn)) void assert_failed(const char *cond, const char *file, int line);
