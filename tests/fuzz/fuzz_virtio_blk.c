/* fuzz_virtio_blk.c - hostile drivers of a virtio disk: rings, chains and requests of any shape */
#include <stdint.h>

#include "dev/virtio/blk.h"
#include "dev/virtio/status.h"

#include "../unit/fake_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BYTES   (128 * KiB)
#define DISK_BYTES  (64 * KiB)
#define ACTIONS_MAX 200
#define QUEUES      2
#define ENTRIES     16
#define RING_BYTES  0x1000ull /* desc, avail at 400h, used at 800h */

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

struct fuzz {
    struct mem *mem;
    struct loop *loop;
    struct disk *disk;
    struct virtio_dev *dev;
    u16 avail[QUEUES], next[QUEUES];
};

static void put(struct fuzz *f, u64 gpa, const void *data, u64 len)
{
    (void)!mem_write(f->mem, gpa, data, len);
}

static void ignore(void *ctx, u16 vector)
{
}

static void was_reset(void *ctx)
{
}

static void start(struct fuzz *f, u64 features)
{
    struct virtio_dev *d = f->dev;

    if (d->started)
        d->ops->stop(d);
    d->driver_features = d->features & (features | BIT64(VIRTIO_F_VERSION_1));
    d->status = STATUS_DRIVER_OK;
    for (unsigned i = 0; i < QUEUES; i++) {
        struct virtq *q = &d->queue[i];

        virtq_reset(q);
        (void)!mem_fill(f->mem, i * RING_BYTES, 0, RING_BYTES);
        q->size = ENTRIES;
        q->desc = i * RING_BYTES;
        q->avail = q->desc + 0x400;
        q->used = q->desc + 0x800;
        q->enabled = true;
        q->event_idx = virtio_has(d, VIRTIO_F_EVENT_IDX);
        q->indirect = virtio_has(d, VIRTIO_F_INDIRECT_DESC);
        f->avail[i] = f->next[i] = 0;
    }
    d->started = true;
}

static void offer(struct fuzz *f, unsigned q, u16 head)
{
    u64 avail = q * RING_BYTES + 0x400;

    put(f, avail + 4 + 2 * (f->avail[q] % ENTRIES), &head, 2);
    f->avail[q]++;
    put(f, avail + 2, &f->avail[q], 2);
}

static void add_desc(struct fuzz *f, unsigned q, u64 gpa, u32 len, u16 flags)
{
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } d = {gpa, len, flags, (u16)((f->next[q] + 1) % ENTRIES)};

    put(f, q * RING_BYTES + 16ull * (f->next[q] % ENTRIES), &d, sizeof(d));
    f->next[q]++;
}

/* A request that is mostly well-formed, so that the fuzzer gets behind the first check. */
static void request(struct fuzz *f, unsigned q, struct input *in)
{
    static const u8 types[] = {0, 1, 4, 8, 11, 13, 2, 0xff};
    u16 head = f->next[q] % ENTRIES;
    u32 header[4] = {types[take(in, 1) & 7], 0, (u32)take(in, 1), 0};
    u32 bytes = (u32)take(in, 2), shape = (u32)take(in, 1);

    header[3] = shape & 0x80 ? (u32)take(in, 4) : 0;
    put(f, 0x8000, header, sizeof(header));
    add_desc(f, q, 0x8000, 16, 1);
    for (unsigned i = 0; i < (shape & 3); i++)
        add_desc(f, q, 0x9000 + take(in, 2), shape & 8 ? bytes : bytes / 512 * 512,
                 shape & 4 ? 3 : 1);
    add_desc(f, q, shape & 0x40 ? ~take(in, 2) : 0x8100, 1, 2);
    offer(f, q, head);
}

static void act(struct fuzz *f, struct input *in)
{
    unsigned kind = (unsigned)take(in, 1), q = kind >> 4 & 1;
    struct virtio_dev *d = f->dev;
    u64 gpa, val;

    switch (kind & 7) {
    case 0:
        gpa = take(in, 3);
        val = take(in, 8);
        put(f, gpa, &val, 8);
        break;
    case 1: offer(f, q, (u16)take(in, 1)); break;
    case 2:
    case 3: request(f, q, in); break;
    case 4:
        if (d->queue[q].enabled && !d->queue[q].broken)
            d->ops->kick(d, q);
        break;
    case 5:
        lock_take(&d->lock);
        gpa = take(in, 1) % d->config_len;
        d->config[gpa] = (u8)take(in, 1);
        d->ops->config_written(d, (u32)gpa, 1);
        lock_drop(&d->lock);
        break;
    case 6: d->ops->quiesce(d); break;
    case 7: start(f, kind & 0x80 ? take(in, 8) : ~0ull); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct virtio_blk *blk;
    struct fuzz f = {0};
    int rc = mem_create(&f.mem, NULL);

    ASSERT(rc == 0);
    rc = mem_add_ram(f.mem, 0, RAM_BYTES, NULL) | loop_create(&f.loop, NULL, NULL);
    ASSERT(rc == 0);
    f.disk = fake_disk(DISK_BYTES, 8192);
    f.disk->holes = true;
    f.disk->read_only = take(&in, 1) & 1;
    rc = virtio_blk_create(&(struct virtio_blk_config){f.disk, "fuzz", QUEUES}, f.mem, f.loop, &blk,
                           NULL);
    ASSERT(rc == 0);
    f.dev = virtio_blk_dev(blk);
    f.dev->transport = (struct virtio_transport){ignore, ignore, was_reset, NULL};
    start(&f, ~0ull);
    for (unsigned i = 0; i < ACTIONS_MAX && in.left; i++)
        act(&f, &in);
    f.dev->ops->stop(f.dev);
    virtio_blk_destroy(f.dev);
    loop_destroy(f.loop);
    mem_destroy(f.mem);
    return 0;
}
