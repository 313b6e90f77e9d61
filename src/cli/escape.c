/* escape.c - Ctrl-a and what follows it on a raw terminal */
#include "cli/escape.h"

#define CTRL_A 0x01

int escape_byte(struct escape *x, u8 byte)
{
    if (!x->pending) {
        x->pending = byte == CTRL_A;
        return x->pending ? ESCAPE_NONE : byte;
    }
    x->pending = false;
    switch (byte) {
    case 'x': return ESCAPE_QUIT;
    case 'c': return ESCAPE_MONITOR;
    case 'h':
    case '?': return ESCAPE_HELP;
    case 'a':
    case CTRL_A: return CTRL_A;
    default: return ESCAPE_NONE;
    }
}
