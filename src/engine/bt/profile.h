/* profile.h - what vCPUs spend their time with: samples of a timer; a map of the code for perf */
#pragma once

#include "engine/bt/bt.h"

enum doing {
#define DOING(id, name, text) DOING_##id,
#include "engine/bt/profile.def"
#undef DOING
    DOINGS
};

/* Of one vCPU; lives in the VM's list until profile_free. A timer of the vCPU's thread sends
 * SIGPROF a thousand times a second (of real time: a sleeping vCPU is sampled too). Nothing of this
 * is there when it is off: helpers and device accesses are only wrapped when it is on. */
struct profile;

/* For a vCPU whose helpers and ops are set; wraps both. Main thread. NULL: no memory. */
struct profile *profile_create(struct engine_vcpu *v);
/* Around bt_run: the first time starts the timer. vCPU thread. */
void profile_enter(struct engine_vcpu *v);
void profile_leave(struct engine_vcpu *v);
/* The vCPU goes; what was counted stays. */
void profile_stop(struct engine_vcpu *v);
void profile_free(struct engine_vm *vm);

/* What the vCPU does from now on; returns what it did. vCPU thread. */
enum doing profile_set(struct engine_vcpu *v, enum doing doing);

/* Lines of text: totals, then guest addresses, then functions of the monitor, by count. vCPUs do
 * not run. Main thread. */
void profile_report(struct engine_vm *vm, void (*emit)(void *arg, const char *line), void *arg);

/* /tmp/perf-PID.map, which perf and others look addresses of generated code up in. */
must_check int perfmap_create(struct engine_vm *vm, struct err *e);
/* A block was made; v's RIP is in its page. */
void perfmap_add(struct engine_vcpu *v, const struct tb *tb, u32 start, u32 end);
void perfmap_destroy(struct engine_vm *vm);

/* profile.c to profile_report.c */
#define SAMPLE_SLOTS 65536u
struct sample {
    u64 at;    /* guest RIP; of SAMPLE_HOST a host address */
    u32 count; /* 0: free */
    u8 doing, ring;
};
#define SAMPLE_HOST 4 /* instead of a ring */

struct profile {
    struct profile *next; /* of the VM */
    struct engine_vcpu *v;
    u64 rip;   /* of what C does; 0: x86_state.rip */
    u32 doing; /* enum doing, unless the host's RIP is in the code cache */
    bool timer_on, tried;
    int failed; /* -errno of the timer */
    u64 samples, lost;
    struct sample *slot; /* open addressing */
    void *stack;         /* of the signal handler */
    void *timer;         /* timer_t */
    struct {
        u64 (*next)(struct engine_vcpu *v);
        u64 (*dead)(struct engine_vcpu *v);
        u64 (*generic)(struct engine_vcpu *v, const struct site *s);
        u64 (*slow)(struct engine_vcpu *v, u64 lin, const struct site *s);
        u64 (*link)(struct engine_vcpu *v, u64 link);
        u64 (*fp)(struct engine_vcpu *v, const struct site *s);
    } own;
};
