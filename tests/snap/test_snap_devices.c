/* test_snap_devices.c - save, disturb, restore, save: equal, for every record of the board */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "board.h"
#include "stir.h"

/* One TAP line for each item that pc_snap_items() lists, so that a new chip is tested by being
 * listed. */

#define ITEMS_MAX 128
#define STIR_ROUNDS 400
#define MUTATIONS 300
#define NOTE(...) (snprintf(note, sizeof(note), __VA_ARGS__), false)

static char note[1200];

static struct snap_buf save(struct board *b, const struct snap_item *items, size_t n)
{
    struct snap_buf buf = {0};
    struct err e = {0};
    pc_snap_begin(b->pc);
    int ret = snap_save(&buf, items, n, &e);
    pc_snap_end(b->pc);
    ASSERT(ret == 0);
    return buf;
}

static int load(struct board *b, const struct snap_item *items, size_t n, const void *data,
                size_t len, struct err *e)
{
    *e = (struct err){0};
    pc_snap_begin(b->pc);
    int ret = snap_load(data, len, items, n, e);
    pc_snap_end(b->pc);
    return ret;
}

static bool same(const struct snap_buf *a, const struct snap_buf *b)
{
    return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

/* Which record of two streams over the same items differs first. */
static const char *first_difference(const struct snap_item *items, size_t n,
                                    const struct snap_buf *a, const struct snap_buf *b)
{
    size_t at = 12;
    for (size_t i = 0; i < n && at < a->len; i++) {
        size_t name = a->data[at];
        u32 payload;
        memcpy(&payload, a->data + at + 1 + name + 8, sizeof(payload));
        size_t len = 1 + name + 12 + payload + 4;
        for (size_t k = 0; k < len && at + k < b->len; k++) {
            if (a->data[at + k] != b->data[at + k]) {
                printf("# %s %u differs at byte %zu of its payload\n", items[i].desc->name,
                       items[i].instance, k - 13 - name);
                return items[i].desc->name;
            }
        }
        at += len;
    }
    return "nothing";
}

/* Keeps stirring until this item's record differs from `was`. */
static bool disturb(struct board *b, const struct snap_item *it, const struct snap_buf *was,
                    u64 seed)
{
    for (unsigned i = 0; i < STIR_ROUNDS; i++) {
        board_stir_seed(b, seed + i, 200);
        struct snap_buf now = save(b, it, 1);
        bool changed = !same(&now, was);
        snap_buf_free(&now);
        if (changed)
            return true;
    }
    return NOTE("nothing that was done to the board changed this record");
}

/* What a guest sees when it goes on from here: a digest of all it reads. Catches state that is
 * missing from a record, which the records themselves cannot show. */
static u64 go_on(struct board *b, u64 seed)
{
    b->seen = 0;
    board_stir_seed(b, seed, 20000);
    return b->seen;
}

static u8 *copy_ram(struct board *b, const u8 *from)
{
    u8 *ram = malloc(2 * MiB);
    ASSERT(ram);
    int ret = from ? mem_write(b->mem, 0, from, 2 * MiB) : mem_read(b->mem, 0, ram, 2 * MiB);
    ASSERT(ret == 0);
    return ram;
}

/* The whole board goes back, this record with it, and what happens from there happens again. */
static bool round_trip(struct board *b, const struct snap_item *all, size_t n,
                       const struct snap_item *it, u64 seed)
{
    struct err e;
    board_stir_seed(b, seed, 500);
    struct snap_buf board = save(b, all, n), one = save(b, it, 1);
    u8 *ram = copy_ram(b, NULL);
    u64 seen = go_on(b, seed);
    bool ok = disturb(b, it, &one, seed * 7 + 1);
    int ret = load(b, all, n, board.data, board.len, &e);
    free(copy_ram(b, ram));
    if (ok && ret)
        ok = NOTE("not restored: %s", e.msg);
    struct snap_buf board2 = save(b, all, n), one2 = save(b, it, 1);
    if (ok && !same(&one, &one2))
        ok = NOTE("differs after restoring");
    if (ok && !same(&board, &board2))
        ok = NOTE("record %s of the board differs after restoring",
                  first_difference(all, n, &board, &board2));
    if (ok && go_on(b, seed) != seen)
        ok = NOTE("a guest sees other things after restoring");
    free(ram);
    snap_buf_free(&board);
    snap_buf_free(&one);
    snap_buf_free(&board2);
    snap_buf_free(&one2);
    return ok;
}

/* Every proper prefix (of long records: some) is refused with a message, and nothing changed. */
static bool truncated(struct board *b, const struct snap_item *it)
{
    struct snap_buf good = save(b, it, 1);
    size_t stride = good.len > 4096 ? good.len / 512 : 1;
    bool ok = true;
    for (size_t len = 0; len < good.len && ok; len += stride) {
        struct err e;
        if (!load(b, it, 1, good.data, len, &e) || !e.msg[0])
            ok = NOTE("a stream of %zu of %zu bytes was taken", len, good.len);
    }
    struct snap_buf after = save(b, it, 1);
    if (ok && !same(&good, &after))
        ok = NOTE("a refused stream changed the state");
    snap_buf_free(&good);
    snap_buf_free(&after);
    return ok;
}

/* A stream is header (12 bytes), then the record, whose last 4 bytes are its checksum. */
static void fix_checksum(u8 *data, size_t len)
{
    u32 crc = (u32)crc32(0, data + 12, (uInt)(len - 16));
    memcpy(data + len - 4, &crc, sizeof(crc));
}

/* Flipped bytes behind a good checksum: refused by check(), or loaded; then the board must still
 * work. */
static bool mutated(struct board *b, const struct snap_item *all, size_t n,
                    const struct snap_item *it)
{
    struct snap_buf board = save(b, all, n);
    unsigned refused = 0;
    bool ok = true;
    srand(1);
    for (unsigned i = 0; i < MUTATIONS && ok; i++) {
        struct snap_buf bad = save(b, it, 1), good = save(b, it, 1);
        struct err e;
        while (same(&bad, &good)) { /* flips may cancel out */
            for (unsigned k = 0; k <= i % 8; k++)
                bad.data[12 + (size_t)rand() % (bad.len - 16)] ^= (u8)(1u << rand() % 8);
        }
        snap_buf_free(&good);
        if (!load(b, it, 1, bad.data, bad.len, &e))
            ok = NOTE("a stream with a bad checksum was taken");
        fix_checksum(bad.data, bad.len);
        if (load(b, it, 1, bad.data, bad.len, &e)) {
            refused++;
            if (!e.msg[0])
                ok = NOTE("refused without a message");
        } else {
            board_stir_seed(b, i, 20);
            clock_step(b->clock, 1000000);
        }
        snap_buf_free(&bad);
        if (ok && load(b, all, n, board.data, board.len, &e))
            ok = NOTE("the good state was not restored: %s", e.msg);
    }
    if (ok && !refused)
        ok = NOTE("no mutation was ever refused");
    snap_buf_free(&board);
    return ok;
}

int main(void)
{
    struct snap_item items[ITEMS_MAX];
    struct board b;
    struct err e = {0};
    int failed = 0;
    if (board_create(&b, 2, &e)) {
        printf("Bail out! %s\n", e.msg);
        return 1;
    }
    size_t n = pc_snap_items(b.pc, items, ITEMS_MAX);
    ASSERT(n > 0 && n <= ITEMS_MAX);
    printf("TAP version 13\n1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        bool ok = round_trip(&b, items, n, &items[i], i + 1) && truncated(&b, &items[i]) &&
                  mutated(&b, items, n, &items[i]);
        printf("%sok %zu - %s %u\n", ok ? "" : "not ", i + 1, items[i].desc->name,
               items[i].instance);
        if (!ok)
            printf("# %s\n", note);
        failed += !ok;
    }
    board_destroy(&b);
    return failed != 0;
}
