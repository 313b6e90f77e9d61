/* monitor.h - a few commands for the person at the console (Ctrl-a c) */
#pragma once

#include "machine/machine.h"

#define MONITOR_LINE 80

struct monitor {
    bool active;
    char line[MONITOR_LINE];
    size_t len;
};

/* Enters or leaves. Text goes to stderr. */
void monitor_toggle(struct monitor *mon);
/* One key typed while active: line editing, and the command at its end. */
void monitor_key(struct monitor *mon, struct machine *m, u8 key);
