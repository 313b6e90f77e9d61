/* bzimage.c - Linux boot protocol, 64-bit entry (Documentation/arch/x86/boot.rst) */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/limits.h"
#include "machine/boot/place.h"
#include "machine/bytes.h"
#include "machine/layout.h"

/* Offsets in the first sectors of the file, and at the same time in struct boot_params. */
#define BP_ACPI_RSDP         0x070
#define BP_EXT_RAMDISK_IMAGE 0x0c0
#define BP_EXT_RAMDISK_SIZE  0x0c4
#define BP_E820_ENTRIES      0x1e8
#define HDR_SETUP_SECTS      0x1f1
#define HDR_SYSSIZE          0x1f4 /* 16-byte units */
#define HDR_VID_MODE         0x1fa
#define HDR_BOOT_FLAG        0x1fe /* AA55h */
#define HDR_JUMP             0x200 /* EB, then the distance from 202h to the header's end */
#define HDR_MAGIC            0x202 /* "HdrS" */
#define HDR_VERSION          0x206
#define HDR_TYPE_OF_LOADER   0x210
#define HDR_LOADFLAGS        0x211
#define HDR_CODE32_START     0x214
#define HDR_RAMDISK_IMAGE    0x218
#define HDR_RAMDISK_SIZE     0x21c
#define HDR_CMD_LINE_PTR     0x228
#define HDR_INITRD_ADDR_MAX  0x22c
#define HDR_KERNEL_ALIGNMENT 0x230
#define HDR_RELOCATABLE      0x234
#define HDR_XLOADFLAGS       0x236
#define HDR_CMDLINE_SIZE     0x238
#define HDR_SETUP_DATA       0x250
#define HDR_PREF_ADDRESS     0x258
#define HDR_INIT_SIZE        0x260
#define HDR_NEEDED           0x264 /* the header must reach this far */
#define HDR_ROOM             0x290 /* and ends before this in boot_params */
#define BP_E820_TABLE        0x2d0
#define BP_BYTES             4096

#define LOADER_UNDEFINED           0xff
#define LOADED_HIGH                BIT(0)
#define XLF_KERNEL_64              BIT(0)
#define XLF_CAN_BE_LOADED_ABOVE_4G BIT(1)
#define VIDEO_NORMAL               0xffff
#define ENTRY_64                   0x200 /* from the start of the protected-mode code */
#define SETUP_RNG_SEED             9
#define SETUP_DATA_HEADER          16 /* u64 next, u32 type, u32 len */

#define PTE_PRESENT_WRITE 0x3ull
#define PTE_LARGE         0x80ull

struct bzimage {
    const struct boot_request *r;
    const u8 *hdr;          /* the file from its start; HDR_NEEDED bytes are there */
    u64 code_off, code_len; /* protected-mode code in the file */
    u64 load, init_size;
    u64 initrd, initrd_len;
    u16 xloadflags;
};

static int check_header(struct bzimage *b, struct err *e)
{
    const struct boot_file *f = &b->r->kernel;
    unsigned version, sects;

    if (f->len < HDR_NEEDED)
        return boot_bad(b->r, e, "truncated: %llu bytes end inside the setup header (needs %#x)",
                        (unsigned long long)f->len, HDR_NEEDED);
    b->hdr = f->data;
    if (get_le16(b->hdr + HDR_BOOT_FLAG) != 0xaa55)
        return boot_bad(b->r, e, "boot_flag is %#x, not 0xaa55", get_le16(b->hdr + HDR_BOOT_FLAG));
    version = get_le16(b->hdr + HDR_VERSION);
    if (version < 0x020c)
        return boot_bad(b->r, e,
                        "version: boot protocol %u.%u has no 64-bit entry, 2.12 (Linux 3.8) is "
                        "needed",
                        version >> 8, version & 0xff);
    if (HDR_MAGIC + b->hdr[HDR_JUMP + 1] < HDR_NEEDED)
        return boot_bad(b->r, e, "jump: the setup header ends at %#x, before init_size",
                        HDR_MAGIC + b->hdr[HDR_JUMP + 1]);
    b->xloadflags = get_le16(b->hdr + HDR_XLOADFLAGS);
    if (!(b->xloadflags & XLF_KERNEL_64))
        return boot_bad(b->r, e, "xloadflags %#x: not a 64-bit kernel (XLF_KERNEL_64 is clear)",
                        b->xloadflags);
    if (!(b->hdr[HDR_LOADFLAGS] & LOADED_HIGH))
        return boot_bad(b->r, e, "loadflags %#x: a zImage, only bzImage is supported",
                        b->hdr[HDR_LOADFLAGS]);
    sects = b->hdr[HDR_SETUP_SECTS] ? b->hdr[HDR_SETUP_SECTS] : 4;
    b->code_off = (sects + 1) * 512ull;
    b->code_len = get_le32(b->hdr + HDR_SYSSIZE) * 16ull;
    if (b->code_len <= ENTRY_64)
        return boot_bad(b->r, e, "syssize: %llu bytes of code have no 64-bit entry",
                        (unsigned long long)b->code_len);
    /* syssize counts paragraphs of 16 bytes: the last one need not be whole in the file. */
    if (b->code_off < f->len && f->len - b->code_off < b->code_len &&
        b->code_len - (f->len - b->code_off) < 16)
        b->code_len = f->len - b->code_off;
    if (!range_ok(b->code_off, b->code_len, f->len))
        return boot_bad(
            b->r, e, "truncated: setup_sects and syssize need %llu bytes, the file has %llu",
            (unsigned long long)(b->code_off + b->code_len), (unsigned long long)f->len);
    return 0;
}

