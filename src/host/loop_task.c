/* loop_task.c - work that other threads hand to the event loop, and signals */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "host/loop_priv.h"

/* ---- tasks ---- */

void loop_task_queue(struct loop *l, struct loop_task *t)
{
    bool fresh;

    lock_take(&l->lock);
    fresh = !t->queued;
    if (fresh) {
        t->queued = true;
        t->next = NULL;
        *l->last = t;
        l->last = &t->next;
    }
    lock_drop(&l->lock);
    if (fresh)
        loop_nudge(l);
}

static void unlink_locked(struct loop *l, struct loop_task *t)
{
    struct loop_task **p = &l->first;

    ASSERT(lock_held(&l->lock));
    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    if (l->last == &t->next)
        l->last = p;
    t->queued = false;
}

void loop_task_cancel(struct loop *l, struct loop_task *t)
{
    lock_take(&l->lock);
    if (t->queued)
        unlink_locked(l, t);
    loop_wait_idle_locked(l, t, 0);
    lock_drop(&l->lock);
}

/* Tasks queued by these tasks wait for the next turn, so that descriptors get theirs. */
void loop_run_tasks(struct loop *l)
{
    struct loop_task *t;
    u32 n = 0;

    lock_take(&l->lock);
    for (t = l->first; t; t = t->next)
        n++;
    while (n-- && (t = l->first) && !__atomic_load_n(&l->stop, __ATOMIC_SEQ_CST)) {
        void (*fn)(void *arg) = t->fn;
        void *arg = t->arg;
        unlink_locked(l, t);
        loop_set_busy(l, t, 0);
        lock_drop(&l->lock);
        fn(arg);
        lock_take(&l->lock);
        loop_set_busy(l, NULL, 0);
    }
    lock_drop(&l->lock);
}

struct post {
    struct loop_task task;
    void (*fn)(void *arg);
    void *arg;
};

static void run_post(void *arg)
{
    struct post p = *(struct post *)arg;

    free(arg);
    p.fn(p.arg);
}

int loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct post *p = calloc(1, sizeof(*p));

    if (!p)
        return -ENOMEM;
    *p = (struct post){.task = {.fn = run_post, .arg = p}, .fn = fn, .arg = arg};
    loop_task_queue(l, &p->task);
    return 0;
}

void loop_drop_tasks(struct loop *l)
{
    while (l->first) {
        struct loop_task *t = l->first;
        l->first = t->next;
        t->queued = false;
        if (t->fn == run_post)
            free(t->arg);
    }
    l->last = &l->first;
}

/* ---- signals ---- */

static void signal_ready(void *arg, unsigned events)
{
    struct sig_watch *s = arg;
    struct signalfd_siginfo info;

    while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        s->fn(s->arg, s->signo);
}

static void free_signal(struct sig_watch *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, s->signo);
    if (!s->was_blocked)
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

int loop_add_signal(struct loop *l, int signo, void (*fn)(void *arg, int signo), void *arg,
                    struct err *e)
{
    struct sig_watch *s = calloc(1, sizeof(*s));
    sigset_t set, old;
    int code, ret;

    if (!s)
        return err_set(e, ENOMEM, "event loop: no memory");
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    *s = (struct sig_watch){.loop = l, .signo = signo, .fn = fn, .arg = arg};
    s->was_blocked = sigismember(&old, signo);
    s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->fd < 0) {
        code = errno;
        free_signal(s);
        return err_set(e, code, "event loop: signal %d: %s", signo, strerror(code));
    }
    ret = loop_add_fd(l, s->fd, LOOP_READ, signal_ready, s, e);
    if (ret) {
        free_signal(s);
        return ret;
    }
    lock_take(&l->lock);
    s->next = l->signals;
    l->signals = s;
    lock_drop(&l->lock);
    return 0;
}

void loop_drop_signals(struct loop *l)
{
    while (l->signals) {
        struct sig_watch *s = l->signals;
        l->signals = s->next;
        free_signal(s);
    }
}
