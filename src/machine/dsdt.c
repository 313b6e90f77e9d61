/* dsdt.c - what the ACPI namespace says of the board (ACPI 6.4, chapters 5.3 to 7) */
#include <stdio.h>

#include "base/limits.h"
#include "machine/acpi.h"
#include "machine/pc_map.h"

static void device(struct aml *a, const char *name, const char *pnp_id, unsigned uid)
{
    aml_device(a, name);
    aml_name(a, "_HID");
    aml_eisa_id(a, pnp_id);
    aml_name(a, "_UID");
    aml_integer(a, uid);
    aml_name(a, "_CRS");
    aml_resources(a);
}

static void end_device(struct aml *a)
{
    aml_end(a); /* resources */
    aml_end(a);
}

static void processors(struct aml *a, unsigned cpus)
{
    for (unsigned i = 0; i < cpus; i++) {
        char name[8];

        snprintf(name, sizeof(name), "C%03X", i & 0xfff);
        aml_device(a, name);
        aml_name(a, "_HID");
        aml_string(a, "ACPI0007");
        aml_name(a, "_UID");
        aml_integer(a, i);
        aml_end(a);
    }
}

static void serial_ports(struct aml *a, const bool present[4])
{
    static const struct {
        const char *name;
        u16 port;
        u8 irq;
    } com[4] = {
        {"COM1", PC_PORT_COM1, PC_GSI_COM1},
        {"COM2", PC_PORT_COM2, PC_GSI_COM2},
        {"COM3", PC_PORT_COM3, PC_GSI_COM1},
        {"COM4", PC_PORT_COM4, PC_GSI_COM2},
    };

    for (unsigned i = 0; i < 4; i++) {
        if (!present[i])
            continue;
        device(a, com[i].name, "PNP0501", i + 1);
        aml_io(a, com[i].port, 8);
        aml_irq(a, com[i].irq);
        end_device(a);
    }
}

static void legacy_chips(struct aml *a)
{
    device(a, "RTC", "PNP0B00", 0);
    aml_io(a, PC_PORT_RTC, 2);
    aml_irq(a, PC_GSI_RTC);
    end_device(a);

    device(a, "KBD", "PNP0303", 0);
    aml_io(a, PC_PORT_KBC_DATA, 1);
    aml_io(a, PC_PORT_KBC_CMD, 1);
    aml_irq(a, PC_GSI_KBD);
    end_device(a);

    device(a, "HPET", "PNP0103", 0);
    aml_memory(a, (u32)PC_HPET_BASE, (u32)PC_HPET_BYTES);
    end_device(a);

    /* Ports that belong to the board itself: nobody else may be given them. */
    device(a, "MBRD", "PNP0C02", 0);
    aml_io(a, PC_PORT_PM, PC_PORT_PM_BYTES);
    aml_io(a, PC_PORT_SYSCTL_A, 1);
    aml_io(a, PC_PORT_ELCR, 2);
    aml_memory(a, (u32)PC_PCI_ECAM, (u32)PC_PCI_ECAM_BYTES);
    end_device(a);
}

/* Each slot's INTA# to INTD#, wired to fixed interrupts (6.2.13). */
static void pci_routing(struct aml *a)
{
    aml_name(a, "_PRT");
    aml_package(a, PCI_SLOTS * 4);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            aml_package(a, 4);
            aml_integer(a, slot << 16 | 0xffff);
            aml_integer(a, pin);
            aml_integer(a, 0);
            aml_integer(a, (slot + pin) % 2 ? PC_GSI_PCI_ODD : PC_GSI_PCI_EVEN);
            aml_end(a);
        }
    }
    aml_end(a);
}

static void pci_host(struct aml *a)
{
    aml_device(a, "PCI0");
    aml_name(a, "_HID");
    aml_eisa_id(a, "PNP0A08");
    aml_name(a, "_CID");
    aml_eisa_id(a, "PNP0A03");
    aml_name(a, "_UID");
    aml_integer(a, 0);
    aml_name(a, "_BBN");
    aml_integer(a, 0);
    aml_name(a, "_SEG");
    aml_integer(a, 0);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_window(a, AML_BUSES, 0, PC_PCI_BUSES - 1);
    aml_io(a, PC_PORT_PCI_CONFIG, 8);
    aml_window(a, AML_PORTS, 0, PC_PORT_PCI_CONFIG - 1);
    aml_window(a, AML_PORTS, PC_PORT_PCI_CONFIG + 8, 0xffff);
    aml_window(a, AML_MEMORY, (u32)PC_PCI_MMIO, (u32)PC_PCI_MMIO_END - 1);
    aml_end(a);
    pci_routing(a);
    aml_end(a);
}

/* Devices that Linux knows by names QEMU gave them. */
static void virtual_device(struct aml *a, const char *name, const char *hid, u16 port, u8 length)
{
    aml_device(a, name);
    aml_name(a, "_HID");
    aml_string(a, hid);
    aml_name(a, "_STA");
    aml_integer(a, 0xb); /* present, enabled, functioning; not shown to users */
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_io(a, port, length);
    end_device(a);
}

void dsdt_build(const struct tables_config *cfg, struct aml *a)
{
    aml_name(a, "\\_S5_");
    aml_package(a, 4);
    aml_integer(a, PC_SLP_TYP_S5); /* PM1a SLP_TYP */
    aml_integer(a, PC_SLP_TYP_S5); /* PM1b, absent */
    aml_integer(a, 0);
    aml_integer(a, 0);
    aml_end(a);

    aml_scope(a, "\\_SB_");
    processors(a, cfg->cpus);
    serial_ports(a, cfg->com);
    legacy_chips(a);
    pci_host(a);
    virtual_device(a, "FWCF", "QEMU0002", PC_PORT_FWCFG, PC_PORT_FWCFG_BYTES);
    if (cfg->pvpanic)
        virtual_device(a, "PEVT", "QEMU0001", PC_PORT_PVPANIC, 1);
    aml_end(a);
}
