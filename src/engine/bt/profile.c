/* profile.c - --profile: a timer's signal counts what the vCPU does */
#include "engine/bt/profile.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/bt/cache.h"

#define INTERVAL_NS 1000000
#define STACK_BYTES (64 * KiB)
#define PROBES_MAX  32u

/* --- samples (in the signal handler: nothing but loads and stores) --------------------------- */

static void count(struct profile *p, u64 at, enum doing doing, unsigned ring)
{
    u32 i = (u32)((at * 0x9e3779b97f4a7c15ull) >> 32) + (u32)doing + ring * 8u;

    for (unsigned n = 0; n < PROBES_MAX; n++, i++) {
        struct sample *s = &p->slot[i % SAMPLE_SLOTS];
        if (!s->count)
            *s = (struct sample){.at = at, .doing = (u8)doing, .ring = (u8)ring};
        else if (s->at != at || s->doing != doing || s->ring != ring)
            continue;
        s->count++;
        return;
    }
    p->lost++;
}

static u32 hot_start(const struct tb *tb)
{
    return MIN(tb->entry_native, tb->entry_saved);
}

/* The block whose code, hot or cold, is at this offset of the code cache. Both lie in the order in
 * which blocks were made; a block's cold code ends with its stubs for the dead. */
static const struct tb *block_at(const struct cache *c, u32 off)
{
    for (unsigned i = 0; i < CACHE_REGIONS; i++) {
        const struct cregion *r = &c->region[i];
        bool cold = off >= r->cold_start;
        u32 lo = r->tb_first, hi = r->tb_used;

        if (off < r->start || off >= r->cold_end)
            continue;
        while (lo < hi) { /* the first one behind the offset */
            u32 mid = lo + (hi - lo) / 2;
            bool behind = cold ? c->tbs[mid].dead_saved >= off : hot_start(&c->tbs[mid]) > off;
            if (behind)
                hi = mid;
            else
                lo = mid + 1;
        }
        lo -= !cold;
        return lo >= r->tb_first && lo < r->tb_used ? &c->tbs[lo] : NULL;
    }
    return NULL;
}

static void take(struct profile *p, u64 host)
{
    struct engine_vcpu *v = p->v;
    const struct cache *c = v->vm->cache;
    u64 off = host - (u64)(uintptr_t)c->buf.x;
    unsigned ring = v->cpu.s.cpl;

    p->samples++;
    if (off < c->buf.size) {
        const struct tb *tb = off < CACHE_STUBS ? NULL : block_at(c, (u32)off);
        u64 rip = tb ? rip_at(v, tb_index(c, tb), (s64)(tb->gpa & PAGE_MASK)) : 0;
        count(p, rip, tb ? DOING_GUEST : DOING_STUB, ring);
        return;
    }
    enum doing doing = (enum doing)p->doing;
    count(p, p->rip ? p->rip : v->cpu.s.rip, doing, ring);
    if (doing != DOING_HALT)
        count(p, host, doing, SAMPLE_HOST);
}

static void on_signal(int signo, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;

    if (info->si_code == SI_TIMER)
        take(info->si_value.sival_ptr, (u64)uc->uc_mcontext.gregs[REG_RIP]);
}

/* --- what C does ------------------------------------------------------------------------------ */

enum doing profile_set(struct engine_vcpu *v, enum doing doing)
{
    struct profile *p = v->profile;
    u32 was = p->doing;

    __atomic_store_n(&p->doing, doing, __ATOMIC_RELAXED);
    return (enum doing)was;
}

static u64 begin(struct engine_vcpu *v, enum doing doing, u64 rip)
{
    v->profile->rip = rip;
    profile_set(v, doing);
    return 0;
}

static u64 end(struct engine_vcpu *v, u64 host)
{
    begin(v, DOING_C, 0);
    return host;
}

static u64 on_next(struct engine_vcpu *v)
{
    begin(v, DOING_C, 0);
    return end(v, v->profile->own.next(v));
}

static u64 on_dead(struct engine_vcpu *v)
{
    begin(v, DOING_C, 0);
    return end(v, v->profile->own.dead(v));
}

static u64 on_generic(struct engine_vcpu *v, const struct site *s)
{
    begin(v, DOING_C, rip_at(v, s->tb, s->off));
    return end(v, v->profile->own.generic(v, s));
}

static u64 on_slow(struct engine_vcpu *v, u64 lin, const struct site *s)
{
    begin(v, DOING_MISS, rip_at(v, s->tb, s->off));
    return end(v, v->profile->own.slow(v, lin, s));
}

