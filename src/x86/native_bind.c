/* native_bind.c - which instructions run natively, what their stubs load, how they are encoded */
#include <Zydis/Zydis.h>

#include "x86/fpu.h"

/* --- binding: what the stub does -------------------------------------------------------------- */

static bool is_ours(const ZydisDecodedInstruction *z)
{
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return false;
    switch (z->meta.isa_ext) {
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_VAES:
    case ZYDIS_ISA_EXT_VPCLMULQDQ: return native_host_avx();
    case ZYDIS_ISA_EXT_GFNI:
        return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY || native_host_avx();
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_SSE4A:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
        /* Hints and fences are not for stubs: they have handlers of their own. */
        return z->meta.isa_set != ZYDIS_ISA_SET_SSE_PREFETCH && z->operand_count_visible > 0;
    case ZYDIS_ISA_EXT_ADOX_ADCX:
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
    case ZYDIS_ISA_EXT_LZCNT: return true;
    default: return false;
    }
}

static bool uses_mxcsr(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI: return true;
    default: break;
    }
    switch (z->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11: return true;
    default: return false;
    }
}

/* Alignment that a memory operand of this size must have (SDM vol. 2 2.4, exception classes). AMD
 * processors ask none of SHA instructions. */
static u8 required_alignment(const struct x86_cpu *cpu, const ZydisDecodedInstruction *z,
                             unsigned size)
{
    if (z->meta.isa_set == ZYDIS_ISA_SET_SHA && !cpu->intel)
        return 1;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM: return 1;
    default: break;
    }
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return size == 16 ? 16 : 1;
    return z->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX1 ? size : 1;
}

u8 x86_vec_alignment(const struct x86_cpu *cpu, const void *zydis, const void *operands)
{
    const ZydisDecodedInstruction *z = zydis;
    const ZydisDecodedOperand *ops = operands;

    for (unsigned i = 0; i < z->operand_count_visible; i++)
        if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return required_alignment(cpu, z, ops[i].size / 8);
    return 1;
}

static bool is_written(const ZydisDecodedOperand *o)
{
    return o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static bool is_vector_class(ZydisRegisterClass c)
{
    return c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM;
}

static bool is_gpr_class(ZydisRegisterClass c)
{
    return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
           c == ZYDIS_REGCLASS_GPR64;
}

static int slot_of(const ZydisDecodedOperand *o)
{
    switch (o->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG: return NV_REG;
    case ZYDIS_OPERAND_ENCODING_NDSNDD: return NV_VVVV;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM: return NV_RM;
    default: return NV_EXTRA;
    }
}

/* General registers of slots REG, RM and VVVV, as indexes of native_frame.gpr. */
static unsigned gpr_of(int slot)
{
    return slot == NV_REG ? 0 : slot == NV_RM ? 1 : 3;
}

static u8 vector_kind(const ZydisDecodedInstruction *z)
{
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return NV_XMM;
    return z->raw.vex.L ? NV_YMM : NV_VXMM;
}

/* A hidden register operand: XMM0, or EAX, EDX, ECX of the string compares and EDX of MULX. */
static bool add_hidden(struct native_ident *id, const ZydisDecodedInstruction *z,
                       const ZydisDecodedOperand *o)
{
    static const s8 frame_of[3] = {0, 1, 2};
    ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
    unsigned n = (unsigned)ZydisRegisterGetId(o->reg.value);

    if (is_vector_class(c)) {
        id->vec[NV_EXTRA] = vector_kind(z) | NV_FIXED;
        if (is_written(o))
            id->vec_written |= BIT(NV_EXTRA);
    } else if (is_gpr_class(c)) {
        if (n > X86_RDX)
            return false;
        id->flags |= NO_GPR;
        if (is_written(o))
            id->gout[frame_of[n]] = NG_FIXED | n;
        else
            id->gin[frame_of[n]] = NG_FIXED | n;
    }
    return true;
}

static bool add_register(struct native_ident *id, const ZydisDecodedInstruction *z,
                         const ZydisDecodedOperand *o, unsigned index)
{
    ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
    int slot = slot_of(o);

    if (index > 3)
        return false;
    if (is_gpr_class(c)) {
        if (slot == NV_EXTRA)
            return false;
        id->flags |= NO_GPR;
        id->gin[gpr_of(slot)] = index;
        if (is_written(o))
            id->gout[gpr_of(slot)] = index;
        return true;
    }
    if (c == ZYDIS_REGCLASS_MMX) {
        id->vec[slot] = NV_MM | index;
        id->flags |= NO_MMX;
    } else if (is_vector_class(c)) {
        id->vec[slot] = vector_kind(z) | index;
        if (vector_kind(z) == NV_YMM)
            id->flags |= NO_YMM;
    } else {
        return false;
    }
    if (is_written(o))
        id->vec_written |= BIT(slot);
    return true;
}

static bool add_operands(const struct x86_cpu *cpu, struct native_ident *id,
                         const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *o = &ops[i];
        switch (o->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if (!(o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ? add_hidden(id, z, o)
                                                                   : add_register(id, z, o, i)))
                return false;
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN || id->mem != NM_NONE ||
                o->size == 0 || o->size > 256)
                return false;
            id->mem = is_written(o) ? NM_WRITE : NM_READ;
            id->mem_size = o->size / 8;
            id->mem_align = required_alignment(cpu, z, id->mem_size);
            break;
        default: break;
        }
    }
    return true;
}

