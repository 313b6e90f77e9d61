/* apic_bus.h - interrupt messages between IOAPIC, MSI sources and local APICs */
#pragma once

#include "base/limits.h"
#include "base/types.h"

struct lapic;

/* Delivery modes as encoded in ICR, LVT, IOAPIC entries and MSI data (SDM vol. 3 11.5.1,
 * 11.6.1). */
enum apic_mode {
    APIC_FIXED,
    APIC_LOWEST,
    APIC_SMI,
    APIC_RESERVED,
    APIC_NMI,
    APIC_INIT,
    APIC_STARTUP,
    APIC_EXTINT
};

#define APIC_DEST_ALL 0xffffffffu /* broadcast; 8-bit senders translate FFh to it */

struct apic_msg {
    u32 dest;
    u8 vector;
    u8 mode; /* enum apic_mode */
    bool logical;
    bool level; /* trigger mode level: the EOI is broadcast */
};

/* All local APICs of a board. Every function here and in lapic.h, ioapic.h and pic.h runs under
 * the one interrupt lock of the board. */
struct apic_bus {
    struct lapic *cpu[VCPUS_MAX];
    unsigned cpus;
};

/* 8-bit destination field -> apic_msg.dest. */
static inline u32 apic_dest8(u8 dest)
{
    return dest == 0xff ? APIC_DEST_ALL : dest;
}

/* Hands the message to every APIC it addresses, or to one of them for APIC_LOWEST. Returns how
 * many took it (0: nobody is addressed or enabled). */
unsigned apic_bus_deliver(struct apic_bus *b, const struct apic_msg *m);

/* Whether m addresses this APIC. Pure. */
bool apic_addressed(const struct lapic *l, const struct apic_msg *m);
