/* compare.c - are two outcomes the same, by the rules of exceptions.def */
#include <string.h>

#include "gen.h"
#include "x86/mmu.h"

enum rule {
#define EXCEPTION(id, name, source) RULE_##id,
#include "exceptions.def"
#undef EXCEPTION
    RULES
};

struct exception_rule exception_rules[] = {
#define EXCEPTION(id, name, source) {name, source, 0},
#include "exceptions.def"
#undef EXCEPTION
    {NULL, NULL, 0}};

static bool excuse(enum rule r)
{
    exception_rules[r].hits++;
    return true;
}

#define MXCSR_MM BIT(17)

#define FLAGS_SEEN                                                                            \
    (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | RFLAGS_AC | \
     RFLAGS_ID)

/* Upper halves are undefined once compatibility mode has been entered (SDM vol. 1 3.4.1.1). */
static u64 register_mask(const struct dcase *c, const struct outcome *n)
{
    return c->mode == MODE_64 && n->s.sel[X86_CS] == SEL_CODE64 ? ~0ull : 0xffffffff;
}

static bool retf_width(const struct dcase *c, const struct outcome *n, u64 diff)
{
    return c->valid && c->z.mnemonic == ZYDIS_MNEMONIC_RET &&
           n->s.sel[X86_CS] != c->in.sel[X86_CS] && !(diff & 0xffff) && excuse(RULE_RETF_WIDTH);
}

static bool pf_error_equal(const struct outcome *n, const struct outcome *g)
{
    u64 diff = n->error ^ g->error;

    if (!diff)
        return true;
    return n->cr2 >= 0x7ffffffff000 && diff == PF_P && excuse(RULE_KERNEL_HALF);
}

static bool is_maskmov(const struct dcase *c)
{
    ZydisMnemonic m = c->z.mnemonic;
    return c->valid && c->insns == 1 &&
           (m == ZYDIS_MNEMONIC_MASKMOVQ || m == ZYDIS_MNEMONIC_MASKMOVDQU ||
            m == ZYDIS_MNEMONIC_VMASKMOVDQU);
}

/* Operands that are more than one access. */
static bool in_parts(const struct dcase *c)
{
    for (unsigned i = 0; c->valid && i < c->z.operand_count_visible; i++)
        if (c->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY && c->ops[i].size > 64)
            return true;
    if (c->valid && c->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR &&
        c->z.mnemonic == ZYDIS_MNEMONIC_CALL)
        return true; /* two pushes */
    switch (c->z.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: return true;
    default: return c->z.meta.category == ZYDIS_CATEGORY_XSAVE;
    }
}

/* #AC or #GP for a misaligned FXSAVE or XSAVE area. */
static bool area_misaligned(const struct dcase *c, const struct outcome *n, const struct outcome *g)
{
    return n->trap == X86_AC && g->trap == X86_GP && c->valid && c->ops[0].size >= 80;
}

/* In one page, or both in the operand. */
static bool near(const struct dcase *c, u64 a, u64 b)
{
    u64 mask = c->z.address_width == 64 ? ~0ull : c->z.address_width == 32 ? 0xffffffff : 0xffff;
    return a >> 12 == b >> 12 || (((a - c->ea) & mask) < 4096 && ((b - c->ea) & mask) < 4096);
}

/* A page fault in one part, a limit or a bad header in another. */
static bool fault_pair(int a, int b)
{
    bool a_segment = a == X86_GP || a == X86_SS_FAULT, b_segment = b == X86_GP || b == X86_SS_FAULT;
    return (a == X86_PF && b_segment) || (a_segment && b == X86_PF);
}

/* The rules of AMD hosts. */
static bool int1_rip(const struct dcase *c, const struct outcome *n, const struct outcome *g)
{
    u64 base = c->in.sel[X86_CS] == LDT_SEL(LDT_CODE16) ? CODE_ADDR : 0;
    u64 end = g->s.rip + base - c->start, size = g->s.rip - n->s.rip;

    return native_has.amd && native_has.hypervisor && n->trap == X86_DB && g->trap == X86_DB &&
           size - 1 < 15 && end - 1 < c->len && c->bytes[end - 1] == 0xf1 && excuse(RULE_INT1_RIP);
}

static bool offset_only(const struct dcase *c, const struct outcome *n, const struct outcome *g)
{
    if (!native_has.amd || c->mode != MODE_64 || n->trap != X86_GP || g->trap != X86_PF ||
        !x86_canonical(g->cr2))
        return false;
    return (!x86_canonical(g->cr2 - c->in.fs_base) || !x86_canonical(g->cr2 - c->in.gs_base)) &&
           excuse(RULE_FS_OFFSET);
}

