/* irqchip.c - the kernel's interrupt controllers: lines, messages, state; a processor's side
 *
 * While vCPUs run the local APICs, the IOAPIC and the 8259 pair are the kernel's. What the
 * interpreter asks of them, in the midst of an instruction that the kernel declined, is asked of
 * the kernel. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "engine/kvm/chips.h"
#include "engine/kvm/vcpu.h"

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC_FIRST 0x800u
#define MSR_X2APIC_LAST  0x8ffu

#define LVT_LINT1_OFFSET 0x360u
#define LVT_MASKED       BIT(16)
#define LVT_MODE_OF(lvt) ((lvt) >> 8 & 7)
#define LVT_MODE_NMI     4u

static int failed(struct err *e, int rc, const char *what)
{
    return err_set(e, -rc, "engine kvm: %s: %s", what, strerror(-rc));
}

/* ---- lines and messages ---- */

static void set_line(struct engine_vm *vm, enum irqchip_which chip, unsigned pin, bool level)
{
    struct kvm_irq_level l = {.irq = chip == IRQCHIP_PIC ? KVM_GSI_PIC + pin : pin, .level = level};

    kvm_count(vm, STAT_LINES);
    (void)kvm_ioctl(vm->fd, KVM_IRQ_LINE, &l);
}

static bool send_msi(struct engine_vm *vm, u64 addr, u32 data)
{
    struct kvm_msi m = {.address_lo = (u32)addr, .address_hi = (u32)(addr >> 32), .data = data};

    kvm_count(vm, STAT_MSIS);
    return kvm_ioctl_count(vm->fd, KVM_SIGNAL_MSI, &m) > 0;
}

static void pulse_lint1(struct engine_vm *vm)
{
    for (unsigned i = 0; i < VCPUS_MAX; i++) {
        if (!vm->vcpu[i])
            continue;
        __atomic_store_n(&vm->vcpu[i]->lint1, true, __ATOMIC_SEQ_CST);
        kvm_look(vm->vcpu[i], LOOK_EVENT);
    }
}

/* On the vCPU's thread, which alone can ask for its local vector table. */
void kvm_irqchip_lint1(struct engine_vcpu *v)
{
    struct kvm_lapic_state page;
    u32 lvt;

    if (!__atomic_exchange_n(&v->lint1, false, __ATOMIC_SEQ_CST) ||
        kvm_ioctl(v->fd, KVM_GET_LAPIC, &page))
        return;
    memcpy(&lvt, page.regs + LVT_LINT1_OFFSET, sizeof(lvt));
    if (lvt & LVT_MASKED || LVT_MODE_OF(lvt) != LVT_MODE_NMI)
        return;
    kvm_count(v->vm, STAT_NMIS);
    (void)kvm_ioctl(v->fd, KVM_NMI, NULL);
}

/* ---- a processor's side, for x86/ ---- */

static struct engine_vcpu *vcpu_of(void *w)
{
    return container_of((struct world *)w, struct engine_vcpu, world);
}

