/* bt.c - engine bt: guest code translated to host code of the same architecture */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/bt/gen.h"
#include "engine/bt/gs.h"
#include "engine/bt/lockstep.h"
#include "engine/bt/profile.h"
#include "engine/bt/stop.h"
#include "engine/bt/translate.h"
#include "engine/interp/step.h"
#include "x86/fpu.h"
#include "x86/known.h"
#include "x86/mmu.h"

#define CODE_CACHE_DEFAULT (64 * MiB)

/* --- events from the TLB ---------------------------------------------------------------------- */

void bt_clear_table(struct engine_vcpu *v, struct ibtc *t)
{
    ibtc_clear(t);
    if (t != v->in_use)
        return;
    v->link_gen = t->gen;
    v->shadow_sp = t->shadow_sp;
    v->cleared = true;
}

/* Jump caches follow the TLB: what a table names was found through translations that are void. */
static void on_tlb_flushed(void *w, u32 contexts, u64 lin, bool global)
{
    struct engine_vcpu *v = ((struct world *)w)->code_ctx;
    bool all = lin == X86_TLB_ALL_PAGES;

    v->stats.tlb_flushes++;
    for (unsigned i = 0; i < ARRAY_SIZE(v->table); i++) {
        struct ibtc *t = v->table[i];
        if (!t || !t->used)
            continue;
        bool ours = i == BT_KERNEL_TABLE ? t->local : contexts >> i & 1;
        if (!(global || ours) || !(all || ibtc_has_page(t, lin)))
            continue;
        bt_clear_table(v, t);
    }
}

/* --- mode ------------------------------------------------------------------------------------- */

u32 tb_mode(const struct x86_cpu *cpu)
{
    const struct x86_seg *cs = &cpu->s.seg[X86_CS];
    u32 mode = (u32)(cpu->s.cpl == 3) << 1 | (u32)cpu->seg_fast << MODE_SEG_FAST |
               (u32)(cpu->code_bits >> 4) << MODE_DECODE | (u32)cpu->prot << 19 |
               (u32)cpu->lma << 20;

    if (cpu->code_bits == 64)
        return mode | MODE_64 | MODE_NATIVE;
    for (unsigned i = 0; i < X86_SREGS; i++)
        mode |= (u32)(cpu->seg_base[i] != 0) << (MODE_SEG_BASE + i);
    if (cpu->stack_bytes == 4)
        mode |= MODE_STACK32;
    if (cpu->code_bits == 32 && cpu->prot && !cs->base && cs->limit == 0xffffffff)
        mode |= MODE_NATIVE;
    return mode;
}

/* --- events from memory ----------------------------------------------------------------------- */

static void tell_all_locked(struct engine_vm *vm, bool remapped)
{
    for (struct engine_vcpu *v = vm->vcpus; v; v = v->next) {
        if (remapped)
            __atomic_store_n(&v->remapped, true, __ATOMIC_RELEASE);
        x86_attn_set(&v->cpu, X86_ATTN_CODE);
    }
}

static void on_code_written(void *ctx, u64 gpa, u64 len)
{
    struct engine_vm *vm = ctx;

    lock_take(&vm->write_lock);
    if (vm->nwritten < ARRAY_SIZE(vm->written)) {
        vm->written[vm->nwritten].gpa = gpa;
        vm->written[vm->nwritten++].len = len;
    } else {
        vm->flush = true;
    }
    tell_all_locked(vm, false);
    lock_drop(&vm->write_lock);
}

static void on_remapped(void *ctx, u64 gpa, u64 len)
{
    struct engine_vm *vm = ctx;

    lock_take(&vm->write_lock);
    vm->flush = true;
    tell_all_locked(vm, true);
    lock_drop(&vm->write_lock);
}

static void on_own_code_write(void *ctx, u64 gpa, unsigned size)
{
    struct engine_vcpu *v = ctx;

    if (cache_invalidate(v->vm->cache, gpa, size))
        x86_attn_set(&v->cpu, X86_ATTN_CODE);
}

/* A page is marked only while no other vCPU executes and none has a write tag for it: so who finds
 * it marked knows that every write from now on is reported. */
void bt_mark_code(struct engine_vcpu *v, u64 gpa_page)
{
    if (mem_code_marked(v->vm->cfg.mem, gpa_page))
        return;
    bt_stop(v);
    mem_code_mark(v->vm->cfg.mem, gpa_page);
    for (struct engine_vcpu *o = v->vm->vcpus; o; o = o->next)
        x86_tlb_drop_gpa(&o->cpu, gpa_page, PAGE_BYTES, true);
    bt_resume(v);
}

/* Applies what others have written. The cache's lock is held meanwhile, so that a vCPU which finds
 * the list empty finds its blocks dropped, too. True: the cache is to be flushed. */
static bool drop_written(struct engine_vm *vm)
{
    struct cache *c = vm->cache;

    lock_take(&c->lock);
    lock_take(&vm->write_lock);
    bool flush = vm->flush;
    for (unsigned i = 0; i < vm->nwritten; i++)
        cache_invalidate_locked(c, vm->written[i].gpa, vm->written[i].len);
    vm->nwritten = 0;
    lock_drop(&vm->write_lock);
    lock_drop(&c->lock);
    return flush;
}

