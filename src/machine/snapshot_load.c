/* snapshot_load.c - a machine from a file, which may be anybody's */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "machine/bytes.h"
#include "machine/machine_priv.h"
#include "machine/snapshot.h"
#include "machine/snapshot_priv.h"

#define STATE_MAX      (64 * MiB) /* of all records */
#define WINDOW_LOG_MAX 27         /* zstd's memory: 128 MiB at most */

_Static_assert(HEADER_FEATURES + 8 * X86_FEATURE_WORDS <= HEADER_ARCH_CAPABILITIES, "overlap");

/* ---- the header ---- */

static int bad(const char *path, const char *what, struct err *e)
{
    return err_set(e, EINVAL, "snapshot %s: %s", path, what);
}

/* Reads exactly n bytes. */
static int read_exactly(int fd, u8 *to, size_t n)
{
    while (n) {
        ssize_t got = read(fd, to, n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        to += got;
        n -= (size_t)got;
    }
    return 0;
}

static int check_header(const u8 *h, const char *path, struct err *e)
{
    u32 version = get_le32(h + HEADER_VERSION);

    if (memcmp(h, SNAPSHOT_MAGIC, sizeof(SNAPSHOT_MAGIC)))
        return bad(path, "is no snapshot of ring3", e);
    if (version != SNAPSHOT_VERSION)
        return err_set(e, EINVAL, "snapshot %s: is of version %u, this ring3 reads version %u",
                       path, version, SNAPSHOT_VERSION);
    if (get_le32(h + HEADER_BYTES) != SNAPSHOT_HEADER ||
        get_le32(h + HEADER_CRC) != (u32)crc32(0, h, HEADER_CRC))
        return bad(path, "its header is damaged", e);
    return 0;
}

static int parse_header(const u8 *h, const char *path, struct snapshot_info *i, struct err *e)
{
    int rc = check_header(h, path, e);

    if (rc)
        return rc;
    *i = (struct snapshot_info){
        .ram_bytes = get_le64(h + HEADER_RAM),
        .cpus = get_le32(h + HEADER_CPUS),
        .serials = get_le32(h + HEADER_SERIALS),
        .debug_exit_port = get_le32(h + HEADER_DEBUG_EXIT),
        .testdev = get_le32(h + HEADER_FLAGS) & FLAG_TESTDEV,
    };
    memcpy(i->cpu_model, h + HEADER_MODEL, HEADER_MODEL_BYTES);
    for (unsigned n = 0; n < X86_FEATURE_WORDS; n++)
        i->cpuid.features[n] = get_le64(h + HEADER_FEATURES + 8 * n);
    i->cpuid.arch_capabilities = get_le64(h + HEADER_ARCH_CAPABILITIES);
    if (i->ram_bytes < RAM_MIN || i->ram_bytes > RAM_MAX || i->ram_bytes % PAGE_BYTES ||
        i->cpus < 1 || i->cpus > VCPUS_MAX || i->serials >> MACHINE_SERIALS ||
        i->debug_exit_port > 0xffff || i->cpu_model[HEADER_MODEL_BYTES - 1])
        return bad(path, "describes an impossible machine", e);
    return 0;
}

static int open_file(const char *path, struct snapshot_info *i, int *fd, struct err *e)
{
    u8 h[SNAPSHOT_HEADER];
    int rc;

    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return err_set(e, errno, "snapshot %s: cannot open: %s", path, strerror(errno));
    rc = read_exactly(*fd, h, sizeof(h));
    if (rc == -ENODATA)
        rc = bad(path, "is no snapshot of ring3: too short", e);
    else if (rc)
        rc = err_set(e, -rc, "snapshot %s: cannot read: %s", path, strerror(-rc));
    else
        rc = parse_header(h, path, i, e);
    if (rc) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

int snapshot_info(const char *path, struct snapshot_info *info, struct err *e)
{
    int fd, rc = open_file(path, info, &fd, e);

    if (!rc)
        close(fd);
    return rc;
}

/* ---- the frame ---- */

struct reader {
    const char *path;
    int fd;
    ZSTD_DCtx *z;
    u8 *buf;
    size_t room;
    ZSTD_inBuffer in;
    bool ended; /* the frame is over, its checksum right */
};

static int refill(struct reader *r, struct err *e)
{
    ssize_t n;

    do
        n = read(r->fd, r->buf, r->room);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(e, errno, "snapshot %s: cannot read: %s", r->path, strerror(errno));
    if (n == 0)
        return bad(r->path, "is truncated", e);
    r->in = (ZSTD_inBuffer){r->buf, (size_t)n, 0};
    return 0;
}

/* The next n bytes of the frame; to NULL they are dropped... never: every reader wants them. */
static int take(struct reader *r, void *to, size_t n, struct err *e)
{
    ZSTD_outBuffer out = {to, n, 0};

    while (out.pos < n) {
        size_t before = out.pos, hint;
        int rc;

        if (r->ended)
            return bad(r->path, "is truncated", e);
        hint = ZSTD_decompressStream(r->z, &out, &r->in);
        if (ZSTD_isError(hint))
            return err_set(e, EINVAL, "snapshot %s: is damaged: %s", r->path,
                           ZSTD_getErrorName(hint));
        r->ended = hint == 0;
        if (out.pos == before && !r->ended && r->in.pos == r->in.size && (rc = refill(r, e)))
            return rc;
    }
    return 0;
}

/* After the last byte wanted: the frame must be over, and the file. */
static int take_end(struct reader *r, struct err *e)
{
    u8 more;

    while (!r->ended) {
        ZSTD_outBuffer out = {&more, 1, 0};
        size_t hint = ZSTD_decompressStream(r->z, &out, &r->in);
        int rc;

        if (ZSTD_isError(hint))
            return err_set(e, EINVAL, "snapshot %s: is damaged: %s", r->path,
                           ZSTD_getErrorName(hint));
        if (out.pos)
            return bad(r->path, "goes on where it should end", e);
        r->ended = hint == 0;
        if (!r->ended && r->in.pos == r->in.size && (rc = refill(r, e)))
            return rc;
    }
    if (r->in.pos < r->in.size || read(r->fd, &more, 1) != 0)
        return bad(r->path, "goes on where it should end", e);
    return 0;
}

static int take_state(struct reader *r, u8 **state, size_t *len, struct err *e)
{
    u8 head[8];
    u64 n;
    int rc = take(r, head, sizeof(head), e);

    if (rc)
        return rc;
    n = get_le64(head);
    if (n > STATE_MAX)
        return bad(r->path, "has an impossible amount of state", e);
    *len = n;
    *state = malloc(n ? n : 1);
    if (!*state)
        return err_set(e, ENOMEM, "snapshot %s: no memory for its state", r->path);
    return take(r, *state, n, e);
}

/* The pages go where they belong at once: the machine is thrown away when the end is not right. */
static int take_memory(struct reader *r, struct mem *mem, struct err *e)
{
    u8 head[16], page[PAGE_BYTES];
    u64 next = 0;
    int rc;

    for (;;) {
        rc = take(r, head, sizeof(head), e);
        if (rc)
            return rc;
        u64 gpa = get_le64(head), len = get_le64(head + 8);
        if (!len)
            return 0;
        if ((gpa | len) & PAGE_MASK || gpa < next || gpa + len < gpa)
            return bad(r->path, "has memory out of order", e);
        next = gpa + len;
        for (; gpa < next; gpa += PAGE_BYTES) {
            rc = take(r, page, sizeof(page), e);
            if (rc)
                return rc;
            if (mem_write(mem, gpa, page, sizeof(page)))
                return bad(r->path, "has memory where the machine has none", e);
        }
    }
}

static int load_frame(struct reader *r, struct machine *m, struct err *e)
{
    u8 *state = NULL;
    size_t len = 0;
    int rc;

    r->room = ZSTD_DStreamInSize();
    r->buf = malloc(r->room);
    r->z = ZSTD_createDCtx();
    if (!r->buf || !r->z)
        return err_set(e, ENOMEM, "snapshot %s: no memory to read it", r->path);
    ZSTD_DCtx_setParameter(r->z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    rc = take_state(r, &state, &len, e);
    if (!rc)
        rc = take_memory(r, m->mem, e);
    if (!rc)
        rc = take_end(r, e);
    if (!rc) {
        machine_pause(m);
        rc = machine_load(m, state, len, e);
        machine_resume(m);
        if (rc)
            err_prefix(e, "snapshot %s", r->path);
    }
    free(state);
    return rc;
}

int snapshot_load(struct machine *m, const char *path, struct err *e)
{
    struct reader r = {.path = path};
    struct snapshot_info info;
    int rc = open_file(path, &info, &r.fd, e);

    if (rc)
        return rc;
    if (info.ram_bytes != m->ram_bytes || info.cpus != m->cpus)
        rc = bad(path, "is of another machine", e);
    if (!rc)
        rc = load_frame(&r, m, e);
    close(r.fd);
    ZSTD_freeDCtx(r.z);
    free(r.buf);
    return rc;
}
