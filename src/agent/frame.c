/* frame.c - encoding and incremental decoding of the agent's frames */
#include "frame.h"

#include <errno.h>

static const char sync_bytes[] = PROTO_SYNC;

enum { SYNC_SIZE = sizeof(sync_bytes) - 1 };

void frame_parser_init(struct frame_parser *parser, bool sync)
{
    parser->seeking = sync;
    parser->broken = false;
    parser->sync_at = 0;
    parser->have = 0;
}

/* A mismatch can only be the start of another try: no longer prefix of PROTO_SYNC repeats in it. */
static void seek_sync(struct frame_parser *parser, const uint8_t **data, size_t *size)
{
    while (parser->seeking && *size > 0) {
        char byte = (char)**data;

        (*data)++;
        (*size)--;
        if (byte == sync_bytes[parser->sync_at])
            parser->sync_at++;
        else
            parser->sync_at = byte == sync_bytes[0];
        parser->seeking = parser->sync_at < SYNC_SIZE;
    }
}

/* The size the frame in the buffer must reach, as far as its bytes tell; 0 when they are wrong. */
static size_t wanted_size(const struct frame_parser *parser)
{
    size_t len;

    if (parser->have > 0 && parser->buf[0] != PROTO_MAGIC)
        return 0;
    if (parser->have < PROTO_HEADER_SIZE)
        return PROTO_HEADER_SIZE;
    len = frame_get16(parser->buf + 2);
    return len <= PROTO_PAYLOAD_MAX ? PROTO_HEADER_SIZE + len : 0;
}

int frame_parse(struct frame_parser *parser, const uint8_t **data, size_t *size,
                struct frame *frame)
{
    seek_sync(parser, data, size);

    while (*size > 0 && !parser->broken) {
        size_t wanted = wanted_size(parser);
        size_t take = wanted - parser->have;

        if (parser->have == 0)
            take = 1; /* a wrong magic shows before the rest of a header arrives */
        if (take > *size)
            take = *size;
        memcpy(parser->buf + parser->have, *data, take);
        parser->have += take;
        *data += take;
        *size -= take;

        wanted = wanted_size(parser);
        if (wanted == 0) {
            parser->broken = true;
        } else if (parser->have >= PROTO_HEADER_SIZE && parser->have == wanted) {
            frame->type = parser->buf[1];
            frame->len = frame_get16(parser->buf + 2);
            frame->payload = parser->buf + PROTO_HEADER_SIZE;
            parser->have = 0;
            return 1;
        }
    }
    return parser->broken ? -EPROTO : 0;
}

size_t frame_encode(uint8_t *out, size_t cap, uint8_t type, const void *payload, size_t len)
{
    if (len > PROTO_PAYLOAD_MAX || cap < PROTO_HEADER_SIZE + len)
        return 0;
    out[0] = PROTO_MAGIC;
    out[1] = type;
    frame_put16(out + 2, (uint16_t)len);
    if (len > 0)
        memcpy(out + PROTO_HEADER_SIZE, payload, len);
    return PROTO_HEADER_SIZE + len;
}

void frame_put_exec(uint8_t out[PROTO_EXEC_SIZE], const struct proto_exec *exec)
{
    frame_put32(out, exec->flags);
    frame_put16(out + 4, exec->rows);
    frame_put16(out + 6, exec->cols);
    frame_put16(out + 8, exec->argc);
    frame_put16(out + 10, exec->envc);
}

int frame_get_exec(const struct frame *frame, struct proto_exec *exec)
{
    if (frame->len != PROTO_EXEC_SIZE)
        return -EPROTO;
    exec->flags = frame_get32(frame->payload);
    exec->rows = frame_get16(frame->payload + 4);
    exec->cols = frame_get16(frame->payload + 6);
    exec->argc = frame_get16(frame->payload + 8);
    exec->envc = frame_get16(frame->payload + 10);
    return (exec->flags & ~PROTO_EXEC_FLAGS) || exec->argc == 0 ? -EPROTO : 0;
}

void frame_put_exit(uint8_t out[PROTO_EXIT_SIZE], enum proto_exit kind, uint32_t value)
{
    out[0] = (uint8_t)kind;
    frame_put32(out + 1, value);
}

int frame_get_exit(const struct frame *frame, enum proto_exit *kind, uint32_t *value)
{
    if (frame->len != PROTO_EXIT_SIZE || frame->payload[0] > PROTO_UNSTARTED)
        return -EPROTO;
    *kind = (enum proto_exit)frame->payload[0];
    *value = frame_get32(frame->payload + 1);
    return 0;
}
