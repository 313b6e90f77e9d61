/* err.c - messages for a person, and the end of the line for broken invariants */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    ASSERT(code > 0);
    if (e && e->code == 0) {
        e->code = code;
        va_start(ap, fmt);
        vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
        va_end(ap);
    }
    return -code;
}

void err_prefix(struct err *e, const char *fmt, ...)
{
    char head[sizeof(e->msg)];
    size_t head_len, keep;
    va_list ap;

    if (!e || e->code == 0)
        return;
    va_start(ap, fmt);
    vsnprintf(head, sizeof(head) - 2, fmt, ap);
    va_end(ap);
    strcat(head, ": ");
    head_len = strlen(head);
    /* A message that no longer fits loses its end, never its beginning. */
    keep = MIN(strlen(e->msg), sizeof(e->msg) - 1 - head_len);
    memmove(e->msg + head_len, e->msg, keep);
    memcpy(e->msg, head, head_len);
    e->msg[head_len + keep] = '\0';
}

void assert_failed(const char *cond, const char *file, int line)
{
    char text[512];
    int len = snprintf(text, sizeof(text), "ring3: internal error: %s does not hold (%s:%d)\n",
                       cond, file, line);

    /* One plain write: the heap and stdio may be what is broken. */
    if (len > 0 && write(STDERR_FILENO, text, MIN((size_t)len, sizeof(text) - 1)) < 0)
        abort();
    abort();
}
