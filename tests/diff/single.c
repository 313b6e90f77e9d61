/* single.c - cases of one instruction: every template in turn, operands at random */
#include <string.h>

#include "gen.h"
#include "undefined.h"

/* 64-bit, 32-bit and 16-bit code in this proportion. */
static enum dmode pick_mode(u64 index)
{
    unsigned k = index % 10;

    if (k >= 9 && native_has.ldt)
        return MODE_16;
    return k < 6 ? MODE_64 : MODE_32;
}

static const struct tmpl *pick_template(enum dmode mode, u64 index, struct rng *r)
{
    const struct tmpl_list *l = &templates[mode];

    /* A trap on the host costs a hundred times an instruction: undefined opcodes are rare. */
    if (l->n > l->nvalid && rnd_below(r, 400) == 0)
        return &l->t[l->nvalid + rnd_below(r, l->n - l->nvalid)];
    return &l->t[(index / 10 * 7919 + index % 10) % l->nvalid];
}

static void odd_length(struct dcase *c, struct rng *r)
{
    /* Rarely: the last bytes of mapped code, so that the fetch itself faults half-way. */
    if (!chance(r, 1) || !chance(r, 30))
        return;
    unsigned keep = 1 + rnd_below(r, c->len);
    c->start = CODE_ADDR + CODE_BYTES - keep;
    c->in.rip = c->start - (c->mode == MODE_16 ? CODE_ADDR : 0);
}

static void finish_single(struct dcase *c)
{
    struct x86_state s;

    if (!c->valid)
        return;
    memcpy(s.gpr, c->in.gpr, sizeof(s.gpr));
    struct undefined u = undefined_by(&c->z, c->ops, &s);
    c->undef_flags = u.flags;
    c->skip_result = u.result;
}

bool gen_single(struct dcase *c, u64 seed, u64 index)
{
    struct rng r = {seed ^ index * 0xd1342543de82ef95ull};
    u8 bytes[64];
    unsigned n;

    memset(c, 0, offsetof(struct dcase, bytes));
    c->index = index;
    c->insns = 1;
    c->has_ea = c->skip_result = false;
    c->undef_flags = 0;
    c->mode = pick_mode(index);
    const struct tmpl *t = pick_template(c->mode, index, &r);
    state_random(c, &r);
    for (unsigned tries = 0;; tries++) {
        n = encode_random(t, c->mode, &r, false, bytes);
        c->valid = gen_decode(c->mode, bytes, n, &c->z, c->ops);
        if (c->valid == t->valid || tries == 6)
            break;
        if (!c->valid && rnd_below(&r, 50) == 0)
            break;
    }
    c->len = c->valid ? c->z.length : 15;
    if (!c->valid) /* whatever the host makes of it, a breakpoint follows */
        memset(bytes + n - 15, 0xcc, 15);
    memcpy(c->bytes, bytes, 15);
    if (c->valid && excluded(&c->z))
        return false;
    if (c->valid) {
        odd_length(c, &r);
        if (!steer(c, &r))
            return false;
    }
    finish_single(c);
    return true;
}
