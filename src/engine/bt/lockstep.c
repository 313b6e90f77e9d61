/* lockstep.c - translated code and the interpreter side by side, compared block by block */
#include "engine/bt/lockstep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <Zydis/Zydis.h>

#include "base/checked.h"
#include "engine/bt/cache.h"
#include "engine/bt/lockstep_priv.h"
#include "x86/mmu.h"

#define ASYNC_ATTN   (X86_ATTN_KICK | X86_ATTN_IRQ | X86_ATTN_NMI)
#define RESTARTS_MAX 1000

/* --- life ------------------------------------------------------------------------------------- */

int lockstep_create(struct engine_vcpu *v, unsigned every, struct err *e)
{
    struct lockstep *ls = aligned_alloc(64, align_up(sizeof(*ls), 64));

    if (!ls)
        return err_set(e, ENOMEM, "no memory for the lockstep check");
    memset(ls, 0, sizeof(*ls));
    ls->every = ls->countdown = every;
    ls->world = v->world;
    ls->world.cpu = &ls->shadow;
    x86_cpu_init(&ls->shadow, &lockstep_shadow_ops, &ls->world, v->vm->cfg.cpuid);
    ls->shadow.apic_id = v->cpu.apic_id;
    lockstep_world_init(v, (struct x86_ops *)(uintptr_t)v->cpu.ops);
    v->lockstep = ls;
    return 0;
}

void lockstep_destroy(struct engine_vcpu *v)
{
    struct lockstep *ls = v->lockstep;

    if (!ls)
        return;
    x86_cpu_fini(&ls->shadow);
    free(ls->page);
    free(ls->access);
    free(ls);
    v->lockstep = NULL;
}

const char *lockstep_failed(const struct engine_vcpu *v)
{
    return v->lockstep && *v->lockstep->what ? v->lockstep->what : NULL;
}

/* --- hooks ------------------------------------------------------------------------------------ */

bool lockstep_due(struct engine_vcpu *v)
{
    struct lockstep *ls = v->lockstep;

    if (ls->countdown > 1)
        return false;
    ls->countdown = ls->every;
    return true;
}

bool lockstep_leave(struct lockstep *ls)
{
    if (ls->stay) {
        ls->stay = false;
        return false;
    }
    if (ls->phase != LS_OFF)
        return true;
    if (ls->countdown > 1)
        ls->countdown--;
    return ls->countdown <= 1;
}

void lockstep_restarted(struct lockstep *ls)
{
    ls->restarted = true;
}

void lockstep_stay(struct lockstep *ls)
{
    ls->stay = true;
}

void lockstep_cut(struct lockstep *ls, u64 rip)
{
    if (ls->phase != LS_REPLAY || rip == ls->end)
        return;
    ls->stay = ls->restarted = true;
}

/* --- the shadow's part ------------------------------------------------------------------------ */

/* Flags as x86_insn has them, in RFLAGS. */
static u32 insn_flags(u8 f)
{
    return (f & (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF)) |
           (f & 2 ? RFLAGS_OF : 0);
}

/* Translated code does without the shadow of STI where no interrupt waits for it. */
static void drop_sti_shadow(struct x86_cpu *cpu, const struct x86_insn *in, bool irq_masked)
{
    if (in->mnemonic != ZYDIS_MNEMONIC_STI || irq_masked || cpu->s.shadow != X86_SHADOW_STI)
        return;
    cpu->s.shadow = 0;
    x86_attn_clear(cpu, X86_ATTN_SHADOW);
}

/* One instruction; false: the block ends with it. */
static bool shadow_step(struct lockstep *ls)
{
    struct x86_cpu *cpu = &ls->shadow;
    struct x86_insn in;
    u64 rip = cpu->s.rip, gpa, gpa2;
    bool irq_masked = cpu->irq_masked;
    int rc = x86_fetch(cpu, &in, &gpa, &gpa2);

    if (rc == X86_OK) {
        rc = x86_exec(cpu, &in);
        ls->undefined &= ~insn_flags(in.flags_set);
        ls->undefined |= insn_flags(in.flags_write & (u8)~in.flags_set);
        drop_sti_shadow(cpu, &in, irq_masked);
    }
    if (rc == X86_FAULT)
        rc = x86_deliver(cpu);
    ls->rc = rc == X86_YIELD ? X86_OK : rc;
    return ls->rc == X86_OK && !x86_attn(cpu) && cpu->s.rip == rip + in.len &&
           cpu->s.rip - ls->start < ls->end - ls->start;
}