/* The preferred address, or the lowest aligned one that has room. */
static int place_kernel(struct bzimage *b, struct err *e)
{
    u64 pref = get_le64(b->hdr + HDR_PREF_ADDRESS);
    u64 align = get_le32(b->hdr + HDR_KERNEL_ALIGNMENT);

    b->init_size = MAX(get_le32(b->hdr + HDR_INIT_SIZE), b->code_len);
    if (pref >= HIGH_MEM_GPA && pref < MMIO_HOLE_GPA &&
        e820_holds(b->r->map, pref, b->init_size, E820_RAM)) {
        b->load = pref;
        return 0;
    }
    if (!b->hdr[HDR_RELOCATABLE])
        return err_set(e, ENOSPC,
                       "kernel %s: needs %llu bytes at pref_address %#llx, which the guest's "
                       "memory does not have; give it more (-m)",
                       b->r->kernel.name, (unsigned long long)b->init_size,
                       (unsigned long long)pref);
    if (align < 4096 || (align & (align - 1)) || align > GiB)
        return boot_bad(b->r, e, "kernel_alignment %#llx is not a power of two from 4 KiB to 1 GiB",
                        (unsigned long long)align);
    b->load = align_up(HIGH_MEM_GPA, align);
    if (!e820_holds(b->r->map, b->load, b->init_size, E820_RAM))
        return err_set(e, ENOSPC,
                       "kernel %s: larger than memory (init_size %llu KiB at %#llx); give the "
                       "guest more (-m)",
                       b->r->kernel.name, (unsigned long long)b->init_size >> 10,
                       (unsigned long long)b->load);
    return 0;
}

/* As high as initrd_addr_max allows; above 4 GiB when that is the only room and the kernel can. */
static int place_initrd(struct bzimage *b, struct err *e)
{
    const struct boot_request *r = b->r;
    u64 limit = get_le32(b->hdr + HDR_INITRD_ADDR_MAX) + 1ull;
    u64 kernel_end = b->load + b->init_size;
    u64 at;

    b->initrd_len = modules_bytes(r, 4);
    if (!b->initrd_len)
        return 0;
    at = e820_highest(r->map, b->initrd_len, 4096, kernel_end, MIN(limit, MMIO_HOLE_GPA));
    if (!at && b->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G)
        at = e820_highest(r->map, b->initrd_len, 4096, ABOVE_4G_GPA, UINT64_MAX);
    if (!at)
        return err_set(e, ENOSPC,
                       "initrd %s: %llu KiB do not fit into the guest's memory beside the "
                       "kernel; give it more (-m)",
                       r->module[0].name, (unsigned long long)b->initrd_len >> 10);
    b->initrd = at;
    for (size_t i = 0; i < r->modules; i++) {
        const struct boot_file *f = &r->module[i];

        if (f->len && mem_write(r->mem, at, f->data, f->len))
            return err_set(e, EFAULT, "initrd %s: %#llx is not RAM", f->name,
                           (unsigned long long)at);
        at += align_up(f->len, 4);
    }
    return 0;
}

/* PML4, PDPT and four page directories: the first 4 GiB one to one, as the 64-bit entry demands. */
static int put_page_tables(struct boot_arena *a, u64 *cr3, struct err *e)
{
    static const unsigned pages = 6;
    u64 base, slot;
    u8 page[4096];
    int rc;

    rc = arena_put(a, NULL, pages * 4096, 4096, &base, e);
    if (rc)
        return rc;
    for (unsigned p = 0; p < pages; p++) {
        memset(page, 0, sizeof(page));
        if (p == 0)
            put_le64(page, (base + 4096) | PTE_PRESENT_WRITE);
        for (unsigned i = 0; p == 1 && i < 4; i++)
            put_le64(page + i * 8, (base + (2 + i) * 4096) | PTE_PRESENT_WRITE);
        for (unsigned i = 0; p >= 2 && i < 512; i++) {
            slot = ((p - 2) * 512ull + i) << 21;
            put_le64(page + i * 8, slot | PTE_LARGE | PTE_PRESENT_WRITE);
        }
        if (mem_write(a->mem, base + p * 4096ull, page, sizeof(page)))
            return err_set(e, EFAULT, "boot data: %#llx is not RAM", (unsigned long long)base);
    }
    *cr3 = base;
    return 0;
}

