/* log.c - diagnostics on stderr, one write a line */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum log_level threshold = LOG_WARN;

void log_set_level(enum log_level level)
{
    __atomic_store_n(&threshold, level, __ATOMIC_RELAXED);
}

bool log_enabled(enum log_level level)
{
    return level <= __atomic_load_n(&threshold, __ATOMIC_RELAXED);
}

/* Control characters could drive the user's terminal, and guests choose some of the text. */
static void defuse(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        u8 c = (u8)text[i];
        if (c < 0x20 || c == 0x7f)
            text[i] = c == '\t' ? ' ' : '?';
    }
}

void log_msg(enum log_level level, const char *fmt, ...)
{
    static const char *const heads[] = {
        [LOG_ERROR] = "ring3: error: ",
        [LOG_WARN] = "ring3: warning: ",
        [LOG_INFO] = "ring3: ",
        [LOG_DEBUG] = "ring3: debug: ",
    };
    char line[1280];
    size_t len, room;
    int n, saved = errno;
    va_list ap;

    if (!log_enabled(level))
        return;
    len = strlen(heads[level]);
    memcpy(line, heads[level], len);
    room = sizeof(line) - len - 1;
    va_start(ap, fmt);
    n = vsnprintf(line + len, room, fmt, ap);
    va_end(ap);
    if (n > 0) {
        size_t body = MIN((size_t)n, room - 1);
        defuse(line + len, body);
        len += body;
    }
    line[len++] = '\n';
    /* Nobody is left to tell when stderr itself fails. */
    while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
        continue;
    errno = saved;
}
