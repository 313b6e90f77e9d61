/* fuzz_bt.c - any state and any bytes under engine bt, compared with the interpreter
 *
 * Input: as in x86_input.h. What the interpreter brings to an end within STEPS instructions, the
 * translator must bring to the same end: registers and memory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/interp/step.h"
#include "engine/world.h"
#include "x86/cpuid.h"
#include "x86/insn.h"
#include "x86_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS     200
#define ROM_GPA   0xf0000u
#define CODE_AREA 0x1000u /* from CODE on, HLT behind the input */

/* The same machine twice: for the interpreter, and for the engine. */
struct side {
    struct mem *mem;
    struct bus *pio, *mmio;
    u8 *ram;
};

static struct side ref, tested;
static struct x86_cpuid_model model;
static struct x86_cpu *cpu;
static struct world world;
static struct engine_vm *vm;
static struct engine_vcpu *vcpu;

/* --- world ------------------------------------------------------------------------------------ */

static bool no(void *ctx)
{
    return false;
}

static int no_vector(void *ctx)
{
    return -1;
}

static u64 fixed_tsc(void *ctx)
{
    return 12345;
}

static u64 fixed_cr8(void *ctx)
{
    return 3;
}

static void ignore(void *ctx, u64 val)
{
}

static int msr_read(void *ctx, u32 msr, u64 *val)
{
    *val = msr;
    return msr & 1 ? 0 : -EINVAL;
}

static int msr_write(void *ctx, u32 msr, u64 val)
{
    return msr & 1 ? 0 : -EINVAL;
}

static void ignore_ferr(void *ctx, bool asserted)
{
}

static int fixed_random(void *ctx, u64 *val)
{
    *val = 4;
    return 0;
}

static const struct vcpu_env env = {
    .irq_pending = no,
    .irq_ack = no_vector,
    .nmi_take = no,
    .tsc = fixed_tsc,
    .cr8_read = fixed_cr8,
    .cr8_write = ignore,
    .msr_read = msr_read,
    .msr_write = msr_write,
    .ferr = ignore_ferr,
    .random = fixed_random,
};

static void no_code_write(void *ctx, u64 gpa, unsigned size)
{
}

static void make_side(struct side *s)
{
    struct err e = {0};
    unsigned flags;

    ASSERT(!mem_create(&s->mem, &e) && !mem_add_ram(s->mem, 0, ROM_GPA, &e) &&
           !mem_add_rom(s->mem, ROM_GPA, RAM_BYTES - ROM_GPA, "\xf4", 1, &e) &&
           !bus_create(&s->pio, "PIO", 0x10000, &e) &&
           !bus_create(&s->mmio, "MMIO", BIT64(40), &e));
    s->ram = mem_page(s->mem, 0, true, &flags);
}

static void setup(void)
{
    struct err e = {0};

    make_side(&ref);
    make_side(&tested);
    ASSERT(!x86_cpuid_model(&model, "host", 1, &e));
    cpu = aligned_alloc(64, (sizeof(*cpu) + 63) & ~63ull);
    ASSERT(cpu);
    memset(cpu, 0, sizeof(*cpu));
    world = (struct world){.cpu = cpu,
                           .mem = ref.mem,
                           .pio = ref.pio,
                           .mmio = ref.mmio,
                           .env = &env,
                           .code_write = no_code_write};
    x86_cpu_init(cpu, &world_ops, &world, &model);
    struct engine_vm_config cfg = {.mem = tested.mem,
                                   .pio = tested.pio,
                                   .mmio = tested.mmio,
                                   .cpuid = &model,
                                   .bt.code_cache = MiB};
    ASSERT(!engine_bt.vm_create(&cfg, &vm, &e) && !engine_bt.vcpu_create(vm, 0, &env, &vcpu, &e));
}

/* --- run -------------------------------------------------------------------------------------- */

/* Undefined flags, which may be pushed or branched on; a long `rep`, which takes for ever. */
static bool unfit(const struct x86_insn *in)
{
    u64 count = cpu->s.gpr[X86_RCX];

    if (in->asize != 8)
        count = in->asize == 4 ? (u32)count : (u16)count;
    return in->flags_write & ~in->flags_set ||
           (in->prefix & (X86_PFX_REP | X86_PFX_REPNE) && count > 10000);
}

