/* probe.c - whether this host's KVM is fit for guests: found by running one */
#include "engine/kvm/probe.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "engine/kvm/convert.h"
#include "engine/kvm/kvm.h"

/* probe_guest.S */
extern const u8 kvm_probe_code[], kvm_probe_soft[], kvm_probe_fault[], kvm_probe_call[],
    kvm_probe_end[];

/* The little guest's memory. */
#define GUEST_BYTES 0x20000u
#define PML4_GPA    0x1000u
#define PDPT_GPA    0x2000u
#define PD_GPA      0x3000u
#define GDT_GPA     0x4000u
#define IDT_GPA     0x5000u
#define STACK_GPA   0x9000u
#define CODE_GPA    0x10000u

#define CODE_SEL    8u
#define DATA_SEL    16u
#define SOFT_VECTOR 0x40u
#define MARK_LEAF   0x40000000u
#define MARK        0x336e6972u
#define PORT        0xf4u
#define LOOPS       3
#define LOOP_INSNS  20000u
#define STEP_WRONG  0x80

/* Hardware takes a nanosecond an instruction, a nested machine some more, an emulator a
 * thousand. */
#define INSN_NS_MAX 100u
#define EXITS_MAX   32
#define CPUID_MAX   256
#define MSR_STAR    0xc0000081u
#define MSR_LSTAR   0xc0000082u
#define MSR_SFMASK  0xc0000084u
#define PATIENCE_NS 500000000l

static const char *const step_names[] = {"",        "SSE",   "INT n",  "a page fault",
                                         "SYSCALL", "CPUID", "a loop", "a loop"};
#define STEP_BEGIN 6
#define STEP_END   7

struct probe {
    int kvm, vm, vcpu;
    size_t run_bytes;
    struct kvm_run *run;
    u8 *ram;
    u64 began, best; /* TSC at the loop's beginning; ticks of the fastest */
    int step;        /* the last that went well, loops aside */
    unsigned loops;
    u32 khz;
};

/* ---- before a guest can run ---- */

static bool processor_can(void)
{
    u32 a, b, c, d;

    if (__get_cpuid(1, &a, &b, &c, &d) && c & BIT(5))
        return true;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && c & BIT(2);
}

static enum engine_verdict no_node(struct err *e)
{
    if (!processor_can()) {
        (void)err_set(e, ENOENT,
                      "no /dev/kvm, and the processor offers no virtualization: turn it on in the "
                      "firmware, or in a cloud choose machines with nested virtualization; -e bt "
                      "works without");
        return ENGINE_NO_CPU;
    }
    (void)err_set(e, ENOENT,
                  "no /dev/kvm, though the processor could: load kvm_intel or kvm_amd, or give the "
                  "container the device (--device /dev/kvm); -e bt works without");
    return ENGINE_NO_NODE;
}

static enum engine_verdict cannot_open(int code, struct err *e)
{
    switch (code) {
    case ENOENT: return no_node(e);
    case EACCES:
        (void)err_set(e, code,
                      "/dev/kvm is not yours to open: join group kvm (usermod -aG kvm NAME, then "
                      "log in again)");
        return ENGINE_NO_PERMISSION;
    case EPERM:
        (void)err_set(e, code,
                      "/dev/kvm may not be opened here (device cgroup or seccomp): give the "
                      "container the device (--device /dev/kvm)");
        return ENGINE_REFUSED;
    default:
        (void)err_set(e, code,
                      "/dev/kvm is dead: %s: load kvm_intel or kvm_amd; -e bt works without",
                      strerror(code));
        return ENGINE_DEAD_NODE;
    }
}

static enum engine_verdict refused(int rc, const char *what, struct err *e)
{
    if (rc == -EPERM || rc == -ENOSYS || rc == -EACCES) {
        (void)err_set(e, -rc, "%s is refused (%s): a seccomp filter? Allow ioctl on /dev/kvm", what,
                      strerror(-rc));
        return ENGINE_REFUSED;
    }
    (void)err_set(e, -rc, "/dev/kvm opens, but %s fails: %s; -e bt works without", what,
                  strerror(-rc));
    return rc == -ENODEV || rc == -EOPNOTSUPP ? ENGINE_NO_CPU : ENGINE_DEAD_NODE;
}

/* ---- the guest ---- */

static void put64(struct probe *p, u32 gpa, u64 val)
{
    memcpy(p->ram + gpa, &val, 8);
}

static void put_gate(struct probe *p, unsigned vector, const u8 *handler)
{
    u64 to = CODE_GPA + (u64)(handler - kvm_probe_code);

    put64(p, IDT_GPA + 16 * vector,
          (to & 0xffff) | CODE_SEL << 16 | 0x8e00ull << 32 | (to >> 16) << 48);
    put64(p, IDT_GPA + 16 * vector + 8, 0);
}

