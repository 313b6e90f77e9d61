/* port.c - the virtio console port to the monitor, found by its name */
#include "port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PORTS_DIR "/sys/class/virtio-ports"
#define WAIT_MS   10000 /* for the driver to find the port, and the monitor to be there */
#define STEP_MS   5

static bool has_name(const char *device, const char *name)
{
    char path[300], text[80] = "";
    FILE *file;

    snprintf(path, sizeof(path), PORTS_DIR "/%s/name", device);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (fgets(text, sizeof(text), file))
        text[strcspn(text, "\n")] = 0;
    fclose(file);
    return strcmp(text, name) == 0;
}

/* Opens the device whose port has the name: -ENOENT while there is none. */
static int open_named(const char *name)
{
    char path[300];
    DIR *dir = opendir(PORTS_DIR);
    struct dirent *entry;
    int fd = -ENOENT;

    while (dir && fd == -ENOENT && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || !has_name(entry->d_name, name))
            continue;
        snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            fd = -errno;
    }
    if (dir)
        closedir(dir);
    return fd;
}

/* Until the monitor has its end open, reading finds the end of the stream. */
static bool monitor_there(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    return poll(&p, 1, 0) == 1 && !(p.revents & (POLLHUP | POLLERR));
}

int channel_open_port(struct channel *channel, const char *name)
{
    int fd = -ENOENT, waited;

    for (waited = 0; waited < WAIT_MS; waited += STEP_MS) {
        if (fd == -ENOENT)
            fd = open_named(name);
        if (fd >= 0 ? monitor_there(fd) : fd != -ENOENT)
            break;
        usleep(STEP_MS * 1000);
    }
    if (fd < 0)
        return fd;
    if (waited < WAIT_MS)
        return channel_init(channel, fd);
    close(fd);
    return -ETIMEDOUT;
}
