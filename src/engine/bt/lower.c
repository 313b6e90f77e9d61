/* lower.c - guest memory operands as host ones, through the software TLB */
#include "engine/bt/gen.h"

#define OFF_TAG(write) ((write) ? 8 : 0)
#define OFF_ADDEND     24
_Static_assert(offsetof(struct x86_tlb_entry, tag_read) == 0 &&
                   offsetof(struct x86_tlb_entry, tag_write) == 8 &&
                   offsetof(struct x86_tlb_entry, addend) == OFF_ADDEND &&
                   sizeof(struct x86_tlb_entry) == 32,
               "the shape of a TLB entry is in the code below");

/* --- addresses -------------------------------------------------------------------------------- */

/* What an operand is made of, in guest terms. */
struct gea {
    u8 base, index, scale, seg, asize;
    s64 disp;
    unsigned len; /* of the instruction, for RIP-relative ones */
    u8 bits;      /* size of the units of a bit string, 0: none; bit_reg says which bit */
    u8 bit_reg;
};

struct cold *cold_add(struct gen *g, enum cold_kind kind, u8 *from)
{
    ASSERT(g->ncold < COLD_MAX);
    struct cold *c = &g->cold[g->ncold++];

    *c = (struct cold){.kind = kind, .off = (u16)g->off, .in = g->in, .calls = g->calls};
    if (kind == COLD_EXEC && g->fp_ok)
        c->flags = SITE_FP;
    if (from)
        c->from[c->nfrom++] = from;
    return c;
}

static bool has_seg_base(const struct gen *g, unsigned seg)
{
    if (g->code64)
        return seg == X86_FS || seg == X86_GS;
    return g->mode >> (MODE_SEG_BASE + seg) & 1;
}

/* Base and index both in registers of their own, no segment base, 64 bits wide. */
static bool is_simple(const struct gen *g, const struct gea *a)
{
    return a->asize == 8 && !has_seg_base(g, a->seg) && a->base < 16 &&
           host_reg(a->base) != H_NONE &&
           (a->index == X86_REG_NONE || host_reg(a->index) != H_NONE);
}

static bool can(const struct gen *g, const struct gea *a)
{
    if (a->asize == 2 || !(g->mode >> (MODE_SEG_FAST + a->seg) & 1))
        return false;
    return fits32(a->disp) && fits32(a->disp + 8192) && fits32(a->disp - 8192);
}

static struct gea insn_gea(const struct gen *g)
{
    const struct x86_insn *in = g->in;

    s64 disp = in->asize == 4 ? (s32)in->disp : in->disp;

    return (struct gea){.base = in->base,
                        .index = in->index,
                        .scale = in->scale,
                        .seg = in->seg,
                        .asize = in->asize,
                        .disp = disp,
                        .len = in->len};
}

bool lower_can(const struct gen *g)
{
    struct gea a = insn_gea(g);

    /* Zydis extends moffs and 32-bit displacements; above 4 GiB they do not fit an operand. */
    return can(g, &a);
}

void lower_page(struct gen *g, unsigned reg)
{
    size_t at = g->tb->page * sizeof(struct page_base) + offsetof(struct page_base, rip);

    e_load(&g->e, W64, reg, CELL(base));
    e_load(&g->e, W64, reg, base_mem(reg, (s32)at));
}

/* base + index << scale + disp, asize wide, into reg. Uses rax and r10 for registers that live in
 * memory. */
static void emit_ea(struct gen *g, unsigned reg, const struct gea *a)
{
    struct emit *e = &g->e;
    unsigned w = a->asize == 8 ? W64 : W32;
    struct hmem m = {H_NONE, H_NONE, a->scale, false, (s32)a->disp};

    if (a->base == X86_REG_RIP) {
        lower_page(g, H_RAX);
        m.base = H_RAX;
        m.disp = (s32)(a->disp + g->off + a->len);
    } else if (a->base != X86_REG_NONE) {
        m.base = (u8)host_reg(a->base);
        if (m.base == H_NONE) {
            e_load(e, W64, H_RAX, cell(GPR_OFF(a->base)));
            m.base = H_RAX;
        }
    }
    if (a->index != X86_REG_NONE) {
        m.index = (u8)host_reg(a->index);
        if (m.index == H_NONE) {
            e_load(e, W64, H_R10, cell(GPR_OFF(a->index)));
            m.index = H_R10;
        }
    }
    if (m.base == H_NONE && m.index == H_NONE) {
        if (w == W64)
            e_mov_imm64(e, reg, (u64)(s64)m.disp);
        else
            e_mov_imm32(e, reg, (u32)m.disp);
        return;
    }
    e_lea(e, w, reg, m);
}

