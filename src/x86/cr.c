/* cr.c - control registers, EFER, RFLAGS, XCR0 and what moves them (SDM vol. 3 2.5, 4.1, 9.8.5) */
#include "x86/exec.h"
#include "x86/fpu.h"

#define CR0_DEFINED                                                                            \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
     CR0_PG)

/* Bits that change what a translation allows or means. */
#define CR0_FLUSHES (CR0_PG | CR0_PE | CR0_WP)
#define CR4_FLUSHES (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP)

/* Bits whose change reloads the PDPTE registers under PAE paging (SDM vol. 3 4.4.1). */
#define CR0_PDPTES (CR0_PG | CR0_CD | CR0_NW)
#define CR4_PDPTES (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)

#define TSS16_AVAILABLE 1
#define TSS16_BUSY      3

/* --- CR0 -------------------------------------------------------------------------------------- */

/* Whether paging may be switched on with EFER.LME: that enters IA-32e mode. */
static bool may_enter_long(const struct x86_cpu *cpu)
{
    const struct x86_state *s = &cpu->s;
    unsigned tss = s->tr.attr & (SEG_S | SEG_TYPE);

    if (!(s->cr4 & CR4_PAE) || s->seg[X86_CS].attr & SEG_L)
        return false;
    return !cpu->intel || !(s->tr.attr & SEG_P) || (tss != TSS16_AVAILABLE && tss != TSS16_BUSY);
}

static bool cr0_valid(const struct x86_cpu *cpu, u64 val)
{
    const struct x86_state *s = &cpu->s;
    u64 changed = val ^ s->cr0;

    if (val >> 32 || (val & CR0_PG && !(val & CR0_PE)) || (val & CR0_NW && !(val & CR0_CD)))
        return false;
    if (!(changed & CR0_PG))
        return true;
    if (val & CR0_PG)
        return !(s->efer & EFER_LME) || may_enter_long(cpu);
    return cpu->code_bits != 64 && !(s->cr4 & CR4_PCIDE);
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LME);
}

int x86_set_cr0(struct x86_cpu *cpu, u64 val)
{
    struct x86_state *s = &cpu->s;

    if (!cr0_valid(cpu, val))
        return x86_gp(cpu, 0);
    val = (val & CR0_DEFINED) | CR0_ET;
    u64 changed = val ^ s->cr0;
    if (changed & CR0_PDPTES && pae_paging(val, s->cr4, s->efer)) {
        u64 pdpte[4];
        if (!x86_load_pdptes(cpu, s->cr3, pdpte))
            return x86_gp(cpu, 0);
        __builtin_memcpy(s->pdpte, pdpte, sizeof(pdpte));
    }
    s->cr0 = val;
    if (changed & CR0_PG && s->efer & EFER_LME)
        s->efer = val & CR0_PG ? s->efer | EFER_LMA : s->efer & ~(u64)EFER_LMA;
    if (changed & CR0_FLUSHES)
        x86_tlb_flush(cpu, true);
    x86_update_mode(cpu);
    return X86_OK;
}

/* --- CR3 -------------------------------------------------------------------------------------- */

/* Bit 63 lets the translations of the PCID survive, even a change of the tables: software answers
 * for them (SDM vol. 3 4.10.4.1). */
int x86_set_cr3(struct x86_cpu *cpu, u64 val)
{
    struct x86_state *s = &cpu->s;
    bool pcide = s->cr4 & CR4_PCIDE;
    bool keep = pcide && val & CR3_NOFLUSH;

    if (pcide)
        val &= ~CR3_NOFLUSH;
    if (val & ~cpu->phys_mask)
        return x86_gp(cpu, 0);
    if (pae_paging(s->cr0, s->cr4, s->efer)) {
        u64 pdpte[4];
        if (!x86_load_pdptes(cpu, val, pdpte))
            return x86_gp(cpu, 0);
        __builtin_memcpy(s->pdpte, pdpte, sizeof(pdpte));
    }
    s->cr3 = val;
    x86_tlb_load_cr3(cpu, keep);
    return X86_OK;
}

/* --- CR4 -------------------------------------------------------------------------------------- */

