/* world.c - x86_ops over mem/, the buses and vcpu_env */
#include "engine/world.h"

static bool world_page(void *w, u64 gpa, bool write, struct x86_page *out)
{
    struct world *wd = w;
    unsigned flags;
    u8 *hva = mem_page_near(wd->mem, &wd->hint, gpa, write, &flags);

    if (!hva)
        return false;
    out->hva = hva;
    out->writable = !(flags & MEM_ROM);
    out->code = flags & MEM_CODE;
    return true;
}

static u64 world_mmio_read(void *w, u64 gpa, unsigned size)
{
    return bus_read(((struct world *)w)->mmio, gpa, size);
}

static void world_mmio_write(void *w, u64 gpa, unsigned size, u64 val)
{
    bus_write(((struct world *)w)->mmio, gpa, size, val);
}

static void world_code_write(void *w, u64 gpa, unsigned size)
{
    struct world *wd = w;
    wd->code_write(wd->code_ctx, gpa, size);
}

static u64 world_io_in(void *w, u16 port, unsigned size)
{
    return bus_read(((struct world *)w)->pio, port, size);
}

static void world_io_out(void *w, u16 port, unsigned size, u64 val)
{
    bus_write(((struct world *)w)->pio, port, size, val);
}

#define ENV (((struct world *)w)->env)

static u64 world_tsc(void *w)
{
    return ENV->tsc(ENV->ctx);
}

static u64 world_cr8_read(void *w)
{
    return ENV->cr8_read(ENV->ctx);
}

static void world_cr8_write(void *w, u64 val)
{
    ENV->cr8_write(ENV->ctx, val);
}

static int world_msr_read(void *w, u32 msr, u64 *val)
{
    return ENV->msr_read(ENV->ctx, msr, val);
}

static int world_msr_write(void *w, u32 msr, u64 val)
{
    return ENV->msr_write(ENV->ctx, msr, val);
}

static bool world_irq_pending(void *w)
{
    return ENV->irq_pending(ENV->ctx);
}

static int world_irq_ack(void *w)
{
    return ENV->irq_ack(ENV->ctx);
}

static bool world_nmi_take(void *w)
{
    return ENV->nmi_take(ENV->ctx);
}

static void world_ferr(void *w, bool asserted)
{
    ENV->ferr(ENV->ctx, asserted);
}

static int world_random(void *w, u64 *val)
{
    return ENV->random(ENV->ctx, val);
}

static int world_send_ipis(void *w, unsigned __int128 map, u64 first, u64 icr)
{
    return ENV->send_ipis ? ENV->send_ipis(ENV->ctx, map, first, icr) : -X86_KVM_ENOSYS;
}

const struct x86_ops world_ops = {
    .page = world_page,
    .mmio_read = world_mmio_read,
    .mmio_write = world_mmio_write,
    .code_write = world_code_write,
    .io_in = world_io_in,
    .io_out = world_io_out,
    .tsc = world_tsc,
    .cr8_read = world_cr8_read,
    .cr8_write = world_cr8_write,
    .msr_read = world_msr_read,
    .msr_write = world_msr_write,
    .irq_pending = world_irq_pending,
    .irq_ack = world_irq_ack,
    .nmi_take = world_nmi_take,
    .ferr = world_ferr,
    .random = world_random,
    .send_ipis = world_send_ipis,
};
