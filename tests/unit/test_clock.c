/* test_clock.c - stepped and real time, timers and their races */
#include <pthread.h>
#include <time.h>

#include "unit.h"

#include "host/clock.h"

#define MS 1000000ull

/* A timer that notes when it fired and may arm itself again. */
struct note {
    struct timer t;
    struct clock *c;
    char name;
    u64 period_ns;
    unsigned left; /* arms that are still to come */
    unsigned fired;
    struct note *disarms; /* a timer to disarm when this one fires */
};

static struct {
    char name[64];
    u64 at[64];
    unsigned n;
} trace;

static void fire(void *arg)
{
    struct note *n = arg;

    assert_false(timer_armed(&n->t));
    assert_true(!n->t.lock || lock_held(n->t.lock));
    n->fired++;
    if (trace.n < 63) {
        trace.at[trace.n] = clock_now_ns(n->c);
        trace.name[trace.n++] = n->name;
    }
    if (n->disarms)
        timer_disarm(&n->disarms->t);
    if (n->left) {
        n->left--;
        timer_arm(&n->t, n->t.deadline_ns + n->period_ns);
    }
}

static void note_init(struct note *n, struct clock *c, char name, struct lock *lock)
{
    *n = (struct note){.c = c, .name = name};
    timer_init(&n->t, c, fire, n, lock);
}

static int setup(void **state)
{
    struct err e = {0};
    struct clock *c;

    memset(&trace, 0, sizeof(trace));
    assert_ok(clock_create_stepped(&c, &e), e);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    clock_destroy(*state);
    return 0;
}

static void test_stepped_time(void **state)
{
    struct clock *c = *state;
    u64 sec;
    u32 nsec;

    assert_true(clock_is_stepped(c));
    assert_int_equal(clock_now_ns(c), 0);
    clock_step(c, 1500 * MS);
    assert_int_equal(clock_now_ns(c), 1500 * MS);
    clock_wall(c, &sec, &nsec);
    assert_int_equal(sec, CLOCK_STEPPED_EPOCH + 1);
    assert_int_equal(nsec, 500 * MS);
    assert_true(clock_next_ns(c) == UINT64_MAX);
}

static void test_order(void **state)
{
    struct clock *c = *state;
    static const u64 when[] = {50, 10, 30, 10, 20, 10, 50, 40};
    struct note n[8];

    for (unsigned i = 0; i < 8; i++) {
        note_init(&n[i], c, (char)('a' + i), NULL);
        timer_arm(&n[i].t, when[i]);
    }
    assert_int_equal(clock_next_ns(c), 10);
    clock_step(c, 9);
    assert_int_equal(trace.n, 0);
    clock_step(c, 41);
    assert_string_equal(trace.name, "bdfechag"); /* equal deadlines in the order of arming */
    assert_int_equal(trace.at[0], 10);
    assert_int_equal(trace.at[3], 20);
    assert_int_equal(trace.at[7], 50);
    for (unsigned i = 0; i < 8; i++)
        timer_fini(&n[i].t);
}

static void test_many_random(void **state)
{
    struct clock *c = *state;
    struct note *n = calloc(500, sizeof(*n));
    unsigned seed = 7, fired = 0, kept = 0;

    for (unsigned i = 0; i < 500; i++)
        note_init(&n[i], c, 'x', NULL);
    for (unsigned i = 0; i < 5000; i++) {
        unsigned k = (unsigned)rand_r(&seed) % 500;
        if (rand_r(&seed) % 3)
            timer_arm(&n[k].t, 1 + (u64)rand_r(&seed) % 1000);
        else
            timer_disarm(&n[k].t);
    }
    for (unsigned i = 0; i < 500; i++)
        kept += timer_armed(&n[i].t);
    while (clock_next_ns(c) != UINT64_MAX) {
        u64 at = clock_now_ns(c) + clock_next_ns(c);
        clock_step(c, clock_next_ns(c));
        for (unsigned i = 0; i < 500; i++)
            assert_true(!timer_armed(&n[i].t) || n[i].t.deadline_ns > at);
    }
    for (unsigned i = 0; i < 500; i++) {
        fired += n[i].fired;
        timer_fini(&n[i].t);
    }
    assert_int_equal(fired, kept);
    assert_true(kept > 100);
    free(n);
}

