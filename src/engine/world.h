/* world.h - a processor's view of the world: guest memory, buses, the machine around the vCPU */
#pragma once

#include "engine/engine.h"
#include "x86/cpu.h"

/* Shared by the engines that execute x86/ themselves. `cpu->world` points to it. */
struct world {
    struct x86_cpu *cpu;
    struct mem *mem;
    struct mem_hint hint; /* the cpu's thread's */
    struct bus *pio, *mmio;
    const struct vcpu_env *env;
    /* Bytes of a marked code page were written by this cpu. vCPU thread. */
    void (*code_write)(void *ctx, u64 gpa, unsigned size);
    void *code_ctx;
};

extern const struct x86_ops world_ops;
