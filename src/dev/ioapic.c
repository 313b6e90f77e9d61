/* ioapic.c - I/O APIC (Intel 82093AA 290566) and MSI */
#include "dev/ioapic.h"

#include <errno.h>
#include <string.h>

#define REG_SELECT 0x00
#define REG_WINDOW 0x10

#define IDX_ID          0x00
#define IDX_VERSION     0x01
#define IDX_ARBITRATION 0x02
#define IDX_TABLE       0x10
#define VERSION         ((GSI_COUNT - 1u) << 16 | 0x11)

/* Redirection entry: 63-56 destination | 16 mask | 15 level-triggered | 14 remote IRR
 * (read-only) | 13 active low | 12 delivery status (read-only, always idle) | 11 logical | 10-8
 * mode | 7-0 vector */
#define RTE_VECTOR(e)  ((u8)(e))
#define RTE_MODE(e)    ((u8)((e) >> 8 & 7))
#define RTE_LOGICAL    BIT64(11)
#define RTE_REMOTE_IRR BIT64(14)
#define RTE_LEVEL      BIT64(15)
#define RTE_MASKED     BIT64(16)
#define RTE_DEST(e)    ((u8)((e) >> 56))
#define RTE_WRITABLE   0xff0000000001afffull

/* MSI address: 31-20 FEEh | 19-12 destination | 3 redirection hint | 2 logical.
 * MSI data: 15 level | 14 assert | 10-8 mode | 7-0 vector */
#define MSI_ADDR_BASE    0xfeeull
#define MSI_ADDR_LOGICAL BIT(2)
#define MSI_DATA_LEVEL   BIT(15)
#define MSI_DATA_ASSERT  BIT(14)

/* Only fixed and lowest-priority entries can be level-triggered in effect. */
static bool level_mode(u64 e)
{
    return (e & RTE_LEVEL) && RTE_MODE(e) <= APIC_LOWEST;
}

static bool send(struct ioapic *io, u64 e)
{
    struct apic_msg m = {
        .dest = apic_dest8(RTE_DEST(e)),
        .vector = RTE_VECTOR(e),
        .mode = RTE_MODE(e),
        .logical = e & RTE_LOGICAL,
        .level = level_mode(e),
    };
    if (m.mode == APIC_EXTINT) { /* the vector comes from the 8259 pair */
        int vector = io->extint_ack ? io->extint_ack(io->ctx) : -1;
        if (vector < 0)
            return false;
        m.vector = (u8)vector;
        m.mode = APIC_FIXED;
    }
    return apic_bus_deliver(io->bus, &m) > 0;
}

/* A level entry sends while its line is asserted and the last message was not acknowledged by an
 * EOI yet. */
static void service_level(struct ioapic *io, unsigned pin)
{
    u64 *e = &io->entry[pin];
    if (!level_mode(*e) || (*e & (RTE_MASKED | RTE_REMOTE_IRR)) || !(io->level & BIT(pin)))
        return;
    *e |= RTE_REMOTE_IRR;
    if (!send(io, *e))
        *e &= ~RTE_REMOTE_IRR; /* nobody took it: tried again when something changes */
}

void ioapic_set(struct ioapic *io, unsigned pin, bool level)
{
    if (pin >= GSI_COUNT)
        return;
    bool rise = level && !(io->level & BIT(pin));
    u64 e = io->entry[pin];
    io->level = level ? io->level | BIT(pin) : io->level & ~BIT(pin);
    if (level_mode(e))
        service_level(io, pin);
    else if (rise && !(e & RTE_MASKED)) /* an edge at a masked pin is lost (82093AA 3.2.4) */
        send(io, e);
}

void ioapic_eoi(struct ioapic *io, u8 vector)
{
    for (unsigned i = 0; i < GSI_COUNT; i++) {
        u64 *e = &io->entry[i];
        if (!(*e & RTE_REMOTE_IRR) || RTE_VECTOR(*e) != vector)
            continue;
        *e &= ~RTE_REMOTE_IRR;
        service_level(io, i);
    }
}

static void write_entry(struct ioapic *io, unsigned pin, bool high, u32 val)
{
    u64 *e = &io->entry[pin];
    u64 next = high ? (*e & 0xffffffff) | (u64)val << 32 : (*e & ~0xffffffffull) | val;
    *e = (next & RTE_WRITABLE) | (*e & RTE_REMOTE_IRR);
    /* Software clears a stuck remote IRR by a detour over edge mode. */
    if (!(*e & RTE_LEVEL))
        *e &= ~RTE_REMOTE_IRR;
    service_level(io, pin);
}

