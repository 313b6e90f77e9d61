/* state.c - reset values, plausibility and snapshot fields of the architectural state */
#include <errno.h>
#include <string.h>

#include "snap/snap.h"
#include "x86/debug.h"
#include "x86/mmu.h"

/* --- reset (SDM vol. 3 table 10-1) ------------------------------------------------------------ */

#define ATTR_RESET        (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED)
#define ATTR_RESET_LDT    (SEG_P | 2u)
#define ATTR_RESET_TSS    (SEG_P | 11u)
#define RESET_SIGNATURE   0x600u /* EDX: family 6; x86_cpu_init knows the model's own */
#define PAT_RESET         0x0007040600070406ull
#define MISC_ENABLE_RESET 0x1801ull /* fast strings; no BTS, no PEBS */
#define MXCSR_RESET       0x1f80u
#define FCW_RESET         0x40u

static void reset_segments(struct x86_state *s)
{
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i] = (struct x86_seg){.limit = 0xffff, .attr = ATTR_RESET};
    s->seg[X86_CS].sel = 0xf000;
    s->seg[X86_CS].base = 0xffff0000;
    s->ldtr = (struct x86_seg){.limit = 0xffff, .attr = ATTR_RESET_LDT};
    s->tr = (struct x86_seg){.limit = 0xffff, .attr = ATTR_RESET_TSS};
    s->gdtr = s->idtr = (struct x86_dtable){.limit = 0xffff};
}

/* What power-up sets and INIT leaves alone. */
static void reset_kept_by_init(struct x86_state *s)
{
    memset(s, 0, sizeof(*s));
    s->cr0 = CR0_NW | CR0_CD;
    s->xcr0 = XCR0_X87;
    s->pat = PAT_RESET;
    s->misc_enable = MISC_ENABLE_RESET;
    s->fpu.mxcsr = MXCSR_RESET;
    s->fpu.fcw = FCW_RESET;
    s->fpu.ftw = 0xff; /* tag word 5555H: eight zeros, none empty */
}

void x86_state_reset(struct x86_state *s, bool init)
{
    if (!init)
        reset_kept_by_init(s);
    memset(s->r, 0, sizeof(s->r));
    s->gpr[X86_RDX] = RESET_SIGNATURE;
    s->rip = 0xfff0;
    s->rflags = RFLAGS_ONE;
    reset_segments(s);
    s->cr0 = (s->cr0 & (CR0_NW | CR0_CD)) | CR0_ET;
    s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
    memset(s->pdpte, 0, sizeof(s->pdpte));
    memset(s->dr, 0, sizeof(s->dr));
    s->dr6 = DR6_ONES;
    s->dr7 = DR7_ONES;
    s->cpl = 0;
    s->shadow = 0;
    s->activity = X86_ACTIVE;
    s->exc_pending = s->exc_has_error = false;
    s->exc_vector = 0;
    s->exc_error = 0;
    s->dr6_pending = 0;
}

/* --- check ------------------------------------------------------------------------------------ */

#define RFLAGS_DEFINED                                                                         \
    (RFLAGS_ARITH | RFLAGS_ONE | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | \
     RFLAGS_RF | RFLAGS_VM | RFLAGS_AC | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_ID)
#define CR0_DEFINED                                                                            \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
     CR0_PG)
#define CR4_DEFINED                                                                               \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |     \
     CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | \
     CR4_SMAP)
#define EFER_DEFINED  (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define ATTR_DEFINED  0xf0ffu
#define PHYS_BITS_MAX 52

static int bad(struct err *e, const char *field, u64 val)
{
    return err_set(e, EINVAL, "cpu state: impossible %s %#llx", field, (unsigned long long)val);
}

/* Fields that must lie inside a mask. */
struct masked_field {
    const char *name;
    u32 offset;
    u64 mask;
};

#define MASKED(f, m)                         \
    {                                        \
#        f, offsetof(struct x86_state, f), m \
    }

static const struct masked_field masked_fields[] = {
    MASKED(rflags, RFLAGS_DEFINED),
    MASKED(cr0, CR0_DEFINED),
    MASKED(cr3, BIT64(PHYS_BITS_MAX) - 1),
    MASKED(cr4, CR4_DEFINED),
    MASKED(efer, EFER_DEFINED),
    MASKED(xcr0, XCR0_X87 | XCR0_SSE | XCR0_AVX),
    MASKED(dr6, DR6_ONES | DR6_WRITABLE),
    MASKED(dr7, DR7_ONES | DR7_WRITABLE),
    MASKED(dr6_pending, DR6_WRITABLE),
    MASKED(sfmask, 0xffffffff),
    MASKED(tsc_aux, 0xffffffff),
};

