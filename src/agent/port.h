/* port.h - the virtio console port to the monitor, found by its name */
#pragma once

#include "channel.h"

/* Starts a channel on the port of this name. Waits some seconds for its driver and for the monitor.
 * -errno when it cannot. */
int channel_open_port(struct channel *channel, const char *name);
