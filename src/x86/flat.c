/* flat.c - events and IRETQ of a 64-bit kernel, the short way: nothing to fault, nothing to set */
#include "x86/xfer.h"

/* Both functions look at all they need through TLB entries that are there, and change nothing
 * before all of it is as it should be. They decline whatever is out of the ordinary: event.c and
 * iret.c do the same work by the manual, and raise what there is to raise. */

/* n bytes of a system structure, in one page; NULL: not in the TLB. */
static const mem_u64 *system_at(const struct x86_cpu *cpu, u64 lin, unsigned n)
{
    const struct x86_tlb_entry *e = x86_tlb_set_at(&cpu->tlbs.kernel, lin);

    return e->tag_read == ((lin + n - 1) & ~4095ull) ? (const mem_u64 *)(lin + e->addend) : NULL;
}

/* A descriptor of the GDT, when its attributes in `mask` are `want`. */
static bool gdt_read(const struct x86_cpu *cpu, u16 sel, u16 mask, u16 want, u64 *raw)
{
    const struct x86_dtable *gdt = &cpu->s.gdtr;

    if (sel & 4 || sel_null(sel) || (sel | 7u) > gdt->limit)
        return false;
    const mem_u64 *p = system_at(cpu, gdt->base + (sel & 0xfff8), 8);
    if (unlikely(!p))
        return false;
    *raw = *p;
    return (*raw >> 40 & mask) == want;
}

/* 64-bit code of privilege level dpl, not conforming, accessed before. */
static bool gdt_code(const struct x86_cpu *cpu, u16 sel, unsigned dpl, u64 *raw)
{
    const u16 fixed = SEG_P | SEG_S | SEG_CODE | SEG_ACCESSED | SEG_L;

    return gdt_read(cpu, sel, fixed | SEG_DOWN | SEG_DB | SEG_DPL, fixed | dpl << SEG_DPL_SHIFT,
                    raw);
}

/* Writable data of privilege level dpl, accessed before. */
static bool gdt_stack(const struct x86_cpu *cpu, u16 sel, unsigned dpl, u64 *raw)
{
    const u16 fixed = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED;

    return gdt_read(cpu, sel, fixed | SEG_CODE | SEG_DPL, fixed | dpl << SEG_DPL_SHIFT, raw);
}

static void seg_load(struct x86_seg *seg, u16 sel, u64 raw)
{
    u32 limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);

    seg->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    seg->attr = raw >> 40 & 0xf0ff;
    seg->limit = seg->attr & SEG_G ? limit << 12 | 0xfff : limit;
    seg->sel = sel;
}

/* --- events (SDM vol. 3 6.14) ----------------------------------------------------------------- */

#define GATE_FIXED (SEG_P | SEG_S | 0xe) /* of the attributes of an interrupt or trap gate */

struct flat_gate {
    u64 off;
    u16 sel;
    u8 ist;
    bool trap;
};

static bool flat_gate(const struct x86_cpu *cpu, u8 vector, struct flat_gate *g)
{
    const mem_u64 *p = system_at(cpu, cpu->s.idtr.base + vector * 16u, 16);

    if (unlikely(!p) || vector * 16u + 15 > cpu->s.idtr.limit)
        return false;
    u64 low = p[0];
    g->off = (low & 0xffff) | (low >> 32 & 0xffff0000) | p[1] << 32;
    g->sel = (u16)(low >> 16);
    g->ist = low >> 32 & 7;
    g->trap = low >> 40 & 1;
    return (low >> 40 & GATE_FIXED) == (SEG_P | SYS_INT32) && x86_canonical(g->off);
}

/* IST n, RSP0, or the stack in use. */
static bool flat_stack(const struct x86_cpu *cpu, unsigned ist, u64 *rsp)
{
    const struct x86_seg *tr = &cpu->s.tr;

    *rsp = cpu->s.gpr[X86_RSP];
    if (ist || cpu->s.cpl) {
        unsigned off = ist ? ist * 8 + 28 : 4;
        const mem_u64 *p = system_at(cpu, tr->base + off, 8);
        if (unlikely(!p) || off + 7 > tr->limit)
            return false;
        *rsp = *p;
    }
    return x86_canonical(*rsp);
}

bool x86_flat_deliver(struct x86_cpu *cpu, u8 vector, bool has_error, u32 error, u64 flags)
{
    struct x86_state *s = &cpu->s;
    bool inner = s->cpl != 0;
    struct flat_gate g;
    u64 code, rsp;

    if (!flat_gate(cpu, vector, &g) || !gdt_code(cpu, g.sel, 0, &code) ||
        !flat_stack(cpu, g.ist, &rsp))
        return false;
    rsp &= ~15ull;
    u64 sp = rsp - (has_error ? 48 : 40);
    const struct x86_tlb_entry *e =
        x86_tlb_set_at(x86_tlb_set(cpu, inner || g.ist ? X86_TLB_KERNEL : cpu->mmu_set), sp);
    if (e->tag_write != ((rsp - 1) & ~4095ull))
        return false;

    mem_u64 *frame = (mem_u64 *)(sp + e->addend);
    if (has_error)
        *frame++ = error;
    frame[0] = s->rip;
    frame[1] = s->seg[X86_CS].sel;
    frame[2] = flags;
    frame[3] = s->gpr[X86_RSP];
    frame[4] = s->seg[X86_SS].sel;
    seg_load(&s->seg[X86_CS], g.sel & 0xfffc, code);
    s->cpl = 0;
    s->rip = g.off;
    s->gpr[X86_RSP] = sp;
    s->rflags &= ~(u64)(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | (g.trap ? 0 : RFLAGS_IF));
    if (inner)
        x86_seg_null(cpu, X86_SS, 0);
    return true;
}

/* --- IRETQ at level 0 (SDM vol. 2 IRET) ------------------------------------------------------- */

#define IRET_FLAGS                                                                            \
    (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | RFLAGS_RF | \
     RFLAGS_AC | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_ID)

bool x86_flat_iret(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->s;
    u64 sp = s->gpr[X86_RSP], code, stack = 0;
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, sp);

    if (s->rflags & RFLAGS_NT || e->tag_read != ((sp + 39) & ~4095ull))
        return false;
    const mem_u64 *frame = (const mem_u64 *)(sp + e->addend);
    u64 rip = frame[0], flags = frame[2], rsp = frame[3];
    u16 cs = (u16)frame[1], ss = (u16)frame[4];
    unsigned cpl = sel_rpl(cs);
    if (!gdt_code(cpu, cs, cpl, &code) || sel_rpl(ss) != cpl || !x86_canonical(rip))
        return false;
    if (sel_null(ss) ? cpl == 3 : !gdt_stack(cpu, ss, cpl, &stack))
        return false;

    s->rflags = (s->rflags & ~(u64)IRET_FLAGS) | (iret_image(cpu, flags) & IRET_FLAGS);
    cpu->retire |= X86_RETIRE_KEEP_RF;
    seg_load(&s->seg[X86_CS], cs, code);
    seg_load(&s->seg[X86_SS], ss, stack);
    if (sel_null(ss))
        s->seg[X86_SS].attr = cpl << SEG_DPL_SHIFT;
    s->cpl = cpl;
    s->rip = rip;
    s->gpr[X86_RSP] = rsp;
    if (cpl)
        x86_null_inner_segs(cpu);
    return true;
}
