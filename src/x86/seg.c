/* seg.c - descriptors, segment registers, near stack and branches, I/O permission */
#include "x86/xfer.h"

/* --- descriptors ------------------------------------------------------------------------------ */

/*  63    56 55   52 51   48 47    40 39         16 15       0
 * | base   | attr  | limit | attr   | base        | limit    |   code, data, LDT, TSS
 * | offset 31:16           | attr   | n | selector | offset  |   gates; 36:32 parameters or IST
 * (SDM vol. 3 figures 3-8, 5-8, 6-2.) Long-mode system descriptors go on with bits 63:32 of the
 * base or offset. */
void x86_desc_parse(u64 low, u64 high, struct x86_desc *out)
{
    out->attr = low >> 40 & 0xf0ff;
    out->base = (low >> 16 & 0xffffff) | (low >> 32 & 0xff000000) | high << 32;
    out->limit = (low & 0xffff) | (low >> 32 & 0xf0000);
    if (out->attr & SEG_G)
        out->limit = out->limit << 12 | 0xfff;
    out->gate_sel = low >> 16;
    out->gate_off = low & 0xffff;
    if (out->attr & SYS_32BIT)
        out->gate_off |= (low >> 32 & 0xffff0000) | high << 32;
    out->gate_params = low >> 32 & 31;
    out->gate_ist = low >> 32 & 7;
}

int x86_desc_try(struct x86_cpu *cpu, u16 sel, struct x86_desc *out, bool *found)
{
    const struct x86_state *s = &cpu->s;
    u64 base = s->gdtr.base, low;
    u32 limit = s->gdtr.limit;

    *found = true;
    if (sel & 4) {
        base = s->ldtr.base;
        limit = s->ldtr.limit;
        *found = s->ldtr.attr & SEG_P;
    }
    if ((sel | 7u) > limit)
        *found = false;
    if (!*found)
        return X86_OK;
    u64 lin = base + (sel & 0xfff8);
    if (!cpu->lma)
        lin = (u32)lin;
    TRY(x86_lin_read(cpu, lin, &low, 8, X86_R | X86_SYS));
    x86_desc_parse(low, 0, out);
    out->table_lin = lin;
    return X86_OK;
}

/* The upper half of a long-mode system descriptor: inside the table, type field zero, base
 * canonical. */
static int desc_read_high(struct x86_cpu *cpu, u16 sel, u8 fault_vector, struct x86_desc *d)
{
    u64 low, high;
    u32 limit = sel & 4 ? cpu->s.ldtr.limit : cpu->s.gdtr.limit;

    if ((sel | 7u) + 8 > limit)
        return sel_fault(cpu, fault_vector, sel);
    TRY(x86_lin_read(cpu, d->table_lin, &low, 8, X86_R | X86_SYS));
    TRY(x86_lin_read(cpu, d->table_lin + 8, &high, 8, X86_R | X86_SYS));
    x86_desc_parse(low, (u32)high, d);
    bool gate = attr_is_system(d->attr, SYS_CALL32);
    if (high >> 40 & 0x1f || (!gate && !x86_canonical(d->base)))
        return sel_fault(cpu, fault_vector, sel);
    return X86_OK;
}

int x86_desc_read(struct x86_cpu *cpu, u16 sel, u8 fault_vector, struct x86_desc *out)
{
    bool found;

    TRY(x86_desc_try(cpu, sel, out, &found));
    if (!found)
        return sel_fault(cpu, fault_vector, sel);
    if (!cpu->lma || out->attr & SEG_S)
        return X86_OK;
    switch (out->attr & SEG_TYPE) {
    case SYS_LDT:
    case SYS_TSS32:
    case SYS_TSS32_BUSY:
    case SYS_CALL32: return desc_read_high(cpu, sel, fault_vector, out);
    default: return X86_OK;
    }
}

