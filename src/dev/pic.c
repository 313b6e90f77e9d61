/* pic.c - 8259A interrupt controller pair (Intel 231468) with the PIIX edge/level registers */
#include "dev/pic.h"

#include <errno.h>
#include <string.h>

#define MASTER     0
#define SLAVE      1
#define CASCADE_IR 2

#define ICW1_ICW4     0x01 /* an ICW4 follows */
#define ICW1_SINGLE   0x02
#define ICW1_SELECT   0x10 /* this is an ICW1 */
#define ICW4_AEOI     0x02
#define ICW4_SFNM     0x10 /* special fully nested mode */
#define OCW3_SELECT   0x08
#define OCW3_READ     0x02 /* bit 0 chooses: */
#define OCW3_READ_ISR 0x01
#define OCW3_POLL     0x04
#define OCW3_ESMM     0x40 /* bit 5 chooses: */
#define OCW3_SMM      0x20

/* OCW2 bits 7-5: rotate, specific level, EOI */
enum ocw2 {
    OCW2_ROTATE_AEOI_CLEAR,
    OCW2_EOI,
    OCW2_NOP,
    OCW2_EOI_SPECIFIC,
    OCW2_ROTATE_AEOI_SET,
    OCW2_ROTATE_EOI,
    OCW2_SET_PRIORITY,
    OCW2_ROTATE_EOI_SPECIFIC
};

/* IRQ 0, 1, 2, 8 and 13 have no level mode (PIIX4 4.2.4, ELCR). */
static const u8 elcr_writable[2] = {0xf8, 0xde};

/* The first set bit of `bits` in the chip's priority order, or -1. */
static int first(const struct pic_chip *c, u8 bits)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (c->top + i) & 7;
        if (bits & BIT(n))
            return (int)n;
    }
    return -1;
}

static unsigned rank(const struct pic_chip *c, int n)
{
    return n < 0 ? 8 : ((unsigned)n - c->top) & 7;
}

static u8 requests(const struct pic_chip *c)
{
    return (u8)(c->edge & ~c->elcr) | (c->level & c->elcr);
}

/* The input whose request leaves the chip now, or -1: the best unmasked request that beats
 * everything in service. `nested` are in-service bits that do not block (special fully nested
 * mode). */
static int winner(const struct pic_chip *c, u8 irr, u8 nested)
{
    if (c->init)
        return -1;
    int want = first(c, irr & (u8)~c->imr);
    u8 busy = c->isr & (u8)~nested;
    if (c->special)
        busy &= (u8)~c->imr;
    return rank(c, want) < rank(c, first(c, busy)) ? want : -1;
}

static u8 slave_irr(const struct pic *p)
{
    return requests(&p->chip[SLAVE]);
}

static int slave_winner(const struct pic *p)
{
    return winner(&p->chip[SLAVE], slave_irr(p), 0);
}

/* The cascade input follows the slave's INT pin. */
static u8 master_irr(const struct pic *p)
{
    const struct pic_chip *m = &p->chip[MASTER];
    u8 irr = requests(m);
    if (m->single)
        return irr;
    irr &= (u8)~BIT(CASCADE_IR);
    return slave_winner(p) >= 0 ? irr | BIT(CASCADE_IR) : irr;
}

static int master_winner(const struct pic *p)
{
    const struct pic_chip *m = &p->chip[MASTER];
    u8 nested = (m->icw4 & ICW4_SFNM) ? BIT(CASCADE_IR) : 0;
    return winner(m, master_irr(p), nested);
}

bool pic_pending(const struct pic *p)
{
    return master_winner(p) >= 0;
}

static void update(struct pic *p)
{
    irq_set(&p->intr, pic_pending(p));
}

void pic_set(struct pic *p, unsigned irq, bool level)
{
    if (irq > 15)
        return;
    struct pic_chip *c = &p->chip[irq >> 3];
    u8 bit = (u8)BIT(irq & 7);
    /* A latched edge survives the fall of its line: sources here pulse, and a processor that is
     * late would otherwise lose ticks to the default IR7 of the data sheet. */
    if (level && !(c->level & bit))
        c->edge |= bit;
    c->level = level ? c->level | bit : c->level & (u8)~bit;
    update(p);
}

