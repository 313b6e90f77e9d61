/* tsc.c - RDTSC in line: for a moment the host's TSC says how much time has passed */
#include <cpuid.h>

#include "engine/bt/bt.h"

/* The time is the machine's clock, and C asks it. For the next few microseconds translated code
 * adds what the host's TSC says has passed since, at a rate that is a little too low: its time is
 * never ahead of the clock, so that it does not go back when C is asked next. It lags by
 * WINDOW / 4096 at most and by the time between the reading of the clock and that of the TSC, which
 * is less than another processor would need to notice. */
#define WINDOW       32768u       /* host ticks that one reading is good for */
#define SLOWER_SHIFT 12           /* the rate is lowered by 1 / 4096 */
#define MEASURE_MIN  (1u << 22)   /* host ticks between two readings that a rate is taken from */
#define PROMPT       600u         /* a reading that took longer is no measure */
#define MULT_MIN     (1ull << 29) /* guest ticks in a host tick, 32.32: 1/8 to 4 */
#define MULT_MAX     (1ull << 34)

#define INVARIANT_TSC BIT(8) /* CPUID 80000007H EDX */

static bool host_steady(void)
{
    u32 a, b, c, d;

    return __get_cpuid(0x80000007, &a, &b, &c, &d) && d & INVARIANT_TSC;
}

/* What translated code would say at this host time; 0: it would ask. */
static u64 in_line(const struct bt_tsc *t, u64 host)
{
    u64 since = host - t->host;

    return since < t->window ? t->guest + (u64)((unsigned __int128)since * t->mult >> 32) : 0;
}

static void measure(struct bt_tsc *t, u64 host, u64 guest, u64 took)
{
    u64 ticks = host - t->from_host;

    if (took > PROMPT || (t->from_host && ticks < MEASURE_MIN))
        return;
    u64 mult = 0;
    if (t->from_host)
        mult = (u64)(((unsigned __int128)(guest - t->from_guest) << 32) / ticks);
    mult -= mult >> SLOWER_SHIFT;
    t->mult = mult >= MULT_MIN && mult <= MULT_MAX ? mult : 0;
    t->from_host = host;
    t->from_guest = guest;
}

static u64 on_tsc(void *w)
{
    struct engine_vcpu *v = ((struct world *)w)->code_ctx;
    struct bt_tsc *t = &v->tsc;
    u64 before = __builtin_ia32_rdtsc(), guest = world_ops.tsc(w);
    u64 host = __builtin_ia32_rdtsc(), said = in_line(t, before);

    guest = MAX(guest, said);
    measure(t, host, guest, host - before);
    t->host = host;
    t->guest = guest;
    t->window = t->mult ? WINDOW : 0;
    return guest;
}

/* It may have the machine put the time somewhere, as kvmclock: RDTSC must not lag behind that. */
static int on_msr_write(void *w, u32 msr, u64 val)
{
    int rc = world_ops.msr_write(w, msr, val);

    bt_tsc_ask(((struct world *)w)->code_ctx);
    return rc;
}

void bt_tsc_ask(struct engine_vcpu *v)
{
    v->tsc.window = 0;
}

bool bt_tsc_setup(struct x86_ops *ops)
{
    if (!host_steady())
        return false;
    ops->tsc = on_tsc;
    ops->msr_write = on_msr_write;
    return true;
}