void lower_ea(struct gen *g, unsigned reg, unsigned size)
{
    struct gea a = insn_gea(g);

    if (size < a.asize)
        a.asize = (u8)size;
    emit_ea(g, reg, &a);
}

/* r10 = TLB entry of the address in r10. */
void emit_tlb_probe(struct emit *e)
{
    EBYTES(e, "\x49\xc1\xea\x07");                 /* shr r10, 7 */
    e_rm(e, W64, 0x23, H_R10, CELL(cpu.tlb_mask)); /* and r10, gs:[tlb_mask] */
    e_rm(e, W64, 0x03, H_R10, CELL(cpu.tlb));      /* add r10, gs:[tlb] */
}

static struct cold *slow_path(struct gen *g, unsigned cc, unsigned size, unsigned how, u8 *retry)
{
    struct cold *c = cold_add(g, COLD_SLOW, e_jcc(&g->e, cc));

    c->retry = retry;
    c->size = (u16)size;
    c->flags = (how & LOW_WRITE ? SITE_WRITE : 0) | (g->fp_ok ? SITE_FP : 0);
    if (g->fl == FL_RECIPE)
        c->recipe = g->recipe;
    return c;
}

/* The tag is compared with the page of the last byte, the entry is that of the first: an access
 * that crosses pages misses. Aligned ones cannot cross; their low bits must be clear to hit. */
static struct hmem lower_simple(struct gen *g, const struct gea *a, unsigned size, unsigned align,
                                unsigned how)
{
    struct emit *e = &g->e;
    struct hmem ea = {(u8)host_reg(a->base),
                      a->index == X86_REG_NONE ? H_NONE : (u8)host_reg(a->index), a->scale, false,
                      (s32)a->disp};
    struct hmem last = ea;
    u8 *retry = e->p;

    if (align <= 1)
        last.disp += (s32)size - 1;
    e_lea(e, W64, H_R10, ea);
    e_lea(e, W64, H_RAX, last);
    emit_tlb_probe(e);
    e_alu_imm(e, W64, 4, H_RAX, -4096 | (s32)(align - 1));
    e_rm(e, W64, 0x3b, H_RAX, base_mem(H_R10, OFF_TAG(how & LOW_WRITE)));
    slow_path(g, CC_NE, size, how, retry)->ea = ea;
    e_load(e, W64, H_R10, base_mem(H_R10, OFF_ADDEND));
    g->spare = H_RAX;
    if (ea.index == H_NONE)
        return (struct hmem){ea.base, H_R10, 0, false, ea.disp};
    e_lea(e, W64, H_R10, (struct hmem){ea.base, H_R10, 0, false, 0});
    ea.base = H_R10;
    return ea;
}

/* rax += the offset of the unit that holds a bit. */
static void emit_bit_offset(struct gen *g, const struct gea *a)
{
    struct emit *e = &g->e;
    unsigned from = host_reg(a->bit_reg);
    struct hmem m = {H_RAX, H_R10, a->bits == 8 ? 3 : 2, false, 0};

    if (from == H_NONE) {
        e_load(e, W64, H_R10, cell(GPR_OFF(a->bit_reg)));
        from = H_R10;
    }
    e_rr(e, W64, a->bits == 8 ? 0x8b : 0x63, H_R10, from); /* mov r10, from; or movsxd */
    EBYTES(e, "\x49\xc1\xfa");                             /* sar r10, log2 of the unit's bits */
    e1(e, a->bits == 8 ? 6 : 5);
    e_lea(e, a->asize == 8 ? W64 : W32, H_RAX, m);
}

