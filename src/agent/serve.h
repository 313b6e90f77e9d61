/* serve.h - one conversation of proto.h: runs the command the host asks for */
#pragma once

#include "channel.h"

/*
 * Speaks on the channel until EXIT is handed to the stream. `signal_fd` is a signalfd whose signals
 * are blocked: SIGCHLD, on which every child that ended is reaped, and those that are to end the
 * conversation. Returns 0 after EXIT, the number of a signal other than SIGCHLD, or -EPIPE when
 * the host is gone; the command is then killed.
 */
int serve(struct channel *channel, int signal_fd);

