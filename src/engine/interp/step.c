/* step.c - fetch, execute and retire one instruction */
#include "engine/interp/step.h"

int interp_step(struct x86_cpu *cpu)
{
    struct x86_insn in;
    u64 gpa, gpa2, next = 0, rflags = cpu->s.rflags, traps = cpu->s.dr6_pending;
    u8 shadow = cpu->s.shadow;

    cpu->insn_rip = cpu->s.rip;
    int rc = x86_fetch(cpu, &in, &gpa, &gpa2);
    if (rc == X86_OK) {
        next = cpu->s.rip + in.len;
        rc = x86_exec(cpu, &in);
    }
    if (rc == X86_FAULT) {
        /* Data breakpoints met on the way do not count: the instruction did not complete. */
        cpu->s.dr6_pending = traps;
        return x86_deliver(cpu);
    }
    if (cpu->s.rip != next && !(cpu->retire & X86_RETIRE_MID_REP))
        cpu->retire |= X86_RETIRE_BRANCH;
    if (rc != X86_SHUTDOWN)
        x86_retire(cpu, rflags, shadow);
    return rc;
}
