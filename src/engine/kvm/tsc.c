/* tsc.c - the guest's TSC: its rate, its place beside the machine's clock */
#include <errno.h>
#include <string.h>
#include <x86intrin.h>

#include "base/freq.h"
#include "base/log.h"
#include "engine/kvm/kvm.h"

#define MSR_TSC         0x10u
#define GUEST_KHZ       ((u32)(TSC_HZ / 1000))
#define STOOD_NS        1000000 /* the machine's clock was stopped when it is behind by this */
#define RESUME_EVERY_NS 1000000

/* Guests count ns where the host can scale its TSC; else they count as the host does. */
void kvm_tsc_rate(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;
    struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET};
    int khz = kvm_ioctl_count(v->fd, KVM_GET_TSC_KHZ, NULL);

    vm->tsc_offsets = kvm_ioctl(v->fd, KVM_HAS_DEVICE_ATTR, &a) == 0;
    if (khz > 0)
        vm->host_khz = (u32)khz;
    vm->tsc_khz = GUEST_KHZ;
    if (vm->host_khz && vm->host_khz != GUEST_KHZ &&
        kvm_ioctl_count(v->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)GUEST_KHZ) < 0) {
        vm->tsc_khz = vm->host_khz;
        if (v->id == 0)
            log_msg(LOG_WARN,
                    "engine kvm: this host cannot scale its TSC (%u kHz): the guest's clocks run "
                    "at that rate, not at %u kHz as told; use -e bt where time matters",
                    vm->host_khz, GUEST_KHZ);
    }
}

s64 kvm_tsc_to_world(const struct engine_vm *vm, s64 ticks)
{
    return vm->tsc_khz == GUEST_KHZ ? ticks : (s64)((__int128)ticks * GUEST_KHZ / (s64)vm->tsc_khz);
}

s64 kvm_tsc_from_world(const struct engine_vm *vm, s64 ns)
{
    return vm->tsc_khz == GUEST_KHZ ? ns : (s64)((__int128)ns * vm->tsc_khz / GUEST_KHZ);
}

/* ---- the kernel's offset ---- */

static int offset_attr(struct engine_vcpu *v, unsigned long request, u64 *offset)
{
    struct kvm_device_attr a = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (u64)(uintptr_t)offset,
    };

    return kvm_ioctl(v->fd, request, &a);
}

static u64 world_now(struct engine_vcpu *v)
{
    return v->env->tsc(v->env->ctx);
}

u64 kvm_tsc_now(struct engine_vcpu *v)
{
    u64 val = 0;

    return kvm_msr_access(v, KVM_GET_MSRS, MSR_TSC, &val) ? 0 : val;
}

/* Without the attribute of offsets (Linux before 5.16) vCPUs of one VM may differ a little. */
static int write_tsc(struct engine_vcpu *v, u64 val)
{
    return kvm_msr_access(v, KVM_SET_MSRS, MSR_TSC, &val) ? -EIO : 0;
}

/* The machine keeps deadlines in its own time, the guest in its TSC: what lies between now and then
 * is the same in both. */
u64 kvm_deadline_to_tsc(struct engine_vcpu *v, u64 ns)
{
    if (!ns)
        return 0;
    s64 ahead = (s64)(ns - world_now(v));
    u64 tsc = kvm_tsc_now(v) + (u64)kvm_tsc_from_world(v->vm, ahead);
    return MAX(tsc, 1ull);
}

u64 kvm_deadline_from_tsc(struct engine_vcpu *v, u64 tsc)
{
    if (!tsc)
        return 0;
    s64 ahead = kvm_tsc_to_world(v->vm, (s64)(tsc - kvm_tsc_now(v)));
    u64 now = world_now(v);
    return ahead < 0 && (u64)-ahead >= now ? 1 : now + (u64)ahead;
}

/* Puts tsc_base where guest TSCs without offset of their own are the machine's clock. */
static void make_base_locked(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;
    u64 offset = 0, tsc, world;

    if (offset_attr(v, KVM_GET_DEVICE_ATTR, &offset))
        return;
    tsc = kvm_tsc_now(v);
    world = world_now(v);
    vm->tsc_base = world - (tsc - offset);
    vm->tsc_gen++;
    vm->tsc_host = __rdtsc();
    vm->tsc_world = world;
}

static s64 host_ticks_to_ns(const struct engine_vm *vm, s64 ticks)
{
    return vm->host_khz ? (s64)((__int128)ticks * 1000000 / vm->host_khz) : ticks;
}

/* Both clocks run on while nobody runs; the machine's stands during a pause. */
static bool stood_locked(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;
    u64 world = world_now(v), host = __rdtsc();
    s64 passed = (s64)(world - vm->tsc_world);
    s64 behind = host_ticks_to_ns(vm, (s64)(host - vm->tsc_host)) - passed;

    if (behind > STOOD_NS || behind < -STOOD_NS)
        return true;
    if (passed > RESUME_EVERY_NS) {
        vm->tsc_world = world;
        vm->tsc_host = host;
    }
    return false;
}

/* Where the host cannot scale, the guest's TSC is right when it begins to run and too fast from
 * then on. It must not jump back when state comes out and in again: between the two the difference
 * to the machine's clock is what is kept. */
static bool unscaled(const struct engine_vm *vm)
{
    return vm->tsc_khz != GUEST_KHZ;
}

int kvm_tsc_in(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;
    u64 offset;
    int rc;

    if (!vm->tsc_offsets)
        return write_tsc(v, world_now(v) + v->cpu->s.tsc_offset);
    if (unscaled(vm) && v->tsc_gen) {
        rc = offset_attr(v, KVM_GET_DEVICE_ATTR, &offset);
        offset += world_now(v) + v->cpu->s.tsc_offset - kvm_tsc_now(v);
        return rc ? rc : offset_attr(v, KVM_SET_DEVICE_ATTR, &offset);
    }
    lock_take(&vm->tsc_lock);
    if (!vm->tsc_gen || stood_locked(v))
        make_base_locked(v);
    v->tsc_base = vm->tsc_base;
    v->tsc_gen = vm->tsc_gen;
    lock_drop(&vm->tsc_lock);
    offset = v->tsc_base + v->cpu->s.tsc_offset;
    return offset_attr(v, KVM_SET_DEVICE_ATTR, &offset);
}

int kvm_tsc_out(struct engine_vcpu *v)
{
    u64 offset;
    int rc;

    if (!v->vm->tsc_offsets || unscaled(v->vm)) {
        v->cpu->s.tsc_offset = kvm_tsc_now(v) - world_now(v);
        return 0;
    }
    rc = offset_attr(v, KVM_GET_DEVICE_ATTR, &offset);
    if (!rc)
        v->cpu->s.tsc_offset = offset - v->tsc_base;
    return rc;
}

void kvm_tsc_resume(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;
    bool moved;

    if (!vm->tsc_offsets || unscaled(vm))
        return;
    lock_take(&vm->tsc_lock);
    moved = v->tsc_gen != vm->tsc_gen || stood_locked(v);
    lock_drop(&vm->tsc_lock);
    if (moved && !kvm_tsc_out(v))
        (void)kvm_tsc_in(v);
}
