/* disks.h - the disks of a run: --disk and --ephemeral */
#pragma once

#include "base/err.h"
#include "cli/options.h"
#include "machine/machine.h"

/* Zero-initialise; free with disks_free also after a failure. */
struct disk_list {
    struct machine_disk item[DISKS_MAX];
    char *text[DISKS_MAX]; /* what the items point into */
    bool data;             /* the first is not to be booted from */
    unsigned count;
};

/* Reads the options; opens nothing. -EINVAL with *e for the user. */
must_check int disks_parse(struct disk_list *l, const struct options *o, struct err *e);
void disks_free(struct disk_list *l);

/* The block device, by the name the guest gives it, that the default guest takes as its root: the
 * first disk or a partition of it, unless it is for data or holds no file system of Linux; then
 * `out` is empty. 0, or -errno when the disk cannot be opened. */
must_check int disks_root(const struct disk_list *l, char *out, size_t size, struct err *e);
