/* stop.h - the stop protocol: one vCPU alone in a VM, with all others at a safe place */
#pragma once

#include "engine/bt/cache.h"

/* What may be changed while other vCPUs run in translated code is said in cache.h. All else is
 * done between bt_stop and bt_resume: code memory is used again, more than one word of code
 * changes, entries of dropped blocks are overwritten, a page becomes code (and must lose its write
 * tags in everybody's TLB).
 *
 * Order: no lock is held when bt_stop, bt_let_stop or bt_go_in is called, and no device is being
 * accessed; the cache's lock and a VM's write_lock may be taken by who has stopped the others. A
 * vCPU that waits for a device's lock or is in a device counts as running: the stop waits for it.
 * That ends, because devices never wait for a vCPU with a lock held. One that sleeps in HLT, or
 * for whatever other reason is outside of vcpu_run, is no hindrance. */

/* A vCPU comes to be one of its VM, or ceases to. Main thread, the vCPU is not running. */
void bt_join(struct engine_vcpu *v);
void bt_part(struct engine_vcpu *v);

/* Around everything that executes, or changes a vCPU's TLB or jump caches. Waits while somebody
 * has stopped the vCPUs. */
void bt_go_in(struct engine_vcpu *v);
void bt_go_out(struct engine_vcpu *v);

/* A safe place: waits when somebody wants the vCPUs stopped. Everything that was found in the code
 * cache before is void behind it. vCPU thread, between instructions. */
void bt_let_stop(struct engine_vcpu *v);

/* Waits until no other vCPU of the VM executes, and keeps them so until bt_resume. While it waits
 * others may stop this one: what was found in the code cache before bt_stop may be gone when
 * cache.epoch has changed, blocks may be dropped, entries of this vCPU's TLB may have lost their
 * write tags. Costs nothing while the VM has one vCPU. vCPU thread, inside vcpu_run. */
void bt_stop(struct engine_vcpu *v);
void bt_resume(struct engine_vcpu *v);

/* Sees to room for a block in the code cache; may evict. As bt_stop. */
void bt_make_room(struct engine_vcpu *v);
