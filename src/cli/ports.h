/* ports.h - --port NAME=unix:PATH: named console ports on unix sockets of the host */
#pragma once

#include "cli/options.h"
#include "host/chardev.h"
#include "host/loop.h"
#include "machine/machine.h"
#include "machine/serial.h"

#define PORT_AGENT "org.ring3.agent" /* the command's, port 1 when there is one */

/* A port and whoever is connected to its socket: one peer at a time, others wait in the backlog.
 * Its hanging up is the end of the stream for the guest's reader. */
struct port_link {
    struct loop *loop;
    struct serial *serial;
    const char *path;
    int listener, fd;
    struct chardev *peer; /* NULL: nobody is there */
    struct loop_task hang_up;
};

struct port_links {
    struct port_link link[CONSOLE_PORTS_MAX];
    unsigned count;
};

/* Puts the names that the options ask for, and the agent's when `agent`, into the configuration. */
must_check int ports_configure(const struct options *o, bool agent, struct machine_config *cfg,
                               struct err *e);
/* The names must outlive the machine. */
void ports_unconfigure(struct machine_config *cfg);

/* Listens. On failure ports_close undoes what was done. Loop thread, as all the following. */
must_check int ports_open(struct port_links *p, const struct options *o, struct machine *m,
                          struct err *e);
/* Before the machine is destroyed. */
void ports_close(struct port_links *p);
