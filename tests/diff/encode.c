/* encode.c - instruction bytes from a template: random registers, addressing forms, prefixes,
 * immediates */
#include <string.h>

#include "gen.h"

struct fields {
    unsigned reg, rm, mod; /* reg and rm with REX bits: 0-15 */
    bool has_sib;
    u8 sib;
    unsigned index, sib_base;
    bool asize; /* 67 prefix */
};

static const u8 pp_bytes[] = {0, 0x66, 0xf3, 0xf2};

static unsigned odd_prefixes(const struct tmpl *t, enum dmode mode, struct rng *r, u8 *out)
{
    static const u8 segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    unsigned n = 0;

    if (chance(r, 6))
        out[n++] = segs[mode == MODE_64 && chance(r, 60) ? 4 + rnd_below(r, 2) : rnd_below(r, 6)];
    if (chance(r, 1))
        out[n++] = pp_bytes[1 + rnd_below(r, 3)];
    if (t->enc == ENC_LEGACY && t->rm_kind == RM_MEM && t->map <= 1 && chance(r, 5))
        out[n++] = 0xf0;
    else if (chance(r, 1) && chance(r, 30))
        out[n++] = 0xf0;
    return n;
}

static unsigned put_vex(const struct tmpl *t, enum dmode mode, struct rng *r,
                        const struct fields *f, u8 *out)
{
    unsigned n = 0, vvvv = chance(r, 50) ? 15 : rnd(r) & 15;
    bool rr = f->reg < 8, x = !(f->has_sib && f->index >= 8),
         b = (f->has_sib ? f->sib_base : f->rm) < 8;

    if (t->map == 1 && !t->w && x && b && chance(r, 40)) {
        out[n++] = 0xc5;
        out[n++] = rr << 7 | vvvv << 3 | t->l << 2 | t->pp;
        return n;
    }
    out[n++] = 0xc4;
    out[n++] = rr << 7 | x << 6 | b << 5 | t->map;
    out[n++] = t->w << 7 | vvvv << 3 | t->l << 2 | t->pp;
    return n;
}

static unsigned put_opcode(const struct tmpl *t, enum dmode mode, struct rng *r,
                           const struct fields *f, u8 *out)
{
    unsigned n = 0;

    if (t->enc == ENC_VEX) {
        n = put_vex(t, mode, r, f, out);
        out[n++] = t->op;
        return n;
    }
    if (t->pp)
        out[n++] = pp_bytes[t->pp];
    if (mode == MODE_64) {
        u8 rex = t->w << 3 | (f->reg >= 8) << 2 | (f->has_sib && f->index >= 8) << 1 |
                 ((f->has_sib ? f->sib_base : f->rm) >= 8);
        if (rex || chance(r, 15))
            out[n++] = 0x40 | rex;
    }
    if (t->map)
        out[n++] = 0x0f;
    if (t->map > 1)
        out[n++] = t->map == 2 ? 0x38 : 0x3a;
    out[n++] = t->op;
    return n;
}

static unsigned put_tail(struct rng *r, unsigned disp_bytes, s32 disp, u8 *out)
{
    unsigned n = 0;
    u64 imm = chance(r, 40) ? random_value(r) : rnd(r), imm2 = rnd(r);

    memcpy(out, &disp, 4);
    n += disp_bytes;
    memcpy(out + n, &imm, 8);
    memcpy(out + n + 8, &imm2, 8);
    return n + 15;
}

static void random_fields(const struct tmpl *t, enum dmode mode, struct rng *r, struct fields *f)
{
    unsigned regs = mode == MODE_64 ? 16 : 8;

    *f = (struct fields){.reg = rnd_below(r, regs), .rm = rnd_below(r, regs)};
    if (t->reg >= 0)
        f->reg = (f->reg & 8) | t->reg;
    if (t->rm >= 0)
        f->rm = (f->rm & 8) | t->rm;
    f->mod = t->rm_kind == RM_REG ? 3 : rnd_below(r, 3);
    f->asize = t->rm_kind != RM_REG && chance(r, mode == MODE_64 ? 6 : 10);
    bool gather = t->enc == ENC_VEX && t->map == 2 && t->op >= 0x90 && t->op <= 0x93;
    bool sib_mode = mode == MODE_16 ? f->asize : mode == MODE_64 || !f->asize;
    if (gather && sib_mode)
        f->rm = 4 | (f->rm & 8);
    f->has_sib = f->mod != 3 && (f->rm & 7) == 4 && sib_mode;
    if (f->has_sib) {
        f->sib = rnd(r);
        f->index = rnd_below(r, regs);
        f->sib_base = rnd_below(r, regs);
        f->sib = (f->sib & 0xc0) | (f->index & 7) << 3 | (f->sib_base & 7);
    }
}

static unsigned disp_bytes(const struct fields *f, enum dmode mode)
{
    bool a16 = mode == MODE_16 ? !f->asize : mode == MODE_32 && f->asize;

    if (f->mod == 3)
        return 0;
    if (f->mod == 1)
        return 1;
    if (a16)
        return f->mod == 2 || f->rm == 6 ? 2 : 0;
    if (f->mod == 2)
        return 4;
    return (f->rm & 7) == 5 || (f->has_sib && (f->sib & 7) == 5) ? 4 : 0;
}

unsigned encode_random(const struct tmpl *t, enum dmode mode, struct rng *r, bool plain, u8 *out)
{
    struct fields f;
    unsigned n = 0;

    random_fields(t, mode, r, &f);
    if (!plain)
        n = odd_prefixes(t, mode, r, out);
    if (f.asize)
        out[n++] = 0x67;
    if (mode != MODE_64 && t->enc == ENC_LEGACY && t->rm_kind == RM_NONE && chance(r, 8))
        out[n++] = 0x67;
    n += put_opcode(t, mode, r, &f, out + n);
    if (t->rm_kind == RM_NONE) {
        /* The register in the opcode's low bits stays as listed; REX.B may extend it. */
        return n + put_tail(r, 0, 0, out + n);
    }
    out[n++] = f.mod << 6 | (f.reg & 7) << 3 | (f.rm & 7);
    if (f.has_sib)
        out[n++] = f.sib;
    s32 disp = chance(r, 70) ? (s32)(s8)rnd(r) : chance(r, 50) ? (s32)(s16)rnd(r) : (s32)rnd(r);
    return n + put_tail(r, disp_bytes(&f, mode), disp, out + n);
}

unsigned encode_based(const struct tmpl *t, enum dmode mode, struct rng *r, unsigned base, s32 disp,
                      u8 *out)
{
    struct fields f;
    unsigned n;

    random_fields(t, mode, r, &f);
    f.asize = false;
    f.mod = base < 16 ? 2 : 0;
    f.rm = base < 16 ? base : 5;
    f.has_sib = (f.rm & 7) == 4;
    f.index = 4;
    f.sib_base = base & 15;
    f.sib = 4 << 3 | (base & 7);
    n = put_opcode(t, mode, r, &f, out);
    out[n++] = f.mod << 6 | (f.reg & 7) << 3 | (f.rm & 7);
    if (f.has_sib)
        out[n++] = f.sib;
    return n + put_tail(r, 4, disp, out + n);
}
