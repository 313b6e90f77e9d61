/* emit.h - host instructions as bytes: prefixes, ModRM, displacements (SDM vol. 2 chapter 2) */
#pragma once

#include <string.h>

#include "base/types.h"

/* Host registers by number. What each holds in translated code is in bt.h. */
enum {
    H_RAX,
    H_RCX,
    H_RDX,
    H_RBX,
    H_RSP,
    H_RBP,
    H_RSI,
    H_RDI,
    H_R8,
    H_R9,
    H_R10,
    H_R11,
    H_R12,
    H_R13,
    H_R14,
    H_R15,
    H_NONE = 0xff
};

/* Where bytes go: `p` is the writable view, `p + x` the address they will run at. */
struct emit {
    u8 *p, *end;
    s64 x; /* executable view minus writable view */
};

/* [base + (index << scale) + disp]; with `gs`, disp from the GS base and no registers. */
struct hmem {
    u8 base, index, scale;
    bool gs;
    s32 disp;
};

static inline struct hmem gs_mem(size_t off)
{
    return (struct hmem){H_NONE, H_NONE, 0, true, (s32)off};
}

static inline struct hmem base_mem(unsigned base, s32 disp)
{
    return (struct hmem){(u8)base, H_NONE, 0, false, disp};
}

static inline void e1(struct emit *e, unsigned b)
{
    *e->p++ = (u8)b;
}

static inline void e4(struct emit *e, u32 v)
{
    memcpy(e->p, &v, 4);
    e->p += 4;
}

static inline void e8(struct emit *e, u64 v)
{
    memcpy(e->p, &v, 8);
    e->p += 8;
}

static inline void ebytes(struct emit *e, const void *b, unsigned n)
{
    memcpy(e->p, b, n);
    e->p += n;
}
#define EBYTES(e, s) ebytes(e, s, sizeof(s) - 1)

static inline bool fits8(s64 v)
{
    return v == (s8)v;
}

static inline bool fits32(s64 v)
{
    return v == (s32)v;
}

/* Bits of REX that a register and an address need. */
static inline unsigned rex_bits(unsigned reg, const struct hmem *m)
{
    unsigned rex = (reg & 8) >> 1;

    if (!m->gs && m->base != H_NONE)
        rex |= (m->base & 8) >> 3;
    if (!m->gs && m->index != H_NONE)
        rex |= (m->index & 8) >> 2;
    return rex;
}

/* Instructions are put together at a pointer of their own: bytes may alias e->p, which would be
 * loaded and stored for each. */
static inline u8 *put1(u8 *p, unsigned b)
{
    *p = (u8)b;
    return p + 1;
}

static inline u8 *put4(u8 *p, u32 v)
{
    memcpy(p, &v, 4);
    return p + 4;
}

static inline u8 *put_modrm_mem(u8 *p, unsigned reg, struct hmem m)
{
    unsigned r = (reg & 7) << 3;

    if (m.gs || m.base == H_NONE) { /* SIB without base */
        unsigned index = m.gs || m.index == H_NONE ? 4 : m.index & 7u;
        p = put1(p, r | 4);
        p = put1(p, (unsigned)m.scale << 6 | index << 3 | 5);
        return put4(p, (u32)m.disp);
    }
    bool sib = m.index != H_NONE || (m.base & 7) == H_RSP;
    unsigned mod = m.disp == 0 && (m.base & 7) != H_RBP ? 0 : fits8(m.disp) ? 1 : 2;
    p = put1(p, mod << 6 | r | (sib ? 4u : m.base & 7u));
    if (sib)
        p = put1(p, (unsigned)m.scale << 6 | (m.index == H_NONE ? 4u : m.index & 7u) << 3 |
                        (m.base & 7u));
    if (mod == 1)
        return put1(p, (unsigned)m.disp);
    return mod == 2 ? put4(p, (u32)m.disp) : p;
}

/* ModRM, SIB and displacement of a memory operand. */
static inline void e_modrm_mem(struct emit *e, unsigned reg, const struct hmem *m)
{
    e->p = put_modrm_mem(e->p, reg, *m);
}

#define W64 8u /* REX.W */
#define W32 0u

