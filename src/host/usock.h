/* usock.h - unix stream sockets, without waiting */
#pragma once

#include "base/err.h"
#include "base/types.h"

/* Every descriptor is close-on-exec and non-blocking. Functions that return a descriptor or a count
 * return -errno on failure; -EAGAIN means that the caller should wait by the loop. Any thread. */

#define USOCK_PATH_MAX 107 /* bytes of a path */

/* Listens at a path, which must not be in use: the socket of a process that is gone is replaced.
 * 0 or -errno with *e naming the path. */
must_check int usock_listen(const char *path, int *fd, struct err *e);
/* Closes and removes the path, unless somebody else listens there meanwhile. */
void usock_unlisten(const char *path, int fd);
must_check int usock_accept(int listener);
/* -EAGAIN, too, when the listener's backlog is full. */
must_check int usock_connect(const char *path);

/* 0 is the end of the stream. */
must_check s64 usock_recv(int fd, void *buf, size_t len);
must_check s64 usock_send(int fd, const void *buf, size_t len);
/* The peer reads the end, or its writes fail. */
void usock_shutdown(int fd, bool reading, bool writing);
