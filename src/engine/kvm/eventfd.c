/* eventfd.c - eventfds that guests signal, and that interrupt guests, without an exit */
#include <errno.h>
#include <stdlib.h>

#include "engine/kvm/vcpu.h"

static bool has(const struct engine_vm *vm, unsigned cap)
{
    void *arg = (void *)(uintptr_t)cap;

    return kvm_ioctl_count(vm->kvm, KVM_CHECK_EXTENSION, arg) > 0;
}

/* Without a length the kernel need not look at the instruction; older ones take one that is given:
 * drivers write 16 bits (virtio 1.2, 4.1.5.2). */
int kvm_ioeventfd(struct engine_vm *vm, u64 gpa, int fd, bool on)
{
    struct kvm_ioeventfd io = {
        .addr = gpa,
        .len = has(vm, KVM_CAP_IOEVENTFD_ANY_LENGTH) ? 0 : 2,
        .fd = fd,
        .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
    };

    return kvm_ioctl(vm->fd, KVM_IOEVENTFD, &io);
}

/* ---- wiring: every input has a number of its own, so that the board alone knows the rest ---- */

static void add_pin(struct kvm_irq_routing *t, unsigned chip, unsigned pin)
{
    t->entries[t->nr] = (struct kvm_irq_routing_entry){
        .gsi = t->nr, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {.irqchip = chip, .pin = pin}};
    t->nr++;
}

static void add_message(struct kvm_irq_routing *t, unsigned gsi, const struct kvm_msi_route *r)
{
    struct kvm_irq_routing_msi msi = {
        .address_lo = (u32)r->addr, .address_hi = (u32)(r->addr >> 32), .data = r->data};

    t->entries[t->nr++] =
        (struct kvm_irq_routing_entry){.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = msi};
}

static int set_routes_locked(struct engine_vm *vm)
{
    size_t most = KVM_GSI_MSI + IRQFDS_MAX;
    struct kvm_irq_routing *t = calloc(1, sizeof(*t) + most * sizeof(t->entries[0]));
    int rc;

    if (!t)
        return -ENOMEM;
    for (unsigned i = 0; i < GSI_COUNT; i++)
        add_pin(t, KVM_IRQCHIP_IOAPIC, i);
    for (unsigned i = 0; i < KVM_PIC_PINS; i++)
        add_pin(t, i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, i % 8);
    for (unsigned i = 0; i < IRQFDS_MAX; i++)
        if (vm->msi_route[i].used)
            add_message(t, KVM_GSI_MSI + i, &vm->msi_route[i]);
    rc = kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, t);
    free(t);
    return rc;
}

int kvm_routes_init(struct engine_vm *vm)
{
    int rc;

    lock_take(&vm->route_lock);
    rc = set_routes_locked(vm);
    lock_drop(&vm->route_lock);
    return rc;
}

/* ---- irqfds ---- */

static struct kvm_msi_route *find(struct engine_vm *vm, bool used, int fd)
{
    for (unsigned i = 0; i < IRQFDS_MAX; i++)
        if (vm->msi_route[i].used == used && (!used || vm->msi_route[i].fd == fd))
            return &vm->msi_route[i];
    return NULL;
}

static int assign(struct engine_vm *vm, const struct kvm_msi_route *r, bool on)
{
    struct kvm_irqfd irqfd = {
        .fd = (u32)r->fd,
        .gsi = KVM_GSI_MSI + (u32)(r - vm->msi_route),
        .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
    };

    return kvm_ioctl(vm->fd, KVM_IRQFD, &irqfd);
}

static int set_locked(struct engine_vm *vm, int fd, u64 addr, u32 data)
{
    struct kvm_msi_route *r = find(vm, true, fd), was;
    bool fresh = !r;
    int rc;

    if (fresh)
        r = find(vm, false, fd);
    if (!r)
        return -ENOSPC;
    was = *r;
    *r = (struct kvm_msi_route){true, fd, addr, data};
    rc = set_routes_locked(vm);
    if (!rc && fresh)
        rc = assign(vm, r, true);
    if (rc)
        *r = was;
    return rc;
}

/* The kernel waits for what is under way as it takes one back. */
int kvm_irqfd(struct engine_vm *vm, int fd, u64 addr, u32 data, bool on)
{
    struct kvm_msi_route *r;
    int rc = 0;

    if (on && addr >> 20 != 0xfee)
        return -EINVAL;
    lock_take(&vm->route_lock);
    r = find(vm, true, fd);
    if (on) {
        rc = set_locked(vm, fd, addr, data);
    } else if (r) {
        rc = assign(vm, r, false);
        r->used = false;
    }
    lock_drop(&vm->route_lock);
    return rc;
}
