/* channel.h - the byte stream to the monitor, apart from what is said over it */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

/* Frames wait in out[head..tail) until the stream takes them. */
struct channel {
    int fd; /* non-blocking */
    size_t head, tail;
    uint8_t out[32 * 1024];
};

/* Starts a channel on an open stream, which it makes non-blocking and close-on-exec. */
int channel_init(struct channel *channel, int fd);

/* Starts a channel on the tty /dev/NAME, which it makes raw. -errno when it cannot. */
int channel_open_tty(struct channel *channel, const char *name);

/* Whether frames with `size` bytes of payload, headers aside, are sure to fit. */
bool channel_has_room(const struct channel *channel, size_t size);

/* Queues a frame. The caller has made sure of the room; a frame that does not fit is a bug. */
void channel_send(struct channel *channel, uint8_t type, const void *payload, size_t len);

/* Queues bytes that are no frame: the sync bytes. */
void channel_send_raw(struct channel *channel, const void *bytes, size_t len);

/* Bytes that wait. */
size_t channel_pending(const struct channel *channel);

/* Writes what the stream takes now. 0, or -errno when the stream is dead. */
int channel_flush(struct channel *channel);

/* Reads what is there: its size, 0 when nothing is, -EPIPE when the other side is gone. */
int channel_read(struct channel *channel, uint8_t *bytes, size_t size);

/* Waits until a serial line has sent the last byte, and closes the stream. */
void channel_close(struct channel *channel);