static u32 read_window(const struct ioapic *io)
{
    switch (io->select) {
    case IDX_ID:
    case IDX_ARBITRATION: return (u32)io->id << 24;
    case IDX_VERSION: return VERSION;
    default: break;
    }
    unsigned at = io->select - IDX_TABLE;
    if (io->select < IDX_TABLE || at / 2 >= GSI_COUNT)
        return 0;
    u64 e = io->entry[at / 2];
    return at & 1 ? (u32)(e >> 32) : (u32)e;
}

static void write_window(struct ioapic *io, u32 val)
{
    if (io->select == IDX_ID)
        io->id = val >> 24 & 0xf;
    else if (io->select >= IDX_TABLE && io->select < IDX_TABLE + 2 * GSI_COUNT)
        write_entry(io, (io->select - IDX_TABLE) / 2u, io->select & 1, val);
}

static u64 ioapic_read(void *dev, u64 off, unsigned size)
{
    struct ioapic *io = dev;
    switch (off) {
    case REG_SELECT: return io->select;
    case REG_WINDOW: return read_window(io);
    default: return 0;
    }
}

static void ioapic_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct ioapic *io = dev;
    switch (off) {
    case REG_SELECT: io->select = (u8)val; break;
    case REG_WINDOW:
        if (size == 4) /* the window takes whole dwords only */
            write_window(io, (u32)val);
        break;
    default: break;
    }
}

const struct region_ops ioapic_ops = {ioapic_read, ioapic_write, 1, 8, 1, 4, true};

bool msi_deliver(struct apic_bus *bus, u64 addr, u32 data)
{
    if (addr >> 20 != MSI_ADDR_BASE)
        return false;
    struct apic_msg m = {
        .dest = apic_dest8((u8)(addr >> 12)),
        .vector = (u8)data,
        .mode = (u8)(data >> 8 & 7),
        .logical = addr & MSI_ADDR_LOGICAL,
        .level = (data & MSI_DATA_LEVEL) && (data & MSI_DATA_ASSERT),
    };
    if ((data & MSI_DATA_LEVEL) && !(data & MSI_DATA_ASSERT))
        return false; /* a level de-assert message has no meaning for fixed interrupts */
    return apic_bus_deliver(bus, &m) > 0;
}

static const struct snap_field ioapic_fields[] = {
    SNAP_U8(struct ioapic, id), SNAP_U8(struct ioapic, select), SNAP_U64(struct ioapic, entry),
    SNAP_U32(struct ioapic, level), SNAP_END};

static int ioapic_check(const void *scratch, struct err *e)
{
    const struct ioapic *io = scratch;
    if (io->id > 0xf)
        return err_set(e, EINVAL, "ioapic: id %u", io->id);
    if (io->level >> GSI_COUNT)
        return err_set(e, EINVAL, "ioapic: %u inputs, but level %#x", GSI_COUNT, io->level);
    for (unsigned i = 0; i < GSI_COUNT; i++) {
        if (io->entry[i] & ~(RTE_WRITABLE | RTE_REMOTE_IRR))
            return err_set(e, EINVAL, "ioapic: reserved bits in entry %u", i);
        if ((io->entry[i] & RTE_REMOTE_IRR) && !(io->entry[i] & RTE_LEVEL))
            return err_set(e, EINVAL, "ioapic: remote IRR on edge entry %u", i);
    }
    return 0;
}

const struct snap_desc ioapic_snap = {
    "ioapic", 1, sizeof(struct ioapic), ioapic_fields, ioapic_check, NULL, NULL};

void ioapic_reset(struct ioapic *io)
{
    io->id = 0;
    io->select = 0;
    for (unsigned i = 0; i < GSI_COUNT; i++)
        io->entry[i] = RTE_MASKED;
}

void ioapic_init(struct ioapic *io, struct apic_bus *bus, int (*extint_ack)(void *ctx), void *ctx)
{
    memset(io, 0, sizeof(*io));
    io->bus = bus;
    io->extint_ack = extint_ack;
    io->ctx = ctx;
    ioapic_reset(io);
}
