/* pvh.c - PVH entry of ELF kernels (Xen docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h) */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/limits.h"
#include "machine/boot/elf.h"
#include "machine/boot/place.h"
#include "machine/bytes.h"
#include "machine/layout.h"

/* struct hvm_start_info, version 1:
 *   0 magic | 4 version | 8 flags | 12 nr_modules | 16 modlist | 24 cmdline | 32 rsdp
 *  40 memmap | 48 memmap_entries | 52 reserved */
#define START_MAGIC     0x336ec578
#define START_VERSION   1
#define START_BYTES     56
#define MODULE_BYTES    32 /* u64 paddr, size, cmdline, reserved */
#define MEMMAP_BYTES    24 /* u64 addr, size; u32 type, reserved */
#define PVH_MODULES_MAX 64

struct pvh {
    const struct boot_request *r;
    struct boot_arena arena;
    u64 image_end;
    u64 modlist, memmap, cmdline;
};

/* Modules go to the top of memory below 4 GiB, where Xen puts them too. */
static int put_modules(struct pvh *p, struct err *e)
{
    const struct boot_request *r = p->r;
    u8 list[PVH_MODULES_MAX * MODULE_BYTES] = {0};
    u64 limit = p->arena.base >= p->image_end ? p->arena.base : MMIO_HOLE_GPA;
    u64 args, at, total = modules_bytes(r, 4096);
    int rc;

    if (!r->modules)
        return 0;
    if (r->modules > PVH_MODULES_MAX)
        return err_set(e, E2BIG, "initrd: %zu modules, at most %d", r->modules, PVH_MODULES_MAX);
    at = e820_highest(r->map, MAX(total, 4096), 4096, p->image_end, limit);
    if (!at)
        return err_set(e, ENOSPC,
                       "initrd %s: %llu KiB do not fit into the guest's memory beside the "
                       "kernel; give it more (-m)",
                       r->module[0].name, (unsigned long long)total >> 10);
    for (size_t i = 0; i < r->modules; i++) {
        const struct boot_file *f = &r->module[i];

        if (f->len && mem_write(r->mem, at, f->data, f->len))
            return err_set(e, EFAULT, "initrd %s: %#llx is not RAM", f->name,
                           (unsigned long long)at);
        put_le64(list + i * MODULE_BYTES, at);
        put_le64(list + i * MODULE_BYTES + 8, f->len);
        if (f->args) {
            rc = arena_put_string(&p->arena, f->args, &args, e);
            if (rc)
                return rc;
            put_le64(list + i * MODULE_BYTES + 16, args);
        }
        at += align_up(f->len, 4096);
    }
    return arena_put(&p->arena, list, r->modules * MODULE_BYTES, 16, &p->modlist, e);
}

static int put_memmap(struct pvh *p, struct err *e)
{
    const struct e820_map *map = p->r->map;
    u8 list[E820_MAX * MEMMAP_BYTES] = {0};

    for (unsigned i = 0; i < map->count; i++) {
        put_le64(list + i * MEMMAP_BYTES, map->entry[i].addr);
        put_le64(list + i * MEMMAP_BYTES + 8, map->entry[i].size);
        put_le32(list + i * MEMMAP_BYTES + 16, map->entry[i].type);
    }
    return arena_put(&p->arena, list, map->count * MEMMAP_BYTES, 16, &p->memmap, e);
}

static int put_start_info(struct pvh *p, u64 *gpa, struct err *e)
{
    u8 info[START_BYTES] = {0};

    put_le32(info, START_MAGIC);
    put_le32(info + 4, START_VERSION);
    put_le32(info + 12, (u32)p->r->modules);
    put_le64(info + 16, p->modlist);
    put_le64(info + 24, p->cmdline);
    put_le64(info + 32, p->r->rsdp_gpa);
    put_le64(info + 40, p->memmap);
    put_le32(info + 48, p->r->map->count);
    return arena_put(&p->arena, info, sizeof(info), 16, gpa, e);
}

int pvh_load(const struct boot_request *r, struct x86_state *s, struct err *e)
{
    struct pvh p = {.r = r};
    struct elf_image img;
    u64 info;
    int rc;

    rc = elf_parse(&r->kernel, &img, e);
    if (rc)
        return rc;
    if (!img.has_pvh)
        return err_set(e, ENOEXEC,
                       "kernel %s: an ELF file without a PVH note (XEN_ELFNOTE_PHYS32_ENTRY) or "
                       "multiboot header; use a bzImage, or a vmlinux built with CONFIG_PVH=y",
                       r->kernel.name);
    if (img.pvh_entry < img.lowest || img.pvh_entry >= MIN(img.end, ABOVE_4G_GPA))
        return boot_bad(r, e, "XEN_ELFNOTE_PHYS32_ENTRY %#llx lies outside the image",
                        (unsigned long long)img.pvh_entry);
    if (strlen(r->cmdline) >= CMDLINE_MAX)
        return err_set(e, E2BIG, "command line: longer than %d bytes", CMDLINE_MAX - 1);
    rc = elf_load(r, &img, e);
    if (rc)
        return rc;
    p.image_end = img.end;
    rc = arena_init(&p.arena, r, img.lowest, img.end, 0x10000, e);
    if (!rc)
        rc = arena_put_string(&p.arena, r->cmdline, &p.cmdline, e);
    if (!rc)
        rc = put_modules(&p, e);
    if (!rc)
        rc = put_memmap(&p, e);
    if (!rc)
        rc = put_start_info(&p, &info, e);
    if (!rc)
        rc = boot_state_flat32(r, &p.arena, (u32)img.pvh_entry, s, e);
    if (rc)
        return rc;
    s->gpr[X86_RBX] = info;
    return 0;
}
