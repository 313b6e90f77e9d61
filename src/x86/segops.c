/* segops.c - instructions on segment registers, selectors, LDTR and TR (SDM vol. 2) */
#include "x86/xfer.h"

/* A selector operand: 16 bits of a register, or a word of memory. */
static int get_sel(struct x86_cpu *cpu, const struct x86_insn *in, unsigned i, u16 *sel)
{
    u64 val;

    if (in->op[i].kind == X86_OPND_REG) {
        *sel = cpu->s.gpr[in->op[i].reg];
        return X86_OK;
    }
    TRY(x86_read(cpu, in->seg, x86_ea(cpu, in), 2, &val));
    *sel = val;
    return X86_OK;
}

/* A selector result: zero-extended to the operand size in a register, a word in memory. */
static int put_sel(struct x86_cpu *cpu, const struct x86_insn *in, u16 sel)
{
    if (in->op[0].kind == X86_OPND_REG) {
        gpr_set(cpu, in->op[0].reg, in->op[0].size, sel);
        return X86_OK;
    }
    return x86_write(cpu, in->seg, x86_ea(cpu, in), 2, sel);
}

/* The instruction after MOV SS and POP SS sees no interrupt and no debug trap. */
static int shadow_after(struct x86_cpu *cpu, unsigned sreg)
{
    if (sreg != X86_SS)
        return X86_OK;
    cpu->s.shadow |= X86_SHADOW_MOVSS;
    x86_update_mode(cpu);
    return X86_YIELD;
}

/* --- MOV, PUSH, POP, LxS ---------------------------------------------------------------------- */

X86_HANDLER(mov_to_sreg)
{
    unsigned sreg = in->op[0].reg;
    u16 sel;

    if (sreg == X86_CS || sreg >= X86_SREGS)
        return x86_ud(cpu);
    TRY(get_sel(cpu, in, 1, &sel));
    TRY(x86_load_seg(cpu, sreg, sel));
    return shadow_after(cpu, sreg);
}

X86_HANDLER(mov_from_sreg)
{
    unsigned sreg = in->op[1].reg;

    if (sreg >= X86_SREGS)
        return x86_ud(cpu);
    return put_sel(cpu, in, cpu->s.seg[sreg].sel);
}

/* With a 32-bit operand Intel processors move the stack pointer by four and write two bytes, AMD
 * ones write a zero-extended doubleword (SDM vol. 2 PUSH). */
X86_HANDLER(push_sreg)
{
    u16 sel = cpu->s.seg[in->op[0].reg].sel;

    if (in->opsize != 4 || !cpu->intel)
        return x86_push(cpu, in->opsize, sel);
    u64 sp = (cpu->s.gpr[X86_RSP] - 4) & size_mask(cpu->stack_bytes);
    TRY(x86_write(cpu, X86_SS, sp, 2, sel));
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, sp);
    return X86_OK;
}

/* POP SS moves the stack pointer in the width it had before. */
X86_HANDLER(pop_sreg)
{
    unsigned sreg = in->op[0].reg, width = cpu->stack_bytes;
    u64 sel;

    /* Intel processors read the selector alone. */
    TRY(x86_stack_peek(cpu, 0, cpu->intel ? 2 : in->opsize, &sel));
    TRY(x86_load_seg(cpu, sreg, (u16)sel));
    gpr_set(cpu, X86_RSP, width, cpu->s.gpr[X86_RSP] + in->opsize);
    return shadow_after(cpu, sreg);
}

static int load_far(struct x86_cpu *cpu, const struct x86_insn *in, unsigned sreg)
{
    u64 off;
    u16 sel;

    TRY(x86_far_pointer(cpu, in, 1, &sel, &off));
    TRY(x86_load_seg(cpu, sreg, sel));
    reg_set(cpu, &in->op[0], off);
    return X86_YIELD;
}

X86_HANDLER(lds)
{
    return load_far(cpu, in, X86_DS);
}

X86_HANDLER(les)
{
    return load_far(cpu, in, X86_ES);
}

X86_HANDLER(lfs)
{
    return load_far(cpu, in, X86_FS);
}

X86_HANDLER(lgs)
{
    return load_far(cpu, in, X86_GS);
}

X86_HANDLER(lss)
{
    return load_far(cpu, in, X86_SS);
}

/* --- LAR, LSL, VERR, VERW, ARPL --------------------------------------------------------------- */

static void set_zf(struct x86_cpu *cpu, bool zf)
{
    cpu->s.rflags = zf ? cpu->s.rflags | RFLAGS_ZF : cpu->s.rflags & ~(u64)RFLAGS_ZF;
}

/* Looks a selector up as seen from CPL and RPL. *ok: there is a descriptor and its level allows
 * the access. */
static int probe_desc(struct x86_cpu *cpu, u16 sel, struct x86_desc *d, bool *ok)
{
    *ok = false;
    if (sel_null(sel))
        return X86_OK;
    TRY(x86_desc_try(cpu, sel, d, ok));
    if (!*ok || attr_is_conforming(d->attr))
        return X86_OK;
    unsigned dpl = attr_dpl(d->attr);
    *ok = cpu->s.cpl <= dpl && sel_rpl(sel) <= dpl;
    return X86_OK;
}

#define T(type)        BIT(SYS_##type)
#define LSL_TYPES_LONG (T(LDT) | T(TSS32) | T(TSS32_BUSY))
#define LSL_TYPES      (LSL_TYPES_LONG | T(TSS16) | T(TSS16_BUSY))
#define LAR_TYPES_LONG (LSL_TYPES_LONG | T(CALL32))
#define LAR_TYPES      (LSL_TYPES | T(CALL32) | T(CALL16) | T(TASK_GATE))

