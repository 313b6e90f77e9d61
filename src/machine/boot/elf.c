/* elf.c - ELF executables as kernel images (System V gABI, chapters 4 and 5) */
#include "machine/boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "machine/bytes.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18

/* Where the fields of both classes lie; wide fields are 8 bytes in ELF64, 4 in ELF32. */
struct elf_layout {
    u16 ehdr_size, entry, phoff, phentsize, phnum;
    u16 phdr_size, offset, vaddr, paddr, filesz, memsz, align;
};

static const struct elf_layout layout32 = {
    52, 24, 28, 42, 44, 32, 4, 8, 12, 16, 20, 28,
};
static const struct elf_layout layout64 = {
    64, 24, 32, 54, 56, 56, 8, 16, 24, 32, 40, 48,
};

static int bad(const struct boot_file *f, struct err *e, const char *field, u64 value)
{
    return err_set(e, EINVAL, "kernel %s: ELF field %s: bad value %#llx", f->name, field,
                   (unsigned long long)value);
}

static u64 wide(const struct elf_image *img, const u8 *p)
{
    return img->is64 ? get_le64(p) : get_le32(p);
}

bool elf_magic(const struct boot_file *f)
{
    return f->len >= SELFMAG && !memcmp(f->data, ELFMAG, SELFMAG);
}

/* One PT_NOTE: {u32 namesz, u32 descsz, u32 type, name, desc}, name and desc padded to `align`. */
static int parse_notes(const struct boot_file *f, struct elf_image *img, u64 off, u64 len,
                       u64 align, struct err *e)
{
    const u8 *p = f->data + off, *end = p + len;

    align = align == 8 ? 8 : 4;
    while (end - p >= 12) {
        u64 name_len = get_le32(p), desc_len = get_le32(p + 4);
        u64 desc_off = align_up(12 + name_len, align);
        u64 next = align_up(desc_off + desc_len, align);

        if (desc_off + desc_len > (u64)(end - p))
            return bad(f, e, "PT_NOTE n_descsz", desc_len);
        if (get_le32(p + 8) == XEN_ELFNOTE_PHYS32_ENTRY && name_len == 4 &&
            !memcmp(p + 12, "Xen", 4)) {
            if (desc_len != 4 && desc_len != 8)
                return bad(f, e, "XEN_ELFNOTE_PHYS32_ENTRY n_descsz", desc_len);
            img->pvh_entry = desc_len == 4 ? get_le32(p + desc_off) : get_le64(p + desc_off);
            img->has_pvh = true;
        }
        if (next > (u64)(end - p))
            break;
        p += next;
    }
    return 0;
}

static int add_segment(const struct boot_file *f, struct elf_image *img, struct elf_segment seg,
                       struct err *e)
{
    u64 end;

    if (seg.mem_len == 0)
        return 0;
    if (seg.file_len > seg.mem_len)
        return bad(f, e, "PT_LOAD p_filesz", seg.file_len);
    if (!add_ok(seg.paddr, seg.mem_len, &end))
        return bad(f, e, "PT_LOAD p_memsz", seg.mem_len);
    if (img->count == ELF_SEGMENTS_MAX)
        return bad(f, e, "PT_LOAD count", img->count + 1ull);
    img->lowest = img->count ? MIN(img->lowest, seg.paddr) : seg.paddr;
    img->end = MAX(img->end, end);
    img->segment[img->count++] = seg;
    return 0;
}

static int parse_phdr(const struct boot_file *f, struct elf_image *img, const struct elf_layout *l,
                      const u8 *ph, struct err *e)
{
    struct elf_segment seg = {
        .file_off = wide(img, ph + l->offset),
        .file_len = wide(img, ph + l->filesz),
        .vaddr = wide(img, ph + l->vaddr),
        .paddr = wide(img, ph + l->paddr),
        .mem_len = wide(img, ph + l->memsz),
    };
    u32 type = get_le32(ph);

    if (type != PT_LOAD && type != PT_NOTE)
        return 0;
    if (!range_ok(seg.file_off, seg.file_len, f->len))
        return err_set(e, EINVAL,
                       "kernel %s: truncated: %s p_offset %#llx + p_filesz %#llx is past the "
                       "file's %llu bytes",
                       f->name, type == PT_LOAD ? "PT_LOAD" : "PT_NOTE",
                       (unsigned long long)seg.file_off, (unsigned long long)seg.file_len,
                       (unsigned long long)f->len);
    if (type == PT_NOTE)
        return parse_notes(f, img, seg.file_off, seg.file_len, wide(img, ph + l->align), e);
    return add_segment(f, img, seg, e);
}

