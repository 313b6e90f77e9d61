/* bios.c - a raw ROM image below 4 GiB, entered at the reset vector */
#include <errno.h>

#include "machine/boot/boot.h"
#include "machine/layout.h"

/* Boards show 128 KiB of the ROM below 1 MiB, and larger firmware copies the rest into shadow RAM
 * by registers of a host bridge. There is no such bridge: the shadow is RAM from the start, and as
 * large as the area for ROMs. */
int bios_load(struct mem *mem, const struct boot_file *rom, struct x86_state *s, struct err *e)
{
    u64 shadow = MIN(rom->len, BIOS_SHADOW_MAX);
    int rc;

    if (rom->len == 0 || rom->len % 4096)
        return err_set(e, EINVAL,
                       "bios %s: %llu bytes is not a whole number of 4 KiB pages; pad the image "
                       "in front",
                       rom->name, (unsigned long long)rom->len);
    if (rom->len > BIOS_MAX)
        return err_set(e, EINVAL, "bios %s: %llu KiB is larger than the %u KiB below 4 GiB",
                       rom->name, (unsigned long long)rom->len >> 10, (unsigned)(BIOS_MAX >> 10));
    rc = mem_add_rom(mem, ABOVE_4G_GPA - rom->len, rom->len, rom->data, rom->len, e);
    if (rc)
        return rc;
    rc = mem_write(mem, HIGH_MEM_GPA - shadow, rom->data + rom->len - shadow, shadow);
    if (rc)
        return err_set(e, -rc, "bios %s: the memory below 1 MiB is not RAM", rom->name);
    x86_state_reset(s, false);
    return 0;
}
