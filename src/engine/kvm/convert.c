/* convert.c - between KVM's structures and the engine-neutral state; pure */
#include "engine/kvm/convert.h"

#include <string.h>

#include "x86/cpu.h"
#include "x86/debug.h"

/* ---- segments ---- */

/* Hardware insists that what is usable was accessed. */
void kvm_from_seg(const struct x86_seg *s, struct kvm_segment *k)
{
    bool usable = s->attr & SEG_P;

    memset(k, 0, sizeof(*k));
    k->base = s->base;
    k->limit = s->limit;
    k->selector = s->sel;
    k->type = s->attr & SEG_TYPE;
    k->s = !!(s->attr & SEG_S);
    k->dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT;
    k->present = usable;
    k->avl = !!(s->attr & SEG_AVL);
    k->l = !!(s->attr & SEG_L);
    k->db = !!(s->attr & SEG_DB);
    k->g = !!(s->attr & SEG_G);
    k->unusable = !usable;
    if (usable && k->s)
        k->type |= SEG_ACCESSED;
}

void kvm_to_seg(const struct kvm_segment *k, struct x86_seg *s)
{
    s->base = k->base;
    s->limit = k->limit;
    s->sel = k->selector;
    s->attr = (u16)((k->type & SEG_TYPE) | (k->s ? SEG_S : 0) | (k->dpl & 3) << SEG_DPL_SHIFT |
                    (k->present && !k->unusable ? SEG_P : 0) | (k->avl ? SEG_AVL : 0) |
                    (k->l ? SEG_L : 0) | (k->db ? SEG_DB : 0) | (k->g ? SEG_G : 0));
}

/* ---- general registers ---- */

/* Encoding order, as enum x86_gpr. */
static const u16 gpr_offset[16] = {
    offsetof(struct kvm_regs, rax), offsetof(struct kvm_regs, rcx), offsetof(struct kvm_regs, rdx),
    offsetof(struct kvm_regs, rbx), offsetof(struct kvm_regs, rsp), offsetof(struct kvm_regs, rbp),
    offsetof(struct kvm_regs, rsi), offsetof(struct kvm_regs, rdi), offsetof(struct kvm_regs, r8),
    offsetof(struct kvm_regs, r9),  offsetof(struct kvm_regs, r10), offsetof(struct kvm_regs, r11),
    offsetof(struct kvm_regs, r12), offsetof(struct kvm_regs, r13), offsetof(struct kvm_regs, r14),
    offsetof(struct kvm_regs, r15),
};

void kvm_from_regs(const struct x86_state *s, struct kvm_regs *k)
{
    for (unsigned i = 0; i < 16; i++)
        memcpy((u8 *)k + gpr_offset[i], &s->gpr[i], 8);
    k->rip = s->rip;
    k->rflags = s->rflags;
}

void kvm_to_regs(const struct kvm_regs *k, struct x86_state *s)
{
    for (unsigned i = 0; i < 16; i++)
        memcpy(&s->gpr[i], (const u8 *)k + gpr_offset[i], 8);
    s->rip = k->rip;
    s->rflags = k->rflags | RFLAGS_ONE;
}

/* ---- system registers ---- */

/* The level is SS's DPL to KVM. In real mode it is 0, in virtual-8086 mode 3, and hardware wants
 * segments there to look accordingly. */
static void fix_stack_level(const struct x86_state *s, struct kvm_segment *ss)
{
    ss->dpl = s->cpl;
}

static void from_table(const struct x86_dtable *t, struct kvm_dtable *k)
{
    k->base = t->base;
    k->limit = t->limit;
}

void kvm_from_sregs(const struct x86_state *s, struct kvm_sregs2 *k)
{
    kvm_from_seg(&s->seg[X86_ES], &k->es);
    kvm_from_seg(&s->seg[X86_CS], &k->cs);
    kvm_from_seg(&s->seg[X86_SS], &k->ss);
    kvm_from_seg(&s->seg[X86_DS], &k->ds);
    kvm_from_seg(&s->seg[X86_FS], &k->fs);
    kvm_from_seg(&s->seg[X86_GS], &k->gs);
    kvm_from_seg(&s->ldtr, &k->ldt);
    kvm_from_seg(&s->tr, &k->tr);
    fix_stack_level(s, &k->ss);
    from_table(&s->gdtr, &k->gdt);
    from_table(&s->idtr, &k->idt);
    k->cr0 = s->cr0;
    k->cr2 = s->cr2;
    k->cr3 = s->cr3;
    k->cr4 = s->cr4;
    k->efer = s->efer;
}

static u8 level_of(const struct kvm_sregs2 *k, const struct x86_state *s)
{
    if (!(k->cr0 & CR0_PE))
        return 0;
    return s->rflags & RFLAGS_VM ? 3 : k->ss.dpl & 3;
}

