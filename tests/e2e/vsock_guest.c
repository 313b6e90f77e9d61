/* vsock_guest.c - a program for the guest that talks over AF_VSOCK; static
 *
 * vsock_guest connect PORT   connects to the host (CID 2)
 * vsock_guest listen PORT    takes one connection
 * Then stdin goes to the peer and its end with it, and what comes goes to stdout up to its end.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int fail(const char *what)
{
    fprintf(stderr, "vsock_guest: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_peer(int do_listen, unsigned port)
{
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK,
        .svm_port = port,
        .svm_cid = do_listen ? VMADDR_CID_ANY : VMADDR_CID_HOST,
    };
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0), peer;

    if (fd < 0)
        fail("socket");
    if (!do_listen) {
        if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
            fail("connect");
        return fd;
    }
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0)
        fail("listen");
    fprintf(stderr, "listening\n");
    peer = accept(fd, NULL, NULL);
    if (peer < 0)
        fail("accept");
    close(fd);
    return peer;
}

static void write_all(int fd, const char *data, ssize_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, (size_t)len);

        if (n < 0)
            fail("write");
        data += n;
        len -= n;
    }
}

/* One read passed on; 0 at the end. */
static int pass(int from, int to)
{
    static char buf[65536];
    ssize_t n = read(from, buf, sizeof(buf));

    if (n < 0 && errno == ENOTCONN)
        return 0; /* shutdown(2) after the peer has closed forgets that it had */
    if (n < 0)
        fail("read");
    write_all(to, buf, n);
    return n > 0;
}

int main(int argc, char **argv)
{
    struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};

    if (argc != 3) {
        fprintf(stderr, "usage: vsock_guest connect|listen PORT\n");
        return 2;
    }
    p[1].fd = open_peer(!strcmp(argv[1], "listen"), (unsigned)strtoul(argv[2], NULL, 10));
    while (p[1].fd >= 0) {
        if (poll(p, 2, -1) < 0)
            fail("poll");
        if (p[0].revents && !pass(p[0].fd, p[1].fd)) {
            shutdown(p[1].fd, SHUT_WR);
            p[0].fd = -1;
            p[0].revents = 0;
        }
        if (p[1].revents && !pass(p[1].fd, STDOUT_FILENO))
            break;
    }
    return 0;
}
