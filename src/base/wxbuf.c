/* wxbuf.c - the same pages mapped twice: writable here, executable there */
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

    memset(b, 0, sizeof(*b));
    if (size == 0 || size > SIZE_MAX - page)
        return err_set(e, EINVAL, "code buffer: impossible size %zu", size);
    size = align_up(size, page);
    w = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w == MAP_FAILED)
        return map_failed(e, errno, "writable mapping", size);
    x = mremap(w, 0, size, MREMAP_MAYMOVE); /* from nothing: a second mapping of the same pages */
    if (x == MAP_FAILED || mprotect(x, size, PROT_READ | PROT_EXEC) < 0) {
        int code = errno;
        if (x != MAP_FAILED)
            munmap(x, size);
        munmap(w, size);
        return map_failed(e, code, "executable mapping", size);
    }
    *b = (struct wxbuf){.w = w, .x = x, .size = size};
    return 0;
}

void wxbuf_destroy(struct wxbuf *b)
{
    if (!b->size)
        return;
    munmap(b->w, b->size);
    munmap((void *)b->x, b->size);
    memset(b, 0, sizeof(*b));
}
