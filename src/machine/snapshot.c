/* snapshot.c - writing a machine as a file */
#include "machine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "host/file.h"
#include "machine/bytes.h"
#include "machine/machine_priv.h"
#include "machine/snapshot_priv.h"

#define RUN_PAGES 256 /* most pages of a run */
#define LEVEL     1   /* of compression: a running machine waits for it */

struct writer {
    const char *path;
    int fd;
    ZSTD_CCtx *z;
    u8 *out;
    size_t room;
};

static int fail(const struct writer *w, int code, struct err *e)
{
    return err_set(e, code, "snapshot %s: cannot write: %s", w->path, strerror(code));
}

static int put(struct writer *w, const void *data, size_t len, ZSTD_EndDirective how, struct err *e)
{
    ZSTD_inBuffer in = {data, len, 0};
    size_t left;

    do {
        ZSTD_outBuffer out = {w->out, w->room, 0};
        int rc;

        left = ZSTD_compressStream2(w->z, &out, &in, how);
        if (ZSTD_isError(left))
            return err_set(e, EIO, "snapshot %s: cannot compress: %s", w->path,
                           ZSTD_getErrorName(left));
        rc = file_write_all(w->fd, out.dst, out.pos);
        if (rc)
            return fail(w, -rc, e);
    } while (how == ZSTD_e_end ? left : in.pos < in.size);
    return 0;
}

static int put_run(struct writer *w, u64 gpa, const void *data, u64 len, struct err *e)
{
    u8 head[16];
    int rc;

    put_le64(head, gpa);
    put_le64(head + 8, len);
    rc = put(w, head, sizeof(head), ZSTD_e_continue, e);
    return rc || !len ? rc : put(w, data, len, ZSTD_e_continue, e);
}

static bool page_is_zero(const u8 *page)
{
    u64 first;

    memcpy(&first, page, 8);
    return !first && !memcmp(page, page + 8, PAGE_BYTES - 8);
}

/* Pages in a row that hold something. */
static u64 run_length(const u8 *hva, u64 at, u64 size)
{
    u64 n = 0;

    while (n < RUN_PAGES && at + n * PAGE_BYTES < size && !page_is_zero(hva + at + n * PAGE_BYTES))
        n++;
    return n * PAGE_BYTES;
}

static int put_slot(struct writer *w, struct mem *mem, const struct mem_slot_info *s, struct err *e)
{
    unsigned flags;
    const u8 *hva = mem_page(mem, s->gpa, false, &flags);
    int rc = 0;

    if (s->flags & MEM_ROM)
        return err_set(e, EINVAL, "snapshot %s: a machine with a ROM image cannot be saved",
                       w->path);
    for (u64 at = 0; at < s->size && !rc;) {
        u64 len = run_length(hva, at, s->size);

        if (len)
            rc = put_run(w, s->gpa + at, hva + at, len, e);
        at += len ? len : PAGE_BYTES;
    }
    return rc;
}

static int put_memory(struct writer *w, struct machine *m, struct err *e)
{
    struct mem_slot_info slot[MEM_SLOTS_MAX];
    size_t n = MIN(mem_slots(m->mem, slot, MEM_SLOTS_MAX), (size_t)MEM_SLOTS_MAX);
    int rc = 0;

    for (size_t i = 0; i < n && !rc; i++)
        rc = put_slot(w, m->mem, &slot[i], e);
    return rc ? rc : put_run(w, 0, NULL, 0, e);
}

static int put_state(struct writer *w, struct machine *m, struct err *e)
{
    struct snap_buf state = {0};
    u8 len[8];
    int rc = machine_save(m, &state, e);

    put_le64(len, state.len);
    if (!rc)
        rc = put(w, len, sizeof(len), ZSTD_e_continue, e);
    if (!rc)
        rc = put(w, state.data, state.len, ZSTD_e_continue, e);
    snap_buf_free(&state);
    return rc;
}

static int put_header(struct writer *w, const struct machine *m, struct err *e)
{
    u8 h[SNAPSHOT_HEADER] = SNAPSHOT_MAGIC;
    u32 serials = 0;
    int rc;

    for (unsigned i = 0; i < MACHINE_SERIALS; i++)
        serials |= m->serial[i] ? BIT(i) : 0;
    put_le32(h + HEADER_VERSION, SNAPSHOT_VERSION);
    put_le32(h + HEADER_BYTES, SNAPSHOT_HEADER);
    put_le64(h + HEADER_RAM, m->ram_bytes);
    put_le32(h + HEADER_CPUS, m->cpus);
    put_le32(h + HEADER_SERIALS, serials);
    put_le32(h + HEADER_DEBUG_EXIT, (u32)m->debug_exit_port);
    put_le32(h + HEADER_FLAGS, m->testdev ? FLAG_TESTDEV : 0);
    snprintf((char *)h + HEADER_MODEL, HEADER_MODEL_BYTES, "%s", m->cpuid.name);
    for (unsigned i = 0; i < X86_FEATURE_WORDS; i++)
        put_le64(h + HEADER_FEATURES + 8 * i, m->cpuid.features[i]);
    put_le64(h + HEADER_ARCH_CAPABILITIES, m->cpuid.arch_capabilities);
    put_le32(h + HEADER_CRC, (u32)crc32(0, h, HEADER_CRC));
    rc = file_write_all(w->fd, h, sizeof(h));
    return rc ? fail(w, -rc, e) : 0;
}

static int write_all(struct writer *w, struct machine *m, struct err *e)
{
    int rc;

    w->room = ZSTD_CStreamOutSize();
    w->out = malloc(w->room);
    w->z = ZSTD_createCCtx();
    if (!w->out || !w->z)
        return fail(w, ENOMEM, e);
    ZSTD_CCtx_setParameter(w->z, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(w->z, ZSTD_c_checksumFlag, 1);
    if ((rc = put_header(w, m, e)) || (rc = put_state(w, m, e)) || (rc = put_memory(w, m, e)) ||
        (rc = put(w, NULL, 0, ZSTD_e_end, e)))
        return rc;
    return fsync(w->fd) ? fail(w, errno, e) : 0;
}

int snapshot_save(struct machine *m, const char *path, struct err *e)
{
    struct writer w = {.path = path, .fd = -1};
    size_t room = strlen(path) + 16;
    char *temporary = malloc(room);
    int rc;

    if (!temporary)
        return fail(&w, ENOMEM, e);
    snprintf(temporary, room, "%s.XXXXXX", path);
    w.fd = mkostemp(temporary, O_CLOEXEC);
    if (w.fd < 0) {
        rc = fail(&w, errno, e);
        free(temporary);
        return rc;
    }
    rc = write_all(&w, m, e);
    if (!rc && rename(temporary, path))
        rc = fail(&w, errno, e);
    if (rc)
        unlink(temporary);
    close(w.fd);
    ZSTD_freeCCtx(w.z);
    free(w.out);
    free(temporary);
    return rc;
}
