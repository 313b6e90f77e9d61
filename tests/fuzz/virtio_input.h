/* virtio_input.h - bytes of a fuzzer as the doings of a hostile virtio driver over PCI
 *
 * One thread: the device's loop runs between two doings. Queues start out set up as a driver sets
 * them up, at 4 KiB apart; from there on every byte of rings, buffers and registers is the input's.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#include "dev/virtio/status.h"
#include "dev/virtio/virtio_pci.h"

#define VF_RAM_BYTES  (1 * MiB)
#define VF_ROM_GPA    0x200000ull
#define VF_BAR        0xc0000000ull
#define VF_RING_GPA   0x10000ull
#define VF_RING_BYTES 0x1000ull /* desc, then avail at 800h, used at C00h */
#define VF_QUEUE_SIZE 16
#define VF_ACTS_MAX   400

struct virtio_fuzz {
    struct mem *mem;
    struct bus *pio, *mmio;
    struct loop *loop;
    struct pci_bus pci;
    struct virtio_pci transport;
    const uint8_t *at;
    size_t left;
    u16 avail[VIRTIO_QUEUES_MAX];
    void (*act)(struct virtio_fuzz *f); /* the host's side does something; may be NULL */
};

static inline u64 vf_take(struct virtio_fuzz *f, unsigned bytes)
{
    u64 val = 0;
    unsigned n = (unsigned)MIN((size_t)bytes, f->left);

    memcpy(&val, f->at, n);
    f->at += n;
    f->left -= n;
    return val;
}

static inline void vf_line(void *ctx, unsigned gsi, bool level)
{
}

static inline bool vf_msi(void *ctx, u64 addr, u32 data)
{
    return true;
}

/* Before the device is made over f->mem and f->loop. */
static inline void vf_open(struct virtio_fuzz *f, const uint8_t *data, size_t size)
{
    struct pci_host host = {.irq = vf_line,
                            .msi = vf_msi,
                            .intx_gsi = {10, 11, 10, 11},
                            .mmio_base = VF_BAR,
                            .mmio_end = 0xe0000000,
                            .io_base = 0x6000,
                            .io_end = 0x10000};
    int rc;

    memset(f, 0, sizeof(*f));
    f->at = data;
    f->left = size;
    rc = mem_create(&f->mem, NULL);
    ASSERT(rc == 0);
    rc = mem_add_ram(f->mem, 0, VF_RAM_BYTES, NULL) |
         mem_add_rom(f->mem, VF_ROM_GPA, 4096, NULL, 0, NULL) |
         bus_create(&f->pio, "pio", 0x10000, NULL) |
         bus_create(&f->mmio, "mmio", 1ull << 40, NULL) | loop_create(&f->loop, NULL, NULL);
    ASSERT(rc == 0);
    host.pio = f->pio;
    host.mmio = f->mmio;
    lock_init(&f->pci.lock);
    pci_bus_init(&f->pci, &host);
}

static inline void vf_stop_loop(void *arg)
{
    struct virtio_fuzz *f = arg;

    loop_stop(f->loop);
}

static inline void vf_next_turn(void *arg)
{
    struct virtio_fuzz *f = arg;
    int rc = loop_post(f->loop, vf_stop_loop, f);

    ASSERT(rc == 0);
}

/* Runs what waits on the loop: tasks, then descriptors, twice. */
static inline void vf_settle(struct virtio_fuzz *f)
{
    for (unsigned i = 0; i < 2; i++) {
        int rc = loop_post(f->loop, vf_next_turn, f);

        rc |= loop_run(f->loop);
        ASSERT(rc == 0);
    }
}

static inline void vf_set(struct virtio_fuzz *f, u32 reg, unsigned size, u64 val)
{
    bus_write(f->mmio, VF_BAR + reg, size, val);
}

