/* engines.h - the engines this program knows, and choosing one */
#pragma once

#include "base/err.h"
#include "engine/engine.h"

struct engine_row {
    const char *name, *summary;
    const struct engine *engine; /* NULL: not built into this version */
    bool automatic;              /* `auto` may choose it */
};

/* From fast to slow; ends with a NULL name. */
extern const struct engine_row engine_rows[];

/* Whether it works here: 0, or -errno with reason and mend in *e. Runs the engine's probe. */
must_check int engine_probe(const struct engine_row *row, struct err *e);

/* What /dev/kvm is on this host, in words; for reports. */
void kvm_node(char *text, size_t size);

/* Picks by name, or for "auto"/NULL the first that works; then *why (of `size` bytes) says which
 * and why. */
must_check int engine_choose(const char *name, const struct engine_row **out, char *why,
                             size_t size, struct err *e);