static int put_seed(const struct boot_request *r, struct boot_arena *a, u64 *gpa, struct err *e)
{
    u8 node[SETUP_DATA_HEADER + sizeof(r->seed)] = {0};

    *gpa = 0;
    if (!r->has_seed)
        return 0;
    put_le32(node + 8, SETUP_RNG_SEED);
    put_le32(node + 12, sizeof(r->seed));
    memcpy(node + SETUP_DATA_HEADER, r->seed, sizeof(r->seed));
    return arena_put(a, node, sizeof(node), 16, gpa, e);
}

static int put_boot_params(struct bzimage *b, struct boot_arena *a, u64 *gpa, struct err *e)
{
    const struct boot_request *r = b->r;
    u64 header_end = HDR_MAGIC + b->hdr[HDR_JUMP + 1];
    u64 cmdline, seed;
    u8 bp[BP_BYTES] = {0};
    int rc;

    rc = arena_put_string(a, r->cmdline, &cmdline, e);
    if (!rc)
        rc = put_seed(r, a, &seed, e);
    if (rc)
        return rc;
    memcpy(bp + HDR_SETUP_SECTS, b->hdr + HDR_SETUP_SECTS,
           MIN(MIN(header_end, HDR_ROOM), r->kernel.len) - HDR_SETUP_SECTS);
    bp[HDR_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    put_le16(bp + HDR_VID_MODE, VIDEO_NORMAL);
    put_le32(bp + HDR_CODE32_START, (u32)b->load);
    put_le32(bp + HDR_CMD_LINE_PTR, (u32)cmdline);
    put_le64(bp + HDR_SETUP_DATA, seed);
    put_le32(bp + HDR_RAMDISK_IMAGE, (u32)b->initrd);
    put_le32(bp + HDR_RAMDISK_SIZE, (u32)b->initrd_len);
    put_le32(bp + BP_EXT_RAMDISK_IMAGE, (u32)(b->initrd >> 32));
    put_le32(bp + BP_EXT_RAMDISK_SIZE, (u32)(b->initrd_len >> 32));
    put_le64(bp + BP_ACPI_RSDP, r->rsdp_gpa);
    bp[BP_E820_ENTRIES] = (u8)r->map->count;
    for (unsigned i = 0; i < r->map->count; i++) {
        u8 *row = bp + BP_E820_TABLE + i * 20;

        put_le64(row, r->map->entry[i].addr);
        put_le64(row + 8, r->map->entry[i].size);
        put_le32(row + 16, r->map->entry[i].type);
    }
    return arena_put(a, bp, sizeof(bp), 4096, gpa, e);
}

int bzimage_load(const struct boot_request *r, struct x86_state *s, struct err *e)
{
    struct bzimage b = {.r = r};
    struct boot_arena arena;
    u64 params, cr3, cmdline_max;
    int rc;

    rc = check_header(&b, e);
    if (rc)
        return rc;
    cmdline_max = get_le32(b.hdr + HDR_CMDLINE_SIZE);
    if (strlen(r->cmdline) > MIN(cmdline_max, CMDLINE_MAX - 1))
        return err_set(e, E2BIG,
                       "kernel %s: the command line has %zu bytes, cmdline_size allows %llu",
                       r->kernel.name, strlen(r->cmdline),
                       (unsigned long long)MIN(cmdline_max, CMDLINE_MAX - 1));
    rc = place_kernel(&b, e);
    if (!rc)
        rc = place_initrd(&b, e);
    if (!rc)
        rc = arena_init(&arena, r, b.load, b.load + b.init_size, 0x10000, e);
    if (rc)
        return rc;
    if (mem_write(r->mem, b.load, r->kernel.data + b.code_off, b.code_len))
        return err_set(e, EFAULT, "kernel %s: %#llx is not RAM", r->kernel.name,
                       (unsigned long long)b.load);
    boot_state_firmware(r, s);
    rc = put_boot_params(&b, &arena, &params, e);
    if (!rc)
        rc = put_page_tables(&arena, &cr3, e);
    if (!rc)
        rc = arena_put_gdt(&arena, true, s, e);
    if (rc)
        return rc;
    s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    s->cr3 = cr3;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    s->rflags = RFLAGS_ONE;
    s->gpr[X86_RSI] = params;
    s->rip = b.load + ENTRY_64;
    return 0;
}
