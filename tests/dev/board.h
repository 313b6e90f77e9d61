/* board.h - a PC board on a stepped clock, with all it tells its host on record */
#pragma once

#include "machine/pc.h"

#define BOARD_EVENTS 64
#define BOARD_SENT 256

struct board {
    struct clock *clock;
    struct mem *mem;
    struct bus *pio, *mmio;
    struct pc *pc;
    unsigned attention; /* calls */
    u64 seen;           /* digest of what board_stir read */
    char event[BOARD_EVENTS][32]; /* ring, oldest at `first` */
    unsigned first, events;
    char sent[4][BOARD_SENT];     /* what each serial port transmitted */
    size_t n_sent[4];
    unsigned rx_ready[4];
    struct board_port {
        struct board *board;
        unsigned n;
    } port[4];
};

/* A board with `cpus` processors, 2 MiB of RAM, COM1..COM4, test device, panic port, debug port
 * 402h and exit port F4h. 0 or -errno with *e set. */
must_check int board_create(struct board *b, unsigned cpus, struct err *e);
void board_destroy(struct board *b);
/* The oldest event not yet taken, or "none". */
const char *board_take_event(struct board *b);
