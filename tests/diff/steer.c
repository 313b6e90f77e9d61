/* steer.c - registers, displacements and memory arranged so that an instruction does something
 * of interest */
#include <string.h>

#include "gen.h"

u64 random_place(struct rng *r, unsigned size, bool tame)
{
    u64 off = rnd_below(r, DATA_BYTES - 0x800);
    unsigned k = rnd_below(r, 100);

    if (k < 55)
        off &= ~(u64)(size >= 32 ? 31 : size >= 16 ? 15 : 7);
    else if (k < 60)
        off = 0x1000 - rnd_below(r, size + 1); /* across pages */
    else if (k < 63 && !tame)
        off = DATA_BYTES - rnd_below(r, size + 2); /* into the read-only page */
    else if (k < 65 && !tame)
        off = DATA_BYTES + RO_BYTES - rnd_below(r, size + 2); /* into nothing */
    else if (k < 66 && !tame)
        off = -rnd_below(r, size + 2);
    return DATA_ADDR + off;
}

u64 landing(const struct dcase *c, struct rng *r)
{
    u64 p = CODE_ADDR + 0x1000 + rnd_below(r, 0x6000);
    return chance(r, 50) ? p : p + 0x7800;
}

static u64 sel_base(u16 sel)
{
    return sel & 4 && sel / 8 < LDT_ROWS ? ldt_rows[sel / 8].base : 0;
}

u64 seg_base(const struct dcase *c, ZydisRegister seg)
{
    if (seg == ZYDIS_REGISTER_NONE)
        return 0;
    if (c->mode == MODE_64)
        return seg == ZYDIS_REGISTER_FS   ? c->in.fs_base
               : seg == ZYDIS_REGISTER_GS ? c->in.gs_base
                                          : 0;
    return sel_base(c->in.sel[seg - ZYDIS_REGISTER_ES]);
}

/* GPR number of an address register, 16: none, 17: instruction pointer, 18: vector. */
static unsigned number(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: return ZydisRegisterGetId(reg);
    case ZYDIS_REGCLASS_IP: return 17;
    case ZYDIS_REGCLASS_INVALID: return 16;
    default: return 18;
    }
}

static u64 amask(const ZydisDecodedInstruction *z)
{
    return z->address_width == 64 ? ~0ull : (1ull << z->address_width) - 1;
}

u64 operand_address(const struct dcase *c, const ZydisDecodedInstruction *z,
                    const ZydisDecodedOperand *o, const struct x86_state *s, u64 next_rip)
{
    unsigned b = number(o->mem.base), x = number(o->mem.index);
    u64 ea = o->mem.disp.has_displacement ? (u64)o->mem.disp.value : 0;

    ea += b < 16 ? s->gpr[b] : b == 17 ? next_rip : 0;
    ea += x < 16 ? s->gpr[x] * o->mem.scale : 0;
    ea = (ea & amask(z)) + seg_base(c, o->mem.segment);
    return c->mode == MODE_64 ? ea : (u32)ea;
}

static void patch_disp(struct dcase *c, u64 val)
{
    memcpy(c->bytes + c->z.raw.disp.offset, &val, c->z.raw.disp.size / 8);
}

static void set_address_reg(struct dcase *c, struct rng *r, unsigned reg, u64 val)
{
    u64 m = amask(&c->z);

    if (reg >= (c->mode == MODE_64 ? 16u : 8u))
        return;
    /* What lies beyond the address size must not matter. */
    u64 junk = c->mode == MODE_64 && chance(r, 50) ? rnd(r) : 0;
    if (c->mode != MODE_64 && c->z.address_width == 16)
        junk = (u32)rnd(r);
    c->in.gpr[reg] = (val & m) | (m == ~0ull ? 0 : junk & ~m);
}

/* Points memory operand o at linear address `place` by way of base, index or displacement. */
static void aim(struct dcase *c, struct rng *r, const ZydisDecodedOperand *o, u64 place)
{
    unsigned b = number(o->mem.base), x = number(o->mem.index);
    u64 disp = o->mem.disp.has_displacement ? (u64)o->mem.disp.value : 0;
    u64 want = place - seg_base(c, o->mem.segment);
    unsigned scale = o->mem.scale ? o->mem.scale : 1;

    if (c->z.address_width == 16 && want > 0xffff && native_has.low_alias)
        want = want - DATA_ADDR + LOW_ADDR;
    if (b == 17) {
        patch_disp(c, want - (c->in.rip + c->len));
    } else if (b < 16 && b == x) {
        set_address_reg(c, r, b, (want - disp) / (1 + scale));
    } else if (b < 16) {
        u64 index = x < 16 ? c->in.gpr[x] * scale : 0;
        set_address_reg(c, r, b, want - disp - index);
    } else if (x < 16) {
        u64 v = (want - disp) & amask(&c->z);
        set_address_reg(c, r, x, v / scale);
    } else if (c->z.raw.disp.size) {
        patch_disp(c, want);
    }
}