static void test_rearm_in_callback(void **state)
{
    struct clock *c = *state;
    struct note a, b;

    note_init(&a, c, 'a', NULL);
    note_init(&b, c, 'b', NULL);
    a.period_ns = 10;
    a.left = 3;
    timer_arm(&a.t, 10);
    timer_arm(&b.t, 25);
    clock_step(c, 100);
    assert_string_equal(trace.name, "aabaa");
    assert_int_equal(trace.at[4], 40);
    assert_int_equal(clock_now_ns(c), 100);
    timer_fini(&a.t);
    timer_fini(&b.t);
}

static void test_disarm(void **state)
{
    struct clock *c = *state;
    struct note a, b;

    note_init(&a, c, 'a', NULL);
    note_init(&b, c, 'b', NULL);
    a.disarms = &b;
    timer_arm(&a.t, 10);
    timer_arm(&b.t, 10);
    assert_true(timer_armed(&b.t));
    clock_step(c, 20);
    assert_string_equal(trace.name, "a");
    timer_disarm(&b.t);
    timer_arm(&b.t, 30);
    timer_arm(&b.t, 60); /* moves it */
    clock_step(c, 20);
    assert_int_equal(b.fired, 0);
    clock_step(c, 20);
    assert_int_equal(b.fired, 1);
    timer_fini(&a.t);
    timer_fini(&b.t);
}

static void test_past_and_paused(void **state)
{
    struct clock *c = *state;
    struct note a;

    note_init(&a, c, 'a', NULL);
    clock_step(c, 100);
    timer_arm(&a.t, 5);
    assert_int_equal(clock_next_ns(c), 0);
    clock_pause(c);
    assert_true(clock_next_ns(c) == UINT64_MAX);
    clock_run_due(c);
    clock_step(c, 100);
    assert_int_equal(clock_now_ns(c), 100);
    assert_int_equal(a.fired, 0);
    clock_set_ns(c, 50);
    clock_resume(c);
    assert_int_equal(clock_now_ns(c), 50);
    clock_run_due(c);
    assert_int_equal(a.fired, 1);
    assert_int_equal(trace.at[0], 50); /* time does not go back for it */
    timer_fini(&a.t);
}

static void test_rearm_in_the_past_is_bounded(void **state)
{
    struct clock *c = *state;
    struct note a;

    note_init(&a, c, 'a', NULL);
    a.left = UINT32_MAX;
    clock_step(c, 100);
    timer_arm(&a.t, 10);
    clock_run_due(c);
    assert_in_range(a.fired, 1, 100);
    clock_step(c, 50);
    assert_int_equal(clock_now_ns(c), 150);
    timer_fini(&a.t);
}

static unsigned wakes;

static void count_wake(void *arg)
{
    __atomic_add_fetch(&wakes, 1, __ATOMIC_RELAXED);
}

static void test_wake_only_when_earlier(void **state)
{
    struct clock *c = *state;
    struct note a, b;

    note_init(&a, c, 'a', NULL);
    note_init(&b, c, 'b', NULL);
    clock_set_wake(c, count_wake, NULL);
    wakes = 0;
    timer_arm(&a.t, 100);
    assert_int_equal(wakes, 1);
    timer_arm(&b.t, 200);
    assert_int_equal(wakes, 1);
    timer_arm(&b.t, 50);
    assert_int_equal(wakes, 2);
    timer_fini(&a.t);
    timer_fini(&b.t);
}

static void sleep_ms(unsigned ms)
{
    struct timespec ts = {0, (long)(ms * MS)};

    nanosleep(&ts, NULL);
}

