/* tuning.h - the value of --bt */
#pragma once

#include "base/err.h"
#include "engine/engine.h"

/* "cache=SIZE,block=N,chain=on|off,miss=on|off,perfmap=on|off", any of them, into *bt; what is not
 * named is zero: the default. -EINVAL: *e says which word is wrong. Pure. */
must_check int tuning_parse(const char *text, struct bt_config *bt, struct err *e);
