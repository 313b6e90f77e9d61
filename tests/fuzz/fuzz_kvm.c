/* fuzz_kvm.c - exits of engine kvm with mutated shared pages: no access outside of them */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kvm/kvm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGE_AND_DATA 12288u
#define PORTS_MAX     0x10000u
#define COUNT_MAX     4096u /* accesses of one exit; more is only slower */

static u64 read_any(void *dev, u64 off, unsigned size)
{
    return off * 0x0101010101010101ull;
}

static void write_any(void *dev, u64 off, unsigned size, u64 val)
{
}

static const struct region_ops any_ops = {read_any, write_any, 1, 8, 1, 8, true};

static int no_msr(void *ctx, u32 msr, u64 *val)
{
    return msr & 1 ? -2 : 0;
}

static int take_msr(void *ctx, u32 msr, u64 val)
{
    return msr & 1 ? -2 : 0;
}

static u64 no_time(void *ctx)
{
    return 1000;
}

static const struct vcpu_env env = {.msr_read = no_msr, .msr_write = take_msr, .tsc = no_time};

static void wire(struct engine_vm *vm, struct engine_vcpu *v, struct x86_cpuid_model *model)
{
    struct region r = {.size = 0x800, .ops = &any_ops, .name = "any"};
    int ret = x86_cpuid_model(model, "ring3-v2", 1, NULL);

    ASSERT(ret == 0);
    ret = bus_create(&vm->cfg.pio, "PIO", PORTS_MAX, NULL) |
          bus_create(&vm->cfg.mmio, "MMIO", BIT64(40), NULL) | bus_add(vm->cfg.pio, &r, NULL) |
          bus_add(vm->cfg.mmio, &r, NULL);
    ASSERT(ret == 0);
    vm->run_bytes = PAGE_AND_DATA;
    vm->tsc_khz = 2000000;
    v->vm = vm;
    v->fd = -1;
    v->env = &env;
    v->cpu = aligned_alloc(64, (sizeof(*v->cpu) + 63) & ~63ul);
    ASSERT(v->cpu);
    v->world = (struct world){.cpu = v->cpu, .pio = vm->cfg.pio, .mmio = vm->cfg.mmio, .env = &env};
    x86_cpu_init(v->cpu, &world_ops, &v->world, model);
}

/* The input is the page, or as much of it as there is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const u32 reasons[] = {KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_X86_RDMSR,
                                  KVM_EXIT_X86_WRMSR};
    struct engine_vm vm = {.fd = -1};
    struct engine_vcpu v = {.id = 0};
    struct x86_cpuid_model model;
    struct err e = {0};
    u8 *page = calloc(1, PAGE_AND_DATA);

    ASSERT(page);
    wire(&vm, &v, &model);
    memcpy(page, data, size < PAGE_AND_DATA ? size : PAGE_AND_DATA);
    v.run = (struct kvm_run *)page;
    if (v.run->exit_reason & 0x80)
        v.run->exit_reason = reasons[v.run->exit_reason & 3];
    if (v.run->exit_reason == KVM_EXIT_IO && v.run->io.count > COUNT_MAX)
        v.run->io.count |= 0x10000; /* beyond what fits: must be refused */
    enum kvm_next next = kvm_exit(&v, &e);
    ASSERT((next == NEXT_FAILED) == (e.code != 0));
    bus_destroy(vm.cfg.pio);
    bus_destroy(vm.cfg.mmio);
    x86_cpu_fini(v.cpu);
    free(v.cpu);
    free(page);
    return 0;
}
