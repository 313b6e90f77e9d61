/* testdev.c - port, MMIO and interrupt-line test device for x86 conformance suites (pc-testdev) */
#include "dev/testdev.h"

#include <errno.h>
#include <string.h>

static u64 latch_read(void *dev, u64 off, unsigned size)
{
    const struct testdev *t = dev;
    return t->latch >> off * 8;
}

static void latch_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct testdev *t = dev;
    u32 mask = (size == 4 ? 0xffffffffu : BIT(size * 8) - 1) << off * 8;
    t->latch = (t->latch & ~mask) | ((u32)val << off * 8 & mask);
}

static u64 flush_read(void *dev, u64 off, unsigned size)
{
    return UINT64_MAX;
}

/* The guest asks that the host drop its mapping of a page. Engines keep theirs coherent by
 * themselves. */
static void flush_write(void *dev, u64 off, unsigned size, u64 val)
{
}

static u64 irq_read(void *dev, u64 off, unsigned size)
{
    return UINT64_MAX;
}

static void irq_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct testdev *t = dev;
    t->irq_level = val ? t->irq_level | BIT(off) : t->irq_level & ~BIT(off);
    t->irq(t->ctx, (unsigned)off, val != 0);
}

static u64 mmio_read(void *dev, u64 off, unsigned size)
{
    const struct testdev *t = dev;
    u64 val = 0;
    memcpy(&val, t->scratch + off, size);
    return val;
}

static void mmio_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct testdev *t = dev;
    memcpy(t->scratch + off, &val, size);
}

const struct region_ops testdev_latch_ops = {latch_read, latch_write, 1, 4, 1, 4, false};
const struct region_ops testdev_flush_ops = {flush_read, flush_write, 4, 4, 4, 4, false};
const struct region_ops testdev_byte_ops = {latch_read, latch_write, 1, 4, 1, 1, true};
const struct region_ops testdev_irq_ops = {irq_read, irq_write, 1, 1, 1, 1, true};
const struct region_ops testdev_mmio_ops = {mmio_read, mmio_write, 1, 8, 1, 8, true};

static const struct snap_field testdev_fields[] = {SNAP_U32(struct testdev, latch),
                                                   SNAP_U32(struct testdev, irq_level),
                                                   SNAP_U8(struct testdev, scratch), SNAP_END};

static int testdev_check(const void *scratch, struct err *e)
{
    const struct testdev *t = scratch;
    if (t->irq_level >> TESTDEV_IRQS)
        return err_set(e, EINVAL, "testdev: interrupt lines %#x", t->irq_level);
    return 0;
}

static void testdev_loaded(void *obj)
{
    struct testdev *t = obj;
    for (unsigned i = 0; i < TESTDEV_IRQS; i++)
        t->irq(t->ctx, i, t->irq_level & BIT(i));
}

const struct snap_desc testdev_snap = {
    "testdev", 1, sizeof(struct testdev), testdev_fields, testdev_check, testdev_loaded, NULL};

void testdev_reset(struct testdev *t)
{
    t->latch = 0;
    t->irq_level = 0;
    memset(t->scratch, 0, sizeof(t->scratch));
    testdev_loaded(t);
}

void testdev_init(struct testdev *t, void (*irq)(void *ctx, unsigned gsi, bool level), void *ctx)
{
    memset(t, 0, sizeof(*t));
    t->irq = irq;
    t->ctx = ctx;
}
