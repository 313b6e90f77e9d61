/* kvm.c - engine kvm: a VM and its vCPUs by the host's KVM */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "engine/kvm/probe.h"
#include "engine/kvm/vcpu.h"

/* Three pages for a TSS and one for page tables, for Intel processors that cannot run real mode.
 * Nothing of the board is there. */
#define TSS_GPA          0xfeffc000ul
#define IDENTITY_MAP_GPA 0xfeffb000ull

static const char *const stat_names[KVM_STATS] = {
#define KVM_STAT(id, name) name,
#include "engine/kvm/stats.def"
#undef KVM_STAT
};

/* ---- VM ---- */

static void on_remapped(void *ctx, u64 gpa, u64 len)
{
    (void)kvm_slots_sync(ctx); /* a refusal is remembered, and ends the vCPUs' runs */
}

static void on_dirty_switched(void *ctx, bool on)
{
    kvm_slots_log(ctx, on);
}

static void on_dirty_collect(void *ctx, u64 gpa, u64 size, u64 *bitmap)
{
    kvm_slots_collect(ctx, gpa, size, bitmap);
}

static int extension(const struct engine_vm *vm, unsigned cap)
{
    return kvm_ioctl_count(vm->kvm, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
}

static int check_extensions(struct engine_vm *vm, struct err *e)
{
    static const struct {
        unsigned cap;
        const char *name;
    } needed[] = {
        {KVM_CAP_USER_MEMORY, "user memory"},
        {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
        {KVM_CAP_READONLY_MEM, "read-only memory"},
        {KVM_CAP_X86_USER_SPACE_MSR, "MSRs in user space"},
        {KVM_CAP_X86_MSR_FILTER, "an MSR filter"},
        {KVM_CAP_VCPU_EVENTS, "vCPU events"},
        {KVM_CAP_DEBUGREGS, "debug registers"},
        {KVM_CAP_XSAVE, "the XSAVE state"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (extension(vm, needed[i].cap) <= 0)
            return err_set(e, ENOSYS,
                           "engine kvm: this host's KVM does not offer %s; Linux 5.10 or newer is "
                           "needed; use -e bt",
                           needed[i].name);
    vm->sregs2 = extension(vm, KVM_CAP_SREGS2) > 0;
    vm->xcrs = extension(vm, KVM_CAP_XCRS) > 0;
    return 0;
}

/* The size of the shared pages, and the XSAVE components that images may have. */
static int load_sizes(struct engine_vm *vm, struct err *e)
{
    int bytes = kvm_ioctl_count(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
    struct kvm_cpuid2 *list;

    if (bytes < (int)sizeof(struct kvm_run))
        return err_set(e, EIO, "engine kvm: the kernel's vCPU page is too small (%d bytes)", bytes);
    vm->run_bytes = (size_t)bytes;
    vm->xcomponents = XCR0_X87 | XCR0_SSE;
    list = kvm_cpuid_supported(vm->kvm);
    for (u32 i = 0; list && i < list->nent; i++)
        if (list->entries[i].function == 0xd && list->entries[i].index == 0)
            vm->xcomponents |= list->entries[i].eax & XCR0_AVX;
    free(list);
    return 0;
}

static int open_vm(struct engine_vm *vm, struct err *e)
{
    struct kvm_enable_cap emulation = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};
    u64 identity = IDENTITY_MAP_GPA;

    vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm < 0)
        return err_set(e, errno, "engine kvm: /dev/kvm: %s; see ring3 doctor", strerror(errno));
    vm->fd = kvm_ioctl_count(vm->kvm, KVM_CREATE_VM, NULL);
    if (vm->fd < 0)
        return err_set(e, -vm->fd, "engine kvm: cannot create a VM: %s; see ring3 doctor",
                       strerror(-vm->fd));
    /* Also what programs do in ring 3 then comes to us; the kernel would raise #UD. */
    (void)kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &emulation);
    /* AMD processors need neither. */
    (void)kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    (void)kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)TSS_GPA);
    return 0;
}

static void nothing(int sig)
{
}

/* The signal only has to end KVM_RUN. */
static void catch_signal(void)
{
    struct sigaction sa = {.sa_handler = nothing};

    ASSERT(sigaction(kvm_signal(), &sa, NULL) == 0);
}

static void vm_destroy(struct engine_vm *vm)
{
    if (!vm)
        return;
    if (vm->listening)
        mem_unlisten(vm->cfg.mem, vm);
    if (vm->fd >= 0)
        close(vm->fd);
    if (vm->kvm >= 0)
        close(vm->kvm);
    lock_destroy(&vm->slot_lock);
    lock_destroy(&vm->tsc_lock);
    lock_destroy(&vm->route_lock);
    free(vm);
}

static int build(struct engine_vm *vm, struct err *e)
{
    struct mem_listener listener = {.remapped = on_remapped,
                                    .ctx = vm,
                                    .dirty_switched = on_dirty_switched,
                                    .dirty_collect = on_dirty_collect};
    int rc = open_vm(vm, e);

    if (!rc)
        rc = check_extensions(vm, e);
    if (!rc)
        rc = load_sizes(vm, e);
    if (!rc)
        rc = kvm_irqchip_init(vm, e);
    if (!rc)
        rc = kvm_msr_init(vm, e);
    if (rc)
        return rc;
    rc = mem_listen(vm->cfg.mem, &listener);
    if (rc)
        return err_set(e, -rc, "engine kvm: too many memory listeners");
    vm->listening = true;
    rc = kvm_slots_sync(vm);
    return rc ? err_set(e, -rc, "engine kvm: the kernel refuses the guest's memory: %s",
                        strerror(-rc))
              : 0;
}

