/* event.h - eventfds: something happened, told by one thread to whoever waits, the kernel too */
#pragma once

#include "base/types.h"

/* An empty one; or -errno. */
int event_open(void);
void event_close(int fd);
/* Any thread, any locks; never blocks. */
void event_signal(int fd);
/* Whether it was signalled and nobody has taken that; takes it. */
bool event_take(int fd);
