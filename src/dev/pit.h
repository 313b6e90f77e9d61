/* pit.h - 8254 interval timer and the speaker port that gates its third counter */
#pragma once

#include "dev/irq.h"
#include "dev/tick.h"
#include "host/clock.h"
#include "mem/bus.h"
#include "snap/snap.h"

struct pit_channel {
    u8 mode; /* 0..5 */
    u8 rw;   /* 1 low byte, 2 high byte, 3 low then high */
    bool bcd;
    bool gate;
    bool loaded;                /* a count was written since the last control word */
    bool triggered;             /* modes 1 and 5: the gate rose since then */
    bool running;               /* elapsed time counts; false while the gate holds it */
    bool write_high, read_high; /* second byte of a two-byte access is next */
    u8 write_low;               /* first byte of a two-byte write */
    u8 latched;                 /* bytes of latched_count still to read: 0, 1 or 2 */
    u16 latched_count;
    bool status_latched;
    u8 status;
    u32 count;     /* 1..65536 (10000 in BCD): divisor in effect */
    u32 next;      /* divisor written but not in effect yet, 0 = none */
    u64 next_tick; /* when it takes effect (modes 2 and 3) */
    u64 start;     /* tick at which `held` was the elapsed count */
    u64 held;      /* ticks counted before `start` */
};

struct pit {
    struct pit_channel ch[3];
    bool speaker; /* port 61h bit 1 */
    u8 parity;    /* port 61h bits 2-3: kept, no such errors here */
    u64 edges;    /* OUT0 rising edges made since the counter was (re)started */
    struct tick tick;

    struct irq_line irq; /* OUT0 */
    struct clock *clock;
    struct timer timer;
};

/* `lock` is the one the bus takes around pit_ops and pit_port61_ops; the timer takes it too. */
void pit_init(struct pit *p, struct clock *clock, struct lock *lock, const struct irq_line *irq);
void pit_fini(struct pit *p);  /* without the lock */
void pit_reset(struct pit *p); /* counter 0 ticks at 18.2 Hz, as firmware leaves it */

/* Ports 40h-43h and 61h (dev = struct pit). */
extern const struct region_ops pit_ops, pit_port61_ops;
extern const struct snap_desc pit_snap;
