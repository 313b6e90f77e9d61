/* io.c - IN OUT INS OUTS (SDM vol. 1 chapter 19) */
#include "x86/debug.h"
#include "x86/exec.h"

static int port_check(struct x86_cpu *cpu, u16 port, unsigned size)
{
    if (cpu->prot ? cpu->s.cpl > x86_iopl(cpu) : cpu->vm86)
        return x86_io_check(cpu, port, size);
    return X86_OK;
}

X86_HANDLER(in)
{
    unsigned size = in->op[0].size;
    u16 port = in->op[1].kind == X86_OPND_IMM ? (u8)in->imm : (u16)cpu->s.gpr[X86_RDX];

    TRY(port_check(cpu, port, size));
    u64 v = cpu->ops->io_in(cpu->world, port, size);
    gpr_set(cpu, X86_RAX, size, v);
    x86_debug_io(cpu, port, size);
    return X86_YIELD;
}

X86_HANDLER(out)
{
    unsigned size = in->op[1].size;
    u16 port = in->op[0].kind == X86_OPND_IMM ? (u8)in->imm : (u16)cpu->s.gpr[X86_RDX];

    TRY(port_check(cpu, port, size));
    cpu->ops->io_out(cpu->world, port, size, cpu->s.gpr[X86_RAX] & size_mask(size));
    x86_debug_io(cpu, port, size);
    return X86_YIELD;
}

/* One element; REP restarts the instruction until the count is zero, with a look at events in
 * between. */
static int string_io(struct x86_cpu *cpu, const struct x86_insn *in, unsigned size, unsigned reg,
                     int (*element)(struct x86_cpu *, const struct x86_insn *, unsigned, u64, u16))
{
    u64 amask = size_mask(in->asize);
    bool rep = in->prefix & (X86_PFX_REP | X86_PFX_REPNE);
    u16 port = (u16)cpu->s.gpr[X86_RDX];

    TRY(port_check(cpu, port, size)); /* whatever the count */
    if (rep && !(cpu->s.gpr[X86_RCX] & amask))
        return X86_OK;
    TRY(element(cpu, in, size, cpu->s.gpr[reg] & amask, port));
    u64 step = cpu->s.rflags & RFLAGS_DF ? -(u64)size : size;
    gpr_set(cpu, reg, in->asize, cpu->s.gpr[reg] + step);
    x86_debug_io(cpu, port, size);
    if (rep) {
        u64 left = (cpu->s.gpr[X86_RCX] - 1) & amask;
        gpr_set(cpu, X86_RCX, in->asize, left);
        if (left) {
            cpu->s.rip = cpu->insn_rip;
            cpu->retire |= X86_RETIRE_MID_REP;
        }
    }
    return X86_YIELD;
}

/* The destination is checked before the port is read: a read may have side effects. */
static int ins_element(struct x86_cpu *cpu, const struct x86_insn *in, unsigned size, u64 ea,
                       u16 port)
{
    u64 lin;
    TRY(x86_linear(cpu, X86_ES, ea, size, X86_W, &lin));
    TRY(x86_lin_probe(cpu, lin, size, X86_W));
    return x86_write(cpu, X86_ES, ea, size, cpu->ops->io_in(cpu->world, port, size));
}

static int outs_element(struct x86_cpu *cpu, const struct x86_insn *in, unsigned size, u64 ea,
                        u16 port)
{
    u64 v;
    TRY(x86_read(cpu, in->seg, ea, size, &v));
    cpu->ops->io_out(cpu->world, port, size, v);
    return X86_OK;
}

X86_HANDLER(ins)
{
    return string_io(cpu, in, MIN(in->opsize, 4), X86_RDI, ins_element);
}

X86_HANDLER(outs)
{
    return string_io(cpu, in, MIN(in->opsize, 4), X86_RSI, outs_element);
}
