/* report.h - words for the user on stderr */
#pragma once

#include "base/err.h"
#include "base/types.h"

/* Quiet drops notes; progress also needs a terminal on stderr. */
void report_setup(bool quiet);

/* "ring3: ..." always; an error. */
void report_error(const char *fmt, ...) printf_like(1, 2);
/* "ring3: ..." unless quiet. */
void report_note(const char *fmt, ...) printf_like(1, 2);
/* Dim "ring3: ..." when stderr is a terminal and not quiet. */
void report_progress(const char *fmt, ...) printf_like(1, 2);

/* Milliseconds since report_setup, of host time. */
u64 report_elapsed_ms(void);

/* While the terminal is raw, newlines of ours become CR LF. */
void report_raw(bool on);
/* Text as it is, to stderr: for answers to keys. */
void report_text(const char *fmt, ...) printf_like(1, 2);

/* An error of the command line: one line and where to look. Returns EXIT_USAGE. */
int report_usage(const char *verb, const struct err *e);
