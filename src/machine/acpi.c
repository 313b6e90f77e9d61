/* acpi.c - ACPI tables of the board (ACPI 6.4, chapter 5; IA-PC HPET 1.0a, 3.2.4) */
#include "machine/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "machine/bytes.h"
#include "machine/pc_map.h"

#define OEM_ID        "RING3 "
#define OEM_TABLE     "RING3PC "
#define HEADER_BYTES  36
#define RSDP_BYTES    36
#define FACS_BYTES    64
#define FADT_BYTES    276
#define HPET_BYTES    56
#define MCFG_BYTES    60
#define FADT_REVISION 6
#define MADT_REVISION 5

/* Generic address structure: space, bit width, bit offset, access size, u64 address. */
#define GAS_IO     1
#define GAS_MEMORY 0

#define FADT_LEGACY_DEVICES BIT(0)
#define FADT_8042           BIT(1)
#define FADT_NO_VGA         BIT(2)

#define FADT_WBINVD          BIT(0)
#define FADT_PROC_C1         BIT(2)
#define FADT_NO_SLEEP_BUTTON BIT(5)
#define FADT_NO_FIXED_RTC    BIT(6)
#define FADT_TMR_32BIT       BIT(8)
#define FADT_RESET_REG       BIT(10)

#define CMOS_CENTURY 0x32

#define MADT_PCAT_COMPAT BIT(0)
#define MADT_LAPIC       0
#define MADT_IOAPIC      1
#define MADT_OVERRIDE    2
#define MADT_LAPIC_NMI   4
#define MADT_ENABLED     BIT(0)
#define MPS_CONFORMS     0
#define MPS_LEVEL_HIGH   0xd /* polarity 01: active high; trigger 11: level */

struct tables {
    const struct tables_config *cfg;
    u8 *buf;
    size_t cap, len;
    u64 gpa;
    bool failed;
};

/* Reserves n zeroed bytes; the returned offset is 0 (the RSDP's) on failure. */
static size_t take(struct tables *t, size_t n, size_t align)
{
    size_t at = align_up(t->len, align);

    if (t->failed || at > t->cap || n > t->cap - at) {
        t->failed = true;
        return 0;
    }
    t->len = at + n;
    return at;
}

static size_t begin(struct tables *t, const char *signature, u8 revision, size_t bytes)
{
    size_t at = take(t, bytes, 16);
    u8 *p = t->buf + at;

    if (t->failed)
        return 0;
    memcpy(p, signature, 4);
    put_le32(p + 4, (u32)bytes);
    p[8] = revision;
    memcpy(p + 10, OEM_ID, 6);
    memcpy(p + 16, OEM_TABLE, 8);
    put_le32(p + 24, 1);
    memcpy(p + 28, "RNG3", 4);
    put_le32(p + 32, 1);
    return at;
}

static void finish(struct tables *t, size_t at)
{
    u8 *p = t->buf + at;

    if (t->failed)
        return;
    p[9] = 0;
    p[9] = checksum8(p, get_le32(p + 4));
}

static void put_gas(u8 *p, u8 space, u8 bits, u8 access, u64 address)
{
    p[0] = space;
    p[1] = bits;
    p[3] = access;
    put_le64(p + 4, address);
}

static size_t build_facs(struct tables *t)
{
    size_t at = take(t, FACS_BYTES, 64);
    u8 *p = t->buf + at;

    if (t->failed)
        return 0;
    memcpy(p, "FACS", 4);
    put_le32(p + 4, FACS_BYTES);
    p[32] = 2; /* version */
    return at;
}

static size_t build_dsdt(struct tables *t)
{
    size_t at = begin(t, "DSDT", 2, HEADER_BYTES);
    struct aml a;

    if (t->failed)
        return 0;
    aml_init(&a, t->buf + t->len, t->cap - t->len);
    dsdt_build(t->cfg, &a);
    if (a.failed) {
        t->failed = true;
        return 0;
    }
    t->len += a.len;
    put_le32(t->buf + at + 4, (u32)(HEADER_BYTES + a.len));
    finish(t, at);
    return at;
}

static void fadt_blocks(u8 *p)
{
    put_le32(p + 56, PC_PORT_PM1_EVT);
    put_le32(p + 64, PC_PORT_PM1_CNT);
    put_le32(p + 76, PC_PORT_PM_TMR);
    put_le32(p + 80, PC_PORT_GPE0);
    p[88] = 4; /* PM1_EVT_LEN */
    p[89] = 2; /* PM1_CNT_LEN */
    p[91] = 4; /* PM_TMR_LEN */
    p[92] = PC_GPE0_BYTES;
    put_gas(p + 148, GAS_IO, 32, 2, PC_PORT_PM1_EVT);
    put_gas(p + 172, GAS_IO, 16, 2, PC_PORT_PM1_CNT);
    put_gas(p + 208, GAS_IO, 32, 3, PC_PORT_PM_TMR);
    put_gas(p + 220, GAS_IO, PC_GPE0_BYTES * 8, 1, PC_PORT_GPE0);
}

static size_t build_fadt(struct tables *t, size_t facs, size_t dsdt)
{
    size_t at = begin(t, "FACP", FADT_REVISION, FADT_BYTES);
    u8 *p = t->buf + at;

    if (t->failed)
        return 0;
    put_le32(p + 36, (u32)(t->gpa + facs));
    put_le32(p + 40, (u32)(t->gpa + dsdt));
    put_le64(p + 140, t->gpa + dsdt);
    put_le16(p + 46, PC_GSI_SCI);
    fadt_blocks(p);
    put_le16(p + 96, 0xfff); /* P_LVL2_LAT: no C2 */
    put_le16(p + 98, 0xfff); /* P_LVL3_LAT: no C3 */
    p[108] = CMOS_CENTURY;
    put_le16(p + 109, FADT_LEGACY_DEVICES | FADT_8042 | FADT_NO_VGA);
    put_le32(p + 112, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
                          FADT_TMR_32BIT | FADT_RESET_REG);
    put_gas(p + 116, GAS_IO, 8, 1, PC_PORT_RESET);
    p[128] = PC_RESET_VALUE;
    memcpy(p + 268, "ring3   ", 8);
    finish(t, at);
    return at;
}

