/* frame.h - frames of proto.h as bytes, for the monitor and for the agent
 *
 * Pure functions on memory the caller owns: no allocation, no I/O, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto.h"

/* A received frame. `payload` points into the parser and lives until its next call. */
struct frame {
    uint8_t type;
    uint16_t len;
    const uint8_t *payload;
};

struct frame_parser {
    bool seeking;   /* still discarding what precedes PROTO_SYNC */
    bool broken;    /* refused a byte: refuses everything after */
    size_t sync_at; /* bytes of PROTO_SYNC matched */
    size_t have;    /* bytes in buf */
    uint8_t buf[PROTO_FRAME_MAX];
};

/* Starts a parser; with `sync` it first discards everything up to and including PROTO_SYNC. */
void frame_parser_init(struct frame_parser *parser, bool sync);

/*
 * Takes bytes of *data until one frame is complete and moves *data and *size past what it took.
 * Returns 1 with *frame filled (call again: more may wait), 0 when all bytes are taken and no frame
 * is complete, -EPROTO for a wrong magic or a length above PROTO_PAYLOAD_MAX, now and ever after.
 * Knows no types: the caller refuses those it does not expect.
 */
int frame_parse(struct frame_parser *parser, const uint8_t **data, size_t *size,
                struct frame *frame);

/*
 * Writes one frame to out[0..cap). Returns its size, or 0, with nothing written, when it does not
 * fit or len exceeds PROTO_PAYLOAD_MAX.
 */
size_t frame_encode(uint8_t *out, size_t cap, uint8_t type, const void *payload, size_t len);

/*
 * EXEC's payload. frame_get_exec returns -EPROTO for a wrong size, an unknown flag or argc 0.
 */
void frame_put_exec(uint8_t out[PROTO_EXEC_SIZE], const struct proto_exec *exec);
int frame_get_exec(const struct frame *frame, struct proto_exec *exec);

/* EXIT's payload. frame_get_exit returns -EPROTO for a wrong size or an unknown kind. */
void frame_put_exit(uint8_t out[PROTO_EXIT_SIZE], enum proto_exit kind, uint32_t value);
int frame_get_exit(const struct frame *frame, enum proto_exit *kind, uint32_t *value);

/* Integers of a payload; the caller has checked the size. */
static inline void frame_put16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
}

static inline void frame_put32(uint8_t *out, uint32_t value)
{
    frame_put16(out, (uint16_t)value);
    frame_put16(out + 2, (uint16_t)(value >> 16));
}

static inline uint16_t frame_get16(const uint8_t *in)
{
    return (uint16_t)(in[0] | in[1] << 8);
}

static inline uint32_t frame_get32(const uint8_t *in)
{
    return frame_get16(in) | (uint32_t)frame_get16(in + 2) << 16;
}

