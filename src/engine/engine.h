/* engine.h - the contract between a machine and whatever executes its processors */
#pragma once

#include "base/err.h"
#include "base/types.h"
#include "engine/irqchip.h"
#include "mem/bus.h"
#include "mem/mem.h"
#include "x86/state.h"

struct x86_cpuid_model;

/* What a vCPU asks of the machine around it. All calls come from the vCPU's own thread, with no
 * engine lock held; they may take device locks. */
struct vcpu_env {
    void *ctx;
    /* The local APIC (or, through it, the 8259 pair) has an interrupt this vCPU should take when
     * IF allows. */
    bool (*irq_pending)(void *ctx);
    /* Acknowledges it: returns the vector (0..255), or -1 when it went away. */
    int (*irq_ack)(void *ctx);
    /* An NMI is latched; reading clears it. INIT and SIPI arrive through vcpu_set_state by the
     * machine. */
    bool (*nmi_take)(void *ctx);
    u64 (*tsc)(void *ctx);      /* guest TSC before the TSC_ADJUST/offset of x86/ */
    u64 (*cr8_read)(void *ctx); /* TPR >> 4 */
    void (*cr8_write)(void *ctx, u64 val);
    /* MSRs x86/ does not hold (APIC base, x2APIC, TSC deadline, pv clock...). 0, or -ENOENT /
     * -EINVAL: #GP. IA32_TSC_DEADLINE is in units of tsc() above: x86/ takes its offset off and
     * adds it. */
    int (*msr_read)(void *ctx, u32 msr, u64 *val);
    int (*msr_write)(void *ctx, u32 msr, u64 val);
    void (*ferr)(void *ctx, bool asserted); /* FERR# path to IRQ 13 when CR0.NE is clear */
    int (*random)(void *ctx, u64 *val);     /* for RDRAND/RDSEED; 0 or -errno: CF clear */
    /* Hypercall KVM_HC_SEND_IPI; see x86_ops. May be NULL. */
    int (*send_ipis)(void *ctx, unsigned __int128 map, u64 first, u64 icr);
    /* Engine script: this thread's accesses are this vCPU's from now on. For other engines the
     * machine says so once per thread. May be NULL. */
    void (*enter)(void *ctx);
};

/* Engine bt: for tests and tuning; zeros are the defaults. */
struct bt_config {
    size_t code_cache;    /* bytes of translated code kept */
    unsigned block_insns; /* most guest instructions in a block */
    bool no_chaining;     /* every block returns to the dispatcher */
    unsigned lockstep;    /* one block in so many also by the interpreter, compared; 0: none */
    bool profile;         /* sample what vCPUs do, for engine.profile */
    bool perfmap;         /* write /tmp/perf-PID.map */
    bool no_hits;         /* every memory access of translated code leaves it: C executes it */
};

struct engine_vm_config {
    struct mem *mem;
    struct bus *pio;
    struct bus *mmio;
    const struct x86_cpuid_model *cpuid; /* lives as long as the VM */
    const char *script;                  /* engine script: the program text; else NULL */
    struct bt_config bt;
    enum irqchip_choice irqchip;
    struct clock *clock;                       /* engine script steps it; others ignore it */
    void (*step)(struct clock *clock, u64 ns); /* engine script: how; others ignore it */
};

enum vcpu_exit_reason {
    VCPU_EXIT_KICKED,   /* vcpu_kick was called */
    VCPU_EXIT_HALTED,   /* HLT with nothing deliverable: sleep until irq/nmi/kick, then run again */
    VCPU_EXIT_SHUTDOWN, /* triple fault: the machine resets or stops */
    VCPU_EXIT_DONE,     /* engine script: the script ended well */
    VCPU_EXIT_FAILED,   /* the engine cannot go on; message in err */
};

struct vcpu_exit {
    enum vcpu_exit_reason reason;
    struct err err;
};

/* What a probe found; 0 is ENGINE_WORKS. */
enum engine_verdict {
#define ENGINE_VERDICT(id, name) ENGINE_##id,
#include "engine/verdicts.def"
#undef ENGINE_VERDICT
};

struct engine_vm; /* each engine's own */
struct engine_vcpu;

/* An engine. Functions return 0 or -errno with *e set, and leave nothing behind on failure. */
struct engine {
    const char *name;
    const char *summary; /* one line for --help and doctor */

    /* Whether it can run here, found by running something. Else *e has the reason and the mend. */
    enum engine_verdict (*probe)(struct err *e);

    /* Takes from the model what processors of this engine cannot be here. May be NULL; -errno. */
    int (*cpuid_limit)(struct x86_cpuid_model *m, struct err *e);

    int (*vm_create)(const struct engine_vm_config *cfg, struct engine_vm **out, struct err *e);
    void (*vm_destroy)(struct engine_vm *vm); /* after all its vCPUs */

    /* State after creation is the architectural reset state (SDM vol. 3 table 10-1). Main
     * thread. */
    int (*vcpu_create)(struct engine_vm *vm, unsigned id, const struct vcpu_env *env,
                       struct engine_vcpu **out, struct err *e);
    void (*vcpu_destroy)(struct engine_vcpu *v);

    /* Executes until there is a reason to leave. Only the vCPU's own thread. On return the
     * complete state is in the vCPU at an instruction boundary (or inside an interruptible
     * `rep`, RIP on it). */
    void (*vcpu_run)(struct engine_vcpu *v, struct vcpu_exit *exit);
    /* Makes vcpu_run return soon (or the next one at once). Any thread, async-signal-safe. */
    void (*vcpu_kick)(struct engine_vcpu *v);
    /* irq_pending or nmi may have become true: look at the next instruction boundary. Any thread;
     * does not wake a vCPU that sleeps outside vcpu_run (the machine does). */
    void (*vcpu_attention)(struct engine_vcpu *v);

    /* Only while the vCPU is not running. set validates (x86_state_check) before changing
     * anything. */
    void (*vcpu_get_state)(struct engine_vcpu *v, struct x86_state *s);
    int (*vcpu_set_state)(struct engine_vcpu *v, const struct x86_state *s, struct err *e);

    /* The VM's interrupt controllers, where the engine has its own and cfg->irqchip lets it use
     * them; they live as long as the VM. NULL: the machine's chips serve, through vcpu_env. May be
     * NULL. */
    const struct engine_irqchip *(*irqchip)(struct engine_vm *vm);

    /* From a call with `on` until one with the same and !on, a guest's write to this MMIO address
     * adds 1 to eventfd `fd` and goes nowhere else. -errno: writes reach the bus as before; some
     * may in any case. Any thread, any locks. May be NULL. */
    int (*ioeventfd)(struct engine_vm *vm, u64 gpa, int fd, bool on);

    /* Adds engine counters to the text of --stats; may be NULL. */
    void (*stats)(struct engine_vm *vm, void (*emit)(void *arg, const char *name, u64 value),
                  void *arg);
    /* What bt_config.profile found, in lines of text without newlines; may be NULL. No vCPU runs
     * any more. */
    void (*profile)(struct engine_vm *vm, void (*emit)(void *arg, const char *line), void *arg);
};

extern const struct engine engine_bt;
extern const struct engine engine_interp;
extern const struct engine engine_kvm;
extern const struct engine engine_script;
