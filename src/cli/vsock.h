/* vsock.h - --vsock [CID,]PATH */
#pragma once

#include "base/err.h"
#include "machine/machine.h"

/* Fills cfg->vsock. -EINVAL with what is wrong. */
must_check int vsock_parse(const char *text, struct machine_config *cfg, struct err *e);
