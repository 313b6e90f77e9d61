/* multiboot.c - Multiboot Specification version 0.6.96: ELF and address-header kernels */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/limits.h"
#include "machine/boot/elf.h"
#include "machine/boot/place.h"
#include "machine/bytes.h"
#include "machine/layout.h"

/* Header: magic, flags, checksum; with MBH_ADDRESSES header_addr, load_addr, load_end_addr,
 * bss_end_addr, entry_addr. */
#define MBH_MAGIC       0x1badb002u
#define MBH_SEARCH      8192
#define MBH_PAGE_ALIGN  BIT(0)
#define MBH_MEMORY_INFO BIT(1)
#define MBH_VIDEO_MODE  BIT(2)
#define MBH_ADDRESSES   BIT(16)
#define MBH_REQUIRED    0xffffu /* unknown ones among these must be refused */

/* Information structure (offsets) and its flags. */
#define MBI_FLAGS        0
#define MBI_MEM_LOWER    4
#define MBI_MEM_UPPER    8
#define MBI_CMDLINE      16
#define MBI_MODS_COUNT   20
#define MBI_MODS_ADDR    24
#define MBI_MMAP_LENGTH  44
#define MBI_MMAP_ADDR    48
#define MBI_LOADER_NAME  64
#define MBI_BYTES        120
#define MBIF_MEMORY      BIT(0)
#define MBIF_CMDLINE     BIT(2)
#define MBIF_MODS        BIT(3)
#define MBIF_MMAP        BIT(6)
#define MBIF_LOADER_NAME BIT(9)
#define MBI_MAGIC        0x2badb002u

/* The specification leaves IDTR open. As after a BIOS, a kernel that goes back to real mode finds
 * the vector table at 0. */
#define REAL_IVT_LIMIT 0x3ff

#define MODULE_BYTES 16 /* u32 start, end, string, reserved */
#define MMAP_BYTES   24 /* u32 size (20), u64 addr, len, u32 type */
#define MODULES_MAX  64

struct multiboot {
    const struct boot_request *r;
    u64 header; /* offset of the header in the file */
    u32 flags;
    u64 image, image_end; /* physical extent */
    u32 entry;
    struct boot_arena arena;
    u8 info[MBI_BYTES];
};

bool multiboot_find(const struct boot_file *f, u64 *offset)
{
    u64 end = MIN(f->len, MBH_SEARCH);

    for (u64 at = 0; at + 12 <= end; at += 4) {
        const u8 *h = f->data + at;

        if (get_le32(h) == MBH_MAGIC && get_le32(h) + get_le32(h + 4) + get_le32(h + 8) == 0) {
            *offset = at;
            return true;
        }
    }
    return false;
}

/* The address fields say how the file maps to memory (the a.out kludge). */
static int load_by_address(struct multiboot *m, struct err *e)
{
    const struct boot_file *f = &m->r->kernel;
    const u8 *h = f->data + m->header + 12;
    u32 header_addr, load, load_end, bss_end;
    u64 file_off, len, mem_len;

    if (m->header + 32 > f->len)
        return boot_bad(m->r, e, "truncated inside the multiboot address fields");
    header_addr = get_le32(h);
    load = get_le32(h + 4);
    load_end = get_le32(h + 8);
    bss_end = get_le32(h + 12);
    m->entry = get_le32(h + 16);
    if (load > header_addr || header_addr - load > m->header)
        return boot_bad(m->r, e, "multiboot load_addr %#x does not fit header_addr %#x", load,
                        header_addr);
    file_off = m->header - (header_addr - load);
    len = load_end ? (u64)load_end - load : f->len - file_off;
    if (load_end && load_end < load)
        return boot_bad(m->r, e, "multiboot load_end_addr %#x is below load_addr %#x", load_end,
                        load);
    if (!range_ok(file_off, len, f->len))
        return boot_bad(
            m->r, e, "truncated: multiboot load_end_addr %#x needs %llu bytes, the file has %llu",
            load_end, (unsigned long long)(file_off + len), (unsigned long long)f->len);
    if (bss_end && bss_end < load + len)
        return boot_bad(m->r, e, "multiboot bss_end_addr %#x is below the end of the data",
                        bss_end);
    mem_len = bss_end ? (u64)bss_end - load : len;
    if (!e820_holds(m->r->map, load, mem_len, E820_RAM))
        return err_set(e, ENOSPC,
                       "kernel %s: multiboot load_addr %#x + %#llx is not in the guest's memory; "
                       "give it more (-m)",
                       f->name, load, (unsigned long long)mem_len);
    if ((len && mem_write(m->r->mem, load, f->data + file_off, len)) ||
        (mem_len > len && mem_fill(m->r->mem, load + len, 0, mem_len - len)))
        return err_set(e, EFAULT, "kernel %s: %#x is not RAM", f->name, load);
    m->image = load;
    m->image_end = load + mem_len;
    return 0;
}

