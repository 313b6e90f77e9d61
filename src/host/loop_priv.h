/* loop_priv.h - the parts of the event loop (private to host/) */
#pragma once

#include <signal.h>

#include "host/loop.h"

/* A watched descriptor. `id` tells a new watch from a removed one with the same number, whose
 * events may still be in the batch that epoll handed out. */
struct watch {
    int fd;
    u32 id;
    loop_fd_fn *fn;
    void *arg;
    struct watch *next;
};

struct sig_watch {
    struct loop *loop;
    int fd, signo;
    bool was_blocked;
    void (*fn)(void *arg, int signo);
    void *arg;
    struct sig_watch *next;
};

struct loop {
    int epoll_fd, event_fd;
    bool no_pwait2; /* the host lacks epoll_pwait2 */
    struct clock *clock;
    bool stop;  /* atomic */
    bool awake; /* atomic: a wake-up is on its way */
    pthread_t thread;
    bool running; /* atomic: `thread` is in loop_run */

    struct lock lock; /* all below; never held around a callback */
    struct watch *watches;
    u32 ids;
    struct loop_task *first, **last;
    const void *busy; /* the watch (by id) or task whose fn runs */
    u32 busy_id;
    pthread_cond_t idle; /* busy became NULL */
    struct sig_watch *signals;
};

/* Runs all tasks queued before the call. Loop thread. */
void loop_run_tasks(struct loop *l);
/* Frees what loop_post queued and nobody ran. */
void loop_drop_tasks(struct loop *l);
/* Gives signals their old treatment back. */
void loop_drop_signals(struct loop *l);
/* loop_wake for callers that are not signal handlers: free on the loop thread. */
void loop_nudge(struct loop *l);
/* Waits until the callback of `what` is over; caller holds l->lock. No wait on the loop thread. */
void loop_wait_idle_locked(struct loop *l, const void *what, u32 id);
void loop_set_busy(struct loop *l, const void *what, u32 id);
