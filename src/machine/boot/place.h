/* place.h - finding room for what a loader adds beside the kernel image */
#pragma once

#include "machine/boot/boot.h"

/* A run of RAM that small structures are put into, one after the other. */
struct boot_arena {
    struct mem *mem;
    u64 base, at, end;
};

/* Finds `size` bytes below 4 GiB clear of the image [image, image_end): in low memory, or right
 * after the image. -ENOSPC names `file`. */
must_check int arena_init(struct boot_arena *a, const struct boot_request *r, u64 image,
                          u64 image_end, u64 size, struct err *e);

/* Copies len bytes (zeroes when data is NULL) to the next aligned address and returns it in
 * *gpa. */
must_check int arena_put(struct boot_arena *a, const void *data, u64 len, u64 align, u64 *gpa,
                         struct err *e);

/* Puts a NUL-terminated string. */
must_check int arena_put_string(struct boot_arena *a, const char *text, u64 *gpa, struct err *e);

/* A flat GDT: null, null, code at 10h (32-bit, or 64-bit with `long_mode`), data at 18h, a 32-bit
 * TSS at 20h. */
must_check int arena_put_gdt(struct boot_arena *a, bool long_mode, struct x86_state *s,
                             struct err *e);

/* Reset state plus what a firmware leaves behind in model-specific registers: memory types. */
void boot_state_firmware(const struct boot_request *r, struct x86_state *s);

/* Registers as the 32-bit protocols want them: reset state, flat protected mode, A20 on, interrupts
 * and paging off, the GDT of arena_put_gdt loaded. */
must_check int boot_state_flat32(const struct boot_request *r, struct boot_arena *a, u32 entry,
                                 struct x86_state *s, struct err *e);

/* "kernel FILE: " + message, as an -EINVAL. */
int boot_bad(const struct boot_request *r, struct err *e, const char *fmt, ...) printf_like(3, 4);

/* The total length of all modules, each rounded up to `align`. */
u64 modules_bytes(const struct boot_request *r, u64 align);
