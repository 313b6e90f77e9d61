/* summary.c - mismatches counted by instruction and kind, for a quick view of what is wrong */
#include <stdlib.h>
#include <string.h>

#include "gen.h"

#define ROWS 2048

struct row {
    u16 mnemonic;
    u8 mode;
    const char *what;
    int host_trap, core_trap;
    u64 count, first;
};

static struct row rows[ROWS];
static unsigned nrows;

void summary_add(const struct dcase *c, const struct outcome *n, const struct outcome *g,
                 const char *what)
{
    u16 mnemonic = c->valid ? c->z.mnemonic : ZYDIS_MNEMONIC_INVALID;

    for (unsigned i = 0; i < nrows; i++) {
        struct row *r = &rows[i];
        if (r->mnemonic == mnemonic && r->mode == c->mode && r->what == what &&
            r->host_trap == n->trap && r->core_trap == g->trap) {
            r->count++;
            return;
        }
    }
    if (nrows < ROWS)
        rows[nrows++] = (struct row){mnemonic, c->mode, what, n->trap, g->trap, 1, c->index};
}

static int by_count(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

void summary_print(FILE *f)
{
    static const char *const modes[] = {"64", "32", "16"};

    qsort(rows, nrows, sizeof(rows[0]), by_count);
    for (unsigned i = 0; i < nrows; i++) {
        const struct row *r = &rows[i];
        fprintf(f, "# %8llu  %-16s %s-bit  %-10s", (unsigned long long)r->count,
                ZydisMnemonicGetString(r->mnemonic), modes[r->mode], r->what);
        if (r->host_trap != r->core_trap)
            fprintf(f, " host %d core %d", r->host_trap, r->core_trap);
        fprintf(f, "  e.g. --only %llu\n", (unsigned long long)r->first);
    }
}