static int load_image(struct multiboot *m, struct err *e)
{
    struct elf_image img;
    u64 entry;
    int rc;

    if (m->flags & MBH_ADDRESSES)
        return load_by_address(m, e);
    if (!elf_magic(&m->r->kernel))
        return boot_bad(m->r, e, "multiboot flags %#x: neither ELF nor address fields (bit 16)",
                        m->flags);
    rc = elf_parse(&m->r->kernel, &img, e);
    if (!rc)
        rc = elf_load(m->r, &img, e);
    if (rc)
        return rc;
    entry = elf_physical(&img, img.entry);
    if (entry >= ABOVE_4G_GPA || img.end > ABOVE_4G_GPA)
        return boot_bad(m->r, e, "e_entry %#llx: multiboot starts kernels below 4 GiB only",
                        (unsigned long long)entry);
    m->entry = (u32)entry;
    m->image = img.lowest;
    m->image_end = img.end;
    return 0;
}

/* Puts "FILE ARGS", what boot loaders by custom pass as a kernel's or module's string. */
static int put_string(struct multiboot *m, const struct boot_file *f, const char *args, u64 *gpa,
                      struct err *e)
{
    char text[CMDLINE_MAX];
    int n =
        snprintf(text, sizeof(text), "%s%s%s", f->name, args && *args ? " " : "", args ? args : "");

    if (n >= (int)sizeof(text))
        return err_set(e, E2BIG, "%s: name and arguments are longer than %d bytes", f->name,
                       CMDLINE_MAX - 1);
    return arena_put_string(&m->arena, text, gpa, e);
}

/* Modules follow the image, each on its own page. */
static int put_modules(struct multiboot *m, struct err *e)
{
    const struct boot_request *r = m->r;
    u64 at = align_up(MAX(m->image_end, HIGH_MEM_GPA), 4096);
    u64 limit = m->arena.base > at ? m->arena.base : MMIO_HOLE_GPA;
    u64 list_gpa, text;
    u8 list[MODULES_MAX * MODULE_BYTES] = {0};
    int rc;

    if (r->modules > MODULES_MAX)
        return err_set(e, E2BIG, "initrd: %zu modules, at most %d", r->modules, MODULES_MAX);
    for (size_t i = 0; i < r->modules; i++) {
        const struct boot_file *f = &r->module[i];

        if (at + f->len > limit || mem_write(r->mem, at, f->data, f->len))
            return err_set(e, ENOSPC,
                           "initrd %s: %llu KiB do not fit into the guest's memory at %#llx; give "
                           "it more (-m)",
                           f->name, (unsigned long long)f->len >> 10, (unsigned long long)at);
        rc = put_string(m, f, f->args, &text, e);
        if (rc)
            return rc;
        put_le32(list + i * MODULE_BYTES, (u32)at);
        put_le32(list + i * MODULE_BYTES + 4, (u32)(at + f->len));
        put_le32(list + i * MODULE_BYTES + 8, (u32)text);
        at = align_up(at + f->len, 4096);
    }
    rc = arena_put(&m->arena, list, r->modules * MODULE_BYTES, 4, &list_gpa, e);
    put_le32(m->info + MBI_MODS_COUNT, (u32)r->modules);
    put_le32(m->info + MBI_MODS_ADDR, (u32)list_gpa);
    return rc;
}

