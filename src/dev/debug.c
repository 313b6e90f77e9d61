/* debug.c - debug console (Bochs port E9h), exit port, panic notifier and DMA page registers */
#include "dev/debug.h"

#include <string.h>

#define DEBUG_SIGNATURE 0xe9

static u64 debug_port_read(void *dev, u64 off, unsigned size)
{
    return DEBUG_SIGNATURE;
}

static void debug_port_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct debug_port *d = dev;
    if (d->write)
        d->write(d->ctx, (u8)val);
}

const struct region_ops debug_port_ops = {debug_port_read, debug_port_write, 1, 1, 1, 1, true};

static u64 debug_exit_read(void *dev, u64 off, unsigned size)
{
    return 0;
}

/* The first byte's port counts; a wider write is one value. */
static void debug_exit_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct debug_exit *d = dev;
    if (d->exit)
        d->exit(d->ctx, (int)((u32)val << 1 | 1));
}

const struct region_ops debug_exit_ops = {debug_exit_read, debug_exit_write, 1, 4, 1, 4, true};

static u64 pvpanic_read(void *dev, u64 off, unsigned size)
{
    return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct pvpanic *p = dev;
    unsigned event = val & (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
    if (event && p->panic)
        p->panic(p->ctx, event);
}

const struct region_ops pvpanic_ops = {pvpanic_read, pvpanic_write, 1, 1, 1, 1, true};

static u64 dma_page_read(void *dev, u64 off, unsigned size)
{
    const struct dma_page *d = dev;
    return d->reg[off];
}

static void dma_page_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct dma_page *d = dev;
    d->reg[off] = (u8)val;
}

const struct region_ops dma_page_ops = {dma_page_read, dma_page_write, 1, 4, 1, 1, true};

static const struct snap_field dma_page_fields[] = {SNAP_U8(struct dma_page, reg), SNAP_END};

/* Any value is one the guest may have written. */
static int dma_page_check(const void *scratch, struct err *e)
{
    return 0;
}

const struct snap_desc dma_page_snap = {
    "dma_page", 1, sizeof(struct dma_page), dma_page_fields, dma_page_check, NULL, NULL};

void dma_page_reset(struct dma_page *d)
{
    memset(d->reg, 0, sizeof(d->reg));
}
