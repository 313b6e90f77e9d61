/* log.h - diagnostics on stderr; never guest output, never results */
#pragma once

#include "base/limits.h"
#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Messages above `level` are dropped. Default LOG_WARN. Any thread. */
void log_set_level(enum log_level level);
/* Whether a message of this level would be printed: for callers whose text is dear to build. */
bool log_enabled(enum log_level level);
/* Prints one line "ring3: ..." in one write; control characters in it become '?'. Keeps errno. */
void log_msg(enum log_level level, const char *fmt, ...) printf_like(2, 3);

/* A guest can provoke these without end: at most limits.h LOG_GUEST_MAX per call site, then
 * silence. */
#define log_guest(fmt, ...)                                                  \
    do {                                                                     \
        static unsigned seen_;                                               \
        if (__atomic_fetch_add(&seen_, 1, __ATOMIC_RELAXED) < LOG_GUEST_MAX) \
            log_msg(LOG_DEBUG, fmt, ##__VA_ARGS__);                          \
    } while (0)