static int put_memory_map(struct multiboot *m, struct err *e)
{
    const struct e820_map *map = m->r->map;
    u8 list[E820_MAX * MMAP_BYTES] = {0};
    u64 gpa, upper = 0;
    int rc;

    for (unsigned i = 0; i < map->count; i++) {
        u8 *row = list + i * MMAP_BYTES;

        put_le32(row, MMAP_BYTES - 4);
        put_le64(row + 4, map->entry[i].addr);
        put_le64(row + 12, map->entry[i].size);
        put_le32(row + 20, map->entry[i].type);
        if (map->entry[i].addr == HIGH_MEM_GPA)
            upper = map->entry[i].size;
    }
    rc = arena_put(&m->arena, list, map->count * MMAP_BYTES, 4, &gpa, e);
    if (rc)
        return rc;
    put_le32(m->info + MBI_MEM_LOWER, (u32)(EBDA_GPA >> 10));
    put_le32(m->info + MBI_MEM_UPPER, (u32)(upper >> 10));
    put_le32(m->info + MBI_MMAP_LENGTH, map->count * MMAP_BYTES);
    put_le32(m->info + MBI_MMAP_ADDR, (u32)gpa);
    return 0;
}

static int put_info(struct multiboot *m, u64 *gpa, struct err *e)
{
    u64 cmdline, loader;
    int rc;

    rc = put_string(m, &m->r->kernel, m->r->cmdline, &cmdline, e);
    if (!rc)
        rc = arena_put_string(&m->arena, "ring3 " RING3_VERSION, &loader, e);
    if (!rc)
        rc = put_modules(m, e);
    if (!rc)
        rc = put_memory_map(m, e);
    if (rc)
        return rc;
    put_le32(m->info + MBI_FLAGS,
             MBIF_MEMORY | MBIF_CMDLINE | MBIF_MODS | MBIF_MMAP | MBIF_LOADER_NAME);
    put_le32(m->info + MBI_CMDLINE, (u32)cmdline);
    put_le32(m->info + MBI_LOADER_NAME, (u32)loader);
    return arena_put(&m->arena, m->info, sizeof(m->info), 16, gpa, e);
}

int multiboot_load(const struct boot_request *r, struct x86_state *s, struct err *e)
{
    struct multiboot m = {.r = r};
    u64 info, unknown;
    int rc;

    if (!multiboot_find(&r->kernel, &m.header))
        return err_set(e, ENOEXEC, "kernel %s: no multiboot header in the first 8 KiB",
                       r->kernel.name);
    m.flags = get_le32(r->kernel.data + m.header + 4);
    unknown = m.flags & MBH_REQUIRED & ~(MBH_PAGE_ALIGN | MBH_MEMORY_INFO | MBH_VIDEO_MODE);
    if (unknown)
        return boot_bad(r, e, "multiboot flags %#x: required features %#llx are unknown", m.flags,
                        (unsigned long long)unknown);
    rc = load_image(&m, e);
    if (!rc)
        rc = arena_init(&m.arena, r, m.image, m.image_end, 0x10000 + r->modules * CMDLINE_MAX, e);
    if (!rc)
        rc = put_info(&m, &info, e);
    if (!rc)
        rc = boot_state_flat32(r, &m.arena, m.entry, s, e);
    if (rc)
        return rc;
    s->gpr[X86_RAX] = MBI_MAGIC;
    s->gpr[X86_RBX] = info;
    s->idtr.limit = REAL_IVT_LIMIT;
    return 0;
}
