/* lockstep_world.c - the world of the two processors of a lockstep check: what the first one asks
 * is recorded, the second one gets the same answers */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bt/lockstep_priv.h"

enum ls_op {
    OP_MMIO_READ,
    OP_MMIO_WRITE,
    OP_IO_IN,
    OP_IO_OUT,
    OP_TSC,
    OP_CR8_READ,
    OP_CR8_WRITE,
    OP_MSR_READ,
    OP_MSR_WRITE,
    OP_IRQ_PENDING,
    OP_IRQ_ACK,
    OP_NMI_TAKE,
    OP_FERR,
    OP_RANDOM,
    OP_SEND_IPIS
};

static const char *const op_names[] = {
    "MMIO read", "MMIO write",  "port read", "port write", "TSC",  "CR8 read", "CR8 write", "RDMSR",
    "WRMSR",     "irq pending", "irq ack",   "NMI",        "FERR", "random",   "send IPIs",
};

void lockstep_differs(struct lockstep *ls, const char *fmt, ...)
{
    va_list ap;

    if (*ls->what)
        return; /* the first one counts */
    va_start(ap, fmt);
    vsnprintf(ls->what, sizeof(ls->what), fmt, ap);
    va_end(ap);
}

static struct lockstep *of(void *w)
{
    return ((struct engine_vcpu *)((struct world *)w)->code_ctx)->lockstep;
}

static struct ls_access *append(struct lockstep *ls)
{
    if (ls->naccesses == ls->accesses_cap) {
        unsigned cap = ls->accesses_cap ? 2 * ls->accesses_cap : 256;
        struct ls_access *more = realloc(ls->access, cap * sizeof(*more));
        if (!more)
            return NULL;
        ls->access = more;
        ls->accesses_cap = cap;
    }
    return &ls->access[ls->naccesses++];
}

/* True: *a is the answer. False: ask the world, and put the answer in *a. */
static bool answered(void *w, enum ls_op op, u64 addr, u64 val, struct ls_access **a)
{
    static struct ls_access nowhere;
    struct lockstep *ls = of(w);

    *a = &nowhere;
    if (ls->phase == LS_OFF)
        return false;
    if (ls->phase == LS_RECORD) {
        struct ls_access *slot = append(ls);
        if (!slot)
            lockstep_differs(ls, "no memory for the record of accesses");
        else
            *slot = (struct ls_access){.op = (u8)op, .addr = addr, .val = val}, *a = slot;
        return false;
    }
    if (ls->replayed == ls->naccesses) {
        if (!ls->restarted) /* else it has run past the end of the block */
            lockstep_differs(ls, "%s %#llx is one too many", op_names[op],
                             (unsigned long long)addr);
        return false;
    }
    *a = &ls->access[ls->replayed++];
    if ((*a)->op != op || (*a)->addr != addr || (*a)->val != val)
        lockstep_differs(ls, "%s %#llx value %#llx, not %s %#llx value %#llx", op_names[op],
                         (unsigned long long)addr, (unsigned long long)val, op_names[(*a)->op],
                         (unsigned long long)(*a)->addr, (unsigned long long)(*a)->val);
    return true;
}

/* --- accesses --------------------------------------------------------------------------------- */

#define SIZED(addr, size) ((u64)(addr) ^ (u64)(size) << 56)

static u64 ls_mmio_read(void *w, u64 gpa, unsigned size)
{
    struct ls_access *a;

    if (!answered(w, OP_MMIO_READ, SIZED(gpa, size), 0, &a))
        a->out = world_ops.mmio_read(w, gpa, size);
    return a->out;
}

static void ls_mmio_write(void *w, u64 gpa, unsigned size, u64 val)
{
    struct ls_access *a;

    if (!answered(w, OP_MMIO_WRITE, SIZED(gpa, size), val, &a))
        world_ops.mmio_write(w, gpa, size, val);
}

static u64 ls_io_in(void *w, u16 port, unsigned size)
{
    struct ls_access *a;

    if (!answered(w, OP_IO_IN, SIZED(port, size), 0, &a))
        a->out = world_ops.io_in(w, port, size);
    return a->out;
}

static void ls_io_out(void *w, u16 port, unsigned size, u64 val)
{
    struct ls_access *a;

    if (!answered(w, OP_IO_OUT, SIZED(port, size), val, &a))
        world_ops.io_out(w, port, size, val);
}

static u64 ls_tsc(void *w)
{
    struct ls_access *a;

    if (!answered(w, OP_TSC, 0, 0, &a))
        a->out = world_ops.tsc(w);
    return a->out;
}

