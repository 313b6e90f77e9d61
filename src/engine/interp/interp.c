/* interp.c - the reference engine: decoded blocks, one handler call an instruction */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/engine.h"
#include "engine/interp/icache.h"
#include "engine/interp/step.h"
#include "engine/world.h"
#include "x86/mmu.h"

#define WRITTEN_MAX 64 /* queued code writes of other threads; more become one flush */

struct engine_vm {
    struct engine_vm_config cfg;
    u64 insns, blocks, steps; /* retired by all vCPUs, added up when they leave run */
};

struct engine_vcpu {
    struct x86_cpu *cpu;
    struct world world;
    struct icache *cache;
    struct engine_vm *vm;

    /* Code writes by others (devices, loaders), taken over at the next boundary. */
    struct lock lock;
    struct {
        u64 gpa, len;
    } written[WRITTEN_MAX];
    unsigned nwritten;
    bool flush;    /* queue overflowed */
    bool remapped; /* RAM slots or write permissions changed */
};

/* --- events from memory ----------------------------------------------------------------------- */

static void on_code_written(void *ctx, u64 gpa, u64 len)
{
    struct engine_vcpu *v = ctx;

    lock_take(&v->lock);
    if (v->nwritten < WRITTEN_MAX) {
        v->written[v->nwritten].gpa = gpa;
        v->written[v->nwritten++].len = len;
    } else {
        v->flush = true;
    }
    lock_drop(&v->lock);
    x86_attn_set(v->cpu, X86_ATTN_CODE);
}

static void on_remapped(void *ctx, u64 gpa, u64 len)
{
    struct engine_vcpu *v = ctx;

    lock_take(&v->lock);
    v->remapped = true;
    lock_drop(&v->lock);
    x86_attn_set(v->cpu, X86_ATTN_CODE);
}

/* The vCPU's own stores: the running block may be among what they changed. */
static void on_own_code_write(void *ctx, u64 gpa, unsigned size)
{
    struct engine_vcpu *v = ctx;
    if (icache_invalidate(v->cache, gpa, size))
        x86_attn_set(v->cpu, X86_ATTN_CODE);
}

static void drop_writes(void *ctx, u64 gpa_page)
{
    struct engine_vcpu *v = ctx;
    x86_tlb_drop_gpa(v->cpu, gpa_page, PAGE_BYTES, true);
}

static void take_over_writes(struct engine_vcpu *v)
{
    x86_attn_clear(v->cpu, X86_ATTN_CODE);
    lock_take(&v->lock);
    for (unsigned i = 0; i < v->nwritten; i++)
        icache_invalidate(v->cache, v->written[i].gpa, v->written[i].len);
    if (v->flush || v->remapped)
        icache_flush(v->cache);
    bool remapped = v->remapped;
    v->nwritten = 0;
    v->flush = v->remapped = false;
    lock_drop(&v->lock);
    if (remapped)
        x86_tlb_flush(v->cpu, true);
}

/* --- blocks ----------------------------------------------------------------------------------- */

/* Linear address of the next instruction. */
static inline u64 next_lin(const struct x86_cpu *cpu)
{
    return cpu->code_bits == 64 ? cpu->s.rip : (u32)(cpu->s.rip + cpu->s.seg[X86_CS].base);
}

/* Decodes a block at RIP. *out is NULL when the code cannot be cached (not in RAM or ROM). X86_OK
 * or X86_FAULT (the first instruction cannot be fetched or decoded). */
static int build_block(struct engine_vcpu *v, u64 gpa, struct iblock **out)
{
    struct x86_cpu *cpu = v->cpu;
    struct x86_insn insn[IBLOCK_INSNS_MAX];
    u64 rip = cpu->s.rip, at = 0, gpa2 = ~0ull, first2 = ~0ull;
    unsigned n = 0, bytes = 0;
    int rc = X86_OK;

    while (n < IBLOCK_INSNS_MAX && (gpa & PAGE_MASK) + bytes < PAGE_BYTES) {
        rc = x86_fetch(cpu, &insn[n], &at, &gpa2);
        if (rc || (gpa2 != ~0ull && n))
            break;
        bytes += insn[n].len;
        first2 = gpa2;
        cpu->s.rip += insn[n].len;
        if (insn[n++].flags & X86_INSN_ENDS_BLOCK)
            break;
    }
    cpu->s.rip = rip;
    if (!n)
        return rc;
    *out = icache_add(v->cache, gpa, first2, icache_mode(cpu), insn, n, bytes);
    return X86_OK;
}

