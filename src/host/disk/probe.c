/* probe.c - what a disk seems to hold: file systems and partitions of Linux */
#include "host/disk/probe.h"

#include <endian.h>
#include <string.h>

#include "base/checked.h"

#define SECTOR 512u

static bool read_at(struct disk *d, u64 off, void *buf, u64 len)
{
    struct iovec v = {buf, len};

    return range_ok(off, len, disk_bytes(d)) && disk_readv(d, off, &v, 1) == 0;
}

/* ---- file systems ---- */

static const struct {
    u32 off;
    u8 len;
    const char *bytes;
} magics[] = {
    {0, 4, "XFSB"},
    {0, 4, "hsqs"},                /* SquashFS */
    {1024, 4, "\xe2\xe1\xf5\xe0"}, /* EROFS */
    {1024, 4, "\x10\x20\xf5\xf2"}, /* F2FS */
    {1080, 2, "\x53\xef"},         /* ext2, ext3, ext4 */
    {65600, 8, "_BHRfS_M"},        /* Btrfs */
};

static bool has_file_system(struct disk *d, u64 start)
{
    u8 buf[8];

    for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
        u64 off;

        if (add_ok(start, magics[i].off, &off) && read_at(d, off, buf, magics[i].len) &&
            !memcmp(buf, magics[i].bytes, magics[i].len))
            return true;
    }
    return false;
}

/* ---- GPT (UEFI 2.10, 5.3) ---- */

#define GPT_ENTRIES_MAX 128
#define GPT_ENTRY_BYTES 128

struct gpt_header {
    char signature[8];
    u32 revision, bytes, crc, reserved;
    u64 here, other, first, last;
    u8 disk_guid[16];
    u64 entries_lba;
    u32 entries, entry_bytes, entries_crc;
};

struct gpt_entry {
    u8 type[16], guid[16];
    u64 first, last, attributes;
    u16 name[36];
};

/* 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 and 0FC63DAF-8483-4772-8E79-3D69D8477DE4 as on disk */
static const u8 type_root[16] = "\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09";
static const u8 type_linux[16] = "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";

static bool find_type(struct disk *d, const struct gpt_entry *entry, u32 n, const u8 *type,
                      unsigned *partition)
{
    for (u32 i = 0; i < n; i++) {
        u64 start;

        if (!memcmp(entry[i].type, type, 16) && mul_ok(le64toh(entry[i].first), SECTOR, &start) &&
            has_file_system(d, start)) {
            *partition = i + 1;
            return true;
        }
    }
    return false;
}

static bool find_gpt(struct disk *d, unsigned *partition)
{
    struct gpt_entry entry[GPT_ENTRIES_MAX];
    struct gpt_header h;
    u64 start;
    u32 n;

    if (!read_at(d, SECTOR, &h, sizeof(h)) || memcmp(h.signature, "EFI PART", 8) ||
        le32toh(h.entry_bytes) != GPT_ENTRY_BYTES ||
        !mul_ok(le64toh(h.entries_lba), SECTOR, &start))
        return false;
    n = MIN(le32toh(h.entries), (u32)GPT_ENTRIES_MAX);
    return read_at(d, start, entry, n * sizeof(*entry)) &&
           (find_type(d, entry, n, type_root, partition) ||
            find_type(d, entry, n, type_linux, partition));
}

/* ---- MBR ---- */

#define MBR_TABLE 446
#define MBR_LINUX 0x83

static bool find_mbr(struct disk *d, unsigned *partition)
{
    u8 mbr[SECTOR];

    if (!read_at(d, 0, mbr, sizeof(mbr)) || mbr[510] != 0x55 || mbr[511] != 0xaa)
        return false;
    for (unsigned i = 0; i < 4; i++) {
        const u8 *p = mbr + MBR_TABLE + 16 * i;
        u32 first;

        memcpy(&first, p + 8, sizeof(first));
        if (p[4] == MBR_LINUX && has_file_system(d, (u64)le32toh(first) * SECTOR)) {
            *partition = i + 1;
            return true;
        }
    }
    return false;
}

bool disk_find_root(struct disk *d, unsigned *partition)
{
    *partition = 0;
    return has_file_system(d, 0) || find_gpt(d, partition) || find_mbr(d, partition);
}
