/* decode.c - bytes to x86_insn: Zydis decodes, this file condenses, gates by CPUID and binds */
#include <string.h>
#include <Zydis/Zydis.h>

#include "x86/exec.h"
#include "x86/optable.h"

/* --- handlers by mnemonic --------------------------------------------------------------------- */

#define X86_OP(mnem, name, fl)  X86_HANDLER(name);
#define X86_OPS(mnem, name, fl) extern x86_exec_fn *const x86_sizes_##name[4];
#define X86_OPF(mnem, name, fl) extern x86_exec_fn *const x86_forms_##name[X86_FORMS][4];
#include "x86/opcodes_int.def"
#include "x86/opcodes_seg.def"
#include "x86/opcodes_sys.def"
#undef X86_OP
#undef X86_OPS
#undef X86_OPF

struct op_row {
    x86_exec_fn *fn;                /* one handler for all forms */
    x86_exec_fn *const *sizes;      /* or one per size of operand 0 */
    x86_exec_fn *const (*forms)[4]; /* or one per form and size */
    u8 flags;
};

static const struct op_row op_rows[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define X86_OP(mnem, name, fl)  [ZYDIS_MNEMONIC_##mnem] = {.fn = x86_op_##name, .flags = fl},
#define X86_OPS(mnem, name, fl) [ZYDIS_MNEMONIC_##mnem] = {.sizes = x86_sizes_##name, .flags = fl},
#define X86_OPF(mnem, name, fl) [ZYDIS_MNEMONIC_##mnem] = {.forms = x86_forms_##name, .flags = fl},
#include "x86/opcodes_int.def"
#include "x86/opcodes_seg.def"
#include "x86/opcodes_sys.def"
#undef X86_OP
#undef X86_OPS
#undef X86_OPF
};

/* --- CPUID gate ------------------------------------------------------------------------------- */

enum { ISA_DENIED, ISA_ALWAYS, ISA_FEATURE0 };

static const u8 isa_gate[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
#define X86_ISA(set, feature) [ZYDIS_ISA_SET_##set] = ISA_FEATURE0 + X86_FEATURE_##feature,
#define X86_ISA_ALWAYS(set)   [ZYDIS_ISA_SET_##set] = ISA_ALWAYS,
#include "x86/isa_sets.def"
#undef X86_ISA
#undef X86_ISA_ALWAYS
};

static bool isa_allowed(const struct x86_cpu *cpu, const ZydisDecodedInstruction *z)
{
    /* Of registers there is no prefetch (APM vol. 3 PREFETCH); Intel processors do nothing. */
    if (!cpu->intel && z->opcode_map == ZYDIS_OPCODE_MAP_0F && z->opcode == 0x0d &&
        z->raw.modrm.mod == 3)
        return false;
    /* PREFETCHW is filed under 3DNow!; without its CPUID bit it is a hint that does nothing. */
    if (z->mnemonic == ZYDIS_MNEMONIC_PREFETCHW || z->mnemonic == ZYDIS_MNEMONIC_PREFETCH)
        return true;
    u8 gate = isa_gate[z->meta.isa_set];
    if (gate < ISA_FEATURE0)
        return gate == ISA_ALWAYS;
    if (!x86_has(cpu, (enum x86_feature)(gate - ISA_FEATURE0)))
        return false;
    /* VEX forms of AES, PCLMULQDQ and GFNI need AVX too. */
    return z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX || z->meta.isa_set == ZYDIS_ISA_SET_BMI1 ||
           z->meta.isa_set == ZYDIS_ISA_SET_BMI2 || x86_has(cpu, X86_FEATURE_AVX);
}

/* --- condensing ------------------------------------------------------------------------------- */

static u8 reg_number(ZydisRegister r)
{
    ZyanI8 id = ZydisRegisterGetId(r);
    return id < 0 ? 0 : (u8)id;
}

static u8 address_reg(ZydisRegister r)
{
    if (r == ZYDIS_REGISTER_NONE)
        return X86_REG_NONE;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return X86_REG_RIP;
    ZydisRegisterClass c = ZydisRegisterGetClass(r);
    if (c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64)
        return reg_number(r);
    return X86_REG_NONE; /* vector index of a gather: its handler reads raw */
}

static u8 sreg_number(ZydisRegister r)
{
    return r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS ? (u8)(r - ZYDIS_REGISTER_ES) : X86_DS;
}

static void fill_mem(struct x86_insn *in, const ZydisDecodedOperand *o)
{
    in->base = address_reg(o->mem.base);
    in->index = address_reg(o->mem.index);
    in->scale = o->mem.scale ? __builtin_ctz(o->mem.scale) : 0;
    in->disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
    in->seg = sreg_number(o->mem.segment);
}

/* Where Zydis 4.0 errs: r13 for a base in 64-bit code with 32-bit addresses whose SIB byte says
 * "disp32, no base" and REX.B is set; and four bytes for the source of a 16-bit MOVSXD. */
static void mend(const struct x86_cpu *cpu, struct x86_insn *in, const ZydisDecodedInstruction *z)
{
    if (z->address_width == 32 && z->attributes & ZYDIS_ATTRIB_HAS_SIB && z->raw.modrm.mod == 0 &&
        z->raw.sib.base == 5) {
        in->base = X86_REG_NONE;
        in->disp = z->raw.disp.value;
    }
    if (z->mnemonic == ZYDIS_MNEMONIC_MOVSXD && in->op[0].size == 2 && cpu->intel)
        in->op[1].size = 2;
}

static bool loads_far_pointer(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS: return true;
    default: return false;
    }
}