static u64 cr4_allowed(const struct x86_cpu *cpu)
{
    static const struct {
        u32 bits;
        u8 feature;
    } rows[] = {
        {CR4_VME | CR4_PVI, X86_FEATURE_VME},
        {CR4_TSD, X86_FEATURE_TSC},
        {CR4_DE, X86_FEATURE_DE},
        {CR4_PSE, X86_FEATURE_PSE},
        {CR4_PAE, X86_FEATURE_PAE},
        {CR4_MCE, X86_FEATURE_MCE},
        {CR4_PGE, X86_FEATURE_PGE},
        {CR4_OSFXSR, X86_FEATURE_FXSR},
        {CR4_OSXMMEXCPT, X86_FEATURE_SSE},
        {CR4_UMIP, X86_FEATURE_UMIP},
        {CR4_FSGSBASE, X86_FEATURE_FSGSBASE},
        {CR4_PCIDE, X86_FEATURE_PCID},
        {CR4_OSXSAVE, X86_FEATURE_XSAVE},
        {CR4_SMEP, X86_FEATURE_SMEP},
        {CR4_SMAP, X86_FEATURE_SMAP},
    };
    u64 allowed = CR4_PCE;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (x86_has(cpu, rows[i].feature))
            allowed |= rows[i].bits;
    return allowed;
}

static bool cr4_valid(const struct x86_cpu *cpu, u64 val)
{
    const struct x86_state *s = &cpu->s;
    bool lma = s->efer & EFER_LMA;

    if (val & ~cr4_allowed(cpu) || (lma && !(val & CR4_PAE)))
        return false;
    bool pcide_on = val & CR4_PCIDE && !(s->cr4 & CR4_PCIDE);
    return !pcide_on || (lma && !(s->cr3 & CR3_PCID));
}

int x86_set_cr4(struct x86_cpu *cpu, u64 val)
{
    struct x86_state *s = &cpu->s;
    u64 changed = val ^ s->cr4;

    if (!cr4_valid(cpu, val))
        return x86_gp(cpu, 0);
    if (changed & CR4_PDPTES && pae_paging(s->cr0, val, s->efer)) {
        u64 pdpte[4];
        if (!x86_load_pdptes(cpu, s->cr3, pdpte))
            return x86_gp(cpu, 0);
        __builtin_memcpy(s->pdpte, pdpte, sizeof(pdpte));
    }
    s->cr4 = val;
    if (changed & CR4_FLUSHES)
        x86_tlb_flush(cpu, true);
    x86_update_mode(cpu);
    return X86_OK;
}

/* --- EFER ------------------------------------------------------------------------------------- */

#define EFER_AUTOIBRS BIT(21)

int x86_set_efer(struct x86_cpu *cpu, u64 val)
{
    struct x86_state *s = &cpu->s;
    u64 allowed = 0;

    if (x86_has(cpu, X86_FEATURE_SYSCALL))
        allowed |= EFER_SCE;
    if (x86_has(cpu, X86_FEATURE_LM))
        allowed |= EFER_LME | EFER_LMA;
    if (x86_has(cpu, X86_FEATURE_NX))
        allowed |= EFER_NXE;
    if (x86_has(cpu, X86_FEATURE_AUTOIBRS))
        allowed |= EFER_AUTOIBRS;
    if (val & ~allowed)
        return x86_gp(cpu, 0);
    val = (val & ~(u64)EFER_LMA) | (s->efer & EFER_LMA); /* LMA is not software's to set */
    u64 changed = val ^ s->efer;
    if (changed & EFER_LME && s->cr0 & CR0_PG)
        return x86_gp(cpu, 0);
    s->efer = val;
    if (changed & EFER_NXE)
        x86_tlb_flush(cpu, true);
    x86_update_mode(cpu);
    return X86_OK;
}

/* --- RFLAGS ----------------------------------------------------------------------------------- */

void x86_set_rflags(struct x86_cpu *cpu, u64 val, u64 mask)
{
    u64 old = cpu->s.rflags;
    u64 now = (old & ~mask) | (val & mask) | RFLAGS_ONE;
    u64 changed = old ^ now;

    cpu->s.rflags = now;
    if (unlikely(changed & RFLAGS_VM))
        x86_update_mode(cpu);
    else if (changed & RFLAGS_AC)
        x86_update_level(cpu);
    else if (changed & (RFLAGS_TF | RFLAGS_RF) || changed & now & RFLAGS_IF)
        x86_update_attention(cpu);
}

