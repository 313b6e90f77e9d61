/* pvclock.h - paravirtual clock of one processor (KVM's system-time and wall-clock MSRs) */
#pragma once

#include "host/clock.h"
#include "mem/mem.h"
#include "snap/snap.h"

#define MSR_PV_WALL_OLD   0x11
#define MSR_PV_SYSTEM_OLD 0x12
#define MSR_PV_WALL       0x4b564d00
#define MSR_PV_SYSTEM     0x4b564d01

struct pvclock {
    u64 system; /* last value written to the system-time MSR, either number */
    u64 wall;

    struct mem *mem;
    struct clock *clock;
};

void pvclock_init(struct pvclock *p, struct mem *mem, struct clock *clock);
void pvclock_reset(struct pvclock *p);

/* 0, or -ENOENT for MSRs that are not its own (asynchronous page faults, steal time and pv EOI
 * are not offered). A write fills the guest's structure at once; an address that is no RAM does
 * nothing. */
int pvclock_msr_read(const struct pvclock *p, u32 msr, u64 *val);
int pvclock_msr_write(struct pvclock *p, u32 msr, u64 val);

extern const struct snap_desc pvclock_snap;
