/* script.h - parsed form of a device script */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "engine/engine.h"

/* Kinds of statement. The language is described in docs/script.md and at the head of parse.c. */
enum op_kind {
    OP_IN,      /* port: size, addr; compared */
    OP_OUT,     /* port: size, addr, val */
    OP_READ,    /* MMIO: size, addr; compared */
    OP_WRITE,   /* MMIO: size, addr, val */
    OP_MEM_SET, /* guest memory: addr, bytes */
    OP_MEM_CHECK,
    OP_STEP,    /* val ns */
    OP_IRQ,     /* irq_pending; compared */
    OP_ACK,     /* irq_ack; compared, -1 = none */
    OP_NMI,     /* nmi_take; compared */
    OP_RDMSR,   /* addr; compared, or expected to fail */
    OP_WRMSR,   /* addr, val; may be expected to fail */
    OP_CR8,     /* compared */
    OP_CR8_SET, /* val */
    OP_TSC,     /* compared */
    OP_FERR,    /* val */
    OP_CPU,     /* val: the vCPU that acts from now on */
    OP_REPEAT,  /* val times, up to the matching end at index `addr` */
    OP_END      /* back to the repeat at index `addr` */
};

enum op_compare { CMP_NONE, CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE };

struct op {
    u8 kind;    /* enum op_kind */
    u8 size;    /* bytes of an access */
    u8 compare; /* enum op_compare */
    bool fails; /* the MSR access must be refused */
    u32 line;   /* from 1 */
    u64 addr, val, mask;
    u64 left; /* OP_REPEAT: rounds still to go, while running */
    u8 *bytes;
    u32 n_bytes;
};

struct program {
    struct op *op;
    u32 n;
};

/* Parses the whole text. 0, or -EINVAL / -ENOMEM with "line N: ..." in *e and *p empty. */
must_check int script_parse(const char *text, struct program *p, struct err *e);
void script_free(struct program *p);

struct engine_vcpu {
    struct engine_vm *vm;
    unsigned id;
    struct vcpu_env env;
    struct x86_state state;
    bool kicked;
};

struct engine_vm {
    struct engine_vm_config cfg;
    struct program program;
    struct err parse_err;
    struct engine_vcpu *vcpu[VCPUS_MAX];
    u32 next;      /* statement to run next */
    unsigned acts; /* vCPU chosen by the last `cpu` statement */
};

/* Executes one statement and moves vm->next on. 0, or -errno with "line N: ..." in *e. */
must_check int script_step(struct engine_vm *vm, struct err *e);
