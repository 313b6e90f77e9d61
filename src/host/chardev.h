/* chardev.h - a byte stream between a device (a UART, a console port) and the host */
#pragma once

#include "base/err.h"
#include "base/types.h"

struct loop;

/* The host side of a serial device: a terminal, a pipe, a file, nothing. Both directions have
 * back-pressure and neither ever blocks the caller.
 *
 * Output: the device writes what it has; bytes go into a buffer of CHARDEV_BUFFER and the loop
 * thread sends them. When chardev_write takes less than offered, the device keeps the rest (a UART
 * leaves THRE clear) and offers it again when `writable` is called.
 *
 * Input: the loop thread asks `can_receive` how much the device can take, reads no more than that
 * and hands it over. At 0 the backend stops reading, so the host's writer waits; the device calls
 * chardev_accept when there is room again.
 *
 * Threads and locks: the callbacks run on the loop thread with no lock of the chardev held; they
 * may take the device's lock. chardev_write and chardev_accept may be called by any thread with the
 * device's lock held (order: device, then chardev, then loop). */
struct chardev;

#define CHARDEV_BUFFER 65536u /* bytes of output waiting for the host */

enum chardev_event {
    CHARDEV_EOF,    /* no input will ever come again */
    CHARDEV_BROKEN, /* output goes nowhere from now on: the reader is gone, or an I/O error; bytes
                       written are taken and dropped, so that a guest does not hang on them */
};

/* The device's side. Any callback may be NULL: no input is taken, nothing is told. */
struct chardev_user {
    size_t (*can_receive)(void *arg);                       /* bytes the device takes now */
    void (*receive)(void *arg, const u8 *data, size_t len); /* len <= the last can_receive */
    void (*writable)(void *arg); /* room in the buffer after a short chardev_write */
    void (*event)(void *arg, enum chardev_event ev);
    void *arg;
};

/* From and to descriptors, which the chardev does not own and which keep their flags (they are
 * shared with the user's shell); -1 = none. They may be terminals, pipes, sockets, files or
 * /dev/null. */
must_check int chardev_open_fds(struct chardev **out, struct loop *l, int in_fd, int out_fd,
                                struct err *e);
/* Standard input and output. */
must_check int chardev_open_stdio(struct chardev **out, struct loop *l, struct err *e);
/* Output to a file, no input. */
must_check int chardev_open_file(struct chardev **out, struct loop *l, const char *path,
                                 bool append, struct err *e);
/* Takes and forgets; never any input. */
must_check int chardev_open_null(struct chardev **out, struct err *e);
/* For tests and scripts: output is kept (up to CHARDEV_BUFFER, then there is back-pressure), input
 * is handed over by chardev_mem_feed on the caller's thread. No loop. */
must_check int chardev_open_mem(struct chardev **out, struct err *e);

/* Connects the device; before that, and after connecting NULL, no input is read. Loop thread, or
 * while the loop does not run. */
void chardev_connect(struct chardev *c, const struct chardev_user *user);

/* Takes up to len bytes and returns how many. Never blocks, never fails. Any thread. */
size_t chardev_write(struct chardev *c, const u8 *data, size_t len);
/* Bytes chardev_write would take now. Any thread. */
size_t chardev_room(struct chardev *c);
/* The device has room again: ask can_receive soon (never from inside this call). Any thread. */
void chardev_accept(struct chardev *c);

/* Sends what is buffered (waiting for a slow reader no longer than drain_ms without progress) and
 * frees. Loop thread with no callback of it running, or after the loop ended. */
void chardev_close(struct chardev *c, unsigned drain_ms);

/* chardev_open_mem only. feed hands over what the device takes and returns how much that was; take
 * copies out up to len bytes of output, calls `writable` if somebody waited, and returns how
 * many. */
size_t chardev_mem_feed(struct chardev *c, const u8 *data, size_t len);
size_t chardev_mem_take(struct chardev *c, u8 *data, size_t len);
