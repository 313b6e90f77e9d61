/* report.c - words for the user on stderr */
#include "cli/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/options.h"
#include "host/clock.h"
#include "host/term.h"

static bool quiet, terminal, color, raw;
static struct clock *since; /* starts at report_setup */

void report_setup(bool be_quiet)
{
    const char *no_color = getenv("NO_COLOR");

    quiet = be_quiet;
    terminal = term_is_tty(STDERR_FILENO);
    color = terminal && !(no_color && *no_color);
    if (!since && clock_create_real(&since, NULL))
        since = NULL;
}

u64 report_elapsed_ms(void)
{
    return since ? clock_now_ns(since) / 1000000 : 0;
}

static void put(const char *text)
{
    for (; *text; text++) {
        if (raw && *text == '\n')
            fputc('\r', stderr);
        fputc(*text, stderr);
    }
}

static void say(const char *before, const char *after, const char *fmt, va_list ap)
{
    char text[1400];

    vsnprintf(text, sizeof(text), fmt, ap);
    flockfile(stderr);
    put(before);
    put("ring3: ");
    put(text);
    put(after);
    put("\n");
    funlockfile(stderr);
}

void report_raw(bool on)
{
    raw = on;
}

void report_text(const char *fmt, ...)
{
    char text[1400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put(text);
}

void report_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say("", "", fmt, ap);
    va_end(ap);
}

void report_note(const char *fmt, ...)
{
    va_list ap;

    if (quiet)
        return;
    va_start(ap, fmt);
    say("", "", fmt, ap);
    va_end(ap);
}

void report_progress(const char *fmt, ...)
{
    va_list ap;

    if (quiet || !terminal)
        return;
    va_start(ap, fmt);
    say(color ? "\033[2m" : "", color ? "\033[m" : "", fmt, ap);
    va_end(ap);
}

int report_usage(const char *verb, const struct err *e)
{
    report_error("%s; try ring3 %s --help", e->msg, verb);
    return EXIT_USAGE;
}
