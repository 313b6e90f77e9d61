/* run.c - executes a case on the core, one instruction at a time */
#include "step.h"
#include "x86/debug.h"
#include "x86/insn.h"

const char *const step_stop_names[] = {
    [STEP_COUNT] = "count",       [STEP_HLT] = "hlt", [STEP_EXCEPTION] = "exception",
    [STEP_SHUTDOWN] = "shutdown", [STEP_MAX] = "max",
};

static void note_exception(struct x86_cpu *cpu, struct step_result *r, const struct x86_exc *exc)
{
    r->has_exc = true;
    r->exc = *exc;
    r->exc_rip = cpu->s.rip;
}

/* What x86_boundary would deliver before the next instruction, when it is only to be reported: a
 * trap of the instruction before, or an instruction breakpoint. */
static bool take_pending(struct x86_cpu *cpu, struct step_result *r)
{
    struct x86_state *s = &cpu->s;
    bool mov_ss = s->shadow & X86_SHADOW_MOVSS;
    struct x86_exc exc = {.vector = X86_DB, .dr6 = mov_ss ? 0 : s->dr6_pending};

    if (!exc.dr6 && s->dr7 & DR7_ENABLES && !(s->rflags & RFLAGS_RF) && !(mov_ss && cpu->intel))
        x86_code_breakpoint(cpu, (cpu->seg_base[X86_CS] + s->rip) & cpu->lin_mask, &exc.dr6);
    if (!exc.dr6)
        return false;
    note_exception(cpu, r, &exc);
    return true;
}

/* An iteration of a repeated string instruction that leaves RIP where it is does not end it. */
static bool in_progress(const struct x86_cpu *cpu, const struct x86_insn *in, int rc)
{
    return rc == X86_YIELD && cpu->s.rip == cpu->insn_rip &&
           in->prefix & (X86_PFX_REP | X86_PFX_REPNE) && cpu->s.gpr[X86_RCX];
}

/* One instruction with what surrounds it. X86_OK, or the reason to stop with r->stop set. */
static int step_one(struct x86_cpu *cpu, const struct step_case *c, struct step_result *r)
{
    struct x86_insn in;
    u64 gpa, gpa2;
    int rc;

    do {
        if (!c->deliver && take_pending(cpu, r)) {
            r->stop = STEP_EXCEPTION;
            return X86_FAULT;
        }
        if (x86_attn(cpu)) {
            rc = x86_boundary(cpu);
            if (rc == X86_HALT || rc == X86_SHUTDOWN) {
                r->stop = rc == X86_HALT ? STEP_HLT : STEP_SHUTDOWN;
                return rc;
            }
        }
        u64 rflags = cpu->s.rflags;
        u8 shadow = cpu->s.shadow;
        bool stepping = x86_attn(cpu) & (X86_ATTN_STEP | X86_ATTN_SHADOW);
        cpu->insn_rip = cpu->s.rip;
        rc = x86_fetch(cpu, &in, &gpa, &gpa2);
        if (rc == X86_OK)
            rc = x86_exec(cpu, &in);
        if (rc == X86_FAULT) {
            note_exception(cpu, r, &cpu->exc);
            if (!c->deliver) {
                r->stop = STEP_EXCEPTION;
                return rc;
            }
            rc = x86_deliver(cpu);
            if (rc == X86_SHUTDOWN) {
                r->stop = STEP_SHUTDOWN;
                return rc;
            }
            return X86_OK; /* the handler's first instruction is next */
        }
        if (stepping)
            x86_retire(cpu, rflags, shadow);
        if (rc == X86_HALT) {
            r->executed++;
            r->stop = STEP_HLT;
            return rc;
        }
    } while (in_progress(cpu, &in, rc));
    r->executed++;
    return X86_OK;
}

void step_run(struct world *w, struct step_case *c, struct step_result *r)
{
    struct x86_cpu *cpu = &w->cpu;

    *r = (struct step_result){.stop = c->until_hlt ? STEP_MAX : STEP_COUNT};
    x86_cpu_set_state(cpu, &c->s);
    c->start = cpu->s;
    world_begin(w);
    /* A fault costs one of the count too, or an IDT full of faults would never end. */
    for (u64 n = 0; n < c->count; n++)
        if (step_one(cpu, c, r) != X86_OK)
            return;
    if (!c->deliver) {
        /* Of the last instruction; breakpoints on the next one are not reached. */
        if (cpu->s.dr6_pending && take_pending(cpu, r))
            r->stop = STEP_EXCEPTION;
    } else if (cpu->s.dr6_pending && x86_boundary(cpu) == X86_SHUTDOWN) {
        r->stop = STEP_SHUTDOWN;
    }
}
