/* copy.c - a guest instruction re-encoded with host registers and a host memory operand */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"

/* The parts of an encoding (SDM vol. 2 2.1-2.3). */
struct raw {
    u8 pfx[4];
    unsigned npfx; /* 66, F2, F3, F0 as they stood */
    bool vex, w, l;
    u8 map; /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
    u8 pp;
    u8 opcode, modrm;
    bool has_modrm;
    u8 imm_off, imm_len;
};

static bool is_kept(u8 b)
{
    return b == 0x66 || b == 0xf2 || b == 0xf3 || b == 0xf0;
}

/* ModRM, SIB and displacement; 16-bit addresses do not come here. */
static unsigned modrm_bytes(const u8 *p)
{
    unsigned mod = p[0] >> 6, rm = p[0] & 7, n = 1;

    if (mod == 3)
        return 1;
    if (rm == 4) {
        n++;
        if (mod == 0 && (p[1] & 7) == 5)
            return n + 4;
    } else if (mod == 0 && rm == 5) {
        return n + 4;
    }
    return n + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

static void parse_vex(struct raw *r, const u8 *b, unsigned *i)
{
    bool three = b[*i] == 0xc4;
    u8 last = b[*i + (three ? 2 : 1)];

    r->vex = true;
    r->map = three ? b[*i + 1] & 31 : 1;
    r->w = three && last & 0x80;
    r->l = last & 4;
    r->pp = last & 3;
    *i += three ? 3 : 2;
    r->opcode = b[(*i)++];
}

static struct raw parse(const struct gen *g)
{
    const struct x86_insn *in = g->in;
    const u8 *b = in->raw;
    struct raw r = {.npfx = 0};
    unsigned i = 0;

    /* A REX that another prefix follows does not count. */
    for (bool rex; (rex = g->code64 && (b[i] & 0xf0) == 0x40) || x86_is_prefix(b[i]); i++) {
        r.w = rex && b[i] & 8;
        if (!rex && is_kept(b[i]) && r.npfx < 4 && !memchr(r.pfx, b[i], r.npfx))
            r.pfx[r.npfx++] = b[i];
    }
    if (in->prefix & X86_PFX_VEX) {
        parse_vex(&r, b, &i);
    } else {
        if (b[i] == 0x0f) {
            i++;
            r.map = b[i] == 0x38 ? 2 : b[i] == 0x3a ? 3 : 1;
            if (r.map > 1)
                i++;
        }
        r.opcode = b[i++];
        if (!r.map && r.opcode == 0x82) /* the same as 80; 64-bit mode does not have it */
            r.opcode = 0x80;
    }
    r.has_modrm = in->modrm_off != 0;
    if (r.has_modrm) {
        r.modrm = b[i];
        i += modrm_bytes(b + i);
    }
    r.imm_off = (u8)i;
    r.imm_len = (u8)(in->len - i);
    return r;
}

/* --- encoding --------------------------------------------------------------------------------- */

static bool has_gpr(const struct x86_insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->op[i].kind == X86_OPND_REG && in->op[i].cls == X86_CLASS_GPR)
            return true;
    return false;
}

/* VBLENDVPS, VBLENDVPD, VPBLENDVB: the immediate names a register; outside 64-bit mode bit 7 does
 * not count. */
static bool names_register(const struct raw *r)
{
    return r->vex && r->map == 3 && r->opcode >= 0x4a && r->opcode <= 0x4c;
}

