/* snap.c - state records: write, check everything, then load */
#include "snap/snap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/checked.h"
#include "snap/wire.h"

static const u8 magic[8] = {'R', '3', 'S', 'N', 'A', 'P', 0, 1};

/* ---- save ---- */

static int put(struct snap_buf *b, const void *data, size_t len)
{
    if (len > b->cap - b->len) {
        size_t cap = MAX(b->cap * 2, b->len + len + 256);
        u8 *grown = realloc(b->data, cap);
        if (!grown)
            return -ENOMEM;
        b->data = grown;
        b->cap = cap;
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

static int put_u32(struct snap_buf *b, u32 v)
{
    u8 le[4];

    wire_store(le, 4, v);
    return put(b, le, 4);
}

static int put_field(struct snap_buf *b, const struct snap_field *f, const u8 *obj)
{
    unsigned width = wire_width(f->type);
    u8 head[5] = {f->type};
    int ret;

    wire_store(head + 1, 4, f->count);
    ret = put(b, head, sizeof(head));
    for (u32 i = 0; i < f->count && ret == 0; i++) {
        u8 le[8];
        wire_store(le, width, wire_get(f, obj, i));
        ret = put(b, le, width);
    }
    return ret;
}

static int put_record(struct snap_buf *b, const struct snap_item *it)
{
    const struct snap_desc *d = it->desc;
    size_t start = b->len, name_len = strlen(d->name), payload = wire_payload(d);
    u8 len_byte = (u8)name_len;
    int ret;

    if ((ret = put(b, &len_byte, 1)) || (ret = put(b, d->name, name_len)) ||
        (ret = put_u32(b, it->instance)) || (ret = put_u32(b, d->version)) ||
        (ret = put_u32(b, (u32)payload)))
        return ret;
    for (const struct snap_field *f = d->fields; f->name; f++) {
        ret = put_field(b, f, it->obj);
        if (ret)
            return ret;
    }
    return put_u32(b, (u32)crc32(0, b->data + start, (uInt)(b->len - start)));
}

/* Tables and items come from our own code: a wrong one is a bug, not input. */
static void assert_items(const struct snap_item *items, size_t n)
{
    ASSERT(n <= SNAP_RECORDS_MAX);
    for (size_t i = 0; i < n; i++) {
        const struct snap_desc *d = items[i].desc;
        ASSERT(d->check && strlen(d->name) > 0 && strlen(d->name) < SNAP_NAME_MAX);
        ASSERT(wire_payload(d) <= SNAP_RECORD_MAX);
        for (const struct snap_field *f = d->fields; f->name; f++)
            ASSERT(range_ok(f->offset, (u64)f->count * wire_width(f->type), d->size));
        for (size_t j = 0; j < i; j++)
            ASSERT(items[j].instance != items[i].instance || strcmp(items[j].desc->name, d->name));
    }
}

int snap_save(struct snap_buf *b, const struct snap_item *items, size_t n, struct err *e)
{
    size_t start = b->len;
    int ret;

    assert_items(items, n);
    for (size_t i = 0; i < n; i++) {
        if (items[i].desc->saving)
            items[i].desc->saving(items[i].obj);
    }
    ret = put(b, magic, sizeof(magic));
    if (ret == 0)
        ret = put_u32(b, (u32)n);
    for (size_t i = 0; i < n && ret == 0; i++)
        ret = put_record(b, &items[i]);
    if (ret) {
        b->len = start;
        return err_set(e, -ret, "snapshot: no memory for the state records");
    }
    return 0;
}

void snap_buf_free(struct snap_buf *b)
{
    free(b->data);
    memset(b, 0, sizeof(*b));
}

/* ---- check and load ---- */

/* What is left of the stream. Takes nothing when too little is left. */
struct cursor {
    const u8 *at;
    size_t left;
};

static bool take(struct cursor *c, size_t len, const u8 **out)
{
    if (len > c->left)
        return false;
    *out = c->at;
    c->at += len;
    c->left -= len;
    return true;
}

static bool take_u32(struct cursor *c, u32 *v)
{
    const u8 *p;

    if (!take(c, 4, &p))
        return false;
    *v = (u32)wire_fetch(p, 4);
    return true;
}

struct record {
    char name[SNAP_NAME_MAX];
    u32 instance, version, bytes;
    const u8 *payload;
};

static int take_record(struct cursor *c, u32 index, struct record *r, struct err *e)
{
    const u8 *start = c->at, *name_len, *name;
    u32 crc;

    if (!take(c, 1, &name_len))
        goto truncated;
    if (*name_len == 0 || *name_len >= SNAP_NAME_MAX)
        return err_set(e, EINVAL, "snapshot record %u: bad name length %u", index, *name_len);
    if (!take(c, *name_len, &name) || !take_u32(c, &r->instance) || !take_u32(c, &r->version) ||
        !take_u32(c, &r->bytes))
        goto truncated;
    memset(r->name, 0, sizeof(r->name));
    for (u32 i = 0; i < *name_len; i++) {
        if (name[i] < 0x21 || name[i] > 0x7e)
            return err_set(e, EINVAL, "snapshot record %u: its name is not text", index);
        r->name[i] = (char)name[i];
    }
    if (r->bytes > SNAP_RECORD_MAX)
        return err_set(e, EINVAL, "snapshot record %s.%u: %u bytes is over the limit of %u",
                       r->name, r->instance, r->bytes, SNAP_RECORD_MAX);
    if (!take(c, r->bytes, &r->payload) || !take_u32(c, &crc))
        goto truncated;
    if (crc != (u32)crc32(0, start, (uInt)(c->at - 4 - start)))
        return err_set(e, EINVAL, "snapshot record %s.%u: checksum mismatch, the file is damaged",
                       r->name, r->instance);
    return 0;
truncated:
    return err_set(e, EINVAL, "snapshot record %u: the stream ends in the middle of it", index);
}

/* Fills the listed fields of a zeroed scratch object. */
static int decode_fields(const struct record *r, const struct snap_desc *d, u8 *scratch,
                         struct err *e)
{
    struct cursor c = {r->payload, r->bytes};

    for (const struct snap_field *f = d->fields; f->name; f++) {
        unsigned width = wire_width(f->type);
        const u8 *head, *data;
        if (!take(&c, 5, &head))
            return err_set(e, EINVAL, "field %s is missing", f->name);
        if (head[0] != f->type || wire_fetch(head + 1, 4) != f->count)
            return err_set(e, EINVAL, "field %s has another type or length", f->name);
        if (!take(&c, (size_t)f->count * width, &data))
            return err_set(e, EINVAL, "field %s is cut short", f->name);
        for (u32 i = 0; i < f->count; i++) {
            u64 v = wire_fetch(data + (size_t)i * width, width);
            if (f->type == SNAP_T_BOOL && v > 1)
                return err_set(e, EINVAL, "field %s is neither true nor false", f->name);
            wire_set(f, scratch, i, v);
        }
    }
    if (c.left)
        return err_set(e, EINVAL, "%zu bytes after the last field", c.left);
    return 0;
}

static int find_item(const struct record *r, const struct snap_item *items, size_t n, size_t *at,
                     struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (items[i].instance != r->instance || strcmp(items[i].desc->name, r->name))
            continue;
        if (items[i].desc->version != r->version)
            return err_set(e, EINVAL,
                           "snapshot record %s.%u: version %u, this ring3 reads version %u",
                           r->name, r->instance, r->version, items[i].desc->version);
        *at = i;
        return 0;
    }
    return err_set(e, ENOENT,
                   "snapshot record %s.%u: this machine has no such device; restore into a machine "
                   "with the same devices",
                   r->name, r->instance);
}

static void *scratch_new(size_t size)
{
    size_t room = align_up(MAX(size, 1), 64);
    void *p = aligned_alloc(64, room); /* x86_state has 64-byte members */

    if (p)
        memset(p, 0, room);
    return p;
}

static int check_record(struct cursor *c, u32 index, const struct snap_item *items, size_t n,
                        void **scratch, struct err *e)
{
    const struct snap_desc *d;
    struct record r;
    size_t at = 0;
    int ret;

    ret = take_record(c, index, &r, e);
    if (ret == 0)
        ret = find_item(&r, items, n, &at, e);
    if (ret)
        return ret;
    d = items[at].desc;
    if (scratch[at])
        return err_set(e, EINVAL, "snapshot record %s.%u comes twice", r.name, r.instance);
    scratch[at] = scratch_new(d->size);
    if (!scratch[at])
        return err_set(e, ENOMEM, "snapshot record %s.%u: no memory", r.name, r.instance);
    ret = decode_fields(&r, d, scratch[at], e);
    if (ret == 0) {
        ret = d->check(scratch[at], e);
        if (ret)
            err_set(e, -ret, "impossible state"); /* unless the check said it better */
    }
    if (ret)
        err_prefix(e, "snapshot record %s.%u", r.name, r.instance);
    return ret;
}

/* The whole check pass; on success scratch[i] holds the decoded item i. */
static int check_stream(const void *data, size_t len, const struct snap_item *items, size_t n,
                        void **scratch, struct err *e)
{
    struct cursor c = {data, len};
    const u8 *head;
    u32 records;
    int ret;

    if (!take(&c, sizeof(magic), &head) || memcmp(head, magic, sizeof(magic)))
        return err_set(e, EINVAL, "not a ring3 snapshot, or of an unknown format");
    if (!take_u32(&c, &records))
        return err_set(e, EINVAL, "snapshot: the stream ends in its header");
    if (records > SNAP_RECORDS_MAX)
        return err_set(e, EINVAL, "snapshot: %u records is over the limit of %u", records,
                       SNAP_RECORDS_MAX);
    for (u32 i = 0; i < records; i++) {
        ret = check_record(&c, i, items, n, scratch, e);
        if (ret)
            return ret;
    }
    for (size_t i = 0; i < n; i++) {
        if (!scratch[i])
            return err_set(e, ENOENT, "snapshot record %s.%u is missing", items[i].desc->name,
                           items[i].instance);
    }
    if (c.left)
        return err_set(e, EINVAL, "snapshot: %zu bytes after the last record", c.left);
    return 0;
}

static void load_items(const struct snap_item *items, size_t n, void **scratch)
{
    for (size_t i = 0; i < n; i++) {
        for (const struct snap_field *f = items[i].desc->fields; f->name; f++)
            memcpy((u8 *)items[i].obj + f->offset, (u8 *)scratch[i] + f->offset,
                   (size_t)f->count * wire_width(f->type));
    }
    for (size_t i = 0; i < n; i++) {
        if (items[i].desc->loaded)
            items[i].desc->loaded(items[i].obj);
    }
}

static int parse(const void *data, size_t len, const struct snap_item *items, size_t n, bool load,
                 struct err *e)
{
    void **scratch;
    int ret;

    assert_items(items, n);
    scratch = calloc(n + 1, sizeof(*scratch));
    if (!scratch)
        return err_set(e, ENOMEM, "snapshot: no memory");
    ret = check_stream(data, len, items, n, scratch, e);
    if (ret == 0 && load)
        load_items(items, n, scratch);
    for (size_t i = 0; i < n; i++)
        free(scratch[i]);
    free(scratch);
    return ret;
}

int snap_load(const void *data, size_t len, const struct snap_item *items, size_t n, struct err *e)
{
    return parse(data, len, items, n, true, e);
}

int snap_check(const void *data, size_t len, const struct snap_item *items, size_t n, struct err *e)
{
    return parse(data, len, items, n, false, e);
}
