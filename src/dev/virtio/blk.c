/* blk.c - virtio block device (virtio 1.2, 5.2) */
#include "dev/virtio/blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "host/disk/aio.h"

/* Feature bits */
#define F_SEG_MAX      2
#define F_RO           5
#define F_BLK_SIZE     6
#define F_FLUSH        9
#define F_TOPOLOGY     10
#define F_CONFIG_WCE   11
#define F_MQ           12
#define F_DISCARD      13
#define F_WRITE_ZEROES 14

/* Request types */
#define T_IN           0
#define T_OUT          1
#define T_FLUSH        4
#define T_GET_ID       8
#define T_DISCARD      11
#define T_WRITE_ZEROES 13

/* Status byte, the last one that the device writes */
#define S_OK     0
#define S_IOERR  1
#define S_UNSUPP 2

/* Configuration */
#define CFG_CAPACITY          0
#define CFG_SEG_MAX           12
#define CFG_BLK_SIZE          20
#define CFG_PHYSICAL_EXP      24
#define CFG_MIN_IO            26
#define CFG_WRITEBACK         32
#define CFG_QUEUES            34
#define CFG_MAX_DISCARD       36
#define CFG_MAX_DISCARD_SEG   40
#define CFG_DISCARD_ALIGNMENT 44
#define CFG_MAX_ZEROES        48
#define CFG_MAX_ZEROES_SEG    52
#define CFG_ZEROES_UNMAP      56
#define CFG_BYTES             60

#define SECTOR        512u
#define PHYSICAL_EXP  3 /* sectors are best taken 2^3 at a time */
#define QUEUE_ENTRIES 256
/* In sectors. One request ties up a worker thread, and a snapshot waits for it. */
#define DISCARD_MAX (1u << 21)
#define ZEROES_MAX  (1u << 17)
/* The driver hears of this much that was done at once, before it all is. */
#define SIGNAL_BYTES (256 * KiB)
/* Looks at a queue in one call of the loop */
#define TURNS_MAX 16

/* What the driver sends first. */
struct header {
    u32 type, reserved;
    u64 sector;
};

/* A piece of discard and write-zeroes. */
struct range {
    u64 sector;
    u32 sectors, flags;
};
#define RANGE_UNMAP 1

struct request {
    struct aio_req io;
    struct virtio_blk *blk;
    struct request *next; /* in the list of free ones */
    struct virtq *q;
    u32 type;
    u32 bytes;                /* of data */
    bool synch;               /* the flush after a write is going on */
    struct virtq_chain chain; /* with the `in` pieces only */
    struct virtq_seg seg[BLK_SEGS_MAX + 1];
    union {
        struct iovec iov[BLK_SEGS_MAX + MEM_SLOTS_MAX];
        struct {
            struct range range[BLK_RANGES_MAX];
            unsigned ranges, at;
        };
    };
};

struct virtio_blk {
    struct virtio_dev dev; /* first */
    u8 config[CFG_BYTES];

    struct disk *disk;
    struct aio *aio;
    char serial[BLK_SERIAL_MAX + 1];
    u64 sectors;

    struct request *request, *free;
    u64 stalled; /* a bit a queue: chains wait for a request */
    u64 pushed;  /* a bit a queue: used entries that the driver was not told of */
    u64 unsignalled_bytes;
    bool warned; /* the user, of an error of the host */

    u8 saved_writeback; /* for snapshots */
};

/* ---- helpers ---- */

static void put(u8 *to, u64 val, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (u8)(val >> 8 * i);
}

static struct virtio_blk *of_dev(struct virtio_dev *d)
{
    return container_of(d, struct virtio_blk, dev);
}

/* Whether a write counts as done only on stable storage (5.2.6.2). */
static bool writethrough(const struct virtio_blk *b)
{
    if (!virtio_has(&b->dev, F_FLUSH))
        return true;
    return virtio_has(&b->dev, F_CONFIG_WCE) &&
           !__atomic_load_n(&b->config[CFG_WRITEBACK], __ATOMIC_RELAXED);
}

static void signal_pushed(struct virtio_blk *b)
{
    while (b->pushed) {
        unsigned q = (unsigned)__builtin_ctzll(b->pushed);

        b->pushed &= b->pushed - 1;
        virtio_signal(&b->dev, q);
    }
    b->unsignalled_bytes = 0;
}

/* ---- the end of a request ---- */

/* Returns the chain c of queue q with its status; `written` bytes of data come before it. */
static void push(struct virtio_blk *b, struct virtq *q, const struct virtq_chain *c, u32 written,
                 u8 status)
{
    /* What is not RAM loses the status: the driver put it there. */
    int rc = virtq_write(q, c, c->in_bytes - 1, &status, 1);

    virtq_push(q, c->head, rc ? 0 : written + 1);
    b->pushed |= BIT64(q - b->dev.queue);
    b->unsignalled_bytes += written;
    if (b->unsignalled_bytes >= SIGNAL_BYTES)
        signal_pushed(b);
}

