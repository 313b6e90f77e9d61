/* chips.c - between KVM's interrupt controllers and irqchip.h; pure */
#include "engine/kvm/chips.h"

#include <string.h>

/* ---- local APIC ---- */

/* Offsets in the page (SDM vol. 3 table 11-1). */
#define REG_ID       0x020
#define REG_TPR      0x080
#define REG_LDR      0x0d0
#define REG_DFR      0x0e0
#define REG_SVR      0x0f0
#define REG_ISR      0x100
#define REG_TMR      0x180
#define REG_IRR      0x200
#define REG_ESR      0x280
#define REG_ICR      0x300
#define REG_ICR_HIGH 0x310
#define REG_LVT      0x320
#define REG_INITIAL  0x380
#define REG_CURRENT  0x390
#define REG_DIVIDE   0x3e0
#define REG_STEP     0x10

#define BASE_EXTD         BIT(10)
#define ICR_BUSY          BIT(12)
#define LVT_BITS          0x7a7ffu /* less delivery status and remote IRR */
#define LVT_MASKED        BIT(16)
#define LVT_MODE          (3u << 17)
#define LVT_MODE_PERIODIC (1u << 17)
#define LVT_MODE_DEADLINE (2u << 17)
#define DIVIDE_BITS       0xbu
#define VECTORS_LEGAL_LOW 0xffff0000u /* of the first 32 */

static u32 get(const struct kvm_lapic_state *k, unsigned reg)
{
    u32 val;

    memcpy(&val, k->regs + reg, sizeof(val));
    return val;
}

static void put(struct kvm_lapic_state *k, unsigned reg, u32 val)
{
    memcpy(k->regs + reg, &val, sizeof(val));
}

static bool one_shot(const struct irqchip_lapic *l)
{
    u32 mode = l->lvt[0] & LVT_MODE;

    return mode != LVT_MODE_PERIODIC && mode != LVT_MODE_DEADLINE;
}

/* A one-shot count that has run out would run out again in the kernel: it gets none. */
void kvm_from_lapic(const struct irqchip_lapic *l, struct kvm_lapic_state *k)
{
    u32 initial = one_shot(l) && !l->count ? 0 : l->initial;

    memset(k, 0, sizeof(*k));
    put(k, REG_TPR, l->tpr);
    put(k, REG_LDR, l->ldr);
    put(k, REG_DFR, l->dfr);
    put(k, REG_SVR, l->svr);
    put(k, REG_ESR, l->esr);
    put(k, REG_ICR, (u32)l->icr);
    put(k, REG_ICR_HIGH, (u32)(l->icr >> 32));
    for (unsigned i = 0; i < IRQCHIP_LVTS; i++)
        put(k, REG_LVT + REG_STEP * i, l->lvt[i]);
    for (unsigned i = 0; i < 8; i++) {
        put(k, REG_IRR + REG_STEP * i, l->irr[i]);
        put(k, REG_ISR + REG_STEP * i, l->isr[i]);
        put(k, REG_TMR + REG_STEP * i, l->tmr[i]);
    }
    put(k, REG_DIVIDE, l->divide);
    put(k, REG_INITIAL, initial);
    put(k, REG_CURRENT, initial ? l->count : 0);
}

/* A one-shot count that has run out may have its interrupt still on the way, which the page does
 * not say: better one too many than none. */
static void settle_one_shot(struct irqchip_lapic *l)
{
    u32 vector = l->lvt[0] & 0xff;

    if (one_shot(l) && l->initial && !l->count && !(l->lvt[0] & LVT_MASKED) && vector >= 16)
        l->irr[vector / 32] |= BIT(vector % 32);
}

