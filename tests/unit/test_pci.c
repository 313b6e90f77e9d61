/* test_pci.c - PCI configuration, BARs, interrupts, and a virtio device behind them */
#include "unit.h"

#include "dev/pci/pci.h"
#include "dev/virtio/virtio_pci.h"
#include "host/event.h"
#include "virtio_driver.h"

#define BAR_BASE 0xc0000000ull
#define BAR_SIZE 0x8000u

/* A device with two queues that gives every chain back at once. */
struct sink {
    struct virtio_dev v;
    struct virtio_pci pci;
    u8 config[6];
};

static struct pci_bus bus;
static struct bus *pio, *mmio;
static struct drv drv;
static struct sink sink[2];
static bool line[24];
static struct {
    u64 addr;
    u32 data;
    unsigned count;
} msi;

static void set_line(void *ctx, unsigned gsi, bool level)
{
    line[gsi] = level;
}

static bool send_msi(void *ctx, u64 addr, u32 data)
{
    msi.addr = addr;
    msi.data = data;
    msi.count++;
    return true;
}

/* Eventfds that writes to an address signal. */
static struct {
    u64 gpa;
    int fd;
} events[16];
static unsigned event_count;

static void set_ioeventfd(void *ctx, u64 gpa, int fd, bool on)
{
    unsigned i = 0;

    while (i < event_count && events[i].gpa != gpa)
        i++;
    if (on) {
        assert_int_equal(i, event_count);
        assert_true(event_count < ARRAY_SIZE(events));
        events[event_count].gpa = gpa;
        events[event_count++].fd = fd;
    } else {
        assert_true(i < event_count && events[i].fd == fd);
        events[i] = events[--event_count];
    }
}

/* What signals of eventfds send. */
static struct {
    int fd; /* 0: free */
    u64 addr;
    u32 data;
} routes[4];
static bool irqfds_refused;

static bool set_irqfd(void *ctx, int fd, u64 addr, u32 data, bool on)
{
    unsigned i = 0;

    while (i < ARRAY_SIZE(routes) && routes[i].fd != fd)
        i++;
    for (unsigned n = 0; on && i == ARRAY_SIZE(routes) && n < ARRAY_SIZE(routes); n++)
        if (!routes[n].fd)
            i = n;
    assert_true(i < ARRAY_SIZE(routes));
    routes[i].fd = on && !irqfds_refused ? fd : 0;
    routes[i].addr = addr;
    routes[i].data = data;
    return !irqfds_refused;
}

static s64 take_one(struct virtio_dev *v, struct virtq *q, struct virtq_chain *c)
{
    return 0;
}

static void kick(struct virtio_dev *v, unsigned q)
{
    virtio_process(v, q, take_one);
}

static void stop(struct virtio_dev *v)
{
}

static void config_written(struct virtio_dev *v, u32 off, u32 len)
{
}

static const struct virtio_ops sink_ops = {
    .name = "sink",
    .id = VIRTIO_RNG,
    .pci_class = 0x00ff00,
    .stop = stop,
    .kick = kick,
    .config_written = config_written,
};

static int setup(void **state)
{
    static const u16 sizes[] = {64, 64};
    struct pci_host host = {
        .irq = set_line,
        .msi = send_msi,
        .ioeventfd = set_ioeventfd,
        .irqfd = set_irqfd,
        .intx_gsi = {10, 11, 10, 11},
        .mmio_base = BAR_BASE,
        .mmio_end = 0xe0000000,
        .io_base = 0x6000,
        .io_end = 0x10000,
    };
    int rc;

    memset(&bus, 0, sizeof(bus));
    memset(sink, 0, sizeof(sink));
    memset(line, 0, sizeof(line));
    memset(&msi, 0, sizeof(msi));
    drv_open(&drv);
    rc = bus_create(&pio, "pio", 0x10000, NULL) | bus_create(&mmio, "mmio", 1ull << 40, NULL);
    host.pio = pio;
    host.mmio = mmio;
    lock_init(&bus.lock);
    pci_bus_init(&bus, &host);
    for (unsigned i = 0; i < 2; i++) {
        sink[i].v.config = sink[i].config;
        sink[i].v.config_len = sizeof(sink[i].config);
        rc |= virtio_init(&sink[i].v, &sink_ops, drv.mem, iothread_loop(drv.io), sizes, 2, NULL);
        rc |= virtio_pci_add(&sink[i].pci, &sink[i].v, &bus, NULL);
    }
    pci_bus_reset(&bus);
    drv.dev = &sink[0].v;
    assert_int_equal(rc, 0);
    return 0;
}