int x86_desc_update(struct x86_cpu *cpu, u64 table_lin, u8 set, u8 clear)
{
    u64 lin = table_lin + 5; /* bits 47:40: P, DPL, S, type */
    struct x86_walk walk;
    struct x86_page page;
    u8 val;

    if (!cpu->lma)
        lin = (u32)lin;
    TRY(x86_walk(cpu, lin, X86_W | X86_SYS, false, &walk));
    bool ram = cpu->ops->page(cpu->world, walk.gpa & ~4095ull, true, &page) && page.writable;
    if (ram && !page.code) {
        u8 *p = page.hva + (walk.gpa & 4095);
        if (set)
            __atomic_fetch_or(p, set, __ATOMIC_SEQ_CST);
        if (clear)
            __atomic_fetch_and(p, (u8)~clear, __ATOMIC_SEQ_CST);
        return X86_OK;
    }
    TRY(x86_lin_read(cpu, lin, &val, 1, X86_W | X86_SYS));
    val = (val | set) & ~clear;
    return x86_lin_write(cpu, lin, &val, 1, X86_W | X86_SYS);
}

int x86_desc_accessed(struct x86_cpu *cpu, struct x86_desc *d)
{
    if (d->attr & SEG_ACCESSED)
        return X86_OK;
    TRY(x86_desc_update(cpu, d->table_lin, SEG_ACCESSED, 0));
    d->attr |= SEG_ACCESSED;
    return X86_OK;
}

/* --- segment registers ------------------------------------------------------------------------ */

void x86_seg_fill(struct x86_seg *seg, u16 sel, const struct x86_desc *d)
{
    seg->sel = sel;
    seg->base = d->base;
    seg->limit = d->limit;
    seg->attr = d->attr;
}

/* Intel processors and AMD ones with NullSelectorClearsBase clear base and limit, others keep them
 * (APM vol. 2 4.8.1); it shows in FS and GS of 64-bit code. */
void x86_seg_null(struct x86_cpu *cpu, unsigned sreg, u16 sel)
{
    struct x86_seg *seg = &cpu->s.seg[sreg];

    seg->sel = sel;
    seg->attr = 0;
    if (cpu->intel || x86_has(cpu, X86_FEATURE_NULL_SEL_CLR_BASE)) {
        seg->base = 0;
        seg->limit = 0;
    }
}

/* Unlike a load of the null selector this leaves the base alone on every processor: 64-bit code
 * still reaches its FS and GS areas after a return that took the selectors away. */
void x86_null_inner_segs(struct x86_cpu *cpu)
{
    static const u8 sregs[] = {X86_ES, X86_FS, X86_GS, X86_DS};

    for (unsigned i = 0; i < ARRAY_SIZE(sregs); i++) {
        struct x86_seg *seg = &cpu->s.seg[sregs[i]];
        if (seg->attr & SEG_P && !attr_is_conforming(seg->attr) &&
            attr_dpl(seg->attr) < cpu->s.cpl) {
            seg->sel = 0;
            seg->attr = 0;
        }
    }
}

/* Real mode changes selector and base only: limits and attributes loaded in protected mode live
 * on ("unreal mode"), but CS becomes readable and writable. Virtual-8086 mode has fixed ones
 * (SDM vol. 3 20.1.1, 20.2). */
void x86_set_seg_real(struct x86_cpu *cpu, unsigned sreg, u16 sel)
{
    struct x86_seg *seg = &cpu->s.seg[sreg];

    seg->sel = sel;
    seg->base = (u32)sel << 4;
    if (cpu->s.rflags & RFLAGS_VM) {
        seg->limit = 0xffff;
        seg->attr = ATTR_DATA16 | SEG_DPL;
    } else if (!(seg->attr & SEG_P)) {
        seg->limit = 0xffff;
        seg->attr = ATTR_DATA16;
    } else if (sreg == X86_CS) {
        seg->attr = (seg->attr & (SEG_DB | SEG_G | SEG_AVL)) | ATTR_DATA16;
    }
}

static int load_null(struct x86_cpu *cpu, unsigned sreg, u16 sel)
{
    if (sreg == X86_SS && (cpu->code_bits != 64 || cpu->s.cpl == 3 || sel_rpl(sel) != cpu->s.cpl))
        return x86_gp(cpu, 0);
    x86_seg_null(cpu, sreg, sel);
    if (sreg == X86_SS)
        cpu->s.seg[X86_SS].attr = cpu->s.cpl << SEG_DPL_SHIFT;
    x86_update_mode(cpu);
    return X86_OK;
}

