/* file.c - whole files in and out */
#include "host/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"

#define LARGE (2 * MiB) /* a huge page */

static int fail(struct err *e, const char *what, const char *path, int code)
{
    return err_set(e, code, "cannot %s %s: %s", what, path, strerror(code));
}

static int too_big(struct err *e, const char *path, u64 limit)
{
    return err_set(e, EFBIG, "cannot read %s: larger than %" PRIu64 " bytes", path, limit);
}

/* Reads to the end; *cap is the room at *data, of which one byte stays free. */
static int read_all(int fd, const char *path, u64 limit, u8 **data, size_t cap, size_t *len,
                    struct err *e)
{
    *len = 0;
    for (;;) {
        ssize_t n;
        if (*len + 1 == cap) {
            u8 *grown = realloc(*data, cap * 2);
            if (!grown)
                return fail(e, "read", path, ENOMEM);
            *data = grown;
            cap *= 2;
        }
        n = read(fd, *data + *len, cap - 1 - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(e, "read", path, errno);
        if (n == 0)
            break;
        *len += (size_t)n;
        if (*len > limit)
            return too_big(e, path, limit);
    }
    (*data)[*len] = '\0';
    return 0;
}

/* Whole kernels and RAM disks are read: a host fault for each page of the buffer takes as long as
 * the reading itself. */
static u8 *buffer(size_t cap)
{
    u8 *data = cap < LARGE ? malloc(cap) : aligned_alloc(LARGE, align_up(cap, LARGE));

    if (data && cap >= LARGE)
        (void)madvise(data, align_up(cap, LARGE), MADV_HUGEPAGE);
    return data;
}

int file_read(const char *path, u64 limit, u8 **data, size_t *len, struct err *e)
{
    struct stat st;
    size_t cap = 4096;
    int fd, ret;

    *data = NULL;
    *len = 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(e, "open", path, errno);
    if (fstat(fd, &st) < 0) {
        ret = fail(e, "read", path, errno);
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        ret = fail(e, "read", path, EISDIR);
        goto out;
    }
    if (S_ISREG(st.st_mode)) {
        if ((u64)st.st_size > limit) {
            ret = too_big(e, path, limit);
            goto out;
        }
        cap = (size_t)st.st_size + 2; /* the size may be a lie, as in /proc */
    }
    *data = buffer(cap);
    ret = *data ? read_all(fd, path, limit, data, cap, len, e) : fail(e, "read", path, ENOMEM);
    if (ret) {
        free(*data);
        *data = NULL;
        *len = 0;
    }
out:
    close(fd);
    return ret;
}

int file_write_all(int fd, const void *data, size_t len)
{
    const u8 *at = data;

    while (len) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Makes the rename itself last. Some file systems cannot sync a directory; then it is as good as
 * they do. */
static void sync_parent(const char *path)
{
    char *dir = strdup(path), *slash;
    int fd;

    if (!dir)
        return;
    slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(dir);
}

/* A new file beside `path`; its name is unique, so two writers do not meet. */
static int open_beside(const char *path, unsigned mode, char **tmp)
{
    for (unsigned i = 0; i < 100; i++) {
        int fd;
        if (asprintf(tmp, "%s.%ld.%u.tmp", path, (long)getpid(), i) < 0) {
            *tmp = NULL;
            errno = ENOMEM;
            return -1;
        }
        fd = open(*tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0)
            return fd;
        free(*tmp);
        *tmp = NULL;
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

int file_write_atomic(const char *path, const void *data, size_t len, unsigned mode, struct err *e)
{
    char *tmp;
    int fd, ret;

    fd = open_beside(path, mode, &tmp);
    if (fd < 0)
        return fail(e, "create", path, errno);
    ret = file_write_all(fd, data, len);
    if (ret == 0 && fsync(fd) < 0 && errno != EINVAL)
        ret = -errno;
    if (close(fd) < 0 && ret == 0)
        ret = -errno;
    if (ret == 0 && rename(tmp, path) < 0)
        ret = -errno;
    if (ret) {
        (void)unlink(tmp);
        fail(e, "write", path, -ret);
    } else {
        sync_parent(path);
    }
    free(tmp);
    return ret;
}

int file_open_output(const char *path, bool append, int *fd, struct err *e)
{
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (append ? O_APPEND : O_TRUNC);

    *fd = open(path, flags, 0644);
    return *fd < 0 ? fail(e, "open", path, errno) : 0;
}
