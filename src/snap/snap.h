/* snap.h - state records: fields listed once for save, check and restore */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "base/types.h"

/* One field of a chip's or CPU's state struct. Tables end with an entry whose name is NULL. On the
 * wire a field is {u8 type, u32 count, little-endian elements}, in table order. */
enum snap_type { SNAP_T_U8 = 1, SNAP_T_U16, SNAP_T_U32, SNAP_T_U64, SNAP_T_BOOL };

struct snap_field {
    const char *name;
    u32 offset;
    u8 type;   /* enum snap_type */
    u32 count; /* elements: 1, or the length of a fixed array */
};

#define SNAP_FIELD_(s, f, t, n)  \
    {                            \
#        f, offsetof(s, f), t, n \
    }
#define SNAP_U8(s, f)   SNAP_FIELD_(s, f, SNAP_T_U8, sizeof(((s *)0)->f))
#define SNAP_U16(s, f)  SNAP_FIELD_(s, f, SNAP_T_U16, sizeof(((s *)0)->f) / 2)
#define SNAP_U32(s, f)  SNAP_FIELD_(s, f, SNAP_T_U32, sizeof(((s *)0)->f) / 4)
#define SNAP_U64(s, f)  SNAP_FIELD_(s, f, SNAP_T_U64, sizeof(((s *)0)->f) / 8)
#define SNAP_BOOL(s, f) SNAP_FIELD_(s, f, SNAP_T_BOOL, sizeof(((s *)0)->f))
#define SNAP_END      \
    {                 \
        NULL, 0, 0, 0 \
    }

/* What a kind of record holds. `check` sees a zeroed scratch object with only the listed fields
 * filled from the stream (never the live one) and refuses impossible state with *e set; it is
 * mandatory. `loaded` runs on the live object after its fields were replaced (re-arm timers,
 * recompute lines); may be NULL. `saving` runs on the live object before it is written (fold the
 * running time into fields); may be NULL. No host pointer, host time or raw struct is ever a
 * field. */
struct snap_desc {
    const char *name; /* unique, at most SNAP_NAME_MAX - 1 bytes */
    u32 version;      /* bumped when the fields change; older streams are refused with a message */
    size_t size;      /* sizeof the object */
    const struct snap_field *fields;
    int (*check)(const void *scratch, struct err *e);
    void (*loaded)(void *obj);
    void (*saving)(void *obj);
};

/* One object of a machine that takes part in snapshots. Caller holds the object's lock around
 * calls. */
struct snap_item {
    const struct snap_desc *desc;
    u32 instance; /* 0, 1, ... among items with the same desc */
    void *obj;
};

/* Growable byte buffer that save writes to. Zero-initialise; release with snap_buf_free. */
struct snap_buf {
    u8 *data;
    size_t len, cap;
};
void snap_buf_free(struct snap_buf *b);

/* Appends the stream for all items: header {"R3SNAP\0\1", u32 records}, then each record
 * {u8 name length, name, u32 instance, u32 version, u32 payload bytes, payload, u32 crc32 of all of
 * it}; numbers are little-endian. All `saving` hooks run before the first byte.
 * 0, or -ENOMEM with the contents of the buffer unchanged. */
must_check int snap_save(struct snap_buf *b, const struct snap_item *items, size_t n,
                         struct err *e);

/* Parses and checks the whole stream, then replaces the fields of all items, then calls their
 * `loaded` hooks in item order; the set of records must equal the set of items. On any failure
 * nothing was loaded, *e names record and field, and -errno is returned. */
must_check int snap_load(const void *data, size_t len, const struct snap_item *items, size_t n,
                         struct err *e);

/* The check pass of snap_load alone. */
must_check int snap_check(const void *data, size_t len, const struct snap_item *items, size_t n,
                          struct err *e);