static void rotate_past(struct pic_chip *c, unsigned n)
{
    c->top = (u8)((n + 1) & 7);
}

/* One chip's part in an acknowledge of input n. */
static void take(struct pic_chip *c, unsigned n)
{
    c->edge &= (u8)~BIT(n);
    if (!(c->icw4 & ICW4_AEOI))
        c->isr |= (u8)BIT(n);
    else if (c->rotate_aeoi)
        rotate_past(c, n);
}

u8 pic_ack(struct pic *p)
{
    struct pic_chip *m = &p->chip[MASTER], *s = &p->chip[SLAVE];
    int n = master_winner(p);
    u8 vector;
    if (n < 0) {
        vector = m->base + 7;
    } else if (n == CASCADE_IR && !m->single) {
        int sn = slave_winner(p); /* >= 0: that is what drives the cascade input */
        take(m, CASCADE_IR);
        take(s, (unsigned)sn);
        vector = s->base + (u8)sn;
    } else {
        take(m, (unsigned)n);
        vector = m->base + (u8)n;
    }
    update(p);
    return vector;
}

static u8 poll_read(struct pic *p, unsigned which)
{
    struct pic_chip *c = &p->chip[which];
    int n = which == MASTER ? master_winner(p) : slave_winner(p);
    c->poll = false;
    if (n < 0)
        return 0;
    take(c, (unsigned)n);
    update(p);
    return 0x80 | (u8)n;
}

static u8 chip_read(struct pic *p, unsigned which, u64 off)
{
    struct pic_chip *c = &p->chip[which];
    if (c->poll)
        return poll_read(p, which);
    if (off == 1)
        return c->imr;
    if (c->read_isr)
        return c->isr;
    return which == MASTER ? master_irr(p) : slave_irr(p);
}

static void write_icw1(struct pic_chip *c, u8 val)
{
    c->edge = 0;
    c->isr = 0;
    c->imr = 0;
    c->top = 0;
    c->special = false;
    c->read_isr = false;
    c->poll = false;
    c->rotate_aeoi = false;
    c->icw4 = 0;
    c->single = val & ICW1_SINGLE;
    c->need_icw4 = val & ICW1_ICW4;
    c->init = 2; /* ICW1.LTIM is ignored: the edge/level registers replace it on this board */
}

static void end_of_interrupt(struct pic_chip *c, int n, bool rotate)
{
    if (n < 0)
        return;
    c->isr &= (u8)~BIT(n);
    if (rotate)
        rotate_past(c, (unsigned)n);
}

static void write_ocw2(struct pic_chip *c, u8 val)
{
    unsigned n = val & 7;
    /* In special mask mode a masked in-service bit is not found by a non-specific EOI. */
    int served = first(c, c->special ? c->isr & (u8)~c->imr : c->isr);
    switch ((enum ocw2)(val >> 5)) {
    case OCW2_ROTATE_AEOI_CLEAR: c->rotate_aeoi = false; break;
    case OCW2_ROTATE_AEOI_SET: c->rotate_aeoi = true; break;
    case OCW2_EOI: end_of_interrupt(c, served, false); break;
    case OCW2_ROTATE_EOI: end_of_interrupt(c, served, true); break;
    case OCW2_EOI_SPECIFIC: end_of_interrupt(c, (int)n, false); break;
    case OCW2_ROTATE_EOI_SPECIFIC: end_of_interrupt(c, (int)n, true); break;
    case OCW2_SET_PRIORITY: rotate_past(c, n); break;
    case OCW2_NOP: break;
    }
}

static void write_ocw3(struct pic_chip *c, u8 val)
{
    if (val & OCW3_ESMM)
        c->special = val & OCW3_SMM;
    if (val & OCW3_READ)
        c->read_isr = val & OCW3_READ_ISR;
    if (val & OCW3_POLL)
        c->poll = true;
}

/* ICW2..ICW4 and OCW1 share a port; the sequence tells them apart. */
static void write_data(struct pic_chip *c, u8 val)
{
    switch (c->init) {
    case 0: c->imr = val; break;
    case 2:
        c->base = val & 0xf8;
        c->init = !c->single ? 3 : c->need_icw4 ? 4 : 0;
        break;
    case 3:
        c->icw3 = val;
        c->init = c->need_icw4 ? 4 : 0;
        break;
    default:
        c->icw4 = val & 0x1f;
        c->init = 0;
        break;
    }
}