/* AMD processors: REX.W does not widen far pointers in memory (APM vol. 3 CALL (Far), LFS), and an
 * operand-size prefix makes every near branch one of 16 bits, where Zydis knows some. */
static void mend_amd(struct x86_insn *in, const ZydisDecodedInstruction *z)
{
    ZydisBranchType branch = z->meta.branch_type;
    bool load = loads_far_pointer(z);

    if (in->opsize != 8)
        return;
    if ((branch == ZYDIS_BRANCH_TYPE_FAR && in->op[0].kind == X86_OPND_MEM) || load) {
        in->opsize = 4;
        in->op[load].size = 6;
        if (load)
            in->op[0].size = 4;
    } else if ((branch == ZYDIS_BRANCH_TYPE_SHORT || branch == ZYDIS_BRANCH_TYPE_NEAR) &&
               z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE && !z->raw.rex.W) {
        in->opsize = 2;
        if (in->op[0].kind != X86_OPND_IMM)
            in->op[0].size = 2;
    }
}

static u8 reg_class(ZydisRegister r)
{
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: return X86_CLASS_GPR;
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM: return X86_CLASS_VEC;
    default: return X86_CLASS_OTHER;
    }
}

static u8 operand_slot(const ZydisDecodedOperand *o)
{
    switch (o->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG: return X86_SLOT_REG;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM: return X86_SLOT_RM;
    case ZYDIS_OPERAND_ENCODING_NDSNDD: return X86_SLOT_VVVV;
    case ZYDIS_OPERAND_ENCODING_OPCODE: return X86_SLOT_OPCODE;
    default: return X86_SLOT_OTHER;
    }
}

static void fill_reg(struct x86_operand *d, ZydisRegister r)
{
    d->cls = reg_class(r);
    if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR8) {
        d->high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
        if (d->high)
            d->reg = r - ZYDIS_REGISTER_AH;
        else if (r <= ZYDIS_REGISTER_BL)
            d->reg = r - ZYDIS_REGISTER_AL;
        else
            d->reg = r - ZYDIS_REGISTER_SPL + X86_RSP;
        return;
    }
    d->reg = reg_number(r);
}

/* String instructions and XLAT have no visible memory operand; the segment override still
 * counts. */
