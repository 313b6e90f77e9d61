/* ldt.c - the local descriptors that host and guest share in 16- and 32-bit cases */
#include "diff.h"

const struct ldt_row ldt_rows[LDT_ROWS] = {
    [LDT_CODE16] = {.base = CODE_ADDR, .limit = 0xffff, .code = true, .present = true},
    [LDT_DATA16] = {.base = DATA_ADDR, .limit = 0x1fff, .present = true},
    [LDT_DATA32] = {.base = DATA_ADDR, .limit = 0x17ff, .big = true, .present = true},
    [LDT_DOWN32] =
        {.base = DATA_ADDR - 0x1000, .limit = 0xfff, .down = true, .big = true, .present = true},
    [LDT_READONLY] =
        {.base = DATA_ADDR, .limit = 0x1fff, .readonly = true, .big = true, .present = true},
    [LDT_CODE32] = {.limit = 0xfffff, .code = true, .big = true, .pages = true, .present = true},
    [LDT_EXECONLY] = {.limit = 0xfffff,
                      .code = true,
                      .readonly = true,
                      .big = true,
                      .pages = true,
                      .present = true},
    [LDT_ABSENT] = {.base = DATA_ADDR, .limit = 0x1fff},
    [LDT_DOWN16] = {.base = DATA_ADDR - 0x1000, .limit = 0xfff, .down = true, .present = true},
    [LDT_STACK16] = {.base = DATA_ADDR, .limit = 0xffff, .present = true},
    [LDT_FLAT] = {.limit = 0xfffff, .big = true, .pages = true, .present = true},
};
