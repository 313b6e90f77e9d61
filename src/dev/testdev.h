/* testdev.h - the device that x86 conformance suites expect (pc-testdev) */
#pragma once

#include "mem/bus.h"
#include "snap/snap.h"

#define TESTDEV_MMIO_BYTES 0x10000u
#define TESTDEV_IRQS       24

struct testdev {
    u32 latch;     /* ports E0h-E3h and, byte by byte, E8h-EBh */
    u32 irq_level; /* lines set through 2000h + GSI */
    u8 scratch[TESTDEV_MMIO_BYTES];

    void (*irq)(void *ctx, unsigned gsi, bool level); /* called with the lock held */
    void *ctx;
};

void testdev_init(struct testdev *t, void (*irq)(void *ctx, unsigned gsi, bool level), void *ctx);
void testdev_reset(struct testdev *t);

/* E0h: the latch in any size; E4h: flush page (nothing to do here); E8h: the latch by bytes;
 * 2000h-2017h: interrupt lines; 64 KiB of MMIO memory. */
extern const struct region_ops testdev_latch_ops, testdev_flush_ops, testdev_byte_ops,
    testdev_irq_ops, testdev_mmio_ops;
extern const struct snap_desc testdev_snap;