static void run_shadow(struct engine_vcpu *v, struct lockstep *ls)
{
    struct x86_cpu *cpu = &ls->shadow;

    x86_cpu_set_state(cpu, &v->cpu.s);
    cpu->irq_masked = v->cpu.irq_masked;
    cpu->retire = v->cpu.retire;
    x86_attn_clear(cpu, ~0u);
    ls->npages = ls->naccesses = ls->replayed = 0;
    ls->undefined = 0;
    ls->phase = LS_RECORD;
    while (shadow_step(ls))
        continue;
    for (unsigned i = 0; i < ls->npages; i++) {
        struct ls_page *p = &ls->page[i];
        memcpy(p->after, p->hva, sizeof(p->after));
        memcpy(p->hva, p->before, sizeof(p->before));
    }
}

/* --- translated code's part ------------------------------------------------------------------- */

static bool inside(const struct lockstep *ls, u64 rip)
{
    return rip - ls->start < ls->end - ls->start;
}

/* Until it is where the shadow was at the end. What others ask of the vCPU may end translated code
 * early; that has to wait, and so has code that was written. */
static int run_translated(struct engine_vcpu *v, struct lockstep *ls, u64 host)
{
    struct x86_cpu *cpu = &v->cpu;
    u32 later = 0;
    int rc = X86_OK;

    ls->phase = LS_REPLAY;
    ls->restarted = false;
    for (unsigned i = 0; host && i < RESTARTS_MAX; i++) {
        v->step = ls->stay = false;
        bt_enter(v, host);
        rc = v->rc;
        u32 attn = x86_attn(cpu), early = attn & (ASYNC_ATTN | X86_ATTN_CODE);
        if (!early || (attn & ~early) || rc != X86_OK || v->step ||
            cpu->s.rip == ls->shadow.s.rip || !inside(ls, cpu->s.rip))
            break;
        later |= attn & ASYNC_ATTN;
        x86_attn_clear(cpu, ASYNC_ATTN);
        if (attn & X86_ATTN_CODE)
            bt_take_over_writes(v);
        ls->restarted = true;
        host = bt_next(v);
    }
    ls->phase = LS_OFF;
    if (later)
        x86_attn_set(cpu, later);
    return rc;
}

/* --- comparison ------------------------------------------------------------------------------- */

static const char *const gpr_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static void compare_system(struct lockstep *ls, const struct x86_state *a,
                           const struct x86_state *b)
{
    size_t from = offsetof(struct x86_state, star), to = offsetof(struct x86_state, fpu);

    if (a->cr2 != b->cr2)
        lockstep_differs(ls, "CR2 differs");
    if (a->cr0 != b->cr0 || a->cr3 != b->cr3 || a->cr4 != b->cr4 || a->efer != b->efer)
        lockstep_differs(ls, "control registers differ");
    for (unsigned i = 0; i < X86_SREGS; i++)
        if (a->seg[i].sel != b->seg[i].sel || a->seg[i].base != b->seg[i].base ||
            a->seg[i].limit != b->seg[i].limit || a->seg[i].attr != b->seg[i].attr)
            lockstep_differs(ls, "segment register %u differs", i);
    if (a->cpl != b->cpl || a->shadow != b->shadow || a->activity != b->activity)
        lockstep_differs(ls, "CPL, shadow or activity differ");
    if (a->exc_pending != b->exc_pending || a->dr6_pending != b->dr6_pending)
        lockstep_differs(ls, "pending events differ");
    if (memcmp((const u8 *)a + from, (const u8 *)b + from, to - from))
        lockstep_differs(ls, "MSRs differ");
}

static void compare_fpu(struct lockstep *ls, const struct x86_fpu *a, const struct x86_fpu *b)
{
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(a->vec[i], b->vec[i], sizeof(a->vec[i])))
            lockstep_differs(ls, "ymm%u differs", i);
    if (a->mxcsr != b->mxcsr)
        lockstep_differs(ls, "MXCSR differs: %#x and %#x", a->mxcsr, b->mxcsr);
    if (memcmp(a->st, b->st, sizeof(a->st)) || a->fcw != b->fcw || a->fsw != b->fsw ||
        a->ftw != b->ftw || a->fip != b->fip || a->fdp != b->fdp || a->fop != b->fop)
        lockstep_differs(ls, "x87 state differs");
}