/* RFLAGS comes first. */
void kvm_to_sregs(const struct kvm_sregs2 *k, struct x86_state *s)
{
    kvm_to_seg(&k->es, &s->seg[X86_ES]);
    kvm_to_seg(&k->cs, &s->seg[X86_CS]);
    kvm_to_seg(&k->ss, &s->seg[X86_SS]);
    kvm_to_seg(&k->ds, &s->seg[X86_DS]);
    kvm_to_seg(&k->fs, &s->seg[X86_FS]);
    kvm_to_seg(&k->gs, &s->seg[X86_GS]);
    kvm_to_seg(&k->ldt, &s->ldtr);
    kvm_to_seg(&k->tr, &s->tr);
    s->gdtr = (struct x86_dtable){k->gdt.base, k->gdt.limit};
    s->idtr = (struct x86_dtable){k->idt.base, k->idt.limit};
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->efer = k->efer;
    s->cpl = level_of(k, s);
}

void kvm_from_debugregs(const struct x86_state *s, struct kvm_debugregs *k)
{
    memset(k, 0, sizeof(*k));
    memcpy(k->db, s->dr, sizeof(k->db));
    k->dr6 = s->dr6;
    k->dr7 = s->dr7;
}

/* Newer processors have bits there that our models do not. */
void kvm_to_debugregs(const struct kvm_debugregs *k, struct x86_state *s)
{
    memcpy(s->dr, k->db, sizeof(s->dr));
    s->dr6 = (k->dr6 & DR6_WRITABLE) | DR6_ONES;
    s->dr7 = (k->dr7 & DR7_WRITABLE) | DR7_ONES;
}

/* ---- x87, SSE, AVX ---- */

/* Offsets in the image (SDM vol. 1 13.4). */
#define XS_FTW    4
#define XS_FOP    6
#define XS_FIP    8
#define XS_FDP    16
#define XS_MXCSR  24
#define XS_ST     32
#define XS_XMM    160
#define XS_HEADER 512
#define XS_YMM    576

void kvm_from_fpu(const struct x86_fpu *f, u64 components, struct kvm_xsave *k)
{
    u8 *p = (u8 *)k->region;
    u64 present;

    memcpy(p, &f->fcw, 2);
    memcpy(p + 2, &f->fsw, 2);
    p[XS_FTW] = f->ftw;
    p[XS_FTW + 1] = 0;
    memcpy(p + XS_FOP, &f->fop, 2);
    memcpy(p + XS_FIP, &f->fip, 8);
    memcpy(p + XS_FDP, &f->fdp, 8);
    memcpy(p + XS_MXCSR, &f->mxcsr, 4);
    memcpy(p + XS_ST, f->st, sizeof(f->st));
    for (unsigned i = 0; i < 16; i++) {
        memcpy(p + XS_XMM + 16 * i, f->vec[i], 16);
        memcpy(p + XS_YMM + 16 * i, f->vec[i] + 16, 16);
    }
    memcpy(&present, p + XS_HEADER, 8);
    present |= components & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
    memcpy(p + XS_HEADER, &present, 8);
}

/* A component that the image leaves out is in its initial state. MXCSR is there always. */
void kvm_to_fpu(const struct kvm_xsave *k, struct x86_fpu *f)
{
    const u8 *p = (const u8 *)k->region;
    u64 components;

    memcpy(&components, p + XS_HEADER, 8);
    memset(f, 0, sizeof(*f));
    memcpy(&f->mxcsr, p + XS_MXCSR, 4);
    f->fcw = 0x37f;
    if (components & XCR0_X87) {
        memcpy(&f->fcw, p, 2);
        memcpy(&f->fsw, p + 2, 2);
        f->ftw = p[XS_FTW];
        memcpy(&f->fop, p + XS_FOP, 2);
        f->fop &= 0x7ff;
        memcpy(&f->fip, p + XS_FIP, 8);
        memcpy(&f->fdp, p + XS_FDP, 8);
        for (unsigned i = 0; i < 8; i++)
            memcpy(f->st[i], p + XS_ST + 16 * i, 10);
    }
    for (unsigned i = 0; i < 16; i++) {
        if (components & XCR0_SSE)
            memcpy(f->vec[i], p + XS_XMM + 16 * i, 16);
        if (components & XCR0_AVX)
            memcpy(f->vec[i] + 16, p + XS_YMM + 16 * i, 16);
    }
}

/* ---- events ---- */

void kvm_from_events(const struct x86_state *s, struct kvm_vcpu_events *k)
{
    memset(k, 0, sizeof(*k));
    k->interrupt.shadow = (s->shadow & X86_SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0) |
                          (s->shadow & X86_SHADOW_MOVSS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
    k->nmi.masked = !!(s->shadow & X86_BLOCK_NMI);
    k->flags = KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_NMI_PENDING;
}

/* INT3 and INTO that did not get as far as their handler are executed again: RIP is on them. */
void kvm_to_events(const struct kvm_vcpu_events *k, struct x86_state *s)
{
    u8 nr = k->exception.nr;
    bool pending = k->exception.injected || k->exception.pending;

    s->shadow = (k->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? X86_SHADOW_STI : 0) |
                (k->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? X86_SHADOW_MOVSS : 0) |
                (k->nmi.masked ? X86_BLOCK_NMI : 0);
    s->exc_pending = pending && nr < 32 && nr != X86_NMI && nr != X86_BP && nr != X86_OF;
    s->exc_vector = s->exc_pending ? nr : 0;
    s->exc_has_error = s->exc_pending && k->exception.has_error_code;
    s->exc_error = s->exc_has_error ? k->exception.error_code : 0;
    s->dr6_pending = 0;
}
