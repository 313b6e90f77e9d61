/* machine_priv.h - what machine.c, vcpu.c and setup.c share */
#pragma once

#include <pthread.h>

#include "host/clock.h"
#include "host/loop.h"
#include "machine/devices.h"
#include "machine/e820.h"
#include "machine/machine.h"
#include "machine/serial.h"
#include "x86/cpuid.h"

/* Requests to a vCPU's thread; it is kicked when one is set. */
#define VCPU_INIT BIT(0)
#define VCPU_SIPI BIT(1)
#define VCPU_PARK BIT(2) /* stay out of guest code until cleared */
#define VCPU_STOP BIT(3) /* end the thread */

struct vcpu {
    struct machine *m;
    unsigned id;
    struct engine_vcpu *engine;
    struct vcpu_env env;
    pthread_t thread;
    bool started;

    pthread_mutex_t
        mutex; /* innermost lock: held for a few instructions, nothing is called under it */
    pthread_cond_t wake, parked_changed;
    u32 requests; /* VCPU_*, changed under mutex, read without */
    u8 sipi_vector;
    bool attention; /* something may be deliverable: do not sleep */
    bool parked;    /* out of guest code because of VCPU_PARK */
    bool wait_sipi; /* thread's own: after INIT, until SIPI */

    struct x86_state saved; /* snapshots go through it */
};

/* What a snapshot says of the machine as a whole. */
struct machine_record {
    u64 now_ns; /* guest time: chips save their deadlines relative to it or by it */
    u64 ram_bytes;
    u32 cpus;
};

/* A port of the virtio console. */
struct machine_port {
    struct serial *serial;
    struct virtio_console *console;
    unsigned n;
};

struct machine {
    struct machine_record record; /* filled while saving and loading */
    const struct engine *engine;
    struct engine_vm *vm;
    struct x86_cpuid_model cpuid;
    struct mem *mem;
    struct bus *pio, *mmio;
    struct clock *clock;
    struct loop *loop;
    struct pc *pc;
    struct devices devices;
    struct serial *serial[MACHINE_SERIALS];
    struct machine_port port[CONSOLE_PORTS_MAX];
    struct virtio_balloon *balloon; /* NULL: there is none */
    struct iothread *port_io;       /* NULL: there are no ports */
    struct e820_map map;
    u64 ram_bytes;
    unsigned cpus;
    int debug_exit_port; /* as configured, for snapshots */
    bool testdev;
    bool irqchip;      /* interrupt controllers are the engine's: so are HLT, INIT and SIPI */
    struct vcpu *vcpu; /* cpus of them */

    pthread_mutex_t end_mutex; /* innermost */
    bool ended;
    struct machine_outcome outcome;
    int park_count; /* reasons to be parked; under end_mutex */
};

/* The first call decides how the run ended, and stops loop and vCPUs. Any thread, any locks. */
void machine_end(struct machine *m, enum machine_outcome_kind kind, int status,
                 const struct err *e);

/* Sets and clears requests, waking and kicking the vCPU. Any thread, any locks. */
void vcpu_request(struct vcpu *v, u32 set, u32 clear);
void vcpu_sipi(struct vcpu *v, u8 vector);
void vcpu_attention(struct vcpu *v);
/* Waits until the vCPU is out of guest code; VCPU_PARK was requested. Not on the vCPU's thread. */
void vcpu_wait_parked(struct vcpu *v);

/* Its engine's vCPU is created by whoever builds the machine. */
void vcpu_init(struct vcpu *v, struct machine *m, unsigned id);
void vcpu_fini(struct vcpu *v);
must_check int vcpu_start(struct vcpu *v, struct err *e);
void vcpu_join(struct vcpu *v);

/* Firmware tables and the first megabyte; *rsdp is the address of the RSDP. */
must_check int machine_write_tables(struct machine *m, const struct machine_config *cfg, u64 *rsdp,
                                    struct err *e);
