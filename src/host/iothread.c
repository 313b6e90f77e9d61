/* iothread.c - a thread that runs an event loop of its own, for devices' I/O */
#include "host/iothread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"

struct iothread {
    struct loop *loop;
    pthread_t thread;
    struct lock lock;
    pthread_cond_t changed;
    struct loop_task rest; /* puts the thread to rest in pause */
    bool paused, resting;
    bool stopped; /* joined */
};

/* A call that somebody waits for. */
struct call {
    struct iothread *t;
    struct loop_task task;
    void (*fn)(void *arg);
    void *arg;
    bool done;
};

static void *run(void *arg)
{
    struct iothread *t = arg;
    int rc = loop_run(t->loop);

    ASSERT(rc == 0); /* only polling itself can fail, on a descriptor of our own */
    return NULL;
}

static void rest(void *arg)
{
    struct iothread *t = arg;

    lock_take(&t->lock);
    t->resting = true;
    pthread_cond_broadcast(&t->changed);
    while (t->paused)
        lock_wait(&t->lock, &t->changed);
    t->resting = false;
    pthread_cond_broadcast(&t->changed);
    lock_drop(&t->lock);
}

/* Signals are the main thread's: a new thread inherits the mask that it is created under. */
static int start(struct iothread *t, const char *name)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!rc)
        pthread_setname_np(t->thread, name);
    return rc;
}

int iothread_create(struct iothread **out, const char *name, struct err *e)
{
    struct iothread *t = calloc(1, sizeof(*t));
    int rc;

    if (!t)
        return err_set(e, ENOMEM, "I/O thread %s: no memory", name);
    rc = loop_create(&t->loop, NULL, e);
    if (rc) {
        free(t);
        return rc;
    }
    lock_init(&t->lock);
    pthread_cond_init(&t->changed, NULL);
    t->rest = (struct loop_task){.fn = rest, .arg = t};
    rc = start(t, name);
    if (!rc) {
        *out = t;
        return 0;
    }
    pthread_cond_destroy(&t->changed);
    lock_destroy(&t->lock);
    loop_destroy(t->loop);
    free(t);
    return err_set(e, rc, "I/O thread %s: %s", name, strerror(rc));
}

void iothread_stop(struct iothread *t)
{
    if (!t || t->stopped)
        return;
    loop_stop(t->loop);
    pthread_join(t->thread, NULL);
    t->stopped = true;
}

void iothread_destroy(struct iothread *t)
{
    if (!t)
        return;
    iothread_stop(t);
    loop_destroy(t->loop);
    pthread_cond_destroy(&t->changed);
    lock_destroy(&t->lock);
    free(t);
}

struct loop *iothread_loop(struct iothread *t)
{
    return t->loop;
}

static void run_call(void *arg)
{
    struct call *c = arg;

    c->fn(c->arg);
    lock_take(&c->t->lock);
    c->done = true;
    pthread_cond_broadcast(&c->t->changed);
    lock_drop(&c->t->lock);
}

void iothread_call(struct iothread *t, void (*fn)(void *arg), void *arg)
{
    struct call c = {.t = t, .task = {.fn = run_call}, .fn = fn, .arg = arg};

    c.task.arg = &c;
    ASSERT(!t->paused);
    loop_task_queue(t->loop, &c.task);
    lock_take(&t->lock);
    while (!c.done)
        lock_wait(&t->lock, &t->changed);
    lock_drop(&t->lock);
    loop_task_cancel(t->loop, &c.task); /* the loop has let go of it */
}

void iothread_pause(struct iothread *t)
{
    lock_take(&t->lock);
    ASSERT(!t->paused);
    t->paused = true;
    lock_drop(&t->lock);
    loop_task_queue(t->loop, &t->rest);
    lock_take(&t->lock);
    while (!t->resting)
        lock_wait(&t->lock, &t->changed);
    lock_drop(&t->lock);
}

void iothread_resume(struct iothread *t)
{
    lock_take(&t->lock);
    ASSERT(t->paused);
    t->paused = false;
    pthread_cond_broadcast(&t->changed);
    while (t->resting)
        lock_wait(&t->lock, &t->changed);
    lock_drop(&t->lock);
}
