/* msr.c - MSRs: those that the kernel keeps, and those that the machine answers for */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kvm/kvm.h"
#include "x86/exec.h"

#define MSR_TSC_DEADLINE 0x6e0u

/* ---- what moves ---- */

/* The kernel keeps them, because hardware acts on them. */
static const struct {
    u32 msr;
    u32 offset;
} moved[] = {
#define MOVED(n, field)                      \
    {                                        \
        n, offsetof(struct x86_state, field) \
    }
    MOVED(0x03b, tsc_adjust),   MOVED(0x048, spec_ctrl),    MOVED(0x174, sysenter_cs),
    MOVED(0x175, sysenter_esp), MOVED(0x176, sysenter_eip), MOVED(0x1d9, debugctl),
    MOVED(0x277, pat),          MOVED(0xc0000081, star),    MOVED(0xc0000082, lstar),
    MOVED(0xc0000083, cstar),   MOVED(0xc0000084, sfmask),  MOVED(0xc0000102, kernel_gs_base),
    MOVED(0xc0000103, tsc_aux),
#undef MOVED
};

/* What guests reach without an exit: the above, and what moves by other ways or holds nothing. */
static const u32 direct[] = {0x010, 0x049, 0xc0000080, 0xc0000100, 0xc0000101};

/* The same of the kernel's local APIC; no filter is asked for those of the x2APIC. */
static const u32 apic[] = {0x01b, MSR_TSC_DEADLINE};

#define LIST_MAX 4096 /* of the kernel's list */

static struct kvm_msr_list *kernel_list(int kvm)
{
    struct kvm_msr_list *l = calloc(1, sizeof(*l) + LIST_MAX * sizeof(l->indices[0]));

    if (!l)
        return NULL;
    l->nmsrs = LIST_MAX;
    if (kvm_ioctl(kvm, KVM_GET_MSR_INDEX_LIST, l)) {
        free(l);
        return NULL;
    }
    return l;
}

static bool listed(const struct kvm_msr_list *l, u32 msr)
{
    for (u32 i = 0; i < l->nmsrs; i++)
        if (l->indices[i] == msr)
            return true;
    return false;
}

/* ---- the filter ---- */

#define FILTER_MSRS 0x1000u /* in each of the two ranges that the architecture uses */

static void allow(u8 *low, u8 *high, u32 msr)
{
    u8 *map = msr < FILTER_MSRS ? low : high;
    u32 bit = msr % FILTER_MSRS;

    map[bit / 8] |= (u8)BIT(bit % 8);
}

static int set_filter(struct engine_vm *vm)
{
    u8 low[FILTER_MSRS / 8] = {0}, high[FILTER_MSRS / 8] = {0};
    struct kvm_msr_filter f = {
        .flags = KVM_MSR_FILTER_DEFAULT_DENY,
        .ranges = {{KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, FILTER_MSRS, 0, low},
                   {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, FILTER_MSRS, 0xc0000000u, high}},
    };
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_X86_USER_SPACE_MSR,
        .args = {KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
                 KVM_MSR_EXIT_REASON_FILTER},
    };
    int rc;

    for (unsigned i = 0; i < vm->msrs; i++)
        allow(low, high, vm->msr[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(direct); i++)
        allow(low, high, direct[i]);
    for (unsigned i = 0; vm->irqchip && i < ARRAY_SIZE(apic); i++)
        allow(low, high, apic[i]);
    rc = kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
    return rc ? rc : kvm_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f);
}

int kvm_msr_init(struct engine_vm *vm, struct err *e)
{
    struct kvm_msr_list *l = kernel_list(vm->kvm);
    int rc;

    if (!l)
        return err_set(e, EIO, "engine kvm: the kernel does not say which MSRs it has");
    for (unsigned i = 0; i < ARRAY_SIZE(moved); i++)
        if (listed(l, moved[i].msr))
            vm->msr[vm->msrs++] = moved[i].msr;
    free(l);
    rc = set_filter(vm);
    if (rc)
        return err_set(e, -rc,
                       "engine kvm: the kernel cannot hand MSRs to us (%s): Linux 5.10 or newer is "
                       "needed; use -e bt",
                       strerror(-rc));
    return 0;
}

