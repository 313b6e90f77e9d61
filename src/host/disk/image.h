/* image.h - disk files as such: making, looking at, checking and converting them */
#pragma once

#include "host/disk/disk.h"

struct image_info {
    enum disk_format format;
    u64 bytes;      /* of the disk */
    u64 file_bytes; /* the file's length */
    u64 host_bytes; /* what it takes of the host's space */

    /* qcow2 */
    u32 version;
    u64 cluster, allocated; /* bytes */
    u32 snapshots;          /* internal ones */
    bool dirty;             /* was not closed: refcounts will be rebuilt when it is written again */
    bool corrupt;           /* marked so by another program */
    char backing[1024];     /* empty: none */
    u64 errors, leaks;      /* clusters with too low a refcount, or damage; with too high a one */
    char problem[256];      /* the first error */
};

/* All functions: any thread; block; 0 or -errno with *e. `format` DISK_AUTO is looked up in the
 * file. */

/* Looks at a file without changing it; qcow2 tables are checked. -EBUSY when somebody writes. */
must_check int image_examine(const char *path, enum disk_format format, struct image_info *info,
                             struct err *e);
/* The same, with refcounts put right first. */
must_check int image_repair(const char *path, struct image_info *info, struct err *e);

struct image_config {
    const char *path;
    enum disk_format format; /* not DISK_AUTO */
    u64 bytes;               /* 0: as the backing file's */
    u64 cluster;             /* bytes; 0: 64 KiB */
    const char *backing;     /* qcow2: NULL: none */
    enum disk_format backing_format;
};
/* Makes an empty one: it appears whole or not at all, and replaces nothing (-EEXIST). */
must_check int image_create(const struct image_config *cfg, struct err *e);

/* Copies a disk's contents into a new file; zeros take no space. */
must_check int image_convert(const struct disk_config *from, const char *to,
                             enum disk_format format, struct err *e);
