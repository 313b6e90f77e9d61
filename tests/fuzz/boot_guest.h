/* boot_guest.h - a small guest that the loader targets load any bytes into */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "machine/boot/boot.h"
#include "machine/layout.h"

#define GUEST_BYTES (16 * MiB)

/* The loader may refuse with a message, or must produce a state a processor can be in. */
static inline int load_bytes(const uint8_t *data, size_t size,
                             int (*load)(const struct boot_request *r, struct x86_state *s,
                                         struct err *e))
{
    static const struct boot_file module = {
        .name = "module", .data = (const u8 *)"module", .len = 6};
    static struct mem *mem;
    static struct e820_map map;
    struct boot_request r = {
        .map = &map,
        .kernel = {.name = "fuzz", .data = data, .len = size},
        .module = &module,
        .modules = 1,
        .cmdline = "console=ttyS0",
        .rsdp_gpa = FIRMWARE_GPA,
        .has_seed = true,
        .phys_bits = 40,
    };
    struct x86_state s;
    struct err e = {0};

    if (!mem) {
        ASSERT(e820_pc(&map, GUEST_BYTES, &e) == 0 && mem_create(&mem, &e) == 0);
        ASSERT(mem_add_ram(mem, 0, VIDEO_HOLE_GPA, &e) == 0);
        ASSERT(mem_add_ram(mem, OPTION_ROM_GPA, GUEST_BYTES - OPTION_ROM_GPA, &e) == 0);
    }
    r.mem = mem;
    if (load(&r, &s, &e)) {
        ASSERT(e.code > 0 && e.msg[0]);
        return 0;
    }
    ASSERT(e.code == 0);
    ASSERT(x86_state_check(&s, &e) == 0);
    return 0;
}