static void flush_alone(struct engine_vm *vm)
{
    lock_take(&vm->write_lock);
    bool flush = vm->flush;
    vm->flush = false;
    lock_drop(&vm->write_lock);
    if (flush)
        cache_flush_alone(vm->cache);
}

void bt_take_over_writes(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;

    x86_attn_clear(&v->cpu, X86_ATTN_CODE);
    bt_let_stop(v);
    bool flush = drop_written(vm);
    if (flush || cache_to_close(vm->cache)) {
        bt_stop(v);
        flush_alone(vm);
        cache_close_dropped_alone(vm->cache);
        bt_resume(v);
    }
    if (__atomic_exchange_n(&v->remapped, false, __ATOMIC_ACQUIRE))
        x86_tlb_flush(&v->cpu, true);
}

/* --- the loop --------------------------------------------------------------------------------- */

void bt_enter(struct engine_vcpu *v, u64 host)
{
    typedef void enter_fn(struct engine_vcpu *, u64);
    union {
        const u8 *x;
        enter_fn *fn;
    } stub = {.x = cache_x(v->vm->cache, bt_stubs.enter)};

    v->stats.enters++;
    stub.fn(v, host);
}

static int step(struct engine_vcpu *v)
{
    v->stats.stepped++;
    return interp_step(&v->cpu);
}

/* One trip through the loop: events, then translated code or one instruction. */
static int run_once(struct engine_vcpu *v)
{
    struct x86_cpu *cpu = &v->cpu;

    if (unlikely(x86_attn(cpu))) {
        if (x86_attn(cpu) & X86_ATTN_CODE)
            bt_take_over_writes(v);
        int rc = x86_boundary(cpu);
        if (rc)
            return rc;
        if (x86_attn(cpu))
            return step(v);
    }
    v->step = false;
    u64 host = bt_next(v);
    if (host && unlikely(v->lockstep) && lockstep_due(v))
        return lockstep_check(v, host);
    if (host)
        bt_enter(v, host);
    if (v->step && v->rc == X86_OK && !x86_attn(cpu))
        return step(v);
    return v->rc;
}

static void add_stats(struct engine_vcpu *v)
{
    struct bt_stats *to = &v->vm->stats, *from = &v->stats;

#define BT_STAT(name, text)                                      \
    __atomic_fetch_add(&to->name, from->name, __ATOMIC_RELAXED); \
    from->name = 0;
#include "engine/bt/stats.def"
#undef BT_STAT
}

static void bt_run(struct engine_vcpu *v, struct vcpu_exit *exit)
{
    struct x86_cpu *cpu = &v->cpu;
    int rc;

    exit->err.code = 0;
    bt_go_in(v);
    gs_set(v);
    bt_tsc_ask(v);
    if (unlikely(v->profile))
        profile_enter(v);
    for (;;) {
        rc = run_once(v);
        if (unlikely(lockstep_failed(v)))
            break;
        if (likely(rc == X86_OK || rc == X86_YIELD))
            continue;
        if (rc == X86_HALT && !(x86_attn(cpu) & X86_ATTN_KICK)) {
            rc = x86_boundary(cpu);
            if (rc == X86_OK)
                continue;
        }
        break;
    }
    exit->reason = rc == X86_KICKED ? VCPU_EXIT_KICKED
                   : rc == X86_HALT ? VCPU_EXIT_HALTED
                                    : VCPU_EXIT_SHUTDOWN;
    if (unlikely(lockstep_failed(v))) {
        exit->reason = VCPU_EXIT_FAILED;
        err_set(&exit->err, EIO, "lockstep: %s", lockstep_failed(v));
    }
    add_stats(v);
    if (unlikely(v->profile))
        profile_leave(v);
    bt_go_out(v);
}

/* --- engine ----------------------------------------------------------------------------------- */

static enum engine_verdict bt_probe(struct err *e)
{
    return ENGINE_WORKS;
}

static void bt_vm_destroy(struct engine_vm *vm)
{
    mem_unlisten(vm->cfg.mem, vm);
    profile_free(vm);
    perfmap_destroy(vm);
    cache_destroy(vm->cache);
    pthread_cond_destroy(&vm->stop_changed);
    lock_destroy(&vm->write_lock);
    lock_destroy(&vm->stop_lock);
    free(vm);
}

