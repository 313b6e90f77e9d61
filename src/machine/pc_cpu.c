/* pc_cpu.c - what the board does for one processor: interrupts, TPR, MSRs */
#include <errno.h>

#include "machine/pc_priv.h"

/* A bus access carries no processor number, but local APICs share one address. So each vCPU
 * thread says once whose it is. Thread-local and not per board: a thread runs one vCPU of one
 * machine at a time. */
static _Thread_local struct {
    const struct pc *pc;
    unsigned cpu;
} current;

void pc_cpu_enter(struct pc *pc, unsigned cpu)
{
    ASSERT(cpu < pc->cfg.cpus);
    current.pc = pc;
    current.cpu = cpu;
}

struct pc_cpu *pc_current_cpu(struct pc *pc)
{
    bool mine = current.pc == pc && current.cpu < pc->cfg.cpus;
    return &pc->cpu[mine ? current.cpu : 0];
}

static void cpu_enter(void *ctx)
{
    const struct pc_cpu *c = ctx;
    pc_cpu_enter(c->pc, c->id);
}

static bool irq_pending(void *ctx)
{
    struct pc_cpu *c = ctx;
    return lapic_pending(&c->lapic);
}

static int irq_ack(void *ctx)
{
    struct pc_cpu *c = ctx;
    bool taken = pc_irq_enter(c->pc);
    int vector = lapic_ack(&c->lapic);
    pc_irq_leave(c->pc, taken);
    return vector;
}

static bool nmi_take(void *ctx)
{
    struct pc_cpu *c = ctx;
    return lapic_nmi_take(&c->lapic);
}

static u64 tsc(void *ctx)
{
    const struct pc_cpu *c = ctx;
    return clock_now_ns(c->pc->cfg.clock);
}

static u64 cr8_read(void *ctx)
{
    const struct pc_cpu *c = ctx;
    return lapic_cr8(&c->lapic);
}

static void cr8_write(void *ctx, u64 val)
{
    struct pc_cpu *c = ctx;
    bool taken = pc_irq_enter(c->pc);
    lapic_set_cr8(&c->lapic, (u8)val);
    pc_irq_leave(c->pc, taken);
}

static int msr_read(void *ctx, u32 msr, u64 *val)
{
    struct pc_cpu *c = ctx;
    if (!pvclock_msr_read(&c->pvclock, msr, val))
        return 0;
    bool taken = pc_irq_enter(c->pc);
    int ret = lapic_msr_read(&c->lapic, msr, val);
    pc_irq_leave(c->pc, taken);
    return ret;
}

/* The pv clock's state belongs to the processor's own thread: no lock. */
static int msr_write(void *ctx, u32 msr, u64 val)
{
    struct pc_cpu *c = ctx;
    if (!pvclock_msr_write(&c->pvclock, msr, val))
        return 0;
    bool taken = pc_irq_enter(c->pc);
    int ret = lapic_msr_write(&c->lapic, msr, val);
    pc_irq_leave(c->pc, taken);
    return ret;
}

static void ferr(void *ctx, bool level)
{
    struct pc_cpu *c = ctx;
    pc_set_source(c->pc, SRC_FERR, PC_GSI_FERR, level);
}

/* Many processors by one call. Like KVM's, it takes no destination or shorthand in the ICR. */
static int send_ipis(void *ctx, unsigned __int128 map, u64 first, u64 icr)
{
    struct pc *pc = ((struct pc_cpu *)ctx)->pc;
    struct apic_msg m = {.vector = (u8)icr, .mode = (u8)(icr >> 8 & 7)};
    int took = 0;

    if (icr & ~0xd7ffull || m.mode == APIC_INIT || m.mode == APIC_STARTUP)
        return -EINVAL;
    bool taken = pc_irq_enter(pc);
    for (u64 n = 0; map && first + n < pc->cfg.cpus; n++, map >>= 1) {
        m.dest = (u32)(first + n);
        if (map & 1)
            took += (int)apic_bus_deliver(&pc->apics, &m);
    }
    pc_irq_leave(pc, taken);
    return took;
}

void pc_vcpu_env(struct pc *pc, unsigned cpu, struct vcpu_env *env)
{
    ASSERT(cpu < pc->cfg.cpus);
    env->ctx = &pc->cpu[cpu];
    env->irq_pending = irq_pending;
    env->irq_ack = irq_ack;
    env->nmi_take = nmi_take;
    env->tsc = tsc;
    env->cr8_read = cr8_read;
    env->cr8_write = cr8_write;
    env->msr_read = msr_read;
    env->msr_write = msr_write;
    env->ferr = ferr;
    env->send_ipis = send_ipis;
    env->enter = cpu_enter;
}

void pc_cpu_reset(struct pc *pc, unsigned cpu)
{
    ASSERT(cpu < pc->cfg.cpus);
    bool taken = pc_irq_enter(pc);
    lapic_reset(&pc->cpu[cpu].lapic, true);
    pc_irq_leave(pc, taken);
}
