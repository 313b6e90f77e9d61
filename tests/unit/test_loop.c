/* test_loop.c - the event loop: descriptors, timers, tasks, signals, other threads */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "unit.h"

#include "host/loop.h"

#define MS 1000000ull

struct fixture {
    struct clock *clock;
    struct loop *l;
    struct err e;
    int pipe[2];
    unsigned calls;
    unsigned last_events;
    struct timer t;
    u64 fired_at;
    char order[16];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_ok(clock_create_real(&f->clock, &f->e), f->e);
    assert_ok(loop_create(&f->l, f->clock, &f->e), f->e);
    assert_int_equal(pipe2(f->pipe, O_CLOEXEC | O_NONBLOCK), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    loop_destroy(f->l);
    clock_destroy(f->clock);
    close(f->pipe[0]);
    close(f->pipe[1]);
    free(f);
    return 0;
}

static void stop_it(void *arg)
{
    struct fixture *f = arg;

    assert_true(loop_on_thread(f->l));
    loop_stop(f->l);
}

static void on_fd(void *arg, unsigned events)
{
    struct fixture *f = arg;
    char c;

    f->calls++;
    f->last_events = events;
    (void)!read(f->pipe[0], &c, 1);
    loop_stop(f->l);
}

static void put_byte(int fd)
{
    assert_int_equal(write(fd, "x", 1), 1);
}

static void test_stop_before_run(void **state)
{
    struct fixture *f = *state;

    loop_stop(f->l);
    assert_int_equal(loop_run(f->l), 0);
    assert_false(loop_on_thread(f->l));
}

static void test_fd(void **state)
{
    struct fixture *f = *state;

    assert_ok(loop_add_fd(f->l, f->pipe[0], LOOP_READ, on_fd, f, &f->e), f->e);
    assert_refused(loop_add_fd(f->l, f->pipe[0], LOOP_READ, on_fd, f, &f->e), EEXIST, f->e,
                   "watch");
    assert_refused(loop_add_fd(f->l, -1, LOOP_READ, on_fd, f, &f->e), EBADF, f->e, "watch");
    put_byte(f->pipe[1]);
    assert_int_equal(loop_run(f->l), 0);
    assert_int_equal(f->calls, 1);
    assert_int_equal(f->last_events, LOOP_READ);
    close(f->pipe[1]);
    assert_int_equal(loop_run(f->l), 0);
    assert_true(f->last_events & LOOP_HUP);
    loop_del_fd(f->l, f->pipe[0]);
    loop_del_fd(f->l, f->pipe[0]);
    assert_int_equal(loop_mod_fd(f->l, f->pipe[0], 0), -ENOENT);
    f->pipe[1] = -1;
}

static void test_mod_fd(void **state)
{
    struct fixture *f = *state;

    assert_ok(loop_add_fd(f->l, f->pipe[1], 0, on_fd, f, &f->e), f->e);
    assert_int_equal(loop_post(f->l, stop_it, f), 0);
    assert_int_equal(loop_run(f->l), 0);
    assert_int_equal(f->calls, 0);
    assert_int_equal(loop_mod_fd(f->l, f->pipe[1], LOOP_WRITE), 0);
    assert_int_equal(loop_run(f->l), 0);
    assert_int_equal(f->last_events, LOOP_WRITE);
    loop_del_fd(f->l, f->pipe[1]);
}

/* Removes both watches in the callback of the first: the second is in the same batch, and a new
 * watch with its number must not get its event. */
struct pair {
    struct fixture *f;
    int a, b;
    unsigned calls, wrong;
};

static void must_not(void *arg, unsigned events)
{
    ((struct pair *)arg)->wrong++;
}

static void remove_both(void *arg, unsigned events)
{
    struct pair *p = arg;

    p->calls++;
    loop_del_fd(p->f->l, p->a);
    loop_del_fd(p->f->l, p->b);
    assert_int_equal(loop_add_fd(p->f->l, p->a, 0, must_not, p, NULL), 0);
    assert_int_equal(loop_add_fd(p->f->l, p->b, 0, must_not, p, NULL), 0);
}

static void test_del_in_batch(void **state)
{
    struct fixture *f = *state;
    int second[2];
    struct pair p = {.f = f, .a = f->pipe[0]};

    assert_int_equal(pipe2(second, O_CLOEXEC), 0);
    p.b = second[0];
    assert_ok(loop_add_fd(f->l, p.a, LOOP_READ, remove_both, &p, &f->e), f->e);
    assert_ok(loop_add_fd(f->l, p.b, LOOP_READ, remove_both, &p, &f->e), f->e);
    put_byte(f->pipe[1]);
    put_byte(second[1]);
    assert_int_equal(loop_post(f->l, stop_it, f), 0);
    assert_int_equal(loop_run(f->l), 0);
    assert_int_equal(p.calls, 1);
    assert_int_equal(p.wrong, 0);
    loop_del_fd(f->l, p.a);
    loop_del_fd(f->l, p.b);
    close(second[0]);
    close(second[1]);
}

static void on_timer(void *arg)
{
    struct fixture *f = arg;

    f->fired_at = clock_now_ns(f->clock);
    loop_stop(f->l);
}

static void test_timer(void **state)
{
    struct fixture *f = *state;
    u64 at = clock_now_ns(f->clock) + 3 * MS;

    timer_init(&f->t, f->clock, on_timer, f, NULL);
    timer_arm(&f->t, at);
    assert_int_equal(loop_run(f->l), 0);
    assert_true(f->fired_at >= at);
    timer_fini(&f->t);
}

static void *arm_later(void *arg)
{
    struct fixture *f = arg;
    struct timespec ts = {0, 3 * MS};

    nanosleep(&ts, NULL);
    timer_arm(&f->t, clock_now_ns(f->clock) + MS);
    return NULL;
}

static void test_timer_armed_by_another_thread(void **state)
{
    struct fixture *f = *state;
    pthread_t t;

    timer_init(&f->t, f->clock, on_timer, f, NULL);
    timer_arm(&f->t, clock_now_ns(f->clock) + 3600000 * MS);
    pthread_create(&t, NULL, arm_later, f);
    assert_int_equal(loop_run(f->l), 0);
    assert_true(f->fired_at < 60000 * MS);
    pthread_join(t, NULL);
    timer_fini(&f->t);
}

static void letter_a(void *arg)
{
    strcat(((struct fixture *)arg)->order, "a");
}

static void letter_b(void *arg)
{
    strcat(((struct fixture *)arg)->order, "b");
}

static void test_tasks(void **state)
{
    struct fixture *f = *state;
    struct loop_task a = {.fn = letter_a, .arg = f}, b = {.fn = letter_b, .arg = f};
    struct loop_task c = {.fn = letter_a, .arg = f}, end = {.fn = stop_it, .arg = f};
    static struct loop_task left; /* is still looked at in loop_destroy */

    left = b;
    loop_task_queue(f->l, &c);
    loop_task_queue(f->l, &a);
    loop_task_queue(f->l, &b);
    loop_task_queue(f->l, &a); /* queued already */
    loop_task_cancel(f->l, &c);
    loop_task_cancel(f->l, &c);
    loop_task_queue(f->l, &end);
    assert_int_equal(loop_run(f->l), 0);
    assert_string_equal(f->order, "ab");
    loop_task_queue(f->l, &b);
    loop_task_cancel(f->l, &b); /* the last one: the queue's end must move back */
    loop_task_queue(f->l, &a);
    loop_task_queue(f->l, &end);
    assert_int_equal(loop_run(f->l), 0);
    assert_string_equal(f->order, "aba");
    loop_task_queue(f->l, &left); /* never runs */
}

static void test_posts_left_behind(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(loop_post(f->l, letter_a, f), 0);
}

struct flood {
    struct fixture *f;
    unsigned ran, sent;
    struct loop_task task;
};

static void count_post(void *arg)
{
    struct flood *fl = arg;

    if (++fl->ran == 20000)
        loop_stop(fl->f->l);
}

static void *post_many(void *arg)
{
    struct flood *fl = arg;

    for (unsigned i = 0; i < 10000; i++) {
        if (loop_post(fl->f->l, count_post, fl))
            return "out of memory";
    }
    return NULL;
}

static void test_posts_from_threads(void **state)
{
    struct flood fl = {.f = *state};
    pthread_t t[2];

    for (unsigned i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, post_many, &fl);
    assert_int_equal(loop_run(fl.f->l), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(fl.ran, 20000);
}

static void bump(void *arg)
{
    ((struct flood *)arg)->ran++;
}

/* After loop_task_cancel the counter must stand still. */
static void *queue_and_cancel(void *arg)
{
    struct flood *fl = arg;
    char *why = NULL;

    for (unsigned i = 0; i < 5000; i++) {
        unsigned seen;
        loop_task_queue(fl->f->l, &fl->task);
        if (i % 4 == 0)
            sched_yield();
        loop_task_cancel(fl->f->l, &fl->task);
        seen = __atomic_load_n(&fl->ran, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&fl->ran, __ATOMIC_SEQ_CST) != seen)
            why = "ran after cancel";
    }
    loop_stop(fl->f->l);
    return why;
}

static void test_cancel_race(void **state)
{
    struct flood fl = {.f = *state};
    pthread_t t;
    void *why;

    fl.task = (struct loop_task){.fn = bump, .arg = &fl};
    pthread_create(&t, NULL, queue_and_cancel, &fl);
    assert_int_equal(loop_run(fl.f->l), 0);
    pthread_join(t, &why);
    assert_null(why);
}

static void on_signal(void *arg, int signo)
{
    struct fixture *f = arg;

    f->calls += (unsigned)signo;
    loop_stop(f->l);
}

static void test_signal(void **state)
{
    struct fixture *f = *state;
    sigset_t now;

    assert_ok(loop_add_signal(f->l, SIGUSR1, on_signal, f, &f->e), f->e);
    kill(getpid(), SIGUSR1);
    assert_int_equal(loop_run(f->l), 0);
    assert_int_equal(f->calls, SIGUSR1);
    loop_destroy(f->l);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    assert_false(sigismember(&now, SIGUSR1));
    assert_ok(loop_create(&f->l, f->clock, &f->e), f->e);
}

/* A stepped clock's far timer must neither fire nor make the loop spin; a step from another thread
 * does. */
static void *step_it(void *arg)
{
    struct timespec ts = {0, 2 * MS};

    nanosleep(&ts, NULL);
    clock_step(arg, 500);
    return NULL;
}

static void test_stepped_clock(void **state)
{
    struct fixture s = {0};
    pthread_t t;

    assert_ok(clock_create_stepped(&s.clock, &s.e), s.e);
    assert_ok(loop_create(&s.l, s.clock, &s.e), s.e);
    timer_init(&s.t, s.clock, on_timer, &s, NULL);
    timer_arm(&s.t, 100);
    pthread_create(&t, NULL, step_it, s.clock);
    assert_int_equal(loop_run(s.l), 0);
    pthread_join(t, NULL);
    assert_int_equal(s.fired_at, 100);
    timer_fini(&s.t);
    loop_destroy(s.l);
    clock_destroy(s.clock);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_stop_before_run), T(test_fd), T(test_mod_fd), T(test_del_in_batch), T(test_timer),
        T(test_timer_armed_by_another_thread), T(test_tasks), T(test_posts_left_behind),
        T(test_posts_from_threads), T(test_cancel_race), T(test_signal), T(test_stepped_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
