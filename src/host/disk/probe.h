/* probe.h - what a disk seems to hold: file systems and partitions of Linux */
#pragma once

#include "host/disk/disk.h"

/* Looks for something that Linux could have its root on: a file system on the whole disk
 * (*partition = 0), else the first partition of a Linux type with one (root types of GPT come
 * first). Knows ext2 to ext4, XFS, Btrfs, F2FS, SquashFS and EROFS. The disk is hostile: at most
 * a few hundred KiB are read, and nothing of it is believed but the place. False: nothing found,
 * or it cannot be read. Any thread; blocks. */
bool disk_find_root(struct disk *d, unsigned *partition);
