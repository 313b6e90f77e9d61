/* qcow2_io.c - reading, writing and erasing a qcow2 disk */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/disk/fileio.h"
#include "host/disk/qcow2.h"

#define BATCH 32u /* new clusters that share a sync */

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

/* A cluster that gets a new place, or the one it had reserved. */
struct fresh {
    u64 off, old, host; /* on the disk; its entry; in the file */
    bool reserved;
};

/* Whether a power cut that keeps the table and loses the cluster's bytes would change what the
 * guest has not written. Version 2 has no mark for refcounts that have to be mended: there they
 * must be on the disk before the table. */
static bool must_wait(const struct qcow2 *q, const struct fresh *f)
{
    if (q->version < 3 || q->no_holes || f->reserved)
        return true;
    if (f->old & ENTRY_COMPRESSED || plain(f->old))
        return true;
    return !f->old && q->backing && f->off < q->backing_bytes;
}

/* The old contents with the new bytes over them are written; no table names them yet. */
static int prepare(struct qcow2 *q, struct fresh *f, u64 off, u64 len, const struct iovec *iov,
                   int n)
{
    u8 *buf = malloc(q->cluster);
    int rc = buf ? 0 : -ENOMEM;

    f->off = off - off % q->cluster;
    f->reserved = !(f->old & ENTRY_COMPRESSED) && f->old & ENTRY_OFFSET && f->old & ENTRY_COPIED;
    f->host = f->old & ENTRY_OFFSET;
    if (!rc && len < q->cluster)
        rc = qcow2_read_odd(q, f->off, f->old, buf, q->cluster);
    if (!rc && !f->reserved)
        rc = qcow2_alloc(q, &f->host);
    if (!rc) {
        gather(buf + off % q->cluster, iov, n);
        rc = file_write_at(q->fd, f->host, buf, q->cluster);
    }
    free(buf);
    return rc;
}

static int name_all(struct qcow2 *q, const struct fresh *f, unsigned count, bool wait)
{
    int rc = wait ? qcow2_barrier(q) : 0;

    for (unsigned i = 0; i < count && !rc; i++) {
        rc = qcow2_set_entry(q, f[i].off, f[i].host | ENTRY_COPIED);
        if (!rc && !f[i].reserved)
            qcow2_release(q, f[i].old);
    }
    return rc;
}

/* The clusters from off on that are not this image's own yet, as many as one sync is shared by.
 * Exclusive. */
static int write_new(struct qcow2 *q, u64 off, u64 len, const struct iovec *iov, int n, u64 skip,
                     struct iovec *part, u64 *done)
{
    struct fresh f[BATCH];
    unsigned count = 0;
    bool wait = false;
    int rc = 0, rc2;

    for (*done = 0; *done < len && count < BATCH && !rc;) {
        u64 at = off + *done, step = MIN(len - *done, q->cluster - at % q->cluster);

        rc = qcow2_entry(q, at, &f[count].old);
        if (rc || (plain(f[count].old) && f[count].old & ENTRY_COPIED))
            break; /* written in place, perhaps by another request meanwhile */
        rc = prepare(q, &f[count], at, step, part, cut(iov, n, skip + *done, step, part));
        if (!rc) {
            wait |= must_wait(q, &f[count++]);
            *done += step;
        }
    }
    rc2 = count ? name_all(q, f, count, wait && !q->throwaway) : 0;
    return rc ? rc : rc2;
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
    pthread_rwlock_wrlock(&q->rw);
    rc = write_new(q, off, len, iov, n, skip, part, done);
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
    return qcow2_flush(self);
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
