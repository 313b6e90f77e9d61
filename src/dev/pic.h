/* pic.h - 8259A interrupt controller pair */
#pragma once

#include "dev/irq.h"
#include "mem/bus.h"
#include "snap/snap.h"

/* One of the two controllers. */
struct pic_chip {
    u8 level; /* input pins, bit n = IRn asserted */
    u8 edge;  /* edge latch: a request came and was not acknowledged */
    u8 isr, imr;
    u8 elcr; /* bit set: IRn is level-triggered */
    u8 base; /* ICW2: vector of IR0 */
    u8 icw3; /* master: which inputs have slaves; slave: its id */
    u8 icw4;
    u8 init;     /* initialization sequence: next word expected (2, 3, 4), 0 = operational */
    u8 top;      /* the input that has highest priority now, 0..7 */
    bool single; /* ICW1.SNGL: no ICW3, no cascade */
    bool need_icw4;
    bool read_isr;    /* OCW3.RIS */
    bool poll;        /* OCW3.P: the next read is an acknowledge */
    bool special;     /* special mask mode */
    bool rotate_aeoi; /* rotate in automatic-EOI mode */
};

struct pic {
    struct pic_chip chip[2]; /* master, slave on the master's IR2 */
    struct irq_line intr;    /* INTR pin of the master */
};

void pic_init(struct pic *p, const struct irq_line *intr);
/* Power-on: all inputs masked and edge-triggered, vectors 08h and 70h up, where firmware puts them.
 * Input levels stay. */
void pic_reset(struct pic *p);

/* An input 0..15 changes. */
void pic_set(struct pic *p, unsigned irq, bool level);
/* The INTR pin. Pure. */
bool pic_pending(const struct pic *p);
/* The two INTA cycles: returns the vector. Without a request the vector of a spurious IR7. */
u8 pic_ack(struct pic *p);

/* Ports 20h-21h (dev = struct pic), A0h-A1h, and the edge/level control registers at 4D0h-4D1h. */
extern const struct region_ops pic_master_ops, pic_slave_ops, pic_elcr_ops;
extern const struct snap_desc pic_snap;
