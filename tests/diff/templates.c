/* templates.c - walks all opcode maps with the decoder and lists what is an instruction and what
 * is not */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gen.h"

struct tmpl_list templates[3];
static ZydisDecoder decoders[3];

const ZydisDecoder *gen_decoder(enum dmode mode)
{
    return &decoders[mode];
}

bool gen_decode(enum dmode mode, const u8 *bytes, unsigned n, ZydisDecodedInstruction *z,
                ZydisDecodedOperand *ops)
{
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[mode], bytes, MIN(n, 15), z, ops)))
        return false;
    /* Zydis 4.0 takes r13 for a base where SIB says disp32 without base, REX.B is set and
     * addresses are 32-bit. */
    if (z->address_width == 32 && z->attributes & ZYDIS_ATTRIB_HAS_SIB && z->raw.modrm.mod == 0 &&
        z->raw.sib.base == 5)
        for (unsigned i = 0; i < z->operand_count_visible; i++)
            if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
                ops[i].mem.base = ZYDIS_REGISTER_NONE;
                ops[i].mem.disp.has_displacement = true;
                ops[i].mem.disp.value = z->raw.disp.value;
            }
    return true;
}

unsigned gen_templates(enum dmode mode)
{
    return templates[mode].nvalid;
}

static void init_decoder(enum dmode mode)
{
    static const struct {
        ZydisMachineMode machine;
        ZydisStackWidth width;
    } m[] = {[MODE_64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
             [MODE_32] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32},
             [MODE_16] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16}};
    ZydisDecoder *d = &decoders[mode];

    ZydisDecoderInit(d, m[mode].machine, m[mode].width);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_AMD_BRANCHES, native_has.amd);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
}

/* --- what is left out ------------------------------------------------------------------------- */

static const u16 excluded_list[] = {
#define EXCLUDED(mnem, reason) ZYDIS_MNEMONIC_##mnem,
#include "excluded.def"
#undef EXCLUDED
};

/* Instruction sets the guest's CPU model lacks would be #UD there, whatever the host has. */
static bool model_has(const ZydisDecodedInstruction *z)
{
    static const struct {
        u16 set;
        s16 feature;
    } gates[] = {
#define X86_ISA(set, feature) {ZYDIS_ISA_SET_##set, X86_FEATURE_##feature},
#define X86_ISA_ALWAYS(set)   {ZYDIS_ISA_SET_##set, -1},
#include "x86/isa_sets.def"
#undef X86_ISA
#undef X86_ISA_ALWAYS
    };
    const u64 *f = guest_model()->features;
    bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

    for (unsigned i = 0; i < ARRAY_SIZE(gates); i++) {
        int n = gates[i].feature;
        if (gates[i].set != z->meta.isa_set)
            continue;
        if (n >= 0 && !(f[n / 64] >> (n % 64) & 1))
            return false;
        return !vex || f[X86_FEATURE_AVX / 64] >> (X86_FEATURE_AVX % 64) & 1;
    }
    return false;
}

bool excluded(const ZydisDecodedInstruction *z)
{
    for (unsigned i = 0; i < ARRAY_SIZE(excluded_list); i++)
        if (excluded_list[i] == z->mnemonic)
            return true;
    if (!native_has.fsgsbase &&
        (z->mnemonic == ZYDIS_MNEMONIC_WRFSBASE || z->mnemonic == ZYDIS_MNEMONIC_LFS ||
         z->mnemonic == ZYDIS_MNEMONIC_LGS))
        return true;
    return !model_has(z);
}

/* --- enumeration ------------------------------------------------------------------------------ */

static void add(struct tmpl_list *l, const struct tmpl *t)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 4096;
        l->t = realloc(l->t, l->cap * sizeof(*t));
        ASSERT(l->t);
    }
    l->t[l->n++] = *t;
}