static bool loads_mm(const struct outcome *n, const struct outcome *g)
{
    return native_has.amd && n->trap < 0 && g->trap == X86_GP && n->s.fpu.mxcsr & MXCSR_MM &&
           excuse(RULE_MISALIGNED_SSE);
}

/* LOCK where AMD processors see no reason for #UD. */
static bool unlocked(const struct dcase *c, const struct outcome *n, const struct outcome *g)
{
    bool lock = false;

    if (!native_has.amd || c->valid || g->trap != X86_UD)
        return false;
    for (unsigned i = 0; i + 2 < 15; i++) {
        lock |= c->bytes[i] == 0xf0;
        if (c->bytes[i] != 0x0f)
            continue;
        u8 op = c->bytes[i + 1];
        return lock && ((op == 0 && excuse(RULE_LOCK_GROUP6)) ||
                        ((op == 0x20 || op == 0x22) && n->trap == X86_GP && excuse(RULE_LOCK_CR)));
    }
    return false;
}

static const char *compare_trap(const struct dcase *c, const struct outcome *n,
                                const struct outcome *g)
{
    if (n->trap != g->trap)
        return (area_misaligned(c, n, g) && excuse(RULE_AREA_AC)) ||
                       (in_parts(c) && fault_pair(n->trap, g->trap) && excuse(RULE_PARTS)) ||
                       offset_only(c, n, g)
                   ? NULL
                   : "exception";
    if (n->trap == X86_PF) {
        bool parts = n->cr2 != g->cr2 && in_parts(c) && near(c, n->cr2, g->cr2);
        if (!pf_error_equal(n, g) && !parts)
            return "error code";
        if (n->cr2 != g->cr2 && !(in_parts(c) && near(c, n->cr2, g->cr2) && excuse(RULE_PARTS)))
            return "cr2";
    } else if (n->trap >= 0 && n->error != g->error) {
        return "error code";
    }
    return NULL;
}

static bool excuse_popa(ZydisMnemonic m)
{
    return (m == ZYDIS_MNEMONIC_POPA || m == ZYDIS_MNEMONIC_POPAD) && excuse(RULE_POPA);
}

static bool popa_partial(const struct dcase *c, const struct outcome *n)
{
    return n->trap >= 0 && c->valid && excuse_popa(c->z.mnemonic);
}

static const char *compare_regs(const struct dcase *c, const struct outcome *n,
                                const struct outcome *g)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const segs[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    u64 mask = register_mask(c, n);

    if ((n->s.rip ^ g->s.rip) & mask && !int1_rip(c, n, g))
        return "rip";
    for (unsigned i = 0; i < (c->mode == MODE_64 ? 16u : 8u); i++) {
        u64 diff = (n->s.gpr[i] ^ g->s.gpr[i]) & mask;
        if (diff && !(i == X86_RSP && retf_width(c, n, diff)) && !popa_partial(c, n))
            return names[i];
    }
    /* A faulting instruction may leave undefined flags undefined too. */
    if ((n->s.rflags ^ g->s.rflags) & FLAGS_SEEN & ~(u64)c->undef_flags)
        return "rflags";
    for (unsigned i = 0; i < X86_SREGS; i++)
        if (n->s.sel[i] != g->s.sel[i] &&
            !((n->s.sel[i] | g->s.sel[i]) < 4 && excuse(RULE_NULL_RPL)))
            return segs[i];
    if (c->mode == MODE_64 && native_has.fsgsbase) {
        if (n->s.fs_base != g->s.fs_base)
            return "fs_base";
        if (n->s.gs_base != g->s.gs_base)
            return "gs_base";
    }
    return NULL;
}

static bool uses_mmx(const struct dcase *c)
{
    for (unsigned i = 0; c->valid && i < c->z.operand_count; i++)
        if (c->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(c->ops[i].reg.value) == ZYDIS_REGCLASS_MMX)
            return true;
    return false;
}

static const char *compare_st(const struct dcase *c, const struct x86_fpu *n,
                              const struct x86_fpu *g, bool trapped)
{
    bool differ = n->fsw != g->fsw || n->ftw != g->ftw || memcmp(n->st, g->st, sizeof(n->st));

    if (!differ || (trapped && uses_mmx(c) && excuse(RULE_MMX_FAULT)))
        return NULL;
    return n->fsw != g->fsw ? "fsw" : n->ftw != g->ftw ? "ftw" : "st";
}

/* The host may lose all pointers at any time, and the instructions after that set some anew: only a
 * zero is excused, and only where the data pointer is lost as well. */
