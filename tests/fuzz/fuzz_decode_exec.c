/* fuzz_decode_exec.c - any state and any bytes: decode, execute, deliver, for up to 64
 * instructions
 *
 * Input: as in x86_input.h. The processor must neither hang nor leave its world, and must stay in a
 * state that x86_state_check accepts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "x86/cpuid.h"
#include "x86/insn.h"
#include "x86_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS 64

static u8 *ram;
static struct x86_cpu *cpu;
static struct x86_cpuid_model model;
static unsigned device_accesses;

/* --- world ------------------------------------------------------------------------------------ */

static bool w_page(void *w, u64 gpa, bool write, struct x86_page *out)
{
    if (gpa >= RAM_BYTES)
        return false;
    out->hva = ram + gpa;
    out->writable = gpa < 0xf0000;
    out->code = gpa == CODE;
    return true;
}

/* Long repeats over device memory are cut short. */
static void device_access(void)
{
    if (++device_accesses > 256)
        x86_attn_set(cpu, X86_ATTN_KICK);
}

static u64 w_mmio_read(void *w, u64 gpa, unsigned size)
{
    device_access();
    return 0x5a5a5a5a5a5a5a5a;
}

static void w_mmio_write(void *w, u64 gpa, unsigned size, u64 val)
{
    device_access();
}

static void w_code_write(void *w, u64 gpa, unsigned size)
{
    x86_attn_set(cpu, X86_ATTN_CODE);
}

static u64 w_io_in(void *w, u16 port, unsigned size)
{
    device_access();
    return port;
}

static void w_io_out(void *w, u16 port, unsigned size, u64 val)
{
    device_access();
}

static u64 w_tsc(void *w)
{
    return 12345;
}

static u64 w_cr8_read(void *w)
{
    return 3;
}

static void w_cr8_write(void *w, u64 val)
{
}

static int w_msr_read(void *w, u32 msr, u64 *val)
{
    *val = msr;
    return msr & 1 ? 0 : -EINVAL;
}

static int w_msr_write(void *w, u32 msr, u64 val)
{
    return msr & 1 ? 0 : -EINVAL;
}

static bool w_irq_pending(void *w)
{
    return device_accesses & 1;
}

static int w_irq_ack(void *w)
{
    return 0x31;
}

static bool w_nmi_take(void *w)
{
    return false;
}

static void w_ferr(void *w, bool asserted)
{
}

static int w_random(void *w, u64 *val)
{
    *val = 4;
    return 0;
}

static const struct x86_ops ops = {
    .page = w_page,
    .mmio_read = w_mmio_read,
    .mmio_write = w_mmio_write,
    .code_write = w_code_write,
    .io_in = w_io_in,
    .io_out = w_io_out,
    .tsc = w_tsc,
    .cr8_read = w_cr8_read,
    .cr8_write = w_cr8_write,
    .msr_read = w_msr_read,
    .msr_write = w_msr_write,
    .irq_pending = w_irq_pending,
    .irq_ack = w_irq_ack,
    .nmi_take = w_nmi_take,
    .ferr = w_ferr,
    .random = w_random,
};

/* --- run -------------------------------------------------------------------------------------- */

static int step(void)
{
    struct x86_insn in;
    u64 gpa, gpa2, rflags = cpu->s.rflags;
    u8 shadow = cpu->s.shadow;
    bool stepping = x86_attn(cpu) & (X86_ATTN_STEP | X86_ATTN_SHADOW);

    cpu->insn_rip = cpu->s.rip;
    int rc = x86_fetch(cpu, &in, &gpa, &gpa2);
    if (rc == X86_OK)
        rc = x86_exec(cpu, &in);
    if (rc == X86_FAULT)
        return x86_deliver(cpu);
    if (stepping)
        x86_retire(cpu, rflags, shadow);
    return rc;
}

static void check_state(void)
{
    struct err e = {0};

    ASSERT(!cpu->s.zero);
    if (x86_state_check(&cpu->s, &e))
        assert_failed(e.msg, __FILE__, __LINE__);
}

static void setup(void)
{
    struct err e = {0};
    u8 *space = mmap(NULL, RAM_BYTES + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ASSERT(space != MAP_FAILED);
    ram = space + 4096;
    ASSERT(!mprotect(ram, RAM_BYTES, PROT_READ | PROT_WRITE));
    cpu = aligned_alloc(64, (sizeof(*cpu) + 63) & ~63ull);
    ASSERT(cpu && !x86_cpuid_model(&model, "host", 1, &e));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct x86_state s;

    if (!ram)
        setup();
    if (size < HEAD_BYTES || size > HEAD_BYTES + 1024)
        return 0;
    memset(ram, 0, 0x10000);
    x86_cpu_init(cpu, &ops, NULL, &model);
    fill_state(&s, cpu, ram, data);
    memcpy(ram + CODE, data + HEAD_BYTES, size - HEAD_BYTES);
    device_accesses = 0;
    x86_cpu_set_state(cpu, &s);
    check_state();
    for (unsigned i = 0; i < STEPS; i++) {
        int rc = X86_OK;
        if (x86_attn(cpu))
            rc = x86_boundary(cpu);
        if (rc == X86_OK)
            rc = step();
        check_state();
        if (rc == X86_SHUTDOWN || rc == X86_HALT)
            break;
    }
    x86_cpu_fini(cpu);
    return 0;
}