static bool is_prefix(enum dmode mode, unsigned op)
{
    switch (op) {
    case 0x0f:
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3: return true;
    case 0x62:
    case 0xc4:
    case 0xc5: /* EVEX and VEX, or BOUND, LES, LDS with a memory operand */ return mode == MODE_64;
    }
    return mode == MODE_64 && (op & 0xf0) == 0x40;
}

/* Gathers want three different registers: ModRM.reg 3, index 1 and mask 2 are probed. */
static bool is_gather(const struct tmpl *t)
{
    return t->enc == ENC_VEX && t->map == 2 && t->op >= 0x90 && t->op <= 0x93;
}

/* A probe encoding with ModRM as given, the SIB byte [eax+ecx] and zeros behind. */
static unsigned probe_bytes(const struct tmpl *t, enum dmode mode, u8 modrm, u8 *out)
{
    static const u8 pps[] = {0, 0x66, 0xf3, 0xf2};
    unsigned n = 0;

    memset(out, 0, 24);
    if (t->enc == ENC_VEX) {
        out[n++] = 0xc4;
        out[n++] = 0xe0 | t->map;
        out[n++] = t->w << 7 | (is_gather(t) ? 0x68 : 0x78) | t->l << 2 | t->pp;
    } else {
        if (t->pp)
            out[n++] = pps[t->pp];
        if (mode == MODE_64 && t->w)
            out[n++] = 0x48;
        if (t->map)
            out[n++] = 0x0f;
        if (t->map > 1)
            out[n++] = t->map == 2 ? 0x38 : 0x3a;
    }
    out[n++] = t->op;
    if (is_gather(t))
        modrm = (modrm & 0xc7) | 3 << 3;
    out[n++] = modrm;
    if (modrm < 0xc0)
        out[n++] = 0x08;
    return 15;
}

struct probe {
    bool ok, modrm, excluded;
    u16 mnemonic, isa;
    u16 sizes[5];
};

static struct probe probe(const struct tmpl *t, enum dmode mode, u8 modrm)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    struct probe p = {0};
    u8 bytes[24];

    unsigned n = probe_bytes(t, mode, modrm, bytes);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[mode], bytes, n, &z, ops)))
        return p;
    p.ok = true;
    p.modrm = z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
    p.mnemonic = z.mnemonic;
    p.isa = z.meta.isa_set;
    p.excluded = excluded(&z);
    for (unsigned i = 0; i < MIN(z.operand_count_visible, 4); i++)
        p.sizes[i] = ops[i].size;
    if (z.operand_count) /* for implicit operands of that width */
        p.sizes[4] = z.operand_width;
    return p;
}

static bool same(const struct probe *a, const struct probe *b)
{
    return a->ok == b->ok && a->mnemonic == b->mnemonic && a->excluded == b->excluded &&
           a->isa == b->isa && !memcmp(a->sizes, b->sizes, sizeof(a->sizes));
}

/* A prefix that changes nothing makes no template of its own. */
static bool redundant(const struct tmpl *t, enum dmode mode, u8 modrm, const struct probe *p)
{
    struct tmpl plain = *t;

    bool string =
        t->map == 0 && ((t->op >= 0xa4 && t->op <= 0xaf) || (t->op >= 0x6c && t->op <= 0x6f));
    if (t->pp && t->enc == ENC_LEGACY && !(string && t->pp >= 2))
        plain.pp = 0;
    else
        plain.w = 0;
    if (plain.pp == t->pp && plain.w == t->w)
        return false;
    struct probe q = probe(&plain, mode, modrm);
    return same(p, &q);
}

/* Some x87 opcodes and 0F 01 have a register form for each value of ModRM, others take any
 * ST(i). */
static bool rm_selects(const struct tmpl *t, enum dmode mode)
{
    for (unsigned reg = 0; reg < 8; reg++) {
        struct probe first = probe(t, mode, 0xc0 | reg << 3);
        for (unsigned rm = 1; rm < 8; rm++) {
            struct probe p = probe(t, mode, 0xc0 | reg << 3 | rm);
            if (!same(&p, &first))
                return true;
        }
    }
    return false;
}