static int teardown(void **state)
{
    drv_stop(&drv);
    pci_bus_fini(&bus);
    for (unsigned i = 0; i < 2; i++)
        virtio_fini(&sink[i].v);
    lock_destroy(&bus.lock);
    bus_destroy(pio);
    bus_destroy(mmio);
    drv_close(&drv);
    return 0;
}

static u32 cfg(unsigned slot, unsigned off, unsigned size)
{
    return pci_config_read(&bus, slot << 3, off, size);
}

static void set_cfg(unsigned slot, unsigned off, unsigned size, u32 val)
{
    pci_config_write(&bus, slot << 3, off, size, val);
}

static void header(void **state)
{
    assert_int_equal(cfg(0, PCI_CLASS, 4) & 0xffffff, 0x060000);
    assert_int_equal(cfg(1, PCI_VENDOR_ID, 4), 0x10441af4);
    assert_int_equal(cfg(1, PCI_REVISION, 1), 1);
    assert_int_equal(cfg(3, PCI_VENDOR_ID, 4), 0xffffffff); /* nobody there */
    assert_int_equal(pci_config_read(&bus, 1 << 3 | 1, 0, 2), 0xffffffff & 0xffffffff);
    assert_int_equal(pci_config_read(&bus, 0x100 | 1 << 3, 0, 4), 0xffffffff); /* bus 1 */
    set_cfg(1, PCI_VENDOR_ID, 4, 0x12345678);
    set_cfg(1, PCI_INT_LINE, 2, 0x0205);
    assert_int_equal(cfg(1, PCI_VENDOR_ID, 4), 0x10441af4);
    assert_int_equal(cfg(1, PCI_INT_LINE, 2), 0x0105);
    assert_int_equal(pci_config_read(&bus, 1 << 3, 0x100, 4), 0); /* no extended capabilities */
    /* the same through ECAM */
    assert_int_equal(pci_ecam_ops.read(&bus, 1 << 15, 4), 0x10441af4);
    assert_int_equal(pci_ecam_ops.read(&bus, 9 << 15, 4), 0xffffffff);
}

static void bars(void **state)
{
    u64 base = BAR_BASE;

    assert_int_equal(cfg(1, PCI_BAR0, 4), base);
    assert_int_equal(cfg(2, PCI_BAR0, 4), base + BAR_SIZE);
    assert_int_equal(bus_read(mmio, base + 0x12, 2), 2); /* num_queues */
    set_cfg(1, PCI_BAR0, 4, 0xffffffff);                 /* sizing */
    assert_int_equal(cfg(1, PCI_BAR0, 4), (u32) ~(BAR_SIZE - 1));
    assert_int_equal(bus_read(mmio, base + 0x12, 2), 0xffff);
    set_cfg(1, PCI_BAR0, 4, 0xd0000000);
    assert_int_equal(bus_read(mmio, 0xd0000012, 2), 2);
    set_cfg(1, PCI_BAR0, 4, (u32)base + BAR_SIZE); /* on top of its neighbour, who was first */
    sink[1].v.queue_select = 7;
    assert_int_equal(bus_read(mmio, base + BAR_SIZE + 0x16, 2), 7);
    set_cfg(2, PCI_COMMAND, 2, 0);
    assert_int_equal(bus_read(mmio, base + BAR_SIZE + 0x16, 2), 0xffff);
    set_cfg(1, PCI_COMMAND, 2, CMD_MEMORY); /* now there is room */
    assert_int_equal(bus_read(mmio, base + BAR_SIZE + 0x16, 2), 0);
}