/* --- instructions ----------------------------------------------------------------------------- */

X86_HANDLER(mov_from_cr)
{
    u64 val;

    switch (in->op[1].reg) {
    case 0: val = cpu->s.cr0; break;
    case 2: val = cpu->s.cr2; break;
    case 3: val = cpu->s.cr3; break;
    case 4: val = cpu->s.cr4; break;
    case 8: val = 0; break;
    default: return x86_ud(cpu);
    }
    TRY(need_cpl0(cpu));
    if (in->op[1].reg == 8)
        val = cpu->ops->cr8_read(cpu->world);
    gpr_set(cpu, in->op[0].reg, cpu->code_bits == 64 ? 8 : 4, val);
    return X86_OK;
}

static int write_cr(struct x86_cpu *cpu, unsigned cr, u64 val)
{
    switch (cr) {
    case 0: return x86_set_cr0(cpu, val);
    case 2: cpu->s.cr2 = val; return X86_OK;
    case 3: return x86_set_cr3(cpu, val);
    case 4: return x86_set_cr4(cpu, val);
    default:
        if (val > 15)
            return x86_gp(cpu, 0);
        cpu->ops->cr8_write(cpu->world, val);
        return X86_OK;
    }
}

X86_HANDLER(mov_to_cr)
{
    unsigned cr = in->op[0].reg;
    u64 val = cpu->s.gpr[in->op[1].reg];

    if (cr > 8 || !(0x11d >> cr & 1))
        return x86_ud(cpu);
    TRY(need_cpl0(cpu));
    TRY(write_cr(cpu, cr, cpu->code_bits == 64 ? val : (u32)val));
    return X86_YIELD;
}

X86_HANDLER(lmsw)
{
    const u64 msw = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    u64 val;

    TRY(need_cpl0(cpu));
    TRY(opnd_get(cpu, in, 0, &val));
    /* PE can be set this way but not cleared. */
    TRY(x86_set_cr0(cpu, (cpu->s.cr0 & ~(msw & ~(u64)CR0_PE)) | (val & msw)));
    return X86_YIELD;
}

X86_HANDLER(smsw)
{
    if (cpu->s.cr4 & CR4_UMIP && cpu->s.cpl)
        return x86_gp(cpu, 0);
    return opnd_set(cpu, in, 0, cpu->s.cr0);
}

X86_HANDLER(clts)
{
    TRY(need_cpl0(cpu));
    cpu->s.cr0 &= ~(u64)CR0_TS;
    return X86_OK;
}

X86_HANDLER(xgetbv)
{
    u32 index = (u32)cpu->s.gpr[X86_RCX];
    u64 val = cpu->s.xcr0;

    if (!(cpu->s.cr4 & CR4_OSXSAVE))
        return x86_ud(cpu);
    if (index == 1 && x86_has(cpu, X86_FEATURE_XGETBV1))
        val &= x86_xinuse(cpu);
    else if (index)
        return x86_gp(cpu, 0);
    gpr_set(cpu, X86_RAX, 4, val);
    gpr_set(cpu, X86_RDX, 4, val >> 32);
    return X86_OK;
}

X86_HANDLER(xsetbv)
{
    u64 val = (u32)cpu->s.gpr[X86_RAX] | cpu->s.gpr[X86_RDX] << 32;
    u64 allowed = XCR0_X87 | XCR0_SSE;

    if (!(cpu->s.cr4 & CR4_OSXSAVE))
        return x86_ud(cpu);
    TRY(need_cpl0(cpu));
    if (x86_has(cpu, X86_FEATURE_AVX))
        allowed |= XCR0_AVX;
    if ((u32)cpu->s.gpr[X86_RCX] || !(val & XCR0_X87) || val & ~allowed ||
        (val & XCR0_AVX && !(val & XCR0_SSE)))
        return x86_gp(cpu, 0);
    cpu->s.xcr0 = val;
    return X86_YIELD;
}