/* Of the system descriptors only these types are known to LAR and LSL (SDM vol. 2 tables 3-53,
 * 3-56). */
static bool type_known(const struct x86_desc *d, u32 types)
{
    return d->attr & SEG_S || types >> (d->attr & SEG_TYPE) & 1;
}

X86_HANDLER(lar)
{
    struct x86_desc d;
    bool ok;
    u16 sel;

    if (!cpu->prot)
        return x86_ud(cpu);
    TRY(get_sel(cpu, in, 1, &sel));
    TRY(probe_desc(cpu, sel, &d, &ok));
    ok = ok && type_known(&d, cpu->lma ? LAR_TYPES_LONG : LAR_TYPES);
    set_zf(cpu, ok);
    if (!ok)
        return X86_OK;
    /* The manual leaves bits 16-19 undefined; processors return those of the descriptor, limit
     * 19:16. */
    u64 limit_high = d.attr & SEG_G ? d.limit >> 28 : d.limit >> 16 & 0xf;
    reg_set(cpu, &in->op[0], (u64)d.attr << 8 | limit_high << 16);
    return X86_OK;
}

X86_HANDLER(lsl)
{
    struct x86_desc d;
    bool ok;
    u16 sel;

    if (!cpu->prot)
        return x86_ud(cpu);
    TRY(get_sel(cpu, in, 1, &sel));
    TRY(probe_desc(cpu, sel, &d, &ok));
    ok = ok && type_known(&d, cpu->lma ? LSL_TYPES_LONG : LSL_TYPES);
    set_zf(cpu, ok);
    if (ok)
        reg_set(cpu, &in->op[0], d.limit);
    return X86_OK;
}

static int verify(struct x86_cpu *cpu, const struct x86_insn *in, bool write)
{
    struct x86_desc d;
    bool ok;
    u16 sel;

    if (!cpu->prot)
        return x86_ud(cpu);
    TRY(get_sel(cpu, in, 0, &sel));
    TRY(probe_desc(cpu, sel, &d, &ok));
    if (ok && write)
        ok = attr_is_writable_data(d.attr);
    else if (ok)
        ok = d.attr & SEG_S && (d.attr & (SEG_CODE | SEG_WRITE)) != SEG_CODE;
    set_zf(cpu, ok);
    return X86_OK;
}

X86_HANDLER(verr)
{
    return verify(cpu, in, false);
}

X86_HANDLER(verw)
{
    return verify(cpu, in, true);
}

/* Writes only when the level changes: a read-only destination that needs no change does not
 * fault. */
X86_HANDLER(arpl)
{
    unsigned src_rpl = sel_rpl(cpu->s.gpr[in->op[1].reg]);
    u64 dst;

    if (!cpu->prot)
        return x86_ud(cpu);
    TRY(opnd_get(cpu, in, 0, &dst));
    bool lower = sel_rpl(dst) < src_rpl;
    if (lower)
        TRY(opnd_set(cpu, in, 0, (dst & ~3ull) | src_rpl));
    set_zf(cpu, lower);
    return X86_OK;
}

/* --- LLDT, LTR, SLDT, STR --------------------------------------------------------------------- */

X86_HANDLER(lldt)
{
    struct x86_desc d;
    u16 sel;

    if (!cpu->prot)
        return x86_ud(cpu);
    TRY(need_cpl0(cpu));
    TRY(get_sel(cpu, in, 0, &sel));
    if (sel_null(sel)) {
        cpu->s.ldtr.sel = sel;
        cpu->s.ldtr.attr = 0;
        return X86_OK;
    }
    if (sel & 4)
        return sel_fault(cpu, X86_GP, sel);
    TRY(x86_desc_read(cpu, sel, X86_GP, &d));
    if (!attr_is_system(d.attr, SYS_LDT))
        return sel_fault(cpu, X86_GP, sel);
    if (!(d.attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    x86_seg_fill(&cpu->s.ldtr, sel, &d);
    return X86_OK;
}

X86_HANDLER(ltr)
{
    struct x86_desc d;
    u16 sel;

    if (!cpu->prot)
        return x86_ud(cpu);
    TRY(need_cpl0(cpu));
    TRY(get_sel(cpu, in, 0, &sel));
    if (sel_null(sel))
        return x86_gp(cpu, 0);
    if (sel & 4)
        return sel_fault(cpu, X86_GP, sel);
    TRY(x86_desc_read(cpu, sel, X86_GP, &d));
    if (!attr_is_system(d.attr, SYS_TSS32) && (cpu->lma || !attr_is_system(d.attr, SYS_TSS16)))
        return sel_fault(cpu, X86_GP, sel);
    if (!(d.attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    TRY(x86_desc_update(cpu, d.table_lin, SYS_BUSY, 0));
    d.attr |= SYS_BUSY;
    x86_seg_fill(&cpu->s.tr, sel, &d);
    return X86_OK;
}

static int store_sel(struct x86_cpu *cpu, const struct x86_insn *in, u16 sel)
{
    if (!cpu->prot)
        return x86_ud(cpu);
    if (cpu->s.cr4 & CR4_UMIP && cpu->s.cpl)
        return x86_gp(cpu, 0);
    return put_sel(cpu, in, sel);
}

X86_HANDLER(sldt)
{
    return store_sel(cpu, in, cpu->s.ldtr.sel);
}

X86_HANDLER(str)
{
    return store_sel(cpu, in, cpu->s.tr.sel);
}
