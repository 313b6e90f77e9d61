/* qcow2_io.c - reading, writing and erasing a qcow2 disk */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/disk/fileio.h"
#include "host/disk/qcow2.h"

/* The vectors that make up bytes skip..skip+len-1 of a list. `out` has room for n. */
static int cut(const struct iovec *iov, int n, u64 skip, u64 len, struct iovec *out)
{
    int count = 0;

    for (; n && len; n--, iov++) {
        u64 part;

        if (skip >= iov->iov_len) {
            skip -= iov->iov_len;
            continue;
        }
        part = MIN(iov->iov_len - skip, len);
        out[count++] = (struct iovec){(u8 *)iov->iov_base + skip, part};
        len -= part;
        skip = 0;
    }
    return count;
}

static void scatter(const struct iovec *iov, int n, const u8 *from)
{
    for (; n; n--, from += iov->iov_len, iov++)
        memcpy(iov->iov_base, from, iov->iov_len);
}

static void gather(u8 *to, const struct iovec *iov, int n)
{
    for (; n; n--, to += iov->iov_len, iov++)
        memcpy(to, iov->iov_base, iov->iov_len);
}

static bool plain(u64 entry)
{
    return !(entry & (ENTRY_COMPRESSED | ENTRY_ZERO)) && entry & ENTRY_OFFSET;
}

/* How far from off on clusters are plain and lie one behind the other in the file; with `own` they
 * must also be this image's alone. 0: not even the first. Shared lock. */
static int plain_run(struct qcow2 *q, u64 off, u64 len, bool own, u64 *host, u64 *run, u64 *entry)
{
    u64 e, want;
    int rc = qcow2_entry(q, off, entry);

    *run = 0;
    if (rc || !plain(*entry) || (own && !(*entry & ENTRY_COPIED)))
        return rc;
    *host = (*entry & ENTRY_OFFSET) + off % q->cluster;
    *run = MIN(len, q->cluster - off % q->cluster);
    while (*run < len) {
        want = *host + *run;
        rc = qcow2_entry(q, off + *run, &e);
        if (rc)
            return 0; /* the next request meets it */
        if (!plain(e) || (e & ENTRY_OFFSET) != want || (own && !(e & ENTRY_COPIED)))
            break;
        *run += MIN(len - *run, q->cluster);
    }
    return 0;
}

static int read_odd(struct qcow2 *q, u64 off, u64 entry, u64 len, const struct iovec *iov, int n)
{
    u8 *buf = malloc(len);
    int rc = buf ? qcow2_read_odd(q, off, entry, buf, len) : -ENOMEM;

    if (!rc)
        scatter(iov, n, buf);
    free(buf);
    return rc;
}

static int read_some(struct qcow2 *q, u64 off, u64 len, const struct iovec *iov, int n, u64 skip,
                     struct iovec *part, u64 *done)
{
    u64 host, run, entry;
    int rc = plain_run(q, off, len, false, &host, &run, &entry);

    if (rc)
        return rc;
    *done = run ? run : MIN(len, q->cluster - off % q->cluster);
    n = cut(iov, n, skip, *done, part);
    return run ? file_readv_at(q->fd, host, part, n, run) : read_odd(q, off, entry, *done, part, n);
}

/* An entry cannot change between its lookup and the transfer: the lock is held over both. */
static int readv_at(void *self, u64 off, const struct iovec *iov, int n, u64 len)
{
    struct qcow2 *q = self;
    struct iovec *part = malloc((size_t)n * sizeof(*part));
    u64 skip = 0, done;
    int rc = part ? 0 : -ENOMEM;

    for (; !rc && skip < len; skip += done) {
        pthread_rwlock_rdlock(&q->rw);
        rc = read_some(q, off + skip, len - skip, iov, n, skip, part, &done);
        pthread_rwlock_unlock(&q->rw);
    }
    free(part);
    return rc;
}

/* The whole cluster goes to a new place, or to the one it had reserved: old contents, with the new
 * bytes over them. Only when it is there does the table name it. Exclusive. */
static int write_new(struct qcow2 *q, u64 off, u64 len, const struct iovec *iov, int n)
{
    u64 start = off - off % q->cluster, entry, host;
    u8 *buf = malloc(q->cluster);
    bool reserved;
    int rc = buf ? qcow2_entry(q, off, &entry) : -ENOMEM;

    reserved = !rc && !(entry & ENTRY_COMPRESSED) && entry & ENTRY_OFFSET && entry & ENTRY_COPIED;
    if (!rc && len < q->cluster)
        rc = qcow2_read_odd(q, start, entry, buf, q->cluster);
    if (!rc && !reserved)
        rc = qcow2_alloc(q, &host);
    if (!rc) {
        if (reserved)
            host = entry & ENTRY_OFFSET;
        gather(buf + off % q->cluster, iov, n);
        rc = file_write_at(q->fd, host, buf, q->cluster);
    }
    if (!rc)
        rc = qcow2_set_entry(q, off, host | ENTRY_COPIED);
    if (!rc && !reserved)
        qcow2_release(q, entry);
    free(buf);
    return rc;
}