/* One-byte opcode with ModRM: register form and memory form. */
static inline void e_rr(struct emit *e, unsigned w, unsigned op, unsigned reg, unsigned rm)
{
    unsigned rex = w | (reg & 8) >> 1 | (rm & 8) >> 3;
    u8 *p = e->p;

    if (rex)
        p = put1(p, 0x40 | rex);
    p = put1(p, op);
    e->p = put1(p, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void e_rm(struct emit *e, unsigned w, unsigned op, unsigned reg, struct hmem m)
{
    unsigned rex = w | rex_bits(reg, &m);
    u8 *p = e->p;

    if (m.gs)
        p = put1(p, 0x65);
    if (rex)
        p = put1(p, 0x40 | rex);
    p = put1(p, op);
    e->p = put_modrm_mem(p, reg, m);
}

static inline void e_mov(struct emit *e, unsigned w, unsigned to, unsigned from)
{
    e_rr(e, w, 0x89, from, to);
}

static inline void e_load(struct emit *e, unsigned w, unsigned to, struct hmem m)
{
    e_rm(e, w, 0x8b, to, m);
}

static inline void e_store(struct emit *e, unsigned w, struct hmem m, unsigned from)
{
    e_rm(e, w, 0x89, from, m);
}

static inline void e_lea(struct emit *e, unsigned w, unsigned to, struct hmem m)
{
    e_rm(e, w, 0x8d, to, m);
}

/* Group 1 with immediate: 0 ADD, 1 OR, 4 AND, 5 SUB, 6 XOR, 7 CMP. */
static inline void e_alu_imm(struct emit *e, unsigned w, unsigned ext, unsigned rm, s32 imm)
{
    e_rr(e, w, fits8(imm) ? 0x83 : 0x81, ext, rm);
    if (fits8(imm))
        e1(e, (unsigned)imm);
    else
        e4(e, (u32)imm);
}

/* The same on memory, 32 or 64 bits wide. */
static inline void e_alu_mem_imm(struct emit *e, unsigned w, unsigned ext, struct hmem m, s32 imm)
{
    e_rm(e, w, fits8(imm) ? 0x83 : 0x81, ext, m);
    if (fits8(imm))
        e1(e, (unsigned)imm);
    else
        e4(e, (u32)imm);
}

static inline void e_mov_imm32(struct emit *e, unsigned reg, u32 imm)
{
    if (reg & 8)
        e1(e, 0x41);
    e1(e, 0xb8 | (reg & 7));
    e4(e, imm);
}

static inline void e_mov_imm64(struct emit *e, unsigned reg, u64 imm)
{
    if (imm == (u32)imm) {
        e_mov_imm32(e, reg, (u32)imm);
        return;
    }
    e1(e, 0x48 | (reg & 8) >> 3);
    e1(e, 0xb8 | (reg & 7));
    e8(e, imm);
}

/* --- jumps: the address of the rel32 is what gets patched ------------------------------------- */

enum {
    CC_O = 0,
    CC_B = 2,
    CC_AE = 3,
    CC_E = 4,
    CC_NE = 5,
    CC_BE = 6,
    CC_A = 7,
    CC_S = 8,
    CC_NS = 9
};

static inline void patch_rel32(u8 *field, const u8 *to)
{
    s32 rel = (s32)(to - (field + 4));
    memcpy(field, &rel, 4);
}

static inline u8 *e_jcc(struct emit *e, unsigned cc)
{
    u8 *p = put1(e->p, 0x0f);

    p = put1(p, 0x80 | cc);
    e->p = put4(p, 0);
    return p;
}

static inline u8 *e_jmp(struct emit *e)
{
    u8 *p = put1(e->p, 0xe9);

    e->p = put4(p, 0);
    return p;
}

static inline u8 *e_call(struct emit *e)
{
    e1(e, 0xe8);
    e4(e, 0);
    return e->p - 4;
}

static inline void e_push(struct emit *e, unsigned reg)
{
    if (reg & 8)
        e1(e, 0x41);
    e1(e, 0x50 | (reg & 7));
}

static inline void e_pop(struct emit *e, unsigned reg)
{
    if (reg & 8)
        e1(e, 0x41);
    e1(e, 0x58 | (reg & 7));
}

static inline void e_jmp_to(struct emit *e, const u8 *to)
{
    u8 *field = e_jmp(e);
    patch_rel32(field, to);
}

/* Pads so that the rel32 of a jump with `opcode_bytes` of opcode is 4-byte aligned: it may be
 * patched while another processor runs it. */
static inline void e_align_rel32(struct emit *e, unsigned opcode_bytes)
{
    static const u8 nops[3][3] = {{0x90}, {0x66, 0x90}, {0x0f, 0x1f, 0x00}};
    unsigned pad = -(unsigned)((uintptr_t)e->p + opcode_bytes) & 3;

    if (pad)
        ebytes(e, nops[pad - 1], pad);
}

/* LEA reg, [rip + rel32] of a place in the same buffer. */
static inline u8 *e_lea_rip(struct emit *e, unsigned reg)
{
    e1(e, 0x48 | (reg & 8) >> 1);
    e1(e, 0x8d);
    e1(e, 5 | (reg & 7) << 3);
    e4(e, 0);
    return e->p - 4;
}

static inline void e_jmp_mem(struct emit *e, struct hmem m)
{
    e_rm(e, 0, 0xff, 4, m);
}

static inline void e_call_mem(struct emit *e, struct hmem m)
{
    e_rm(e, 0, 0xff, 2, m);
}
