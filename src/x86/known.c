/* known.c - decoding with a memory: instructions decoded lately, and others of the same pattern */
#include "x86/known.h"

#include <string.h>

#include "x86/optable.h"

/* Code repeats itself, and most instructions differ from one seen lately in their displacement and
 * immediate at most. So an integer instruction stands for all that have its head: prefixes, opcode,
 * ModRM and SIB. What follows the head is put into the copy; everything else depends on the head
 * alone. Others stand for themselves. */

#define KNOWN_BITS 12
#define OP_ESCAPE  0x0f

enum extension { EXT_UNKNOWN, EXT_SIGN, EXT_ZERO };

struct x86_known {
    u32 mode; /* 0: free */
    u8 head;  /* bytes that must be equal */
    u8 disp, imm;
    u8 ext; /* how the immediate is widened; unknown while none with its highest bit was seen */
    struct x86_insn insn;
};

size_t x86_known_bytes(void)
{
    return sizeof(struct x86_known) << KNOWN_BITS;
}

/* --- the head --------------------------------------------------------------------------------- */

/* A bit for each opcode byte of the first map that ModRM follows. A wrong one would cost hits. */
static const u32 modrm_map[8] = {
    0x0f0f0f0f, /* 00-1f: arithmetic */
    0x0f0f0f0f, /* 20-3f */
    0x00000000, /* 40-5f */
    0x00000a08, /* 60-7f: MOVSXD, IMUL */
    0x0000ffff, /* 80-9f: groups, TEST, XCHG, MOV, LEA, POP */
    0x00000000, /* a0-bf */
    0xff0f00c3, /* c0-df: shifts, MOV imm, x87 */
    0xc0c00000, /* e0-ff: groups 3 to 5 */
};

/* Offset behind the opcode, 0: VEX or too many prefixes. *modrm: ModRM is expected there. */
static unsigned opcode_end(const u8 *b, bool code64, bool *modrm)
{
    unsigned i = 0;

    while (i < 4 && x86_is_prefix(b[i]))
        i++;
    if (code64 && (b[i] & 0xf0) == 0x40)
        i++;
    u8 op = b[i++];
    if (op == 0xc4 || op == 0xc5 || op == 0x62)
        return 0;
    *modrm = op == OP_ESCAPE ? (b[i] & 0xf0) != 0x80 : modrm_map[op >> 5] >> (op & 31) & 1;
    if (op == OP_ESCAPE) {
        op = b[i++];
        i += op == 0x38 || op == 0x3a;
    }
    return i;
}

static bool has_sib(u8 modrm)
{
    return modrm < 0xc0 && (modrm & 7) == 4;
}

static struct x86_known *slot_of(struct x86_known *known, const u8 *b, unsigned end, bool modrm)
{
    unsigned n = end ? end + modrm + (modrm && has_sib(b[end])) : 8;
    u64 key;

    memcpy(&key, b, sizeof(key));
    if (n < 8)
        key &= BIT64(8 * n) - 1;
    return &known[key * 0x9e3779b97f4a7c15ull >> (64 - KNOWN_BITS)];
}

/* --- the tail --------------------------------------------------------------------------------- */

/* n = 1, 2, 4 or 8 bytes, little endian. */
static u64 tail_value(const u8 *p, unsigned n)
{
    u64 v = 0;

    memcpy(&v, p, n);
    return v;
}

static u64 sign_extend(u64 v, unsigned n)
{
    unsigned shift = 64 - 8 * n;

    return (u64)((s64)(v << shift) >> shift);
}

static unsigned disp_bytes(const u8 *modrm)
{
    unsigned mod = *modrm >> 6, base = *modrm & 7;

    if (has_sib(*modrm))
        base = modrm[1] & 7;
    return mod == 1 ? 1 : mod == 2 || (mod == 0 && base == 5) ? 4 : 0;
}

/* ENTER, and far jumps and calls with a pointer: it looks like one immediate. */
static bool two_immediates(const struct x86_insn *in)
{
    return in->imm2 || in->fn == x86_op_jmp_far || in->fn == x86_op_call_far;
}

/* What the instruction stands for: all with its head when the rest is as expected, else itself. */
static void learn(struct x86_known *k, unsigned end)
{
    const struct x86_insn *in = &k->insn;
    bool mem = in->modrm_off && in->raw[in->modrm_off] < 0xc0;
    unsigned head = end;

    k->head = in->len;
    k->disp = k->imm = 0;
    if (!end || in->kind != X86_KIND_INT || in->aux || two_immediates(in) || in->asize == 2 ||
        (in->modrm_off && in->modrm_off != end) || mem != x86_insn_has_mem(in))
        return;
    if (in->modrm_off)
        head += 1 + has_sib(in->raw[end]);
    unsigned disp = mem ? disp_bytes(&in->raw[end]) : 0, imm = in->len - head - disp;
    if (head + disp > in->len || !(imm == 0 || imm == 1 || imm == 2 || imm == 4))
        return;
    if (disp && sign_extend(tail_value(&in->raw[head], disp), disp) != (u64)in->disp)
        return;
    u64 zero = imm ? tail_value(&in->raw[head + disp], imm) : 0;
    u64 sign = imm ? sign_extend(zero, imm) : 0;
    if (in->imm != zero && in->imm != sign)
        return;
    k->ext = zero == sign ? EXT_UNKNOWN : in->imm == sign ? EXT_SIGN : EXT_ZERO;
    k->head = (u8)head;
    k->disp = (u8)disp;
    k->imm = (u8)imm;
}

/* False: it cannot be told how the immediate is widened. */
static bool fill_tail(const struct x86_known *k, const u8 *bytes, struct x86_insn *out)
{
    const u8 *p = bytes + k->head;

    if (k->disp)
        out->disp = (s64)sign_extend(tail_value(p, k->disp), k->disp);
    if (k->imm) {
        u64 zero = tail_value(p + k->disp, k->imm), sign = sign_extend(zero, k->imm);
        if (zero != sign && k->ext == EXT_UNKNOWN)
            return false;
        out->imm = k->ext == EXT_SIGN ? sign : zero;
    }
    memcpy(out->raw + k->head, p, (unsigned)k->disp + k->imm);
    return true;
}

int x86_decode_known(struct x86_cpu *cpu, struct x86_known *known, u32 mode, const u8 *bytes,
                     struct x86_insn *out)
{
    bool modrm = false;
    unsigned end = opcode_end(bytes, cpu->code_bits == 64, &modrm);
    struct x86_known *k = slot_of(known, bytes, end, modrm);

    if (k->mode == mode && !memcmp(k->insn.raw, bytes, k->head)) {
        *out = k->insn;
        if (fill_tail(k, bytes, out))
            return X86_OK;
    }
    k->mode = 0;
    TRY(x86_decode(cpu, bytes, X86_INSN_MAX, &k->insn));
    k->mode = mode;
    learn(k, end);
    *out = k->insn;
    return X86_OK;
}
