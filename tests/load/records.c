/* records.c - guest program: numbered records on a disk, each announced once it is on it
 *
 *   records DEVICE FIRST
 *
 * Record n fills slot n * ODD % slots of 4 KiB, so that clusters are allocated all over the image.
 * It is written with O_DSYNC, or written and flushed; then n goes to stdout as a line of its own.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOT_BYTES 4096
#define SLOTS      65536u
#define ODD        40503u /* so that every slot comes before any comes again */

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_disk(const char *path, int flags)
{
    int fd = -1;

    for (int ms = 0; ms < 10000 && access(path, F_OK) < 0; ms += 10)
        usleep(10000); /* the driver is being loaded */
    fd = open(path, O_WRONLY | O_DIRECT | flags);
    if (fd < 0)
        die(path);
    return fd;
}

int main(int argc, char **argv)
{
    static unsigned record[SLOT_BYTES / sizeof(unsigned)] __attribute__((aligned(4096)));
    int synced, lazy;

    if (argc != 3)
        return 2;
    synced = open_disk(argv[1], O_DSYNC);
    lazy = open_disk(argv[1], 0);
    for (unsigned n = (unsigned)atoi(argv[2]); n < SLOTS; n++) {
        off_t off = (off_t)(n * ODD % SLOTS) * SLOT_BYTES;
        int fd = n & 1 ? synced : lazy;

        for (size_t i = 0; i < sizeof(record) / sizeof(record[0]); i++)
            record[i] = n;
        if (pwrite(fd, record, sizeof(record), off) != (ssize_t)sizeof(record))
            die("write");
        if (fd == lazy && fdatasync(fd) < 0)
            die("flush");
        printf("%u\n", n);
        fflush(stdout);
    }
    return 0;
}