static struct request *take(struct virtio_blk *b, struct virtq *q, const struct virtq_chain *c,
                            u32 type)
{
    struct request *r = b->free;

    b->free = r->next;
    r->q = q;
    r->type = type;
    r->bytes = 0;
    r->synch = false;
    r->chain = *c;
    r->chain.seg = r->seg;
    r->chain.out_n = 0;
    r->chain.out_bytes = 0;
    memcpy(r->seg, c->seg + c->out_n, c->in_n * sizeof(*r->seg));
    return r;
}

static void finish(struct request *r, int rc)
{
    struct virtio_blk *b = r->blk;
    u32 written = 0;

    if (rc && !b->warned)
        log_msg(LOG_WARN, "disk %s: %s; the guest sees I/O errors", disk_path(b->disk),
                strerror(-rc));
    b->warned |= rc != 0;
    if (r->type == T_IN) {
        virtq_written(r->q, &r->chain, 0, r->bytes);
        written = rc ? 0 : r->bytes;
    }
    push(b, r->q, &r->chain, written, rc ? S_IOERR : S_OK);
    r->next = b->free;
    b->free = r;
}

static bool next_range(struct request *r);

static void done(struct aio_req *io, int rc)
{
    struct request *r = container_of(io, struct request, io);

    if (!rc && !r->synch && r->type != T_IN && r->type != T_FLUSH) {
        if (r->type != T_OUT && next_range(r))
            return;
        if (writethrough(r->blk)) {
            r->synch = true;
            r->io.op = AIO_FLUSH;
            aio_submit(r->blk->aio, &r->io);
            return;
        }
    }
    finish(r, rc);
}

/* ---- requests ---- */

/* Submits the next piece of a discard or write-zeroes; false when all are done. */
static bool next_range(struct request *r)
{
    const struct range *p = &r->range[r->at];

    if (r->at == r->ranges)
        return false;
    r->at++;
    r->io.op = r->type == T_DISCARD ? AIO_DISCARD : AIO_WRITE_ZEROES;
    r->io.unmap = p->flags & RANGE_UNMAP;
    r->io.off = p->sector * SECTOR;
    r->io.len = (u64)p->sectors * SECTOR;
    aio_submit(r->blk->aio, &r->io);
    return true;
}

/* Status of a range that must not be carried out, S_OK otherwise. */
static u8 check_range(const struct virtio_blk *b, u32 type, const struct range *p)
{
    u32 flags = type == T_WRITE_ZEROES ? RANGE_UNMAP : 0;
    u32 max = type == T_WRITE_ZEROES ? ZEROES_MAX : DISCARD_MAX;

    if (p->flags & ~flags)
        return S_UNSUPP;
    return p->sectors <= max && range_ok(p->sector, p->sectors, b->sectors) ? S_OK : S_IOERR;
}

static u8 start_ranges(struct virtio_blk *b, struct virtq *q, const struct virtq_chain *c, u32 type)
{
    u32 bytes = c->out_bytes - (u32)sizeof(struct header);
    struct range range[BLK_RANGES_MAX];
    unsigned n = bytes / sizeof(*range);
    struct request *r;

    if (!virtio_has(&b->dev, type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES))
        return S_UNSUPP;
    if (!n || bytes % sizeof(*range) || n > BLK_RANGES_MAX ||
        virtq_read(q, c, sizeof(struct header), range, bytes))
        return S_IOERR;
    for (unsigned i = 0; i < n; i++) {
        u8 status = check_range(b, type, &range[i]);
        if (status != S_OK)
            return status;
    }
    r = take(b, q, c, type);
    memcpy(r->range, range, bytes);
    r->ranges = n;
    r->at = 0;
    next_range(r);
    return S_OK;
}

static u8 start_transfer(struct virtio_blk *b, struct virtq *q, const struct virtq_chain *c,
                         const struct header *h)
{
    bool in = h->type == T_IN;
    u32 off = in ? 0 : (u32)sizeof(*h), bytes = in ? c->in_bytes - 1 : c->out_bytes - off;
    struct request *r;
    int n;

    if (bytes % SECTOR || !range_ok(h->sector, bytes / SECTOR, b->sectors) ||
        (!in && disk_read_only(b->disk)))
        return S_IOERR;
    r = take(b, q, c, h->type);
    n = bytes ? virtq_iov(q, c, in, off, bytes, r->iov, ARRAY_SIZE(r->iov)) : 0;
    if (n < 0) {
        r->next = b->free;
        b->free = r;
        return S_IOERR;
    }
    r->bytes = bytes;
    r->io.op = in ? AIO_READ : AIO_WRITE;
    r->io.off = h->sector * SECTOR;
    r->io.len = bytes;
    r->io.iov = r->iov;
    r->io.n = n;
    aio_submit(b->aio, &r->io);
    return S_OK;
}

