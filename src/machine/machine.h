/* machine.h - a virtual machine from power-on to its end: memory, board, processors, boot */
#pragma once

#include "base/err.h"
#include "base/types.h"
#include "base/limits.h"
#include "engine/engine.h"
#include "host/net/net.h"
#include "host/disk/disk.h"
#include "machine/boot/boot.h"
#include "machine/pc.h"
#include "snap/snap.h"
#include "x86/feature.h"

struct loop;
struct machine;
struct serial;

#define MACHINE_SERIALS 4

/* A network interface. */
enum machine_net_kind { NET_USER, NET_TAP, NET_STREAM, NET_DGRAM };

struct machine_net {
    enum machine_net_kind kind;
    u8 mac[6];
    struct net_user_config user; /* NET_USER */
    const char *path;            /* the tap's name; the socket's path, local for NET_DGRAM */
    const char *remote;          /* NET_DGRAM */
    bool server;                 /* NET_STREAM */
};

/* A virtio disk on an I/O thread of its own. */
struct machine_disk {
    struct disk_config disk;
    const char *serial; /* NULL: none */
};

/* What a snapshot's processors were, in full: the model's name alone says it only for one host. */
struct machine_cpuid {
    u64 features[X86_FEATURE_WORDS];
    u64 arch_capabilities;
};

/* A folder of the host by virtio 9p; the guest mounts it by the tag MACHINE_SHARE_TAG, with its
 * index. */
#define MACHINE_SHARE_TAG "r3share%u"

struct machine_share {
    const char *dir;
    bool read_only;
};

struct machine_config {
    const struct engine *engine;
    struct bt_config bt; /* engine bt: tuning */
    enum irqchip_choice irqchip;
    const char *cpu_model; /* NULL: the best of ours that the host can execute */
    unsigned cpus;         /* 1..VCPUS_MAX */
    u64 ram_bytes;
    /* To be filled by snapshot_load, not booted: processors are to be exactly these. Else NULL. */
    const struct machine_cpuid *restore;

    /* What to start: a kernel with its modules and command line, a ROM image, or a script (engine
     * script). A file whose `name` is NULL is not there. All must outlive machine_create only. */
    struct boot_file kernel, bios;
    const struct boot_file *module;
    size_t modules;
    const char *cmdline; /* NULL: empty */
    const char *script;  /* program of engine script; must outlive the machine */

    bool serial[MACHINE_SERIALS]; /* COM1..COM4 present */
    struct pc_debug_port debug[DEBUG_PORTS_MAX];
    int debug_exit_port;             /* 0: none */
    const struct machine_disk *disk; /* must outlive machine_create only, as its strings */
    unsigned disks;
    const struct machine_share *share; /* must outlive machine_create only, as its strings */
    unsigned shares;
    bool testdev;

    struct machine_net net[NICS_MAX];
    unsigned nets;
    struct {
        char path[VSOCK_PATH_BYTES];         /* empty: none */
        u32 cid;                             /* 3 and up */
    } vsock;                                 /* virtio sockets (dev/virtio/vsock.h) */
    bool balloon;                            /* virtio memory balloon */
    bool rng;                                /* virtio entropy device */
    bool console;                            /* virtio console: port 0, and ports of these names */
    const char *port[CONSOLE_PORTS_MAX - 1]; /* must outlive the machine */
    unsigned ports;
};

enum machine_outcome_kind {
    MACHINE_POWER_OFF,
    MACHINE_RESET, /* the guest asked for a reset */
    MACHINE_TRIPLE_FAULT,
    MACHINE_PANIC,      /* the guest's kernel told the panic notifier */
    MACHINE_DEBUG_EXIT, /* status holds the value */
    MACHINE_SCRIPT_DONE,
    MACHINE_STOPPED, /* machine_stop(); status holds its argument */
    MACHINE_FAILED   /* the engine or host gave up; err says why */
};

struct machine_outcome {
    enum machine_outcome_kind kind;
    int status;
    struct err err;
};

/* Builds everything and loads what is to start; no vCPU runs yet. Main thread. 0 or -errno, and
 * then nothing is left behind. */
must_check int machine_create(const struct machine_config *cfg, struct machine **out,
                              struct err *e);
/* Not while machine_run is going on. */
void machine_destroy(struct machine *m);

/* The loop that machine_run runs: callers add their descriptors, signals and tasks to it. */
struct loop *machine_loop(struct machine *m);
/* COM n's bytes on the loop thread; NULL when not present. Lives as long as the machine. */
struct serial *machine_serial(struct machine *m, unsigned n);
/* The same for port n of the virtio console: 0 the console itself, then the named ones in order. */
struct serial *machine_port(struct machine *m, unsigned n);
/* Returns when what the guest had written to the ports before has reached their consumers' buffers,
 * as far as these had room. Loop thread, not paused. */
void machine_ports_settle(struct machine *m);
/* The size of the terminal at port 0. */
void machine_console_resize(struct machine *m, u16 cols, u16 rows);
/* Asks the guest to get along with ram_bytes (at most what the machine has); the rest goes into
 * its balloon, and so back to the host. -ENODEV without a balloon, -EINVAL when out of range. Any
 * thread. */
must_check int machine_balloon_set(struct machine *m, u64 ram_bytes);
/* Bytes; `discarded` were given back to the host since power-on, reported free pages included. */
struct machine_balloon {
    u64 wanted, has, discarded;
};
/* Also what the guest says of its memory (bytes, events), which is at least one call old. -ENODEV
 * without a balloon. Any thread. */
must_check int machine_balloon_get(struct machine *m, struct machine_balloon *out,
                                   void (*emit)(void *arg, const char *name, u64 value), void *arg);
const char *machine_cpu_model(const struct machine *m);

/* Starts the vCPUs, runs the event loop on the calling thread and returns when the machine ended,
 * with all vCPU threads gone. Once per machine. */
void machine_run(struct machine *m, struct machine_outcome *out);

/* Ends the run as MACHINE_STOPPED; the first reason to end wins. Any thread, any locks. */
void machine_stop(struct machine *m, int status);

/* Presses the ACPI power button. False when the guest does not listen for it. Any thread. */
bool machine_power_button(struct machine *m);

/* While `on`, vCPUs stay out of guest code: for backends whose consumer is slow. Guest time goes
 * on. Any thread, any locks; calls with true and false come in pairs. */
void machine_throttle(struct machine *m, bool on);

/* Stops guest time and all vCPUs at instruction boundaries, and lets them go on. Pairs; loop
 * thread, or while machine_run is not going on. */
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);

/* The state records of processors and board, without RAM. Paused. Load checks the whole stream
 * before it changes anything. */
must_check int machine_save(struct machine *m, struct snap_buf *out, struct err *e);
must_check int machine_load(struct machine *m, const void *data, size_t len, struct err *e);

/* A processor's registers, for monitors and tests. Paused. */
must_check int machine_cpu_state(struct machine *m, unsigned cpu, struct x86_state *s);

/* The engine's counters; may be called after the run. */
void machine_stats(struct machine *m, void (*emit)(void *arg, const char *name, u64 value),
                   void *arg);
/* What its bt_config.profile found, line by line; after the run. */
void machine_profile(struct machine *m, void (*emit)(void *arg, const char *line), void *arg);
