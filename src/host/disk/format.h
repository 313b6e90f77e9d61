/* format.h - what a disk format implements (private to host/disk/) */
#pragma once

#include "host/disk/disk.h"

/* Ranges are checked, never empty, and inside bytes(). Otherwise as the functions of disk.h. */
struct disk_ops {
    int (*readv)(void *self, u64 off, const struct iovec *iov, int n, u64 len);
    int (*writev)(void *self, u64 off, const struct iovec *iov, int n, u64 len);
    int (*write_zeroes)(void *self, u64 off, u64 len, bool unmap);
    int (*discard)(void *self, u64 off, u64 len);
    int (*flush)(void *self);
    bool (*map)(void *self, u64 off, u64 len, bool write, int *fd, u64 *fd_off, u64 *run);
    void (*unmap)(void *self, u64 off, u64 run, bool write);
    int (*close)(void *self);
};

/* disk.c: opens and locks a disk's file; *format is what cfg says, or what the file holds. */
int disk_open_file(const struct disk_config *cfg, bool read_only, enum disk_format *format, int *fd,
                   struct err *e);

/* raw.c: a file or block device; the fd becomes its own. */
int raw_open(int fd, const char *path, bool read_only, const struct disk_ops **ops, void **self,
             u64 *bytes, struct err *e);

/* qcow2*.c. Opens the chain of backing files (read-only, at most QCOW2_CHAIN_MAX). */
int qcow2_open(int fd, const char *path, bool read_only, unsigned depth,
               const struct disk_ops **ops, void **self, u64 *bytes, struct err *e);
/* Fills in what concerns qcow2, with refcounts put right first when asked to. The fd becomes its
 * own, also on failure. */
struct image_info;
int qcow2_examine(int fd, const char *path, bool repair, struct image_info *info, struct err *e);
/* A nameless qcow2 overlay over an open disk (which it owns afterwards and closes): for `snapshot`.
 * Its file lies in TMPDIR, unlinked. */
int qcow2_overlay(struct disk *base, const struct disk_ops **ops, void **self, struct err *e);
