/* kvm.h - what the files of engine kvm share: VM, vCPU, and where the state is */
#pragma once

#include <linux/kvm.h>

#include "base/lock.h"
#include "engine/engine.h"
#include "engine/world.h"
#include "x86/cpuid.h"

/* What a guest does with KVM's help, counted. In order of kvm_stat_names. */
enum kvm_stat {
#define KVM_STAT(id, name) STAT_##id,
#include "engine/kvm/stats.def"
#undef KVM_STAT
    KVM_STATS
};

/* A slot as the kernel has it; `size` 0: free. Its index is the kernel's slot number. */
struct kvm_slot {
    u64 gpa, size;
    void *hva;
    bool rom, logged;
};

struct engine_vm {
    struct engine_vm_config cfg;
    int kvm, fd;       /* /dev/kvm and the VM */
    size_t run_bytes;  /* of a vCPU's shared page and what follows it */
    u32 msr[32], msrs; /* MSRs that the kernel keeps and we move (KVM's list and ours) */
    bool sregs2, xcrs, tsc_offsets; /* capabilities */
    u64 xcomponents;                /* XCR0 bits of the XSAVE images */
    u32 tsc_khz, host_khz;          /* of guests: 1 GHz where the host can scale */

    bool irqchip;                        /* interrupt controllers are the kernel's */
    struct engine_vcpu *vcpu[VCPUS_MAX]; /* by id; NULL: none */

    struct lock route_lock;
    struct kvm_msi_route {
        bool used;
        int fd;
        u64 addr;
        u32 data;
    } msi_route[IRQFDS_MAX]; /* number n is GSI KVM_GSI_MSI + n */

    struct x86_ops ops; /* world_ops, with NMIs that came back from the kernel */
    bool listening;     /* to mem */

    struct lock slot_lock;
    struct kvm_slot slot[MEM_SLOTS_MAX];
    bool logging;     /* of written pages */
    bool slot_failed; /* the kernel refused a change: vCPUs must not run */

    struct lock tsc_lock;
    u64 tsc_base;            /* guest TSC without its own offset = scaled host TSC + tsc_base */
    u64 tsc_host, tsc_world; /* host TSC and vcpu_env.tsc when tsc_base was made, moved along */
    u32 tsc_gen;             /* counts tsc_base's changes; 0: none yet */

    u64 stat[KVM_STATS];
};

/* KVM's names of inputs: those of the IOAPIC, then of the 8259 pair, then messages of irqfds. */
#define KVM_GSI_PIC  GSI_COUNT
#define KVM_PIC_PINS 16u
#define KVM_GSI_MSI  (KVM_GSI_PIC + KVM_PIC_PINS)

/* Reasons to look around before the next KVM_RUN; atomic, by any thread. */
#define LOOK_KICK  BIT(0)
#define LOOK_EVENT BIT(1)

/* A vCPU. Its state is either in `cpu` (x86/'s own, complete) or in the kernel: `in_kernel`. What
 * the kernel does not keep (MSRs that we answer ourselves) is in `cpu` always. */
struct engine_vcpu {
    struct engine_vm *vm;
    unsigned id;
    int fd;
    struct kvm_run *run;
    const struct vcpu_env *env;
    struct x86_cpu *cpu;
    struct world world;
    bool in_kernel;
    bool unfinished; /* the kernel waits for KVM_RUN to complete an access that we answered */
    bool halted;     /* HLT executed, while in_kernel; never with the kernel's irqchip */
    bool open;       /* while in_kernel: an interrupt can be injected now */
    u32 nmis;        /* taken back from the kernel, to be delivered first */
    u32 tsc_gen;     /* tsc_base that the kernel's offset was made for */
    u64 tsc_base;    /* vm->tsc_base then */
    u64 apic_base;   /* as the kernel has it: the guest's only with the kernel's irqchip */
    u64 cr8;         /* with the kernel's irqchip, while not in_kernel */
    u64 deadline;    /* of the kernel's local APIC, to be set with the TSC; vcpu_env.tsc, 0: none */
    bool lint1;      /* a pulse came; atomic */
    bool failed;     /* state could not be moved: err says why; the vCPU will not run */
    struct err err;

    u32 look;     /* LOOK_*, atomic */
    bool running; /* inside KVM_RUN, or about to be; atomic */
    int tid;      /* of the thread that runs; atomic */
};

