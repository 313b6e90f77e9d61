/* balloon.c - virtio memory balloon (virtio 1.2, 5.5) */
#include "dev/virtio/balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define F_STATS_VQ       1
#define F_DEFLATE_ON_OOM 2
#define F_FREE_PAGE_HINT 3
#define F_PAGE_POISON    4
#define F_REPORTING      5

/* Drivers do not agree on the number of the reporting queue when there is no hint queue: without
 * that one, both are for reports. Hints are offered, and never asked for. */
enum { INFLATE, DEFLATE, STATS, HINT, REPORT, QUEUES };
#define QUEUE_SIZE 128

/* struct virtio_balloon_config: le32 num_pages, actual, free_page_hint_cmd_id, poison_val */
#define CFG_PAGES  0
#define CFG_ACTUAL 4
#define CFG_CMD_ID 8
#define CFG_POISON 12

/* struct virtio_balloon_stat, packed: le16 tag, le64 val */
#define STAT_BYTES 10u
#define STATS_MAX  64 /* entries that are looked at */

static u32 get_config(struct virtio_balloon *b, unsigned off)
{
    u32 val;

    lock_take(&b->dev.lock);
    memcpy(&val, b->config + off, 4);
    lock_drop(&b->dev.lock);
    return val;
}

/* Memory that the guest does not have, or ROM, stays as it is. */
static void discard(struct virtio_balloon *b, u64 gpa, u64 len)
{
    if (len == 0 || mem_discard(b->dev.mem, gpa, len))
        return;
    lock_take(&b->lock);
    b->discarded += len;
    lock_drop(&b->lock);
}

/* ---- the balloon ---- */

/* An array of le32 page numbers; neighbours go together, in either direction. */
static s64 inflate(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_balloon *b = container_of(d, struct virtio_balloon, dev);
    u32 pfn[256], left = c->out_bytes / 4, off = 0;
    u64 first = 0, n = 0;

    if (left > BALLOON_REQUEST_MAX) {
        q->broken = "a balloon request of too many pages";
        return 0;
    }
    while (left) {
        u32 count = (u32)MIN(left, ARRAY_SIZE(pfn));

        if (virtq_read(q, c, off, pfn, count * 4))
            break;
        for (u32 i = 0; i < count; i++) {
            if (n && pfn[i] + 1ull == first) {
                first--;
                n++;
            } else if (n && pfn[i] == first + n) {
                n++;
            } else {
                discard(b, first * BALLOON_PAGE, n * BALLOON_PAGE);
                first = pfn[i];
                n = 1;
            }
        }
        left -= count;
        off += count * 4;
    }
    discard(b, first * BALLOON_PAGE, n * BALLOON_PAGE);
    return 0;
}

/* The guest takes pages back: they come when it touches them. */
static s64 done(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c)
{
    return 0;
}

/* ---- free pages ---- */

/* Each piece of the chain is free memory of the guest. A driver that poisons such memory with other
 * than zeros wants to find that again (5.5.6.7). */
static s64 report(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_balloon *b = container_of(d, struct virtio_balloon, dev);

    if (virtio_has(d, F_PAGE_POISON) && get_config(b, CFG_POISON))
        return 0;
    for (unsigned i = 0; i < c->in_n; i++) {
        const struct virtq_seg *s = &c->seg[c->out_n + i];

        if (!((s->gpa | s->len) & PAGE_MASK))
            discard(b, s->gpa, s->len);
    }
    return 0;
}

/* ---- statistics ---- */

static void release_held(struct virtio_balloon *b)
{
    if (!b->held)
        return;
    b->held = false;
    virtq_push(&b->dev.queue[STATS], b->held_head, 0);
}

static s64 take_stats(struct virtio_dev *d, struct virtq *q, struct virtq_chain *c)
{
    struct virtio_balloon *b = container_of(d, struct virtio_balloon, dev);
    u32 n = MIN(c->out_bytes / STAT_BYTES, (u32)STATS_MAX);
    u8 entry[STATS_MAX * STAT_BYTES];

    if (virtq_read(q, c, 0, entry, n * STAT_BYTES))
        n = 0;
    lock_take(&b->lock);
    for (u32 i = 0; i < n; i++) {
        u16 tag;

        memcpy(&tag, entry + i * STAT_BYTES, 2);
        if (tag >= BALLOON_STATS)
            continue;
        memcpy(&b->stats.value[tag], entry + i * STAT_BYTES + 2, 8);
        b->stats.known |= (u16)BIT(tag);
    }
    lock_drop(&b->lock);
    release_held(b); /* one is enough */
    b->held = true;
    b->held_head = c->head;
    return VIRTIO_LATER;
}

static void ask_stats(void *arg)
{
    struct virtio_balloon *b = arg;

    if (!b->dev.started)
        return;
    release_held(b);
    virtio_signal(&b->dev, STATS);
}

/* ---- what the core calls ---- */