/* Resets, accepts `features` and sets up every queue. */
static inline void vf_start(struct virtio_fuzz *f, u64 features)
{
    unsigned queues = f->transport.dev->queues;

    vf_set(f, 0x14, 1, 0);
    vf_settle(f);
    vf_set(f, 0x14, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        vf_set(f, 0x00, 4, i);
        vf_set(f, 0x08, 4, i);
        vf_set(f, 0x0c, 4, bus_read(f->mmio, VF_BAR + 4, 4) & features >> 32 * i);
    }
    vf_set(f, 0x14, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    memset(f->avail, 0, sizeof(f->avail));
    for (unsigned q = 0; q < queues; q++) {
        u64 ring = VF_RING_GPA + q * VF_RING_BYTES;
        int rc = mem_fill(f->mem, ring, 0, VF_RING_BYTES);

        ASSERT(rc == 0);
        vf_set(f, 0x16, 2, q);
        vf_set(f, 0x18, 2, VF_QUEUE_SIZE);
        vf_set(f, 0x20, 8, ring);
        vf_set(f, 0x28, 8, ring + 0x800);
        vf_set(f, 0x30, 8, ring + 0xc00);
        vf_set(f, 0x1c, 2, 1);
    }
    vf_set(f, 0x14, 1, 0xf);
    vf_settle(f);
}

/* A descriptor mostly inside of memory, mostly short. */
static inline void vf_desc(struct virtio_fuzz *f, u64 ring)
{
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } d;
    u64 slot = vf_take(f, 1) % (VF_QUEUE_SIZE + 4), kind = vf_take(f, 1);

    d.addr = kind & 1 ? vf_take(f, 8) : 0x80000 + vf_take(f, 2) * 8;
    d.len = kind & 2 ? (u32)vf_take(f, 4) : (u32)vf_take(f, 2);
    d.flags = (u16)(kind >> 2 & 7);
    d.next = (u16)(kind >> 5 ? slot + 1 : vf_take(f, 2));
    (void)!mem_write(f->mem, ring + 16 * slot, &d, sizeof(d));
}

static inline void vf_offer(struct virtio_fuzz *f, unsigned q, u64 ring)
{
    u16 head = (u16)(vf_take(f, 1) % (VF_QUEUE_SIZE + 1));
    u16 idx = (u16)(f->avail[q] + 1);

    (void)!mem_write(f->mem, ring + 0x804 + 2ull * (f->avail[q] % VF_QUEUE_SIZE), &head, 2);
    (void)!mem_write(f->mem, ring + 0x802, &idx, 2);
    f->avail[q] = idx;
}

static inline void vf_bytes(struct virtio_fuzz *f, u64 gpa)
{
    u8 buf[64];
    unsigned n = (unsigned)(vf_take(f, 1) % sizeof(buf)) + 1;

    for (unsigned i = 0; i < n; i++)
        buf[i] = (u8)vf_take(f, 1);
    (void)!mem_write(f->mem, gpa, buf, n);
}

static inline void vf_act(struct virtio_fuzz *f)
{
    unsigned kind = (unsigned)vf_take(f, 1), queues = f->transport.dev->queues;
    unsigned q = (kind >> 4) % queues, size = 1u << (kind >> 4 & 3);
    u64 ring = VF_RING_GPA + q * VF_RING_BYTES;

    switch (kind & 15) {
    case 0:
    case 1:
    case 2: vf_desc(f, ring); break;
    case 3: vf_bytes(f, 0x80000 + vf_take(f, 2) * 8); break;
    case 4: vf_bytes(f, ring + vf_take(f, 2) % VF_RING_BYTES); break;
    case 5:
    case 6:
        vf_offer(f, q, ring);
        vf_set(f, 0x3000 + 4 * q, 2, q);
        vf_settle(f);
        break;
    case 7: vf_set(f, 0x3000 + 4 * (u32)vf_take(f, 1), 2, 0); break;
    case 8: vf_start(f, vf_take(f, 8)); break;
    case 9: vf_set(f, (u32)vf_take(f, 2) % 0x38, size, vf_take(f, size)); break;
    case 10: vf_set(f, 0x2000 + (u32)vf_take(f, 1), size, vf_take(f, size)); break;
    case 11: bus_read(f->mmio, VF_BAR + vf_take(f, 2) % 0x8000, size); break;
    case 12: vf_set(f, (u32)vf_take(f, 2) % 0x8000, size, vf_take(f, size)); break;
    case 13:
        pci_config_write(&f->pci, (unsigned)vf_take(f, 1) % 32, (unsigned)vf_take(f, 1) & ~3u, 4,
                         (u32)vf_take(f, 4));
        break;
    case 14: pci_config_read(&f->pci, 8, (unsigned)vf_take(f, 1) & ~3u, 4); break;
    default:
        if (f->act)
            f->act(f);
        vf_settle(f);
        break;
    }
}

/* Plugs the device in and plays the input. */
static inline void vf_run(struct virtio_fuzz *f, struct virtio_dev *dev)
{
    int rc = virtio_pci_add(&f->transport, dev, &f->pci, NULL);

    ASSERT(rc == 0);
    pci_bus_reset(&f->pci);
    vf_start(f, UINT64_MAX);
    for (unsigned i = 0; i < VF_ACTS_MAX && f->left; i++)
        vf_act(f);
    vf_set(f, 0x14, 1, 0);
    virtio_set_status(dev, 0);
    vf_settle(f);
    ASSERT(!dev->started);
}

/* After the device was destroyed. */
static inline void vf_close(struct virtio_fuzz *f)
{
    pci_bus_fini(&f->pci);
    lock_destroy(&f->pci.lock);
    loop_destroy(f->loop);
    bus_destroy(f->mmio);
    bus_destroy(f->pio);
    mem_destroy(f->mem);
}
