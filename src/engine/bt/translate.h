/* translate.h - guest code to translation blocks */
#pragma once

#include "engine/bt/cache.h"

#define BLOCK_INSNS_MAX 64 /* with loops unrolled */
#define BLOCK_INSNS     40
#define BLOCK_EXITS_MAX 6 /* conditional branches that a block goes on behind */

/* Translates the code at the vCPU's RIP, whose first byte is at gpa in `page`, for `mode`. *out is
 * NULL when it changes all the time. X86_OK, or X86_FAULT: the first instruction cannot be fetched
 * or decoded. vCPU thread, no lock held; may stop the other vCPUs and be stopped, may evict. */
must_check int translate(struct engine_vcpu *v, u64 gpa, u32 mode, const u8 *page, struct tb **out);
