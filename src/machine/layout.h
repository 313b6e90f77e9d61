/* layout.h - where a PC's memory lies, and what we put into its first megabyte */
#pragma once

#include "base/types.h"

/*          0  BDA at 400h; boot data and the kernel's own from 1000h
 *      9FC00  EBDA (1 KiB), reserved
 *      A0000  video hole: no RAM
 *      C0000  RAM
 *      E0000  firmware area, reserved: ACPI tables, MP table, SMBIOS; with --bios C0000 up is its
 *             shadow
 *     100000  RAM, up to 3 GiB
 *   C0000000  devices: PCI, IOAPIC (FEC00000), HPET (FED00000), LAPIC (FEE00000), ROM below 4 GiB
 *  100000000  the rest of RAM
 */
#define BDA_GPA        0x400ull
#define LOW_DATA_GPA   0x1000ull /* first byte a loader may use */
#define EBDA_GPA       0x9fc00ull
#define VIDEO_HOLE_GPA 0xa0000ull
#define OPTION_ROM_GPA 0xc0000ull
#define FIRMWARE_GPA   0xe0000ull
#define HIGH_MEM_GPA   0x100000ull
#define MMIO_HOLE_GPA  0xc0000000ull
#define ABOVE_4G_GPA   0x100000000ull

/* Inside the firmware area. */
#define ACPI_GPA      FIRMWARE_GPA /* the RSDP, then its tables */
#define ACPI_BYTES    0x10000u
#define MPTABLE_GPA   0xf0000ull
#define MPTABLE_BYTES 0x1000u
#define SMBIOS_GPA    0xf1000ull
#define SMBIOS_BYTES  0x4000u
#define IVT_STUB_GPA  0xff000ull /* what every real-mode vector points at */

#define BIOS_SHADOW_MAX 0x40000u     /* bytes of --bios copied below 1 MiB */
#define BIOS_MAX        (8ull << 20) /* larger images would cover device registers */