static int check_ident(const struct boot_file *f, struct elf_image *img, struct err *e)
{
    const u8 *h = f->data;
    u16 machine;

    if (!elf_magic(f))
        return err_set(e, ENOEXEC, "kernel %s: not an ELF file", f->name);
    if (f->len < 52)
        return err_set(e, EINVAL, "kernel %s: truncated inside the ELF header", f->name);
    if (h[EI_CLASS] != ELFCLASS32 && h[EI_CLASS] != ELFCLASS64)
        return bad(f, e, "EI_CLASS", h[EI_CLASS]);
    img->is64 = h[EI_CLASS] == ELFCLASS64;
    if (img->is64 && f->len < 64)
        return err_set(e, EINVAL, "kernel %s: truncated inside the ELF header", f->name);
    if (h[EI_DATA] != ELFDATA2LSB)
        return bad(f, e, "EI_DATA", h[EI_DATA]);
    machine = get_le16(h + 18);
    if (machine != EM_386 && machine != EM_X86_64)
        return err_set(e, ENOEXEC, "kernel %s: ELF field e_machine: %u is not x86 (3 or 62)",
                       f->name, machine);
    if (get_le16(h + 16) != ET_EXEC && get_le16(h + 16) != ET_DYN)
        return bad(f, e, "e_type", get_le16(h + 16));
    return 0;
}

int elf_parse(const struct boot_file *f, struct elf_image *img, struct err *e)
{
    const struct elf_layout *l;
    u64 phoff, phentsize, phnum;
    int rc;

    *img = (struct elf_image){.count = 0};
    rc = check_ident(f, img, e);
    if (rc)
        return rc;
    l = img->is64 ? &layout64 : &layout32;
    img->entry = wide(img, f->data + l->entry);
    phoff = wide(img, f->data + l->phoff);
    phentsize = get_le16(f->data + l->phentsize);
    phnum = get_le16(f->data + l->phnum);
    if (phnum == 0)
        return bad(f, e, "e_phnum", phnum);
    if (phentsize < l->phdr_size)
        return bad(f, e, "e_phentsize", phentsize);
    if (!range_ok(phoff, phnum * phentsize, f->len))
        return err_set(e, EINVAL,
                       "kernel %s: truncated: e_phoff %#llx with e_phnum %llu is past the file's "
                       "%llu bytes",
                       f->name, (unsigned long long)phoff, (unsigned long long)phnum,
                       (unsigned long long)f->len);
    for (u64 i = 0; i < phnum; i++) {
        rc = parse_phdr(f, img, l, f->data + phoff + i * phentsize, e);
        if (rc)
            return rc;
    }
    if (!img->count)
        return err_set(e, EINVAL, "kernel %s: no PT_LOAD segment", f->name);
    return 0;
}

int elf_load(const struct boot_request *r, const struct elf_image *img, struct err *e)
{
    for (unsigned i = 0; i < img->count; i++) {
        const struct elf_segment *s = &img->segment[i];
        const u8 *data = r->kernel.data + s->file_off;
        u64 bss = s->mem_len - s->file_len;

        if (!e820_holds(r->map, s->paddr, s->mem_len, E820_RAM))
            return err_set(e, ENOSPC,
                           "kernel %s: PT_LOAD p_paddr %#llx + p_memsz %#llx is not in the guest's "
                           "memory; give it more (-m)",
                           r->kernel.name, (unsigned long long)s->paddr,
                           (unsigned long long)s->mem_len);
        if ((s->file_len && mem_write(r->mem, s->paddr, data, s->file_len)) ||
            (bss && mem_fill(r->mem, s->paddr + s->file_len, 0, bss)))
            return err_set(e, EFAULT, "kernel %s: %#llx is not RAM", r->kernel.name,
                           (unsigned long long)s->paddr);
    }
    return 0;
}

u64 elf_physical(const struct elf_image *img, u64 vaddr)
{
    for (unsigned i = 0; i < img->count; i++) {
        const struct elf_segment *s = &img->segment[i];

        if (vaddr >= s->vaddr && vaddr - s->vaddr < s->mem_len)
            return s->paddr + (vaddr - s->vaddr);
    }
    return vaddr;
}
