/* fwcfg.c - firmware configuration device (the fw_cfg interface, with DMA) */
#include "dev/fwcfg.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "dev/fwcfg_items.h"

#define OFF_SELECTOR 0
#define OFF_DATA     1
#define OFF_DMA      4
#define OFF_DMA_LOW  8

/* DMA descriptor in guest memory, big-endian: u32 control, u32 length, u64 address.
 * Control: 31-16 key | 4 write | 3 select | 2 skip | 1 read | 0 error. Zero means done. */
struct dma_descriptor {
    u32 control;
    u32 length;
    u64 address;
};

#define DMA_ERROR     BIT(0)
#define DMA_READ      BIT(1)
#define DMA_SKIP      BIT(2)
#define DMA_SELECT    BIT(3)
#define DMA_WRITE     BIT(4)
#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG": what the address register reads */

static void select_key(struct fwcfg *f, u16 key)
{
    f->key = key;
    f->offset = 0;
}

static u8 next_byte(struct fwcfg *f)
{
    const struct fwcfg_item *it = fwcfg_find(f, f->key);
    return it && f->offset < it->len ? it->data[f->offset++] : 0;
}

/* Copies from the item to the guest; what lies past its end reads as zeros. */
static int dma_read(struct fwcfg *f, u64 gpa, u32 len)
{
    const struct fwcfg_item *it = fwcfg_find(f, f->key);
    u32 have = it && f->offset < it->len ? MIN(len, it->len - f->offset) : 0;
    u64 end;
    if (!add_ok(gpa, len, &end))
        return -EFAULT;
    if (have) {
        int ret = mem_write(f->mem, gpa, it->data + f->offset, have);
        if (ret)
            return ret;
        f->offset += have;
    }
    return len > have ? mem_fill(f->mem, gpa + have, 0, len - have) : 0;
}

static void skip(struct fwcfg *f, u32 len)
{
    u64 end = (u64)f->offset + len;
    f->offset = end > UINT32_MAX ? UINT32_MAX : (u32)end;
}

/* The descriptor is copied once; nothing here trusts it. Writing items is not offered: -EPERM. */
static int dma_run(struct fwcfg *f, const struct dma_descriptor *d)
{
    u32 control = be32toh(d->control), len = be32toh(d->length);
    if (control & DMA_SELECT)
        select_key(f, (u16)(control >> 16));
    if (control & DMA_READ)
        return dma_read(f, be64toh(d->address), len);
    if (control & DMA_WRITE)
        return -EPERM;
    if (control & DMA_SKIP)
        skip(f, len);
    return 0;
}

static void dma_start(struct fwcfg *f)
{
    struct dma_descriptor d;
    u64 gpa = f->dma;
    f->dma = 0;
    if (mem_read(f->mem, gpa, &d, sizeof(d)))
        return; /* no place to report to either */
    u32 result = dma_run(f, &d) ? htobe32(DMA_ERROR) : 0;
    if (mem_write(f->mem, gpa, &result, sizeof(result)))
        return;
}

/* Pieces of one 64-bit big-endian register, by its most significant byte first. */
static u64 dma_register_read(u64 off, unsigned size)
{
    return htobe64(DMA_SIGNATURE) >> (off - OFF_DMA) * 8;
}

static void dma_register_write(struct fwcfg *f, u64 off, unsigned size, u64 val)
{
    if (off == OFF_DMA && size == 4) {
        f->dma = (f->dma & 0xffffffff) | (u64)be32toh((u32)val) << 32;
    } else if (off == OFF_DMA_LOW && size == 4) {
        f->dma = (f->dma & ~0xffffffffull) | be32toh((u32)val);
        dma_start(f);
    } else if (off == OFF_DMA && size == 8) {
        f->dma = be64toh(val);
        dma_start(f);
    }
}

static u64 fwcfg_read(void *dev, u64 off, unsigned size)
{
    struct fwcfg *f = dev;
    if (off >= OFF_DMA)
        return dma_register_read(off, size);
    return size == 1 && off <= OFF_DATA ? next_byte(f) : UINT64_MAX;
}

static void fwcfg_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct fwcfg *f = dev;
    if (off >= OFF_DMA)
        dma_register_write(f, off, size, val);
    else if (off == OFF_SELECTOR && size == 2)
        select_key(f, (u16)val);
}

const struct region_ops fwcfg_ops = {fwcfg_read, fwcfg_write, 1, 8, 1, 8, true};

/* The items are configuration, not state: a machine that is restored was built with the same
 * ones. */
static const struct snap_field fwcfg_fields[] = {SNAP_U16(struct fwcfg, key),
                                                 SNAP_U32(struct fwcfg, offset),
                                                 SNAP_U64(struct fwcfg, dma), SNAP_END};

/* Every key, offset and address is one the guest may set. */
static int fwcfg_check(const void *scratch, struct err *e)
{
    return 0;
}

const struct snap_desc fwcfg_snap = {"fwcfg", 1,   sizeof(struct fwcfg), fwcfg_fields, fwcfg_check,
                                     NULL,    NULL};

void fwcfg_reset(struct fwcfg *f)
{
    f->key = 0;
    f->offset = 0;
    f->dma = 0;
}
