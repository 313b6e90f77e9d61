/* kvm_live.h - a VM on the host's KVM, whatever it is: 64 KiB of memory, one vCPU */
#pragma once

#include "engine/kvm/kvm.h"
#include "unit.h"

struct live_vm {
    struct mem *mem;
    struct bus *pio, *mmio;
    struct x86_cpuid_model model;
    struct engine_vm *vm;
    struct engine_vcpu *v;
};

/* Before anything is allocated: skips the test when there is no KVM. */
static inline void live_vm_needs_kvm(void)
{
    if (!access("/dev/kvm", R_OK | W_OK))
        return;
    print_message("# SKIP no /dev/kvm to try on\n");
    skip();
}

/* `port`: a region of the port bus, or NULL. */
static inline void live_vm_open(struct live_vm *m, enum irqchip_choice irqchip,
                                const struct region *port, const struct vcpu_env *env)
{
    struct engine_vm_config cfg = {.cpuid = &m->model, .irqchip = irqchip};
    struct err e = {0};

    assert_ok(x86_cpuid_model(&m->model, "ring3-v2", 1, &e), e);
    assert_ok(engine_kvm.cpuid_limit(&m->model, &e), e);
    assert_ok(mem_create(&m->mem, &e), e);
    assert_ok(mem_add_ram(m->mem, 0, 0x10000, &e), e);
    assert_ok(bus_create(&m->pio, "PIO", 0x10000, &e), e);
    assert_ok(bus_create(&m->mmio, "MMIO", BIT64(40), &e), e);
    if (port)
        assert_ok(bus_add(m->pio, port, &e), e);
    cfg.mem = m->mem;
    cfg.pio = m->pio;
    cfg.mmio = m->mmio;
    assert_ok(engine_kvm.vm_create(&cfg, &m->vm, &e), e);
    assert_ok(engine_kvm.vcpu_create(m->vm, 0, env, &m->v, &e), e);
}

static inline void live_vm_close(struct live_vm *m)
{
    engine_kvm.vcpu_destroy(m->v);
    engine_kvm.vm_destroy(m->vm);
    bus_destroy(m->pio);
    bus_destroy(m->mmio);
    mem_destroy(m->mem);
}

/* Backends that emulate have flaws of their own: no TSC offsets, they remember what was where, and
 * end interrupts by themselves. */
static inline bool live_fit(void)
{
    return engine_kvm.probe(NULL) == ENGINE_WORKS;
}
