/* guest.c - the same instructions on the core: CPL 3 in a world whose page tables repeat the
 * host's layout */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "x86/insn.h"

u8 *guest_data;

#define PTE_P  1ull
#define PTE_W  2ull
#define PTE_U  4ull
#define PTE_AD 0x60ull
#define PTE_NX BIT64(63)

static struct guest {
    _Alignas(64) u8 sys[SYS_BYTES];
    u64 next_table;
    struct x86_cpuid_model model;
    struct x86_cpu cpu;
    struct x86_state proto;
    u64 executed;
} * g;

/* --- world ------------------------------------------------------------------------------------ */

static bool w_page(void *w, u64 gpa, bool write, struct x86_page *out)
{
    out->writable = true;
    out->code = false;
    if (gpa - SYS_GPA < SYS_BYTES)
        out->hva = g->sys + (gpa - SYS_GPA);
    else if (gpa - CODE_GPA < CODE_BYTES)
        out->hva = native_code + (gpa - CODE_GPA);
    else if (gpa - DATA_GPA < DATA_BYTES + RO_BYTES)
        out->hva = guest_data + (gpa - DATA_GPA);
    else
        return false;
    return true;
}

static u64 w_mmio_read(void *w, u64 gpa, unsigned size)
{
    return ~0ull;
}

static void w_mmio_write(void *w, u64 gpa, unsigned size, u64 val)
{
}

static void w_code_write(void *w, u64 gpa, unsigned size)
{
}

static u64 w_io_in(void *w, u16 port, unsigned size)
{
    return ~0ull;
}

static void w_io_out(void *w, u16 port, unsigned size, u64 val)
{
}

static u64 w_zero(void *w)
{
    return 0;
}

static void w_cr8_write(void *w, u64 val)
{
}

static int w_msr_read(void *w, u32 msr, u64 *val)
{
    return -EINVAL;
}

static int w_msr_write(void *w, u32 msr, u64 val)
{
    return -EINVAL;
}

static bool w_false(void *w)
{
    return false;
}

static int w_irq_ack(void *w)
{
    return -1;
}

static void w_ferr(void *w, bool asserted)
{
}

static int w_random(void *w, u64 *val)
{
    return -EINVAL;
}

static const struct x86_ops ops = {
    .page = w_page,
    .mmio_read = w_mmio_read,
    .mmio_write = w_mmio_write,
    .code_write = w_code_write,
    .io_in = w_io_in,
    .io_out = w_io_out,
    .tsc = w_zero,
    .cr8_read = w_zero,
    .cr8_write = w_cr8_write,
    .msr_read = w_msr_read,
    .msr_write = w_msr_write,
    .irq_pending = w_false,
    .irq_ack = w_irq_ack,
    .nmi_take = w_false,
    .ferr = w_ferr,
    .random = w_random,
};

/* --- tables ----------------------------------------------------------------------------------- */

static u64 *sys64(u64 off)
{
    return (u64 *)(g->sys + off);
}

static void map_page(u64 lin, u64 gpa, u64 bits)
{
    u64 table = PML4;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        u64 *entry = &sys64(table)[lin >> shift & 511];
        if (!*entry) {
            ASSERT(g->next_table < TABLES_END);
            *entry = (SYS_GPA + g->next_table) | PTE_P | PTE_W | PTE_U | PTE_AD;
            g->next_table += 4096;
        }
        table = (*entry & 0x000ffffffffff000ull) - SYS_GPA;
    }
    sys64(table)[lin >> 12 & 511] = gpa | bits | PTE_P | PTE_AD;
}

static void map_range(u64 lin, u64 gpa, u64 bytes, u64 bits)
{
    for (u64 off = 0; off < bytes; off += 4096)
        map_page(lin + off, gpa + off, bits);
}

static u64 descriptor(u64 base, u64 limit, u16 attr)
{
    return (limit & 0xffff) | (base & 0xffffff) << 16 | (u64)attr << 40 |
           (limit >> 16 & 0xf) << 48 | (base >> 24 & 0xff) << 56;
}