/* `reg`, `vvvv` and `rm` are host numbers; with m, rm is memory. */
static void encode(struct gen *g, const struct raw *r, unsigned reg, unsigned vvvv, unsigned rm,
                   const struct hmem *m, bool byte_regs)
{
    struct emit *e = &g->e;
    unsigned rex = m ? rex_bits(reg, m) : (reg & 8) >> 1 | (rm & 8) >> 3;

    if (r->vex) {
        /* Outside 64-bit mode VEX.W does not widen general registers. */
        bool w = r->w && (g->code64 || !has_gpr(g->in));
        e1(e, 0xc4);
        e1(e, ((~rex & 7) << 5) | r->map);
        e1(e, (unsigned)w << 7 | (~vvvv & 15) << 3 | (unsigned)r->l << 2 | r->pp);
    } else {
        ebytes(e, r->pfx, r->npfx);
        rex |= r->w ? 8 : 0;
        if (rex || byte_regs)
            e1(e, 0x40 | rex);
        if (r->map)
            e1(e, 0x0f);
        if (r->map > 1)
            e1(e, r->map == 2 ? 0x38 : 0x3a);
    }
    e1(e, r->opcode);
    if (m)
        e_modrm_mem(e, reg, m);
    else
        e1(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
    ebytes(e, g->in->raw + r->imm_off, r->imm_len);
    if (!g->code64 && names_register(r))
        e->p[-1] &= 0x7f;
}

/* Encodings without ModRM that name rax or a register in the opcode, as forms with ModRM. False:
 * not one of them. */
static bool give_modrm(const struct gen *g, struct raw *r)
{
    const struct x86_insn *in = g->in;
    u8 op = r->opcode;
    bool wide = op & 1;

    if (r->map == 1 && (op & 0xf8) == 0xc8) /* BSWAP */
        return false;
    if (r->map)
        return false;
    if (op < 0x40 && (op & 6) == 4) { /* ADD.. rax, imm */
        r->modrm = op & 0x38;
        r->opcode = wide ? 0x81 : 0x80;
    } else if (op == 0xa8 || op == 0xa9) {
        r->modrm = 0;
        r->opcode = wide ? 0xf7 : 0xf6;
    } else if ((op & 0xf0) == 0x40) { /* INC, DEC outside 64-bit mode */
        r->modrm = op & 8;
        r->opcode = 0xff;
    } else if (op > 0x90 && op < 0x98) { /* XCHG rax, r: the register is in ModRM.reg */
        r->opcode = 0x87;
    } else if (op >= 0xa0 && op <= 0xa3) { /* MOV moffs */
        r->opcode = (op & 2 ? 0x88 : 0x8a) | wide;
        r->imm_len = 0;
    } else if ((op & 0xf0) == 0xb0 && in->op[0].size != 8) { /* MOV r, imm */
        r->modrm = 0;
        r->opcode = op & 8 ? 0xc7 : 0xc6;
    } else {
        return false;
    }
    return true;
}

/* --- registers -------------------------------------------------------------------------------- */

static unsigned operand_host(const struct x86_operand *o)
{
    return o->cls == X86_CLASS_GPR ? host_reg(o->reg) : o->reg;
}

static bool in_memory(const struct x86_operand *o)
{
    return o->kind == X86_OPND_REG && o->cls == X86_CLASS_GPR && host_reg(o->reg) == H_NONE;
}

bool copy_possible(const struct gen *g, bool mem)
{
    const struct x86_insn *in = g->in;
    unsigned homes = 0, high = 0, first = X86_REG_NONE;

    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->op[i];
        high += o->kind == X86_OPND_REG && o->high;
        if (in_memory(o) && o->reg != first) {
            homes++;
            first = o->reg;
        }
    }
    return high ? high == 1 && !homes : homes <= (mem ? 1 : 2);
}

/* Without a memory operand: only a second register that lives in memory needs it. */
bool copy_keeps_r10(const struct gen *g)
{
    unsigned homes = 0;

    for (unsigned i = 0; i < g->in->nops; i++)
        homes += in_memory(&g->in->op[i]);
    return homes < 2;
}

bool copy_wants_rax(const struct x86_insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->op[i].kind == X86_OPND_REG && in->op[i].high)
            return true;
    return false;
}

/* AH to BH work as AL meanwhile: no encoding has them together with a REX prefix. */
static void load_high(struct gen *g, const struct x86_operand *o)
{
    e_mov(&g->e, W32, H_RAX, host_reg(o->reg));
    EBYTES(&g->e, "\x0f\xb6\xc4"); /* movzx eax, ah */
}

/* By way of memory, which leaves the flags alone. */
static void store_high(struct gen *g, const struct x86_operand *o)
{
    e_store(&g->e, W64, cell(GPR_OFF(o->reg)), host_reg(o->reg));
    e_rm(&g->e, W32, 0x88, H_RAX, cell(GPR_OFF(o->reg) + 1));
    e_load(&g->e, W64, host_reg(o->reg), cell(GPR_OFF(o->reg)));
}

