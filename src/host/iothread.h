/* iothread.h - a thread that runs an event loop of its own, for devices' I/O */
#pragma once

#include "base/err.h"
#include "host/loop.h"

/* Devices with queues do their work here, outside the vCPU threads. A device belongs to one
 * I/O thread, so that its queue processing needs no lock. The thread may block in the host's I/O as
 * long as only this device suffers. */
struct iothread;

/* `name` shows in the host's list of threads (at most 15 bytes). Main thread. 0 or -errno. */
must_check int iothread_create(struct iothread **out, const char *name, struct err *e);
/* Ends the thread; its loop stays, with nobody in it. Not from the thread itself; NULL: nothing. */
void iothread_stop(struct iothread *t);
/* Stops, too. */
void iothread_destroy(struct iothread *t);

/* No clock: timers are none of its business. Lives as long as the thread. */
struct loop *iothread_loop(struct iothread *t);

/* Runs fn on the thread and waits for its end. Not from the thread itself, not while it is paused,
 * and with no lock held that a callback of the loop takes. */
void iothread_call(struct iothread *t, void (*fn)(void *arg), void *arg);

/* Returns when the thread is outside all callbacks, and keeps it there until resume. Pairs, from
 * one controlling thread; no locks held. */
void iothread_pause(struct iothread *t);
void iothread_resume(struct iothread *t);