/* Walks the capabilities: the offset of the n-th one with this id, or 0. */
static unsigned find_cap(unsigned slot, u8 id, unsigned n)
{
    unsigned at = cfg(slot, PCI_CAPABILITIES, 1), count = 0;

    for (unsigned steps = 0; at && steps < 48; steps++, at = cfg(slot, at + 1, 1))
        if (cfg(slot, at, 1) == id && count++ == n)
            return at;
    return 0;
}

/* Every structure where its capability says, found as a driver finds it. */
static u64 structure(u8 type)
{
    for (unsigned n = 0; n < 8; n++) {
        unsigned at = find_cap(1, 0x09, n);

        if (at && cfg(1, at + 3, 1) == type)
            return BAR_BASE + cfg(1, at + 8, 4);
    }
    return 0;
}

static void common(void **state)
{
    u64 c = structure(1);

    assert_int_not_equal(c, 0);
    assert_int_not_equal(structure(2), 0);
    assert_int_not_equal(structure(3), 0);
    assert_int_not_equal(structure(4), 0);
    assert_int_equal(structure(8), 0);
    bus_write(mmio, c, 4, 1);
    assert_int_equal(bus_read(mmio, c + 4, 4), 1); /* VERSION_1 */
    bus_write(mmio, c + 0x16, 2, 1);
    assert_int_equal(bus_read(mmio, c + 0x18, 2), 64);
    bus_write(mmio, c + 0x18, 2, 48); /* no power of two */
    assert_int_equal(bus_read(mmio, c + 0x18, 2), 64);
    bus_write(mmio, c + 0x18, 2, 128); /* too large */
    assert_int_equal(bus_read(mmio, c + 0x18, 2), 64);
    bus_write(mmio, c + 0x18, 2, 16);
    assert_int_equal(bus_read(mmio, c + 0x18, 2), 16);
    bus_write(mmio, c + 0x1a, 2, 9); /* no such vector */
    assert_int_equal(bus_read(mmio, c + 0x1a, 2), 0xffff);
    bus_write(mmio, c + 0x20, 8, 0x1122334455667788ull); /* as two halves */
    assert_true(sink[0].v.queue[1].desc == 0x1122334455667780ull);
    bus_write(mmio, c + 0x1c, 2, 1);
    bus_write(mmio, c + 0x20, 4, 0);
    assert_true(sink[0].v.queue[1].desc == 0x1122334455667780ull); /* enabled: not any more */
    bus_write(mmio, c + 0x16, 2, 2);                               /* no such queue */
    assert_int_equal(bus_read(mmio, c + 0x18, 2), 0);
    bus_write(mmio, c + 0x14, 1, 0);
    assert_int_equal(bus_read(mmio, c + 0x1c, 2), 0);
    /* the device's own registers: six bytes, and nothing behind them */
    bus_write(mmio, structure(4) + 4, 2, 0xbeef);
    assert_int_equal(bus_read(mmio, structure(4) + 4, 2), 0xbeef);
    bus_write(mmio, structure(4) + 6, 2, 0xbeef);
    assert_int_equal(bus_read(mmio, structure(4) + 6, 2), 0);
}

/* The same register through the window in configuration space. */
static void window(void **state)
{
    unsigned at = 0;

    for (unsigned n = 0; n < 8; n++)
        if (cfg(1, find_cap(1, 0x09, n) + 3, 1) == 5)
            at = find_cap(1, 0x09, n);
    assert_int_not_equal(at, 0);
    set_cfg(1, at + 4, 1, 0);
    set_cfg(1, at + 8, 4, 0x16);
    set_cfg(1, at + 12, 4, 2);
    set_cfg(1, at + 16, 2, 1);
    assert_int_equal(sink[0].v.queue_select, 1);
    sink[0].v.queue_select = 5;
    assert_int_equal(cfg(1, at + 16, 2), 5);
    set_cfg(1, at + 8, 4, 0xfffffff0); /* nowhere */
    set_cfg(1, at + 16, 2, 1);
    assert_int_equal(sink[0].v.queue_select, 5);
    set_cfg(1, at + 8, 4, 0x4000); /* the MSI-X table is out of reach */
    set_cfg(1, at + 12, 4, 4);
    set_cfg(1, at + 16, 4, 0x1234);
    assert_int_equal(bus_read(mmio, BAR_BASE + 0x4000, 4), 0);
}