/* Operand i, which lives in memory, gets a scratch register; the same guest register twice shares
 * it. */
static unsigned take_scratch(struct gen *g, bool mem, unsigned *taken, u8 regs[2], unsigned guest)
{
    for (unsigned k = 0; k < *taken; k++)
        if (regs[k] == guest)
            return mem ? g->spare : k ? H_R10 : H_RAX;
    regs[(*taken)++] = (u8)guest;
    return mem ? g->spare : *taken == 1 ? H_RAX : H_R10;
}

bool copy_insn(struct gen *g, const struct hmem *m)
{
    const struct x86_insn *in = g->in;
    struct raw r = parse(g);
    unsigned reg = r.modrm >> 3 & 7, rm = r.modrm & 7, vvvv = 0, taken = 0;
    unsigned host[4] = {0};
    u8 regs[2];
    bool byte_regs = false, opcode_reg = false;

    if (!r.has_modrm && give_modrm(g, &r)) {
        reg = r.modrm >> 3 & 7;
        opcode_reg = true;
    } else if (!r.has_modrm && r.npfx) {
        return false;
    } else if (!r.has_modrm && !(r.map == 0 && (r.opcode & 0xf8) == 0xb8) &&
               !(r.map == 1 && (r.opcode & 0xf8) == 0xc8)) {
        return false;
    }
    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->op[i];
        if (o->kind != X86_OPND_REG)
            continue;
        host[i] = operand_host(o);
        if (o->high) {
            load_high(g, o);
            host[i] = H_RAX;
            use_rax(g);
        } else if (host[i] == H_NONE) {
            host[i] = take_scratch(g, m != NULL, &taken, regs, o->reg);
            bool wanted = o->access & X86_OPND_READ || o->size < 4 || in->flags_read ||
                          in->mnemonic == ZYDIS_MNEMONIC_BSF || in->mnemonic == ZYDIS_MNEMONIC_BSR;
            bool held = host[i] == H_RAX && g->rax_home == o->reg;
            if (wanted && !held)
                e_load(&g->e, W64, host[i], cell(GPR_OFF(o->reg)));
            if (host[i] == H_RAX)
                g->rax_home = wanted ? o->reg : -1;
        }
        if (o->cls == X86_CLASS_GPR && o->size == 1 && host[i] >= 4 && host[i] < 8)
            byte_regs = true;
        switch (o->slot) {
        case X86_SLOT_REG: reg = host[i]; break;
        case X86_SLOT_RM: rm = host[i]; break;
        case X86_SLOT_VVVV: vvvv = host[i]; break;
        default: break;
        }
    }
    if (!r.has_modrm) {
        struct emit *e = &g->e;
        if (r.map == 1) { /* BSWAP */
            e1(e, 0x40 | (r.w ? 8u : 0u) | (host[0] & 8) >> 3);
            e1(e, 0x0f);
            e1(e, 0xc8 | (host[0] & 7));
        } else if (!opcode_reg) { /* MOV r64, imm64 */
            e1(e, 0x48 | (host[0] & 8) >> 3);
            e1(e, 0xb8 | (host[0] & 7));
            ebytes(e, in->raw + r.imm_off, r.imm_len);
        } else if (r.opcode == 0x87) {
            encode(g, &r, host[0], 0, host[1], NULL, byte_regs);
        } else if (m) { /* MOV moffs */
            encode(g, &r, in->op[0].kind == X86_OPND_REG ? host[0] : host[1], 0, 0, m, byte_regs);
        } else {
            encode(g, &r, reg, 0, host[0], NULL, byte_regs);
        }
    } else {
        encode(g, &r, reg, vvvv, rm, m, byte_regs);
    }
    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->op[i];
        if (o->kind != X86_OPND_REG || !(o->access & X86_OPND_WRITE))
            continue;
        if (o->high)
            store_high(g, o);
        else if (in_memory(o)) {
            e_store(&g->e, W64, cell(GPR_OFF(o->reg)), host[i]);
            if (host[i] == H_RAX)
                g->rax_home = o->reg;
        }
    }
    return true;
}
