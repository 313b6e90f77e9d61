/* serial.h - a serial or console port's bytes, carried between the guest's device and the loop */
#pragma once

#include "base/err.h"
#include "base/types.h"
#include "host/loop.h"
#include "machine/pc.h"

struct serial;

#define SERIAL_BUFFER 131072u /* bytes of guest output waiting for their consumer */
#define SERIAL_HIGH   32768u  /* here the guest is held up until SERIAL_LOW is reached */
#define SERIAL_LOW    4096u

/* Who takes the guest's output and produces its input. Called on the loop thread without locks. */
struct serial_user {
    /* Returns how much it took; when less than len, serial_resume() must follow. */
    size_t (*receive)(void *arg, const u8 *data, size_t len);
    /* The guest takes input again after a short serial_send(); may be NULL. */
    void (*room)(void *arg);
    void *arg;
};

/* The guest's device, when it is not a UART. Any thread, without locks. */
struct serial_line {
    size_t (*room)(void *ctx);                              /* input bytes it takes now */
    size_t (*input)(void *ctx, const u8 *data, size_t len); /* returns how many it took */
    void (*output_room)(void *ctx);        /* serial_output takes bytes again after a short call */
    void (*connected)(void *ctx, bool on); /* whether somebody consumes and produces */
    void *ctx;
};

/* `throttle` holds up the guest (true) and lets it go on; called in pairs, any thread. */
must_check int serial_create(struct serial **out, struct loop *loop,
                             void (*throttle)(void *ctx, bool on), void *ctx, struct err *e);
void serial_destroy(struct serial *s);

/* The board's side. serial_attach names the UART that serial_send feeds. */
void serial_backend(struct serial *s, struct pc_serial *out);
void serial_attach(struct serial *s, struct pc *pc, unsigned n);
/* ...or the line. */
void serial_attach_line(struct serial *s, const struct serial_line *line);

/* The line's side: output of the guest; returns how much was taken. Any thread. */
size_t serial_output(struct serial *s, const u8 *data, size_t len);
/* The line takes input again after a short serial_send(). Any thread. */
void serial_input_room(struct serial *s);

/* NULL: output vanishes (the initial state). Loop thread, or while the loop does not run. */
void serial_connect(struct serial *s, const struct serial_user *user);
/* The consumer takes output again. Any thread. */
void serial_resume(struct serial *s);
/* Input bytes the guest's receiver takes now. */
size_t serial_room(struct serial *s);
/* Input for the guest: returns how much its receiver took. Loop thread. */
size_t serial_send(struct serial *s, const u8 *data, size_t len);
/* True while output waits for its consumer. */
bool serial_waiting(struct serial *s);
/* Hands over what still waits. After machine_run, for the last bytes. */
void serial_drain(struct serial *s);
