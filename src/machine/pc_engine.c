/* pc_engine.c - what an engine does by itself for the board: interrupt controllers, eventfds
 *
 * The board's chips are what is saved, loaded and looked at. As vCPUs start to run their state goes
 * to the engine's, as they stop it comes back; in between lines and messages go there too. */
#include <string.h>

#include "machine/pc_priv.h"

/* ---- state ---- */

static void lapic_to_engine(struct lapic *l, struct irqchip_lapic *out)
{
    *out = (struct irqchip_lapic){
        .base = l->base,
        .tpr = l->tpr,
        .ldr = l->ldr,
        .dfr = l->dfr,
        .svr = l->svr,
        .esr = l->esr,
        .icr = l->icr,
        .divide = l->divide,
        .initial = l->initial,
        .count = lapic_timer_count(l),
        .deadline = l->deadline,
        .nmis = l->nmi & NMI_COUNT,
    };
    memcpy(out->lvt, l->lvt, sizeof(out->lvt));
    memcpy(out->irr, l->irr, sizeof(out->irr));
    memcpy(out->isr, l->isr, sizeof(out->isr));
    memcpy(out->tmr, l->tmr, sizeof(out->tmr));
}

static void lapic_from_engine(const struct irqchip_lapic *in, struct lapic *l, bool lint0)
{
    l->base = in->base;
    l->tpr = in->tpr;
    l->ldr = in->ldr;
    l->dfr = in->dfr;
    l->svr = in->svr;
    l->esr = in->esr;
    l->errors = 0;
    l->icr = in->icr;
    memcpy(l->lvt, in->lvt, sizeof(l->lvt));
    memcpy(l->irr, in->irr, sizeof(l->irr));
    memcpy(l->isr, in->isr, sizeof(l->isr));
    memcpy(l->tmr, in->tmr, sizeof(l->tmr));
    l->nmi = in->nmis;
    l->lint0 = lint0;
    l->divide = in->divide;
    l->initial = in->initial;
    l->count = in->count;
    l->count_ns = clock_now_ns(l->clock);
    l->periods = 0;
    l->tick.backlog = 0;
    l->deadline = in->deadline;
}

static void pic_to_engine(const struct pic_chip *c, struct irqchip_pic *out)
{
    *out = (struct irqchip_pic){.level = c->level,
                                .edge = c->edge,
                                .isr = c->isr,
                                .imr = c->imr,
                                .elcr = c->elcr,
                                .base = c->base,
                                .icw4 = c->icw4,
                                .init = c->init,
                                .top = c->top,
                                .need_icw4 = c->need_icw4,
                                .read_isr = c->read_isr,
                                .poll = c->poll,
                                .special = c->special,
                                .rotate_aeoi = c->rotate_aeoi};
}

/* Whether a chip is alone, and where its slaves are, no engine says. */
static void pic_from_engine(const struct irqchip_pic *in, struct pic_chip *c)
{
    c->edge = in->edge;
    c->isr = in->isr;
    c->imr = in->imr;
    c->elcr = in->elcr;
    c->base = in->base;
    c->icw4 = in->icw4;
    c->init = in->init;
    c->top = in->top;
    c->need_icw4 = in->need_icw4;
    c->read_isr = in->read_isr;
    c->poll = in->poll;
    c->special = in->special;
    c->rotate_aeoi = in->rotate_aeoi;
}

static void fill_locked(struct pc *pc, struct irqchip_state *s)
{
    for (unsigned i = 0; i < pc->cfg.cpus; i++)
        lapic_to_engine(&pc->cpu[i].lapic, &s->lapic[i]);
    s->ioapic.id = pc->ioapic.id;
    s->ioapic.select = pc->ioapic.select;
    s->ioapic.level = pc->ioapic.level;
    memcpy(s->ioapic.entry, pc->ioapic.entry, sizeof(s->ioapic.entry));
    for (unsigned i = 0; i < 2; i++)
        pic_to_engine(&pc->pic.chip[i], &s->pic[i]);
}

/* Levels are the wires'; the chips have not seen them change. */
static void take_locked(struct pc *pc, const struct irqchip_state *s)
{
    pc->ioapic.id = s->ioapic.id;
    pc->ioapic.select = s->ioapic.select;
    memcpy(pc->ioapic.entry, s->ioapic.entry, sizeof(pc->ioapic.entry));
    for (unsigned i = 0; i < 2; i++)
        pic_from_engine(&s->pic[i], &pc->pic.chip[i]);
    pc_irq_levels(pc);
    for (unsigned i = 0; i < pc->cfg.cpus; i++)
        lapic_from_engine(&s->lapic[i], &pc->cpu[i].lapic, pic_pending(&pc->pic));
    pic_snap.loaded(&pc->pic);
    for (unsigned i = 0; i < pc->cfg.cpus; i++)
        lapic_snap.loaded(&pc->cpu[i].lapic);
}

/* ---- running and not ---- */

int pc_irqchip_start(struct pc *pc, struct err *e)
{
    struct irqchip_state s = {0};
    int rc;

    if (!pc->irqchip || pc->irqchip_runs)
        return 0;
    lock_take(&pc->irq_lock);
    fill_locked(pc, &s);
    rc = pc->irqchip->set(pc->engine_vm, &s, e);
    if (!rc) {
        for (unsigned i = 0; i < pc->cfg.cpus; i++)
            timer_disarm(&pc->cpu[i].lapic.timer);
        __atomic_store_n(&pc->irqchip_runs, true, __ATOMIC_SEQ_CST);
    }
    lock_drop(&pc->irq_lock);
    if (!rc)
        pci_bus_irqfds(&pc->pci, true);
    return rc;
}

int pc_irqchip_stop(struct pc *pc, struct err *e)
{
    struct irqchip_state s = {0};
    int rc;

    if (!pc->irqchip || !pc->irqchip_runs)
        return 0;
    pci_bus_irqfds(&pc->pci, false);
    rc = pc->irqchip->get(pc->engine_vm, &s, e);
    if (rc)
        return rc;
    lock_take(&pc->irq_lock);
    __atomic_store_n(&pc->irqchip_runs, false, __ATOMIC_SEQ_CST);
    take_locked(pc, &s);
    lock_drop(&pc->irq_lock);
    return 0;
}

/* ---- life ---- */

static void take_irqchip(struct pc *pc)
{
    pc->irqchip = pc->engine->irqchip ? pc->engine->irqchip(pc->engine_vm) : NULL;
    if (!pc->irqchip)
        return;
    pc_unclaim(pc, pc->cfg.pio, PC_PORT_PIC_MASTER);
    pc_unclaim(pc, pc->cfg.pio, PC_PORT_PIC_SLAVE);
    pc_unclaim(pc, pc->cfg.pio, PC_PORT_ELCR);
    pc_unclaim(pc, pc->cfg.mmio, PC_IOAPIC_BASE);
    pc_unclaim(pc, pc->cfg.mmio, PC_LAPIC_BASE);
}

bool pc_engine_attach(struct pc *pc, const struct engine *engine, struct engine_vm *vm)
{
    pc->engine = engine;
    pc->engine_vm = vm;
    take_irqchip(pc);
    if (engine->ioeventfd)
        pci_bus_ioeventfds(&pc->pci, true);
    return pc->irqchip != NULL;
}

void pc_engine_detach(struct pc *pc)
{
    if (pc->engine && pc->engine->ioeventfd)
        pci_bus_ioeventfds(&pc->pci, false);
    if (pc->irqchip_runs)
        pci_bus_irqfds(&pc->pci, false);
    pc->irqchip_runs = false;
    pc->irqchip = NULL;
    pc->engine = NULL;
}
