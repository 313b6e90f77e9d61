/* fuzz_snap.c - any bytes as a snapshot stream: refused without a trace, or loaded and saved */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "snap/snap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct chip {
    u8 mode;
    bool on;
    u16 count[3];
    u32 addr;
    u64 when[2];
};

static int check_chip(const void *scratch, struct err *e)
{
    const struct chip *c = scratch;

    return c->mode > 9 ? err_set(e, EINVAL, "mode %u does not exist", c->mode) : 0;
}

static const struct snap_field chip_fields[] = {
    SNAP_U8(struct chip, mode),  SNAP_BOOL(struct chip, on),  SNAP_U16(struct chip, count),
    SNAP_U32(struct chip, addr), SNAP_U64(struct chip, when), SNAP_END,
};
static const struct snap_desc chip_desc = {
    .name = "chip", .version = 1, .size = sizeof(struct chip), .fields = chip_fields,
    .check = check_chip,
};

static void try_stream(const u8 *data, size_t size)
{
    static const struct chip before[2] = {{.mode = 3}, {.mode = 4}};
    struct chip chip[2];
    struct snap_item item[2] = {{&chip_desc, 0, &chip[0]}, {&chip_desc, 1, &chip[1]}};
    struct snap_buf again = {0};
    struct err e = {0};

    memcpy(chip, before, sizeof(chip));
    if (snap_load(data, size, item, 2, &e) < 0) {
        ASSERT(e.code > 0 && e.msg[0] && memchr(e.msg, 0, sizeof(e.msg)));
        ASSERT(memcmp(chip, before, sizeof(chip)) == 0);
        return;
    }
    ASSERT(e.code == 0 && chip[0].mode <= 9 && chip[1].mode <= 9);
    ASSERT(snap_save(&again, item, 2, &e) == 0 && again.len == size);
    /* Records may have come in another order, so a second round is compared. */
    ASSERT(snap_load(again.data, again.len, item, 2, &e) == 0);
    snap_buf_free(&again);
}

static u32 get_u32(const u8 *p)
{
    return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

/* Corrects the checksums, which no mutation would ever get right. */
static void mend_checksums(u8 *data, size_t size)
{
    size_t at = 12;

    while (at < size) {
        size_t head = 1u + data[at] + 12u, end;
        u32 crc;
        if (head > size - at)
            return;
        end = at + head + get_u32(data + at + head - 4);
        if (end > size || size - end < 4)
            return;
        crc = (u32)crc32(0, data + at, (uInt)(end - at));
        for (unsigned i = 0; i < 4; i++)
            data[end + i] = (u8)(crc >> (8 * i));
        at = end + 4;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u8 *copy = malloc(size ? size : 1);

    if (!copy)
        return 0;
    memcpy(copy, data, size);
    try_stream(copy, size);
    mend_checksums(copy, size);
    try_stream(copy, size);
    free(copy);
    return 0;
}
