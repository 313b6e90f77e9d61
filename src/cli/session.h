/* session.h - one run: the machine, the user's terminal and the command between them
 *
 * Everything here happens on the loop thread.
 */
#pragma once

#include "cli/escape.h"
#include "cli/guest.h"
#include "cli/monitor.h"
#include "cli/options.h"
#include "cli/ports.h"
#include "ctl/agent.h"
#include "host/chardev.h"
#include "host/loop.h"
#include "machine/machine.h"
#include "machine/serial.h"

#define TAIL_BYTES 8192
#define TYPED_MAX  4096

/* Why machine_stop was called: the status it carries. */
enum stop_reason {
    STOP_TIMEOUT = 1,
    STOP_QUIT,
    STOP_COMMAND_DONE,
    STOP_SAVED, /* --save did it */
    STOP_SIGNAL = 0x100 /* + signo */
};

#define TRANSPORTS 2 /* COM2, and the console port PORT_AGENT */

struct transport {
    struct session *session;
    struct serial *port; /* NULL: not there */
    struct agent_ear ear;
};

struct session {
    const struct options *o;
    const char *engine;
    struct machine *m;
    struct loop *loop;

    struct chardev *io;  /* the user's stdin and stdout */
    struct chardev *err; /* stderr, for the command's */
    bool raw;            /* the terminal is in raw mode */
    struct escape escape;
    u8 typed[TYPED_MAX]; /* keys the guest has not taken yet (raw mode) */
    size_t typed_len;
    struct monitor monitor;

    struct serial *console;
    struct chardev *console_out; /* --console, else NULL */
    u8 tail[TAIL_BYTES];         /* the last of what the console printed */
    size_t tail_at, tail_len;

    struct transport transport[TRANSPORTS];
    struct serial *port; /* where the agent was heard */
    struct agent *agent;
    u64 ready_ms; /* when the agent answered */

    struct port_links links;

    unsigned interrupts, terminations; /* signals so far */
    bool draining;                     /* the machine ended; output still waits for its reader */
    bool abandoned;                    /* ...and will not get it */
};

/* Puts the user's terminal and streams between the console and, with a command, the agent. 0 or
 * -errno. */
must_check int session_open(struct session *s, struct err *e);
/* After the run: restores the terminal and sends what is still buffered; with `wait` as slowly as
 * its reader wants it, until a signal or the time limit says otherwise. */
void session_close(struct session *s, bool wait);
void session_free(struct session *s);

/* Raw mode: keys are read even while the guest takes none, or Ctrl-a x would not work. They go
 * through the escape filter into `typed`; what finds no room there is lost, as on any terminal. */
size_t session_keys_room(const struct session *s);
void session_keys(struct session *s, const u8 *in, size_t len);
/* The user's terminal may have another size: tells the command, or the console. */
void session_resized(struct session *s);
/* The guest took the first n of them. */
void session_keys_taken(struct session *s, size_t n);

/* command.c: the command, over the transport on which the agent is heard. */
must_check int command_open(struct session *s, struct err *e);

/* tail.c: the console while a command runs. */
void tail_add(struct session *s, const u8 *data, size_t len);
/* True when the text was printed lately. */
bool tail_holds(const struct session *s, const char *text);
/* Prints the last lines on stderr. */
void tail_print(const struct session *s);

/* save.c: --save, at its time or signal. */
must_check int save_open(struct session *s, struct err *e);
/* Whether the text is what --at takes: with *signo 0 after *ms milliseconds. Pure. */
bool save_parse_at(const char *text, int *signo, u64 *ms);

/* signals.c: what SIGINT, SIGTERM, SIGHUP, SIGWINCH and the time limit do. */
must_check int signals_open(struct session *s, struct err *e);
/* Calls loop_stop soon, for session_close. */
void signals_tick(void);
/* The command ended: the guest gets this long to power off. */
void signals_grace(struct session *s, unsigned seconds);
