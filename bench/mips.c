/* mips.c - instructions a second of an engine on integer code, beside the same code run natively */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "../tests/idle_env.h"
#include "engine/engine.h"
#include "host/clock.h"
#include "x86/cpuid.h"

#define u8  kernel_u8 /* kernels.h stands alone, for the guest */
#define u32 kernel_u32
#define u64 kernel_u64
#include "guest/kernels.h"
#undef u8
#undef u32
#undef u64

/* The flat image, linked at IMAGE_GPA; see meson.build. */
extern const u8 flat_image[];
extern const u8 flat_image_end[];

#define RAM_BYTES (16 * MiB)
#define PML4_GPA  0x1000ull
#define PDPT_GPA  0x2000ull
#define STACK_TOP 0x90000ull
#define IMAGE_GPA 0x100000ull
#define RUNS      3

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "mips: %s: %s\n", what, e->msg);
    exit(1);
}

/* 64-bit mode, CPL 0, the first GiB mapped one to one by a 1 GiB page. */
static void enter_long_mode(struct x86_state *s)
{
    const u16 code = SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED | SEG_L | SEG_G;
    const u16 data = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED | SEG_DB | SEG_G;

    x86_state_reset(s, false);
    s->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
    s->cr4 = CR4_PAE | CR4_OSFXSR;
    s->cr3 = PML4_GPA;
    s->efer = EFER_LME | EFER_LMA;
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i] = (struct x86_seg){.limit = 0xffffffff, .sel = 0x10, .attr = data};
    s->seg[X86_CS] = (struct x86_seg){.limit = 0xffffffff, .sel = 0x08, .attr = code};
    s->gpr[X86_RSP] = STACK_TOP;
    s->rip = IMAGE_GPA;
}

struct bench {
    struct mem *mem;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu;
    struct clock *clock;
    const struct engine *engine;
    u64 instructions; /* last value of the engine's counter */
};

static void count(void *arg, const char *name, u64 value)
{
    if (strstr(name, ".instructions"))
        ((struct bench *)arg)->instructions = value;
}

static u64 instructions(struct bench *b)
{
    b->engine->stats(b->vm, count, b);
    return b->instructions;
}

static void setup(struct bench *b, const struct engine *engine)
{
    static struct x86_cpuid_model model;
    struct engine_vm_config cfg = {.cpuid = &model};
    struct err e = {0};
    u64 pml4e = PDPT_GPA | 3, pdpte = 0x83;

    b->engine = engine;
    if (clock_create_real(&b->clock, &e) || x86_cpuid_model(&model, "ring3-v2", 1, &e) ||
        mem_create(&b->mem, &e) || mem_add_ram(b->mem, 0, RAM_BYTES, &e) ||
        bus_create(&cfg.pio, "pio", 0x10000, &e) || bus_create(&cfg.mmio, "mmio", 1ull << 46, &e))
        die("set-up", &e);
    cfg.mem = b->mem;
    size_t bytes = flat_image_end - flat_image;
    if (mem_write(b->mem, IMAGE_GPA, flat_image, bytes) || mem_write(b->mem, PML4_GPA, &pml4e, 8) ||
        mem_write(b->mem, PDPT_GPA, &pdpte, 8))
        die("loading the image", &e);
    if (engine->vm_create(&cfg, &b->vm, &e) ||
        engine->vcpu_create(b->vm, 0, &idle_env, &b->vcpu, &e))
        die(engine->name, &e);
}

/* Seconds and instructions of one run under the engine; the checksum in *sum. */
static double run_guest(struct bench *b, unsigned k, u64 *sum, u64 *insns)
{
    struct x86_state s;
    struct vcpu_exit exit_info;
    struct err e = {0};

    enter_long_mode(&s);
    s.gpr[X86_RDI] = k;
    s.gpr[X86_RSI] = kernels[k].rounds;
    if (b->engine->vcpu_set_state(b->vcpu, &s, &e))
        die("state", &e);
    u64 before = instructions(b), t0 = clock_now_ns(b->clock);
    b->engine->vcpu_run(b->vcpu, &exit_info);
    u64 t1 = clock_now_ns(b->clock);
    b->engine->vcpu_get_state(b->vcpu, &s);
    if (exit_info.reason != VCPU_EXIT_HALTED) {
        fprintf(stderr, "mips: %s: left with reason %d at RIP %#llx\n", kernels[k].name,
                exit_info.reason, (unsigned long long)s.rip);
        exit(1);
    }
    *sum = s.gpr[X86_RAX];
    *insns = instructions(b) - before;
    return (double)(t1 - t0) / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    struct bench b = {0};

    setup(&b, &engine_interp);
    printf("%-8s %12s %12s %14s %10s %8s\n", "kernel", "native ms", "interp ms", "instructions",
           "million/s", "ratio");
    for (unsigned k = 0; kernels[k].name; k++) {
        double native[RUNS], guest[RUNS];
        u64 sum, insns = 0;
        for (unsigned r = 0; r < RUNS; r++) {
            u64 t0 = clock_now_ns(b.clock);
            u64 want = kernels[k].run(kernels[k].rounds);
            native[r] = (double)(clock_now_ns(b.clock) - t0) / 1e9;
            guest[r] = run_guest(&b, k, &sum, &insns);
            if (sum != want) {
                fprintf(stderr, "mips: %s: checksum %#llx, natively %#llx\n", kernels[k].name,
                        (unsigned long long)sum, (unsigned long long)want);
                return 1;
            }
        }
        qsort(native, RUNS, sizeof(double), by_value);
        qsort(guest, RUNS, sizeof(double), by_value);
        double n = native[RUNS / 2], g = guest[RUNS / 2];
        printf("%-8s %12.2f %12.2f %14llu %10.1f %7.1fx\n", kernels[k].name, n * 1e3, g * 1e3,
               (unsigned long long)insns, (double)insns / g / 1e6, g / n);
    }
    return 0;
}
