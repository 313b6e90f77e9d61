/* guest.h - the guest's world: physical layout, and what the engines' copy of it is made from */
#pragma once

#include "diff.h"

/* Tables, descriptor tables and the TSS lie in `sys`; linear SYS_LIN is its supervisor view. */
#define SYS_GPA   0x0ull
#define SYS_BYTES 0x20000ull
#define CODE_GPA  0x100000ull
#define DATA_GPA  0x200000ull
#define SYS_LIN   0xffff800000000000ull

enum {
    PML4 = 0x0000,
    NEXT_TABLE = 0x1000,
    TABLES_END = 0x10000,
    GDT = 0x10000,
    LDT = 0x10400,
    TSS = 0x10800,
    IDT = 0x11000,
    HANDLERS = 0x12000, /* 16 bytes a vector */
    STACK_TOP = 0x14000
};

/* After guest_init. */
const u8 *guest_sys(void);                     /* SYS_BYTES */
const struct x86_state *guest_prototype(void); /* all but what a case sets */
struct x86_seg guest_segment(u16 sel);
