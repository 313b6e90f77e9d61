/* escape.h - Ctrl-a and what follows it on a raw terminal */
#pragma once

#include "base/types.h"

enum escape_key { ESCAPE_NONE = -1, ESCAPE_QUIT = -2, ESCAPE_MONITOR = -3, ESCAPE_HELP = -4 };

struct escape {
    bool pending; /* Ctrl-a was typed */
};

/* One byte typed: the byte (0..255) when the guest gets it, or an enum escape_key. Never more bytes
 * come out than went in. */
int escape_byte(struct escape *x, u8 byte);

#define ESCAPE_HINT "Ctrl-a x quits, Ctrl-a h shows help"
#define ESCAPE_TEXT                                                                            \
    "Ctrl-a x  end the run\nCtrl-a c  monitor, and back\nCtrl-a a  send Ctrl-a to the guest\n" \
    "Ctrl-a h  this help\n"