static u8 hidden_segment(const ZydisDecodedInstruction *z)
{
    if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
        return X86_FS;
    if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        return X86_GS;
    if (z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        return X86_DS;
    if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS)
        return X86_CS;
    if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS)
        return X86_SS;
    return z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES ? X86_ES : X86_DS;
}

static void fill_operands(struct x86_insn *in, const ZydisDecodedInstruction *z,
                          const ZydisDecodedOperand *ops)
{
    bool imm_seen = false;

    in->base = in->index = X86_REG_NONE;
    in->seg = hidden_segment(z);
    in->nops = MIN(z->operand_count_visible, 4);
    for (unsigned i = 0; i < z->operand_count_visible && i < 5; i++) {
        const ZydisDecodedOperand *o = &ops[i];
        struct x86_operand spare, *d = i < 4 ? &in->op[i] : &spare;
        d->size = MIN(o->size / 8, 255);
        d->slot = operand_slot(o);
        d->access = (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ ? X86_OPND_READ : 0) |
                    (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? X86_OPND_WRITE : 0);
        switch (o->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            d->kind = X86_OPND_REG;
            fill_reg(d, o->reg.value);
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            d->kind = X86_OPND_MEM;
            fill_mem(in, o);
            break;
        case ZYDIS_OPERAND_TYPE_POINTER:
            d->kind = X86_OPND_IMM;
            in->imm = o->ptr.offset;
            in->imm2 = o->ptr.segment;
            break;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            d->kind = X86_OPND_IMM;
            if (imm_seen)
                in->imm2 = (u32)o->imm.value.u;
            else
                in->imm = o->imm.value.u;
            imm_seen = true;
            break;
        default: break;
        }
    }
}

/* Arithmetic flags as one byte: OF moves to bit 1, which RFLAGS leaves free. */
static u8 flag_byte(u32 flags)
{
    return (flags & (RFLAGS_ARITH & 0xff)) | (flags & RFLAGS_OF ? 2 : 0);
}

static void fill_flags(struct x86_insn *in, const ZydisAccessedFlags *f)
{
    if (!f)
        return;
    in->flags_read = flag_byte(f->tested);
    in->flags_set = flag_byte(f->modified | f->set_0 | f->set_1);
    in->flags_write = in->flags_set | flag_byte(f->undefined);
}

