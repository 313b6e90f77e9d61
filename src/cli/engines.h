/* engines.h - the engines this program knows, and choosing one */
#pragma once

#include "base/err.h"
#include "engine/engine.h"

struct engine_row {
    const char *name, *summary;
    const struct engine *engine;
    bool automatic; /* `auto` may choose it */
};

/* From fast to slow; ends with a NULL name. */
extern const struct engine_row engine_rows[];

/* Whether it works here, else with reason and mend in *e. Runs the engine's probe. */
enum engine_verdict engine_probe(const struct engine_row *row, struct err *e);
/* The verdict in a word, for programs. */
const char *engine_verdict_name(enum engine_verdict v);
/* The row of that name, or NULL. */
const struct engine_row *engine_by_name(const char *name);

/* What /dev/kvm is on this host, in words; for reports. */
void kvm_node(char *text, size_t size);

/* Picks by name, or for "auto"/NULL the first that works; then *why (of `size` bytes) says which
 * and why. With RING3_KVM_UNCHECKED in the environment a named kvm is taken although it emulates
 * kernel code, and *why says so: for those who test ring3. */
must_check int engine_choose(const char *name, const struct engine_row **out, char *why,
                             size_t size, struct err *e);
