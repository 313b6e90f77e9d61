/* term.h - the user's terminal: raw mode that is always undone */
#pragma once

#include "base/err.h"
#include "base/types.h"

/* A process has one terminal, so this state is the process's and not a VM's. */

bool term_is_tty(int fd);

/* Keys reach us unbuffered, unechoed and without signals (Ctrl-c is a byte), and output is sent as
 * it is: a guest's terminal driver has added its CRs already. Undone by term_restore, at exit(3),
 * and when a signal kills the process while its action is still the default. 0 (also when raw
 * already), -ENOTTY or another -errno. Main thread. */
must_check int term_raw(int fd, struct err *e);

/* Puts the modes back; nothing happens when they are. Any thread, async-signal-safe. For signals
 * the caller handles itself and for _exit(2). */
void term_restore(void);

/* Characters; 0 or -errno (then 80 by 25, which every console can show). */
int term_size(int fd, unsigned *cols, unsigned *rows);