static int bt_vm_create(const struct engine_vm_config *cfg, struct engine_vm **out, struct err *e)
{
    struct engine_vm *vm = calloc(1, sizeof(*vm));

    if (!vm)
        return err_set(e, ENOMEM, "no memory for a VM");
    vm->cfg = *cfg;
    vm->ops = world_ops;
    vm->ops.tlb_flushed = on_tlb_flushed;
    vm->tsc_inline = !cfg->bt.lockstep && bt_tsc_setup(&vm->ops);
    vm->block_insns = cfg->bt.block_insns ? MIN(cfg->bt.block_insns, BLOCK_INSNS) : BLOCK_INSNS;
    vm->unroll = !cfg->bt.block_insns && !cfg->bt.lockstep;
    vm->linking = !cfg->bt.no_chaining && !cfg->bt.lockstep;
    lock_init(&vm->stop_lock);
    lock_init(&vm->write_lock);
    ASSERT(pthread_cond_init(&vm->stop_changed, NULL) == 0);
    int rc = cache_create(&vm->cache, cfg->mem,
                          cfg->bt.code_cache ? cfg->bt.code_cache : CODE_CACHE_DEFAULT,
                          &vm->cache_stats, e);
    if (!rc && cfg->bt.perfmap)
        rc = perfmap_create(vm, e);
    if (rc) {
        bt_vm_destroy(vm);
        return rc;
    }
    stubs_emit(vm->cache);
    rc = mem_listen(cfg->mem, &(struct mem_listener){.code_written = on_code_written,
                                                     .remapped = on_remapped,
                                                     .ctx = vm});
    if (rc) {
        bt_vm_destroy(vm);
        return err_set(e, -rc, "too many listeners on guest memory");
    }
    *out = vm;
    return 0;
}

static void bt_vcpu_destroy(struct engine_vcpu *v)
{
    if (!v)
        return;
    if (v->profile)
        profile_stop(v);
    bt_part(v);
    for (unsigned i = 0; i < ARRAY_SIZE(v->table); i++)
        ibtc_destroy(v->table[i]);
    free(v->decoded);
    free(v->known);
    lockstep_destroy(v);
    x86_cpu_fini(&v->cpu);
    free(v);
}

static int bt_vcpu_create(struct engine_vm *vm, unsigned id, const struct vcpu_env *env,
                          struct engine_vcpu **out, struct err *e)
{
    struct engine_vcpu *v = aligned_alloc(64, align_up(sizeof(*v), 64));

    if (!v)
        return err_set(e, ENOMEM, "no memory for vCPU %u", id);
    memset(v, 0, sizeof(*v));
    v->vm = vm;
    v->self = v;
    v->nowhere_addend = (u64)(uintptr_t)v->nowhere - BT_NO_STACK;
    bt_forget_stack(v);
    v->host_mxcsr = MXCSR_INIT;
    v->decoded = calloc(1, bt_decoded_bytes());
    v->known = calloc(1, x86_known_bytes());
    if (!v->decoded || !v->known) {
        bt_vcpu_destroy(v);
        return err_set(e, ENOMEM, "no memory for vCPU %u", id);
    }
    v->world = (struct world){.cpu = &v->cpu,
                              .mem = vm->cfg.mem,
                              .pio = vm->cfg.pio,
                              .mmio = vm->cfg.mmio,
                              .env = env,
                              .code_write = on_own_code_write,
                              .code_ctx = v};
    x86_cpu_init(&v->cpu, &vm->ops, &v->world, vm->cfg.cpuid);
    v->cpu.apic_id = id;
    v->cpu.no_hits = vm->cfg.bt.no_hits;
    x86_tlb_select(&v->cpu);
    bt_set_helpers(v);
    if (vm->cfg.bt.profile && !profile_create(v)) {
        bt_vcpu_destroy(v);
        return err_set(e, ENOMEM, "no memory for vCPU %u", id);
    }
    int rc = vm->cfg.bt.lockstep ? lockstep_create(v, vm->cfg.bt.lockstep, e) : 0;
    if (rc) {
        bt_vcpu_destroy(v);
        return rc;
    }
    bt_join(v);
    *out = v;
    return 0;
}

static void bt_kick(struct engine_vcpu *v)
{
    x86_attn_set(&v->cpu, X86_ATTN_KICK);
}

static void bt_attention(struct engine_vcpu *v)
{
    x86_attn_set(&v->cpu, X86_ATTN_IRQ | X86_ATTN_NMI);
}

static void bt_get_state(struct engine_vcpu *v, struct x86_state *s)
{
    *s = v->cpu.s;
}

static int bt_set_state(struct engine_vcpu *v, const struct x86_state *s, struct err *e)
{
    int rc = x86_state_check(s, e);

    if (rc)
        return rc;
    bt_go_in(v);
    x86_cpu_set_state(&v->cpu, s);
    bt_go_out(v);
    return 0;
}

static void bt_stats(struct engine_vm *vm, void (*emit)(void *arg, const char *name, u64 value),
                     void *arg)
{
#define BT_STAT(name, text) emit(arg, "bt." #name, vm->stats.name + vm->cache_stats.name);
#include "engine/bt/stats.def"
#undef BT_STAT
}

const struct engine engine_bt = {
    .name = "bt",
    .summary = "binary translation: fast, needs nothing of the host",
    .probe = bt_probe,
    .vm_create = bt_vm_create,
    .vm_destroy = bt_vm_destroy,
    .vcpu_create = bt_vcpu_create,
    .vcpu_destroy = bt_vcpu_destroy,
    .vcpu_run = bt_run,
    .vcpu_kick = bt_kick,
    .vcpu_attention = bt_attention,
    .vcpu_get_state = bt_get_state,
    .vcpu_set_state = bt_set_state,
    .stats = bt_stats,
    .profile = profile_report,
};
