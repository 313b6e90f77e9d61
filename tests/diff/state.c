/* state.c - random registers: mostly values at the edges, pointers where instructions expect
 * them */
#include <string.h>

#include "gen.h"

#define POOL 256

static struct x86_fpu pool[POOL];

u64 random_value(struct rng *r)
{
    u64 v = rnd(r);
    unsigned bits = rnd(r) & 63;

    switch (rnd_below(r, 12)) {
    case 0: return 0;
    case 1: return ~0ull;
    case 2: return 1ull << bits;
    case 3: return (1ull << bits) - 1;
    case 4: return ~(1ull << bits);
    case 5: return v & 0xff;
    case 6: return (u64)(s64)(s8)v;
    case 7: return (u64)(s64)(s32)v;
    case 8: return v & 0xffffffff;
    case 9: return v >> bits;
    default: return v;
    }
}

/* --- floating point --------------------------------------------------------------------------- */

static u32 random_f32(struct rng *r)
{
    static const u32 special[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                  0xff800000, 0x7fc00000, 0xffc00000, 0x7fa00000, 0x00000001,
                                  0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff,
                                  0x40490fdb, 0x4f000000, 0xcf000000};
    if (chance(r, 50))
        return special[rnd_below(r, ARRAY_SIZE(special))];
    u32 v = rnd(r);
    /* Exponents near one another, so that sums and products are not all trivial. */
    return chance(r, 60) ? (v & 0x807fffff) | (u32)(110 + rnd_below(r, 40)) << 23 : v;
}

static u64 random_f64(struct rng *r)
{
    static const u64 special[] = {0,
                                  1ull << 63,
                                  0x3ff0000000000000,
                                  0xbff0000000000000,
                                  0x7ff0000000000000,
                                  0xfff0000000000000,
                                  0x7ff8000000000000,
                                  0xfff8000000000000,
                                  0x7ff4000000000000,
                                  1,
                                  0x8000000000000001,
                                  0x000fffffffffffff,
                                  0x0010000000000000,
                                  0x7fefffffffffffff,
                                  0xffefffffffffffff,
                                  0x41e0000000000000,
                                  0xc1e0000000000000,
                                  0x43e0000000000000,
                                  0x47efffffe0000000,
                                  0x36a0000000000000};
    if (chance(r, 50))
        return special[rnd_below(r, ARRAY_SIZE(special))];
    u64 v = rnd(r);
    return chance(r, 60) ? (v & 0x800fffffffffffff) | (1000 + rnd_below(r, 60)) << 52 : v;
}

static void random_f80(struct rng *r, u8 *st)
{
    static const struct {
        u16 se;
        u64 m;
    } special[] = {
        {0, 0},
        {0x8000, 0},
        {0x3fff, 1ull << 63},
        {0xbfff, 1ull << 63},
        {0x7fff, 1ull << 63},
        {0xffff, 1ull << 63},
        {0x7fff, 0xc000000000000000},
        {0xffff, 0xc000000000000000},
        {0x7fff, 0xa000000000000000},
        {0, 1},
        {0x8000, 0x7fffffffffffffff},
        {0, 1ull << 63},
        {1, 1ull << 63},
        {0x7ffe, ~0ull},
        {0xfffe, ~0ull},
        {0x4000, 0xc90fdaa22168c235},
        {0x3fff, 0x4000000000000000},
        {0x7fff, 0},
        {0x7fff, 0x4000000000000000},
        {0x403e, ~0ull},
        {0x400e, 0x8000000000000000},
        {0x401e, 0xffffffff00000000},
    };
    u64 m = rnd(r);
    u16 se = rnd(r);

    if (chance(r, 50)) {
        unsigned i = rnd_below(r, ARRAY_SIZE(special));
        se = special[i].se;
        m = special[i].m;
    } else if (chance(r, 80)) {
        m |= 1ull << 63;
        se = (se & 0x8000) | (0x3fff - 32 + rnd_below(r, 64));
    }
    memset(st, 0, 16);
    memcpy(st, &m, 8);
    memcpy(st + 8, &se, 2);
}

