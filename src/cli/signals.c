/* signals.c - what SIGINT, SIGTERM, SIGHUP, SIGWINCH and the time limit do to a run */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>


#include "cli/report.h"
#include "cli/session.h"

#define TICK_MS        20
#define INTERRUPTS_MAX 3 /* SIGINT this often kills whatever the command does with them */

/* The machine has ended already, only output is left. */
static void abandon(struct session *s)
{
    s->abandoned = true;
    loop_stop(s->loop);
}

static void kill_run(struct session *s, int signo)
{
    if (s->draining)
        abandon(s);
    machine_stop(s->m, STOP_SIGNAL + signo);
}

static void on_interrupt(void *arg, int signo)
{
    struct session *s = arg;

    if (s->draining || ++s->interrupts >= INTERRUPTS_MAX || !s->agent ||
        !agent_signal(s->agent, signo))
        kill_run(s, signo);
}

/* First the power button, and the command is asked to end; then the switch at the wall. */
static void on_terminate(void *arg, int signo)
{
    struct session *s = arg;
    bool told;

    if (s->draining || ++s->terminations > 1) {
        kill_run(s, signo);
        return;
    }
    told = s->agent && agent_signal(s->agent, signo);
    if (machine_power_button(s->m) || told)
        report_note("asked the guest to power off; once more ends it at once");
    else
        kill_run(s, signo);
}

static void on_kill(void *arg, int signo)
{
    kill_run(arg, signo);
}

static void on_resize(void *arg, int signo)
{
    session_resized(arg);
}

static void on_alarm(void *arg, int signo)
{
    struct session *s = arg;
    struct agent_result r = {.phase = AGENT_WAITING};

    if (s->draining) {
        s->abandoned = s->o->timeout_ms && report_elapsed_ms() >= s->o->timeout_ms;
        loop_stop(s->loop);
        return;
    }
    if (s->agent)
        agent_result(s->agent, &r);
    machine_stop(s->m, r.phase == AGENT_ENDED ? STOP_COMMAND_DONE : STOP_TIMEOUT);
}

static void arm(u64 ms)
{
    struct itimerval t = {.it_value = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)}};

    setitimer(ITIMER_REAL, &t, NULL);
}

void signals_tick(void)
{
    arm(TICK_MS);
}

void signals_grace(struct session *s, unsigned seconds)
{
    struct itimerval now;

    getitimer(ITIMER_REAL, &now);
    if ((now.it_value.tv_sec == 0 && now.it_value.tv_usec == 0) || now.it_value.tv_sec >= seconds)
        arm(seconds * 1000ull);
}

int signals_open(struct session *s, struct err *e)
{
    static const struct {
        int signo;
        void (*fn)(void *arg, int signo);
    } rows[] = {
        {SIGINT, on_interrupt}, {SIGTERM, on_terminate}, {SIGHUP, on_kill},
        {SIGWINCH, on_resize},  {SIGALRM, on_alarm},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int rc = loop_add_signal(s->loop, rows[i].signo, rows[i].fn, s, e);

        if (rc)
            return rc;
    }
    if (s->o->timeout_ms) {
        u64 spent = report_elapsed_ms();

        arm(s->o->timeout_ms > spent ? s->o->timeout_ms - spent : 1);
    }
    return 0;
}