static int check_masks(const struct x86_state *s, struct err *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(masked_fields); i++) {
        const struct masked_field *f = &masked_fields[i];
        u64 val;

        memcpy(&val, (const char *)s + f->offset, sizeof(val));
        if (val & ~f->mask)
            return bad(e, f->name, val);
    }
    if (!(s->rflags & RFLAGS_ONE))
        return bad(e, "rflags", s->rflags);
    return 0;
}

static int check_modes(const struct x86_state *s, struct err *e)
{
    bool pe = s->cr0 & CR0_PE, pg = s->cr0 & CR0_PG, lma = s->efer & EFER_LMA;
    u16 cs = s->seg[X86_CS].attr;

    if ((pg && !pe) || (s->cr0 & (CR0_NW | CR0_CD)) == CR0_NW)
        return bad(e, "cr0", s->cr0);
    if (lma != (pg && s->efer & EFER_LME))
        return bad(e, "efer", s->efer);
    if ((lma && !(s->cr4 & CR4_PAE)) || (s->cr4 & CR4_PCIDE && !lma))
        return bad(e, "cr4", s->cr4);
    if (s->rflags & RFLAGS_VM && (!pe || lma))
        return bad(e, "rflags.vm", s->rflags);
    if (s->cpl > 3 || (!pe && s->cpl) || (s->rflags & RFLAGS_VM && s->cpl != 3))
        return bad(e, "cpl", s->cpl);
    if (lma && (cs & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
        return bad(e, "seg[1].attr", cs);
    if (!(s->xcr0 & XCR0_X87) || (s->xcr0 & XCR0_AVX && !(s->xcr0 & XCR0_SSE)))
        return bad(e, "xcr0", s->xcr0);
    return 0;
}

static int check_segments(const struct x86_state *s, struct err *e)
{
    static const char *const names[] = {"seg[0].base", "seg[1].base", "seg[2].base",
                                        "seg[3].base", "seg[4].base", "seg[5].base"};

    for (unsigned i = 0; i < X86_SREGS; i++) {
        if (s->seg[i].attr & ~ATTR_DEFINED)
            return bad(e, "segment attributes", s->seg[i].attr);
        if (!x86_canonical(s->seg[i].base))
            return bad(e, names[i], s->seg[i].base);
    }
    if (s->ldtr.attr & ~ATTR_DEFINED)
        return bad(e, "ldtr.attr", s->ldtr.attr);
    if (s->tr.attr & ~ATTR_DEFINED)
        return bad(e, "tr.attr", s->tr.attr);
    if (!x86_canonical(s->ldtr.base))
        return bad(e, "ldtr.base", s->ldtr.base);
    if (!x86_canonical(s->tr.base))
        return bad(e, "tr.base", s->tr.base);
    if (!x86_canonical(s->gdtr.base))
        return bad(e, "gdtr.base", s->gdtr.base);
    if (!x86_canonical(s->idtr.base))
        return bad(e, "idtr.base", s->idtr.base);
    return 0;
}

static bool pat_ok(u64 pat)
{
    for (unsigned i = 0; i < 8; i++, pat >>= 8) {
        u8 type = pat;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

static int check_msrs(const struct x86_state *s, struct err *e)
{
    if (!x86_canonical(s->lstar))
        return bad(e, "lstar", s->lstar);
    if (!x86_canonical(s->cstar))
        return bad(e, "cstar", s->cstar);
    if (!x86_canonical(s->kernel_gs_base))
        return bad(e, "kernel_gs_base", s->kernel_gs_base);
    if (!x86_canonical(s->sysenter_esp))
        return bad(e, "sysenter_esp", s->sysenter_esp);
    if (!x86_canonical(s->sysenter_eip))
        return bad(e, "sysenter_eip", s->sysenter_eip);
    if (!pat_ok(s->pat))
        return bad(e, "pat", s->pat);
    return 0;
}

static int check_fpu(const struct x86_fpu *f, struct err *e)
{
    static const u8 zero[6];

    if (f->mxcsr & ~0xffffu)
        return bad(e, "fpu.mxcsr", f->mxcsr);
    if (f->fop & ~0x7ffu)
        return bad(e, "fpu.fop", f->fop);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(f->st[i] + 10, zero, sizeof(zero)))
            return bad(e, "fpu.st padding", i);
    return 0;
}

static int check_events(const struct x86_state *s, struct err *e)
{
    if (s->shadow & ~(X86_SHADOW_STI | X86_SHADOW_MOVSS | X86_BLOCK_NMI))
        return bad(e, "shadow", s->shadow);
    if (s->activity > X86_WAIT_SIPI)
        return bad(e, "activity", s->activity);
    if (s->exc_vector > 31 || (s->exc_pending && s->exc_vector == X86_NMI))
        return bad(e, "exc_vector", s->exc_vector);
    return 0;
}

int x86_state_check(const struct x86_state *s, struct err *e)
{
    int rc;

    if ((rc = check_masks(s, e)) || (rc = check_modes(s, e)) || (rc = check_segments(s, e)) ||
        (rc = check_msrs(s, e)) || (rc = check_fpu(&s->fpu, e)))
        return rc;
    return check_events(s, e);
}

/* --- snapshot --------------------------------------------------------------------------------- */

#define S struct x86_state
#define SEG_FIELDS(f) \
    SNAP_U64(S, f.base), SNAP_U32(S, f.limit), SNAP_U16(S, f.sel), SNAP_U16(S, f.attr)

static const struct snap_field fields[] = {
    SNAP_U64(S, gpr),
    SNAP_U64(S, rip),
    SNAP_U64(S, rflags),
    SEG_FIELDS(seg[X86_ES]),
    SEG_FIELDS(seg[X86_CS]),
    SEG_FIELDS(seg[X86_SS]),
    SEG_FIELDS(seg[X86_DS]),
    SEG_FIELDS(seg[X86_FS]),
    SEG_FIELDS(seg[X86_GS]),
    SEG_FIELDS(ldtr),
    SEG_FIELDS(tr),
    SNAP_U64(S, gdtr.base),
    SNAP_U16(S, gdtr.limit),
    SNAP_U64(S, idtr.base),
    SNAP_U16(S, idtr.limit),
    SNAP_U64(S, cr0),
    SNAP_U64(S, cr2),
    SNAP_U64(S, cr3),
    SNAP_U64(S, cr4),
    SNAP_U64(S, efer),
    SNAP_U64(S, xcr0),
    SNAP_U64(S, pdpte),
    SNAP_U64(S, dr),
    SNAP_U64(S, dr6),
    SNAP_U64(S, dr7),
    SNAP_U8(S, cpl),
    SNAP_U8(S, shadow),
    SNAP_U8(S, activity),
    SNAP_BOOL(S, exc_pending),
    SNAP_BOOL(S, exc_has_error),
    SNAP_U8(S, exc_vector),
    SNAP_U32(S, exc_error),
    SNAP_U64(S, dr6_pending),
    SNAP_U64(S, star),
    SNAP_U64(S, lstar),
    SNAP_U64(S, cstar),
    SNAP_U64(S, sfmask),
    SNAP_U64(S, kernel_gs_base),
    SNAP_U64(S, sysenter_cs),
    SNAP_U64(S, sysenter_esp),
    SNAP_U64(S, sysenter_eip),
    SNAP_U64(S, tsc_offset),
    SNAP_U64(S, tsc_adjust),
    SNAP_U64(S, tsc_aux),
    SNAP_U64(S, pat),
    SNAP_U64(S, misc_enable),
    SNAP_U64(S, spec_ctrl),
    SNAP_U64(S, xss),
    SNAP_U64(S, debugctl),
    SNAP_U64(S, umwait),
    SNAP_U64(S, mtrr_def_type),
    SNAP_U64(S, mtrr_fixed),
    SNAP_U64(S, mtrr_base),
    SNAP_U64(S, mtrr_mask),
    SNAP_U64(S, mcg_status),
    SNAP_U64(S, mc_ctl),
    SNAP_U64(S, mc_status),
    SNAP_U64(S, mc_addr),
    SNAP_U64(S, mc_misc),
    SNAP_U8(S, fpu.vec),
    SNAP_U8(S, fpu.st),
    SNAP_U64(S, fpu.fip),
    SNAP_U64(S, fpu.fdp),
    SNAP_U32(S, fpu.mxcsr),
    SNAP_U16(S, fpu.fcw),
    SNAP_U16(S, fpu.fsw),
    SNAP_U16(S, fpu.fop),
    SNAP_U16(S, fpu.fcs),
    SNAP_U16(S, fpu.fds),
    SNAP_U8(S, fpu.ftw),
    SNAP_END,
};

static int check_scratch(const void *scratch, struct err *e)
{
    return x86_state_check(scratch, e);
}

const struct snap_desc x86_state_snap = {
    .name = "cpu",
    .version = 1,
    .size = sizeof(struct x86_state),
    .fields = fields,
    .check = check_scratch,
};