static u8 start_flush(struct virtio_blk *b, struct virtq *q, const struct virtq_chain *c)
{
    struct request *r;

    if (!virtio_has(&b->dev, F_FLUSH))
        return S_UNSUPP;
    r = take(b, q, c, T_FLUSH);
    r->io.op = AIO_FLUSH;
    r->io.off = r->io.len = 0;
    aio_submit(b->aio, &r->io);
    return S_OK;
}

/* The serial number, padded with NUL. */
static void get_id(struct virtio_blk *b, struct virtq *q, const struct virtq_chain *c)
{
    u32 bytes = MIN(c->in_bytes - 1, (u32)BLK_SERIAL_MAX);
    int rc = virtq_write(q, c, 0, b->serial, bytes);

    push(b, q, c, rc ? 0 : bytes, rc ? S_IOERR : S_OK);
}

/* One chain. A driver that leaves no place for header or status has broken the rules for good; all
 * else is answered. */
static s64 handle(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_blk *b = of_dev(d);
    struct header h;
    u8 status;

    if (!b->free) {
        b->stalled |= BIT64(q - d->queue);
        return VIRTIO_STALL;
    }
    if (!c->in_bytes || c->out_bytes < sizeof(h)) {
        virtio_broken(d, "a block request without header or status");
        return VIRTIO_LATER;
    }
    if (virtq_read(q, c, 0, &h, sizeof(h)) || c->out_n > BLK_SEGS_MAX + 1 ||
        c->in_n > BLK_SEGS_MAX + 1) {
        push(b, q, c, 0, S_IOERR);
        return VIRTIO_LATER;
    }
    switch (h.type) {
    case T_IN:
    case T_OUT: status = start_transfer(b, q, c, &h); break;
    case T_FLUSH: status = start_flush(b, q, c); break;
    case T_DISCARD:
    case T_WRITE_ZEROES: status = start_ranges(b, q, c, h.type); break;
    case T_GET_ID: get_id(b, q, c); return VIRTIO_LATER;
    default: status = S_UNSUPP;
    }
    if (status != S_OK)
        push(b, q, c, 0, status);
    return VIRTIO_LATER;
}

/* ---- the device ---- */

static unsigned next_stalled(struct virtio_blk *b)
{
    unsigned q = (unsigned)__builtin_ctzll(b->stalled);

    b->stalled &= b->stalled - 1;
    return q;
}

/* Takes chains off the queues of `stalled` as long as there are requests for them, but not without
 * end: the loop has others to serve. */
static void run(void *arg)
{
    struct virtio_blk *b = arg;
    unsigned turns = 0;

    do {
        while (b->stalled && b->free && turns++ < TURNS_MAX)
            virtio_process(&b->dev, next_stalled(b), handle);
        aio_kick(b->aio);
    } while (b->stalled && b->free && turns < TURNS_MAX);
    while (b->stalled && b->free)
        virtio_kick(&b->dev, next_stalled(b));
    signal_pushed(b);
}

static void kick(struct virtio_dev *d, unsigned q)
{
    struct virtio_blk *b = of_dev(d);

    b->stalled |= BIT64(q);
    run(b);
}

static void quiesce(struct virtio_dev *d)
{
    struct virtio_blk *b = of_dev(d);

    do {
        aio_drain(b->aio);
        run(b);
    } while (aio_in_flight(b->aio));
}

/* Everything in it, so that what a driver wrote elsewhere has no effect. */
static void fill_config(struct virtio_blk *b, u8 writeback)
{
    u8 *c = b->config;

    memset(c, 0, CFG_WRITEBACK);
    put(c + CFG_CAPACITY, b->sectors, 8);
    put(c + CFG_SEG_MAX, BLK_SEGS_MAX, 4);
    put(c + CFG_BLK_SIZE, SECTOR, 4);
    put(c + CFG_PHYSICAL_EXP, PHYSICAL_EXP, 1);
    put(c + CFG_MIN_IO, 1u << PHYSICAL_EXP, 2);
    __atomic_store_n(&c[CFG_WRITEBACK], writeback, __ATOMIC_RELAXED);
    memset(c + CFG_WRITEBACK + 1, 0, CFG_BYTES - CFG_WRITEBACK - 1);
    put(c + CFG_QUEUES, b->dev.queues, 2);
    put(c + CFG_MAX_DISCARD, DISCARD_MAX, 4);
    put(c + CFG_MAX_DISCARD_SEG, BLK_RANGES_MAX, 4);
    put(c + CFG_DISCARD_ALIGNMENT, 1u << PHYSICAL_EXP, 4);
    put(c + CFG_MAX_ZEROES, ZEROES_MAX, 4);
    put(c + CFG_MAX_ZEROES_SEG, BLK_RANGES_MAX, 4);
    put(c + CFG_ZEROES_UNMAP, 1, 1);
}

