/* fuzz_qcow2.c - any bytes as a qcow2 file: refused, or read, written, checked and closed
 *
 * Input: up to OPS_BYTES of requests, then the image. Each request is four bytes: what, where (16
 * bits, in units of 1/65536 of the disk), how much.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/disk/fileio.h"
#include "host/disk/image.h"

#define OPS_BYTES  32u
#define FILE_BYTES (16 * MiB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool fine(int rc)
{
    return rc == 0 || rc == -EIO || rc == -EFBIG || rc == -ENOMEM || rc == -ENOSPC ||
           rc == -EINVAL || rc == -ENXIO;
}

static void request(struct disk *d, const u8 *op)
{
    static u8 buf[256 * 64];
    u64 off = disk_bytes(d) / 65536 * (op[1] | (u64)op[2] << 8) + op[3] % 7u;
    u64 len = op[3] * 64u, run, at;
    int fd, rc = 0;

    if (off >= disk_bytes(d))
        return;
    len = MIN(len, disk_bytes(d) - off);
    switch (op[0] % 6) {
    case 0:
    case 1:
        memset(buf, op[0], len);
        rc = disk_writev(d, off, &(struct iovec){buf, len}, 1);
        if (!rc)
            rc = disk_readv(d, off, &(struct iovec){buf, len}, 1);
        break;
    case 2: rc = disk_readv(d, off, &(struct iovec){buf, len}, 1); break;
    case 3: rc = disk_write_zeroes(d, off, len, op[3] & 1); break;
    case 4: rc = disk_discard(d, off, len); break;
    default:
        if (disk_map(d, off, len, op[0] & 8, &fd, &at, &run)) {
            ASSERT(run && run <= len && fd >= 0);
            disk_unmap(d, off, run, op[0] & 8);
        }
    }
    ASSERT(fine(rc));
}

static void use(const char *path, bool read_only, const u8 *ops, size_t n)
{
    struct disk_config cfg = {.path = path, .format = DISK_QCOW2, .read_only = read_only};
    struct err e = {0};
    struct disk *d;

    if (disk_open(&cfg, &d, &e)) {
        ASSERT(e.code > 0 && e.msg[0]);
        return;
    }
    for (size_t i = 0; i + 4 <= n; i += 4) {
        u8 op[4];

        memcpy(op, ops + i, 4);
        if (read_only)
            op[0] = op[0] & 1 ? 2 : 5;
        request(d, op);
    }
    ASSERT(fine(disk_close(d)));
}

/* What a hostile table makes of the file stays small. */
static void limit_files(void)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0) {
        limit.rlim_cur = FILE_BYTES;
        (void)setrlimit(RLIMIT_FSIZE, &limit);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = MIN(size, OPS_BYTES);
    struct image_info info;
    struct err e = {0};
    char path[40];
    int fd;

    limit_files();
    fd = memfd_create("qcow2", MFD_CLOEXEC);
    if (fd < 0)
        return 0;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (size > n && file_write_at(fd, 0, data + n, MIN(size - n, (size_t)MiB)) == 0) {
        if (image_examine(path, DISK_QCOW2, &info, &e))
            ASSERT(e.code > 0 && e.msg[0]);
        use(path, true, data, n);
        use(path, false, data, n);
        memset(&e, 0, sizeof(e));
        (void)!image_repair(path, &info, &e);
        use(path, false, data, n);
    }
    close(fd);
    return 0;
}