static void give_chain(void)
{
    drv_chain(&drv, 0, (struct virtq_seg[]){{DRV_BUF_GPA, 4}}, 1, NULL, 0);
    bus_write(mmio, structure(2), 2, 0);
    drv_settle(&drv);
}

static void intx(void **state)
{
    drv_start(&drv, 0, 8);
    give_chain();
    assert_true(line[11]); /* slot 1, INTA# */
    assert_false(line[10]);
    assert_true(cfg(1, PCI_STATUS, 2) & STS_INTX);
    pci_set_intx(&sink[1].pci.pci, true); /* slot 2 */
    assert_true(line[10]);
    set_cfg(2, PCI_COMMAND, 2, CMD_MEMORY | CMD_INTX_OFF);
    assert_false(line[10]);
    assert_int_equal(bus_read(mmio, structure(3), 1), 1);
    assert_false(line[11]);
    assert_int_equal(bus_read(mmio, structure(3), 1), 0);
    virtio_config_changed(&sink[0].v);
    assert_int_equal(bus_read(mmio, structure(3), 1), 2);
    give_chain();
    assert_true(line[11]);
    virtio_set_status(&sink[0].v, 0);
    drv_settle(&drv);
    assert_false(line[11]);
}

static void msix(void **state)
{
    unsigned cap = find_cap(1, 0x11, 0);
    u64 table = BAR_BASE + (cfg(1, cap + 4, 4) & ~7u), pba = BAR_BASE + (cfg(1, cap + 8, 4) & ~7u);

    assert_int_equal(cfg(1, cap + 2, 2), 2); /* three vectors, off */
    assert_int_equal(bus_read(mmio, table + 12, 4), 1);
    drv_start(&drv, 0, 8);
    bus_write(mmio, table, 8, 0xfee00000);
    bus_write(mmio, table + 8, 4, 0x4031);
    set_cfg(1, cap + 2, 2, 0x8000);
    give_chain(); /* masked: remembered */
    assert_int_equal(msi.count, 0);
    assert_int_equal(bus_read(mmio, pba, 8), 1);
    bus_write(mmio, table + 12, 4, 0);
    assert_int_equal(msi.count, 1);
    assert_true(msi.addr == 0xfee00000 && msi.data == 0x4031);
    assert_int_equal(bus_read(mmio, pba, 8), 0);
    give_chain();
    assert_int_equal(msi.count, 2);
    set_cfg(1, cap + 2, 2, 0xc000); /* all masked */
    give_chain();
    assert_int_equal(msi.count, 2);
    set_cfg(1, cap + 2, 2, 0x8000);
    assert_int_equal(msi.count, 3);
    assert_false(line[11]);
    bus_write(mmio, table + 3 * 16, 8, 1); /* beyond the table */
    assert_int_equal(bus_read(mmio, table + 3 * 16, 8), 0);
}

static void msi_one(void **state)
{
    unsigned cap = find_cap(1, 0x05, 0);

    assert_int_not_equal(cap, 0);
    set_cfg(1, cap + 4, 4, 0xfee01003);
    set_cfg(1, cap + 12, 4, 0x12344055);
    set_cfg(1, cap + 2, 2, 0xffff);
    assert_int_equal(cfg(1, cap + 2, 2), 0x181);
    drv_start(&drv, 0, 8);
    give_chain();
    assert_int_equal(msi.count, 1);
    assert_true(msi.addr == 0xfee01000 && msi.data == 0x4055);
    assert_false(line[11]);
    assert_int_equal(bus_read(mmio, structure(3), 1), 1); /* the reason is told all the same */
    set_cfg(1, cap + 16, 4, 0xffffffff);
    give_chain();
    assert_int_equal(msi.count, 1);
    assert_int_equal(cfg(1, cap + 20, 4), 1);
    set_cfg(1, cap + 16, 4, 0);
    assert_int_equal(msi.count, 2);
    assert_int_equal(cfg(1, cap + 20, 4), 0);
}