static enum fp_kind kind_of(const struct native_ident *id, const ZydisDecodedInstruction *z)
{
    bool xmm = false;

    for (unsigned i = 0; i < NV_SLOTS; i++)
        xmm |= (id->vec[i] & NV_KIND) != NV_NONE && (id->vec[i] & NV_KIND) != NV_MM;
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return xmm ? FP_AVX : FP_GPR_VEX;
    if (id->flags & NO_MMX)
        return xmm || z->mnemonic == ZYDIS_MNEMONIC_CVTPS2PI ||
                       z->mnemonic == ZYDIS_MNEMONIC_CVTTPS2PI ||
                       z->mnemonic == ZYDIS_MNEMONIC_CVTPD2PI ||
                       z->mnemonic == ZYDIS_MNEMONIC_CVTTPD2PI
                   ? FP_SSE_MMX
                   : FP_MMX;
    return xmm ? FP_SSE : FP_GPR;
}

/* --- binding: re-encoding --------------------------------------------------------------------- */

struct encoding {
    unsigned reg, rm, vvvv;
    bool is4;
};

/* Register numbers that the stub uses in place of the guest's; opcode extensions in ModRM stay. */
static struct encoding rename_fields(const struct native_ident *id,
                                     const ZydisDecodedInstruction *z)
{
    struct encoding e = {.reg = z->raw.modrm.reg, .rm = z->raw.modrm.rm};

    if (id->vec[NV_REG])
        e.reg = 1;
    else if (id->gin[0] != NG_NONE && !(id->gin[0] & NG_FIXED))
        e.reg = 0;
    if (id->vec[NV_RM])
        e.rm = 3;
    else if (id->gin[1] != NG_NONE && !(id->gin[1] & NG_FIXED))
        e.rm = 1;
    if (id->vec[NV_VVVV])
        e.vvvv = 2;
    else if (id->gin[3] != NG_NONE)
        e.vvvv = 9;
    e.is4 = id->vec[NV_EXTRA] && !(id->vec[NV_EXTRA] & NV_FIXED);
    return e;
}

/* 16-bit operand size comes from the mode and prefix 66 together; in the stub it always is the
 * prefix. */
