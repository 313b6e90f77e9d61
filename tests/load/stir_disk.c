/* stir_disk.c - random requests on a disk file, the same ones for the same seed in any format
 *
 *   stir_disk FORMAT FILE SEED ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/disk/disk.h"

#define LENGTH_MAX (200 * KiB)

static int request(struct disk *d, unsigned *seed)
{
    static u8 buf[LENGTH_MAX];
    u64 off = ((u64)rand_r(seed) << 20 ^ (u64)rand_r(seed)) % disk_bytes(d);
    u64 len = 1 + (u64)rand_r(seed) % MIN(LENGTH_MAX, disk_bytes(d) - off);
    unsigned what = (unsigned)rand_r(seed) % 8;

    if (what & 1)
        len = MIN(len, 5000);
    if (what == 7)
        return disk_flush(d);
    if (what >= 5)
        return disk_write_zeroes(d, off, len, what == 5);
    for (u64 i = 0; i < len; i++)
        buf[i] = (u8)(*seed + i / 512);
    return disk_writev(d, off, &(struct iovec){buf, len}, 1);
}

int main(int argc, char **argv)
{
    struct disk_config cfg = {0};
    struct err e = {0};
    struct disk *d;
    unsigned seed;
    int rc;

    if (argc != 5)
        return 2;
    cfg.path = argv[2];
    cfg.format = strcmp(argv[1], "raw") ? DISK_QCOW2 : DISK_RAW;
    seed = (unsigned)atoi(argv[3]);
    rc = disk_open(&cfg, &d, &e);
    for (int i = 0; !rc && i < atoi(argv[4]); i++)
        rc = request(d, &seed);
    if (!rc)
        rc = disk_close(d);
    if (rc)
        fprintf(stderr, "stir_disk: %s: %s\n", argv[2], e.code ? e.msg : strerror(-rc));
    return rc != 0;
}
