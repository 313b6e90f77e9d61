/* wxbuf.h - memory for generated code: written through one mapping, executed through another */
#pragma once

#include "base/err.h"
#include "base/types.h"

/* The same pages twice: `w` is readable and writable, `x` readable and executable. No mapping is
 * ever both writable and executable. Offsets are equal in the two. The pages are anonymous shared
 * memory rather than a memfd's: that perf takes for generated code. */
struct wxbuf {
    u8 *w;
    const u8 *x;
    size_t size; /* bytes, a multiple of the page size */
};

/* Maps a new buffer of at least `size` bytes. 0 or -errno with *e set; on failure nothing is
 * mapped. */
must_check int wxbuf_create(struct wxbuf *b, size_t size, struct err *e);
void wxbuf_destroy(struct wxbuf *b);
