/* native_emit.c - code of the stubs: load guest registers, one guest instruction, store them */
#include <string.h>

#include "x86/fpu.h"

/* A stub is a leaf function `void f(frame rdi, rsi, rdx, rcx, r8)`; the four pointers lead to the
 * guest's vector (or MMX) registers by slot. Register use inside:
 *
 *   slot   pointer  vector register        general register
 *   reg    rsi      1                      rax
 *   vvvv   rdx      2                      r9
 *   rm     rcx      3                      rcx
 *   extra  r8       4, or 0 when implicit  rdx (implicit source)
 *
 * Vector registers are loaded before general ones, so that rcx and rdx serve twice; no instruction
 * has a vector destination in a slot whose pointer was so replaced. */

struct out {
    u8 *p;
};

static void byte(struct out *o, unsigned b)
{
    *o->p++ = b;
}

static void bytes(struct out *o, const char *s, unsigned n)
{
    memcpy(o->p, s, n);
    o->p += n;
}
#define BYTES(o, s) bytes(o, s, sizeof(s) - 1)

static unsigned slot_vector(const struct native_ident *id, unsigned slot)
{
    if (slot == NV_EXTRA)
        return (id->vec[slot] & NV_OPERAND) == NV_FIXED ? 0 : 4;
    return slot + 1;
}

/* MOVDQU, VMOVDQU or MOVQ between the slot's register and where its pointer leads. */
static void move_vector(struct out *o, const struct native_ident *id, unsigned slot, bool store)
{
    static const u8 pointer[NV_SLOTS] = {6, 2, 1, 0}; /* rsi, rdx, rcx, r8 */
    bool high = slot == NV_EXTRA;
    unsigned modrm = slot_vector(id, slot) << 3 | pointer[slot];
    unsigned opcode = store ? 0x7f : 0x6f;
    bool wide = false;

    switch (id->vec[slot] & NV_KIND) {
    case NV_MM: byte(o, 0x0f); break;
    case NV_XMM:
        byte(o, 0xf3);
        if (high)
            byte(o, 0x41);
        byte(o, 0x0f);
        break;
    case NV_YMM:
        wide = true;
        /* fall through */
    case NV_VXMM:
        if (store)
            wide = true;
        if (high)
            BYTES(o, "\xc4\xc1");
        else
            byte(o, 0xc5);
        byte(o, (high ? 0x7a : 0xfa) | wide << 2);
        break;
    default: return;
    }
    byte(o, opcode);
    byte(o, modrm);
}

/* MOV between rax, rcx, rdx, r9 and frame->gpr[i]. */
static void move_gpr(struct out *o, unsigned i, bool store)
{
    static const u8 reg[4] = {0, 1, 2, 1};

    byte(o, i == 3 ? 0x4c : 0x48);
    byte(o, store ? 0x89 : 0x8b);
    byte(o, 0x47 | reg[i] << 3);
    byte(o, NF_GPR + 8 * i);
}

static void flags_in(struct out *o)
{
    BYTES(o, "\x0f\xb7\x47"); /* movzx eax, word [rdi + NF_FLAGS] */
    byte(o, NF_FLAGS);
    BYTES(o, "\x04\x7f\x9e"); /* add al, 0x7f (1 overflows); sahf */
}

static void flags_out(struct out *o)
{
    BYTES(o, "\x9f\x0f\x90\xc0\x66\x89\x47"); /* lahf; seto al; mov [rdi + NF_FLAGS], ax */
    byte(o, NF_FLAGS);
}

/* STMXCSR (reg 3) or LDMXCSR (reg 2) [rdi + off] */
static void mxcsr(struct out *o, unsigned reg, unsigned off)
{
    BYTES(o, "\x0f\xae");
    byte(o, 0x47 | reg << 3);
    byte(o, off);
}

/* The guest's MXCSR is loaded only when the host's differs, and left behind when its control bits
 * are the default ones: sticky flags mean nothing to the monitor, and an LDMXCSR that changes them
 * costs more than the rest of the stub. Uses eax and flags. */