static u64 ls_cr8_read(void *w)
{
    struct ls_access *a;

    if (!answered(w, OP_CR8_READ, 0, 0, &a))
        a->out = world_ops.cr8_read(w);
    return a->out;
}

static void ls_cr8_write(void *w, u64 val)
{
    struct ls_access *a;

    if (!answered(w, OP_CR8_WRITE, 0, val, &a))
        world_ops.cr8_write(w, val);
}

static int ls_msr_read(void *w, u32 msr, u64 *val)
{
    struct ls_access *a;

    if (!answered(w, OP_MSR_READ, msr, 0, &a))
        a->rc = world_ops.msr_read(w, msr, &a->out);
    *val = a->out;
    return a->rc;
}

static int ls_msr_write(void *w, u32 msr, u64 val)
{
    struct ls_access *a;

    if (!answered(w, OP_MSR_WRITE, msr, val, &a))
        a->rc = world_ops.msr_write(w, msr, val);
    return a->rc;
}

static bool ls_irq_pending(void *w)
{
    struct ls_access *a;

    if (!answered(w, OP_IRQ_PENDING, 0, 0, &a))
        a->out = world_ops.irq_pending(w);
    return a->out;
}

static int ls_irq_ack(void *w)
{
    struct ls_access *a;

    if (!answered(w, OP_IRQ_ACK, 0, 0, &a))
        a->rc = world_ops.irq_ack(w);
    return a->rc;
}

static bool ls_nmi_take(void *w)
{
    struct ls_access *a;

    if (!answered(w, OP_NMI_TAKE, 0, 0, &a))
        a->out = world_ops.nmi_take(w);
    return a->out;
}

static void ls_ferr(void *w, bool asserted)
{
    struct ls_access *a;

    if (!answered(w, OP_FERR, asserted, 0, &a))
        world_ops.ferr(w, asserted);
}

static int ls_random(void *w, u64 *val)
{
    struct ls_access *a;

    if (!answered(w, OP_RANDOM, 0, 0, &a))
        a->rc = world_ops.random(w, &a->out);
    *val = a->out;
    return a->rc;
}

static int ls_send_ipis(void *w, unsigned __int128 map, u64 first, u64 icr)
{
    struct ls_access *a;

    if (!answered(w, OP_SEND_IPIS, first ^ (u64)map, icr, &a))
        a->rc = world_ops.send_ipis(w, map, first, icr);
    return a->rc;
}

/* --- memory, as the shadow sees it ------------------------------------------------------------ */

/* The shadow's TLB is empty at the start of a block: the first write to each page comes here. */
static void keep_page(struct lockstep *ls, u64 gpa, u8 *hva)
{
    for (unsigned i = 0; i < ls->npages; i++)
        if (ls->page[i].gpa == gpa)
            return;
    if (ls->npages == ls->pages_cap) {
        unsigned cap = ls->pages_cap ? 2 * ls->pages_cap : 16;
        struct ls_page *more = realloc(ls->page, cap * sizeof(*more));
        ASSERT(more); /* what is written now could not be taken back */
        ls->page = more;
        ls->pages_cap = cap;
    }
    struct ls_page *p = &ls->page[ls->npages++];
    p->gpa = gpa;
    p->hva = hva;
    memcpy(p->before, hva, sizeof(p->before));
}

static bool shadow_page(void *w, u64 gpa, bool write, struct x86_page *out)
{
    if (!world_ops.page(w, gpa, write, out))
        return false;
    if (write && out->writable)
        keep_page(of(w), gpa, out->hva);
    return true;
}

/* Translated code will write there too, and says so then. */
static void shadow_code_write(void *w, u64 gpa, unsigned size)
{
}

#define DEVICES                                                                             \
    .mmio_read = ls_mmio_read, .mmio_write = ls_mmio_write, .io_in = ls_io_in,              \
    .io_out = ls_io_out, .tsc = ls_tsc, .cr8_read = ls_cr8_read, .cr8_write = ls_cr8_write, \
    .msr_read = ls_msr_read, .msr_write = ls_msr_write, .irq_pending = ls_irq_pending,      \
    .irq_ack = ls_irq_ack, .nmi_take = ls_nmi_take, .ferr = ls_ferr, .random = ls_random,   \
    .send_ipis = ls_send_ipis

const struct x86_ops lockstep_shadow_ops = {
    .page = shadow_page,
    .code_write = shadow_code_write,
    DEVICES,
};

static struct x86_ops checked_ops;

void lockstep_world_init(struct engine_vcpu *v, struct x86_ops *real)
{
    checked_ops = (struct x86_ops){
        .page = real->page,
        .code_write = real->code_write,
        .tlb_flushed = real->tlb_flushed,
        DEVICES,
    };
    v->cpu.ops = &checked_ops;
}
