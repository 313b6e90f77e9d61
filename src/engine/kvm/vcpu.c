/* vcpu.c - running a vCPU: events in, KVM_RUN, exits answered; kicks */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/interp/step.h"
#include "engine/kvm/vcpu.h"

#define NMIS_MAX 4 /* taken from the world at once; the kernel keeps two */

/* ---- kicks ---- */

/* KVM_RUN returns at once when immediate_exit is set as it begins, and on a signal later. So
 * whoever wants the vCPU sets what it is to look at, then immediate_exit, then looks whether it
 * runs; the vCPU says that it runs, clears immediate_exit, and looks at the last. */
void kvm_look(struct engine_vcpu *v, u32 what)
{
    __atomic_fetch_or(&v->look, what, __ATOMIC_SEQ_CST);
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&v->running, __ATOMIC_SEQ_CST))
        syscall(SYS_tgkill, getpid(), __atomic_load_n(&v->tid, __ATOMIC_SEQ_CST), kvm_signal());
}

/* The thread is one that lets the signal in from now on. */
static void enter_thread(struct engine_vcpu *v)
{
    static _Thread_local int tid;
    sigset_t set;

    if (!tid) {
        sigemptyset(&set);
        sigaddset(&set, kvm_signal());
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        tid = (int)syscall(SYS_gettid);
    }
    __atomic_store_n(&v->tid, tid, __ATOMIC_SEQ_CST);
}

/* CR8 and what the kernel says of interrupts are exchanged with every run, when the interrupt
 * controllers are the machine's. */
int kvm_run_once(struct engine_vcpu *v)
{
    struct kvm_run *run = v->run;
    u64 cr8;
    int rc;

    kvm_count(v->vm, STAT_RUNS);
    if (v->vm->irqchip)
        return ioctl(v->fd, KVM_RUN, NULL) < 0 ? -errno : 0;
    cr8 = v->env->cr8_read(v->env->ctx);
    run->cr8 = cr8;
    rc = ioctl(v->fd, KVM_RUN, NULL) < 0 ? -errno : 0;
    if (run->cr8 != cr8)
        v->env->cr8_write(v->env->ctx, run->cr8);
    v->open = run->ready_for_interrupt_injection;
    return rc;
}

/* ---- events in ---- */

static void inject_nmis(struct engine_vcpu *v)
{
    if (!(__atomic_load_n(&v->look, __ATOMIC_SEQ_CST) & LOOK_EVENT))
        return;
    __atomic_fetch_and(&v->look, ~LOOK_EVENT, __ATOMIC_SEQ_CST);
    if (v->vm->irqchip) {
        kvm_irqchip_lint1(v);
        return;
    }
    for (unsigned i = 0; i < NMIS_MAX && v->env->nmi_take(v->env->ctx); i++) {
        v->halted = false;
        kvm_count(v->vm, STAT_NMIS);
        (void)kvm_ioctl(v->fd, KVM_NMI, NULL);
    }
}

static void inject_irq(struct engine_vcpu *v)
{
    const struct vcpu_env *env = v->env;
    bool pending;

    if (v->vm->irqchip)
        return;
    pending = env->irq_pending(env->ctx);
    if (pending && v->open) {
        int vector = env->irq_ack(env->ctx);
        struct kvm_interrupt irq = {.irq = (u32)vector};

        if (vector >= 0 && !kvm_ioctl(v->fd, KVM_INTERRUPT, &irq)) {
            kvm_count(v->vm, STAT_IRQS);
            v->open = v->halted = false;
        }
        pending = env->irq_pending(env->ctx);
    }
    v->run->request_interrupt_window = pending;
}

/* ---- without the kernel ---- */

bool kvm_nmi_take(void *w)
{
    struct engine_vcpu *v = container_of((struct world *)w, struct engine_vcpu, world);

    if (!v->nmis)
        return v->env->nmi_take(v->env->ctx);
    v->nmis--;
    return true;
}

/* With the kernel's interrupt controllers HLT is spent in the kernel. */
static enum kvm_next next_of(const struct engine_vcpu *v, int rc)
{
    switch (rc) {
    case X86_HALT: return v->vm->irqchip ? NEXT_RUN : NEXT_HALT;
    case X86_SHUTDOWN: return NEXT_SHUTDOWN;
    default: return NEXT_RUN;
    }
}

/* Pending events are x86/'s to deliver: the kernel gets a processor between two instructions. */
static enum kvm_next enter_kernel(struct engine_vcpu *v, struct err *e)
{
    int rc;

