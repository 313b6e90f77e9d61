/* wxbuf.c - one memfd mapped twice: writable here, executable there */
#include "base/wxbuf.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

static int map_failed(struct err *e, int code, const char *what, size_t size)
{
    return err_set(e, code, "code buffer of %zu KiB: %s: %s", size >> 10, what, strerror(code));
}

int wxbuf_create(struct wxbuf *b, size_t size, struct err *e)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *w, *x;
    int fd, ret;

    memset(b, 0, sizeof(*b));
    if (size == 0 || size > SIZE_MAX - page)
        return err_set(e, EINVAL, "code buffer: impossible size %zu", size);
    size = align_up(size, page);
    fd = memfd_create("ring3-code", MFD_CLOEXEC);
    if (fd < 0)
        return map_failed(e, errno, "memfd_create", size);
    if (ftruncate(fd, (off_t)size) < 0) {
        ret = map_failed(e, errno, "ftruncate", size);
        goto out_close;
    }
    w = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (w == MAP_FAILED) {
        ret = map_failed(e, errno, "writable mapping", size);
        goto out_close;
    }
    x = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (x == MAP_FAILED) {
        ret = map_failed(e, errno, "executable mapping", size);
        munmap(w, size);
        goto out_close;
    }
    *b = (struct wxbuf){.w = w, .x = x, .size = size};
    ret = 0;
out_close:
    close(fd);
    return ret;
}

void wxbuf_destroy(struct wxbuf *b)
{
    if (!b->size)
        return;
    munmap(b->w, b->size);
    munmap((void *)b->x, b->size);
    memset(b, 0, sizeof(*b));
}
