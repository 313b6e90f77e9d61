/* block.c - cases of several instructions: each is chosen in the state the core has reached, so
 * that its memory operands exist, and the whole block is then compared */
#include <string.h>

#include "gen.h"
#include "undefined.h"

/* Left out of blocks: what ends them or changes how the rest is read. */
static bool unfit(const struct dcase *c, const ZydisDecodedInstruction *z)
{
    if (z->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
        return true;
    switch (z->meta.category) {
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_XSAVE: return true;
    default: break;
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
    case ZYDIS_MNEMONIC_UD2: return true;
    /* MXCSR_MASK (see MISALIGNED_SSE) would flow into what follows. */
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64: return native_has.amd;
    default: return false;
    }
}

static bool segment_operand(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    for (unsigned i = 0; i < z->operand_count_visible; i++)
        if (ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(ops[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return true;
    return false;
}

/* All memory operands, implicit ones too, lie in the data area. */
static bool operands_inside(const struct builder *b, const ZydisDecodedInstruction *z,
                            const ZydisDecodedOperand *ops, u64 next_rip)
{
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (ops[i].type != ZYDIS_OPERAND_TYPE_MEMORY || ops[i].mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            continue;
        if (ops[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
            return false;
        u64 ea = operand_address(b->c, z, &ops[i], guest_state(), next_rip);
        if (ea - DATA_ADDR >= DATA_BYTES - 64)
            return false;
    }
    return true;
}

static u32 zydis_flags(u32 f)
{
    return f & RFLAGS_ARITH; /* the bits are those of RFLAGS */
}

/* Whether the instruction changes a register that is to be left alone. */
static bool writes_kept(const struct builder *b, const ZydisDecodedInstruction *z,
                        const ZydisDecodedOperand *ops)
{
    for (unsigned i = 0; i < z->operand_count; i++) {
        if (ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(ops[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        ZydisRegister r =
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, ops[i].reg.value);
        if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR64 &&
            b->kept >> ZydisRegisterGetId(r) & 1)
            return true;
    }
    return false;
}

static bool flags_fit(const struct builder *b, const ZydisDecodedInstruction *z)
{
    return !z->cpu_flags || !(zydis_flags(z->cpu_flags->tested) & b->open_flags);
}

bool builder_fits(const struct builder *b, u64 next_rip)
{
    const struct dcase *c = b->c;

    return flags_fit(b, &c->z) && operands_inside(b, &c->z, c->ops, next_rip);
}

void builder_track_flags(struct builder *b, const struct undefined *u)
{
    const ZydisDecodedInstruction *z = &b->c->z;
    const ZydisAccessedFlags *f = z->cpu_flags;
    bool maybe =
        z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE) ||
        z->meta.category == ZYDIS_CATEGORY_SHIFT || z->meta.category == ZYDIS_CATEGORY_ROTATE;

    if (f && !maybe)
        b->open_flags &= ~zydis_flags(f->modified | f->set_0 | f->set_1);
    b->open_flags |= u->flags;
}

/* A base register that holds something near the data area, or 16. */
static unsigned near_register(const struct builder *b, s32 *disp, u64 place)
{
    unsigned regs = b->c->mode == MODE_64 ? 16 : 8, first = rnd_below(b->r, regs);

    for (unsigned i = 0; i < regs; i++) {
        unsigned n = (first + i) % regs;
        s64 d = (s64)(place - guest_state()->gpr[n]);
        if (b->c->mode != MODE_64)
            d = (s32)d;
        if (b->bases && !(b->bases >> n & 1))
            continue;
        if (d == (s32)d && (n != X86_RSP || chance(b->r, 10))) {
            *disp = d;
            return n;
        }
    }
    return 16;
}

static unsigned encode(struct builder *b, const struct tmpl *t, u64 rip, u8 *bytes)
{
    const struct dcase *c = b->c;
    u64 place = random_place(b->r, 32, true);
    s32 disp;

    if (t->rm_kind != RM_MEM)
        return encode_random(t, c->mode, b->r, true, bytes);
    unsigned base = near_register(b, &disp, place);
    if (base < 16)
        return encode_based(t, c->mode, b->r, base, disp, bytes);
    if (c->mode != MODE_64)
        return encode_based(t, c->mode, b->r, 16, place, bytes);
    /* RIP-relative: the length is only known after decoding, so encode twice with the same
     * randomness. */
    struct rng saved = *b->r;
    ZydisDecodedInstruction z;
    unsigned n = encode_based(t, c->mode, b->r, 16, 0, bytes);
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeInstruction(gen_decoder(c->mode), NULL, bytes, MIN(n, 15), &z)))
        return n;
    *b->r = saved;
    return encode_based(t, c->mode, b->r, 16, place - (rip + z.length), bytes);
}

unsigned builder_choose(struct builder *b, u64 rip, u8 *bytes)
{
    struct dcase *c = b->c;
    const struct tmpl_list *l = &templates[c->mode];

    for (unsigned tries = 0; tries < 30; tries++) {
        const struct tmpl *t = &l->t[rnd_below(b->r, l->nvalid)];
        unsigned n = encode(b, t, rip, bytes);
        if (!gen_decode(c->mode, bytes, n, &c->z, c->ops))
            continue;
        if (excluded(&c->z) || unfit(c, &c->z) || segment_operand(&c->z, c->ops) ||
            writes_kept(b, &c->z, c->ops) || !builder_fits(b, rip + c->z.length))
            continue;
        return c->z.length;
    }
    return 0;
}

void builder_begin(struct builder *b, u64 index)
{
    struct dcase *c = b->c;

    memset(c, 0, offsetof(struct dcase, bytes));
    c->index = index;
    c->mode = index % 4 == 3 ? MODE_32 : MODE_64;
    c->valid = true;
    c->len = c->insns = c->steps = 0;
    c->has_ea = c->skip_result = false;
    state_random(c, b->r);
    if (c->mode == MODE_32) /* flat */
        for (unsigned i = 0; i < X86_SREGS; i++)
            c->in.sel[i] = i == X86_CS ? SEL_CODE32 : SEL_DATA;
    if (!native_has.fsgsbase)
        c->in.sel[X86_FS] = c->in.sel[X86_GS] = 0;
    c->in.rflags &= ~(u64)RFLAGS_AC;
    for (unsigned i = 0; i < 4; i++) /* a few pointers to begin with */
        c->in.gpr[rnd_below(b->r, c->mode == MODE_64 ? 16 : 8)] = random_place(b->r, 8, true);
    c->in.gpr[X86_RSP] = DATA_ADDR + 0x1400;
}

bool gen_block(struct dcase *c, u64 seed, u64 index)
{
    struct rng r = {(seed + 77) ^ index * 0xd1342543de82ef95ull};
    struct builder b = {.c = c, .r = &r};
    u8 bytes[64];

    builder_begin(&b, index);
    unsigned want = 2 + rnd_below(&r, BLOCK_MAX - 1);
    guest_begin(c);
    for (unsigned k = 0; k < want; k++) {
        unsigned n = builder_choose(&b, c->start + c->len, bytes);
        if (!n)
            break;
        struct undefined u = undefined_by(&c->z, c->ops, guest_state());
        if (u.result)
            continue;
        memcpy(c->bytes + c->len, bytes, n);
        memcpy(native_code + (c->start - CODE_ADDR) + c->len, bytes, n);
        c->len += n;
        c->insns++;
        bool go_on = guest_step(c);
        if (!go_on) {
            /* The flags after a fault are those before the instruction. */
            break;
        }
        builder_track_flags(&b, &u);
    }
    c->undef_flags = b.open_flags;
    memset(native_code + (c->start - CODE_ADDR), 0xcc, c->len);
    memory_restore();
    return c->insns > 0;
}