/* The general form: the linear address in rax; rax ^ tag is the offset in the page on a hit. */
static struct hmem lower_general(struct gen *g, const struct gea *a, unsigned size, unsigned align,
                                 unsigned how)
{
    struct emit *e = &g->e;
    struct hmem tag = base_mem(H_R10, OFF_TAG(how & LOW_WRITE));
    struct cold *slow;

    emit_ea(g, H_RAX, a);
    if (a->bits)
        emit_bit_offset(g, a);
    if (has_seg_base(g, a->seg))
        e_rm(e, g->code64 ? W64 : W32, 0x03, H_RAX, cell(VOFF(cpu.seg_base) + 8u * a->seg));
    u8 *retry = e->p;
    e_mov(e, W64, H_R10, H_RAX);
    emit_tlb_probe(e);
    e_rm(e, W64, 0x33, H_RAX, tag);
    if (align > 1) {
        e_rr(e, W64, 0xf7, 0, H_RAX); /* test rax, imm32 */
        e4(e, ~(4095u & ~(align - 1)));
        slow = slow_path(g, CC_NE, size, how, retry);
    } else {
        e_alu_imm(e, W64, 7, H_RAX, 4096 - (s32)size);
        slow = slow_path(g, CC_A, size, how, retry);
    }
    slow->xor_tag = true;
    e_rm(e, W64, 0x33, H_RAX, tag);
    e_rm(e, W64, 0x03, H_RAX, base_mem(H_R10, OFF_ADDEND));
    g->spare = H_R10;
    if (!(how & LOW_RAX_FREE))
        return base_mem(H_RAX, 0);
    e_mov(e, W64, H_R10, H_RAX);
    g->spare = H_RAX;
    return base_mem(H_R10, 0);
}

/* Through the stack's own entry: no index to compute, no set to look up. */
static struct hmem lower_rsp(struct gen *g, const struct gea *a, unsigned size, unsigned how)
{
    struct emit *e = &g->e;
    u8 *retry = e->p;

    e_lea(e, W64, H_RAX, base_mem(H_SP, (s32)a->disp));
    e_rm(e, W64, 0x33, H_RAX, CELL(stack_tag));
    e_alu_imm(e, W64, 7, H_RAX, 4096 - (s32)size);
    slow_path(g, CC_A, size, how, retry)->stack = true;
    e_load(e, W64, H_R10, CELL(stack_addend));
    g->spare = H_RAX;
    return (struct hmem){H_SP, H_R10, 0, false, (s32)a->disp};
}

static struct hmem at_addend(struct gen *g, const struct gea *a)
{
    struct hmem m = {(u8)host_reg(a->base), H_R10, 0, false, (s32)a->disp};

    g->spare = H_RAX;
    if (a->index == X86_REG_NONE)
        return m;
    e_lea(&g->e, W64, H_R10, (struct hmem){m.base, H_R10, 0, false, 0});
    return (struct hmem){H_R10, (u8)host_reg(a->index), a->scale, false, (s32)a->disp};
}

/* Where the group's page is in the host, from its first access on. */
static struct hmem group_cell(const struct group *o)
{
    return o->stack ? CELL(stack_group) : cell(VOFF(group_addend) + 8u * (unsigned)o->cell);
}

/* There is one stack_group: what other groups of the stack have checked is void. */
static void release_stack(struct gen *g)
{
    for (unsigned i = 0; i < g->ngroups; i++)
        if (g->group[i].stack)
            g->group[i].live = false;
}

/* The first access checks the range of all. */
static void lead_group(struct gen *g, struct group *o, const struct gea *a, s64 at, unsigned how)
{
    struct emit *e = &g->e;
    unsigned size = (unsigned)(o->hi - o->lo);
    struct hmem ea = {(u8)host_reg(a->base),
                      a->index == X86_REG_NONE ? H_NONE : (u8)host_reg(a->index), a->scale, false,
                      (s32)(a->disp + o->lo - at)};
    struct hmem tag = base_mem(H_R10, OFF_TAG(how & LOW_WRITE));
    struct cold *slow;
    u8 *retry = e->p;

    flags_clobber(g);
    use_rax(g);
    retry = e->p;
    e_lea(e, W64, H_RAX, ea);
    if (o->stack) {
        release_stack(g);
        e_rm(e, W64, 0x33, H_RAX, CELL(stack_tag));
    } else {
        e_mov(e, W64, H_R10, H_RAX);
        emit_tlb_probe(e);
        e_rm(e, W64, 0x33, H_RAX, tag);
    }
    e_alu_imm(e, W64, 7, H_RAX, 4096 - (s32)size);
    slow = slow_path(g, CC_A, size, how, retry);
    slow->stack = o->stack;
    slow->xor_tag = !o->stack;
    slow->flags |= SITE_GROUP;
    slow->no_resume = true;
    e_load(e, W64, H_R10, o->stack ? CELL(stack_addend) : base_mem(H_R10, OFF_ADDEND));
    e_store(e, W64, group_cell(o), H_R10);
    o->live = g->led = true;
}