bool kvm_irqchip_msr(u32 msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

static int chip_msr_read(void *w, u32 msr, u64 *val)
{
    struct engine_vcpu *v = vcpu_of(w);
    int rc;

    if (!kvm_irqchip_msr(msr))
        return v->env->msr_read(v->env->ctx, msr, val);
    if (msr == MSR_APIC_BASE) {
        *val = v->apic_base;
        return 0;
    }
    *val = 0;
    rc = kvm_msr_access(v, KVM_GET_MSRS, msr, val);
    if (msr == MSR_TSC_DEADLINE)
        *val = kvm_deadline_from_tsc(v, *val);
    return rc;
}

static int chip_msr_write(void *w, u32 msr, u64 val)
{
    struct engine_vcpu *v = vcpu_of(w);
    int rc;

    if (!kvm_irqchip_msr(msr))
        return v->env->msr_write(v->env->ctx, msr, val);
    if (msr == MSR_TSC_DEADLINE)
        val = kvm_deadline_to_tsc(v, val);
    rc = kvm_msr_access(v, KVM_SET_MSRS, msr, &val);
    if (!rc && msr == MSR_APIC_BASE)
        v->apic_base = val;
    return rc;
}

static u64 chip_cr8_read(void *w)
{
    return vcpu_of(w)->cr8;
}

static void chip_cr8_write(void *w, u64 val)
{
    vcpu_of(w)->cr8 = val & 15;
}

/* The kernel delivers interrupts itself, once the instruction is done. */
static bool chip_irq_pending(void *w)
{
    return false;
}

static int chip_irq_ack(void *w)
{
    return -1;
}

static bool chip_nmi_take(void *w)
{
    struct engine_vcpu *v = vcpu_of(w);

    if (!v->nmis)
        return false;
    v->nmis--;
    return true;
}

void kvm_irqchip_ops(struct x86_ops *ops)
{
    ops->msr_read = chip_msr_read;
    ops->msr_write = chip_msr_write;
    ops->cr8_read = chip_cr8_read;
    ops->cr8_write = chip_cr8_write;
    ops->irq_pending = chip_irq_pending;
    ops->irq_ack = chip_irq_ack;
    ops->nmi_take = chip_nmi_take;
}

/* ---- state ---- */

static int get_lapic(struct engine_vcpu *v, struct irqchip_lapic *l, struct err *e)
{
    struct kvm_lapic_state page;
    u64 deadline = 0;
    int rc = kvm_state_out(v, e);

    if (rc)
        return rc;
    rc = kvm_ioctl(v->fd, KVM_GET_LAPIC, &page);
    if (!rc)
        rc = kvm_msr_access(v, KVM_GET_MSRS, MSR_TSC_DEADLINE, &deadline);
    if (rc)
        return failed(e, rc, "reading a local APIC");
    l->base = v->apic_base;
    kvm_to_lapic(&page, l);
    l->tpr = (l->tpr & 15) | (u32)v->cr8 << 4; /* the interpreter may have changed it */
    l->deadline = kvm_deadline_from_tsc(v, deadline);
    l->nmis = (u8)MIN(v->nmis, 2u);
    v->nmis = 0;
    return 0;
}

/* The deadline is set when the processor's TSC is. As the timer's mode changes, the kernel drops
 * the count: the page goes in once more. */
static int set_lapic(struct engine_vcpu *v, const struct irqchip_lapic *l, struct err *e)
{
    struct kvm_lapic_state page;
    u64 base = l->base;
    int rc = kvm_state_out(v, e);

    if (rc)
        return rc;
    kvm_from_lapic(l, &page);
    rc = kvm_msr_access(v, KVM_SET_MSRS, MSR_APIC_BASE, &base);
    for (unsigned i = 0; i < 2 && !rc; i++)
        rc = kvm_ioctl(v->fd, KVM_SET_LAPIC, &page);
    if (rc)
        return failed(e, rc, "the kernel refuses a local APIC");
    v->apic_base = l->base;
    v->cr8 = l->tpr >> 4 & 15;
    v->deadline = l->deadline;
    v->nmis = l->nmis;
    return 0;
}

/* As kvm_state_in goes on. */
int kvm_irqchip_deadline_in(struct engine_vcpu *v)
{
    u64 tsc = kvm_deadline_to_tsc(v, v->deadline);

    if (!tsc)
        return 0;
    v->deadline = 0;
    return kvm_msr_access(v, KVM_SET_MSRS, MSR_TSC_DEADLINE, &tsc);
}

static int each_chip(struct engine_vm *vm, unsigned long request, struct kvm_irqchip chip[3])
{
    int rc = 0;

    for (unsigned i = 0; i < 3 && !rc; i++) {
        chip[i].chip_id = i; /* KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC */
        rc = kvm_ioctl(vm->fd, request, &chip[i]);
    }
    return rc;
}

static int get_state(struct engine_vm *vm, struct irqchip_state *out, struct err *e)
{
    struct kvm_irqchip chip[3] = {0};
    int rc = 0;

    for (unsigned i = 0; i < VCPUS_MAX && !rc; i++)
        if (vm->vcpu[i])
            rc = get_lapic(vm->vcpu[i], &out->lapic[i], e);
    if (rc)
        return rc;
    rc = each_chip(vm, KVM_GET_IRQCHIP, chip);
    if (rc)
        return failed(e, rc, "reading the interrupt controllers");
    kvm_to_pic(&chip[0].chip.pic, &out->pic[0]);
    kvm_to_pic(&chip[1].chip.pic, &out->pic[1]);
    kvm_to_ioapic(&chip[2].chip.ioapic, &out->ioapic);
    return 0;
}

static int set_chips(struct engine_vm *vm, const struct irqchip_state *in)
{
    struct kvm_irqchip chip[3] = {0};
    int rc = each_chip(vm, KVM_GET_IRQCHIP, chip); /* for what is fixed, like ELCR's mask */

    if (rc)
        return rc;
    kvm_from_pic(&in->pic[0], &chip[0].chip.pic);
    kvm_from_pic(&in->pic[1], &chip[1].chip.pic);
    kvm_from_ioapic(&in->ioapic, &chip[2].chip.ioapic);
    return each_chip(vm, KVM_SET_IRQCHIP, chip);
}

#define RTE_LEVEL BIT64(15)

/* An IOAPIC before the local APICs it sends to: these are not to get what they had already. */
static int set_state(struct engine_vm *vm, const struct irqchip_state *in, struct err *e)
{
    int rc = set_chips(vm, in);

    if (rc)
        return failed(e, rc, "the kernel refuses the interrupt controllers");
    for (unsigned i = 0; i < VCPUS_MAX && !rc; i++)
        if (vm->vcpu[i])
            rc = set_lapic(vm->vcpu[i], &in->lapic[i], e);
    for (unsigned i = 0; i < GSI_COUNT && !rc; i++)
        if (in->ioapic.level & BIT(i) && in->ioapic.entry[i] & RTE_LEVEL)
            set_line(vm, IRQCHIP_IOAPIC, i, true);
    return rc;
}

static const struct engine_irqchip kernel_irqchip = {
    .line = set_line,
    .msi = send_msi,
    .irqfd = kvm_irqfd,
    .nmi = pulse_lint1,
    .get = get_state,
    .set = set_state,
};

/* ---- life ---- */

static int extension(const struct engine_vm *vm, unsigned cap)
{
    return kvm_ioctl_count(vm->kvm, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
}

/* First capability that is missing, or NULL. */
static const char *missing(const struct engine_vm *vm)
{
    static const struct {
        unsigned cap;
        const char *name;
    } needed[] = {
        {KVM_CAP_IRQCHIP, "interrupt controllers"},
        {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
        {KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
        {KVM_CAP_MP_STATE, "processors' activity"},
        {KVM_CAP_TSC_DEADLINE_TIMER, "the TSC deadline timer"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (extension(vm, needed[i].cap) <= 0)
            return needed[i].name;
    return NULL;
}

int kvm_irqchip_init(struct engine_vm *vm, struct err *e)
{
    const char *lacks;
    int rc;

    if (vm->cfg.irqchip == IRQCHIP_MACHINE)
        return 0;
    lacks = missing(vm);
    rc = lacks ? -ENOSYS : kvm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL);
    if (rc && vm->cfg.irqchip == IRQCHIP_AUTO) {
        log_msg(LOG_INFO, "engine kvm: no interrupt controllers in the kernel (%s): ours serve",
                lacks ? lacks : strerror(-rc));
        return 0;
    }
    if (rc)
        return err_set(e, -rc,
                       "engine kvm: this host's kernel has no interrupt controllers for guests%s%s "
                       "(%s); use --irqchip user",
                       lacks ? ": it lacks " : "", lacks ? lacks : "", strerror(-rc));
    rc = kvm_routes_init(vm);
    if (rc)
        return failed(e, rc, "the kernel refuses the interrupt lines");
    vm->irqchip = true;
    kvm_irqchip_ops(&vm->ops);
    return 0;
}

const struct engine_irqchip *kvm_irqchip(struct engine_vm *vm)
{
    return vm->irqchip ? &kernel_irqchip : NULL;
}