static void list_form(struct tmpl_list *l, struct tmpl t, enum dmode mode,
                      struct tmpl_list *invalid)
{
    u8 mod = t.rm_kind == RM_REG ? 0xc0 : 0x04;
    bool each_rm = t.rm_kind == RM_REG && rm_selects(&t, mode);
    struct probe first = probe(&t, mode, mod);
    bool any = false, uniform = true;

    for (unsigned reg = 0; reg < 8; reg++) {
        struct probe p = probe(&t, mode, mod | reg << 3);
        any |= p.ok;
        uniform &= same(&p, &first);
    }
    bool group7 =
        t.enc == ENC_LEGACY && t.map == 1 && t.op == 0x01; /* hypervisor calls among them */
    if (!any && !group7) {
        t.reg = t.rm = -1;
        t.valid = false;
        add(invalid, &t);
        return;
    }
    t.valid = true;
    for (unsigned reg = 0; reg < 8; reg++)
        for (unsigned rm = 0; rm < (each_rm ? 8 : 1); rm++) {
            u8 modrm = each_rm ? (u8)(mod | reg << 3 | rm) : (u8)(mod | reg << 3);
            struct probe p = probe(&t, mode, modrm);
            t.reg = uniform && !each_rm ? -1 : (s8)reg;
            t.rm = each_rm ? (s8)rm : -1;
            if (!p.ok && group7)
                continue;
            if (!p.ok) {
                t.valid = false;
                add(invalid, &t);
                t.valid = true;
            } else if (!p.excluded && !redundant(&t, mode, modrm, &p)) {
                t.mnemonic = p.mnemonic;
                if (!p.modrm)
                    t.rm_kind = RM_NONE;
                add(l, &t);
                if (!p.modrm)
                    return;
            }
            if ((uniform && !each_rm) || (p.ok && !p.modrm))
                return;
        }
}

static void list_mode(enum dmode mode)
{
    struct tmpl_list *l = &templates[mode], invalid = {0};
    unsigned legacy_maps = 4;

    for (unsigned enc = ENC_LEGACY; enc <= ENC_VEX; enc++) {
        if (enc == ENC_VEX && !native_has.avx)
            continue;
        for (unsigned map = enc == ENC_VEX; map < legacy_maps; map++)
            for (unsigned op = 0; op < 256; op++) {
                if (enc == ENC_LEGACY && map == 0 && is_prefix(mode, op))
                    continue;
                if (enc == ENC_LEGACY && map == 1 && (op == 0x38 || op == 0x3a || op == 0x0f))
                    continue;
                for (unsigned pp = 0; pp < 4; pp++)
                    for (unsigned w = 0; w < (enc == ENC_VEX || mode == MODE_64 ? 2 : 1); w++)
                        for (unsigned vl = 0; vl < (enc == ENC_VEX ? 2 : 1); vl++)
                            for (unsigned k = RM_MEM; k <= RM_REG; k++) {
                                struct tmpl t = {.enc = enc,
                                                 .map = map,
                                                 .op = op,
                                                 .pp = pp,
                                                 .w = w,
                                                 .l = vl,
                                                 .rm_kind = k};
                                unsigned before = l->n;
                                list_form(l, t, mode, &invalid);
                                if (l->n > before && l->t[l->n - 1].rm_kind == RM_NONE)
                                    break;
                            }
            }
    }
    l->nvalid = l->n;
    for (unsigned i = 0; i < invalid.n; i++)
        add(l, &invalid.t[i]);
    free(invalid.t);
}

int templates_init(struct err *e)
{
    for (unsigned mode = MODE_64; mode <= MODE_16; mode++) {
        init_decoder(mode);
        if (mode == MODE_16 && !native_has.ldt)
            continue;
        list_mode(mode);
    }
    return templates[MODE_64].nvalid ? 0 : err_set(e, EINVAL, "no instruction templates");
}
