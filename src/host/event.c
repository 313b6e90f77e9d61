/* event.c - eventfds: something happened, told by one thread to whoever waits, the kernel too */
#include "host/event.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int event_open(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

void event_close(int fd)
{
    close(fd);
}

void event_signal(int fd)
{
    const u64 one = 1;

    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

bool event_take(int fd)
{
    u64 count;
    ssize_t n;

    do
        n = read(fd, &count, sizeof(count));
    while (n < 0 && errno == EINTR);
    return n == sizeof(count);
}