static void condense(const struct x86_cpu *cpu, struct x86_insn *in,
                     const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     const u8 *bytes)
{
    memset(in, 0, sizeof(*in));
    in->len = z->length;
    in->mnemonic = z->mnemonic;
    in->opsize = z->operand_width / 8;
    in->asize = z->address_width / 8;
    in->modrm_off = z->attributes & ZYDIS_ATTRIB_HAS_MODRM ? z->raw.modrm.offset : 0;
    if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        in->prefix |= X86_PFX_LOCK;
    if (z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        in->prefix |= X86_PFX_REP;
    if (z->attributes & ZYDIS_ATTRIB_HAS_REPNE)
        in->prefix |= X86_PFX_REPNE;
    if (z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE)
        in->prefix |= X86_PFX_OPSIZE;
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        in->prefix |= X86_PFX_VEX;
    memcpy(in->raw, bytes, z->length);
    fill_operands(in, z, ops);
    mend(cpu, in, z);
    if (!cpu->intel)
        mend_amd(in, z);
    fill_flags(in, z->cpu_flags);
}

/* --- binding ---------------------------------------------------------------------------------- */

static int op_undefined(struct x86_cpu *cpu, const struct x86_insn *in)
{
    return x86_ud(cpu);
}

static unsigned size_index(const struct x86_insn *in)
{
    switch (in->op[0].size) {
    case 1: return 0;
    case 2: return 1;
    case 4: return 2;
    default: return 3;
    }
}

static unsigned form_of(const struct x86_insn *in)
{
    if (in->op[0].kind == X86_OPND_MEM)
        return in->op[1].kind == X86_OPND_IMM ? X86_FORM_MI : X86_FORM_MR;
    switch (in->op[1].kind) {
    case X86_OPND_IMM: return X86_FORM_RI;
    case X86_OPND_MEM: return X86_FORM_RM;
    default: return X86_FORM_RR;
    }
}

/* Mnemonics that stand for several instructions. NULL: take the table's row. */
static x86_exec_fn *bind_special(const struct x86_insn *in, const ZydisDecodedInstruction *z,
                                 const ZydisDecodedOperand *ops)
{
    bool far = z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_JMP: return far ? x86_op_jmp_far : x86_op_jmp;
    case ZYDIS_MNEMONIC_CALL: return far ? x86_op_call_far : x86_op_call;
    case ZYDIS_MNEMONIC_RET: return far ? x86_op_ret_far : x86_op_ret;
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
        for (unsigned i = 0; i < in->nops; i++) {
            if (ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
                continue;
            switch (ZydisRegisterGetClass(ops[i].reg.value)) {
            case ZYDIS_REGCLASS_SEGMENT:
                if (z->mnemonic == ZYDIS_MNEMONIC_MOV)
                    return i ? x86_op_mov_from_sreg : x86_op_mov_to_sreg;
                return z->mnemonic == ZYDIS_MNEMONIC_PUSH ? x86_op_push_sreg : x86_op_pop_sreg;
            case ZYDIS_REGCLASS_CONTROL: return i ? x86_op_mov_from_cr : x86_op_mov_to_cr;
            case ZYDIS_REGCLASS_DEBUG: return i ? x86_op_mov_from_dr : x86_op_mov_to_dr;
            case ZYDIS_REGCLASS_TEST: return op_undefined;
            default: break;
            }
        }
        return NULL;
    default: return NULL;
    }
}

static bool is_string_sse_clash(const ZydisDecodedInstruction *z)
{
    return (z->mnemonic == ZYDIS_MNEMONIC_MOVSD || z->mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
           z->meta.category != ZYDIS_CATEGORY_STRINGOP;
}

/* Hidden operands other than flags and XMM0 make an instruction one of a kind. */
static bool has_hidden_gpr(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    for (unsigned i = z->operand_count_visible; i < z->operand_count; i++)
        if (ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            reg_class(ops[i].reg.value) == X86_CLASS_GPR)
            return true;
    return false;
}

static u8 kind_of(const struct x86_insn *in, const ZydisDecodedInstruction *z,
                  const ZydisDecodedOperand *ops)
{
    bool vec = false;

    if (in->fn == op_undefined || z->operand_count_visible > 4)
        return X86_KIND_OTHER;
    for (unsigned i = 0; i < z->operand_count_visible; i++) {
        if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            ops[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
            return X86_KIND_OTHER;
        if (ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        if (in->op[i].cls == X86_CLASS_OTHER)
            return X86_KIND_OTHER;
        vec |= in->op[i].cls == X86_CLASS_VEC;
    }
    if (!vec)
        return X86_KIND_INT;
    return has_hidden_gpr(z, ops) ? X86_KIND_OTHER : X86_KIND_VEC;
}

static void bind(struct x86_cpu *cpu, struct x86_insn *in, const ZydisDecodedInstruction *z,
                 const ZydisDecodedOperand *ops)
{
    const struct op_row *row = &op_rows[z->mnemonic];

    in->flags = row->flags;
    if (!isa_allowed(cpu, z)) {
        in->fn = op_undefined;
        in->flags = X86_INSN_ENDS_BLOCK;
        return;
    }
    in->fn = NULL;
    if (!is_string_sse_clash(z)) {
        in->fn = bind_special(in, z, ops);
        if (in->fn && z->meta.branch_type == ZYDIS_BRANCH_TYPE_NONE)
            in->flags |= X86_INSN_ENDS_BLOCK; /* MOV to Sreg, CR or DR, POP Sreg */
        if (!in->fn)
            in->fn = row->forms   ? row->forms[form_of(in)][size_index(in)]
                     : row->sizes ? row->sizes[size_index(in)]
                                  : row->fn;
    }
    if (!in->fn)
        in->fn = x86_fp_bind(cpu, in, z, ops);
    if (!in->fn) {
        in->fn = op_undefined;
        in->flags = X86_INSN_ENDS_BLOCK;
    }
}

/* --- entry ------------------------------------------------------------------------------------ */

static void decoder_init(const struct x86_cpu *cpu, ZydisDecoder *d)
{
    ZydisMachineMode mode;
    ZydisStackWidth width;

    if (cpu->code_bits == 64) {
        mode = ZYDIS_MACHINE_MODE_LONG_64;
        width = ZYDIS_STACK_WIDTH_64;
    } else {
        if (!cpu->prot)
            mode = cpu->code_bits == 16 ? ZYDIS_MACHINE_MODE_REAL_16 : ZYDIS_MACHINE_MODE_LEGACY_32;
        else if (cpu->lma)
            mode = cpu->code_bits == 16 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_16
                                        : ZYDIS_MACHINE_MODE_LONG_COMPAT_32;
        else
            mode =
                cpu->code_bits == 16 ? ZYDIS_MACHINE_MODE_LEGACY_16 : ZYDIS_MACHINE_MODE_LEGACY_32;
        width = cpu->code_bits == 16 ? ZYDIS_STACK_WIDTH_16 : ZYDIS_STACK_WIDTH_32;
    }
    ZydisDecoderInit(d, mode, width);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_AMD_BRANCHES, !cpu->intel);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_LZCNT, x86_has(cpu, X86_FEATURE_LZCNT));
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_TZCNT, x86_has(cpu, X86_FEATURE_BMI1));
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_WBNOINVD, x86_has(cpu, X86_FEATURE_WBNOINVD));
}

