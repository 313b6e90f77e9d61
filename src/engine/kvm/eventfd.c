/* eventfd.c - eventfds that guests signal without an exit */
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
