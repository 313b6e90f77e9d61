/* place.c - finding room for what a loader adds beside the kernel image */
#include "machine/boot/place.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "machine/bytes.h"
#include "machine/layout.h"

#define SEL_CODE  0x10
#define SEL_DATA  0x18
#define SEL_TSS   0x20
#define TSS_LIMIT 0x67

/* IA32_MTRR_DEF_TYPE, memory type 6 and IA32_MTRR_PHYSMASK (SDM vol. 3 12.11.2). */
#define MTRR_FIXED_ENABLE BIT64(10)
#define MTRR_ENABLE       BIT64(11)
#define MTRR_VALID        BIT64(11)
#define MTRR_WB           6ull

/* Access bytes and flags of descriptors, as x86_seg.attr keeps them. */
#define ATTR_CODE32   (SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED | SEG_DB | SEG_G)
#define ATTR_CODE64   (SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED | SEG_L | SEG_G)
#define ATTR_DATA     (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED | SEG_DB | SEG_G)
#define ATTR_TSS_BUSY (SEG_P | 0xb)

int boot_bad(const struct boot_request *r, struct err *e, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(e, EINVAL, "kernel %s: %s", r->kernel.name, text);
}

int arena_init(struct boot_arena *a, const struct boot_request *r, u64 image, u64 image_end,
               u64 size, struct err *e)
{
    u64 low_end = EBDA_GPA & ~0xfffull, at = 0;

    ASSERT(image <= image_end);
    if (image >= low_end && low_end - 0x10000 >= size) {
        at = 0x10000;
    } else if (image >= LOW_DATA_GPA && image - LOW_DATA_GPA >= size && image <= low_end) {
        at = LOW_DATA_GPA;
    } else if (image_end <= low_end && low_end - align_up(image_end, 4096) >= size) {
        at = align_up(image_end, 4096);
    } else {
        at = e820_highest(r->map, size, 4096, align_up(image_end, 4096), MMIO_HOLE_GPA);
    }
    if (!at || !e820_holds(r->map, at, size, E820_RAM))
        return err_set(e, ENOSPC,
                       "kernel %s: no room for its boot data beside the image; give the guest "
                       "more memory (-m)",
                       r->kernel.name);
    *a = (struct boot_arena){.mem = r->mem, .base = at, .at = at, .end = at + size};
    return 0;
}

int arena_put(struct boot_arena *a, const void *data, u64 len, u64 align, u64 *gpa, struct err *e)
{
    u64 at = align_up(a->at, align);
    int rc;

    if (at > a->end || len > a->end - at)
        return err_set(e, ENOSPC, "boot data: %llu bytes more than there is room for",
                       (unsigned long long)(at + len - a->end));
    rc = data ? mem_write(a->mem, at, data, len) : mem_fill(a->mem, at, 0, len);
    if (rc)
        return err_set(e, -rc, "boot data: %#llx is not RAM", (unsigned long long)at);
    a->at = at + len;
    *gpa = at;
    return 0;
}

int arena_put_string(struct boot_arena *a, const char *text, u64 *gpa, struct err *e)
{
    return arena_put(a, text, strlen(text) + 1, 16, gpa, e);
}

/* A descriptor with base 0; `limit` in the units that attr says (SDM vol. 3 3.4.5). */
static u64 descriptor(u32 limit, u16 attr)
{
    return (limit & 0xffff) | (u64)(limit >> 16 & 0xf) << 48 | (u64)attr << 40;
}

int arena_put_gdt(struct boot_arena *a, bool long_mode, struct x86_state *s, struct err *e)
{
    u16 code = long_mode ? ATTR_CODE64 : ATTR_CODE32;
    u8 gdt[6 * 8] = {0};
    u64 gpa;
    int rc;

    put_le64(gdt + SEL_CODE, descriptor(0xfffff, code));
    put_le64(gdt + SEL_DATA, descriptor(0xfffff, ATTR_DATA));
    put_le64(gdt + SEL_TSS, descriptor(TSS_LIMIT, ATTR_TSS_BUSY));
    rc = arena_put(a, gdt, sizeof(gdt), 8, &gpa, e);
    if (rc)
        return rc;
    s->gdtr = (struct x86_dtable){.base = gpa, .limit = sizeof(gdt) - 1};
    s->seg[X86_CS] = (struct x86_seg){0, 0xffffffff, SEL_CODE, code};
    for (unsigned i = 0; i < X86_SREGS; i++)
        if (i != X86_CS)
            s->seg[i] = (struct x86_seg){0, 0xffffffff, SEL_DATA, ATTR_DATA};
    s->tr = (struct x86_seg){0, TSS_LIMIT, SEL_TSS, ATTR_TSS_BUSY};
    s->ldtr = (struct x86_seg){0, 0, 0, 0};
    s->idtr = (struct x86_dtable){0, 0};
    return 0;
}

void boot_state_firmware(const struct boot_request *r, struct x86_state *s)
{
    u64 phys_mask = BIT64(r->phys_bits ? r->phys_bits : 36) - 1;

    x86_state_reset(s, false);
    s->mtrr_def_type = MTRR_ENABLE | MTRR_FIXED_ENABLE | MTRR_WB;
    for (unsigned i = 0; i < ARRAY_SIZE(s->mtrr_fixed); i++)
        s->mtrr_fixed[i] = 0x0101010101010101ull * MTRR_WB;
    s->mtrr_fixed[2] = 0; /* A0000-BFFFF: uncached */
    s->mtrr_base[0] = MMIO_HOLE_GPA;
    s->mtrr_mask[0] = (phys_mask & ~(ABOVE_4G_GPA - MMIO_HOLE_GPA - 1)) | MTRR_VALID;
}

int boot_state_flat32(const struct boot_request *r, struct boot_arena *a, u32 entry,
                      struct x86_state *s, struct err *e)
{
    boot_state_firmware(r, s);
    s->rip = entry;
    s->rflags = RFLAGS_ONE;
    s->cr0 = CR0_PE | CR0_ET;
    s->cr4 = 0;
    s->efer = 0;
    s->cpl = 0;
    return arena_put_gdt(a, false, s, e);
}

u64 modules_bytes(const struct boot_request *r, u64 align)
{
    u64 total = 0;

    for (size_t i = 0; i < r->modules; i++)
        total += align_up(r->module[i].len, align);
    return total;
}
