/* elf.h - ELF executables as kernel images */
#pragma once

#include "machine/boot/boot.h"

#define ELF_SEGMENTS_MAX 64

struct elf_segment {
    u64 file_off, file_len; /* inside the file */
    u64 vaddr, paddr;
    u64 mem_len; /* >= file_len; paddr + mem_len does not wrap */
};

struct elf_image {
    bool is64;
    u64 entry;                                    /* virtual */
    u64 lowest, end;                              /* physical extent of all segments */
    unsigned count;                               /* >= 1 after a good parse */
    struct elf_segment segment[ELF_SEGMENTS_MAX]; /* PT_LOAD with memory */
    bool has_pvh;
    u64 pvh_entry; /* physical: note XEN_ELFNOTE_PHYS32_ENTRY */
};

bool elf_magic(const struct boot_file *f);

/* Reads headers, segments and notes of an x86 executable. -EINVAL names the damaged field. Pure. */
must_check int elf_parse(const struct boot_file *f, struct elf_image *img, struct err *e);

/* Copies the segments to their physical addresses. -ENOSPC when one does not lie in RAM. */
must_check int elf_load(const struct boot_request *r, const struct elf_image *img, struct err *e);

/* The physical address of a virtual one inside a segment; the address itself when in none. */
u64 elf_physical(const struct elf_image *img, u64 vaddr);
