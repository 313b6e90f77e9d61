/* tuning.h - the values of --bt and --irqchip */
#pragma once

#include "base/err.h"
#include "engine/engine.h"

/* "cache=SIZE,block=N,chain=on|off,miss=on|off,perfmap=on|off", any of them, into *bt; what is not
 * named is zero: the default. -EINVAL: *e says which word is wrong. Pure. */
must_check int tuning_parse(const char *text, struct bt_config *bt, struct err *e);
/* The value of --irqchip: "kernel", "user"; NULL is the default. -EINVAL with *e. Pure. */
must_check int irqchip_parse(const char *text, enum irqchip_choice *out, struct err *e);
