/* apic_bus.c - who is addressed by an interrupt message (SDM vol. 3 11.6.2, 11.12.10) */
#include "dev/apic_bus.h"

#include "dev/lapic.h"

#define DFR_FLAT 0xf

static bool logical_match(const struct lapic *l, u32 dest)
{
    if (lapic_x2apic(l)) {
        u32 ldr = lapic_x2ldr(l);
        return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
    }
    u32 mine = l->ldr >> 24;
    if (dest > 0xff)
        return false;
    if (l->dfr >> 28 == DFR_FLAT)
        return mine & dest;
    return mine >> 4 == dest >> 4 && (mine & dest & 0xf);
}

bool apic_addressed(const struct lapic *l, const struct apic_msg *m)
{
    if (!lapic_on(l))
        return false;
    if (m->dest == APIC_DEST_ALL)
        return true;
    return m->logical ? logical_match(l, m->dest) : m->dest == l->id;
}

/* Lowest priority: the candidate with the smallest processor priority. Equal ones share the load by
 * vector, which needs no arbitration state. */
static unsigned deliver_lowest(struct apic_bus *b, const struct apic_msg *m)
{
    struct lapic *best[VCPUS_MAX];
    unsigned n = 0;
    u32 least = 0x100;
    for (unsigned i = 0; i < b->cpus; i++) {
        struct lapic *l = b->cpu[i];
        if (!apic_addressed(l, m) || !lapic_sw_enabled(l))
            continue;
        u32 priority = lapic_ppr(l) & 0xf0;
        if (priority < least) {
            least = priority;
            n = 0;
        }
        if (priority == least)
            best[n++] = l;
    }
    return n && lapic_accept(best[m->vector % n], m) ? 1 : 0;
}

unsigned apic_bus_deliver(struct apic_bus *b, const struct apic_msg *m)
{
    unsigned taken = 0;
    if (m->mode == APIC_LOWEST)
        return deliver_lowest(b, m);
    for (unsigned i = 0; i < b->cpus; i++) {
        if (apic_addressed(b->cpu[i], m) && lapic_accept(b->cpu[i], m))
            taken++;
    }
    return taken;
}
