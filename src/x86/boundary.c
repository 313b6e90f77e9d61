/* boundary.c - what happens between two instructions, by priority (SDM vol. 3 table 6-2) */
#include "x86/debug.h"
#include "x86/mmu.h"
#include "x86/seg.h"

/* An event of no instruction: what it raises on the way is delivered in its place. */
static int deliver_interrupt(struct x86_cpu *cpu, u8 vector)
{
    cpu->s.activity = X86_ACTIVE;
    int rc = x86_event_deliver(cpu, vector, X86_EV_HARDWARE, false, 0);
    return rc == X86_FAULT ? x86_deliver(cpu) : rc;
}

/* An exception that state taken between recognition and delivery carries. */
static bool take_pending_exception(struct x86_cpu *cpu, int *rc)
{
    struct x86_state *s = &cpu->s;

    if (likely(!s->exc_pending))
        return false;
    s->exc_pending = false;
    cpu->exc = (struct x86_exc){.vector = s->exc_vector,
                                .has_error = s->exc_has_error,
                                .error = s->exc_error,
                                .cr2 = s->cr2};
    s->activity = X86_ACTIVE;
    *rc = x86_deliver(cpu);
    return true;
}

/* Single-step, data breakpoint and task-switch traps of the instruction before; one after MOV SS
 * waits for the next. */
static bool take_trap(struct x86_cpu *cpu, int *rc)
{
    struct x86_state *s = &cpu->s;

    if (likely(!s->dr6_pending) || s->shadow & X86_SHADOW_MOVSS)
        return false;
    x86_raise_db(cpu, s->dr6_pending);
    s->dr6_pending = 0;
    s->activity = X86_ACTIVE;
    *rc = x86_deliver(cpu);
    return true;
}

/* While NMIs are blocked the request stays with the world; IRET sets ATTN_NMI again. */
static bool take_nmi(struct x86_cpu *cpu, int *rc)
{
    struct x86_state *s = &cpu->s;

    if (!(x86_attn(cpu) & X86_ATTN_NMI) || s->shadow & (X86_SHADOW_STI | X86_SHADOW_MOVSS))
        return false;
    x86_attn_clear(cpu, X86_ATTN_NMI);
    if (s->shadow & X86_BLOCK_NMI || !cpu->ops->nmi_take(cpu->world))
        return false;
    s->shadow |= X86_BLOCK_NMI;
    *rc = deliver_interrupt(cpu, X86_NMI);
    return true;
}

/* With IF clear nothing is asked before x86_update_attention sees it set. ATTN_IRQ is cleared
 * before the world is asked, so that a request made meanwhile by another thread is not lost, and
 * set again while there is one. */
static bool take_irq(struct x86_cpu *cpu, int *rc)
{
    struct x86_state *s = &cpu->s;

    if (!(x86_attn(cpu) & X86_ATTN_IRQ))
        return false;
    if (!(s->rflags & RFLAGS_IF)) {
        x86_attn_clear(cpu, X86_ATTN_IRQ);
        cpu->irq_masked = true;
        return false;
    }
    if (s->shadow & (X86_SHADOW_STI | X86_SHADOW_MOVSS))
        return false;
    x86_attn_clear(cpu, X86_ATTN_IRQ);
    if (!cpu->ops->irq_pending(cpu->world))
        return false;
    x86_attn_set(cpu, X86_ATTN_IRQ);
    int vector = cpu->ops->irq_ack(cpu->world);
    if (vector < 0)
        return false;
    *rc = deliver_interrupt(cpu, vector);
    return true;
}

/* On Intel processors MOV SS suppresses an instruction breakpoint on the next instruction (SDM
 * vol. 3 17.3.1.1), on AMD ones it does not. */
static bool take_code_breakpoint(struct x86_cpu *cpu, int *rc)
{
    const struct x86_state *s = &cpu->s;
    u64 dr6;

    if (likely(!(s->dr7 & DR7_ENABLES)) || s->rflags & RFLAGS_RF ||
        (cpu->intel && s->shadow & X86_SHADOW_MOVSS))
        return false;
    u64 lin = (cpu->seg_base[X86_CS] + s->rip) & cpu->lin_mask;
    if (!x86_code_breakpoint(cpu, lin, &dr6))
        return false;
    x86_raise_db(cpu, dr6);
    *rc = x86_deliver(cpu);
    return true;
}

static bool take_event(struct x86_cpu *cpu, int *rc)
{
    return take_pending_exception(cpu, rc) || take_trap(cpu, rc) || take_nmi(cpu, rc) ||
           take_irq(cpu, rc);
}

/* A handler whose first instruction has a breakpoint of its own is entered again and again: after
 * so many events the caller gets a look in, as if kicked. */
#define EVENTS_MAX 16

int x86_boundary(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->s;

    for (unsigned events = 0;; events++) {
        int rc = X86_OK;

        if (unlikely(events == EVENTS_MAX))
            return X86_KICKED;

        if (x86_attn(cpu) & X86_ATTN_KICK) {
            x86_attn_clear(cpu, X86_ATTN_KICK);
            return X86_KICKED;
        }
        if (unlikely(s->activity == X86_SHUTDOWN_STATE))
            return X86_SHUTDOWN;
        if (unlikely(s->activity == X86_WAIT_SIPI))
            return X86_HALT;
        /* HLT was the instruction that a shadow covered. */
        if (s->activity == X86_HALTED && s->shadow & (X86_SHADOW_STI | X86_SHADOW_MOVSS)) {
            s->shadow &= X86_BLOCK_NMI;
            x86_update_attention(cpu);
        }
        bool taken = take_event(cpu, &rc);
        if (!taken && s->activity == X86_HALTED)
            return X86_HALT;
        if (!taken && !take_code_breakpoint(cpu, &rc))
            break;
        if (rc != X86_OK)
            return rc;
    }
    cpu->retire = 0;
    return X86_OK;
}

/* Whether the instruction that ends is one for the single-step trap. After MOV SS there is none,
 * not even a late one; with DEBUGCTL.BTF only branches trap (SDM vol. 3 17.3.1.4, 17.4.3). */
static bool steps(const struct x86_cpu *cpu, u8 shadow_before)
{
    if (cpu->retire & X86_RETIRE_NO_STEP || cpu->s.shadow & ~shadow_before & X86_SHADOW_MOVSS)
        return false;
    return !(cpu->s.debugctl & DEBUGCTL_BTF) || cpu->retire & X86_RETIRE_BRANCH;
}

void x86_retire(struct x86_cpu *cpu, u64 rflags_before, u8 shadow_before)
{
    struct x86_state *s = &cpu->s;
    u8 retire = cpu->retire;

    if (rflags_before & RFLAGS_TF && steps(cpu, shadow_before))
        s->dr6_pending |= DR6_BS;
    if (rflags_before & RFLAGS_RF && !(retire & (X86_RETIRE_KEEP_RF | X86_RETIRE_MID_REP)))
        s->rflags &= ~(u64)RFLAGS_RF;
    s->shadow &= ~(shadow_before & (X86_SHADOW_STI | X86_SHADOW_MOVSS));
    cpu->retire &= X86_RETIRE_MID_REP;
    x86_update_attention(cpu);
}