static void test_real_clock(void **state)
{
    struct err e = {0};
    struct clock *c;
    u64 a, b, sec;
    u32 nsec;

    assert_ok(clock_create_real(&c, &e), e);
    a = clock_now_ns(c);
    assert_true(a < 1000 * MS);
    sleep_ms(5);
    b = clock_now_ns(c);
    assert_true(b >= a + 5 * MS);
    clock_pause(c);
    a = clock_now_ns(c);
    sleep_ms(200);
    assert_int_equal(clock_now_ns(c), a);
    clock_resume(c);
    b = clock_now_ns(c);
    assert_true(b >= a && b < a + 150 * MS); /* a busy host may take us off the processor here */
    clock_pause(c);
    clock_set_ns(c, 3600000 * MS);
    assert_int_equal(clock_now_ns(c), 3600000 * MS);
    clock_resume(c);
    assert_in_range(clock_now_ns(c), 3600000 * MS, 3600900 * MS);
    clock_wall(c, &sec, &nsec);
    assert_true(sec > 1600000000 && nsec < 1000000000);
    clock_destroy(c);
}

static bool stop;

static void *watch_time(void *arg)
{
    u64 last = 0;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        u64 now = clock_now_ns(arg);
        if (now < last)
            return "time went backwards";
        last = now;
    }
    return NULL;
}

static void test_never_backwards(void **state)
{
    struct err e = {0};
    struct clock *c;
    pthread_t t;
    void *why;

    stop = false;
    assert_ok(clock_create_real(&c, &e), e);
    pthread_create(&t, NULL, watch_time, c);
    for (unsigned i = 0; i < 20000; i++) {
        clock_pause(c);
        clock_resume(c);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(t, &why);
    assert_null(why);
    clock_destroy(c);
}

/* A device whose owner disarms under its lock while another thread fires: after a disarm the
 * callback must not come. */
struct race {
    struct clock *c;
    struct lock lock;
    struct timer t;
    bool may_fire; /* under lock */
    unsigned fired, wrong;
};

static void race_fire(void *arg)
{
    struct race *r = arg;

    __atomic_add_fetch(&r->fired, 1, __ATOMIC_RELAXED);
    if (!r->may_fire)
        r->wrong++;
}

static void *run_clock(void *arg)
{
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        clock_run_due(arg);
    return NULL;
}

static void test_disarm_race(void **state)
{
    struct err e = {0};
    struct race r = {0};
    pthread_t t;

    stop = false;
    assert_ok(clock_create_real(&r.c, &e), e);
    lock_init(&r.lock);
    timer_init(&r.t, r.c, race_fire, &r, &r.lock);
    pthread_create(&t, NULL, run_clock, r.c);
    /* On a busy host the other thread may need a while to get its first turn. */
    for (unsigned i = 0; i < 20000 || __atomic_load_n(&r.fired, __ATOMIC_RELAXED) == 0; i++) {
        lock_take(&r.lock);
        r.may_fire = true;
        timer_arm(&r.t, i & 1 ? 0 : clock_now_ns(r.c) + i % 1000);
        lock_drop(&r.lock);
        if (i % 16 == 0)
            sched_yield();
        lock_take(&r.lock);
        timer_disarm(&r.t);
        r.may_fire = false;
        lock_drop(&r.lock);
    }
    timer_fini(&r.t);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
    assert_int_equal(r.wrong, 0);
    lock_destroy(&r.lock);
    clock_destroy(r.c);
}

/* Timers that come and go while they fire: a sanitizer sees a callback after timer_fini. */
static void test_fini_race(void **state)
{
    struct err e = {0};
    struct clock *c;
    pthread_t t;

    stop = false;
    assert_ok(clock_create_real(&c, &e), e);
    pthread_create(&t, NULL, run_clock, c);
    for (unsigned i = 0; i < 3000; i++) {
        struct race *r = calloc(1, sizeof(*r));
        lock_init(&r->lock);
        r->may_fire = true;
        timer_init(&r->t, c, race_fire, r, i & 1 ? &r->lock : NULL);
        timer_arm(&r->t, 0);
        if (i % 8 == 0)
            sched_yield();
        timer_fini(&r->t);
        lock_destroy(&r->lock);
        free(r);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
    clock_destroy(c);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_stepped_time), T(test_order), T(test_many_random), T(test_rearm_in_callback),
        T(test_disarm), T(test_past_and_paused), T(test_rearm_in_the_past_is_bounded),
        T(test_wake_only_when_earlier), T(test_real_clock), T(test_never_backwards),
        T(test_disarm_race), T(test_fini_race),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