static bool lost(const struct outcome *native, u64 pointer)
{
    return native->lost && !pointer && excuse(RULE_POINTERS_LOST);
}

static const char *compare_pointers(const struct outcome *native, const struct outcome *guest)
{
    const struct x86_fpu *n = &native->s.fpu, *g = &guest->s.fpu;
    u64 mask = native->env ? 0xffffffff : ~0ull;

    if ((n->fip ^ g->fip) & mask && !lost(native, n->fip) &&
        !((s64)(g->fip << 16) >> 16 != (s64)g->fip && excuse(RULE_NONCANONICAL_FIP)))
        return "fip";
    if ((n->fdp ^ g->fdp) & mask && !lost(native, n->fdp))
        return "fdp";
    if (n->fop != g->fop && !lost(native, n->fop))
        return "fop";
    if (native->env && n->fcs != g->fcs && !lost(native, n->fcs))
        return "fcs";
    return native->env && n->fds != g->fds && !lost(native, n->fds) ? "fds" : NULL;
}

static const char *compare_fp(const struct dcase *c, const struct outcome *native,
                              const struct outcome *guest, bool faulted)
{
    const struct x86_fpu *n = &native->s.fpu, *g = &guest->s.fpu;

    if (n->mxcsr != g->mxcsr && !(c->valid && c->z.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH &&
                                  faulted && excuse(RULE_CVTPS2PH)))
        return "mxcsr";
    if (n->fcw != g->fcw)
        return "fcw";
    if (memcmp(n->vec, g->vec, sizeof(n->vec)))
        return "vec";
    const char *what = compare_pointers(native, guest);
    return what ? what : compare_st(c, n, g, native->trap >= 0);
}

/* Where the memory operand, the area of FXSAVE or XSAVE, lies in data memory, by either address. */
static u64 area(const struct dcase *c)
{
    bool low = native_has.low_alias && c->ea - LOW_ADDR < DATA_BYTES;
    return c->ea - (low ? LOW_ADDR : DATA_ADDR);
}

/* AMD hosts have one bit more in MXCSR_MASK. */
static bool mask_only(const struct dcase *c)
{
    ZydisMnemonic m = c->z.mnemonic;
    u64 off = area(c) + 30;

    if (!native_has.amd || !c->has_ea || off >= DATA_BYTES ||
        (m != ZYDIS_MNEMONIC_FXSAVE && m != ZYDIS_MNEMONIC_FXSAVE64 && m != ZYDIS_MNEMONIC_XSAVE &&
         m != ZYDIS_MNEMONIC_XSAVE64) ||
        native_data[off] != (guest_data[off] | MXCSR_MM >> 16))
        return false;
    guest_data[off] = native_data[off];
    return excuse(RULE_MISALIGNED_SSE);
}

/* XSAVE leaves in XSTATE_BV which parts the processor believes to be in use. */
static bool header_only(const struct dcase *c)
{
    u64 off = area(c) + 512;

    if (!c->has_ea || off + 8 > DATA_BYTES ||
        (c->z.mnemonic != ZYDIS_MNEMONIC_XSAVE && c->z.mnemonic != ZYDIS_MNEMONIC_XSAVE64))
        return false;
    memcpy(guest_data + off, native_data + off, 8);
    return memory_equal(c) && excuse(RULE_XINUSE);
}

/* A store of several parts that faults may have written some of them. */
static bool partial_store(const struct dcase *c, const struct outcome *n)
{
    if (n->trap < 0)
        return false;
    switch (c->z.mnemonic) {
    case ZYDIS_MNEMONIC_FSTP:
    case ZYDIS_MNEMONIC_FBSTP:
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64: return excuse(RULE_PARTIAL_STORE);
    default: return false;
    }
}

static bool memory_agrees(const struct dcase *c, const struct outcome *n)
{
    return memory_equal(c) || (mask_only(c) && memory_equal(c)) || header_only(c) ||
           partial_store(c, n);
}

const char *compare(const struct dcase *c, const struct outcome *n, const struct outcome *g)
{
    if (n->hang)
        return "host hang";
    if (loads_mm(n, g) || unlocked(c, n, g))
        return NULL;
    const char *what = compare_trap(c, n, g);
    bool faulted = n->trap >= 0 || g->trap >= 0;
    if (what)
        return faulted && is_maskmov(c) && excuse(RULE_MASKMOV) ? NULL : what;
    if (c->skip_result)
        return NULL;
    what = compare_regs(c, n, g);
    if (!what)
        what = compare_fp(c, n, g, faulted);
    if (!what && !memory_agrees(c, n))
        what = "memory";
    if (what && faulted && is_maskmov(c) && excuse(RULE_MASKMOV))
        return NULL;
    return what;
}

