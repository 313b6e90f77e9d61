/* fp_world.h - worlds with the FPU and all vector state switched on */
#pragma once

#include "x86/fpu.h"
#include "x86_world.h"

/* Linear page 0 .. 15 is RAM from DATA on, page 16 is not mapped. */
#define PML4 0x1000
#define PDPT 0x2000
#define PD   0x3000
#define PT   0x4000
#define DATA 0x10000
#define HOLE 0x10000

static inline maybe_unused void enable(struct world *w)
{
    struct x86_state *s = &w->cpu.s;

    s->cr0 = (s->cr0 | CR0_MP | CR0_NE) & ~(u64)(CR0_EM | CR0_TS);
    s->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    s->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    x87_init(&s->fpu);
    s->fpu.mxcsr = MXCSR_INIT;
    x86_update_mode(&w->cpu);
}

static inline maybe_unused struct world *long_world(void)
{
    struct world *w = world_new(64, "host");

    world_put(w, PML4, 8, PDPT | 7);
    world_put(w, PDPT, 8, PD | 7);
    world_put(w, PD, 8, PT | 7);
    for (unsigned i = 0; i < 16; i++)
        world_put(w, PT + i * 8, 8, (DATA + i * 4096) | 7);
    world_long(w, PML4, 64, 3);
    enable(w);
    return w;
}

static inline maybe_unused struct world *flat_world(unsigned bits)
{
    struct world *w = world_new(64, "host");

    world_protected(w, bits, 0);
    enable(w);
    return w;
}

static inline maybe_unused bool has(const struct world *w, enum x86_feature f)
{
    return x86_has(&w->cpu, f);
}

static inline maybe_unused void set_vec(struct world *w, unsigned r, u64 q0, u64 q1, u64 q2, u64 q3)
{
    memcpy(w->cpu.s.fpu.vec[r], (u64[]){q0, q1, q2, q3}, 32);
}

static inline maybe_unused void assert_vec(struct world *w, unsigned r, u64 q0, u64 q1, u64 q2,
                                           u64 q3)
{
    u64 v[4];

    memcpy(v, w->cpu.s.fpu.vec[r], 32);
    assert_int_equal(v[0], q0);
    assert_int_equal(v[1], q1);
    assert_int_equal(v[2], q2);
    assert_int_equal(v[3], q3);
}

#define RDI_IS(w, v) ((w)->cpu.s.gpr[X86_RDI] = (v))
#define ONE          0x3ff0000000000000ull
#define TWO          0x4000000000000000ull
#define THREE        0x4008000000000000ull