void kvm_to_lapic(const struct kvm_lapic_state *k, struct irqchip_lapic *l)
{
    l->tpr = get(k, REG_TPR) & 0xff;
    if (!(l->base & BASE_EXTD)) {
        l->ldr = get(k, REG_LDR);
        l->dfr = get(k, REG_DFR);
    }
    l->svr = get(k, REG_SVR);
    l->esr = get(k, REG_ESR) & 0xff;
    l->icr = (get(k, REG_ICR) & ~ICR_BUSY) | (u64)get(k, REG_ICR_HIGH) << 32;
    for (unsigned i = 0; i < IRQCHIP_LVTS; i++)
        l->lvt[i] = get(k, REG_LVT + REG_STEP * i) & LVT_BITS;
    for (unsigned i = 0; i < 8; i++) {
        u32 legal = i ? UINT32_MAX : VECTORS_LEGAL_LOW;

        l->irr[i] = get(k, REG_IRR + REG_STEP * i) & legal;
        l->isr[i] = get(k, REG_ISR + REG_STEP * i) & legal;
        l->tmr[i] = get(k, REG_TMR + REG_STEP * i);
    }
    l->divide = get(k, REG_DIVIDE) & DIVIDE_BITS;
    l->initial = get(k, REG_INITIAL);
    l->count = MIN(get(k, REG_CURRENT), l->initial);
    settle_one_shot(l);
}

/* ---- IOAPIC ---- */

#define RTE_BITS       0xff0000000001efffull /* less delivery status */
#define RTE_REMOTE_IRR BIT64(14)
#define RTE_LEVEL      BIT64(15)

/* The kernel makes an edge of each input that it is told is up. Those of level entries are told it
 * afterwards, as lines. */
void kvm_from_ioapic(const struct irqchip_ioapic *io, struct kvm_ioapic_state *k)
{
    memset(k, 0, sizeof(*k));
    k->base_address = 0xfec00000;
    k->id = io->id;
    k->ioregsel = io->select;
    for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
        k->redirtbl[i].bits = io->entry[i];
}

void kvm_to_ioapic(const struct kvm_ioapic_state *k, struct irqchip_ioapic *io)
{
    io->id = k->id & 15;
    io->select = (u8)k->ioregsel;
    for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
        u64 entry = k->redirtbl[i].bits & RTE_BITS;

        io->entry[i] = entry & RTE_LEVEL ? entry : entry & ~RTE_REMOTE_IRR;
    }
}

/* ---- 8259 ---- */

#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10

/* In level mode the kernel keeps a request as long as the input is up, in edge mode as a latch; the
 * initialization's steps count from 1 there. */
void kvm_from_pic(const struct irqchip_pic *p, struct kvm_pic_state *k)
{
    k->last_irr = p->level;
    k->irr = (u8)(p->edge & ~p->elcr) | (p->level & p->elcr);
    k->imr = p->imr;
    k->isr = p->isr;
    k->priority_add = p->top;
    k->irq_base = p->base;
    k->read_reg_select = p->read_isr;
    k->poll = p->poll;
    k->special_mask = p->special;
    k->init_state = p->init ? p->init - 1 : 0;
    k->auto_eoi = !!(p->icw4 & ICW4_AEOI);
    k->rotate_on_auto_eoi = p->rotate_aeoi;
    k->special_fully_nested_mode = !!(p->icw4 & ICW4_SFNM);
    k->init4 = p->need_icw4;
    k->elcr = p->elcr;
}

void kvm_to_pic(const struct kvm_pic_state *k, struct irqchip_pic *p)
{
    p->edge = k->irr & (u8)~k->elcr;
    p->imr = k->imr;
    p->isr = k->isr;
    p->top = k->priority_add & 7;
    p->base = k->irq_base & 0xf8;
    p->read_isr = k->read_reg_select;
    p->poll = k->poll;
    p->special = k->special_mask;
    p->init = k->init_state ? (k->init_state & 3) + 1 : 0;
    p->icw4 = (k->auto_eoi ? ICW4_AEOI : 0) | (k->special_fully_nested_mode ? ICW4_SFNM : 0) | 1;
    p->rotate_aeoi = k->rotate_on_auto_eoi;
    p->need_icw4 = k->init4;
    p->elcr = k->elcr;
}
