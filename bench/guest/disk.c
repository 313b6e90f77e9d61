/* disk.c - a disk: sequential and random transfers, several in flight, past the page cache
 *
 * Natively a file, in a guest the virtual disk over the same file: direct I/O on both, as disk
 * benchmarks do. What the monitor does in between may use the host's page cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rows.h"

#define BIG     (128 * 1024u)
#define SMALL   4096u
#define HUGE    (2 * 1024 * 1024u)
#define DEPTH   8
#define WAIT_MS 5000
#define BYTES   (64 * 1024 * 1024u) /* of the disk that are used */

const char *disk_path;

static int disk = -1;
static u8 *buffer; /* DEPTH * BIG bytes */
static aio_context_t context;

static const char *setup_disk(void)
{
    if (!disk_path)
        return "no disk";
    for (int ms = 0; ms < WAIT_MS && access(disk_path, F_OK) < 0; ms++)
        usleep(1000); /* a driver may be looking for it still */
    disk = open(disk_path, O_RDWR | O_DIRECT);
    if (disk < 0)
        return "cannot be opened for direct I/O";
    if (posix_memalign((void **)&buffer, HUGE, HUGE))
        return "no memory";
    (void)madvise(buffer, HUGE, MADV_HUGEPAGE);
    memset(buffer, 0x5a, HUGE);
    if (syscall(SYS_io_setup, DEPTH, &context) < 0)
        return "no asynchronous I/O";
    return NULL;
}

static void submit(struct iocb *c)
{
    if (syscall(SYS_io_submit, context, 1, &c) != 1)
        fail("io_submit");
}

/* `rounds` transfers of `bytes`, DEPTH in flight; at the next place, or anywhere. */
static u64 transfer(u32 rounds, u32 bytes, u32 op, int anywhere)
{
    struct iocb control[DEPTH] = {0};
    u32 places = BYTES / bytes, place = 0, started = 0, seed = 12345;

    for (u32 ended = 0; ended < rounds;) {
        struct io_event event;

        if (started < rounds && started - ended < DEPTH) {
            struct iocb *c = &control[started < DEPTH ? started : place];
            u32 slot = (u32)(c - control);

            seed = seed * 1664525 + 1013904223;
            *c = (struct iocb){.aio_lio_opcode = (unsigned short)op, .aio_fildes = (u32)disk};
            c->aio_buf = (u64)(buffer + slot * bytes);
            c->aio_nbytes = bytes;
            c->aio_offset = (anywhere ? seed >> 8 : started) % places * (long long)bytes;
            submit(c);
            started++;
            continue;
        }
        if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
            fail("io_getevents");
        if (event.res != bytes) {
            errno = event.res < 0 ? (int)-event.res : EIO;
            fail("transfer");
        }
        place = (u32)((struct iocb *)event.obj - control);
        ended++;
    }
    return rounds;
}

static u64 row_read128k(u32 rounds)
{
    return transfer(rounds, BIG, IOCB_CMD_PREAD, 0);
}

static u64 row_write128k(u32 rounds)
{
    return transfer(rounds, BIG, IOCB_CMD_PWRITE, 0);
}

static u64 row_read4k(u32 rounds)
{
    return transfer(rounds, SMALL, IOCB_CMD_PREAD, 1);
}

static u64 row_write4k(u32 rounds)
{
    return transfer(rounds, SMALL, IOCB_CMD_PWRITE, 1);
}

const struct row disk_rows[] = {
    {"read128k", row_read128k, 2048, setup_disk},
    {"write128k", row_write128k, 2048, setup_disk},
    {"read4k", row_read4k, 4096, setup_disk},
    {"write4k", row_write4k, 4096, setup_disk},
    {NULL, NULL, 0, NULL},
};
