/* save.c - --save: the machine into a file, at its time or on a signal */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "cli/report.h"
#include "cli/session.h"
#include "machine/snapshot.h"

#define TIMER_SIGNAL (SIGRTMIN + 4)

bool save_parse_at(const char *text, int *signo, u64 *ms)
{
    *signo = 0;
    *ms = 0;
    if (!strncmp(text, "SIG", 3))
        text += 3;
    if (!strcmp(text, "USR1"))
        *signo = SIGUSR1;
    else if (!strcmp(text, "USR2"))
        *signo = SIGUSR2;
    return *signo || parse_seconds(text, ms);
}

static void on_save(void *arg, int signo)
{
    struct session *s = arg;
    struct err e = {0};

    if (s->draining)
        return;
    machine_pause(s->m);
    if (snapshot_save(s->m, s->o->save, &e)) {
        report_error("%s; the guest goes on", e.msg);
    } else {
        report_note("saved to %s", s->o->save);
        machine_stop(s->m, STOP_SAVED);
    }
    machine_resume(s->m);
}

static int start_timer(u64 ms, struct err *e)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = TIMER_SIGNAL};
    u64 spent = report_elapsed_ms(), wait = ms > spent ? ms - spent : 1;
    struct itimerspec at = {.it_value = {(time_t)(wait / 1000), (long)(wait % 1000) * 1000000}};
    timer_t timer;

    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &at, NULL))
        return err_set(e, errno, "option --at: no timer: %s", strerror(errno));
    return 0;
}

int save_open(struct session *s, struct err *e)
{
    int signo, rc;
    u64 ms;

    if (!s->o->save || !save_parse_at(s->o->at, &signo, &ms))
        return 0;
    rc = loop_add_signal(s->loop, signo ? signo : TIMER_SIGNAL, on_save, s, e);
    return rc || signo ? rc : start_timer(ms, e);
}
