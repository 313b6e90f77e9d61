/* wire.h - numbers and strings of 9P messages: little-endian, strings as length[2] and bytes */
#pragma once

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/types.h"

#define P9_HEADER_BYTES 7  /* size[4] type[1] tag[2] */
#define P9_IO_BYTES     11 /* header of an Rread, up to its data; also a whole Rlerror */
#define P9_WRITE_BYTES  23 /* header of a Twrite, up to its data */
#define P9_QID_BYTES    13

/* What is left of a request; `bad` once something was read that is not there. */
struct p9_reader {
    const u8 *at;
    u32 left;
    bool bad;
};

static inline u64 p9_get(struct p9_reader *r, unsigned bytes)
{
    u64 val = 0;

    if (bytes > r->left) {
        r->bad = true;
        return 0;
    }
    memcpy(&val, r->at, bytes);
    r->at += bytes;
    r->left -= bytes;
    return val;
}

static inline u16 p9_get16(struct p9_reader *r)
{
    return (u16)p9_get(r, 2);
}

static inline u32 p9_get32(struct p9_reader *r)
{
    return (u32)p9_get(r, 4);
}

static inline u64 p9_get64(struct p9_reader *r)
{
    return p9_get(r, 8);
}

/* A string without NUL bytes into text[size], NUL-terminated. 0, -EINVAL, or -ENAMETOOLONG. */
static inline must_check int p9_get_string(struct p9_reader *r, char *text, u32 size)
{
    u32 len = p9_get16(r);

    *text = '\0';
    if (r->bad || len > r->left || memchr(r->at, '\0', len)) {
        r->bad = true;
        return -EINVAL;
    }
    if (len < size) {
        memcpy(text, r->at, len);
        text[len] = '\0';
    }
    r->at += len;
    r->left -= len;
    return len < size ? 0 : -ENAMETOOLONG;
}

/* A reply that is being written; `full` once it did not fit. */
struct p9_writer {
    u8 *at;
    u32 left;
    bool full;
};

static inline void p9_put_bytes(struct p9_writer *w, const void *data, u32 len)
{
    if (len > w->left) {
        w->full = true;
        return;
    }
    memcpy(w->at, data, len);
    w->at += len;
    w->left -= len;
}

static inline void p9_put(struct p9_writer *w, unsigned bytes, u64 val)
{
    p9_put_bytes(w, &val, bytes);
}

static inline void p9_put_string(struct p9_writer *w, const char *text, u32 len)
{
    p9_put(w, 2, len);
    p9_put_bytes(w, text, len);
}

struct p9_qid {
    u8 type;
    u32 version;
    u64 path;
};

#define QID_DIR     0x80
#define QID_SYMLINK 0x02

static inline void p9_put_qid(struct p9_writer *w, const struct p9_qid *q)
{
    p9_put(w, 1, q->type);
    p9_put(w, 4, q->version);
    p9_put(w, 8, q->path);
}