/* What decoder_init looks at, as a number that is never 0. */
static u32 decoder_key(const struct x86_cpu *cpu)
{
    return cpu->code_bits | (u32)cpu->prot << 7 | (u32)cpu->lma << 8 | (u32)cpu->intel << 9 |
           (u32)x86_has(cpu, X86_FEATURE_LZCNT) << 10 | (u32)x86_has(cpu, X86_FEATURE_BMI1) << 11 |
           (u32)x86_has(cpu, X86_FEATURE_WBNOINVD) << 12;
}

/* The decoder for the cpu's mode; the last one of each thread is kept. */
static const ZydisDecoder *decoder_for(const struct x86_cpu *cpu)
{
    static _Thread_local ZydisDecoder decoder;
    static _Thread_local u32 key;
    u32 wanted = decoder_key(cpu);

    if (key != wanted) {
        decoder_init(cpu, &decoder);
        key = wanted;
    }
    return &decoder;
}

static bool is_legacy_prefix(u8 byte)
{
    static const u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};

    return memchr(prefixes, byte, sizeof(prefixes));
}

/* VPERMQ and VPERMPD want VEX.W set; AMD processors execute them without it too. */
static ZyanStatus decode_vpermq(const ZydisDecoder *decoder, const u8 *bytes, unsigned len,
                                ZydisDecodedInstruction *z, ZydisDecodedOperand *ops)
{
    u8 copy[X86_INSN_MAX];
    unsigned i = 0;

    while (i < len && is_legacy_prefix(bytes[i]))
        i++;
    if (i + 4 > len || bytes[i] != 0xc4 || (bytes[i + 1] & 0x1f) != 3 || bytes[i + 3] > 1)
        return ZYDIS_STATUS_DECODING_ERROR;
    memcpy(copy, bytes, len);
    copy[i + 2] |= 0x80;
    return ZydisDecoderDecodeFull(decoder, copy, len, z, ops);
}

/* Of UD0 and UD1 AMD processors read the opcode alone, not a ModRM byte and what follows from it:
 * true when the bytes are that, for one Zydis found no end of. */