#define ATTR_CODE (SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED)
#define ATTR_DATA (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED)

static u64 ldt_descriptor(const struct ldt_row *r)
{
    u16 attr = SEG_S | SEG_DPL | SEG_ACCESSED;

    attr |= r->code ? SEG_CODE : 0;
    attr |= r->down ? SEG_DOWN : 0;
    attr |= r->readonly ? 0 : SEG_WRITE;
    attr |= r->big ? SEG_DB : 0;
    attr |= r->pages ? SEG_G : 0;
    attr |= r->present ? SEG_P : 0;
    return descriptor(r->base, r->limit, attr | SEG_AVL);
}

static void fill_tables(void)
{
    u64 *gdt = sys64(GDT), *ldt = sys64(LDT), *idt = sys64(IDT);

    gdt[2] = descriptor(0, 0xfffff, ATTR_CODE | SEG_G | SEG_L);
    gdt[3] = descriptor(0, 0xfffff, ATTR_DATA | SEG_G | SEG_DB);
    gdt[SEL_CODE32 / 8] = descriptor(0, 0xfffff, ATTR_CODE | SEG_G | SEG_DB | SEG_DPL);
    gdt[SEL_DATA / 8] = descriptor(0, 0xfffff, ATTR_DATA | SEG_G | SEG_DB | SEG_DPL);
    gdt[SEL_CODE64 / 8] = descriptor(0, 0xfffff, ATTR_CODE | SEG_G | SEG_L | SEG_DPL);
    for (unsigned i = 0; native_has.ldt && i < LDT_ROWS; i++)
        ldt[i] = ldt_descriptor(&ldt_rows[i]);
    /* Gates as Linux has them: breakpoint and overflow for programs, the others for the kernel
     * alone. */
    for (u64 v = 0; v < 256; v++) {
        u64 handler = SYS_LIN + HANDLERS + 16 * v;
        u64 dpl = v == X86_BP || v == X86_OF ? 3 : 0;
        idt[2 * v] = (handler & 0xffff) | 0x10ull << 16 | (0x8eull | dpl << 5) << 40 |
                     (handler >> 16 & 0xffff) << 48;
        idt[2 * v + 1] = handler >> 32;
    }
    *(u64 *)(g->sys + TSS + 4) = SYS_LIN + STACK_TOP;
    *(u16 *)(g->sys + TSS + 0x66) = 0x68; /* beyond the limit: no I/O bitmap */
}

static void fill_pages(void)
{
    u64 data = PTE_U | PTE_W | PTE_NX;

    g->next_table = NEXT_TABLE;
    map_range(SYS_LIN, SYS_GPA, SYS_BYTES, PTE_W);
    map_range(CODE_ADDR, CODE_GPA, CODE_BYTES, PTE_U);
    map_range(DATA_ADDR, DATA_GPA, DATA_BYTES, data);
    map_range(RO_ADDR, DATA_GPA + DATA_BYTES, RO_BYTES, PTE_U | PTE_NX);
    if (native_has.low_alias)
        map_range(LOW_ADDR, DATA_GPA, DATA_BYTES, data);
}

static void fill_proto(struct x86_state *s)
{
    x86_state_reset(s, false);
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    s->cr3 = SYS_GPA + PML4;
    s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PGE;
    if (x86_has(&g->cpu, X86_FEATURE_XSAVE))
        s->cr4 |= CR4_OSXSAVE;
    if (x86_has(&g->cpu, X86_FEATURE_FSGSBASE) && native_has.fsgsbase)
        s->cr4 |= CR4_FSGSBASE;
    s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    s->xcr0 = XCR0_X87 | XCR0_SSE | (x86_has(&g->cpu, X86_FEATURE_AVX) ? XCR0_AVX : 0);
    s->gdtr = (struct x86_dtable){SYS_LIN + GDT, 0x7f};
    s->idtr = (struct x86_dtable){SYS_LIN + IDT, 0xfff};
    s->tr =
        (struct x86_seg){.sel = 0x40, .base = SYS_LIN + TSS, .limit = 0x67, .attr = SEG_P | 0xb};
    if (native_has.ldt)
        s->ldtr = (struct x86_seg){
            .sel = 0x50, .base = SYS_LIN + LDT, .limit = LDT_ROWS * 8 - 1, .attr = SEG_P | 2};
    s->cpl = 3;
}

