/* smbios.c - what the firmware says of the machine (DMTF DSP0134, SMBIOS 3.0) */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "machine/acpi.h"
#include "machine/bytes.h"
#include "machine/layout.h"

#define ENTRY2_BYTES        31
#define ENTRY3_BYTES        24
#define TABLE_OFFSET        64 /* after both entry points */
#define MEMORY_ARRAY_HANDLE 0x1000

struct smbios {
    u8 *buf;
    size_t cap, len;
    u8 *row; /* the structure being filled */
    unsigned count, longest;
    bool failed;
};

/* Opens a structure of `bytes` formatted bytes; rows that do not fit land in the entry points'
 * space and are given up with `failed`. */
static u8 *begin(struct smbios *s, u8 type, u8 bytes, u16 handle)
{
    if (s->failed || bytes + 2u > s->cap - s->len) {
        s->failed = true;
        s->len = TABLE_OFFSET;
    }
    s->row = s->buf + s->len;
    s->row[0] = type;
    s->row[1] = bytes;
    put_le16(s->row + 2, handle);
    s->len += bytes;
    return s->row;
}

/* The strings of the open structure, NULL-terminated list, and its end. */
static void end(struct smbios *s, ...)
{
    const char *text;
    unsigned strings = 0, size;
    va_list ap;

    va_start(ap, s);
    while ((text = va_arg(ap, const char *))) {
        size_t n = strlen(text) + 1;

        if (s->failed || n + 1 > s->cap - s->len) {
            s->failed = true;
            break;
        }
        memcpy(s->buf + s->len, text, n);
        s->len += n;
        strings++;
    }
    va_end(ap);
    if (s->failed || s->cap - s->len < 2) {
        s->failed = true;
        return;
    }
    s->buf[s->len++] = 0;
    if (!strings)
        s->buf[s->len++] = 0;
    size = (unsigned)(s->buf + s->len - s->row);
    s->longest = MAX(s->longest, size);
    s->count++;
}

static void firmware_and_system(struct smbios *s, const struct tables_config *cfg)
{
    u8 *p = begin(s, 0, 24, 0);

    p[4] = 1;                   /* vendor */
    p[5] = 2;                   /* version */
    put_le16(p + 6, 0xe000);    /* segment */
    p[8] = 3;                   /* release date */
    p[9] = 1;                   /* 128 KiB */
    put_le64(p + 10, BIT64(3)); /* characteristics: unknown */
    p[19] = BIT(4);             /* a virtual machine */
    p[20] = p[21] = 0;
    p[22] = p[23] = 0xff;
    end(s, "ring3", RING3_VERSION, "01/01/2024", NULL);

    p = begin(s, 1, 27, 0x100);
    p[4] = 1;
    p[5] = 2;
    p[6] = 3;
    memcpy(p + 8, cfg->uuid, 16);
    p[24] = 6; /* wake-up: power switch */
    end(s, "ring3", "ring3 PC", RING3_VERSION, NULL);

    p = begin(s, 3, 21, 0x300);
    p[4] = 1;
    p[5] = 1;                 /* chassis: other */
    p[9] = p[10] = p[11] = 3; /* safe */
    p[12] = 2;                /* security: unknown */
    end(s, "ring3", NULL);
}

static void processors(struct smbios *s, const struct tables_config *cfg)
{
    for (unsigned i = 0; i < cfg->cpus; i++) {
        char socket[16];
        u8 *p = begin(s, 4, 48, (u16)(0x400 + i));

        snprintf(socket, sizeof(socket), "CPU %u", i);
        p[4] = 1; /* socket */
        p[5] = 3; /* central processor */
        p[6] = 1; /* family: other */
        p[7] = 2; /* manufacturer */
        put_le32(p + 8, cfg->cpu_signature);
        put_le32(p + 12, cfg->cpu_features);
        p[24] = 0x41; /* populated, enabled */
        p[25] = 1;
        put_le16(p + 26, 0xffff);
        put_le16(p + 28, 0xffff);
        put_le16(p + 30, 0xffff);
        p[35] = p[36] = p[37] = 1; /* cores, enabled cores, threads */
        put_le16(p + 38, 0x4);     /* 64-bit capable */
        put_le16(p + 40, 1);
        put_le16(p + 42, 1);
        put_le16(p + 44, 1);
        put_le16(p + 46, 1);
        end(s, socket, "ring3", NULL);
    }
}

