/* boot.c - which loader a kernel file needs */
#include "machine/boot/boot.h"

#include <errno.h>
#include <string.h>

#include "machine/boot/elf.h"

#define LINUX_MAGIC_OFFSET 0x202

enum boot_format boot_detect(const struct boot_file *f)
{
    struct elf_image img;
    u64 header;

    if (f->len >= LINUX_MAGIC_OFFSET + 4 && !memcmp(f->data + LINUX_MAGIC_OFFSET, "HdrS", 4))
        return BOOT_BZIMAGE;
    /* A kernel with both (Xen) is started by PVH, which assumes no BIOS services. */
    bool elf = elf_magic(f), parsed = elf && elf_parse(f, &img, NULL) == 0;
    if (multiboot_find(f, &header) && !(parsed && img.has_pvh))
        return BOOT_MULTIBOOT;
    if (!elf)
        return BOOT_UNKNOWN;
    return parsed && !img.has_pvh ? BOOT_ELF : BOOT_PVH;
}

int boot_load(const struct boot_request *r, struct x86_state *s, struct err *e)
{
    switch (boot_detect(&r->kernel)) {
    case BOOT_BZIMAGE: return bzimage_load(r, s, e);
    case BOOT_MULTIBOOT: return multiboot_load(r, s, e);
    case BOOT_PVH:
    case BOOT_ELF: return pvh_load(r, s, e);
    case BOOT_UNKNOWN: break;
    }
    if (r->kernel.len == 0)
        return err_set(e, ENOEXEC, "kernel %s: the file is empty", r->kernel.name);
    return err_set(e, ENOEXEC,
                   "kernel %s: not a kernel: no magic of a bzImage (HdrS), ELF or multiboot file",
                   r->kernel.name);
}