static int write_some(struct qcow2 *q, u64 off, u64 len, const struct iovec *iov, int n, u64 skip,
                      struct iovec *part, u64 *done)
{
    u64 host, run, entry;
    int rc;

    pthread_rwlock_rdlock(&q->rw);
    rc = plain_run(q, off, len, true, &host, &run, &entry);
    if (!rc && run) {
        *done = run;
        rc = file_writev_at(q->fd, host, part, cut(iov, n, skip, run, part), run);
    }
    pthread_rwlock_unlock(&q->rw);
    if (rc || run)
        return rc;
    *done = MIN(len, q->cluster - off % q->cluster);
    pthread_rwlock_wrlock(&q->rw);
    rc = write_new(q, off, *done, part, cut(iov, n, skip, *done, part));
    pthread_rwlock_unlock(&q->rw);
    return rc;
}

static int writev_at(void *self, u64 off, const struct iovec *iov, int n, u64 len)
{
    struct qcow2 *q = self;
    struct iovec *part = malloc((size_t)n * sizeof(*part));
    u64 skip = 0, done;
    int rc = part ? 0 : -ENOMEM;

    for (; !rc && skip < len; skip += done)
        rc = write_some(q, off + skip, len - skip, iov, n, skip, part, &done);
    free(part);
    return rc;
}

/* A whole cluster becomes one without contents: nothing where nothing lies below, else zeros
 * (version 3). False: it cannot be said in a table. Exclusive. */
static int erase_cluster(struct qcow2 *q, u64 off, bool *said)
{
    u64 entry, empty = q->backing ? ENTRY_ZERO : 0;
    int rc = qcow2_entry(q, off, &entry);

    *said = !empty || q->version >= 3;
    if (rc || !*said || entry == empty)
        return rc;
    rc = qcow2_set_entry(q, off, empty);
    if (!rc)
        qcow2_release(q, entry);
    return rc;
}

static int write_zeros_plainly(struct qcow2 *q, u64 off, u64 len)
{
    u8 *zeros = calloc(1, len);
    int rc = zeros ? writev_at(q, off, &(struct iovec){zeros, len}, 1, len) : -ENOMEM;

    free(zeros);
    return rc;
}

static int erase(struct qcow2 *q, u64 off, u64 len, bool must)
{
    int rc = 0;

    while (len && !rc) {
        u64 step = MIN(len, q->cluster - off % q->cluster);
        bool said = false,
             whole = step == q->cluster || (off % q->cluster == 0 && off + step == q->size);

        if (whole) {
            pthread_rwlock_wrlock(&q->rw);
            rc = erase_cluster(q, off, &said);
            pthread_rwlock_unlock(&q->rw);
        }
        if (!rc && !said && must)
            rc = write_zeros_plainly(q, off, step);
        off += step;
        len -= step;
    }
    return rc;
}

static int write_zeroes(void *self, u64 off, u64 len, bool unmap)
{
    return erase(self, off, len, true);
}

static int discard(void *self, u64 off, u64 len)
{
    return erase(self, off, len, false);
}

static int flush(void *self)
{
    struct qcow2 *q = self;

    return q->read_only || q->throwaway || fdatasync(q->fd) == 0 ? 0 : -errno;
}

/* ---- mapping ---- */

static bool map(void *self, u64 off, u64 len, bool write, int *fd, u64 *fd_off, u64 *run)
{
    struct qcow2 *q = self;
    u64 entry;
    bool found;

    pthread_rwlock_rdlock(&q->rw);
    found = plain_run(q, off, len, write, fd_off, run, &entry) == 0 && *run;
    if (found)
        __atomic_fetch_add(&q->pins, 1, __ATOMIC_SEQ_CST);
    pthread_rwlock_unlock(&q->rw);
    *fd = q->fd;
    return found;
}

static void unmap(void *self, u64 off, u64 run, bool write)
{
    struct qcow2 *q = self;

    __atomic_fetch_sub(&q->pins, 1, __ATOMIC_SEQ_CST);
}

const struct disk_ops qcow2_ops = {
    .readv = readv_at,
    .writev = writev_at,
    .write_zeroes = write_zeroes,
    .discard = discard,
    .flush = flush,
    .map = map,
    .unmap = unmap,
    .close = qcow2_close,
};
