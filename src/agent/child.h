/* child.h - the one command: its process and the host's ends of its streams */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto.h"

struct command {
    bool tty;
    uint16_t rows, cols; /* of the pty; 0 keeps the default */
    const char *cwd;     /* empty: ours */
    char **argv;         /* NULL-terminated, at least one */
    char **env;          /* NULL-terminated, laid over ours */
};

/* Descriptors are -1 when closed or absent; in, out and err are non-blocking. */
struct child {
    pid_t pid;
    int in, out;
    int err;   /* absent with a pty */
    int slave; /* with a pty: kept open, so that its end shows when the command's does */
};

/*
 * Runs the command as leader of a new session, with default signals. Returns once it executes (0)
 * or cannot (an errno > 0): *kind then says whether the execve failed or something before it, no
 * process is left and nothing is open.
 */
int child_start(struct child *child, const struct command *command, enum proto_exit *kind);

/* In a new process: every signal unblocked and at its default. */
void child_reset_signals(void);

/* Closes a descriptor once. */
void child_close(int *fd);