static bool sized_by_66(const ZydisDecodedInstruction *z)
{
    return z->mnemonic == ZYDIS_MNEMONIC_POPCNT || z->mnemonic == ZYDIS_MNEMONIC_LZCNT ||
           z->mnemonic == ZYDIS_MNEMONIC_TZCNT || z->mnemonic == ZYDIS_MNEMONIC_CRC32;
}

static u8 *legacy_prefixes(u8 *p, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    if (sized_by_66(z) && ops[1].size == 16)
        *p++ = 0x66;
    for (unsigned i = 0; i < z->raw.prefix_count; i++)
        if (z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            *p++ = z->raw.prefixes[i].value;
    if (z->attributes & ZYDIS_ATTRIB_HAS_REX && z->raw.rex.W)
        *p++ = 0x48;
    *p++ = 0x0f;
    if (z->opcode_map == ZYDIS_OPCODE_MAP_0F38)
        *p++ = 0x38;
    else if (z->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
        *p++ = 0x3a;
    return p;
}

/* Outside 64-bit mode VEX.W does not widen general registers and what moves to and from them. */
static bool vex_w(const struct native_ident *id, const ZydisDecodedInstruction *z)
{
    if (!z->raw.vex.W || z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        return z->raw.vex.W;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VMOVD: return false;
    default: return !(id->flags & NO_GPR);
    }
}

static u8 *vex_prefix(u8 *p, const struct native_ident *id, const struct encoding *e,
                      const ZydisDecodedInstruction *z)
{
    *p++ = 0xc4;
    *p++ = 0xe0 | z->raw.vex.m_mmmm;
    *p++ = vex_w(id, z) << 7 | (~e->vvvv & 15) << 3 | z->raw.vex.L << 2 | z->raw.vex.pp;
    return p;
}

static bool encode(struct native_ident *id, const struct x86_insn *in,
                   const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    struct encoding e = rename_fields(id, z);
    u8 *p = id->code;

    if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM))
        return false;
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        p = vex_prefix(p, id, &e, z);
    else
        p = legacy_prefixes(p, z, ops);
    *p++ = z->opcode;
    *p++ = id->mem != NM_NONE ? (e.reg << 3 | 7) : (0xc0 | e.reg << 3 | e.rm);
    if (e.is4) {
        *p++ = 0x40;
    } else {
        for (unsigned i = 0; i < 2; i++)
            if (z->raw.imm[i].size == 8)
                *p++ = in->raw[z->raw.imm[i].offset];
    }
    id->code_len = (u8)(p - id->code);
    return true;
}

static bool simple(const struct native_ident *id)
{
    return !(id->flags & (NO_GPR | NO_FLAGS | NO_MMX | NO_UNALIGNED)) && id->mem != NM_WRITE &&
           !(id->vec[NV_EXTRA] & NV_FIXED);
}

x86_exec_fn *native_bind(struct x86_cpu *cpu, struct x86_insn *in, const ZydisDecodedInstruction *z,
                         const ZydisDecodedOperand *ops)
{
    struct native_ident id;

    if (!is_ours(z))
        return NULL;
    memset(&id, 0, sizeof(id));
    memset(id.gin, NG_NONE, sizeof(id.gin));
    memset(id.gout, NG_NONE, sizeof(id.gout));
    if (z->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX11)
        id.flags |= NO_UNALIGNED;
    if (!add_operands(cpu, &id, z, ops))
        return NULL;
    const ZydisAccessedFlags *fl = z->cpu_flags;
    if (fl && ((fl->tested | fl->modified | fl->set_0 | fl->set_1 | fl->undefined) & RFLAGS_ARITH))
        id.flags |= NO_FLAGS;
    if (uses_mxcsr(z))
        id.flags |= NO_MXCSR;
    id.check = kind_of(&id, z);
    if (!encode(&id, in, z, ops))
        return NULL;
    in->aux = native_intern(&id);
    if (!in->aux)
        return NULL;
    return simple(&id) ? x86_op_native_vector : x86_op_native;
}