static void mxcsr_in(struct out *o)
{
    mxcsr(o, 3, NF_HOST_MXCSR);
    BYTES(o, "\x8b\x47"); /* mov eax, [rdi + NF_MXCSR] */
    byte(o, NF_MXCSR);
    BYTES(o, "\x3b\x47"); /* cmp eax, [rdi + NF_HOST_MXCSR] */
    byte(o, NF_HOST_MXCSR);
    BYTES(o, "\x74\x04"); /* je past the load */
    mxcsr(o, 2, NF_MXCSR);
}

static void mxcsr_out(struct out *o)
{
    mxcsr(o, 3, NF_MXCSR);
    BYTES(o, "\x8b\x47"); /* mov eax, [rdi + NF_MXCSR] */
    byte(o, NF_MXCSR);
    BYTES(o, "\x83\xe0\xc0"                   /* and eax, ~0x3f */
             "\x3d\x80\x1f\x00\x00\x74\x04"); /* cmp eax, MXCSR_INIT; je past the load */
    mxcsr(o, 2, NF_HOST_MXCSR);
}

static void emit_vector(struct out *o, const struct native_ident *id)
{
    if (id->flags & NO_MXCSR)
        mxcsr_in(o);
    for (unsigned i = 0; i < NV_SLOTS; i++)
        move_vector(o, id, i, false);
    if (id->flags & NO_FLAGS)
        flags_in(o);
    for (unsigned i = 0; i < 4; i++)
        if (id->gin[i] != NG_NONE)
            move_gpr(o, i, false);

    bytes(o, (const char *)id->code, id->code_len);

    for (unsigned i = 0; i < 4; i++)
        if (id->gout[i] != NG_NONE)
            move_gpr(o, i, true);
    if (id->flags & NO_FLAGS)
        flags_out(o);
    for (unsigned i = 0; i < NV_SLOTS; i++)
        if (id->vec_written >> i & 1)
            move_vector(o, id, i, true);
    if (id->flags & NO_MXCSR)
        mxcsr_out(o);
    if (id->flags & NO_MMX)
        BYTES(o, "\x0f\x77"); /* emms */
    if (id->flags & NO_YMM)
        BYTES(o, "\xc5\xf8\x77"); /* vzeroupper */
    byte(o, 0xc3);
}

static void emit_x87(struct out *o, const struct native_ident *id)
{
    BYTES(o,
          "\x0f\xae\x9f\x98\x00\x00\x00"); /* stmxcsr [rdi + NF_FX + 24]: FXRSTOR loads it again */
    BYTES(o, "\x48\x0f\xae\x8f\x80\x00\x00\x00"); /* fxrstor64 [rdi + NF_FX] */
    if (id->flags & NO_FLAGS)
        flags_in(o);
    bytes(o, (const char *)id->code, id->code_len);
    if (id->flags & NO_FLAGS)
        flags_out(o);
    BYTES(o, "\x48\x0f\xae\x87\x80\x00\x00\x00"); /* fxsave64 [rdi + NF_FX] */
    BYTES(o, "\xf6\x87\x82\x00\x00\x00\x80");     /* test byte [rdi + NF_FX + 2], FSW_ES */
    BYTES(o, "\x74\x03\xdb\xe3\xc3");             /* jz 1f; fninit; ret; 1: */
    BYTES(o, "\x0f\x77\xd9\x6f");                 /* emms; fldcw [rdi + NF_HOST_FCW] */
    byte(o, NF_HOST_FCW);
    byte(o, 0xc3);
}

unsigned native_emit(const struct native_ident *id, u8 *out)
{
    struct out o = {out};

    if (id->flags & NO_X87)
        emit_x87(&o, id);
    else
        emit_vector(&o, id);
    ASSERT(o.p - out <= NATIVE_STUB_MAX);
    return (unsigned)(o.p - out);
}

unsigned native_emit_recovery(u8 *out)
{
    struct out o = {out};

    if (native_host_avx())
        BYTES(&o, "\xc5\xf8\x77"); /* vzeroupper */
    BYTES(&o, "\xdb\xe3\xc3");     /* fninit; ret */
    return (unsigned)(o.p - out);
}
