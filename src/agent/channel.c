/* channel.c - the byte stream to the monitor: a serial port, or any inherited descriptor */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

int channel_init(struct channel *channel, int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    channel->fd = fd;
    channel->head = channel->tail = 0;
    return 0;
}

int channel_open_tty(struct channel *channel, const char *name)
{
    char path[64];
    struct termios tio;
    int fd, err;

    snprintf(path, sizeof(path), "/dev/%s", name);
    /* Without O_NONBLOCK the open could wait for a carrier. */
    fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (tcgetattr(fd, &tio) < 0)
        goto fail;
    cfmakeraw(&tio);
    tio.c_cflag |= CLOCAL | CREAD;
    tio.c_cc[VMIN] = 1;
    tio.c_cc[VTIME] = 0;
    cfsetspeed(&tio, B115200);
    if (tcsetattr(fd, TCSANOW, &tio) < 0 || tcflush(fd, TCIFLUSH) < 0)
        goto fail;
    return channel_init(channel, fd);

fail:
    err = -errno;
    close(fd);
    return err;
}

size_t channel_pending(const struct channel *channel)
{
    return channel->tail - channel->head;
}

bool channel_has_room(const struct channel *channel, size_t size)
{
    return sizeof(channel->out) - channel_pending(channel) >= PROTO_HEADER_SIZE + size;
}

/* Moves what waits to the front when the free end is too small. */
static void make_room(struct channel *channel, size_t size)
{
    if (sizeof(channel->out) - channel->tail >= size)
        return;
    memmove(channel->out, channel->out + channel->head, channel_pending(channel));
    channel->tail -= channel->head;
    channel->head = 0;
    if (sizeof(channel->out) - channel->tail < size)
        abort();
}

void channel_send(struct channel *channel, uint8_t type, const void *payload, size_t len)
{
    make_room(channel, PROTO_HEADER_SIZE + len);
    channel->tail += frame_encode(channel->out + channel->tail,
                                  sizeof(channel->out) - channel->tail, type, payload, len);
}

void channel_send_raw(struct channel *channel, const void *bytes, size_t len)
{
    make_room(channel, len);
    memcpy(channel->out + channel->tail, bytes, len);
    channel->tail += len;
}

int channel_flush(struct channel *channel)
{
    while (channel->head < channel->tail) {
        ssize_t n = write(channel->fd, channel->out + channel->head, channel_pending(channel));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        channel->head += (size_t)n;
    }
    channel->head = channel->tail = 0;
    return 0;
}

int channel_read(struct channel *channel, uint8_t *bytes, size_t size)
{
    ssize_t n = read(channel->fd, bytes, size);

    if (n > 0)
        return (int)n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
}

void channel_close(struct channel *channel)
{
    while (tcdrain(channel->fd) < 0 && errno == EINTR)
        ;
    close(channel->fd);
}
