/* session.h - the state of one conversation, shared by request.c and serve.c alone */
#pragma once

#include "channel.h"
#include "child.h"

enum phase {
    TALKING,   /* frames are read, the command may run */
    LINGERING, /* the command ended; descendants may still hold its streams */
    DRAINING,  /* the linger is over; what is in the streams is the rest */
    FLUSHING,  /* EXIT is queued */
};

struct session {
    struct channel *channel;
    struct frame_parser parser;
    struct child child; /* pid > 0 while it runs */
    enum phase phase;
    bool started;

    char *spec;
    size_t spec_len, spec_cap;

    uint8_t input[PROTO_WINDOW]; /* STDIN the command has not taken */
    size_t input_len;
    bool input_eof;
    bool input_mid_line; /* the last byte written was no newline */
    uint32_t credit;     /* what the host may still send */
    uint32_t credit_due; /* consumed, not yet given back */

    enum proto_exit exit_kind;
    uint32_t exit_value;
    int64_t linger_until_ms;
    size_t leftover; /* bytes DRAINING may still take */
};

/* Carries out one frame from the host. 0, or -EPROTO for a frame that has no place here. */
int session_request(struct session *s, const struct frame *frame);

/* Queues EXIT. What the command still writes is dropped. */
void session_queue_exit(struct session *s, enum proto_exit kind, uint32_t value);

/* Nobody reads stdin any more: what waits and what still comes is consumed. */
void session_close_input(struct session *s);