static void chip_write(struct pic *p, unsigned which, u64 off, u8 val)
{
    struct pic_chip *c = &p->chip[which];
    if (off == 1)
        write_data(c, val);
    else if (val & ICW1_SELECT)
        write_icw1(c, val);
    else if (val & OCW3_SELECT)
        write_ocw3(c, val);
    else
        write_ocw2(c, val);
    update(p);
}

static u64 master_read(void *dev, u64 off, unsigned size)
{
    return chip_read(dev, MASTER, off);
}

static void master_write(void *dev, u64 off, unsigned size, u64 val)
{
    chip_write(dev, MASTER, off, (u8)val);
}

static u64 slave_read(void *dev, u64 off, unsigned size)
{
    return chip_read(dev, SLAVE, off);
}

static void slave_write(void *dev, u64 off, unsigned size, u64 val)
{
    chip_write(dev, SLAVE, off, (u8)val);
}

static u64 elcr_read(void *dev, u64 off, unsigned size)
{
    struct pic *p = dev;
    return p->chip[off & 1].elcr;
}

static void elcr_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct pic *p = dev;
    p->chip[off & 1].elcr = (u8)val & elcr_writable[off & 1];
    update(p);
}

const struct region_ops pic_master_ops = {master_read, master_write, 1, 4, 1, 1, true};
const struct region_ops pic_slave_ops = {slave_read, slave_write, 1, 4, 1, 1, true};
const struct region_ops pic_elcr_ops = {elcr_read, elcr_write, 1, 4, 1, 1, true};

#define CHIP_FIELDS(i)                                                                   \
    SNAP_U8(struct pic, chip[i].level), SNAP_U8(struct pic, chip[i].edge),               \
        SNAP_U8(struct pic, chip[i].isr), SNAP_U8(struct pic, chip[i].imr),              \
        SNAP_U8(struct pic, chip[i].elcr), SNAP_U8(struct pic, chip[i].base),            \
        SNAP_U8(struct pic, chip[i].icw3), SNAP_U8(struct pic, chip[i].icw4),            \
        SNAP_U8(struct pic, chip[i].init), SNAP_U8(struct pic, chip[i].top),             \
        SNAP_BOOL(struct pic, chip[i].single), SNAP_BOOL(struct pic, chip[i].need_icw4), \
        SNAP_BOOL(struct pic, chip[i].read_isr), SNAP_BOOL(struct pic, chip[i].poll),    \
        SNAP_BOOL(struct pic, chip[i].special), SNAP_BOOL(struct pic, chip[i].rotate_aeoi)

static const struct snap_field pic_fields[] = {CHIP_FIELDS(0), CHIP_FIELDS(1), SNAP_END};

static int pic_check(const void *scratch, struct err *e)
{
    const struct pic *p = scratch;
    for (unsigned i = 0; i < 2; i++) {
        const struct pic_chip *c = &p->chip[i];
        if (c->init > 4 || c->init == 1)
            return err_set(e, EINVAL, "pic %u: init step %u", i, c->init);
        if (c->top > 7 || (c->base & 7))
            return err_set(e, EINVAL, "pic %u: priority %u or base %#x", i, c->top, c->base);
        if (c->elcr & ~elcr_writable[i])
            return err_set(e, EINVAL, "pic %u: elcr %#x", i, c->elcr);
    }
    return 0;
}

static void pic_loaded(void *obj)
{
    update(obj);
}

const struct snap_desc pic_snap = {"pic",      1,   sizeof(struct pic), pic_fields, pic_check,
                                   pic_loaded, NULL};

void pic_reset(struct pic *p)
{
    for (unsigned i = 0; i < 2; i++) {
        u8 level = p->chip[i].level;
        memset(&p->chip[i], 0, sizeof(p->chip[i]));
        p->chip[i].level = level;
        p->chip[i].imr = 0xff; /* undefined on the chip; a guest without firmware must not be hit */
        p->chip[i].base = i == MASTER ? 0x08 : 0x70; /* as firmware leaves them */
    }
    update(p);
}

void pic_init(struct pic *p, const struct irq_line *intr)
{
    memset(p, 0, sizeof(*p));
    p->intr = *intr;
    pic_reset(p);
}
