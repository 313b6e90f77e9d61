/* usock.c - unix stream sockets, without waiting */
#include "host/usock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

static int open_socket(const char *path, struct sockaddr_un *a)
{
    int fd;

    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) > USOCK_PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(a->sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int usock_connect(const char *path)
{
    struct sockaddr_un a;
    int fd = open_socket(path, &a), code;

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    code = errno;
    close(fd);
    return -code;
}

/* A socket that nobody listens at any more. */
static bool stale(const char *path)
{
    struct stat st;
    int fd;

    if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    fd = usock_connect(path);
    if (fd >= 0)
        close(fd);
    return fd == -ECONNREFUSED;
}

static int try_listen(const char *path)
{
    struct sockaddr_un a;
    int fd = open_socket(path, &a), code;

    if (fd < 0)
        return fd;
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    code = errno;
    close(fd);
    return -code;
}

int usock_listen(const char *path, int *fd, struct err *e)
{
    *fd = try_listen(path);
    if (*fd == -EADDRINUSE && stale(path) && unlink(path) == 0)
        *fd = try_listen(path);
    if (*fd >= 0)
        return 0;
    if (*fd == -EADDRINUSE)
        return err_set(e, EADDRINUSE,
                       "unix socket %s: the path exists and is in use; remove it or take another",
                       path);
    if (*fd == -ENAMETOOLONG)
        return err_set(e, ENAMETOOLONG, "unix socket %s: the path has more than %d bytes", path,
                       USOCK_PATH_MAX);
    return err_set(e, -*fd, "unix socket %s: %s", path, strerror(-*fd));
}

void usock_unlisten(const char *path, int fd)
{
    close(fd);
    if (stale(path))
        unlink(path);
}

int usock_accept(int listener)
{
    int fd;

    do {
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd < 0 ? -errno : fd;
}

s64 usock_recv(int fd, void *buf, size_t len)
{
    ssize_t n;

    do {
        n = recv(fd, buf, len, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

s64 usock_send(int fd, const void *buf, size_t len)
{
    ssize_t n;

    do {
        n = send(fd, buf, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

void usock_shutdown(int fd, bool reading, bool writing)
{
    if (reading || writing)
        (void)shutdown(fd, reading ? writing ? SHUT_RDWR : SHUT_RD : SHUT_WR);
}
