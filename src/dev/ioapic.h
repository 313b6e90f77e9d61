/* ioapic.h - I/O APIC with 24 inputs */
#pragma once

#include "base/limits.h"
#include "dev/apic_bus.h"
#include "mem/bus.h"
#include "snap/snap.h"

struct ioapic {
    u8 id;
    u8 select;            /* IOREGSEL */
    u64 entry[GSI_COUNT]; /* redirection table */
    u32 level;            /* input pins, bit n = asserted */
    struct apic_bus *bus;
    int (*extint_ack)(void *ctx); /* the 8259 pair, for entries in ExtINT mode; may be NULL */
    void *ctx;
};

/* Under the interrupt lock, as everything of ioapic.h. */
void ioapic_init(struct ioapic *io, struct apic_bus *bus, int (*extint_ack)(void *ctx), void *ctx);
void ioapic_reset(struct ioapic *io); /* input levels stay */

/* Input pin 0..23 changes. Level means asserted, whatever polarity the guest programs: boards
 * declare theirs inconsistently, and a line that is asserted is what an entry is for. */
void ioapic_set(struct ioapic *io, unsigned pin, bool level);
/* An EOI message from a local APIC. */
void ioapic_eoi(struct ioapic *io, u8 vector);

/* A message-signalled interrupt (SDM vol. 3 11.11). False when the address is no APIC's or
 * nobody took it. */
bool msi_deliver(struct apic_bus *bus, u64 addr, u32 data);

extern const struct region_ops ioapic_ops; /* one page, dev = struct ioapic */
extern const struct snap_desc ioapic_snap;
