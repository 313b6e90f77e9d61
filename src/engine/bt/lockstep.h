/* lockstep.h - translated code and the interpreter side by side, compared block by block
 *
 * Before a block is entered the processor's state goes to a second processor, the shadow, which
 * executes the block's instructions one by one. What it writes to guest memory is taken back, what
 * it did to devices is kept. Then translated code executes the same block, with the device
 * accesses answered from what was kept. Registers and the pages written must be equal afterwards.
 * Devices see each access once, and interrupts are taken between blocks only. Memory that
 * something else writes while a block is checked may be lost. */
#pragma once

#include "base/err.h"
#include "engine/bt/bt.h"

struct lockstep;

/* Checks one block in `every`. vCPU thread, as everything here. */
must_check int lockstep_create(struct engine_vcpu *v, unsigned every, struct err *e);
void lockstep_destroy(struct engine_vcpu *v);

/* In the run loop, with no attention pending: whether the next block is to be checked, and that.
 * *host is where it begins. X86_OK or what else the block ended with. */
bool lockstep_due(struct engine_vcpu *v);
int lockstep_check(struct engine_vcpu *v, u64 host);
/* What differed, if anything did: the run is over then. */
const char *lockstep_failed(const struct engine_vcpu *v);

/* Hooks of the helpers: whether translated code is to be left before the next block; an instruction
 * that C executed ended the block early, where nothing branched. */
bool lockstep_leave(struct lockstep *ls);
void lockstep_stay(struct lockstep *ls); /* not the next time */
void lockstep_cut(struct lockstep *ls, u64 rip);
void lockstep_restarted(struct lockstep *ls); /* another block goes on in the middle */

/* bt.c: enters translated code at host. */
void bt_enter(struct engine_vcpu *v, u64 host);
void bt_take_over_writes(struct engine_vcpu *v);
