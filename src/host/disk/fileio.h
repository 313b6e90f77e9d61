/* fileio.h - whole transfers on a file (private to host/disk/) */
#pragma once

#include <sys/uio.h>

#include "base/types.h"

/* All bytes of the vectors at off..off+len-1, over short transfers and signals. A read past the
 * end of the file gives zeros. 0 or -errno. */
must_check int file_readv_at(int fd, u64 off, const struct iovec *iov, int n, u64 len);
must_check int file_writev_at(int fd, u64 off, const struct iovec *iov, int n, u64 len);
must_check int file_read_at(int fd, u64 off, void *buf, u64 len);
must_check int file_write_at(int fd, u64 off, const void *buf, u64 len);
/* Makes a range read as zeros; with `punch` its space goes back to the host. Falls back to writing
 * zeros. The file does not grow. */
must_check int file_zero_at(int fd, u64 off, u64 len, bool punch);
/* Gives space back where the host can. False: it cannot, and the old bytes may still be there;
 * true: they read as zeros. */
bool file_discard_at(int fd, u64 off, u64 len);