static void compare_state(struct lockstep *ls, const struct x86_state *a, const struct x86_state *b)
{
    if (a->rip != b->rip)
        lockstep_differs(ls, "RIP differs: %#llx and %#llx", (unsigned long long)a->rip,
                         (unsigned long long)b->rip);
    for (unsigned i = 0; i < 16; i++)
        if (a->gpr[i] != b->gpr[i])
            lockstep_differs(ls, "%s differs: %#llx and %#llx", gpr_names[i],
                             (unsigned long long)a->gpr[i], (unsigned long long)b->gpr[i]);
    if ((a->rflags ^ b->rflags) & ~(u64)ls->undefined)
        lockstep_differs(ls, "RFLAGS differ: %#llx and %#llx", (unsigned long long)a->rflags,
                         (unsigned long long)b->rflags);
    compare_system(ls, a, b);
    compare_fpu(ls, &a->fpu, &b->fpu);
}

/* The shadow walks tables where translated code finds a translation in its TLB: accessed and dirty
 * bits that only the shadow has set are right. */
static bool marks_only(const u8 *shadow, const u8 *real)
{
    u64 a, b;

    memcpy(&a, shadow, 8);
    memcpy(&b, real, 8);
    return !((a ^ b) & ~0x6000000060ull) && (a & b) == b;
}

static void compare_memory(struct lockstep *ls)
{
    for (unsigned i = 0; i < ls->npages; i++) {
        const struct ls_page *p = &ls->page[i];
        if (!memcmp(p->hva, p->after, sizeof(p->after)))
            continue;
        for (unsigned at = 0; at < sizeof(p->after); at += 8)
            if (memcmp(p->hva + at, p->after + at, 8) && !marks_only(p->after + at, p->hva + at))
                lockstep_differs(ls, "memory at %#llx differs", (unsigned long long)(p->gpa + at));
    }
}

/* A device that writes while the block is executed twice may show each side something else. Its
 * write is counted a moment after its bytes have arrived. */
static bool disturbed(struct engine_vcpu *v, const struct lockstep *ls)
{
    const struct timespec moment = {.tv_nsec = 20 * 1000 * 1000};

    nanosleep(&moment, NULL);
    return mem_writes(v->vm->cfg.mem) != ls->writes;
}

static void compare(struct engine_vcpu *v, struct lockstep *ls, int rc)
{
    /* A block that began anew in the middle may end elsewhere. */
    if (v->step || (ls->restarted && v->cpu.s.rip != ls->shadow.s.rip)) {
        v->stats.lockstep_skipped++;
        *ls->what = '\0';
        return;
    }
    ls->checked++;
    v->stats.lockstep_equal++;
    if (rc != ls->rc)
        lockstep_differs(ls, "outcome differs: %d and %d", ls->rc, rc);
    compare_state(ls, &ls->shadow.s, &v->cpu.s);
    if (ls->replayed != ls->naccesses)
        lockstep_differs(ls, "%u of %u device accesses are missing", ls->naccesses - ls->replayed,
                         ls->naccesses);
    compare_memory(ls);
    if (*ls->what && disturbed(v, ls)) {
        v->stats.lockstep_equal--;
        v->stats.lockstep_skipped++;
        *ls->what = '\0';
    }
}

/* --- one block -------------------------------------------------------------------------------- */

static const struct tb *block_at(struct engine_vcpu *v)
{
    struct x86_cpu *cpu = &v->cpu;
    struct cache *c = v->vm->cache;
    u64 gpa = 0, lin = v->mode & MODE_64 ? cpu->s.rip : (u32)cpu->s.rip;
    const u8 *hva;

    if (x86_lin_fetch(cpu, lin, &gpa, &hva) != X86_OK)
        return NULL;
    lock_take(&c->lock);
    const struct tb *tb = cache_find_locked(c, gpa, v->mode);
    lock_drop(&c->lock);
    return tb;
}

int lockstep_check(struct engine_vcpu *v, u64 host)
{
    struct lockstep *ls = v->lockstep;
    const struct tb *tb = block_at(v);

    if (!tb) {
        bt_enter(v, host);
        return v->rc;
    }
    struct tb copy = *tb;
    ls->writes = mem_writes(v->vm->cfg.mem);
    ls->before = v->cpu.s;
    ls->start = v->cpu.s.rip;
    ls->end = ls->start + tb->bytes;
    run_shadow(v, ls);
    int rc = run_translated(v, ls, host);
    v->rc = rc;
    compare(v, ls, rc);
    if (*ls->what)
        lockstep_report(v, &copy);
    return rc;
}