/* ---- moving ---- */

int kvm_msr_access(struct engine_vcpu *v, unsigned long request, u32 msr, u64 *val)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } b = {.head.nmsrs = 1, .entry = {.index = msr, .data = *val}};
    int rc = kvm_ioctl_count(v->fd, request, &b);

    *val = b.entry.data;
    return rc == 1 ? 0 : -EINVAL;
}

struct msr_buf {
    struct kvm_msrs head;
    struct kvm_msr_entry entry[ARRAY_SIZE(moved)];
};

static u64 *field_of(struct x86_state *s, u32 msr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(moved); i++)
        if (moved[i].msr == msr)
            return (u64 *)((u8 *)s + moved[i].offset);
    return NULL;
}

/* An MSR that the model does not have is one that the kernel refuses: it goes on behind it. */
static int each_run(struct engine_vcpu *v, struct msr_buf *b, unsigned long request)
{
    unsigned done = 0, n = v->vm->msrs;

    while (done < n) {
        struct msr_buf part = {.head.nmsrs = n - done};
        int rc;

        memcpy(part.entry, b->entry + done, (n - done) * sizeof(part.entry[0]));
        rc = kvm_ioctl_count(v->fd, request, &part);
        if (rc < 0)
            return rc;
        memcpy(b->entry + done, part.entry, MIN((unsigned)rc, n - done) * sizeof(part.entry[0]));
        for (unsigned i = 0; i < MIN((unsigned)rc, n - done); i++)
            b->entry[done + i].reserved = 1; /* done */
        done += (unsigned)rc + 1;
    }
    return 0;
}

int kvm_msr_out(struct engine_vcpu *v, struct x86_state *s)
{
    struct msr_buf b = {.head.nmsrs = v->vm->msrs};
    int rc;

    for (unsigned i = 0; i < v->vm->msrs; i++)
        b.entry[i].index = v->vm->msr[i];
    rc = each_run(v, &b, KVM_GET_MSRS);
    for (unsigned i = 0; i < v->vm->msrs && !rc; i++)
        if (b.entry[i].reserved)
            *field_of(s, v->vm->msr[i]) = b.entry[i].data;
    return rc;
}

int kvm_msr_in(struct engine_vcpu *v, const struct x86_state *s)
{
    struct msr_buf b = {.head.nmsrs = v->vm->msrs};

    for (unsigned i = 0; i < v->vm->msrs; i++) {
        b.entry[i].index = v->vm->msr[i];
        b.entry[i].data = *field_of((struct x86_state *)s, v->vm->msr[i]);
    }
    return each_run(v, &b, KVM_SET_MSRS);
}

/* ---- exits ---- */

static int deadline_write(struct engine_vcpu *v, u64 val)
{
    return v->env->msr_write(v->env->ctx, MSR_TSC_DEADLINE, kvm_deadline_from_tsc(v, val));
}

static int deadline_read(struct engine_vcpu *v, u64 *val)
{
    int rc = v->env->msr_read(v->env->ctx, MSR_TSC_DEADLINE, val);

    if (!rc)
        *val = kvm_deadline_to_tsc(v, *val);
    return rc;
}

/* What is not the kernel's is in cpu->s or with the board; x86/ knows which, and what is valid. */
void kvm_msr_exit(struct engine_vcpu *v)
{
    struct kvm_run *run = v->run;
    u32 msr = run->msr.index;
    u64 val = run->msr.data;
    int rc;

    kvm_count(v->vm, STAT_MSR);
    if (v->vm->irqchip && kvm_irqchip_msr(msr)) {
        rc = -EINVAL; /* it has them, and refused */
    } else if (run->exit_reason == KVM_EXIT_X86_RDMSR) {
        val = 0;
        rc = msr == MSR_TSC_DEADLINE ? deadline_read(v, &val) : x86_msr_read(v->cpu, msr, &val);
        run->msr.data = val;
    } else {
        rc = msr == MSR_TSC_DEADLINE ? deadline_write(v, val) : x86_msr_write(v->cpu, msr, val);
    }
    run->msr.error = rc != 0;
    v->unfinished = true;
}
