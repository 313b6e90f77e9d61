/* stack.c - PUSH POP PUSHA POPA ENTER LEAVE and BOUND */
#include "x86/exec.h"

X86_HANDLER(push)
{
    u64 v;
    TRY(opnd_get(cpu, in, 0, &v));
    return x86_push(cpu, in->opsize, v);
}

/* A memory destination based on RSP uses RSP after the increment; a fault restores it (SDM vol. 2
 * POP). */
X86_HANDLER(pop)
{
    u64 v, rsp = cpu->s.gpr[X86_RSP];

    TRY(x86_pop(cpu, in->opsize, &v));
    int rc = opnd_set(cpu, in, 0, v);
    if (unlikely(rc == X86_FAULT))
        cpu->s.gpr[X86_RSP] = rsp;
    return rc;
}

/* Stack slot `i` operands of `size` above (or, negative, below) the stack pointer. */
static u64 stack_slot(const struct x86_cpu *cpu, int i, unsigned size)
{
    return (cpu->s.gpr[X86_RSP] + (u64)(s64)(i * (int)size)) & size_mask(cpu->stack_bytes);
}

X86_HANDLER(pusha)
{
    unsigned size = in->opsize;
    u64 v[8];

    for (unsigned i = 0; i < 8; i++)
        v[i] = cpu->s.gpr[i] & size_mask(size);
    /* All eight slots must be writable before the first changes. */
    for (int i = 0; i < 8; i++) {
        u64 lin;
        TRY(x86_linear(cpu, X86_SS, stack_slot(cpu, -1 - i, size), size, X86_W, &lin));
        TRY(x86_lin_probe(cpu, lin, size, X86_W));
    }
    for (int i = 0; i < 8; i++)
        TRY(x86_write(cpu, X86_SS, stack_slot(cpu, -1 - i, size), size, v[i]));
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, stack_slot(cpu, -8, size));
    return X86_OK;
}

X86_HANDLER(popa)
{
    unsigned size = in->opsize;
    u64 v[8];

    for (int i = 0; i < 8; i++)
        TRY(x86_read(cpu, X86_SS, stack_slot(cpu, i, size), size, &v[7 - i]));
    u64 rsp = stack_slot(cpu, 8, size);
    for (unsigned i = 0; i < 8; i++)
        if (i != X86_RSP)
            gpr_set(cpu, i, size, v[i]);
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, rsp);
    return X86_OK;
}

/* Copies the enclosing frame pointers of a nested procedure. *rsp and rbp are masked to the stack
 * width. */
static int enter_nested(struct x86_cpu *cpu, unsigned size, unsigned level, u64 frame, u64 *rsp)
{
    u64 mask = size_mask(cpu->stack_bytes), rbp = cpu->s.gpr[X86_RBP], v;

    for (unsigned i = 1; i < level; i++) {
        rbp -= size;
        TRY(x86_read(cpu, X86_SS, rbp & mask, size, &v));
        *rsp = (*rsp - size) & mask;
        TRY(x86_write(cpu, X86_SS, *rsp, size, v));
    }
    *rsp = (*rsp - size) & mask;
    return x86_write(cpu, X86_SS, *rsp, size, frame);
}

X86_HANDLER(enter)
{
    unsigned size = in->opsize, level = in->imm2 & 31;
    u64 mask = size_mask(cpu->stack_bytes), lin;
    u64 rsp = (cpu->s.gpr[X86_RSP] - size) & mask;

    TRY(x86_write(cpu, X86_SS, rsp, size, cpu->s.gpr[X86_RBP]));
    u64 frame = rsp;
    if (level)
        TRY(enter_nested(cpu, size, level, frame, &rsp));
    rsp = (rsp - (u16)in->imm) & mask;
    /* The processor checks that the new stack top can be written (SDM vol. 2 ENTER). */
    TRY(x86_linear(cpu, X86_SS, rsp, size, X86_W, &lin));
    TRY(x86_lin_probe(cpu, lin, size, X86_W));
    gpr_set(cpu, X86_RBP, size, frame);
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, rsp);
    return X86_OK;
}

X86_HANDLER(leave)
{
    u64 mask = size_mask(cpu->stack_bytes), v;
    u64 rsp = cpu->s.gpr[X86_RBP] & mask;

    TRY(x86_read(cpu, X86_SS, rsp, in->opsize, &v));
    gpr_set(cpu, X86_RSP, cpu->stack_bytes, (rsp + in->opsize) & mask);
    gpr_set(cpu, X86_RBP, in->opsize, v);
    return X86_OK;
}

X86_HANDLER(bound)
{
    unsigned size = in->opsize;
    u64 ea = x86_ea(cpu, in), second = (ea + size) & size_mask(in->asize), lower, upper;

    s64 index = (s64)sign_extend(reg_get(cpu, &in->op[0]), size);
    TRY(x86_read(cpu, in->seg, ea, size, &lower));
    if (!cpu->intel)
        TRY(x86_read(cpu, in->seg, second, size, &upper));
    if (index < (s64)sign_extend(lower, size)) /* Intel: before the upper bound is read */
        return x86_raise(cpu, X86_BR);
    TRY(x86_read(cpu, in->seg, second, size, &upper));
    if (index > (s64)sign_extend(upper, size))
        return x86_raise(cpu, X86_BR);
    return X86_OK;
}
