/* file.h - whole files in and out, with messages that name the file */
#pragma once

#include "base/err.h"
#include "base/types.h"

/* All functions: any thread, no locks; 0 or -errno with *e naming the path. They block. */

/* Reads a file, pipe or device to its end into *data (malloc'd, the caller frees; one NUL byte
 * follows the *len bytes). More than `limit` bytes are -EFBIG. On failure *data is NULL. */
must_check int file_read(const char *path, u64 limit, u8 **data, size_t *len, struct err *e);

/* Replaces the file at once: readers see the old or the whole new one, also after a crash. `mode`
 * as for open(2), before the umask. On failure the old file is as it was. */
must_check int file_write_atomic(const char *path, const void *data, size_t len, unsigned mode,
                                 struct err *e);

/* Opens for writing, made with mode 0644 when missing; appends or starts empty. The caller closes
 * *fd. */
must_check int file_open_output(const char *path, bool append, int *fd, struct err *e);

/* Writes all bytes, also over short writes and signals. 0 or -errno; no message, the fd has no
 * name. */
must_check int file_write_all(int fd, const void *data, size_t len);