int guest_init(const char *model, struct err *e)
{
    g = aligned_alloc(64, align_up(sizeof(*g), 64));
    if (!g)
        return err_set(e, ENOMEM, "no memory");
    memset(g, 0, sizeof(*g));
    guest_data = aligned_alloc(4096, DATA_BYTES + RO_BYTES);
    if (!guest_data)
        return err_set(e, ENOMEM, "no memory");
    int rc = x86_cpuid_model(&g->model, model, 1, e);
    if (rc)
        return rc;
    x86_cpu_init(&g->cpu, &ops, NULL, &g->model);
    fill_tables();
    fill_pages();
    fill_proto(&g->proto);
    x86_cpu_set_state(&g->cpu, &g->proto);
    x86_attn_clear(&g->cpu,
                   X86_ATTN_IRQ | X86_ATTN_NMI); /* never any: string instructions need not look */
    /* The first floating-point instruction decoded makes the core set up its native stubs and
     * signals. */
    static const u8 addps[] = {0x0f, 0x58, 0xc1};
    struct x86_insn in;
    return x86_decode(&g->cpu, addps, sizeof(addps), &in) == X86_OK
               ? 0
               : err_set(e, EINVAL, "the core does not decode ADDPS");
}

const struct x86_cpuid_model *guest_model(void)
{
    return &g->model;
}

const u8 *guest_sys(void)
{
    return g->sys;
}

const struct x86_state *guest_prototype(void)
{
    return &g->proto;
}

/* --- run -------------------------------------------------------------------------------------- */

struct x86_seg guest_segment(u16 sel)
{
    u64 raw;

    if (sel < 4)
        return (struct x86_seg){.sel = sel};
    memcpy(&raw, g->sys + (sel & 4 ? LDT : GDT) + (sel & ~7u), 8);
    struct x86_seg s = {.sel = sel, .attr = raw >> 40 & 0xf0ff};
    s.base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    s.limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
    if (s.attr & SEG_G)
        s.limit = s.limit << 12 | 0xfff;
    return s;
}

/* Only what the case or its instructions can have changed: the TLB stays warm. */
void guest_begin(const struct dcase *c)
{
    struct x86_cpu *cpu = &g->cpu;
    struct x86_state *s = &cpu->s;

    memcpy(s->gpr, c->in.gpr, sizeof(s->gpr));
    s->rip = c->in.rip;
    s->rflags = c->in.rflags;
    s->fpu = c->in.fpu;
    for (unsigned i = 0; i < X86_SREGS; i++)
        if (s->seg[i].sel != c->in.sel[i] || c->in.sel[i] < 4 || s->cpl != 3)
            s->seg[i] = guest_segment(c->in.sel[i]);
    if (c->mode == MODE_64) {
        s->seg[X86_FS].base = c->in.fs_base;
        s->seg[X86_GS].base = c->in.gs_base;
    }
    s->cpl = 3;
    s->shadow = 0;
    s->activity = X86_ACTIVE;
    s->exc_pending = false;
    s->dr6_pending = 0;
    s->cr2 = 0;
    cpu->retire = 0;
    x86_update_mode(cpu);
    g->executed = 0;
}

const struct x86_state *guest_state(void)
{
    return &g->cpu.s;
}

static u64 linear_ip(const struct x86_cpu *cpu)
{
    return cpu->code_bits == 64 ? cpu->s.rip : (u32)(cpu->s.rip + cpu->s.seg[X86_CS].base);
}

