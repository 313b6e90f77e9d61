/* qcow2_create.h - new qcow2 files */
#pragma once

#include "host/disk/disk.h"

struct qcow2_layout {
    u64 size;              /* bytes of the disk */
    unsigned cluster_bits; /* 0: 16 */
    const char *backing;   /* as it shall stand in the header; NULL: none */
    enum disk_format backing_format;
};

/* Makes an empty file an image of version 3 without contents. `path` is for messages. 0 or
 * -errno. */
must_check int qcow2_write_empty(int fd, const char *path, const struct qcow2_layout *layout,
                                 struct err *e);