/* --- report ----------------------------------------------------------------------------------- */

static void print_outcome(FILE *f, const char *name, const struct dcase *c, const struct outcome *o)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    fprintf(f, "  %-6s", name);
    if (o->trap >= 0)
        fprintf(f, " exception %d error %#llx cr2 %#llx", o->trap, (unsigned long long)o->error,
                (unsigned long long)o->cr2);
    fprintf(f, " rip=%#llx rflags=%#llx", (unsigned long long)o->s.rip,
            (unsigned long long)o->s.rflags);
    for (unsigned i = 0; i < 6; i++)
        fprintf(f, " %x", o->s.sel[i]);
    fprintf(f, "\n    ");
    for (unsigned i = 0; i < (c->mode == MODE_64 ? 16u : 8u); i++)
        fprintf(f, " %s=%llx%s", names[i], (unsigned long long)o->s.gpr[i], i == 7 ? "\n    " : "");
    fprintf(f, "\n     fcw=%x fsw=%x ftw=%x fop=%x fip=%llx fdp=%llx mxcsr=%x\n", o->s.fpu.fcw,
            o->s.fpu.fsw, o->s.fpu.ftw, o->s.fpu.fop, (unsigned long long)o->s.fpu.fip,
            (unsigned long long)o->s.fpu.fdp, o->s.fpu.mxcsr);
}

static void hex(FILE *f, const u8 *p, unsigned n)
{
    while (n--)
        fprintf(f, "%02x", p[n]);
}

static void print_fp_difference(FILE *f, const struct x86_fpu *in, const struct x86_fpu *n,
                                const struct x86_fpu *g)
{
    for (unsigned i = 0; i < 16; i++) {
        const u8 *a = i < 8 ? n->st[i] : NULL, *b = i < 8 ? g->st[i] : NULL;
        if (a && memcmp(a, b, 10)) {
            fprintf(f, "     st%u in ", i);
            hex(f, in->st[i], 10);
            fprintf(f, " host "), hex(f, a, 10);
            fprintf(f, " core "), hex(f, b, 10);
            fputc('\n', f);
        }
        if (memcmp(n->vec[i], g->vec[i], 32)) {
            fprintf(f, "     ymm%u in ", i);
            hex(f, in->vec[i], 32);
            fprintf(f, "\n       host "), hex(f, n->vec[i], 32);
            fprintf(f, "\n       core "), hex(f, g->vec[i], 32);
            fputc('\n', f);
        }
    }
}

static void print_code(FILE *f, const struct dcase *c)
{
    ZydisFormatter fmt;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    char text[128];

    ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned off = 0; off < c->len;) {
        unsigned n = 1;
        while (off + 1 < c->len && c->bytes[off] == 0xcc && c->bytes[off + 1] == 0xcc)
            off++; /* between functions */
        bool ok = gen_decode(c->mode, c->bytes + off, c->len - off, &z, ops);
        if (ok)
            n = z.length;
        else
            n = c->len - off;
        fprintf(f, "  %#llx  ", (unsigned long long)(c->start + off));
        for (unsigned i = 0; i < n; i++)
            fprintf(f, "%02x ", c->bytes[off + i]);
        if (ok &&
            ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&fmt, &z, ops, z.operand_count_visible,
                                                         text, sizeof(text), c->start + off, NULL)))
            fprintf(f, "  %s", text);
        else
            fprintf(f, "  (undefined)");
        fputc('\n', f);
        off += n;
    }
}

static void print_memory_difference(FILE *f)
{
    unsigned shown = 0;

    for (unsigned i = 0; i < DATA_BYTES && shown < 32; i++)
        if (native_data[i] != guest_data[i]) {
            fprintf(f, "     [%#x] host %02x core %02x\n", DATA_ADDR + i, native_data[i],
                    guest_data[i]);
            shown++;
        }
}

void report(FILE *f, const struct dcase *c, const struct outcome *n, const struct outcome *g,
            const char *what, u64 seed, const char *option)
{
    static const char *const modes[] = {"64-bit", "32-bit", "16-bit"};
    struct outcome in = {.s = c->in, .trap = -1};

    fprintf(f, "mismatch in %s, %s code; again: --seed %llu --only %llu%s\n", what, modes[c->mode],
            (unsigned long long)seed, (unsigned long long)c->index, option);
    print_code(f, c);
    print_outcome(f, "in", c, &in);
    print_outcome(f, "host", c, n);
    print_outcome(f, "core", c, g);
    print_fp_difference(f, &c->in.fpu, &n->s.fpu, &g->s.fpu);
    print_memory_difference(f);
}
