/* mptable.c - MP floating pointer and configuration table (Intel MP 1.4) */
#include <errno.h>
#include <string.h>

#include "machine/acpi.h"
#include "machine/bytes.h"
#include "machine/pc_map.h"

#define FLOATING_BYTES 16
#define HEADER_BYTES   44
#define CPUS_MAX       15 /* APIC ids have 4 bits, and the IOAPIC needs one */
#define ISA_IRQS       16

enum mp_entry { MP_CPU = 0, MP_BUS = 1, MP_IOAPIC = 2, MP_IO_INT = 3, MP_LOCAL_INT = 4 };
enum mp_int { INT_VECTORED = 0, INT_NMI = 1, INT_EXTERNAL = 3 };

#define CPU_ENABLED   BIT(0)
#define CPU_BOOT      BIT(1)
#define LAPIC_VERSION 0x14
#define ALL_LAPICS    0xff
#define CONFORMS      0
#define LEVEL_HIGH    0xd

struct mp {
    u8 *p; /* next entry */
    unsigned count;
};

static void put_cpu(struct mp *m, const struct tables_config *cfg, unsigned id)
{
    m->p[0] = MP_CPU;
    m->p[1] = (u8)id;
    m->p[2] = LAPIC_VERSION;
    m->p[3] = CPU_ENABLED | (id == 0 ? CPU_BOOT : 0);
    put_le32(m->p + 4, cfg->cpu_signature);
    put_le32(m->p + 8, cfg->cpu_features);
    m->p += 20;
    m->count++;
}

/* I/O interrupts go to an IOAPIC's pin, local ones to LINT pins; the two rows look alike. */
static void put_interrupt(struct mp *m, enum mp_entry kind, enum mp_int type, u16 flags, u8 irq,
                          u8 dest, u8 pin)
{
    m->p[0] = (u8)kind;
    m->p[1] = (u8)type;
    put_le16(m->p + 2, flags);
    m->p[4] = 0; /* the ISA bus */
    m->p[5] = irq;
    m->p[6] = dest;
    m->p[7] = pin;
    m->p += 8;
    m->count++;
}

static void put_entries(struct mp *m, const struct tables_config *cfg)
{
    u8 ioapic = (u8)PC_IOAPIC_ID(cfg->cpus);

    for (unsigned i = 0; i < cfg->cpus; i++)
        put_cpu(m, cfg, i);
    m->p[0] = MP_BUS;
    memcpy(m->p + 2, "ISA   ", 6);
    m->p += 8;
    m->p[0] = MP_IOAPIC;
    m->p[1] = ioapic;
    m->p[2] = PC_IOAPIC_VERSION;
    m->p[3] = 1; /* usable */
    put_le32(m->p + 4, (u32)PC_IOAPIC_BASE);
    m->p += 8;
    m->count += 2;
    for (u8 irq = 0; irq < ISA_IRQS; irq++) {
        if (irq == PC_GSI_PIT_OVERRIDE)
            continue; /* the cascade; its pin carries IRQ 0 */
        bool level = irq == PC_GSI_SCI || irq == PC_GSI_PCI_EVEN || irq == PC_GSI_PCI_ODD;

        put_interrupt(m, MP_IO_INT, INT_VECTORED, level ? LEVEL_HIGH : CONFORMS, irq, ioapic,
                      irq == PC_GSI_PIT ? PC_GSI_PIT_OVERRIDE : irq);
    }
    put_interrupt(m, MP_LOCAL_INT, INT_EXTERNAL, CONFORMS, 0, ALL_LAPICS, 0);
    put_interrupt(m, MP_LOCAL_INT, INT_NMI, CONFORMS, 0, ALL_LAPICS, 1);
}

int mptable_build(const struct tables_config *cfg, u8 *buf, size_t cap, u64 gpa, struct err *e)
{
    size_t bytes = FLOATING_BYTES + HEADER_BYTES + cfg->cpus * 20 + 8 + 8 + (ISA_IRQS - 1 + 2) * 8;
    u8 *h = buf + FLOATING_BYTES;
    struct mp m = {.p = h + HEADER_BYTES};

    if (cfg->cpus > CPUS_MAX)
        return 0;
    if (bytes > cap)
        return err_set(e, ENOSPC, "MP table: more than the %zu bytes set aside", cap);
    put_entries(&m, cfg);

    memcpy(h, "PCMP", 4);
    put_le16(h + 4, (u16)(m.p - h));
    h[6] = 4; /* specification 1.4 */
    memcpy(h + 8, "RING3   ", 8);
    memcpy(h + 16, "PC          ", 12);
    put_le16(h + 34, (u16)m.count);
    put_le32(h + 36, (u32)PC_LAPIC_BASE);
    h[7] = checksum8(h, (size_t)(m.p - h));

    memcpy(buf, "_MP_", 4);
    put_le32(buf + 4, (u32)(gpa + FLOATING_BYTES));
    buf[8] = 1; /* length in paragraphs */
    buf[9] = 4;
    buf[10] = checksum8(buf, FLOATING_BYTES);
    return (int)(m.p - buf);
}
