/* state.c - a vCPU's whole state from and to the kernel */
#include <errno.h>
#include <string.h>

#include "engine/kvm/convert.h"
#include "engine/kvm/vcpu.h"
#include "x86/seg.h"

#define FINISH_MAX 64 /* exits that completing one instruction may take */

static int failed(struct err *e, int rc, const char *what)
{
    return err_set(e, -rc, "engine kvm: %s: %s", what, strerror(-rc));
}

/* An access that was answered is completed by KVM_RUN alone. */
static int finish(struct engine_vcpu *v, struct err *e)
{
    for (unsigned i = 0; v->unfinished; i++) {
        if (i == FINISH_MAX)
            return err_set(e, EIO, "engine kvm: an instruction does not end");
        v->unfinished = false;
        __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        int rc = kvm_run_once(v);
        if (rc == -EINTR)
            return 0;
        if (rc)
            return failed(e, rc, "KVM_RUN");
        enum kvm_next next = kvm_exit(v, e);
        if (next == NEXT_FAILED)
            return -e->code;
        if (next == NEXT_HALT)
            v->halted = true;
    }
    return 0;
}

/* ---- out ---- */

static int get_sregs(struct engine_vcpu *v, struct x86_state *s)
{
    struct kvm_sregs2 k = {0};
    struct kvm_sregs old;
    int rc;

    if (v->vm->sregs2) {
        rc = kvm_ioctl(v->fd, KVM_GET_SREGS2, &k);
    } else {
        rc = kvm_ioctl(v->fd, KVM_GET_SREGS, &old);
        memcpy(&k, &old, offsetof(struct kvm_sregs, interrupt_bitmap));
    }
    if (rc)
        return rc;
    if (v->vm->irqchip) {
        v->apic_base = k.apic_base;
        v->cr8 = k.cr8;
    }
    kvm_to_sregs(&k, s);
    if (k.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
        memcpy(s->pdpte, k.pdptrs, sizeof(s->pdpte));
    return 0;
}

static int get_fpu(struct engine_vcpu *v, struct x86_state *s)
{
    struct kvm_xsave x;
    struct kvm_xcrs c = {0};
    int rc = kvm_ioctl(v->fd, KVM_GET_XSAVE, &x);

    if (rc)
        return rc;
    kvm_to_fpu(&x, &s->fpu);
    if (!v->vm->xcrs)
        return 0;
    rc = kvm_ioctl(v->fd, KVM_GET_XCRS, &c);
    if (!rc && c.nr_xcrs)
        s->xcr0 = c.xcrs[0].value;
    return rc;
}

/* INIT and SIPI that arrived are executed by asking, so this comes before all else. */
static int get_activity(struct engine_vcpu *v, u8 *activity)
{
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
    int rc = v->vm->irqchip ? kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp) : 0;

    switch (mp.mp_state) {
    case KVM_MP_STATE_HALTED: *activity = X86_HALTED; break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED: *activity = X86_WAIT_SIPI; break;
    default: *activity = v->halted ? X86_HALTED : X86_ACTIVE; break;
    }
    return rc;
}

/* What the kernel took from us and did not deliver. An INT n on its way is executed again. */
static void take_back(struct engine_vcpu *v, const struct kvm_vcpu_events *k)
{
    struct x86_cpu *cpu = v->cpu;

    v->nmis += k->nmi.pending;
    if (k->nmi.injected) {
        v->nmis++;
        cpu->s.shadow &= (u8)~X86_BLOCK_NMI;
    }
    if (!k->interrupt.injected || k->interrupt.soft)
        return;
    cpu->s.activity = X86_ACTIVE;
    int rc = x86_event_deliver(cpu, k->interrupt.nr, X86_EV_HARDWARE, false, 0);
    if (rc == X86_FAULT)
        rc = x86_deliver(cpu);
    (void)rc; /* a shutdown is in the state */
}

