/* rtc.h - MC146818 real-time clock and CMOS memory */
#pragma once

#include "dev/irq.h"
#include "host/clock.h"
#include "mem/bus.h"
#include "snap/snap.h"

#define CMOS_BYTES 128

struct rtc {
    u8 index;
    bool nmi_masked;     /* port 70h bit 7 */
    u8 cmos[CMOS_BYTES]; /* the time registers hold what was last read or written */
    u8 flags;            /* register C: PF, AF, UF */
    u64 offset_ns;       /* two's complement: RTC time = wall time + offset */
    u64 seen_ns;         /* RTC time up to which flags were derived */

    struct irq_line irq;
    struct clock *clock;
    struct timer timer;
};

/* `lock` is the one the bus takes around rtc_ops; the timer takes it too. */
void rtc_init(struct rtc *r, struct clock *clock, struct lock *lock, const struct irq_line *irq);
void rtc_fini(struct rtc *r); /* without the lock */
/* RESET#: interrupt enables and flags fall; time and memory live on. */
void rtc_reset(struct rtc *r);

/* CMOS memory from the board's side, index 0Eh..7Fh (others are registers and refused). */
void rtc_cmos_set(struct rtc *r, u8 index, u8 val);
u8 rtc_cmos_get(const struct rtc *r, u8 index);

extern const struct region_ops rtc_ops; /* ports 70h-71h, dev = struct rtc */
extern const struct snap_desc rtc_snap;
