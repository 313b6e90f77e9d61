/* qcow2_check.c - whether a qcow2 file's refcounts agree with what refers to its clusters */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/limits.h"
#include "host/disk/fileio.h"
#include "host/disk/qcow2.h"

struct check {
    struct qcow2 *q;
    struct qcow2_findings *f;
    u64 clusters; /* of the file */
    u16 *refs;    /* references found, saturating */
};

static void printf_like(2, 3) error(struct check *c, const char *fmt, ...)
{
    va_list ap;

    if (c->f->errors++)
        return;
    va_start(ap, fmt);
    vsnprintf(c->f->first, sizeof(c->f->first), fmt, ap);
    va_end(ap);
}

static void refer(struct check *c, const char *who, u64 first, u64 last)
{
    for (u64 i = first / c->q->cluster; i <= last / c->q->cluster; i++) {
        if (i >= c->clusters) {
            error(c, "%s at %#llx lies outside of the file", who, (unsigned long long)first);
            return;
        }
        if (c->refs[i] < UINT16_MAX)
            c->refs[i]++;
    }
}

static void refer_range(struct check *c, const char *who, u64 off, u64 len)
{
    u64 end;

    if (len && add_ok(off, len - 1, &end))
        refer(c, who, off, end);
}

static void data_entry(struct check *c, u64 entry)
{
    u64 first = entry & ENTRY_OFFSET, last = first;

    if (entry & ENTRY_COMPRESSED)
        qcow2_compressed_span(c->q, entry, &first, &last);
    else if (!first)
        return;
    else if (first % c->q->cluster)
        error(c, "a cluster at %#llx is not aligned", (unsigned long long)first);
    c->f->allocated++;
    refer(c, "a cluster of data", first, last);
}

static int l2_table(struct check *c, u64 offset)
{
    int rc;
    u64 *table;

    if (offset % c->q->cluster || offset / c->q->cluster >= c->clusters) {
        error(c, "an L2 table at %#llx", (unsigned long long)offset);
        return 0;
    }
    table = qcow2_read_table(c->q, offset, c->q->cluster / 8, &rc);
    for (u64 i = 0; table && i < c->q->cluster / 8; i++)
        data_entry(c, table[i]);
    free(table);
    return rc;
}

static int l1_table(struct check *c, u64 offset, u64 entries, const u64 *table)
{
    int rc = 0;

    refer_range(c, "an L1 table", offset, entries * 8);
    for (u64 i = 0; i < entries && !rc; i++) {
        u64 l2 = table[i] & ENTRY_OFFSET;

        if (!l2)
            continue;
        refer(c, "an L2 table", l2, l2);
        rc = l2_table(c, l2);
    }
    return rc;
}

/* Internal snapshots: each has an L1 table of its own. Entry: le64 l1 offset, le32 entries, lengths
 * of id and name, ..., extra data at 36. */
static int snapshots(struct check *c)
{
    u64 at = c->q->snapshots_offset, file = c->clusters * c->q->cluster;
    int rc = 0;

    for (u32 i = 0; i < c->q->snapshots && !rc; i++) {
        u8 h[40];
        u64 l1, bytes, *table;

        rc = file_read_at(c->q->fd, at, h, sizeof(h));
        l1 = be64(h);
        bytes = (u64)be32(h + 8) * 8;
        if (rc || bytes > QCOW2_TABLE_MAX || !range_ok(l1, bytes, file)) {
            error(c, "internal snapshot %u", i);
            break;
        }
        table = qcow2_read_table(c->q, l1, bytes / 8, &rc);
        if (table)
            rc = l1_table(c, l1, bytes / 8, table);
        free(table);
        at +=
            align_up(40 + be32(h + 36) + ((u64)h[12] << 8 | h[13]) + ((u64)h[14] << 8 | h[15]), 8);
        if (at >= file)
            break;
    }
    refer_range(c, "the table of internal snapshots", c->q->snapshots_offset,
                c->q->snapshots ? at - MIN(at, c->q->snapshots_offset) : 0);
    return rc;
}

static int find_references(struct check *c)
{
    struct qcow2 *q = c->q;
    int rc;

    refer_range(c, "the header", 0, q->cluster);
    refer_range(c, "the refcount table", q->rt_offset, q->rt_entries * 8);
    for (u64 i = 0; i < q->rt_entries; i++)
        if (q->rt[i] & ~511ull)
            refer(c, "a refcount block", q->rt[i] & ~511ull, q->rt[i] & ~511ull);
    rc = l1_table(c, q->l1_offset, q->l1_entries, q->l1);
    return rc ? rc : snapshots(c);
}