static void stop(struct virtio_dev *d)
{
    struct virtio_blk *b = of_dev(d);

    aio_drain(b->aio);
    b->stalled = b->pushed = b->unsignalled_bytes = 0;
    lock_take(&d->lock);
    fill_config(b, 1);
    lock_drop(&d->lock);
}

static void config_written(struct virtio_dev *d, u32 off, u32 len)
{
    struct virtio_blk *b = of_dev(d);

    ASSERT(lock_held(&d->lock));
    fill_config(b, virtio_has(d, F_CONFIG_WCE) ? b->config[CFG_WRITEBACK] & 1 : 1);
}

static const struct virtio_ops blk_ops = {
    .name = "virtio-blk",
    .id = VIRTIO_BLK,
    .pci_class = 0x010000,
    .stop = stop,
    .kick = kick,
    .config_written = config_written,
    .quiesce = quiesce,
};

/* ---- snapshots ---- */

static const struct snap_field snap_fields[] = {
    SNAP_U8(struct virtio_blk, saved_writeback),
    SNAP_END,
};

static int snap_check_blk(const void *scratch, struct err *e)
{
    const struct virtio_blk *b = scratch;

    return b->saved_writeback > 1 ? err_set(e, EINVAL, "writeback: neither 0 nor 1") : 0;
}

static void snap_saving(void *obj)
{
    struct virtio_blk *b = obj;

    b->saved_writeback = b->config[CFG_WRITEBACK];
}

static void snap_loaded(void *obj)
{
    struct virtio_blk *b = obj;

    fill_config(b, b->saved_writeback);
}

const struct snap_desc virtio_blk_snap = {
    .name = "virtio-blk",
    .version = 1,
    .size = sizeof(struct virtio_blk),
    .fields = snap_fields,
    .check = snap_check_blk,
    .saving = snap_saving,
    .loaded = snap_loaded,
};

/* ---- create and destroy ---- */

static u64 offered(const struct disk *d)
{
    u64 common =
        BIT64(F_SEG_MAX) | BIT64(F_BLK_SIZE) | BIT64(F_FLUSH) | BIT64(F_TOPOLOGY) | BIT64(F_MQ);

    if (disk_read_only(d))
        return common | BIT64(F_RO);
    return common | BIT64(F_CONFIG_WCE) | BIT64(F_DISCARD) | BIT64(F_WRITE_ZEROES);
}

int virtio_blk_create(const struct virtio_blk_config *cfg, struct mem *mem, struct loop *loop,
                      struct virtio_blk **out, struct err *e)
{
    struct virtio_blk *b = calloc(1, sizeof(*b));
    u16 sizes[BLK_QUEUES_MAX];
    int rc;

    ASSERT(cfg->queues >= 1 && cfg->queues <= BLK_QUEUES_MAX);
    if (b)
        b->request = calloc(BLK_REQUESTS_MAX, sizeof(*b->request));
    if (!b || !b->request) {
        free(b);
        return err_set(e, ENOMEM, "disk %s: no memory", disk_path(cfg->disk));
    }
    for (unsigned i = 0; i < BLK_REQUESTS_MAX; i++) {
        b->request[i].blk = b;
        b->request[i].io.done = done;
        b->request[i].next = i + 1 < BLK_REQUESTS_MAX ? &b->request[i + 1] : NULL;
    }
    b->free = b->request;
    b->disk = cfg->disk;
    b->sectors = disk_bytes(cfg->disk) / SECTOR;
    snprintf(b->serial, sizeof(b->serial), "%s", cfg->serial ? cfg->serial : "");
    for (unsigned i = 0; i < cfg->queues; i++)
        sizes[i] = QUEUE_ENTRIES;
    b->dev.features = offered(cfg->disk);
    b->dev.config = b->config;
    b->dev.config_len = CFG_BYTES;
    rc = aio_create(&b->aio, cfg->disk, loop, run, b, e);
    if (!rc)
        rc = virtio_init(&b->dev, &blk_ops, mem, loop, sizes, cfg->queues, e);
    if (rc) {
        aio_destroy(b->aio);
        free(b->request);
        free(b);
        return rc;
    }
    fill_config(b, 1);
    *out = b;
    return 0;
}

void virtio_blk_destroy(struct virtio_dev *d)
{
    struct virtio_blk *b = of_dev(d);

    aio_destroy(b->aio);
    virtio_fini(&b->dev);
    (void)disk_close(b->disk); /* which says what it could not write */
    free(b->request);
    free(b);
}

struct virtio_dev *virtio_blk_dev(struct virtio_blk *b)
{
    return &b->dev;
}
