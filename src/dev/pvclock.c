/* pvclock.c - paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst) */
#include "dev/pvclock.h"

#include <errno.h>
#include <string.h>

#include "base/freq.h"

#define SYSTEM_ENABLE   1ull /* bit 0 of the MSR; the rest is an address, 4-byte aligned */
#define SYSTEM_ADDR     (~3ull)
#define FLAG_TSC_STABLE 0x01

/* time = system_time + ((((tsc - tsc_timestamp) << shift) * mul) >> 32). The TSC counts ns, hence
 * shift 1 and mul one half. */
struct vcpu_time_info {
    u32 version; /* odd while it changes */
    u32 pad0;
    u64 tsc_timestamp;
    u64 system_time;
    u32 tsc_to_system_mul;
    s8 tsc_shift;
    u8 flags;
    u8 pad[2];
};
#define NS_MUL   0x80000000u
#define NS_SHIFT 1
_Static_assert(TSC_HZ == NS_PER_SEC, "NS_MUL and NS_SHIFT are for a TSC of 1 GHz");
_Static_assert(sizeof(struct vcpu_time_info) == 32, "ABI");

struct wall_clock {
    u32 version;
    u32 sec;
    u32 nsec;
};

/* Writes the body under an odd version, then the even one. Both structures begin with it. */
static void publish(struct pvclock *p, u64 gpa, void *body, u64 len)
{
    u32 *version = body;
    if (mem_read(p->mem, gpa, version, sizeof(*version)))
        return;
    *version = (*version | 1) + 2;
    if (mem_write(p->mem, gpa, body, len))
        return;
    u32 done = *version + 1;
    if (mem_write(p->mem, gpa, &done, sizeof(done)))
        return;
}

static void write_system(struct pvclock *p, u64 val)
{
    u64 now = clock_now_ns(p->clock);
    struct vcpu_time_info info = {
        .tsc_timestamp = now,
        .system_time = now,
        .tsc_to_system_mul = NS_MUL,
        .tsc_shift = NS_SHIFT,
        .flags = FLAG_TSC_STABLE,
    };
    p->system = val;
    if (val & SYSTEM_ENABLE)
        publish(p, val & SYSTEM_ADDR, &info, sizeof(info));
}

/* The wall clock at the moment system time was zero. */
static void write_wall(struct pvclock *p, u64 val)
{
    u64 sec, now = clock_now_ns(p->clock);
    u32 nsec;
    clock_wall(p->clock, &sec, &nsec);
    u64 boot = sec * NS_PER_SEC + nsec - now;
    struct wall_clock wall = {.sec = (u32)(boot / NS_PER_SEC), .nsec = (u32)(boot % NS_PER_SEC)};
    p->wall = val;
    publish(p, val & SYSTEM_ADDR, &wall, sizeof(wall));
}

int pvclock_msr_read(const struct pvclock *p, u32 msr, u64 *val)
{
    switch (msr) {
    case MSR_PV_SYSTEM:
    case MSR_PV_SYSTEM_OLD: *val = p->system; return 0;
    case MSR_PV_WALL:
    case MSR_PV_WALL_OLD: *val = p->wall; return 0;
    default: return -ENOENT;
    }
}

int pvclock_msr_write(struct pvclock *p, u32 msr, u64 val)
{
    switch (msr) {
    case MSR_PV_SYSTEM:
    case MSR_PV_SYSTEM_OLD: write_system(p, val); return 0;
    case MSR_PV_WALL:
    case MSR_PV_WALL_OLD: write_wall(p, val); return 0;
    default: return -ENOENT;
    }
}

static const struct snap_field pvclock_fields[] = {SNAP_U64(struct pvclock, system),
                                                   SNAP_U64(struct pvclock, wall), SNAP_END};

/* Any value is one the guest may write; the addresses are only used through bounded copies. */
static int pvclock_check(const void *scratch, struct err *e)
{
    return 0;
}

const struct snap_desc pvclock_snap = {
    "pvclock", 1, sizeof(struct pvclock), pvclock_fields, pvclock_check, NULL, NULL};

void pvclock_reset(struct pvclock *p)
{
    p->system = p->wall = 0;
}

void pvclock_init(struct pvclock *p, struct mem *mem, struct clock *clock)
{
    memset(p, 0, sizeof(*p));
    p->mem = mem;
    p->clock = clock;
}