/* Once the alignment of one member is known, so is that of all at the same distance. */
static void check_alignment(struct gen *g, struct group *o, const struct gea *a, s64 at,
                            unsigned align, unsigned how)
{
    struct emit *e = &g->e;
    struct hmem ea = {(u8)host_reg(a->base),
                      a->index == X86_REG_NONE ? H_NONE : (u8)host_reg(a->index), a->scale, false,
                      (s32)a->disp};

    if (o->aligned && o->align >= align && !((at - o->aligned_at) & (align - 1)))
        return;
    flags_clobber(g);
    use_rax(g);
    u8 *retry = e->p;
    e_lea(e, W64, H_RAX, ea);
    e1(e, 0xa8); /* test al, align - 1 */
    e1(e, align - 1);
    struct cold *c = slow_path(g, CC_NE, align, how, retry);
    c->ea = ea;
    c->no_resume = true; /* it faults */
    o->aligned = true;
    o->align = (u8)align;
    o->aligned_at = at;
}

static struct hmem lower_group(struct gen *g, const struct access *acc, const struct gea *a,
                               unsigned align, unsigned how, int r10_holds)
{
    struct group *o = &g->group[acc->group];

    if (align > 1)
        check_alignment(g, o, a, acc->at, align, how);
    if (!o->live)
        lead_group(g, o, a, acc->at, how);
    else if (r10_holds != acc->group)
        e_load(&g->e, W64, H_R10, group_cell(o));
    if (a->index == X86_REG_NONE)
        g->r10_group = acc->group;
    return at_addend(g, a);
}

static struct hmem lower(struct gen *g, const struct access *acc, const struct gea *a,
                         unsigned size, unsigned align, unsigned how)
{
    int holds = g->r10_before;

    g->r10_before = -1;
    if (acc->group >= 0 && g->group[acc->group].on)
        return lower_group(g, acc, a, align, how, holds);
    flags_clobber(g);
    use_rax(g);
    if (g->code64 && a->base == X86_RSP && a->index == X86_REG_NONE && a->asize == 8 &&
        align <= 1 && !a->bits && !has_seg_base(g, a->seg)) {
        release_stack(g);
        return lower_rsp(g, a, size, how);
    }
    if (is_simple(g, a) && !a->bits)
        return lower_simple(g, a, size, align, how);
    return lower_general(g, a, size, align, how);
}

#define ACCESS(which) (g->access[g->in - g->insns].which)
static const struct access no_access = {.group = -1};

struct hmem lower_mem(struct gen *g, unsigned size, unsigned align, unsigned how)
{
    struct gea a = insn_gea(g);

    return lower(g, &ACCESS(mem), &a, size, align, how);
}

struct hmem lower_bits(struct gen *g, unsigned guest, unsigned size, unsigned how)
{
    struct gea a = insn_gea(g);

    a.bits = (u8)size;
    a.bit_reg = (u8)guest;
    flags_clobber(g);
    use_rax(g);
    return lower_general(g, &a, size, 1, how | LOW_RAX_FREE);
}

struct hmem lower_stack(struct gen *g, unsigned base, s32 disp, unsigned size, unsigned how)
{
    struct gea a = {.base = (u8)base,
                    .index = X86_REG_NONE,
                    .seg = X86_SS,
                    .asize = g->code64 ? 8 : 4,
                    .disp = disp};

    return lower(g, base == X86_RSP ? &ACCESS(stack) : &no_access, &a, size, 1, how);
}