/* The block's bytes must lie inside the CS limit, and a continuation page must still be the one
 * decoded from. */
static int block_usable(struct x86_cpu *cpu, const struct iblock *b, bool *usable)
{
    *usable = cpu->code_bits == 64 || cpu->s.rip + b->bytes - 1 <= cpu->s.seg[X86_CS].limit;
    if (!*usable || likely(b->gpa2 == ~0ull))
        return X86_OK;
    const u8 *hva;
    u64 gpa2, lin2 = ((next_lin(cpu) | PAGE_MASK) + 1) & cpu->lin_mask;
    TRY(x86_lin_fetch(cpu, lin2, &gpa2, &hva));
    *usable = (gpa2 & ~PAGE_MASK) == (b->gpa2 & ~PAGE_MASK);
    return X86_OK;
}

/* Finds or builds the block at RIP; *out NULL: step one instruction instead. */
static int get_block(struct engine_vcpu *v, struct iblock **out)
{
    struct x86_cpu *cpu = v->cpu;
    u64 lin = next_lin(cpu), gpa;
    const u8 *hva;
    bool usable;

    if (unlikely(!x86_tlb_exec_gpa(cpu, lin, &gpa))) {
        TRY(x86_lin_fetch(cpu, lin, &gpa, &hva));
        *out = NULL;
        if (!hva)
            return X86_OK;
    }
    *out = icache_find(v->cache, gpa, icache_mode(cpu));
    if (unlikely(!*out))
        TRY(build_block(v, gpa, out));
    if (likely(cpu->code_bits == 64 && (*out)->gpa2 == ~0ull))
        return X86_OK;
    TRY(block_usable(cpu, *out, &usable));
    if (!usable)
        *out = NULL;
    return X86_OK;
}

/* --- the loop --------------------------------------------------------------------------------- */

static int run_block(struct engine_vcpu *v)
{
    struct x86_cpu *cpu = v->cpu;
    struct iblock *b;
    int rc = get_block(v, &b);

    if (unlikely(rc))
        return x86_deliver(cpu);
    if (unlikely(!b)) {
        v->vm->steps++;
        return interp_step(cpu);
    }
    const struct x86_insn *in = b->insn, *end = in + b->n;
    do
        rc = x86_exec(cpu, in++);
    while (rc == X86_OK && in < end && likely(!x86_attn(cpu)));
    v->vm->insns += (u64)(in - b->insn);
    v->vm->blocks++;
    return rc == X86_FAULT ? x86_deliver(cpu) : rc;
}

/* One trip with attention: events, then at most one instruction with its traps. */
static int run_attentive(struct engine_vcpu *v)
{
    struct x86_cpu *cpu = v->cpu;

    if (x86_attn(cpu) & X86_ATTN_CODE)
        take_over_writes(v);
    int rc = x86_boundary(cpu);
    if (rc)
        return rc;
    if (x86_attn(cpu) & (X86_ATTN_STEP | X86_ATTN_SHADOW)) {
        v->vm->steps++;
        return interp_step(cpu);
    }
    return run_block(v);
}

static void interp_run(struct engine_vcpu *v, struct vcpu_exit *exit)
{
    struct x86_cpu *cpu = v->cpu;

    exit->err.code = 0;
    for (;;) {
        int rc = unlikely(x86_attn(cpu)) ? run_attentive(v) : run_block(v);
        if (likely(rc == X86_OK || rc == X86_YIELD))
            continue;
        if (rc == X86_HALT && !(x86_attn(cpu) & X86_ATTN_KICK)) {
            /* The boundary decides: something deliverable may have come meanwhile. */
            rc = x86_boundary(cpu);
            if (rc == X86_OK)
                continue;
        }
        if (rc == X86_KICKED || rc == X86_HALT) {
            exit->reason = rc == X86_KICKED ? VCPU_EXIT_KICKED : VCPU_EXIT_HALTED;
            return;
        }
        exit->reason = VCPU_EXIT_SHUTDOWN;
        return;
    }
}

