/* outcome.h - how a run ended, in words, JSON and an exit status */
#pragma once

#include "cli/session.h"

/* Tells the user what went wrong, if anything did, and returns the exit status. After
 * session_close. */
int outcome_report(const struct session *s, const struct machine_outcome *out);
