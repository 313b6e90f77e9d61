/* fuzz_fwcfg.c - fw_cfg with hostile selectors and DMA descriptors against RAM, ROM and holes */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dev/fwcfg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BYTES (64 * KiB)
#define ROM_GPA 0x20000ull
#define ACTIONS_MAX 500

/* An action: 1 byte kind, then what it needs. */
struct input {
    const uint8_t *at;
    size_t left;
};

static u64 take(struct input *in, unsigned bytes)
{
    u64 val = 0;
    unsigned n = (unsigned)MIN((size_t)bytes, in->left);
    memcpy(&val, in->at, n);
    in->at += n;
    in->left -= n;
    return val;
}

static void access_port(struct bus *pio, struct input *in, bool write)
{
    u64 port = 0x510 + take(in, 1) % 12;
    unsigned size = 1u << take(in, 1) % 4;
    if (write)
        bus_write(pio, port, size, take(in, size));
    else
        bus_read(pio, port, size);
}

/* A whole DMA operation: descriptor at a place in RAM, then the address register. */
static void run_dma(struct bus *pio, struct mem *mem, struct input *in)
{
    u8 d[16];
    u64 gpa = take(in, 2);
    for (unsigned i = 0; i < sizeof(d); i++)
        d[i] = (u8)take(in, 1);
    if (d[8] & 1) /* mostly an address that exists */
        memset(d + 8, 0, 6);
    if (mem_write(mem, gpa, d, sizeof(d)))
        return;
    bus_write(pio, 0x514, 4, 0);
    bus_write(pio, 0x518, 4, __builtin_bswap32((u32)gpa));
}

static void add_items(struct fwcfg *f, struct input *in)
{
    static const char *const names[] = {"etc/e820", "bootorder", "opt/a", ""};
    u8 body[300];
    struct err e = {0};
    memset(body, 0xa5, sizeof(body));
    for (unsigned i = (unsigned)take(in, 1) % 8; i > 0; i--) {
        size_t len = take(in, 2) % sizeof(body);
        unsigned which = (unsigned)take(in, 1);
        int ret = which & 4 ? fwcfg_add(f, (u16)take(in, 2), body, len, &e)
                            : fwcfg_add_file(f, names[which & 3], body, len, &e);
        ASSERT(ret == 0 || e.msg[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fwcfg *f = malloc(sizeof(*f));
    struct input in = {data, size};
    struct lock lock;
    struct mem *mem;
    struct bus *pio;
    int ret = mem_create(&mem, NULL);
    ASSERT(f && ret == 0);
    ret = mem_add_ram(mem, 0, RAM_BYTES, NULL) | mem_add_rom(mem, ROM_GPA, 4096, data, 0, NULL) |
          bus_create(&pio, "pio", 0x10000, NULL) | fwcfg_init(f, mem, NULL);
    ASSERT(ret == 0);
    lock_init(&lock);
    ret = bus_add(pio, &(struct region){0x510, 12, &fwcfg_ops, f, &lock, "fw_cfg"}, NULL);
    ASSERT(ret == 0);
    add_items(f, &in);
    for (unsigned i = 0; i < ACTIONS_MAX && in.left; i++) {
        unsigned kind = (unsigned)take(&in, 1) & 3;
        if (kind == 0)
            run_dma(pio, mem, &in);
        else
            access_port(pio, &in, kind & 1);
    }
    fwcfg_fini(f);
    bus_destroy(pio);
    lock_destroy(&lock);
    mem_destroy(mem);
    free(f);
    return 0;
}
