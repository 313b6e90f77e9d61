/* chips.h - between KVM's interrupt controllers and irqchip.h; pure */
#pragma once

#include <linux/kvm.h>

#include "engine/irqchip.h"

/* The register page. Of a local APIC's other state - IA32_APIC_BASE, deadline, NMIs - nothing is in
 * it; `l->base` says what mode the page is of. */
void kvm_from_lapic(const struct irqchip_lapic *l, struct kvm_lapic_state *k);
void kvm_to_lapic(const struct kvm_lapic_state *k, struct irqchip_lapic *l);

/* Levels of input pins are not among what is read back. */
void kvm_from_ioapic(const struct irqchip_ioapic *io, struct kvm_ioapic_state *k);
void kvm_to_ioapic(const struct kvm_ioapic_state *k, struct irqchip_ioapic *io);
void kvm_from_pic(const struct irqchip_pic *p, struct kvm_pic_state *k);
void kvm_to_pic(const struct kvm_pic_state *k, struct irqchip_pic *p);