static void random_vector(struct rng *r, u8 *v)
{
    unsigned kind = rnd_below(r, 5);

    for (unsigned i = 0; i < 32; i += 8) {
        u64 q;
        switch (kind) {
        case 0: q = random_f32(r) | (u64)random_f32(r) << 32; break;
        case 1: q = random_f64(r); break;
        case 2: q = random_value(r); break;
        case 3: q = rnd(r) & 0x0f0f0f0f0f0f0f0full; break;
        default: q = rnd(r); break;
        }
        memcpy(v + i, &q, 8);
    }
}

static void random_x87(struct rng *r, struct x86_fpu *f)
{
    static const u8 precision[] = {0, 2, 3, 3};

    f->fcw = 0x40 | (u16)precision[rnd(r) & 3] << 8 | (u16)rnd_below(r, 4) << 10;
    f->fcw |= chance(r, 85) ? 0x3f : rnd(r) & 0x3f;
    f->fsw = rnd(r) & 0x7f00;
    f->fsw |= rnd(r) & rnd(r) & 0x7f;
    if (chance(r, 95))
        f->fsw &= ~(~f->fcw & 0x3f);
    if (f->fsw & ~f->fcw & 0x3f)
        f->fsw |= 0x8080;
    f->ftw = chance(r, 65) ? 0xff : chance(r, 60) ? rnd(r) : 0;
    f->fop = rnd(r) & 0x7ff;
    f->fip = rnd(r) & 0xffffffffffff;
    f->fdp = rnd(r) & 0xffffffffffff;
    if (native_has.amd) { /* extended when loaded */
        f->fip = (u64)((s64)(f->fip << 16) >> 16);
        f->fdp = (u64)((s64)(f->fdp << 16) >> 16);
    }
    for (unsigned i = 0; i < 8; i++)
        random_f80(r, f->st[i]);
    if (chance(r, 30)) /* MMX contents */
        for (unsigned i = 0; i < 8; i++) {
            u64 v = random_value(r);
            memcpy(f->st[i], &v, 8);
            memset(f->st[i] + 8, 0xff, 2);
        }
}

void state_pool_init(u64 seed, u64 epoch)
{
    struct rng r = {seed * 0x2545f4914f6cdd1dull + epoch};

    memset(pool, 0, sizeof(pool));
    for (unsigned i = 0; i < POOL; i++) {
        struct x86_fpu *f = &pool[i];
        random_x87(&r, f);
        f->mxcsr = (chance(&r, 88) ? 0x1f80 : rnd(&r) & 0x1f80) | (rnd(&r) & rnd(&r) & 0xe07f);
        for (unsigned v = 0; v < 16; v++) {
            random_vector(&r, f->vec[v]);
            if (!native_has.avx)
                memset(f->vec[v] + 16, 0, 16);
        }
    }
}

/* --- integer ---------------------------------------------------------------------------------- */

u16 random_selector(struct rng *r, bool for_code)
{
    static const u8 rows[] = {LDT_DATA16,  LDT_DATA32,   LDT_DOWN32, LDT_READONLY,
                              LDT_CODE32,  LDT_EXECONLY, LDT_ABSENT, LDT_DOWN16,
                              LDT_STACK16, LDT_FLAT,     LDT_CODE16};
    unsigned k = rnd_below(r, 100);

    if (for_code) {
        if (k < 40)
            return SEL_CODE64;
        if (k < 70)
            return SEL_CODE32;
        if (k < 80 && native_has.ldt)
            return LDT_SEL(LDT_CODE16);
    } else {
        if (k < 20)
            return 0;
        if (k < 50)
            return SEL_DATA;
    }
    if (k < 90 && native_has.ldt)
        return LDT_SEL(rows[rnd_below(r, ARRAY_SIZE(rows))]);
    static const u16 odd[] = {
        0, 1, 2, 3, SEL_CODE32, SEL_CODE64, SEL_DATA, SEL_DATA - 1, SEL_DATA - 3, 0x10};
    return odd[rnd_below(r, ARRAY_SIZE(odd))];
}