static int vm_create(const struct engine_vm_config *cfg, struct engine_vm **out, struct err *e)
{
    struct engine_vm *vm = calloc(1, sizeof(*vm));
    int rc;

    if (!vm)
        return err_set(e, ENOMEM, "no memory for a VM");
    vm->cfg = *cfg;
    vm->kvm = vm->fd = -1;
    lock_init(&vm->slot_lock);
    lock_init(&vm->tsc_lock);
    lock_init(&vm->route_lock);
    vm->ops = world_ops;
    vm->ops.nmi_take = kvm_nmi_take;
    catch_signal();
    rc = build(vm, e);
    if (rc) {
        vm_destroy(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

/* ---- vCPUs ---- */

static void vcpu_destroy(struct engine_vcpu *v)
{
    if (!v)
        return;
    v->vm->vcpu[v->id] = NULL;
    if (v->run)
        munmap(v->run, v->vm->run_bytes);
    if (v->fd >= 0)
        close(v->fd);
    if (v->cpu)
        x86_cpu_fini(v->cpu);
    free(v->cpu);
    free(v);
}

/* Nothing is cached from pages here, so nobody marks them as code. */
static void no_code(void *ctx, u64 gpa, unsigned size)
{
}

static int init_cpu(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;

    v->cpu = aligned_alloc(64, align_up(sizeof(*v->cpu), 64));
    if (!v->cpu)
        return -ENOMEM;
    memset(v->cpu, 0, sizeof(*v->cpu));
    v->world = (struct world){.cpu = v->cpu,
                              .mem = vm->cfg.mem,
                              .pio = vm->cfg.pio,
                              .mmio = vm->cfg.mmio,
                              .env = v->env,
                              .code_write = no_code,
                              .code_ctx = v};
    x86_cpu_init(v->cpu, &vm->ops, &v->world, vm->cfg.cpuid);
    v->cpu->apic_id = v->id;
    if (vm->irqchip && v->id)
        v->cpu->s.activity = X86_WAIT_SIPI;
    return 0;
}

static int init_kernel_vcpu(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;
    struct kvm_sregs sregs;
    int rc;

    v->fd = kvm_ioctl_count(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)v->id);
    if (v->fd < 0)
        return v->fd;
    v->run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED) {
        v->run = NULL;
        return -errno;
    }
    rc = kvm_cpuid_set(v);
    if (!rc)
        rc = kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs);
    if (!rc)
        v->apic_base = sregs.apic_base;
    if (!rc)
        kvm_tsc_rate(v);
    return rc;
}

static int vcpu_create(struct engine_vm *vm, unsigned id, const struct vcpu_env *env,
                       struct engine_vcpu **out, struct err *e)
{
    struct engine_vcpu *v = calloc(1, sizeof(*v));
    int rc;

    if (!v)
        return err_set(e, ENOMEM, "no memory for vCPU %u", id);
    v->vm = vm;
    v->id = id;
    v->env = env;
    v->fd = -1;
    rc = init_cpu(v);
    if (!rc)
        rc = init_kernel_vcpu(v);
    if (rc) {
        vcpu_destroy(v);
        return err_set(e, -rc, "engine kvm: cannot create vCPU %u: %s", id, strerror(-rc));
    }
    vm->vcpu[id] = v;
    *out = v;
    return 0;
}

static void kick(struct engine_vcpu *v)
{
    kvm_look(v, LOOK_KICK);
}

static void attention(struct engine_vcpu *v)
{
    kvm_look(v, LOOK_EVENT);
}

/* Should the kernel not give the state away the last one known is handed out, and the vCPU does not
 * run again. */
static void get_state(struct engine_vcpu *v, struct x86_state *s)
{
    if (kvm_state_out(v, &v->err)) {
        v->failed = true;
        log_msg(LOG_ERROR, "%s", v->err.msg);
    }
    *s = v->cpu->s;
}

static int set_state(struct engine_vcpu *v, const struct x86_state *s, struct err *e)
{
    int rc = x86_state_check(s, e);

    if (rc)
        return rc;
    rc = kvm_state_out(v, e); /* completes what the kernel has begun */
    if (rc)
        return rc;
    v->nmis = 0;
    x86_cpu_set_state(v->cpu, s);
    return 0;
}

static void stats(struct engine_vm *vm, void (*emit)(void *arg, const char *name, u64 value),
                  void *arg)
{
    for (unsigned i = 0; i < KVM_STATS; i++)
        emit(arg, stat_names[i], __atomic_load_n(&vm->stat[i], __ATOMIC_RELAXED));
}

const struct engine engine_kvm = {
    .name = "kvm",
    .summary = "hardware virtualization by the host's KVM",
    .probe = kvm_probe,
    .cpuid_limit = kvm_cpuid_limit,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = kvm_vcpu_run,
    .vcpu_kick = kick,
    .vcpu_attention = attention,
    .vcpu_get_state = get_state,
    .vcpu_set_state = set_state,
    .irqchip = kvm_irqchip,
    .ioeventfd = kvm_ioeventfd,
    .stats = stats,
};
