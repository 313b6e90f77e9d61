/* firmware.c - what a firmware would have left in the first megabyte */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/acpi.h"
#include "machine/bytes.h"
#include "machine/layout.h"
#include "machine/machine_priv.h"
#include "machine/pc_map.h"

/* BIOS data area: the fields that operating systems still look at. */
static int write_bda(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    static const u16 port[MACHINE_SERIALS] = {PC_PORT_COM1, PC_PORT_COM2, PC_PORT_COM3,
                                              PC_PORT_COM4};
    static const u8 ebda_kib = 1;
    u8 bda[0x100] = {0};
    unsigned coms = 0;

    for (unsigned i = 0; i < MACHINE_SERIALS; i++)
        if (cfg->serial[i])
            put_le16(bda + 2 * coms++, port[i]);
    put_le16(bda + 0x0e, (u16)(EBDA_GPA >> 4));
    put_le16(bda + 0x10, (u16)(coms << 9 | 0x02)); /* equipment: serial ports, FPU */
    put_le16(bda + 0x13, (u16)(EBDA_GPA >> 10));   /* KiB of base memory */
    if (mem_write(m->mem, BDA_GPA, bda, sizeof(bda)) || mem_write(m->mem, EBDA_GPA, &ebda_kib, 1))
        return err_set(e, EFAULT, "BIOS data area: %#llx is not RAM", BDA_GPA);
    return 0;
}

/* Interrupt vectors of real mode: all point at a routine that reports "not supported" (CF set in
 * the flags it returns), so that a loader which tries the BIOS goes on instead of running through
 * zeros. */
static int write_ivt(struct machine *m, struct err *e)
{
    static const u8 not_supported[] = {
        0x55,                   /* push bp */
        0x89, 0xe5,             /* mov bp, sp */
        0x80, 0x4e, 0x06, 0x01, /* or byte [bp+6], 1: CF of the caller */
        0x5d,                   /* pop bp */
        0xcf,                   /* iret */
    };
    u8 ivt[256 * 4];

    for (unsigned i = 0; i < 256; i++) {
        put_le16(ivt + 4 * i, (u16)(IVT_STUB_GPA & 0xffff));
        put_le16(ivt + 4 * i + 2, 0xf000);
    }
    if (mem_write(m->mem, 0, ivt, sizeof(ivt)) ||
        mem_write(m->mem, IVT_STUB_GPA, not_supported, sizeof(not_supported)))
        return err_set(e, EFAULT, "real-mode vectors: the first megabyte is not RAM");
    return 0;
}

typedef int table_builder(const struct tables_config *cfg, u8 *buf, size_t cap, u64 gpa,
                          struct err *e);

static int write_table(struct machine *m, const struct tables_config *t, table_builder *build,
                       u64 gpa, size_t cap, struct err *e)
{
    u8 *buf = calloc(1, cap);
    int n;

    if (!buf)
        return err_set(e, ENOMEM, "firmware tables: no memory");
    n = build(t, buf, cap, gpa, e);
    if (n > 0 && mem_write(m->mem, gpa, buf, (u64)n))
        n = err_set(e, EFAULT, "firmware tables: %#llx is not RAM", (unsigned long long)gpa);
    free(buf);
    return n < 0 ? n : 0;
}

int machine_write_tables(struct machine *m, const struct machine_config *cfg, u64 *rsdp,
                         struct err *e)
{
    struct tables_config t = {
        .cpus = m->cpus,
        .cpu_signature = m->cpuid.family_model_stepping,
        .cpu_features = 0x078bfbff, /* what every model of ours has in leaf 1 EDX */
        .ram_bytes = m->ram_bytes,
        .pvpanic = true,
    };
    int rc;

    memcpy(t.com, cfg->serial, sizeof(t.com));
    rc = write_ivt(m, e);
    if (!rc)
        rc = write_bda(m, cfg, e);
    if (!rc)
        rc = write_table(m, &t, acpi_build, ACPI_GPA, ACPI_BYTES, e);
    if (!rc)
        rc = write_table(m, &t, mptable_build, MPTABLE_GPA, MPTABLE_BYTES, e);
    if (!rc)
        rc = write_table(m, &t, smbios_build, SMBIOS_GPA, SMBIOS_BYTES, e);
    *rsdp = ACPI_GPA;
    return rc;
}
