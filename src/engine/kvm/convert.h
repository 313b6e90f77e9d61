/* convert.h - between KVM's structures and the engine-neutral state; pure */
#pragma once

#include <linux/kvm.h>

#include "x86/state.h"

/* Segments: limits are bytes on both sides; an unusable segment is one without P. */
void kvm_from_seg(const struct x86_seg *s, struct kvm_segment *k);
void kvm_to_seg(const struct kvm_segment *k, struct x86_seg *s);

void kvm_from_regs(const struct x86_state *s, struct kvm_regs *k);
void kvm_to_regs(const struct kvm_regs *k, struct x86_state *s);

/* Segments, tables, control registers, EFER and, from SS and modes, CPL. IA32_APIC_BASE, CR8 and
 * PDPTEs of *k are left alone. */
void kvm_from_sregs(const struct x86_state *s, struct kvm_sregs2 *k);
void kvm_to_sregs(const struct kvm_sregs2 *k, struct x86_state *s);

void kvm_from_debugregs(const struct x86_state *s, struct kvm_debugregs *k);
void kvm_to_debugregs(const struct kvm_debugregs *k, struct x86_state *s);

/* The XSAVE image, standard format, with 64-bit x87 pointers. `components` (XCR0_*) are those that
 * the host has; what else the image holds stays. */
void kvm_from_fpu(const struct x86_fpu *f, u64 components, struct kvm_xsave *k);
void kvm_to_fpu(const struct kvm_xsave *k, struct x86_fpu *f);

/* Shadows, NMI blocking and a pending exception. An interrupt or NMI that the kernel has taken but
 * not delivered is not state of a processor: see kvm_state_out. */
void kvm_from_events(const struct x86_state *s, struct kvm_vcpu_events *k);
void kvm_to_events(const struct kvm_vcpu_events *k, struct x86_state *s);
