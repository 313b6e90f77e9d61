/* symbols.h - names of this program's functions */
#pragma once

#include "base/types.h"

/* The program's own symbol table and those of its libraries. */
struct symbols;

/* Reads them. NULL: no memory. One that finds nothing has no names of static functions. */
struct symbols *symbols_read(void);
/* The name of the function at the address pc; for want of one a number. It lies in `buf` or lives
 * as long as *s, which may be NULL. */
const char *symbols_find(const struct symbols *s, u64 pc, char *buf, size_t len);
void symbols_free(struct symbols *s);
