/* qcow2.c - disks in QEMU's copy-on-write format: not readable yet */
#include <errno.h>

#include "host/disk/format.h"

int qcow2_open(int fd, const char *path, bool read_only, const struct disk_ops **ops, void **self,
               u64 *bytes, struct err *e)
{
    return err_set(e, ENOTSUP, "disk %s: qcow2 is not supported by this version", path);
}

int qcow2_overlay(struct disk *base, const struct disk_ops **ops, void **self, struct err *e)
{
    return err_set(e, ENOTSUP, "disk %s: snapshot is not supported by this version",
                   disk_path(base));
}
