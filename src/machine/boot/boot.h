/* boot.h - kernels into guest memory, and the processor state that starts them
 *
 * Loaders see whole files as (data, len) buffers and trust nothing in them. On failure *e names the
 * file and the field; guest memory may hold parts of the image then, and is of no further use.
 */
#pragma once

#include "base/err.h"
#include "base/types.h"
#include "machine/e820.h"
#include "mem/mem.h"
#include "x86/state.h"

struct boot_file {
    const char *name; /* for messages */
    const char *args; /* a module's own command line, or NULL */
    const u8 *data;
    u64 len;
};

struct boot_request {
    struct mem *mem;
    const struct e820_map *map;
    struct boot_file kernel;
    const struct boot_file
        *module; /* initrds; several are joined for Linux, handed on one by one else */
    size_t modules;
    const char *cmdline; /* never NULL */
    u64 rsdp_gpa;        /* 0 = no ACPI */
    u8 seed[32];         /* for the guest's random pool */
    bool has_seed;
    u8 phys_bits; /* MAXPHYADDR, for the MTRRs a firmware would have set up */
};

enum boot_format { BOOT_UNKNOWN, BOOT_BZIMAGE, BOOT_MULTIBOOT, BOOT_PVH, BOOT_ELF };

/* What the kernel file is, by its magic numbers. Never reads past len. */
enum boot_format boot_detect(const struct boot_file *kernel);

/* Detects and loads. 0 with *s complete, or -errno (-ENOEXEC: not a kernel we know; -EINVAL:
 * damaged; -ENOSPC: does not fit into the guest's memory). */
must_check int boot_load(const struct boot_request *r, struct x86_state *s, struct err *e);

/* The loaders by format, for tests and fuzzers; same promise. */
must_check int bzimage_load(const struct boot_request *r, struct x86_state *s, struct err *e);
must_check int multiboot_load(const struct boot_request *r, struct x86_state *s, struct err *e);
must_check int pvh_load(const struct boot_request *r, struct x86_state *s, struct err *e);

/* Maps a ROM image so that it ends at 4 GiB and copies its last 128 KiB to below 1 MiB (plain RAM
 * there: the board has no PAM registers). *s is the reset state, which starts at FFFFFFF0h. */
must_check int bios_load(struct mem *mem, const struct boot_file *rom, struct x86_state *s,
                         struct err *e);

/* A multiboot 1 header in the first 8 KiB. */
bool multiboot_find(const struct boot_file *kernel, u64 *offset);
