/* err.h - a message for a person beside the -errno */
#pragma once

#include "base/types.h"

/* Filled by the function that failed first; callers pass it up untouched. Only cli/ prints it.
 * Every function taking a `struct err *` accepts NULL. */
struct err {
    int code;       /* positive errno, 0 = no error */
    char msg[1024]; /* says what, where and how to mend it; no trailing newline or full stop */
};

/* Sets *e (when not NULL and not yet set) and returns -code, so that callers can
 * `return err_set(e, EINVAL, "kernel %s: ...", path);`. Any thread, no locks. */
int err_set(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts "prefix: " before the message already held. */
void err_prefix(struct err *e, const char *fmt, ...) printf_like(2, 3);
