/* fuzz_script.c - any bytes as accesses to the whole board: nothing may hurt the monitor */
#include <stdint.h>
#include <string.h>

#include "stir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ACTIONS_MAX 2000
#define TIME_MAX_NS 2000000000ull /* storms of every chip at once are slow to replay beyond this */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snap_item items[64];
    struct snap_buf buf = {0};
    struct board b;
    struct err e = {0};
    int ret = board_create(&b, 2, &e);
    ASSERT(ret == 0);
    size_t n = pc_snap_items(b.pc, items, ARRAY_SIZE(items));
    ASSERT(n <= ARRAY_SIZE(items));
    for (unsigned i = 0; i < ACTIONS_MAX && size >= STIR_BYTES; i++) {
        board_stir(&b, data);
        data += STIR_BYTES;
        size -= STIR_BYTES;
        if (clock_now_ns(b.clock) > TIME_MAX_NS)
            break;
    }
    /* Whatever state this led to is one that can be saved, and passes its own check. */
    pc_snap_begin(b.pc);
    ret = snap_save(&buf, items, n, &e);
    ASSERT(ret == 0);
    ret = snap_load(buf.data, buf.len, items, n, &e);
    ASSERT(ret == 0);
    pc_snap_end(b.pc);
    snap_buf_free(&buf);
    pc_reset(b.pc);
    board_destroy(&b);
    return 0;
}