int kvm_state_out(struct engine_vcpu *v, struct err *e)
{
    struct x86_state s;
    struct kvm_regs regs;
    struct kvm_debugregs debug;
    struct kvm_vcpu_events events;
    u8 activity;
    int rc;

    if (!v->in_kernel)
        return 0;
    rc = finish(v, e);
    if (rc)
        return rc;
    kvm_count(v->vm, STAT_STATE_OUT);
    rc = get_activity(v, &activity);
    if (!rc)
        rc = kvm_tsc_out(v);
    s = v->cpu->s;
    if (!rc)
        rc = kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
    if (rc)
        return failed(e, rc, "reading a processor's registers");
    kvm_to_regs(&regs, &s);
    if ((rc = get_sregs(v, &s)) || (rc = get_fpu(v, &s)) || (rc = kvm_msr_out(v, &s)) ||
        (rc = kvm_ioctl(v->fd, KVM_GET_DEBUGREGS, &debug)) ||
        (rc = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events)))
        return failed(e, rc, "reading a processor's state");
    kvm_to_debugregs(&debug, &s);
    kvm_to_events(&events, &s);
    s.activity = activity;
    rc = x86_state_check(&s, e);
    if (rc)
        return rc;
    x86_cpu_set_state(v->cpu, &s);
    v->in_kernel = v->halted = v->open = false;
    take_back(v, &events);
    return 0;
}

/* ---- in ---- */

static bool pae_paging(const struct x86_state *s)
{
    return s->cr0 & CR0_PG && s->cr4 & CR4_PAE && !(s->efer & EFER_LMA);
}

static int set_sregs(struct engine_vcpu *v, const struct x86_state *s)
{
    struct kvm_sregs2 k = {.apic_base = v->apic_base};
    struct kvm_sregs old = {0};

    kvm_from_sregs(s, &k);
    k.cr8 = v->cpu->ops->cr8_read(&v->world);
    if (pae_paging(s)) {
        k.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        memcpy(k.pdptrs, s->pdpte, sizeof(k.pdptrs));
    }
    if (v->vm->sregs2)
        return kvm_ioctl(v->fd, KVM_SET_SREGS2, &k);
    memcpy(&old, &k, offsetof(struct kvm_sregs, interrupt_bitmap));
    return kvm_ioctl(v->fd, KVM_SET_SREGS, &old);
}

static int set_fpu(struct engine_vcpu *v, const struct x86_state *s)
{
    struct kvm_xsave x = {0};
    struct kvm_xcrs c = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = s->xcr0}}};
    int rc = v->vm->xcrs ? kvm_ioctl(v->fd, KVM_SET_XCRS, &c) : 0;

    kvm_from_fpu(&s->fpu, v->vm->xcomponents, &x);
    return rc ? rc : kvm_ioctl(v->fd, KVM_SET_XSAVE, &x);
}

static u32 mp_state(u32 activity)
{
    switch (activity) {
    case X86_HALTED: return KVM_MP_STATE_HALTED;
    case X86_WAIT_SIPI: return KVM_MP_STATE_INIT_RECEIVED;
    default: return KVM_MP_STATE_RUNNABLE;
    }
}

int kvm_state_in(struct engine_vcpu *v, struct err *e)
{
    const struct x86_state *s = &v->cpu->s;
    struct kvm_mp_state mp = {.mp_state = mp_state(s->activity)};
    struct kvm_regs regs;
    struct kvm_debugregs debug;
    struct kvm_vcpu_events events;
    int rc;

    kvm_count(v->vm, STAT_STATE_IN);
    kvm_from_regs(s, &regs);
    kvm_from_debugregs(s, &debug);
    kvm_from_events(s, &events);
    events.nmi.pending = (u8)MIN(v->nmis, 2u);
    v->nmis = 0;
    rc = set_sregs(v, s);
    if (rc)
        return failed(e, rc, "the kernel refuses a processor's system registers");
    if ((rc = kvm_ioctl(v->fd, KVM_SET_REGS, &regs)) || (rc = set_fpu(v, s)))
        return failed(e, rc, "the kernel refuses a processor's registers");
    if ((rc = kvm_msr_in(v, s)) || (rc = kvm_tsc_in(v)) || (rc = kvm_irqchip_deadline_in(v)) ||
        (rc = kvm_ioctl(v->fd, KVM_SET_DEBUGREGS, &debug)) ||
        (rc = kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events)))
        return failed(e, rc, "the kernel refuses a processor's state");
    rc = kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp);
    if (rc && rc != -EINVAL)
        return failed(e, rc, "the kernel refuses a processor's activity");
    v->in_kernel = true;
    v->halted = v->unfinished = v->open = false;
    return 0;
}
