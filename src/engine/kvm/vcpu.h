/* vcpu.h - running vCPUs: between kvm.c, vcpu.c and state.c */
#pragma once

#include "engine/kvm/kvm.h"

/* Makes the vCPU look at `what` (LOOK_*) soon. Any thread, async-signal-safe. */
void kvm_look(struct engine_vcpu *v, u32 what);
/* One KVM_RUN: 0 with an exit in v->run, or -errno. */
int kvm_run_once(struct engine_vcpu *v);
/* x86_ops.nmi_take: those first that the kernel took and did not deliver. */
bool kvm_nmi_take(void *w);
/* engine.vcpu_run */
void kvm_vcpu_run(struct engine_vcpu *v, struct vcpu_exit *exit);
