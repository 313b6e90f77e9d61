/* loop.h - the event loop: descriptors, timers of one clock, tasks from other threads, signals */
#pragma once

#include "base/err.h"
#include "base/types.h"
#include "host/clock.h"

/* One thread, the loop thread, is in loop_run and runs every callback. Other threads may add,
 * change and remove what the loop watches at any time. Callbacks run with no lock of the loop held
 * and should take a few microseconds, not milliseconds: timers wait meanwhile. */
struct loop;

/* `clock` may be NULL (no timers). The loop becomes the clock's waker. A stepped clock never makes
 * the loop sleep: its timers run when somebody steps it. 0 or -errno. */
must_check int loop_create(struct loop **out, struct clock *clock, struct err *e);
/* Not from a callback, and with no loop_run going on. Watches and tasks that are left are
 * forgotten: their functions never run and descriptors stay open (so tasks still queued must still
 * exist). Signals taken over get their old treatment back. */
void loop_destroy(struct loop *l);

/* Runs callbacks until loop_stop: 0, or -errno when the host's polling itself fails. */
must_check int loop_run(struct loop *l);
/* Makes loop_run return after the current callback; when none is running, the next one returns at
 * once. Any thread. */
void loop_stop(struct loop *l);
/* Makes the loop look at its clock again. Any thread; async-signal-safe. */
void loop_wake(struct loop *l);
/* True on the thread that is inside loop_run. */
bool loop_on_thread(const struct loop *l);

/* ---- descriptors ---- */

enum loop_events {
    LOOP_READ = 1,
    LOOP_WRITE = 2,
    LOOP_HUP = 4, /* error or hang-up; reported even when not asked for */
};
typedef void loop_fd_fn(void *arg, unsigned events);

/* Watches fd (level-triggered; `events` of enum loop_events, 0 = hang-up only). The caller keeps
 * owning fd and removes it before closing it. -EEXIST when watched already, -EPERM when it cannot
 * be polled (a regular file). Any thread. */
must_check int loop_add_fd(struct loop *l, int fd, unsigned events, loop_fd_fn *fn, void *arg,
                           struct err *e);
/* Changes the events; -ENOENT when not watched. Any thread. */
must_check int loop_mod_fd(struct loop *l, int fd, unsigned events);
/* Stops watching; nothing happens when not watched. Afterwards fn never runs and, unless the call
 * comes from the loop thread itself, is not running: so hold no lock that fn takes. */
void loop_del_fd(struct loop *l, int fd);

/* ---- tasks ---- */

/* A function that the loop thread shall run once, soon. Embedded in its owner; zero-initialise and
 * set fn and arg. Queueing never fails and never allocates, so that a guest's doorbell may do
 * it. */
struct loop_task {
    void (*fn)(void *arg);
    void *arg;
    struct loop_task *next;
    bool queued;
};

/* Queues; nothing happens when queued already. It counts as not queued once fn has begun. Any
 * thread, any locks. */
void loop_task_queue(struct loop *l, struct loop_task *t);
/* Afterwards fn is not queued and, unless called on the loop thread, not running: hold no lock that
 * fn takes. */
void loop_task_cancel(struct loop *l, struct loop_task *t);

/* Queues a call without an owner: 0 or -ENOMEM. Not for what a guest can provoke. Any thread. */
must_check int loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/* ---- signals ---- */

/* Blocks the signal in the calling thread (do this before other threads are made: they inherit the
 * mask) and calls fn on the loop thread when it comes. 0 or -errno. */
must_check int loop_add_signal(struct loop *l, int signo, void (*fn)(void *arg, int signo),
                               void *arg, struct err *e);