static u64 on_link(struct engine_vcpu *v, u64 index)
{
    const struct cache *c = v->vm->cache;
    u32 tb = c->links[index].tb;

    begin(v, DOING_C, rip_at(v, tb, (s64)(c->tbs[tb].gpa & PAGE_MASK)));
    return end(v, v->profile->own.link(v, index));
}

static u64 on_fp(struct engine_vcpu *v, const struct site *s)
{
    begin(v, DOING_C, rip_at(v, s->tb, s->off));
    return end(v, v->profile->own.fp(v, s));
}

static void wrap_helpers(struct engine_vcpu *v)
{
    struct profile *p = v->profile;

#define WRAP(name) p->own.name = v->h_##name, v->h_##name = on_##name
    WRAP(next);
    WRAP(dead);
    WRAP(generic);
    WRAP(slow);
    WRAP(link);
    WRAP(fp);
#undef WRAP
}

/* --- devices ---------------------------------------------------------------------------------- */

#define VCPU(w) ((struct engine_vcpu *)((struct world *)(w))->code_ctx)

static u64 mmio_read(void *w, u64 gpa, unsigned size)
{
    enum doing was = profile_set(VCPU(w), DOING_DEVICE);
    u64 val = world_ops.mmio_read(w, gpa, size);

    profile_set(VCPU(w), was);
    return val;
}

static void mmio_write(void *w, u64 gpa, unsigned size, u64 val)
{
    enum doing was = profile_set(VCPU(w), DOING_DEVICE);

    world_ops.mmio_write(w, gpa, size, val);
    profile_set(VCPU(w), was);
}

static u64 io_in(void *w, u16 port, unsigned size)
{
    enum doing was = profile_set(VCPU(w), DOING_DEVICE);
    u64 val = world_ops.io_in(w, port, size);

    profile_set(VCPU(w), was);
    return val;
}

static void io_out(void *w, u16 port, unsigned size, u64 val)
{
    enum doing was = profile_set(VCPU(w), DOING_DEVICE);

    world_ops.io_out(w, port, size, val);
    profile_set(VCPU(w), was);
}

static void wrap_devices(struct x86_ops *ops)
{
    ops->mmio_read = mmio_read;
    ops->mmio_write = mmio_write;
    ops->io_in = io_in;
    ops->io_out = io_out;
}

/* --- life ------------------------------------------------------------------------------------- */

struct profile *profile_create(struct engine_vcpu *v)
{
    struct profile *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->v = v;
    p->doing = DOING_HALT;
    p->slot = calloc(SAMPLE_SLOTS, sizeof(*p->slot));
    p->stack = malloc(STACK_BYTES);
    if (!p->slot || !p->stack) {
        free(p->slot);
        free(p->stack);
        free(p);
        return NULL;
    }
    p->next = v->vm->profiles;
    v->vm->profiles = p;
    v->profile = p;
    wrap_helpers(v);
    wrap_devices(&v->vm->ops);
    return p;
}

/* The handler has a stack of its own: RSP of translated code is the shadow stack's. */
static int start(struct profile *p)
{
    struct sigaction sa = {.sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    stack_t stack = {.ss_sp = p->stack, .ss_size = STACK_BYTES};
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    struct itimerspec every = {{0, INTERVAL_NS}, {0, INTERVAL_NS}};
    timer_t timer;
    sigset_t set;

    ev.sigev_value.sival_ptr = p;
    ev._sigev_un._tid = gettid();
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    if (sigaltstack(&stack, NULL) || sigaction(SIGPROF, &sa, NULL) ||
        timer_create(CLOCK_MONOTONIC, &ev, &timer))
        return -errno;
    p->timer = timer;
    p->timer_on = true;
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return timer_settime(timer, 0, &every, NULL) ? -errno : 0;
}

void profile_enter(struct engine_vcpu *v)
{
    struct profile *p = v->profile;

    if (!p->tried) {
        p->tried = true;
        p->failed = start(p);
    }
    begin(v, DOING_C, 0);
}

void profile_leave(struct engine_vcpu *v)
{
    begin(v, DOING_HALT, 0);
}

void profile_stop(struct engine_vcpu *v)
{
    struct profile *p = v->profile;

    if (p->timer_on)
        timer_delete(p->timer);
    p->timer_on = false;
}

void profile_free(struct engine_vm *vm)
{
    for (struct profile *p = vm->profiles, *after; p; p = after) {
        after = p->next;
        free(p->slot);
        free(p->stack);
        free(p);
    }
    vm->profiles = NULL;
}
