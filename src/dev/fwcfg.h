/* fwcfg.h - firmware configuration device: items by key, files by name, port and DMA access */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "mem/bus.h"
#include "mem/mem.h"
#include "snap/snap.h"

/* Keys of the interface (docs/specs/fw_cfg of QEMU). Numbers in items are little-endian, in the
 * file directory and the DMA descriptor big-endian. */
enum fwcfg_key {
    FWCFG_SIGNATURE = 0x00,
    FWCFG_ID = 0x01,
    FWCFG_UUID = 0x02,
    FWCFG_RAM_SIZE = 0x03,
    FWCFG_NOGRAPHIC = 0x04,
    FWCFG_NB_CPUS = 0x05,
    FWCFG_MACHINE_ID = 0x06,
    FWCFG_KERNEL_ADDR = 0x07,
    FWCFG_KERNEL_SIZE = 0x08,
    FWCFG_KERNEL_CMDLINE = 0x09,
    FWCFG_INITRD_ADDR = 0x0a,
    FWCFG_INITRD_SIZE = 0x0b,
    FWCFG_BOOT_DEVICE = 0x0c,
    FWCFG_NUMA = 0x0d,
    FWCFG_BOOT_MENU = 0x0e,
    FWCFG_MAX_CPUS = 0x0f,
    FWCFG_KERNEL_ENTRY = 0x10,
    FWCFG_KERNEL_DATA = 0x11,
    FWCFG_INITRD_DATA = 0x12,
    FWCFG_CMDLINE_ADDR = 0x13,
    FWCFG_CMDLINE_SIZE = 0x14,
    FWCFG_CMDLINE_DATA = 0x15,
    FWCFG_SETUP_ADDR = 0x16,
    FWCFG_SETUP_SIZE = 0x17,
    FWCFG_SETUP_DATA = 0x18,
    FWCFG_FILE_DIR = 0x19,
    FWCFG_FILE_FIRST = 0x20,
    FWCFG_ARCH = 0x8000, /* x86: */
    FWCFG_ACPI_TABLES = 0x8000,
    FWCFG_SMBIOS = 0x8001,
    FWCFG_IRQ0_OVERRIDE = 0x8002,
    FWCFG_E820 = 0x8003,
    FWCFG_HPET = 0x8004
};

struct fwcfg_item {
    u16 key;
    const u8 *data;
    u32 len;
    bool owned;                /* data was copied */
    char name[FWCFG_NAME_MAX]; /* of a file; "" for others */
};

struct fwcfg {
    u16 key;    /* selected */
    u32 offset; /* of the next byte */
    u64 dma;    /* DMA address register */

    struct fwcfg_item items[FWCFG_ITEMS_MAX];
    u32 count;
    u16 next_file;
    struct mem *mem;
};

/* Creates the device with its signature and interface id. */
must_check int fwcfg_init(struct fwcfg *f, struct mem *mem, struct err *e);
void fwcfg_fini(struct fwcfg *f);
void fwcfg_reset(struct fwcfg *f);

/* Items, before the first vCPU runs. The data is copied, except with _static, where it must
 * outlive the device (kernels, initrds). Adding a key or a file name again replaces it. -ENOSPC,
 * -ENOMEM or -EINVAL (name too long, more than 4 GiB) with nothing changed. */
must_check int fwcfg_add(struct fwcfg *f, u16 key, const void *data, size_t len, struct err *e);
must_check int fwcfg_add_static(struct fwcfg *f, u16 key, const void *data, size_t len,
                                struct err *e);
must_check int fwcfg_add_u16(struct fwcfg *f, u16 key, u16 val, struct err *e);
must_check int fwcfg_add_u32(struct fwcfg *f, u16 key, u32 val, struct err *e);
must_check int fwcfg_add_u64(struct fwcfg *f, u16 key, u64 val, struct err *e);
/* With its NUL. */
must_check int fwcfg_add_string(struct fwcfg *f, u16 key, const char *text, struct err *e);
must_check int fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, size_t len,
                              struct err *e);
must_check int fwcfg_add_file_static(struct fwcfg *f, const char *name, const void *data,
                                     size_t len, struct err *e);

extern const struct region_ops fwcfg_ops; /* 12 ports: 510h selector, 511h data, 514h DMA address */
extern const struct snap_desc fwcfg_snap;