static int check_stack_desc(struct x86_cpu *cpu, u16 sel, const struct x86_desc *d)
{
    if (sel_rpl(sel) != cpu->s.cpl || !attr_is_writable_data(d->attr) ||
        attr_dpl(d->attr) != cpu->s.cpl)
        return sel_fault(cpu, X86_GP, sel);
    if (!(d->attr & SEG_P))
        return sel_fault(cpu, X86_SS_FAULT, sel);
    return X86_OK;
}

static int check_data_desc(struct x86_cpu *cpu, u16 sel, const struct x86_desc *d)
{
    unsigned dpl = attr_dpl(d->attr);

    if (!(d->attr & SEG_S) || (d->attr & (SEG_CODE | SEG_WRITE)) == SEG_CODE)
        return sel_fault(cpu, X86_GP, sel);
    if (!attr_is_conforming(d->attr) && (sel_rpl(sel) > dpl || cpu->s.cpl > dpl))
        return sel_fault(cpu, X86_GP, sel);
    if (!(d->attr & SEG_P))
        return sel_fault(cpu, X86_NP, sel);
    return X86_OK;
}

int x86_load_seg(struct x86_cpu *cpu, unsigned sreg, u16 sel)
{
    struct x86_desc d;

    if (!cpu->prot) {
        x86_set_seg_real(cpu, sreg, sel);
        x86_update_mode(cpu);
        return X86_OK;
    }
    if (sel_null(sel))
        return load_null(cpu, sreg, sel);
    TRY(x86_desc_read(cpu, sel, X86_GP, &d));
    TRY(sreg == X86_SS ? check_stack_desc(cpu, sel, &d) : check_data_desc(cpu, sel, &d));
    TRY(x86_desc_accessed(cpu, &d));
    x86_seg_fill(&cpu->s.seg[sreg], sel, &d);
    x86_update_mode(cpu);
    return X86_OK;
}

/* --- near stack and branches ------------------------------------------------------------------ */

int x86_push(struct x86_cpu *cpu, unsigned size, u64 val)
{
    u64 sp = (cpu->s.gpr[X86_RSP] - size) & size_mask(cpu->stack_bytes);

    TRY(x86_write(cpu, X86_SS, sp, size, val));
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, sp);
    return X86_OK;
}

int x86_pop(struct x86_cpu *cpu, unsigned size, u64 *val)
{
    u64 sp = cpu->s.gpr[X86_RSP] & size_mask(cpu->stack_bytes);

    TRY(x86_read(cpu, X86_SS, sp, size, val));
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, sp + size);
    return X86_OK;
}

int x86_jump_near(struct x86_cpu *cpu, u64 off, unsigned opsize)
{
    off &= size_mask(opsize);
    if (cpu->code_bits == 64 ? !x86_canonical(off) : off > cpu->s.seg[X86_CS].limit)
        return x86_gp(cpu, 0);
    cpu->s.rip = off;
    return X86_OK;
}

/* --- I/O permission --------------------------------------------------------------------------- */

/* Bit `port` of the map at the 16-bit offset in TSS bytes 66H-67H; two bytes are read always, so
 * the map ends with a byte of ones (SDM vol. 1 19.5.2). */
int x86_io_check(struct x86_cpu *cpu, u16 port, unsigned size)
{
    const struct x86_seg *tr = &cpu->s.tr;
    u64 mask = cpu->lma ? ~0ull : 0xffffffff;
    u16 map, bits;

    if (!(cpu->s.cr0 & CR0_PE) || (!cpu->vm86 && cpu->s.cpl <= x86_iopl(cpu)))
        return X86_OK;
    if (!(tr->attr & SEG_P) || !(tr->attr & SYS_32BIT) || tr->limit < 0x67)
        return x86_gp(cpu, 0);
    TRY(x86_lin_read(cpu, (tr->base + 0x66) & mask, &map, 2, X86_R | X86_SYS));
    u32 off = map + port / 8;
    if (off + 1 > tr->limit)
        return x86_gp(cpu, 0);
    TRY(x86_lin_read(cpu, (tr->base + off) & mask, &bits, 2, X86_R | X86_SYS));
    return bits >> (port & 7) & ((1u << size) - 1) ? x86_gp(cpu, 0) : X86_OK;
}
