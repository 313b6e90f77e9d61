/* run.c - executes one statement of a device script */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/script/script.h"

static const char *const compare_names[] = {
    [CMP_EQ] = "",         [CMP_NE] = "anything but ", [CMP_LT] = "less than ",
    [CMP_LE] = "at most ", [CMP_GT] = "more than ",    [CMP_GE] = "at least "};

static bool holds(const struct op *op, u64 got)
{
    switch ((enum op_compare)op->compare) {
    case CMP_NONE: return true;
    case CMP_EQ: return got == op->val;
    case CMP_NE: return got != op->val;
    case CMP_LT: return got < op->val;
    case CMP_LE: return got <= op->val;
    case CMP_GT: return got > op->val;
    case CMP_GE: return got >= op->val;
    }
    return false;
}

static int compare(const struct op *op, const char *what, u64 got, struct err *e)
{
    got &= op->mask;
    if (holds(op, got))
        return 0;
    return err_set(e, EILSEQ, "line %u: %s: expected %s%#" PRIx64 ", got %#" PRIx64, op->line, what,
                   compare_names[op->compare], op->val, got);
}

static int check_memory(const struct engine_vm *vm, const struct op *op, struct err *e)
{
    u8 got[256];
    if (op->n_bytes > sizeof(got) || mem_read(vm->cfg.mem, op->addr, got, op->n_bytes))
        return err_set(e, EFAULT, "line %u: mem %#" PRIx64 ": no memory there", op->line, op->addr);
    for (u32 i = 0; i < op->n_bytes; i++) {
        if (got[i] != op->bytes[i])
            return err_set(e, EILSEQ, "line %u: mem %#" PRIx64 ": expected %02x, got %02x",
                           op->line, op->addr + i, op->bytes[i], got[i]);
    }
    return 0;
}

static int set_memory(const struct engine_vm *vm, const struct op *op, struct err *e)
{
    if (mem_write(vm->cfg.mem, op->addr, op->bytes, op->n_bytes))
        return err_set(e, EFAULT, "line %u: mem %#" PRIx64 ": no memory there", op->line, op->addr);
    return 0;
}

static int access_msr(const struct vcpu_env *env, const struct op *op, struct err *e)
{
    u64 got = 0;
    bool read = op->kind == OP_RDMSR;
    int ret = read ? env->msr_read(env->ctx, (u32)op->addr, &got)
                   : env->msr_write(env->ctx, (u32)op->addr, op->val);
    if (!ret == op->fails)
        return err_set(e, EILSEQ, "line %u: %s %#" PRIx64 ": expected %s, got %s", op->line,
                       read ? "rdmsr" : "wrmsr", op->addr, op->fails ? "#GP" : "success",
                       op->fails ? "success" : "#GP");
    return read && !op->fails ? compare(op, "rdmsr", got, e) : 0;
}

/* The statements that move on to somewhere else than the next line. */
static void branch(struct engine_vm *vm, struct op *op)
{
    struct op *ops = vm->program.op;
    if (op->kind == OP_REPEAT) {
        op->left = op->val;
        if (!op->left)
            vm->next = (u32)op->addr + 1;
    } else if (--ops[op->addr].left) {
        vm->next = (u32)op->addr + 1;
    }
}

static int select_cpu(struct engine_vm *vm, const struct op *op, struct err *e)
{
    if (op->val >= VCPUS_MAX || !vm->vcpu[op->val])
        return err_set(e, EINVAL, "line %u: there is no cpu %" PRIu64, op->line, op->val);
    vm->acts = (unsigned)op->val;
    return 0;
}

int script_step(struct engine_vm *vm, struct err *e)
{
    struct op *op = &vm->program.op[vm->next++];
    const struct vcpu_env *env = &vm->vcpu[vm->acts]->env;
    const struct engine_vm_config *c = &vm->cfg;
    char what[32];
    if (env->enter)
        env->enter(env->ctx);
    snprintf(what, sizeof(what), "%#" PRIx64, op->addr);
    switch ((enum op_kind)op->kind) {
    case OP_IN: return compare(op, what, bus_read(c->pio, op->addr, op->size), e);
    case OP_OUT: bus_write(c->pio, op->addr, op->size, op->val); return 0;
    case OP_READ: return compare(op, what, bus_read(c->mmio, op->addr, op->size), e);
    case OP_WRITE: bus_write(c->mmio, op->addr, op->size, op->val); return 0;
    case OP_MEM_SET: return set_memory(vm, op, e);
    case OP_MEM_CHECK: return check_memory(vm, op, e);
    case OP_STEP:
        if (!c->step)
            return err_set(e, ENOTSUP, "line %u: this clock cannot be stepped", op->line);
        c->step(c->clock, op->val);
        return 0;
    case OP_IRQ: return compare(op, "irq", env->irq_pending(env->ctx), e);
    case OP_ACK: return compare(op, "ack", (u64)(s64)env->irq_ack(env->ctx), e);
    case OP_NMI: return compare(op, "nmi", env->nmi_take(env->ctx), e);
    case OP_RDMSR:
    case OP_WRMSR: return access_msr(env, op, e);
    case OP_CR8: return compare(op, "cr8", env->cr8_read(env->ctx), e);
    case OP_CR8_SET: env->cr8_write(env->ctx, op->val); return 0;
    case OP_TSC: return compare(op, "tsc", env->tsc(env->ctx), e);
    case OP_FERR: env->ferr(env->ctx, op->val); return 0;
    case OP_CPU: return select_cpu(vm, op, e);
    case OP_REPEAT:
    case OP_END: branch(vm, op); return 0;
    }
    return err_set(e, EINVAL, "line %u: no such statement", op->line);
}