/* Small index elements and mixed mask signs for a gather. */
static void aim_gather(struct dcase *c, struct rng *r, const ZydisDecodedOperand *o)
{
    unsigned x = ZydisRegisterGetId(o->mem.index) & 15;
    unsigned step = c->z.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
                            c->z.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS ||
                            c->z.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD ||
                            c->z.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ
                        ? 8
                        : 4;

    for (unsigned i = 0; i < 32; i += step) {
        s64 v = (s64)rnd_below(r, 0x80) - (chance(r, 10) ? 0x40 : 0);
        if (chance(r, 1))
            v = (s32)rnd(r);
        memcpy(c->in.fpu.vec[x] + i, &v, step);
    }
}

/* --- implicit operands and special values ----------------------------------------------------- */

static void steer_rep(struct dcase *c, struct rng *r)
{
    if (!(c->z.attributes &
          (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)))
        return;
    u64 junk = c->mode == MODE_64 && c->z.address_width == 32 ? rnd(r) << 32
               : c->z.address_width == 16                     ? (rnd(r) & 0xffff) << 16
                                                              : 0;
    c->in.gpr[X86_RCX] = (chance(r, 80) ? rnd_below(r, 24) : rnd_below(r, 3000)) | junk;
}

static const ZydisDecodedOperand *visible_mem(const struct dcase *c)
{
    for (unsigned i = 0; i < c->z.operand_count_visible; i++)
        if (c->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return &c->ops[i];
    return NULL;
}

static void fill_selector_operand(struct dcase *c, struct rng *r, bool code)
{
    const ZydisDecodedOperand *m = visible_mem(c);
    u16 sel = random_selector(r, code);

    if (m) {
        memory_poke(c->ea, &sel, 2);
        return;
    }
    for (unsigned i = 0; i < c->z.operand_count_visible; i++) {
        unsigned n = number(c->ops[i].reg.value);
        if (c->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER && n < 16)
            c->in.gpr[n] = (c->in.gpr[n] & ~0xffffull) | sel;
    }
}

static u64 code_offset(const struct dcase *c, u64 lin, u16 cs)
{
    return lin - sel_base(cs);
}

/* A far pointer in memory or in the instruction. */
static void steer_far(struct dcase *c, struct rng *r)
{
    u16 sel = random_selector(r, true);
    u64 off = code_offset(c, landing(c, r), sel);
    unsigned n = c->z.operand_width / 8;

    if (c->ops[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
        memcpy(c->bytes + c->z.raw.imm[0].offset, &off, c->z.raw.imm[0].size / 8);
        memcpy(c->bytes + c->z.raw.imm[1].offset, &sel, 2);
        return;
    }
    memory_poke(c->ea, &off, n);
    memory_poke(c->ea + n, &sel, 2);
}

static u64 stack_lin(const struct dcase *c)
{
    u16 ss = c->in.sel[X86_SS];
    u64 sp = c->in.gpr[X86_RSP];

    if (c->mode == MODE_64)
        return sp;
    bool big = !(ss & 4) || ldt_rows[ss / 8].big;
    return (u32)((big ? (u32)sp : (u16)sp) + sel_base(ss));
}

/* RET, RETF and IRET find their frame on the stack. */
static void steer_return(struct dcase *c, struct rng *r, bool far, bool iret)
{
    unsigned n = c->z.operand_width / 8;
    u64 at = stack_lin(c);
    u16 cs = far ? random_selector(r, true) : c->in.sel[X86_CS];
    u64 off = code_offset(c, landing(c, r), cs);
    u64 flags = (rnd(r) & 0x254ed5 & ~(u64)RFLAGS_TF) | 0x202;
    u64 sp = random_place(r, 16, true), ss = chance(r, 80) ? SEL_DATA : random_selector(r, false);

    if (chance(r, 90))
        memory_poke(at, &off, n);
    if (far)
        memory_poke(at + n, &cs, 2);
    if (!iret)
        return;
    /* AC in the new flags makes a misaligned frame raise #AC, which Linux takes for a split lock
     * and retries for ever. */
    flags &= ~(u64)RFLAGS_AC;
    if (chance(r, 90))
        flags &= ~(u64)RFLAGS_NT;
    memory_poke(at + 2 * n, &flags, n);
    memory_poke(at + 3 * n, &sp, n);
    memory_poke(at + 4 * n, &ss, 2);
}

/* In the block, or in the bytes of the jump behind it. */
static bool inside_block(const struct dcase *c, u64 target)
{
    u64 off = target + (c->mode == MODE_16 ? CODE_ADDR : 0) - c->start;
    return off < c->len + 16 && off != c->len;
}

/* Direct branches must not loop; most land in mapped code. */
static bool steer_branch(struct dcase *c, struct rng *r)
{
    const ZydisDecodedOperand *o = &c->ops[0];
    u64 next = c->in.rip + c->len;

    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o->imm.is_relative) {
        unsigned size = c->z.raw.imm[0].size;
        s64 disp = size == 8 ? (s8)c->bytes[c->z.raw.imm[0].offset]
                             : (s64)(landing(c, r) - c->start) - c->len;
        if (size == 32 && chance(r, 4))
            disp = (s32)rnd(r);
        memcpy(c->bytes + c->z.raw.imm[0].offset, &disp, size / 8);
        u64 target = next + disp;
        if (c->mode != MODE_64)
            target = c->z.operand_width == 16 ? (u16)target : (u32)target;
        return !inside_block(c, target) && !inside_block(c, (u16)target);
    }
    u64 target = code_offset(c, landing(c, r), c->in.sel[X86_CS]);
    if (chance(r, 3))
        target = random_value(r);
    if (inside_block(c, target))
        return false;
    if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
        memory_poke(c->ea, &target, c->z.operand_width / 8);
    else if (number(o->reg.value) < 16)
        c->in.gpr[number(o->reg.value)] = target;
    return true;
}

/* A floating-point image that FXRSTOR and XRSTOR accept. */
static void poke_fp_image(struct dcase *c, struct rng *r)
{
    u8 image[640];
    u64 parts = rnd(r) & 7, zero[7] = {0};

    for (unsigned i = 0; i < sizeof(image); i += 8) {
        u64 v = random_value(r);
        memcpy(image + i, &v, 8);
    }
    u16 fcw = 0x37f;
    u32 mxcsr = chance(r, 95) ? rnd(r) & 0xffff : rnd(r);
    memcpy(image, &fcw, 2);
    image[2] = image[3] = 0;
    memcpy(image + 24, &mxcsr, 4);
    memcpy(image + 512, &parts, 8);
    if (chance(r, 95))
        memcpy(image + 520, zero, 56);
    memory_poke(c->ea, image, sizeof(image));
}

static void steer_division(struct dcase *c, struct rng *r)
{
    if (chance(r, 25))
        return;
    if (c->z.operand_width == 8) {
        c->in.gpr[X86_RAX] = (c->in.gpr[X86_RAX] & ~0xffffull) | rnd_below(r, 0x200);
        return;
    }
    bool neg = c->z.mnemonic == ZYDIS_MNEMONIC_IDIV && chance(r, 50);
    c->in.gpr[X86_RDX] = neg ? (c->mode == MODE_64 ? ~0ull : 0xffffffffull) : rnd_below(r, 2);
}

static bool is_bit_op(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_BT || m == ZYDIS_MNEMONIC_BTS || m == ZYDIS_MNEMONIC_BTR ||
           m == ZYDIS_MNEMONIC_BTC;
}

/* Before the memory operand is aimed. */
static void steer_before(struct dcase *c, struct rng *r)
{
    const ZydisDecodedOperand *o = c->ops;

    steer_rep(c, r);
    if (is_bit_op(c->z.mnemonic) && o[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
        o[1].type == ZYDIS_OPERAND_TYPE_REGISTER && number(o[1].reg.value) < 16 && chance(r, 85)) {
        u64 bit = rnd_below(r, 0x1000) - 0x800;
        unsigned n = number(o[1].reg.value);
        c->in.gpr[n] = c->mode == MODE_64 ? bit : (u32)bit;
    }
    switch (c->z.mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: steer_division(c, r); break;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        c->in.gpr[X86_RCX] = rnd_below(r, 3) | (chance(r, 30) ? 0x10000 : 0);
        break;
    case ZYDIS_MNEMONIC_XLAT:
        c->in.gpr[X86_RBX] = random_place(r, 256, true) - seg_base(c, ZYDIS_REGISTER_DS);
        break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        c->in.gpr[X86_RAX] = rnd(r) & 7;
        c->in.gpr[X86_RDX] = 0;
        break;
    default: break;
    }
}

static bool steer_far_or_near(struct dcase *c, struct rng *r)
{
    bool far = c->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

    switch (c->z.mnemonic) {
    case ZYDIS_MNEMONIC_RET: steer_return(c, r, far, false); return true;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ: steer_return(c, r, true, true); return true;
    default: break;
    }
    if (far) {
        steer_far(c, r);
        return true;
    }
    return c->z.meta.branch_type == ZYDIS_BRANCH_TYPE_NONE || steer_branch(c, r);
}

/* After: contents of memory and registers at their final places. */
static bool steer_after(struct dcase *c, struct rng *r)
{
    u64 v[2];

    switch (c->z.mnemonic) {
    case ZYDIS_MNEMONIC_INT: return c->bytes[c->z.raw.imm[0].offset] != 0x80;
    case ZYDIS_MNEMONIC_MOV:
        if (ZydisRegisterGetClass(c->ops[0].reg.value) != ZYDIS_REGCLASS_SEGMENT ||
            c->ops[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
            return true;
        if (!native_has.fsgsbase && c->ops[0].reg.value >= ZYDIS_REGISTER_FS)
            return false;
        fill_selector_operand(c, r, false);
        return true;
    case ZYDIS_MNEMONIC_POP:
        if (ZydisRegisterGetClass(c->ops[0].reg.value) == ZYDIS_REGCLASS_SEGMENT) {
            v[0] = random_selector(r, false);
            memory_poke(stack_lin(c), v, 2);
            return native_has.fsgsbase || c->ops[0].reg.value < ZYDIS_REGISTER_FS;
        }
        return true;
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
        v[0] = random_selector(r, false);
        memory_poke(c->ea + c->ops[0].size / 8, v, 2);
        return true;
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW: fill_selector_operand(c, r, chance(r, 40)); return true;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        v[0] = rnd(r);
        memory_poke(stack_lin(c), v, 8);
        return true;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        v[0] = rnd(r) & 0xffff;
        if (chance(r, 90))
            memory_poke(c->ea, v, 4);
        return true;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64: poke_fp_image(c, r); return true;
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        v[0] = c->in.gpr[X86_RAX];
        v[1] = c->in.gpr[X86_RDX];
        if (c->z.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B)
            v[0] = (u32)v[0] | v[1] << 32;
        if (c->has_ea && chance(r, 50))
            memory_poke(c->ea, v, 16);
        return true;
    default: return steer_far_or_near(c, r);
    }
}

static bool needs_alignment(const struct dcase *c)
{
    return c->z.attributes & ZYDIS_ATTRIB_HAS_LOCK || c->z.mnemonic == ZYDIS_MNEMONIC_XCHG;
}

static void poke_operand(struct dcase *c, struct rng *r, unsigned size)
{
    u8 buf[64];

    for (unsigned i = 0; i < sizeof(buf); i += 8) {
        u64 v = random_value(r);
        memcpy(buf + i, &v, 8);
    }
    if (size >= 16 && c->z.meta.category != ZYDIS_CATEGORY_XSAVE)
        memcpy(buf, c->in.fpu.vec[rnd(r) & 15], 32);
    else if (size == 10)
        memcpy(buf, c->in.fpu.st[rnd(r) & 7], 10);
    else if (chance(r, 30))
        memcpy(buf, c->in.fpu.vec[rnd(r) & 15], 8);
    memory_poke(c->ea, buf, MIN(size, 64));
}

bool steer(struct dcase *c, struct rng *r)
{
    const ZydisDecodedOperand *m = visible_mem(c);

    steer_before(c, r);
    if (m && m->mem.type != ZYDIS_MEMOP_TYPE_INVALID) {
        unsigned size = m->size ? m->size / 8 : 8;
        u64 place =
            random_place(r, MIN(size, 1024), c->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE);
        if (size >= 512)
            place = chance(r, 90) ? DATA_ADDR + (rnd_below(r, 0x1000) & ~63ull) : place;
        if (needs_alignment(c) && chance(r, 97))
            place &= ~15ull;
        else if (size == 16 && chance(r, 60))
            place &= ~15ull;
        if (m->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
            aim_gather(c, r, m);
            place = DATA_ADDR + 0x800 + rnd_below(r, 0x400);
        }
        if (chance(r, 97))
            aim(c, r, m, place);
        /* Displacements may have been patched. */
        if (!gen_decode(c->mode, c->bytes, c->len, &c->z, c->ops))
            return false;
        struct x86_state s;
        memcpy(s.gpr, c->in.gpr, sizeof(s.gpr));
        c->ea = operand_address(c, &c->z, visible_mem(c), &s, c->in.rip + c->len);
        c->has_ea = m->mem.type == ZYDIS_MEMOP_TYPE_MEM;
        if (chance(r, 70))
            poke_operand(c, r, MIN(size, 64));
    }
    if (!steer_after(c, r))
        return false;
    /* The base register may be RAX or RDX: no parts that the guest does not have. */
    if (c->z.meta.isa_ext == ZYDIS_ISA_EXT_XSAVE &&
        ((u32)c->in.gpr[X86_RDX] || (u32)c->in.gpr[X86_RAX] > 7))
        return false;
    /* Never the harness's own pages. */
    return !(c->has_ea && c->ea + 0x2000 - CTX_ADDR < 0x20000);
}