/* 2 MiB mapped onto themselves. */
static void fill_ram(struct probe *p)
{
    put64(p, PML4_GPA, PDPT_GPA | 3);
    put64(p, PDPT_GPA, PD_GPA | 3);
    put64(p, PD_GPA, 0x83);
    put64(p, GDT_GPA + CODE_SEL, 0x00af9b000000ffffull);
    put64(p, GDT_GPA + DATA_SEL, 0x00cf93000000ffffull);
    put_gate(p, SOFT_VECTOR, kvm_probe_soft);
    put_gate(p, X86_PF, kvm_probe_fault);
    memcpy(p->ram + CODE_GPA, kvm_probe_code, (size_t)(kvm_probe_end - kvm_probe_code));
}

static int set_cpuid(struct probe *p)
{
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));
    int rc = -ENOMEM;
    u32 kept = 0;

    if (!c)
        return rc;
    c->nent = CPUID_MAX - 1;
    rc = kvm_ioctl(p->kvm, KVM_GET_SUPPORTED_CPUID, c);
    for (u32 i = 0; i < c->nent && !rc; i++)
        if (c->entries[i].function >> 8 != MARK_LEAF >> 8)
            c->entries[kept++] = c->entries[i];
    c->entries[kept++] =
        (struct kvm_cpuid_entry2){.function = MARK_LEAF, .eax = MARK_LEAF, .ebx = MARK};
    c->nent = kept;
    if (!rc)
        rc = kvm_ioctl(p->vcpu, KVM_SET_CPUID2, c);
    free(c);
    return rc;
}

static int set_registers(struct probe *p)
{
    struct x86_seg code = {0, 0xffffffff, CODE_SEL, SEG_G | SEG_L | SEG_P | SEG_S | 11};
    struct x86_seg data = {0, 0xffffffff, DATA_SEL, SEG_G | SEG_DB | SEG_P | SEG_S | 3};
    struct kvm_regs r = {.rip = CODE_GPA, .rsp = STACK_GPA, .rflags = RFLAGS_ONE};
    struct kvm_sregs s;
    int rc = kvm_ioctl(p->vcpu, KVM_GET_SREGS, &s);

    kvm_from_seg(&code, &s.cs);
    kvm_from_seg(&data, &s.ss);
    s.ds = s.es = s.fs = s.gs = s.ss;
    s.gdt = (struct kvm_dtable){.base = GDT_GPA, .limit = 0x1f};
    s.idt = (struct kvm_dtable){.base = IDT_GPA, .limit = 0xfff};
    s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    s.cr3 = PML4_GPA;
    s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    s.efer = EFER_LME | EFER_LMA | EFER_SCE;
    if (!rc)
        rc = kvm_ioctl(p->vcpu, KVM_SET_SREGS, &s);
    return rc ? rc : kvm_ioctl(p->vcpu, KVM_SET_REGS, &r);
}

static int set_msrs(struct probe *p)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[3];
    } b = {
        .head.nmsrs = 3,
        .entry = {{.index = MSR_STAR, .data = (u64)CODE_SEL << 32},
                  {.index = MSR_LSTAR, .data = CODE_GPA + (u64)(kvm_probe_call - kvm_probe_code)},
                  {.index = MSR_SFMASK, .data = RFLAGS_TF}}};

    return kvm_ioctl_count(p->vcpu, KVM_SET_MSRS, &b) == 3 ? 0 : -EIO;
}