static inline void kvm_count(struct engine_vm *vm, enum kvm_stat which)
{
    __atomic_fetch_add(&vm->stat[which], 1, __ATOMIC_RELAXED);
}

/* ioctl.c */
/* 0 or -errno; and for those that return a number, the number. EINTR is tried again. */
int kvm_ioctl(int fd, unsigned long request, void *arg);
int kvm_ioctl_count(int fd, unsigned long request, void *arg);
/* The signal that interrupts KVM_RUN. */
int kvm_signal(void);

/* slots.c: makes the kernel's slots those of cfg.mem; the dirty log, as mem_listener wants it. Any
 * thread. */
int kvm_slots_sync(struct engine_vm *vm);
void kvm_slots_log(struct engine_vm *vm, bool on);
void kvm_slots_collect(struct engine_vm *vm, u64 gpa, u64 size, u64 *bitmap);

/* cpuid.c: what the kernel supports (malloc'd, or NULL); engine.cpuid_limit; a vCPU's leaves. */
struct kvm_cpuid2 *kvm_cpuid_supported(int kvm);
int kvm_cpuid_limit(struct x86_cpuid_model *m, struct err *e);
int kvm_cpuid_set(struct engine_vcpu *v);

/* msr.c: the list of moved MSRs, the filter that sends us all others; moving; answering an exit. */
int kvm_msr_init(struct engine_vm *vm, struct err *e);
int kvm_msr_out(struct engine_vcpu *v, struct x86_state *s);
int kvm_msr_in(struct engine_vcpu *v, const struct x86_state *s);
void kvm_msr_exit(struct engine_vcpu *v);
/* One MSR by KVM_GET_MSRS or KVM_SET_MSRS. -EINVAL: the kernel declines. */
int kvm_msr_access(struct engine_vcpu *v, unsigned long request, u32 msr, u64 *val);

/* tsc.c */
void kvm_tsc_rate(struct engine_vcpu *v); /* right after its creation */
/* Between its ticks and ns. */
s64 kvm_tsc_to_world(const struct engine_vm *vm, s64 ticks);
s64 kvm_tsc_from_world(const struct engine_vm *vm, s64 ns);
void kvm_tsc_resume(struct engine_vcpu *v); /* before the guest runs: notices that time stood */
int kvm_tsc_out(struct engine_vcpu *v);     /* cpu->s.tsc_offset from the kernel */
int kvm_tsc_in(struct engine_vcpu *v);
u64 kvm_tsc_now(struct engine_vcpu *v); /* the guest's TSC */
/* The guest's TSC at a time of the machine's clock, and back; 0, no deadline, stays 0. */
u64 kvm_deadline_to_tsc(struct engine_vcpu *v, u64 ns);
u64 kvm_deadline_from_tsc(struct engine_vcpu *v, u64 tsc);

/* state.c: the whole state between cpu->s and the kernel. 0 or -errno with *e set. */
must_check int kvm_state_out(struct engine_vcpu *v, struct err *e);
must_check int kvm_state_in(struct engine_vcpu *v, struct err *e);

/* irqchip.c: makes the kernel's interrupt controllers, as cfg.irqchip wants; sets vm->irqchip. */
must_check int kvm_irqchip_init(struct engine_vm *vm, struct err *e);
const struct engine_irqchip *kvm_irqchip(struct engine_vm *vm);
bool kvm_irqchip_msr(u32 msr); /* one of the local APIC's */
void kvm_irqchip_ops(struct x86_ops *ops);
void kvm_irqchip_lint1(struct engine_vcpu *v);
int kvm_irqchip_deadline_in(struct engine_vcpu *v);

/* eventfd.c: engine.ioeventfd, engine_irqchip.irqfd; the inputs' wiring. */
int kvm_ioeventfd(struct engine_vm *vm, u64 gpa, int fd, bool on);
int kvm_irqfd(struct engine_vm *vm, int fd, u64 addr, u32 data, bool on);
int kvm_routes_init(struct engine_vm *vm);

/* exits.c: answers the exit in v->run. */
enum kvm_next { NEXT_RUN, NEXT_HALT, NEXT_SHUTDOWN, NEXT_STEP, NEXT_FAILED };
enum kvm_next kvm_exit(struct engine_vcpu *v, struct err *e);
