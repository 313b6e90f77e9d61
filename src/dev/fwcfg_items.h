/* fwcfg_items.h - lookup inside the table of fw_cfg items */
#pragma once

#include "dev/fwcfg.h"

/* The item of a key, or NULL. */
const struct fwcfg_item *fwcfg_find(const struct fwcfg *f, u16 key);