static int build(struct probe *p)
{
    struct kvm_userspace_memory_region slot = {.memory_size = GUEST_BYTES};
    u64 identity = 0xfeffb000;
    int rc;

    p->ram = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->ram == MAP_FAILED) {
        p->ram = NULL;
        return -errno;
    }
    fill_ram(p);
    slot.userspace_addr = (u64)(uintptr_t)p->ram;
    (void)kvm_ioctl(p->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    (void)kvm_ioctl(p->vm, KVM_SET_TSS_ADDR, (void *)0xfeffc000ul);
    if ((rc = kvm_ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &slot)))
        return rc;
    p->vcpu = kvm_ioctl_count(p->vm, KVM_CREATE_VCPU, NULL);
    if (p->vcpu < 0)
        return p->vcpu;
    p->run_bytes = (size_t)kvm_ioctl_count(p->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
    p->run = mmap(NULL, p->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
    if (p->run == MAP_FAILED) {
        p->run = NULL;
        return -errno;
    }
    rc = kvm_ioctl_count(p->vcpu, KVM_GET_TSC_KHZ, NULL);
    p->khz = rc > 0 ? (u32)rc : 1000000;
    if ((rc = set_cpuid(p)) || (rc = set_registers(p)))
        return rc;
    return set_msrs(p);
}

/* ---- running it ---- */

static enum engine_verdict emulates(const struct probe *p, const char *how, struct err *e)
{
    (void)err_set(e, EOPNOTSUPP,
                  "/dev/kvm works, but by software that emulates kernel code (%s %s): guests would "
                  "be wrong or a thousand times too slow; use -e bt",
                  step_names[MIN(p->step + 1, STEP_END)], how);
    return ENGINE_EMULATES;
}

/* One report of the guest; false: it went wrong. */
static bool take_step(struct probe *p, u8 step)
{
    u64 now = __rdtsc();

    if (step & STEP_WRONG)
        return false;
    if (step == STEP_BEGIN) {
        p->began = now;
        return p->step == STEP_BEGIN - 1;
    }
    if (step == STEP_END) {
        p->best = MIN(p->best, now - p->began);
        p->loops++;
        return p->step == STEP_BEGIN - 1;
    }
    return step == ++p->step;
}

static enum engine_verdict run(struct probe *p, struct err *e)
{
    for (unsigned i = 0; i < EXITS_MAX && p->loops < LOOPS; i++) {
        struct kvm_run *r = p->run;

        if (ioctl(p->vcpu, KVM_RUN, NULL)) {
            if (errno == EINTR)
                return emulates(p, "does not end", e);
            return refused(-errno, "running a guest", e);
        }
        if (r->exit_reason == KVM_EXIT_INTERNAL_ERROR)
            return emulates(p, "is beyond it", e);
        if (r->exit_reason != KVM_EXIT_IO || r->io.port != PORT || r->io.size != 1 ||
            r->io.data_offset >= p->run_bytes)
            return emulates(p, "goes astray", e);
        if (!take_step(p, ((u8 *)r)[r->io.data_offset]))
            return emulates(p, "is wrong", e);
    }
    if (p->loops < LOOPS)
        return emulates(p, "does not end", e);
    if (p->best * 1000000 / p->khz > (u64)LOOP_INSNS * INSN_NS_MAX)
        return emulates(p, "is slow", e);
    return ENGINE_WORKS;
}

static void nothing(int sig)
{
}

/* Runs it with an end in any case: a node can also hang. */
static enum engine_verdict run_bounded(struct probe *p, struct err *e)
{
    struct sigaction sa = {.sa_handler = nothing}, old;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kvm_signal()};
    struct itimerspec patience = {.it_value = {0, PATIENCE_NS}};
    enum engine_verdict verdict;
    sigset_t set, before;
    timer_t timer;

    event._sigev_un._tid = (int)syscall(SYS_gettid);
    sigemptyset(&set);
    sigaddset(&set, kvm_signal());
    sigaction(kvm_signal(), &sa, &old);
    pthread_sigmask(SIG_UNBLOCK, &set, &before);
    bool timed = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
    if (timed)
        timer_settime(timer, 0, &patience, NULL);
    verdict = run(p, e);
    if (timed)
        timer_delete(timer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sigaction(kvm_signal(), &old, NULL);
    return verdict;
}

static enum engine_verdict with_node(struct probe *p, struct err *e)
{
    int rc = kvm_ioctl_count(p->kvm, KVM_GET_API_VERSION, NULL);

    if (rc < 0)
        return refused(rc, "asking its version", e);
    if (rc != KVM_API_VERSION) {
        (void)err_set(e, EPROTO, "/dev/kvm speaks version %d of its interface, not %d; use -e bt",
                      rc, KVM_API_VERSION);
        return ENGINE_DEAD_NODE;
    }
    p->vm = kvm_ioctl_count(p->kvm, KVM_CREATE_VM, NULL);
    if (p->vm < 0)
        return refused(p->vm, "making a VM", e);
    rc = build(p);
    if (rc)
        return refused(rc, "setting a guest up", e);
    return run_bounded(p, e);
}

static void tidy_up(struct probe *p)
{
    if (p->run)
        munmap(p->run, p->run_bytes);
    if (p->vcpu >= 0)
        close(p->vcpu);
    if (p->vm >= 0)
        close(p->vm);
    if (p->ram)
        munmap(p->ram, GUEST_BYTES);
    close(p->kvm);
}

enum engine_verdict kvm_probe(struct err *e)
{
    struct probe p = {.vm = -1, .vcpu = -1, .best = ~0ull};
    enum engine_verdict verdict;

    p.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (p.kvm < 0)
        return cannot_open(errno, e);
    verdict = with_node(&p, e);
    tidy_up(&p);
    return verdict;
}