static void random_segments(struct dcase *c, struct rng *r)
{
    static const u8 data[] = {LDT_DATA16, LDT_DATA32,  LDT_DOWN32, LDT_READONLY,
                              LDT_FLAT,   LDT_STACK16, LDT_DOWN16};
    u16 *sel = c->in.sel;

    memset(sel, 0, sizeof(c->in.sel));
    if (c->mode == MODE_64) {
        sel[X86_CS] = SEL_CODE64;
        sel[X86_SS] = SEL_DATA;
        return;
    }
    sel[X86_CS] = c->mode == MODE_32 ? SEL_CODE32 : LDT_SEL(LDT_CODE16);
    bool local = native_has.ldt && (c->mode == MODE_16 || chance(r, 30));
    for (unsigned i = 0; i < X86_SREGS; i++) {
        if (i == X86_CS)
            continue;
        sel[i] = SEL_DATA;
        if (!local)
            continue;
        sel[i] = LDT_SEL(data[rnd_below(r, ARRAY_SIZE(data))]);
        if (i == X86_SS && sel[i] == LDT_SEL(LDT_READONLY))
            sel[i] = LDT_SEL(LDT_STACK16);
    }
    if (c->mode == MODE_16 && chance(r, 70))
        sel[X86_SS] = LDT_SEL(LDT_STACK16), sel[X86_DS] = LDT_SEL(LDT_DATA16);
    if (!local || chance(r, 30)) {
        sel[X86_FS] = chance(r, 50) ? 0 : SEL_DATA;
        sel[X86_GS] = chance(r, 50) ? 0 : SEL_DATA;
    }
    if (!native_has.fsgsbase)
        sel[X86_FS] = sel[X86_GS] = 0;
}

static u64 segment_base(const struct dcase *c, unsigned seg)
{
    u16 sel = c->in.sel[seg];
    return sel & 4 && sel / 8 < LDT_ROWS ? ldt_rows[sel / 8].base : 0;
}

static u64 pointer(const struct dcase *c, struct rng *r, unsigned seg)
{
    u64 p = random_place(r, 16, false) - segment_base(c, seg);
    return c->mode == MODE_64 ? p : (u32)p;
}

void state_random(struct dcase *c, struct rng *r)
{
    struct dstate *s = &c->in;

    random_segments(c, r);
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = chance(r, 15) ? pointer(c, r, X86_DS) : random_value(r);
    s->gpr[X86_RSP] = DATA_ADDR + 0x1400 + rnd_below(r, 0x80) * 8 - segment_base(c, X86_SS);
    if (chance(r, 5))
        s->gpr[X86_RSP] += rnd_below(r, 8);
    if (chance(r, 70))
        s->gpr[X86_RBP] = pointer(c, r, X86_SS);
    if (chance(r, 75))
        s->gpr[X86_RSI] = pointer(c, r, X86_DS);
    if (chance(r, 75))
        s->gpr[X86_RDI] = pointer(c, r, X86_ES);
    if (c->mode != MODE_64) {
        for (unsigned i = 0; i < 8; i++)
            s->gpr[i] = (u32)s->gpr[i];
        memset(&s->gpr[8], 0, 8 * sizeof(s->gpr[0]));
    }
    s->rflags = (rnd(r) & (RFLAGS_ARITH | RFLAGS_DF)) | RFLAGS_ONE | RFLAGS_IF;
    if (chance(r, 90))
        s->rflags &= ~(u64)RFLAGS_DF;
    if (chance(r, 3))
        s->rflags |= RFLAGS_AC;
    if (chance(r, 3))
        s->rflags |= RFLAGS_NT;
    if (chance(r, 5))
        s->rflags |= RFLAGS_ID;
    s->fs_base = native_has.fsgsbase && c->mode == MODE_64 ? DATA_ADDR + 0x100 : 0;
    s->gs_base = native_has.fsgsbase && c->mode == MODE_64 ? DATA_ADDR + 0x1000 : 0;
    s->fpu = pool[rnd_below(r, POOL)];
    c->start = CODE_ADDR + 0x8000;
    if (chance(r, 4))
        c->start -= rnd_below(r, 16);
    s->rip = c->start - (c->mode == MODE_16 ? CODE_ADDR : 0);
}
