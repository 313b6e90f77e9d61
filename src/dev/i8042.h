/* i8042.h - keyboard controller, its keyboard without keys, and no mouse */
#pragma once

#include "dev/irq.h"
#include "mem/bus.h"
#include "snap/snap.h"

#define I8042_QUEUE 16

/* Wires other than the interrupts. Called with the lock held; must not call back. */
struct i8042_host {
    void (*reset)(void *ctx); /* the processor's reset line was pulsed */
    void (*a20)(void *ctx, bool on);
    void *ctx;
};

struct i8042 {
    u8 command; /* command byte, RAM byte 0 */
    u8 ram[32]; /* the rest of it */
    u8 output_port;
    u8 expect;         /* controller command that waits for a byte at port 60h, 0 = none */
    u8 kbd_expect;     /* keyboard command that waits for its argument, 0 = none */
    bool last_command; /* status bit 3: the last write went to port 64h */
    u8 head, count;    /* bytes on their way to the host, oldest first */
    u8 queue[I8042_QUEUE];
    u8 from[I8042_QUEUE]; /* enum in i8042.c: who sent each */
    u8 data;              /* output buffer */
    u8 data_from;
    bool full; /* output buffer full */

    struct irq_line kbd, aux;
    struct i8042_host host;
};

void i8042_init(struct i8042 *k, const struct irq_line *kbd, const struct irq_line *aux,
                const struct i8042_host *host);
void i8042_reset(struct i8042 *k);

/* Port 60h (data) and port 64h (status, command); dev = struct i8042. */
extern const struct region_ops i8042_data_ops, i8042_command_ops;
extern const struct snap_desc i8042_snap;