/* Counters that are in no block are 0, and most of a sparse file's are: such a stretch is passed
 * over, unless something in it is referred to. */
static u64 empty_stretch(struct check *c, u64 first)
{
    u64 per = c->q->cluster * 8 >> c->q->refcount_order, end, i = first;

    if (first % per || (first / per < c->q->rt_entries && c->q->rt[first / per] & ~511ull))
        return 0;
    end = MIN(first + per, c->clusters);
    while (i < end && !c->refs[i])
        i++;
    return i - first;
}

static int compare_one(struct check *c, u64 i, bool repair)
{
    u64 count;
    int rc = qcow2_refcount(c->q, i, &count);

    if (rc || count == c->refs[i])
        return rc;
    if (repair)
        return qcow2_set_refcount(c->q, i, c->refs[i]);
    if (count > c->refs[i])
        c->f->leaks++;
    else
        error(c, "cluster %#llx is referred to %u times and has refcount %llu",
              (unsigned long long)(i * c->q->cluster), c->refs[i], (unsigned long long)count);
    return 0;
}

static int compare(struct check *c, bool repair)
{
    int rc = 0;

    for (u64 i = 0, skip; i < c->clusters && !rc; i += skip) {
        skip = empty_stretch(c, i);
        if (skip)
            continue;
        rc = compare_one(c, i, repair);
        skip = 1;
    }
    return rc;
}

/* An entry that promises to be the only one (COPIED) must be. Where a snapshot shares the cluster,
 * writing in place would destroy it. */
static int compare_copied(struct check *c)
{
    struct qcow2 *q = c->q;

    for (u64 i = 0; i < q->l1_entries; i++) {
        u64 l2 = q->l1[i] & ENTRY_OFFSET, *table;
        int rc;

        if (!l2 || l2 / q->cluster >= c->clusters)
            continue;
        if (q->l1[i] & ENTRY_COPIED && c->refs[l2 / q->cluster] != 1)
            error(c, "an L2 table at %#llx is shared but not marked so", (unsigned long long)l2);
        table = qcow2_read_table(q, l2, q->cluster / 8, &rc);
        if (!table)
            return rc;
        for (u64 k = 0; k < q->cluster / 8; k++) {
            u64 at = (table[k] & ENTRY_OFFSET) / q->cluster;

            if (!(table[k] & ENTRY_COMPRESSED) && table[k] & ENTRY_COPIED && at < c->clusters &&
                at && c->refs[at] != 1)
                error(c, "a cluster at %#llx is shared but not marked so",
                      (unsigned long long)(at * q->cluster));
        }
        free(table);
    }
    return 0;
}

int qcow2_check(struct qcow2 *q, bool repair, struct qcow2_findings *f, struct err *e)
{
    struct check c = {.q = q, .f = f};
    struct stat st;
    int rc;

    memset(f, 0, sizeof(*f));
    if (fstat(q->fd, &st))
        return err_set(e, errno, "disk %s: %s", q->path, strerror(errno));
    c.clusters = align_up((u64)st.st_size, q->cluster) / q->cluster;
    if (c.clusters > QCOW2_CLUSTERS_MAX)
        return err_set(e, EFBIG, "disk %s: too many clusters to check", q->path);
    c.refs = calloc(c.clusters, sizeof(*c.refs));
    if (!c.refs)
        return err_set(e, ENOMEM, "disk %s: no memory for %llu refcounts", q->path,
                       (unsigned long long)c.clusters);
    rc = find_references(&c);
    if (!rc && !f->errors)
        rc = compare_copied(&c);
    if (!rc)
        rc = compare(&c, repair && !f->errors);
    free(c.refs);
    if (rc)
        return err_set(e, -rc, "disk %s: cannot be checked: %s", q->path, strerror(-rc));
    if (repair && !f->errors) {
        rc = qcow2_settle(q);
        if (rc)
            return err_set(e, -rc, "disk %s: %s", q->path, strerror(-rc));
    }
    if (repair && f->errors)
        return err_set(e, EINVAL, "disk %s: damaged beyond refcounts: %s", q->path, f->first);
    return 0;
}