/* False: no end in sight. *rc is how it ended. */
static bool run_reference(const struct x86_state *s, int *rc)
{
    x86_cpu_set_state(cpu, s);
    for (unsigned i = 0; i < STEPS; i++) {
        struct x86_insn in;
        u64 gpa, gpa2;
        *rc = x86_attn(cpu) ? x86_boundary(cpu) : X86_OK;
        if (*rc == X86_OK) {
            struct x86_exc exc = cpu->exc;
            if (x86_fetch(cpu, &in, &gpa, &gpa2) == X86_OK && unfit(&in))
                return false;
            cpu->exc = exc;
            *rc = interp_step(cpu);
        }
        if (*rc == X86_HALT)
            *rc = x86_boundary(cpu); /* what the engines do: it may go on */
        if (*rc == X86_HALT || *rc == X86_SHUTDOWN)
            return true;
    }
    return false;
}

/* Page tables that changed under a TLB allow more than one result. */
static bool tables_intact(void)
{
    const u64 marks = BIT64(5) | BIT64(6); /* accessed, dirty */

    for (u32 at = TABLES; at < TABLES + 0x3000; at += 8) {
        u64 now, before;
        memcpy(&now, ref.ram + at, 8);
        memcpy(&before, tested.ram + at, 8);
        if ((now ^ before) & ~marks)
            return false;
    }
    return true;
}

static void copy_in(const struct x86_state *s)
{
    struct err e = {0};

    ASSERT(!mem_write(tested.mem, 0, ref.ram, ROM_GPA));
    if (engine_bt.vcpu_set_state(vcpu, s, &e))
        assert_failed(e.msg, __FILE__, __LINE__);
}

static void compare(const struct x86_state *a, const struct x86_state *b)
{
    for (unsigned i = 0; i <= X86_REG_RIP; i++)
        if (a->r[i] != b->r[i])
            fprintf(stderr, "register %u: interpreter %#llx, translator %#llx\n", i,
                    (unsigned long long)a->r[i], (unsigned long long)b->r[i]);
    if (a->rflags != b->rflags)
        fprintf(stderr, "rflags: interpreter %#llx, translator %#llx\n",
                (unsigned long long)a->rflags, (unsigned long long)b->rflags);
    ASSERT(!memcmp(a->r, b->r, sizeof(a->r)) && a->rflags == b->rflags);
    for (unsigned i = 0; i < X86_SREGS; i++)
        ASSERT(a->seg[i].sel == b->seg[i].sel && a->seg[i].base == b->seg[i].base &&
               a->seg[i].limit == b->seg[i].limit && a->seg[i].attr == b->seg[i].attr);
    ASSERT(a->cr0 == b->cr0 && a->cr2 == b->cr2 && a->cr3 == b->cr3 && a->cr4 == b->cr4);
    ASSERT(a->efer == b->efer && a->cpl == b->cpl && a->activity == b->activity);
    ASSERT(a->shadow == b->shadow && a->dr6 == b->dr6 && a->dr7 == b->dr7);
    ASSERT(!memcmp(a->fpu.vec, b->fpu.vec, sizeof(a->fpu.vec)));
    ASSERT(!memcmp(a->fpu.st, b->fpu.st, sizeof(a->fpu.st)));
    ASSERT(a->fpu.mxcsr == b->fpu.mxcsr && a->fpu.fsw == b->fpu.fsw && a->fpu.fcw == b->fpu.fcw &&
           a->fpu.ftw == b->fpu.ftw);
    ASSERT(!memcmp(ref.ram, tested.ram, ROM_GPA));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct x86_state s, end;
    struct vcpu_exit exit = {.err.code = 0};
    int rc;

    if (!vm)
        setup();
    if (size < HEAD_BYTES || size > HEAD_BYTES + 1024)
        return 0;
    memset(ref.ram, 0, ROM_GPA);
    fill_state(&s, cpu, ref.ram, data);
    memset(ref.ram + CODE, 0xf4, CODE_AREA);
    memcpy(ref.ram + CODE, data + HEAD_BYTES, size - HEAD_BYTES);
    copy_in(&s);
    if (!run_reference(&s, &rc) || !tables_intact())
        return 0;
    engine_bt.vcpu_run(vcpu, &exit);
    ASSERT(exit.reason == (rc == X86_HALT ? VCPU_EXIT_HALTED : VCPU_EXIT_SHUTDOWN));
    engine_bt.vcpu_get_state(vcpu, &end);
    compare(&cpu->s, &end);
    return 0;
}
