/* acpi.h - the firmware tables of the board: ACPI, MP and SMBIOS
 *
 * Builders write into a zeroed buffer that will lie at `gpa`, and return the bytes used or -ENOSPC.
 * Pure.
 */
#pragma once

#include "base/err.h"
#include "base/types.h"
#include "machine/aml.h"

struct tables_config {
    unsigned cpus;
    u32 cpu_signature; /* CPUID leaf 1 EAX */
    u32 cpu_features;  /* CPUID leaf 1 EDX */
    u64 ram_bytes;
    bool com[4];
    bool pvpanic;
    u8 uuid[16];
};

/* RSDP at `gpa`, then FACS, DSDT, FADT, MADT, HPET, MCFG, RSDT and XSDT (ACPI 6.4). gpa is
 * 64-byte aligned. */
must_check int acpi_build(const struct tables_config *cfg, u8 *buf, size_t cap, u64 gpa,
                          struct err *e);

/* The body of the DSDT. */
void dsdt_build(const struct tables_config *cfg, struct aml *a);

/* MP floating pointer and configuration table (Intel MP 1.4). Systems of 16 processors at most have
 * one: APIC ids must leave room for the IOAPIC's in 4 bits; 0 is returned for larger ones. */
must_check int mptable_build(const struct tables_config *cfg, u8 *buf, size_t cap, u64 gpa,
                             struct err *e);

/* SMBIOS 2.8 and 3.0 entry points and types 0, 1, 3, 4, 16, 17, 19, 32 and 127 (DMTF DSP0134). */
must_check int smbios_build(const struct tables_config *cfg, u8 *buf, size_t cap, u64 gpa,
                            struct err *e);
