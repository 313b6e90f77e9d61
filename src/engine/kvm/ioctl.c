/* ioctl.c - calls of KVM, and the signal that interrupts KVM_RUN */
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "engine/kvm/kvm.h"

int kvm_ioctl_count(int fd, unsigned long request, void *arg)
{
    int rc;

    do
        rc = ioctl(fd, request, arg);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : rc;
}

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    int rc = kvm_ioctl_count(fd, request, arg);

    return rc < 0 ? rc : 0;
}

int kvm_signal(void)
{
    return SIGRTMIN + 3;
}