static bool is_short_ud(const struct x86_cpu *cpu, const u8 *bytes, unsigned len)
{
    unsigned i = 0;

    while (i < len && is_legacy_prefix(bytes[i]))
        i++;
    if (cpu->code_bits == 64 && i < len && (bytes[i] & 0xf0) == 0x40)
        i++;
    return i + 2 <= len && bytes[i] == 0x0f &&
           (bytes[i + 1] == 0xff || bytes[i + 1] == 0xb9);
}

/* F3 90 with REX.B is PAUSE to Intel processors and XCHG R8, RAX to AMD's: as if F3 were another
 * prefix. */
static ZyanStatus decode_xchg(const ZydisDecoder *decoder, const u8 *bytes,
                              ZydisDecodedInstruction *z, ZydisDecodedOperand *ops)
{
    u8 copy[X86_INSN_MAX];
    unsigned n = z->length;

    memcpy(copy, bytes, n);
    for (unsigned i = 0; i + 1 < n; i++)
        if (copy[i] == 0xf3)
            copy[i] = 0x3e;
    return ZydisDecoderDecodeFull(decoder, copy, n, z, ops);
}

/* F2 and F3 choose the condition of LOOPE and LOOPNE, as in a repeated comparison. */
static void choose_loop(ZydisDecodedInstruction *z)
{
    for (unsigned i = 0; i < z->raw.prefix_count; i++) {
        if (z->raw.prefixes[i].value == 0xf2)
            z->mnemonic = ZYDIS_MNEMONIC_LOOPNE;
        else if (z->raw.prefixes[i].value == 0xf3)
            z->mnemonic = ZYDIS_MNEMONIC_LOOPE;
    }
}

/* What AMD processors make of bytes that are something else to Intel's, and to Zydis, which said
 * `st`. */
static ZyanStatus decode_amd(const struct x86_cpu *cpu, const ZydisDecoder *decoder,
                             const u8 *bytes, unsigned len, ZyanStatus st,
                             ZydisDecodedInstruction *z, ZydisDecodedOperand *ops)
{
    if (!ZYAN_SUCCESS(st)) {
        if (is_short_ud(cpu, bytes, len))
            return ZYDIS_STATUS_DECODING_ERROR;
        return st == ZYDIS_STATUS_DECODING_ERROR ? decode_vpermq(decoder, bytes, len, z, ops) : st;
    }
    if (z->mnemonic == ZYDIS_MNEMONIC_PAUSE && z->raw.rex.B)
        return decode_xchg(decoder, bytes, z, ops);
    if (z->mnemonic == ZYDIS_MNEMONIC_LOOPE || z->mnemonic == ZYDIS_MNEMONIC_LOOPNE)
        choose_loop(z);
    return st;
}

int x86_decode(struct x86_cpu *cpu, const u8 *bytes, unsigned len, struct x86_insn *out)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

    const ZydisDecoder *decoder = decoder_for(cpu);
    ZyanStatus st = ZydisDecoderDecodeFull(decoder, bytes, MIN(len, X86_INSN_MAX), &z, ops);
    if (!cpu->intel)
        st = decode_amd(cpu, decoder, bytes, MIN(len, X86_INSN_MAX), st, &z, ops);
    if (st == ZYDIS_STATUS_NO_MORE_DATA)
        return len >= X86_INSN_MAX ? x86_gp(cpu, 0) : X86_DECODE_MORE;
    if (st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        return x86_gp(cpu, 0);
    if (!ZYAN_SUCCESS(st))
        return x86_ud(cpu);
    condense(cpu, out, &z, ops, bytes);
    out->code_bits = cpu->code_bits;
    bind(cpu, out, &z, ops);
    out->kind = kind_of(out, &z, ops);
    if (out->kind == X86_KIND_VEC)
        out->mem_align = x86_vec_alignment(cpu, &z, ops);
    return X86_OK;
}