static void mapped_range(struct smbios *s, u16 handle, u64 first, u64 end_gpa)
{
    u8 *p = begin(s, 19, 31, handle);

    put_le32(p + 4, (u32)(first >> 10));
    put_le32(p + 8, (u32)((end_gpa >> 10) - 1));
    if (end_gpa >> 10 > 0xffffffffull) {
        put_le32(p + 4, 0xffffffff);
        put_le32(p + 8, 0xffffffff);
        put_le64(p + 15, first);
        put_le64(p + 23, end_gpa - 1);
    }
    put_le16(p + 12, MEMORY_ARRAY_HANDLE);
    p[14] = 1;
    end(s, NULL);
}

static void memory(struct smbios *s, const struct tables_config *cfg)
{
    u64 mib = cfg->ram_bytes >> 20, low = MIN(cfg->ram_bytes, MMIO_HOLE_GPA);
    u8 *p = begin(s, 16, 23, MEMORY_ARRAY_HANDLE);

    p[4] = 1; /* location: other */
    p[5] = 3; /* system memory */
    p[6] = 6; /* multi-bit ECC */
    put_le32(p + 7, 0x80000000u);
    put_le16(p + 11, 0xfffe);
    put_le16(p + 13, 1);
    put_le64(p + 15, cfg->ram_bytes);
    end(s, NULL);

    p = begin(s, 17, 40, 0x1100);
    put_le16(p + 4, MEMORY_ARRAY_HANDLE);
    put_le16(p + 6, 0xfffe);
    put_le16(p + 8, 0xffff);
    put_le16(p + 10, 0xffff);
    put_le16(p + 12, mib < 0x7fff ? (u16)mib : 0x7fff);
    p[14] = 9; /* DIMM */
    p[16] = 1; /* locator */
    p[18] = 7; /* RAM */
    put_le16(p + 19, BIT(1));
    p[23] = 2; /* manufacturer */
    put_le32(p + 28, mib < 0x7fff ? 0 : (u32)mib);
    end(s, "DIMM 0", "ring3", NULL);

    mapped_range(s, 0x1300, 0, low);
    if (cfg->ram_bytes > low)
        mapped_range(s, 0x1301, ABOVE_4G_GPA, ABOVE_4G_GPA + cfg->ram_bytes - low);
}

static void boot_status_and_end(struct smbios *s)
{
    begin(s, 32, 11, 0x2000); /* no error */
    end(s, NULL);
    begin(s, 127, 4, 0x7f00);
    end(s, NULL);
}

int smbios_build(const struct tables_config *cfg, u8 *buf, size_t cap, u64 gpa, struct err *e)
{
    struct smbios s = {.buf = buf, .cap = cap, .len = TABLE_OFFSET};
    u8 *e2 = buf, *e3 = buf + 32;

    ASSERT(cap >= TABLE_OFFSET + 64);
    firmware_and_system(&s, cfg);
    processors(&s, cfg);
    memory(&s, cfg);
    boot_status_and_end(&s);
    if (s.failed)
        return err_set(e, ENOSPC, "SMBIOS table: more than the %zu bytes set aside", cap);

    memcpy(e2, "_SM_", 4);
    e2[5] = ENTRY2_BYTES;
    e2[6] = 2;
    e2[7] = 8;
    put_le16(e2 + 8, (u16)s.longest);
    memcpy(e2 + 16, "_DMI_", 5);
    put_le16(e2 + 22, (u16)(s.len - TABLE_OFFSET));
    put_le32(e2 + 24, (u32)(gpa + TABLE_OFFSET));
    put_le16(e2 + 28, (u16)s.count);
    e2[30] = 0x28;
    e2[21] = checksum8(e2 + 16, 15);
    e2[4] = checksum8(e2, ENTRY2_BYTES);

    memcpy(e3, "_SM3_", 5);
    e3[6] = ENTRY3_BYTES;
    e3[7] = 3;
    e3[10] = 1;
    put_le32(e3 + 12, (u32)(s.len - TABLE_OFFSET));
    put_le64(e3 + 16, gpa + TABLE_OFFSET);
    e3[5] = checksum8(e3, ENTRY3_BYTES);
    return (int)s.len;
}
