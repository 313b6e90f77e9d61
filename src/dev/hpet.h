/* hpet.h - high precision event timer block with three comparators */
#pragma once

#include "dev/irq.h"
#include "dev/tick.h"
#include "host/clock.h"
#include "mem/bus.h"
#include "snap/snap.h"

#define HPET_TIMERS 3

struct hpet_timer {
    u64 config;
    u64 comparator; /* next match */
    u64 period;     /* periodic mode: what is added after each match */
    bool set_value; /* the next comparator write sets the accumulator too */
    bool fired;     /* a one-shot match was delivered for this comparator value */
    struct tick tick;
};

/* Where interrupts go. `legacy` n is 0 (IRQ 0) or 1 (IRQ 8). Called with the lock held. */
struct hpet_host {
    void (*gsi)(void *ctx, unsigned timer, unsigned gsi, bool level);
    void (*legacy)(void *ctx, unsigned n, bool level);
    void (*legacy_mode)(void *ctx, bool on); /* on: 8254 and RTC are cut off from IRQ 0 and 8 */
    void *ctx;
};

struct hpet {
    u64 config, status;
    u64 counter; /* main counter at start_ns, or now while halted */
    u64 start_ns;
    struct hpet_timer timers[HPET_TIMERS];

    bool line[HPET_TIMERS]; /* derived: what each timer drives */
    u32 routes;             /* GSIs a timer may be routed to */
    struct hpet_host host;
    struct clock *clock;
    struct timer timer;
};

/* `lock` is the one the bus takes around hpet_ops; the timer takes it too. */
void hpet_init(struct hpet *h, struct clock *clock, struct lock *lock, u32 routes,
               const struct hpet_host *host);
void hpet_fini(struct hpet *h); /* without the lock */
void hpet_reset(struct hpet *h);

extern const struct region_ops hpet_ops; /* 400h bytes, dev = struct hpet */
extern const struct snap_desc hpet_snap;