    x86_attn_set(v->cpu, X86_ATTN_IRQ | X86_ATTN_NMI);
    rc = x86_boundary(v->cpu);
    if (rc == X86_KICKED)
        return NEXT_RUN;
    if (rc && !(rc == X86_HALT && v->vm->irqchip))
        return next_of(v, rc);
    return kvm_state_in(v, e) ? NEXT_FAILED : NEXT_RUN;
}

/* One instruction that the kernel declined. */
static enum kvm_next step(struct engine_vcpu *v, struct err *e)
{
    int rc;

    bool declined = v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
                    v->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION;

    if (kvm_state_out(v, e))
        return NEXT_FAILED;
    /* Beside telling us of it, kernels queue #UD for what they cannot emulate. */
    if (declined && v->cpu->s.exc_vector == X86_UD)
        v->cpu->s.exc_pending = false;
    rc = x86_boundary(v->cpu);
    if (rc == X86_OK) {
        kvm_count(v->vm, STAT_STEPS);
        rc = interp_step(v->cpu);
    }
    return next_of(v, rc);
}

/* ---- the loop ---- */

static enum kvm_next run_failed(struct engine_vcpu *v, int rc, struct err *e)
{
    (void)err_set(e, -rc, "engine kvm: vCPU %u cannot run: %s", v->id, strerror(-rc));
    return NEXT_FAILED;
}

/* In the kernel, as far as the next exit. */
static enum kvm_next run_kernel(struct engine_vcpu *v, struct err *e)
{
    enum kvm_next next = NEXT_RUN;
    int rc = 0;

    inject_nmis(v);
    inject_irq(v);
    if (v->halted)
        return NEXT_HALT;
    __atomic_store_n(&v->running, true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    bool look = __atomic_load_n(&v->look, __ATOMIC_SEQ_CST);
    if (!look) {
        v->unfinished = false;
        rc = kvm_run_once(v);
    }
    __atomic_store_n(&v->running, false, __ATOMIC_SEQ_CST);
    if (look)
        return NEXT_RUN;
    if (rc == -EINTR || rc == -EAGAIN) {
        kvm_count(v->vm, STAT_INTERRUPTED);
        return NEXT_RUN;
    }
    if (rc)
        return run_failed(v, rc, e);
    next = kvm_exit(v, e);
    if (next == NEXT_HALT)
        v->halted = true;
    return next == NEXT_STEP ? step(v, e) : next;
}

/* An event ends HLT, when the processor lets it in; the kernel has left HLT behind already. */
static bool wakes(struct engine_vcpu *v)
{
    inject_nmis(v);
    if (v->halted && v->run->if_flag && v->env->irq_pending(v->env->ctx))
        v->halted = false;
    return !v->halted;
}

static enum kvm_next run_some(struct engine_vcpu *v, struct err *e)
{
    if (!v->in_kernel)
        return enter_kernel(v, e);
    if (v->halted && !wakes(v))
        return NEXT_HALT;
    return run_kernel(v, e);
}

static bool kicked(struct engine_vcpu *v)
{
    if (!(__atomic_load_n(&v->look, __ATOMIC_SEQ_CST) & LOOK_KICK))
        return false;
    __atomic_fetch_and(&v->look, ~LOOK_KICK, __ATOMIC_SEQ_CST);
    return true;
}

void kvm_vcpu_run(struct engine_vcpu *v, struct vcpu_exit *exit)
{
    exit->err.code = 0;
    enter_thread(v);
    if (v->in_kernel)
        kvm_tsc_resume(v);
    for (;;) {
        if (kicked(v)) {
            exit->reason = VCPU_EXIT_KICKED;
            return;
        }
        if (v->failed || v->vm->slot_failed) {
            exit->reason = VCPU_EXIT_FAILED;
            exit->err = v->err;
            (void)err_set(&exit->err, EIO, "engine kvm: the kernel refused a memory slot");
            return;
        }
        switch (run_some(v, &exit->err)) {
        case NEXT_RUN:
        case NEXT_STEP: continue;
        case NEXT_HALT:
            if (v->halted && wakes(v))
                continue;
            exit->reason = VCPU_EXIT_HALTED;
            return;
        case NEXT_SHUTDOWN: exit->reason = VCPU_EXIT_SHUTDOWN; return;
        case NEXT_FAILED: exit->reason = VCPU_EXIT_FAILED; return;
        }
    }
}
