/* qcow2_free.c - clusters of a qcow2 file on their way from one use to the next
 *
 * A cut of the power leaves any mixture of what was written since the last sync. Therefore:
 *   1. dropped: no table names the cluster any more, but the one on the disk may. Its refcount goes
 *      down only when a sync has put the tables there.
 *   2. free: nobody refers to it, but a mapped request may still be going on.
 *   3. punched: its contents are gone, on the disk perhaps not yet.
 *   4. ready: after one more sync it reads as zeros there too, as new clusters at the end do.
 * The syncs are the guest's flushes; only DROPPED_MAX clusters wait for them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "host/disk/fileio.h"
#include "host/disk/qcow2.h"

#define DROPPED_MAX 4096u

/* False: not noted. A dropped cluster is leaked then, another not used again before the file is
 * opened anew. */
static bool push(struct qcow2_list *l, u64 cluster)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        u64 *more = cap > QCOW2_FREED_MAX ? NULL : realloc(l->at, cap * sizeof(*more));

        if (!more)
            return false;
        l->at = more;
        l->cap = cap;
    }
    l->at[l->n++] = cluster;
    return true;
}

static void take_first(struct qcow2_list *l, size_t n)
{
    if (!n) /* the list may never have been allocated */
        return;
    l->n -= n;
    l->gone += n;
    memmove(l->at, l->at + n, l->n * sizeof(*l->at));
}

void qcow2_drop(struct qcow2 *q, u64 first, u64 last)
{
    for (u64 c = first / q->cluster; c <= last / q->cluster; c++)
        (void)push(&q->dropped, c);
}

/* ---- onwards ---- */

/* Free clusters that no mapped request can touch any more lose their contents. */
static void drain(struct qcow2 *q)
{
    if (!q->free.n || __atomic_load_n(&q->pins, __ATOMIC_SEQ_CST))
        return;
    for (size_t i = 0; i < q->free.n; i++) {
        if (!file_discard_at(q->fd, q->free.at[i] * q->cluster, q->cluster))
            q->no_holes = true;
        (void)push(q->throwaway ? &q->ready : &q->punched, q->free.at[i]);
    }
    q->free.n = 0;
}

static void give_back(struct qcow2 *q, u64 cluster)
{
    u64 count;

    if (qcow2_refcount(q, cluster, &count) || !count || qcow2_set_refcount(q, cluster, count - 1))
        return;
    if (count == 1)
        (void)push(&q->free, cluster);
}

/* What was dropped, or punched, at the time of these marks is on the disk. */
static void settle(struct qcow2 *q, u64 dropped, u64 punched)
{
    size_t n = punched > q->punched.gone ? punched - q->punched.gone : 0;

    for (size_t i = 0; i < n; i++)
        (void)push(&q->ready, q->punched.at[i]);
    take_first(&q->punched, n);
    n = dropped > q->dropped.gone ? dropped - q->dropped.gone : 0;
    for (size_t i = 0; i < n; i++)
        give_back(q, q->dropped.at[i]); /* a larger refcount table drops the old one, behind n */
    take_first(&q->dropped, n);
    drain(q);
}

static u64 mark(const struct qcow2_list *l)
{
    return l->gone + l->n;
}

int qcow2_barrier(struct qcow2 *q)
{
    return q->throwaway || fdatasync(q->fd) == 0 ? 0 : -errno;
}

int qcow2_settle(struct qcow2 *q)
{
    u64 dropped = mark(&q->dropped), punched = mark(&q->punched);
    int rc = qcow2_barrier(q);

    if (!rc)
        settle(q, dropped, punched);
    return rc;
}

int qcow2_flush(struct qcow2 *q)
{
    u64 dropped, punched;
    int rc;

    if (q->read_only || q->throwaway)
        return 0;
    pthread_rwlock_rdlock(&q->rw);
    dropped = mark(&q->dropped);
    punched = mark(&q->punched);
    pthread_rwlock_unlock(&q->rw);
    rc = qcow2_barrier(q); /* requests go on meanwhile */
    if (rc || (dropped == q->dropped.gone && punched == q->punched.gone))
        return rc;
    pthread_rwlock_wrlock(&q->rw);
    settle(q, dropped, punched);
    pthread_rwlock_unlock(&q->rw);
    return 0;
}

void qcow2_release(struct qcow2 *q, u64 entry)
{
    u64 first = entry & ENTRY_OFFSET, last = first;

    if (entry & ENTRY_COMPRESSED)
        qcow2_compressed_span(q, entry, &first, &last);
    else if (!first)
        return;
    qcow2_drop(q, first, last);
    if (q->throwaway || q->dropped.n > DROPPED_MAX)
        (void)!qcow2_settle(q); /* else they wait on */
}

/* ---- to the next use ---- */

/* Room behind the end is made in large steps: a table may name a new cluster only when the file is
 * known to reach over it. Holes cost nothing, and the rest is cut off when the file is closed. */
static int extend(struct qcow2 *q, u64 need)
{
    u64 step = MIN(MAX(QCOW2_STEP_BYTES / q->cluster, 8ull), 1024ull),
        most = INT64_MAX / q->cluster;
    u64 end = MIN(need + step, most);
    int rc;

    if (need > most)
        return -EFBIG;
    if (ftruncate(q->fd, (off_t)(end * q->cluster))) {
        end = need; /* a limit of the file's size may be near */
        if (ftruncate(q->fd, (off_t)(end * q->cluster)))
            return -errno;
    }
    rc = qcow2_barrier(q);
    if (!rc)
        q->end = end;
    return rc;
}

int qcow2_append(struct qcow2 *q, u64 n, u64 *cluster)
{
    int rc = q->next + n > q->end ? extend(q, q->next + n) : 0;

    if (rc)
        return rc;
    *cluster = q->next;
    q->next += n;
    return 0;
}

int qcow2_alloc(struct qcow2 *q, u64 *offset)
{
    u64 cluster;
    int rc = 0;

    drain(q);
    if (q->ready.n)
        cluster = q->ready.at[--q->ready.n];
    else
        rc = qcow2_append(q, 1, &cluster);
    if (rc)
        return rc;
    *offset = cluster * q->cluster;
    return qcow2_set_refcount(q, cluster, 1);
}

void qcow2_compressed_span(const struct qcow2 *q, u64 entry, u64 *first, u64 *last)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    u64 offset = entry & (BIT64(shift) - 1);
    u64 sectors = (entry >> shift & (BIT64(q->cluster_bits - 8) - 1)) + 1;

    *first = offset;
    *last = (offset & ~511ull) + sectors * 512 - 1;
}

void qcow2_free_lists(struct qcow2 *q)
{
    free(q->dropped.at);
    free(q->free.at);
    free(q->punched.at);
    free(q->ready.at);
}
