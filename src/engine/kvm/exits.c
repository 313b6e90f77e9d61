/* exits.c - what a guest left KVM_RUN for */
#include <errno.h>
#include <string.h>

#include "engine/kvm/kvm.h"

/* The shared page is the kernel's, but a mutated one must not lead us astray: sizes and offsets are
 * checked as if a guest had written them. */

static bool size_ok(unsigned n)
{
    return n == 1 || n == 2 || n == 4 || n == 8;
}

static enum kvm_next bad_page(struct err *e, const char *what)
{
    (void)err_set(e, EIO, "engine kvm: the kernel reports an impossible %s", what);
    return NEXT_FAILED;
}

/* `count` accesses for one INS or OUTS; the data lie in the shared pages. */
static enum kvm_next exit_pio(struct engine_vcpu *v, struct err *e)
{
    struct kvm_run *run = v->run;
    u64 off = run->io.data_offset, bytes = (u64)run->io.size * run->io.count;
    unsigned size = run->io.size;
    u8 *data;

    kvm_count(v->vm, STAT_PIO);
    if (!size_ok(size) || size == 8 || off > v->vm->run_bytes || bytes > v->vm->run_bytes - off)
        return bad_page(e, "port access");
    data = (u8 *)run + off;
    for (u32 i = run->io.count; i; i--, data += size) {
        u64 val = 0;

        if (run->io.direction == KVM_EXIT_IO_IN) {
            val = bus_read(v->vm->cfg.pio, run->io.port, size);
            memcpy(data, &val, size);
        } else {
            memcpy(&val, data, size);
            bus_write(v->vm->cfg.pio, run->io.port, size, val);
        }
    }
    v->unfinished = true;
    return NEXT_RUN;
}

/* Accesses across pages come in pieces of any length. */
static enum kvm_next exit_mmio(struct engine_vcpu *v, struct err *e)
{
    struct kvm_run *run = v->run;
    u64 gpa = run->mmio.phys_addr;
    unsigned len = run->mmio.len, step = size_ok(len) ? len : 1;

    kvm_count(v->vm, STAT_MMIO);
    if (!len || len > sizeof(run->mmio.data))
        return bad_page(e, "memory access");
    for (unsigned i = 0; i < len; i += step) {
        u64 val = 0;

        if (run->mmio.is_write) {
            memcpy(&val, run->mmio.data + i, step);
            bus_write(v->vm->cfg.mmio, gpa + i, step, val);
        } else {
            val = bus_read(v->vm->cfg.mmio, gpa + i, step);
            memcpy(run->mmio.data + i, &val, step);
        }
    }
    v->unfinished = true;
    return NEXT_RUN;
}

static enum kvm_next unknown(struct engine_vcpu *v, struct err *e)
{
    (void)err_set(e, EIO,
                  "engine kvm: vCPU %u stopped with KVM exit reason %u, which ring3 does not know",
                  v->id, v->run->exit_reason);
    return NEXT_FAILED;
}

enum kvm_next kvm_exit(struct engine_vcpu *v, struct err *e)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO: return exit_pio(v, e);
    case KVM_EXIT_MMIO: return exit_mmio(v, e);
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR: kvm_msr_exit(v); return NEXT_RUN;
    case KVM_EXIT_HLT: kvm_count(v->vm, STAT_HLT); return NEXT_HALT;
    case KVM_EXIT_IRQ_WINDOW_OPEN: kvm_count(v->vm, STAT_WINDOW); return NEXT_RUN;
    case KVM_EXIT_SET_TPR: kvm_count(v->vm, STAT_TPR); return NEXT_RUN;
    case KVM_EXIT_INTR: return NEXT_RUN;
    case KVM_EXIT_SHUTDOWN: return NEXT_SHUTDOWN;
    /* What the kernel or the processor cannot execute, the interpreter can. */
    case KVM_EXIT_INTERNAL_ERROR:
    case KVM_EXIT_FAIL_ENTRY: kvm_count(v->vm, STAT_INTERNAL); return NEXT_STEP;
    default: return unknown(v, e);
    }
}
