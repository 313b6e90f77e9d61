/* irq.h - the wire between a chip and whatever its interrupt pin is soldered to */
#pragma once

#include "base/types.h"

/* A level-carrying line. The setter ignores repeated equal levels; edge-triggered receivers
 * detect the 0 -> 1 change themselves. Called with the chip's lock held; must not call back into
 * the chip. */
struct irq_line {
    void (*set)(void *ctx, unsigned n, bool level);
    void *ctx;
    unsigned n;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
    if (l->set)
        l->set(l->ctx, l->n, level);
}
