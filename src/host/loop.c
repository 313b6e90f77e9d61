/* loop.c - epoll, an eventfd and the clock's timers */
#include "host/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "host/loop_priv.h"

#define BATCH   64
#define WAKE_ID 0u /* epoll id of the eventfd; watches count from 1 */

/* ---- who runs ---- */

bool loop_on_thread(const struct loop *l)
{
    return __atomic_load_n(&l->running, __ATOMIC_ACQUIRE) &&
           pthread_equal(__atomic_load_n(&l->thread, __ATOMIC_RELAXED), pthread_self());
}

void loop_set_busy(struct loop *l, const void *what, u32 id)
{
    ASSERT(lock_held(&l->lock));
    l->busy = what;
    l->busy_id = id;
    if (!what)
        pthread_cond_broadcast(&l->idle);
}

void loop_wait_idle_locked(struct loop *l, const void *what, u32 id)
{
    while (l->busy == what && l->busy_id == id && !loop_on_thread(l))
        lock_wait(&l->lock, &l->idle);
}

void loop_wake(struct loop *l)
{
    u64 one = 1;
    int saved = errno;

    if (__atomic_exchange_n(&l->awake, true, __ATOMIC_SEQ_CST))
        return;
    while (write(l->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
    errno = saved;
}

/* The loop thread itself needs no waking: it looks at clock and tasks before it sleeps again. */
void loop_nudge(struct loop *l)
{
    if (!loop_on_thread(l))
        loop_wake(l);
}

static void clock_woke(void *arg)
{
    loop_nudge(arg);
}

void loop_stop(struct loop *l)
{
    __atomic_store_n(&l->stop, true, __ATOMIC_SEQ_CST);
    loop_wake(l);
}

/* ---- descriptors ---- */

static struct watch **find_watch_locked(struct loop *l, int fd)
{
    struct watch **p = &l->watches;

    ASSERT(lock_held(&l->lock));
    while (*p && (*p)->fd != fd)
        p = &(*p)->next;
    return p;
}

static struct epoll_event to_epoll(const struct watch *w, unsigned events)
{
    return (struct epoll_event){
        .events = (events & LOOP_READ ? EPOLLIN : 0u) | (events & LOOP_WRITE ? EPOLLOUT : 0u),
        .data.u64 = (u64)w->id << 32 | (u32)w->fd,
    };
}

int loop_add_fd(struct loop *l, int fd, unsigned events, loop_fd_fn *fn, void *arg, struct err *e)
{
    struct watch *w = calloc(1, sizeof(*w));
    struct epoll_event ev;
    int code = 0;

    if (!w)
        return err_set(e, ENOMEM, "event loop: no memory");
    lock_take(&l->lock);
    if (++l->ids == WAKE_ID)
        ++l->ids;
    *w = (struct watch){.fd = fd, .id = l->ids, .fn = fn, .arg = arg, .next = l->watches};
    ev = to_epoll(w, events);
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        code = errno;
    else
        l->watches = w;
    lock_drop(&l->lock);
    if (code) {
        free(w);
        return err_set(e, code, "event loop: cannot watch descriptor %d: %s", fd, strerror(code));
    }
    return 0;
}

int loop_mod_fd(struct loop *l, int fd, unsigned events)
{
    struct epoll_event ev;
    struct watch *w;
    int ret = -ENOENT;

    lock_take(&l->lock);
    w = *find_watch_locked(l, fd);
    if (w) {
        ev = to_epoll(w, events);
        ret = epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
    }
    lock_drop(&l->lock);
    return ret;
}

void loop_del_fd(struct loop *l, int fd)
{
    struct watch **p, *w;

    lock_take(&l->lock);
    p = find_watch_locked(l, fd);
    w = *p;
    if (w) {
        *p = w->next;
        (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        loop_wait_idle_locked(l, w, w->id);
        free(w);
    }
    lock_drop(&l->lock);
}

static void dispatch(struct loop *l, const struct epoll_event *ev)
{
    u32 id = (u32)(ev->data.u64 >> 32);
    loop_fd_fn *fn = NULL;
    void *arg = NULL;
    struct watch *w;

    lock_take(&l->lock);
    w = *find_watch_locked(l, (int)(u32)ev->data.u64);
    if (w && w->id == id) {
        fn = w->fn;
        arg = w->arg;
        loop_set_busy(l, w, id);
    }
    lock_drop(&l->lock);
    if (!fn)
        return;
    fn(arg, (ev->events & (EPOLLIN | EPOLLPRI) ? LOOP_READ : 0u) |
                (ev->events & EPOLLOUT ? LOOP_WRITE : 0u) |
                (ev->events & (EPOLLERR | EPOLLHUP) ? LOOP_HUP : 0u));
    lock_take(&l->lock);
    loop_set_busy(l, NULL, 0);
    lock_drop(&l->lock);
}

/* ---- running ---- */

/* Sleeps with nanosecond time-outs; older hosts lack epoll_pwait2 and poll the epoll descriptor. */
static int wait_events(struct loop *l, struct epoll_event *ev, u64 ns)
{
    struct timespec ts = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    struct timespec *timeout = ns == UINT64_MAX ? NULL : &ts;
    struct pollfd p = {.fd = l->epoll_fd, .events = POLLIN};
    int n;

    if (!l->no_pwait2) {
        n = epoll_pwait2(l->epoll_fd, ev, BATCH, timeout, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n;
        l->no_pwait2 = true;
    }
    n = ppoll(&p, 1, timeout, NULL);
    return n <= 0 ? n : epoll_wait(l->epoll_fd, ev, BATCH, 0);
}

static u64 sleep_ns(struct loop *l)
{
    bool tasks;
    u64 ns;

    lock_take(&l->lock);
    tasks = l->first != NULL;
    lock_drop(&l->lock);
    if (tasks || __atomic_load_n(&l->stop, __ATOMIC_SEQ_CST))
        return 0;
    if (!l->clock)
        return UINT64_MAX;
    ns = clock_next_ns(l->clock);
    return ns && clock_is_stepped(l->clock) ? UINT64_MAX : ns;
}

static void drain_wake(struct loop *l)
{
    u64 count;

    /* Order matters: a wake after the store writes again and is not lost. */
    (void)!read(l->event_fd, &count, sizeof(count));
    __atomic_store_n(&l->awake, false, __ATOMIC_SEQ_CST);
}

static int turn(struct loop *l)
{
    struct epoll_event ev[BATCH];
    int n = wait_events(l, ev, sleep_ns(l));

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    if (l->clock)
        clock_run_due(l->clock);
    for (int i = 0; i < n && !__atomic_load_n(&l->stop, __ATOMIC_SEQ_CST); i++) {
        if (ev[i].data.u64 >> 32 == WAKE_ID)
            drain_wake(l);
        else
            dispatch(l, &ev[i]);
    }
    loop_run_tasks(l);
    return 0;
}

int loop_run(struct loop *l)
{
    int ret = 0;

    ASSERT(!l->running);
    /* The default slack of 50 us would make every guest timer late by that much. */
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    __atomic_store_n(&l->thread, pthread_self(), __ATOMIC_RELAXED);
    __atomic_store_n(&l->running, true, __ATOMIC_SEQ_CST);
    while (ret == 0 && !__atomic_load_n(&l->stop, __ATOMIC_SEQ_CST))
        ret = turn(l);
    __atomic_store_n(&l->running, false, __ATOMIC_SEQ_CST);
    __atomic_store_n(&l->stop, false, __ATOMIC_SEQ_CST);
    return ret;
}

/* ---- life ---- */

int loop_create(struct loop **out, struct clock *clock, struct err *e)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (u64)WAKE_ID << 32};
    struct loop *l = calloc(1, sizeof(*l));
    int code;

    if (!l)
        return err_set(e, ENOMEM, "event loop: no memory");
    lock_init(&l->lock);
    ASSERT(pthread_cond_init(&l->idle, NULL) == 0);
    l->clock = clock;
    l->last = &l->first;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll_fd < 0 || l->event_fd < 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->event_fd, &ev) < 0) {
        code = errno;
        loop_destroy(l);
        return err_set(e, code, "event loop: %s", strerror(code));
    }
    if (clock)
        clock_set_wake(clock, clock_woke, l);
    *out = l;
    return 0;
}

void loop_destroy(struct loop *l)
{
    if (!l)
        return;
    ASSERT(!l->running);
    if (l->clock)
        clock_set_wake(l->clock, NULL, NULL);
    loop_drop_signals(l);
    loop_drop_tasks(l);
    while (l->watches) {
        struct watch *w = l->watches;
        l->watches = w->next;
        free(w);
    }
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    if (l->event_fd >= 0)
        close(l->event_fd);
    pthread_cond_destroy(&l->idle);
    lock_destroy(&l->lock);
    free(l);
}