static void kick(struct virtio_dev *d, unsigned q)
{
    switch (q) {
    case INFLATE: virtio_process(d, q, inflate); break;
    case STATS: virtio_process(d, q, take_stats); break;
    case HINT:
    case REPORT:
        if (virtio_has(d, F_REPORTING) && (q == REPORT || !virtio_has(d, F_FREE_PAGE_HINT))) {
            virtio_process(d, q, report);
            break;
        }
        /* fall through */
    default: virtio_process(d, q, done); break;
    }
}

static void stop(struct virtio_dev *d)
{
    struct virtio_balloon *b = container_of(d, struct virtio_balloon, dev);

    b->held = false;
    lock_take(&d->lock);
    memset(b->config + CFG_ACTUAL, 0, sizeof(b->config) - CFG_ACTUAL);
    lock_drop(&d->lock);
    lock_take(&b->lock);
    b->stats = (struct virtio_balloon_stats){0};
    lock_drop(&b->lock);
}

/* What the driver may write are `actual` and `poison_val`; the core stored the bytes already. */
static void config_written(struct virtio_dev *d, u32 off, u32 len)
{
    struct virtio_balloon *b = container_of(d, struct virtio_balloon, dev);

    memcpy(b->config + CFG_PAGES, &b->target, 4);
    memset(b->config + CFG_CMD_ID, 0, 4);
}

static const struct virtio_ops ops = {
    .name = "virtio-balloon",
    .id = VIRTIO_BALLOON,
    .pci_class = 0x050000,
    .stop = stop,
    .kick = kick,
    .config_written = config_written,
};

/* ---- the host's side ---- */

void virtio_balloon_set(struct virtio_balloon *b, u32 pages)
{
    lock_take(&b->dev.lock);
    b->target = pages;
    memcpy(b->config + CFG_PAGES, &pages, 4);
    lock_drop(&b->dev.lock);
    virtio_config_changed(&b->dev);
}

void virtio_balloon_get(struct virtio_balloon *b, u32 *target, u32 *actual)
{
    *target = get_config(b, CFG_PAGES);
    *actual = get_config(b, CFG_ACTUAL);
}

void virtio_balloon_stats(struct virtio_balloon *b, struct virtio_balloon_stats *out,
                          u64 *discarded)
{
    lock_take(&b->lock);
    *out = b->stats;
    *discarded = b->discarded;
    lock_drop(&b->lock);
    loop_task_queue(b->dev.loop, &b->task);
}

const char *virtio_balloon_stat_name(unsigned tag)
{
    static const char *const name[BALLOON_STATS] = {
        "swapped-in",       "swapped-out",       "major-faults",     "minor-faults",
        "memory-free",      "memory-total",      "memory-available", "memory-caches",
        "huge-pages-taken", "huge-pages-failed",
    };

    return name[tag];
}

/* ---- state ---- */

static const struct snap_field fields[] = {
    SNAP_U8(struct virtio_balloon, config),
    SNAP_U32(struct virtio_balloon, target),
    SNAP_BOOL(struct virtio_balloon, held),
    SNAP_U16(struct virtio_balloon, held_head),
    SNAP_U64(struct virtio_balloon, stats.value),
    SNAP_U16(struct virtio_balloon, stats.known),
    SNAP_END,
};

static int check(const void *scratch, struct err *e)
{
    const struct virtio_balloon *b = scratch;

    if (b->stats.known >= BIT(BALLOON_STATS))
        return err_set(e, EINVAL, "virtio-balloon: unknown statistics");
    if (memcmp(b->config + CFG_PAGES, &b->target, 4))
        return err_set(e, EINVAL, "virtio-balloon: two different targets");
    return 0;
}

const struct snap_desc virtio_balloon_snap = {
    .name = "virtio-balloon",
    .version = 1,
    .size = sizeof(struct virtio_balloon),
    .fields = fields,
    .check = check,
};

/* ---- life ---- */

int virtio_balloon_create(struct mem *mem, struct loop *loop, struct virtio_balloon **out,
                          struct err *e)
{
    static const u16 sizes[QUEUES] = {QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE};
    struct virtio_balloon *b = calloc(1, sizeof(*b));
    int rc;

    if (!b)
        return err_set(e, ENOMEM, "virtio-balloon: no memory");
    b->dev.features = BIT64(F_STATS_VQ) | BIT64(F_DEFLATE_ON_OOM) | BIT64(F_FREE_PAGE_HINT) |
                      BIT64(F_PAGE_POISON) | BIT64(F_REPORTING);
    b->dev.config = b->config;
    b->dev.config_len = sizeof(b->config);
    b->task = (struct loop_task){.fn = ask_stats, .arg = b};
    rc = virtio_init(&b->dev, &ops, mem, loop, sizes, QUEUES, e);
    if (rc) {
        free(b);
        return rc;
    }
    lock_init(&b->lock);
    *out = b;
    return 0;
}

void virtio_balloon_destroy(struct virtio_dev *dev)
{
    struct virtio_balloon *b = container_of(dev, struct virtio_balloon, dev);

    loop_task_cancel(dev->loop, &b->task);
    virtio_fini(dev);
    lock_destroy(&b->lock);
    free(b);
}