/* Notification registers of both devices signal, wherever their BARs are, while that is wanted. */
static void kick_events(void **state)
{
    set_cfg(1, PCI_COMMAND, 2, CMD_MEMORY);
    assert_int_equal(event_count, 0);
    pci_bus_ioeventfds(&bus, true);
    assert_int_equal(event_count, 4);
    assert_int_equal(events[1].gpa, BAR_BASE + 0x3000 + 4);
    assert_int_equal(events[1].fd, sink[0].v.queue[1].bell.fd);
    assert_int_equal(events[2].gpa, BAR_BASE + BAR_SIZE + 0x3000);
    set_cfg(1, PCI_COMMAND, 2, 0);
    assert_int_equal(event_count, 2);
    set_cfg(1, PCI_BAR0, 4, 0xc0100000);
    assert_int_equal(event_count, 2);
    set_cfg(1, PCI_COMMAND, 2, CMD_MEMORY);
    assert_int_equal(event_count, 4);
    assert_int_equal(events[2].gpa, 0xc0103000);
    set_cfg(1, PCI_BAR0, 4, 0xc0200000); /* moved while it decodes */
    assert_int_equal(event_count, 4);
    assert_int_equal(events[3].gpa, 0xc0203004);
    pci_bus_ioeventfds(&bus, false);
    assert_int_equal(event_count, 0);
    set_cfg(2, PCI_COMMAND, 2, 0);
    assert_int_equal(event_count, 0);
}

/* A message has a route while it may be sent; what it missed on the way off is sent by hand, or
 * remembered. */
static void irqfds(void **state)
{
    unsigned cap = find_cap(1, 0x11, 0);
    u64 table = BAR_BASE + (cfg(1, cap + 4, 4) & ~7u), pba = BAR_BASE + (cfg(1, cap + 8, 4) & ~7u);

    drv_start(&drv, 0, 8);
    pci_bus_irqfds(&bus, true);
    bus_write(mmio, table, 8, 0xfee00000);
    bus_write(mmio, table + 8, 4, 0x4031);
    set_cfg(1, cap + 2, 2, 0x8000);
    assert_int_equal(routes[0].fd, 0);
    bus_write(mmio, table + 12, 4, 0);
    assert_true(routes[0].fd > 0 && routes[0].addr == 0xfee00000 && routes[0].data == 0x4031);
    assert_int_equal(routes[1].fd, 0);
    give_chain();
    assert_int_equal(msi.count, 0);
    assert_true(event_take(routes[0].fd));
    bus_write(mmio, table + 8, 4, 0x4032); /* another message */
    assert_int_equal(routes[0].data, 0x4032);
    /* Signalled and not fetched, it is not lost. */
    give_chain();
    set_cfg(1, cap + 2, 2, 0xc000);
    assert_int_equal(routes[0].fd, 0);
    assert_int_equal(msi.count, 0);
    assert_int_equal(bus_read(mmio, pba, 8), 1);
    set_cfg(1, cap + 2, 2, 0x8000);
    assert_int_equal(bus_read(mmio, pba, 8), 0);
    assert_int_equal(msi.count, 1);
    give_chain();
    pci_bus_irqfds(&bus, false);
    assert_int_equal(routes[0].fd, 0);
    assert_int_equal(msi.count, 2);
    assert_int_equal(msi.data, 0x4032);
    /* Refused, messages go by hand. */
    irqfds_refused = true;
    pci_bus_irqfds(&bus, true);
    give_chain();
    assert_int_equal(msi.count, 3);
    irqfds_refused = false;
    pci_bus_irqfds(&bus, true);
    assert_true(routes[0].fd > 0);
    pci_bus_reset(&bus);
    assert_int_equal(routes[0].fd, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(header, setup, teardown),
        cmocka_unit_test_setup_teardown(bars, setup, teardown),
        cmocka_unit_test_setup_teardown(common, setup, teardown),
        cmocka_unit_test_setup_teardown(window, setup, teardown),
        cmocka_unit_test_setup_teardown(intx, setup, teardown),
        cmocka_unit_test_setup_teardown(msix, setup, teardown),
        cmocka_unit_test_setup_teardown(msi_one, setup, teardown),
        cmocka_unit_test_setup_teardown(kick_events, setup, teardown),
        cmocka_unit_test_setup_teardown(irqfds, setup, teardown),
    };

    return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