/* --- engine ----------------------------------------------------------------------------------- */

static enum engine_verdict interp_probe(struct err *e)
{
    return ENGINE_WORKS;
}

static int interp_vm_create(const struct engine_vm_config *cfg, struct engine_vm **out,
                            struct err *e)
{
    struct engine_vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return err_set(e, ENOMEM, "no memory for a VM");
    vm->cfg = *cfg;
    *out = vm;
    return 0;
}

static void interp_vm_destroy(struct engine_vm *vm)
{
    free(vm);
}

static void interp_vcpu_destroy(struct engine_vcpu *v)
{
    if (!v)
        return;
    mem_unlisten(v->vm->cfg.mem, v);
    icache_destroy(v->cache);
    lock_destroy(&v->lock);
    if (v->cpu)
        x86_cpu_fini(v->cpu);
    free(v->cpu);
    free(v);
}

static int interp_vcpu_create(struct engine_vm *vm, unsigned id, const struct vcpu_env *env,
                              struct engine_vcpu **out, struct err *e)
{
    struct engine_vcpu *v = calloc(1, sizeof(*v));
    if (!v)
        return err_set(e, ENOMEM, "no memory for vCPU %u", id);
    v->vm = vm;
    lock_init(&v->lock);
    v->cpu = aligned_alloc(64, align_up(sizeof(*v->cpu), 64));
    if (v->cpu)
        memset(v->cpu, 0, sizeof(*v->cpu));
    if (!v->cpu || icache_create(&v->cache, vm->cfg.mem, drop_writes, v, e)) {
        interp_vcpu_destroy(v);
        return err_set(e, ENOMEM, "no memory for vCPU %u", id);
    }
    v->world = (struct world){.cpu = v->cpu,
                              .mem = vm->cfg.mem,
                              .pio = vm->cfg.pio,
                              .mmio = vm->cfg.mmio,
                              .env = env,
                              .code_write = on_own_code_write,
                              .code_ctx = v};
    x86_cpu_init(v->cpu, &world_ops, &v->world, vm->cfg.cpuid);
    v->cpu->apic_id = id;
    struct mem_listener listener = {
        .code_written = on_code_written, .remapped = on_remapped, .ctx = v};
    int rc = mem_listen(vm->cfg.mem, &listener);
    if (rc) {
        interp_vcpu_destroy(v);
        return err_set(e, -rc, "vCPU %u: too many memory listeners", id);
    }
    *out = v;
    return 0;
}

static void interp_kick(struct engine_vcpu *v)
{
    x86_attn_set(v->cpu, X86_ATTN_KICK);
}

static void interp_attention(struct engine_vcpu *v)
{
    x86_attn_set(v->cpu, X86_ATTN_IRQ | X86_ATTN_NMI);
}

static void interp_get_state(struct engine_vcpu *v, struct x86_state *s)
{
    *s = v->cpu->s;
}

static int interp_set_state(struct engine_vcpu *v, const struct x86_state *s, struct err *e)
{
    int rc = x86_state_check(s, e);
    if (rc)
        return rc;
    x86_cpu_set_state(v->cpu, s);
    return 0;
}

static void interp_stats(struct engine_vm *vm, void (*emit)(void *arg, const char *name, u64 value),
                         void *arg)
{
    emit(arg, "interp.instructions", vm->insns + vm->steps);
    emit(arg, "interp.blocks", vm->blocks);
    emit(arg, "interp.single_steps", vm->steps);
}

const struct engine engine_interp = {
    .name = "interp",
    .summary = "interpreter: exact, portable and slow; the reference the others are compared with",
    .probe = interp_probe,
    .vm_create = interp_vm_create,
    .vm_destroy = interp_vm_destroy,
    .vcpu_create = interp_vcpu_create,
    .vcpu_destroy = interp_vcpu_destroy,
    .vcpu_run = interp_run,
    .vcpu_kick = interp_kick,
    .vcpu_attention = interp_attention,
    .vcpu_get_state = interp_get_state,
    .vcpu_set_state = interp_set_state,
    .stats = interp_stats,
};
