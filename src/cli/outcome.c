/* outcome.c - how a run ended, in words, JSON and an exit status */
#include "cli/outcome.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/report.h"

#define PANIC_TEXT "Kernel panic - not syncing"

struct verdict {
    const char *outcome; /* one word, for JSON */
    int status;
    bool show_tail;
};

static struct verdict fail(const char *outcome, int status, const char *message)
{
    report_error("%s", message);
    return (struct verdict){outcome, status, true};
}

/* machine_stop was called: by the user, the clock, or because the command's conversation was
 * over. */
static struct verdict stopped(const struct session *s, const struct machine_outcome *out,
                              const struct agent_result *r)
{
    switch (out->status) {
    case STOP_QUIT: return (struct verdict){"quit", s->agent ? 128 + 2 : EXIT_CLEAN, false};
    case STOP_TIMEOUT:
        report_error("timeout: the run was not over after %llu.%03llu s",
                     (unsigned long long)s->o->timeout_ms / 1000,
                     (unsigned long long)s->o->timeout_ms % 1000);
        return (struct verdict){"timeout", EXIT_TIMEOUT, s->agent && r->phase == AGENT_WAITING};
    case STOP_SAVED: return (struct verdict){"saved", EXIT_CLEAN, false};
    case STOP_COMMAND_DONE: return fail("agent", EXIT_FAILED, r->err.msg);
    default: return (struct verdict){"killed", 128 + out->status - STOP_SIGNAL, false};
    }
}

static struct verdict power_off(const struct session *s, const struct agent_result *r)
{
    if (s->agent && r->phase == AGENT_WAITING)
        return fail("power-off", EXIT_FAILED, "the guest powered off before its agent came up");
    return (struct verdict){"power-off", EXIT_CLEAN, false};
}

static struct verdict judge(const struct session *s, const struct machine_outcome *out,
                            const struct agent_result *r)
{
    if (r->phase == AGENT_ENDED) {
        if (*r->err.msg)
            report_error("%s", r->err.msg);
        return (struct verdict){"command", r->status, false};
    }
    switch (out->kind) {
    case MACHINE_POWER_OFF: return power_off(s, r);
    case MACHINE_RESET:
        if (tail_holds(s, PANIC_TEXT))
            return fail("panic", EXIT_PANIC, "the guest's kernel panicked");
        return fail("reset", EXIT_RESET, "the guest reset itself");
    case MACHINE_TRIPLE_FAULT:
        return fail("triple-fault", EXIT_TRIPLE_FAULT,
                    "the guest's processor shut down (triple fault)");
    case MACHINE_PANIC: return fail("panic", EXIT_PANIC, "the guest's kernel panicked");
    case MACHINE_DEBUG_EXIT: return (struct verdict){"debug-exit", out->status & 0xff, false};
    case MACHINE_SCRIPT_DONE: return (struct verdict){"script-done", EXIT_CLEAN, false};
    case MACHINE_STOPPED: return stopped(s, out, r);
    case MACHINE_FAILED: break;
    }
    if (s->o->script)
        report_error("script %s: %s", s->o->script, out->err.msg);
    else
        report_error("%s", out->err.msg);
    return (struct verdict){"failed", EXIT_FAILED, true};
}

static void print_json(const struct session *s, const struct verdict *v)
{
    json_t *root = json_pack("{s:s, s:s, s:s, s:i, s:I}", "engine", s->engine, "cpu_model",
                             machine_cpu_model(s->m), "outcome", v->outcome, "status", v->status,
                             "total_ms", (json_int_t)report_elapsed_ms());
    char *text;

    if (root && s->ready_ms)
        json_object_set_new(root, "boot_ms", json_integer((json_int_t)s->ready_ms));
    text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (text)
        fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(root);
}

int outcome_report(const struct session *s, const struct machine_outcome *out)
{
    struct agent_result r = {.phase = AGENT_WAITING};
    struct verdict v;

    if (s->agent)
        agent_result(s->agent, &r);
    v = judge(s, out, &r);
    /* Without a command the user has seen the console already. */
    if (v.show_tail && s->agent && !s->console_out)
        tail_print(s);
    if (s->o->json)
        print_json(s, &v);
    return v.status;
}
