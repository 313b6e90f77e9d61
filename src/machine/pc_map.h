/* pc_map.h - every address, port and interrupt number of the board */
#pragma once

/* Guest-physical map */
#define PC_LOW_RAM_END 0xa0000ull    /* 0..640K is RAM */
#define PC_VGA_HOLE 0xa0000ull       /* ..BFFFF: nothing answers */
#define PC_ROM_AREA 0xc0000ull       /* ..FFFFF: RAM or ROM slots of whoever loads there */
#define PC_HIGH_RAM 0x100000ull
#define PC_RAM_BELOW_4G_MAX 0xc0000000ull /* RAM beyond continues at 4 GiB */
#define PC_PCI_MMIO 0xc0000000ull         /* ..PC_PCI_MMIO_END: 32-bit BARs */
#define PC_PCI_MMIO_END 0xe0000000ull     /* first byte after */
/* One bus, as there is: were there room for 256, Linux would look at each of their slots, by two
 * exits each. */
#define PC_PCI_ECAM 0xe0000000ull
#define PC_PCI_BUSES 1
#define PC_PCI_ECAM_BYTES (PC_PCI_BUSES * 0x100000ull)
#define PC_IOAPIC_BASE 0xfec00000ull
#define PC_IOAPIC_BYTES 0x1000ull
#define PC_HPET_BASE 0xfed00000ull
#define PC_HPET_BYTES 0x400ull
#define PC_LAPIC_BASE 0xfee00000ull
#define PC_LAPIC_BYTES 0x1000ull
#define PC_TESTDEV_MMIO 0xff000000ull
#define PC_TESTDEV_MMIO_BYTES 0x10000ull
#define PC_RAM_ABOVE_4G 0x100000000ull

/* Ports */
#define PC_PORT_PIC_MASTER 0x20
#define PC_PORT_PIT 0x40
#define PC_PORT_KBC_DATA 0x60
#define PC_PORT_SYSCTL_B 0x61
#define PC_PORT_KBC_CMD 0x64
#define PC_PORT_RTC 0x70
#define PC_PORT_POST 0x80       /* nothing answers: reads FF, writes vanish */
#define PC_PORT_DMA_PAGE 0x81   /* ..8F scratch registers; DMA itself does not exist */
#define PC_PORT_SYSCTL_A 0x92
#define PC_PORT_PIC_SLAVE 0xa0
#define PC_PORT_TESTDEV 0xe0    /* ..E7, with --testdev */
#define PC_PORT_TESTDEV_BYTES 0xe8 /* ..EB, unless a debug port lies there */
#define PC_PORT_DEBUGCON 0xe9
#define PC_PORT_TESTDEV_IRQ 0x2000 /* ..2017 */
#define PC_PORT_FERR 0xf0       /* clears IRQ 13 */
#define PC_PORT_COM1 0x3f8
#define PC_PORT_COM2 0x2f8
#define PC_PORT_COM3 0x3e8
#define PC_PORT_COM4 0x2e8
#define PC_PORT_ELCR 0x4d0
#define PC_PORT_PVPANIC 0x505
#define PC_PORT_FWCFG 0x510     /* selector 510, data 511 */
#define PC_PORT_FWCFG_DMA 0x514 /* ..51B */
#define PC_PORT_FWCFG_BYTES 12
#define PC_PORT_PCI_CONFIG 0xcf8 /* ..CFF: configuration mechanism 1; CF9 is the reset register */
#define PC_PORT_RESET 0xcf9

/* ACPI fixed hardware: FADT. No SMI_CMD: the board is always in ACPI mode (SCI_EN reads 1). */
#define PC_PORT_PCI_BARS 0x6000 /* ..PC_PORT_PCI_BARS_END: where I/O BARs are put at reset */
#define PC_PORT_PCI_BARS_END 0x10000
#define PC_PORT_PM 0x600
#define PC_PORT_PM_BYTES 0x40
#define PC_PORT_PM1_EVT 0x600 /* PM1_EVT_LEN 4: status, enable */
#define PC_PORT_PM1_CNT 0x604 /* PM1_CNT_LEN 2 */
#define PC_PORT_PM_TMR 0x608  /* PM_TMR_LEN 4, TMR_VAL_EXT set: 32 bits */
#define PC_PORT_GPE0 0x620    /* GPE0_BLK_LEN 4: 16 status, 16 enable bits */
#define PC_GPE0_BYTES 4
/* \_S5 package: SLP_TYP for soft-off. 0 as on the PIIX4, since small programs that read no ACPI
 * tables write 2000h to this port. */
#define PC_SLP_TYP_S5 0
#define PC_RESET_VALUE 0x06   /* FADT RESET_VALUE for PC_PORT_RESET (8-bit system I/O) */

/* Global system interrupts. GSI n < 16 also drives the 8259 pair's IRn, except that IR2 is the
 * cascade. MADT: interrupt source override bus 0 IRQ 0 -> GSI 2 (edge, high); IRQ 9 -> GSI 9
 * level, active high (`PC_GSI_SCI`); LINT1 = NMI on all processors. Raising GSI 0 drives IOAPIC
 * pin 2. */
#define PC_GSI_PIT 0
#define PC_GSI_PIT_OVERRIDE 2
#define PC_GSI_KBD 1
#define PC_GSI_COM2 3 /* and COM4 */
#define PC_GSI_COM1 4 /* and COM3 */
#define PC_GSI_RTC 8
#define PC_GSI_SCI 9
#define PC_GSI_MOUSE 12
#define PC_GSI_FERR 13
/* PCI interrupt pins, by (slot + pin) % 2: lines that the 8259 pair has too, so that an OS without
 * IOAPIC or ACPI finds them in the interrupt line register. Level, active high. */
#define PC_GSI_PCI_EVEN 10
#define PC_GSI_PCI_ODD 11
#define PC_GSI_HPET_FIRST 20 /* 20..23 and 2, 8: what HPET timers may be routed to */

#define PC_IOAPIC_VERSION 0x11
/* HPET table: event timer block id (vendor 8086h, legacy capable, 64 bit, 3 timers, revision 1). */
#define PC_HPET_TIMERS 3
#define PC_HPET_ID (0x80860000u | (1u << 15) | (1u << 13) | ((PC_HPET_TIMERS - 1u) << 8) | 1u)

/* Local APIC ids are the vCPU numbers; the IOAPIC's id is the first one free after them. */
#define PC_IOAPIC_ID(cpus) (cpus)
