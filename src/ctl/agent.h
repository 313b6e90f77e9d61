/* agent.h - the host's side of a command in the guest (agent/proto.h)
 *
 * A state machine on bytes: it opens nothing and waits for nothing. All calls and callbacks belong
 * to one thread (the loop's).
 */
#pragma once

#include "base/err.h"
#include "base/types.h"

struct agent;

#define AGENT_INPUT_MAX 4096 /* agent_input_room() is never more */

struct agent_command {
    const char *const *argv; /* NULL-terminated, at least one */
    const char *const *env;  /* "NAME=value", NULL-terminated; NULL: none */
    const char *cwd;         /* NULL: the guest's / */
    bool tty;                /* on a pty of rows x cols */
    u16 rows, cols;
};

enum agent_stream { AGENT_STDOUT, AGENT_STDERR };

struct agent_ops {
    /* Bytes to the guest; returns how many the transport took. When less, agent_transport_room()
     * follows. */
    size_t (*send)(void *ctx, const u8 *data, size_t len);
    /* Output of the command; returns how much was taken. When less, agent_output_room() follows. */
    size_t (*output)(void *ctx, enum agent_stream stream, const u8 *data, size_t len);
    /* agent_input_room() became non-zero. */
    void (*input_room)(void *ctx);
    /* The guest's agent has answered: it is up. */
    void (*ready)(void *ctx);
    /* The conversation is over and all output handed on: see agent_result(). */
    void (*done)(void *ctx);
    void *ctx;
};

enum agent_phase {
    AGENT_WAITING, /* nothing heard of the guest's agent yet */
    AGENT_RUNNING, /* the command is being started or runs */
    AGENT_ENDED,   /* status is the command's */
    AGENT_BROKEN   /* the guest's agent does not keep to the protocol */
};

struct agent_result {
    enum agent_phase phase;
    int status;     /* as a shell has it: 0..255, 128 + signal, 126 cannot be run, 127 not found */
    struct err err; /* for 126, 127 and AGENT_BROKEN: why */
};

/* Copies the command. -E2BIG when its strings exceed what the protocol carries. */
must_check int agent_create(struct agent **out, const struct agent_command *cmd,
                            const struct agent_ops *ops, struct err *e);
void agent_destroy(struct agent *a);

/* Several transports may lead to the guest's agent: agent_hear looks for its greeting on one of
 * them and returns true when it ended with byte *used - 1. That transport's following bytes go to
 * agent_receive, after agent_greeted. */
struct agent_ear {
    size_t matched; /* zero at first */
};
bool agent_hear(struct agent_ear *ear, const u8 *data, size_t len, size_t *used);
void agent_greeted(struct agent *a);

/* Bytes from the guest: returns how many were taken. When less than len, output stalled: offer the
 * rest again after agent_output_room(). */
size_t agent_receive(struct agent *a, const u8 *data, size_t len);
void agent_transport_room(struct agent *a);
/* Hands on the stalled output; true when none is left. */
bool agent_output_room(struct agent *a);

/* Bytes of stdin that may be passed now; agent_input takes at most that many. */
size_t agent_input_room(const struct agent *a);
void agent_input(struct agent *a, const u8 *data, size_t len);
void agent_input_eof(struct agent *a);

/* False while there is no command to tell. */
bool agent_signal(struct agent *a, int signo);
bool agent_resize(struct agent *a, u16 rows, u16 cols);

void agent_result(const struct agent *a, struct agent_result *out);