static void madt_override(u8 *p, u8 irq, u32 gsi, u16 flags)
{
    p[0] = MADT_OVERRIDE;
    p[1] = 10;
    p[3] = irq;
    put_le32(p + 4, gsi);
    put_le16(p + 8, flags);
}

static size_t build_madt(struct tables *t)
{
    unsigned cpus = t->cfg->cpus;
    size_t at = begin(t, "APIC", MADT_REVISION, HEADER_BYTES + 8 + cpus * 8 + 12 + 4 * 10 + 6);
    u8 *p = t->buf + at + HEADER_BYTES;

    if (t->failed)
        return 0;
    put_le32(p, (u32)PC_LAPIC_BASE);
    put_le32(p + 4, MADT_PCAT_COMPAT);
    p += 8;
    for (unsigned i = 0; i < cpus; i++, p += 8) {
        p[0] = MADT_LAPIC;
        p[1] = 8;
        p[2] = (u8)i; /* _UID of the processor device */
        p[3] = (u8)i; /* APIC id */
        put_le32(p + 4, MADT_ENABLED);
    }
    p[0] = MADT_IOAPIC;
    p[1] = 12;
    p[2] = (u8)PC_IOAPIC_ID(cpus);
    put_le32(p + 4, (u32)PC_IOAPIC_BASE);
    p += 12;
    madt_override(p, PC_GSI_PIT, PC_GSI_PIT_OVERRIDE, MPS_CONFORMS);
    madt_override(p + 10, PC_GSI_SCI, PC_GSI_SCI, MPS_LEVEL_HIGH);
    madt_override(p + 20, PC_GSI_PCI_EVEN, PC_GSI_PCI_EVEN, MPS_LEVEL_HIGH);
    madt_override(p + 30, PC_GSI_PCI_ODD, PC_GSI_PCI_ODD, MPS_LEVEL_HIGH);
    p += 40;
    p[0] = MADT_LAPIC_NMI;
    p[1] = 6;
    p[2] = 0xff; /* all processors */
    p[5] = 1;    /* LINT1 */
    finish(t, at);
    return at;
}

/* PCI Firmware Specification 3.0, 4.1.2: the ECAM region of segment 0 */
static size_t build_mcfg(struct tables *t)
{
    size_t at = begin(t, "MCFG", 1, MCFG_BYTES);
    u8 *p = t->buf + at + HEADER_BYTES;

    if (t->failed)
        return 0;
    put_le64(p + 8, PC_PCI_ECAM);
    p[8 + 11] = PC_PCI_BUSES - 1; /* the last bus */
    finish(t, at);
    return at;
}

static size_t build_hpet(struct tables *t)
{
    size_t at = begin(t, "HPET", 1, HPET_BYTES);
    u8 *p = t->buf + at;

    if (t->failed)
        return 0;
    put_le32(p + 36, PC_HPET_ID);
    put_gas(p + 40, GAS_MEMORY, 0, 0, PC_HPET_BASE);
    put_le16(p + 53, 128); /* shortest periodic interval, in ticks, that loses none */
    finish(t, at);
    return at;
}

/* RSDT (4-byte entries) or XSDT (8-byte ones). */
static size_t build_root(struct tables *t, bool wide, const size_t *entry, size_t n)
{
    size_t each = wide ? 8 : 4;
    size_t at = begin(t, wide ? "XSDT" : "RSDT", 1, HEADER_BYTES + n * each);
    u8 *p = t->buf + at + HEADER_BYTES;

    for (size_t i = 0; i < n && !t->failed; i++) {
        if (wide)
            put_le64(p + i * 8, t->gpa + entry[i]);
        else
            put_le32(p + i * 4, (u32)(t->gpa + entry[i]));
    }
    finish(t, at);
    return at;
}

int acpi_build(const struct tables_config *cfg, u8 *buf, size_t cap, u64 gpa, struct err *e)
{
    struct tables t = {.cfg = cfg, .buf = buf, .cap = cap, .gpa = gpa};
    size_t facs, dsdt, entry[4], rsdt, xsdt;

    take(&t, RSDP_BYTES, 16);
    facs = build_facs(&t);
    dsdt = build_dsdt(&t);
    entry[0] = build_fadt(&t, facs, dsdt);
    entry[1] = build_madt(&t);
    entry[2] = build_hpet(&t);
    entry[3] = build_mcfg(&t);
    rsdt = build_root(&t, false, entry, ARRAY_SIZE(entry));
    xsdt = build_root(&t, true, entry, ARRAY_SIZE(entry));
    if (t.failed)
        return err_set(e, ENOSPC, "ACPI tables: more than the %zu bytes set aside", cap);
    memcpy(buf, "RSD PTR ", 8);
    memcpy(buf + 9, OEM_ID, 6);
    buf[15] = 2; /* revision */
    put_le32(buf + 16, (u32)(gpa + rsdt));
    put_le32(buf + 20, RSDP_BYTES);
    put_le64(buf + 24, gpa + xsdt);
    buf[8] = checksum8(buf, 20);
    buf[32] = checksum8(buf, RSDP_BYTES);
    return (int)t.len;
}