/* Executes one whole instruction (all iterations of a rep). */
static int step(struct x86_cpu *cpu)
{
    struct x86_insn in;
    u64 gpa, gpa2;
    int rc;

    do {
        u64 rflags = cpu->s.rflags;
        u8 shadow = cpu->s.shadow;
        bool stepping = x86_attn(cpu) & (X86_ATTN_STEP | X86_ATTN_SHADOW);
        cpu->insn_rip = cpu->s.rip;
        rc = x86_fetch(cpu, &in, &gpa, &gpa2);
        if (rc == X86_OK)
            rc = x86_exec(cpu, &in);
        if (rc != X86_FAULT && stepping)
            x86_retire(cpu, rflags, shadow);
    } while (rc == X86_YIELD && cpu->s.rip == cpu->insn_rip && cpu->s.cpl == 3 &&
             in.prefix & (X86_PFX_REP | X86_PFX_REPNE) && cpu->s.gpr[X86_RCX]);
    g->executed++;
    return rc;
}

bool guest_step(const struct dcase *c)
{
    int rc = step(&g->cpu);
    return (rc == X86_OK || rc == X86_YIELD) && g->cpu.s.cpl == 3;
}

/* An interrupt or trap instruction went through the IDT: back to the state it was delivered
 * from. */
static void unwind_delivery(struct x86_cpu *cpu, struct outcome *out)
{
    const u64 *frame = (const u64 *)(g->sys + (cpu->s.gpr[X86_RSP] - SYS_LIN));

    out->trap = (int)((cpu->s.rip - SYS_LIN - HANDLERS) / 16);
    out->s.rip = frame[0];
    out->s.sel[X86_CS] = frame[1];
    out->s.rflags = frame[2];
    out->s.gpr[X86_RSP] = frame[3];
    out->s.sel[X86_SS] = frame[4];
}

static void save(const struct x86_cpu *cpu, struct outcome *out)
{
    struct dstate *s = &out->s;

    memcpy(s->gpr, cpu->s.gpr, sizeof(s->gpr));
    s->rip = cpu->s.rip;
    s->rflags = cpu->s.rflags;
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->sel[i] = cpu->s.seg[i].sel;
    s->fs_base = cpu->s.seg[X86_FS].base;
    s->gs_base = cpu->s.seg[X86_GS].base;
    s->fpu = cpu->s.fpu;
}

static bool done(const struct x86_cpu *cpu, const struct dcase *c)
{
    u64 lin = linear_ip(cpu);
    return cpu->s.cpl != 3 || cpu->s.seg[X86_CS].sel != c->in.sel[X86_CS] ||
           lin - c->start >= c->len;
}

void guest_run(const struct dcase *c, struct outcome *out)
{
    struct x86_cpu *cpu = &g->cpu;
    struct x86_insn in;
    u64 gpa, gpa2;
    int rc = X86_OK;

    *out = (struct outcome){.trap = -1};
    guest_begin(c);
    for (unsigned i = 0; i < (c->steps ? c->steps : 4 * BLOCK_MAX); i++) {
        rc = step(cpu);
        if (rc != X86_OK && rc != X86_YIELD)
            break;
        if (cpu->s.dr6_pending || done(cpu, c))
            break;
    }
    /* Behind a jump the next fetch may fault; that is an outcome too. */
    bool at_exit = c->has_exit && linear_ip(cpu) == c->start + c->len;
    if ((rc == X86_OK || rc == X86_YIELD) && cpu->s.cpl == 3 && !at_exit)
        rc = x86_fetch(cpu, &in, &gpa, &gpa2);
    save(cpu, out);
    if (rc == X86_FAULT) {
        out->trap = cpu->exc.vector;
        out->error = cpu->exc.has_error ? cpu->exc.error : 0;
        out->cr2 = cpu->exc.vector == X86_PF ? cpu->exc.cr2 : 0;
    } else if (cpu->s.cpl != 3) {
        unwind_delivery(cpu, out);
    } else if (rc != X86_OK && rc != X86_YIELD) {
        out->trap = 1000 + rc;
    }
}
