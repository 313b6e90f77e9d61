/* string.c - MOVS STOS LODS SCAS CMPS with REP (SDM vol. 2 REP): interruptible, in bulk */
#include <string.h>

#include "x86/exec.h"
#include "x86/flags.h"

/* One string instruction under way. Registers are kept up to date after every element, so that a
 * fault or an interrupt leaves exactly the finished ones done. */
struct string_op {
    unsigned size; /* of an element */
    u64 amask;     /* address size */
    s64 step;      /* +size or -size by DF */
    bool rep;
};

static struct string_op string_begin(struct x86_cpu *cpu, const struct x86_insn *in)
{
    struct string_op op;

    op.size = in->opsize;
    op.amask = size_mask(in->asize);
    op.step = cpu->s.rflags & RFLAGS_DF ? -(s64)op.size : (s64)op.size;
    op.rep = in->prefix & (X86_PFX_REP | X86_PFX_REPNE);
    return op;
}

/* In 64-bit code with 32-bit addresses Intel processors clear the upper halves of the registers a
 * repeated instruction works with at once, even when the count is zero or the first element faults:
 * that of the count always, those of the pointers for MOVS and STOS. */
static void clear_upper_halves(struct x86_cpu *cpu, const struct x86_insn *in,
                               const struct string_op *op, bool source, bool destination)
{
    u64 *r = cpu->s.gpr;

    if (likely(!op->rep || in->asize != 4 || cpu->code_bits != 64 || !cpu->intel))
        return;
    r[X86_RCX] = (u32)r[X86_RCX];
    if (source)
        r[X86_RSI] = (u32)r[X86_RSI];
    if (destination)
        r[X86_RDI] = (u32)r[X86_RDI];
}

static inline u64 addr_reg(const struct x86_cpu *cpu, const struct string_op *op, unsigned reg)
{
    return cpu->s.gpr[reg] & op->amask;
}

static inline void advance(struct x86_cpu *cpu, const struct x86_insn *in,
                           const struct string_op *op, unsigned reg, u64 elements)
{
    u64 v = cpu->s.gpr[reg] + (u64)(op->step * (s64)elements);
    gpr_set(cpu, reg, in->asize, v);
}

static inline u64 count_left(const struct x86_cpu *cpu, const struct string_op *op)
{
    return op->rep ? cpu->s.gpr[X86_RCX] & op->amask : 1;
}

/* Whether `rep` has to pause between two elements. RF alone, left by a page fault in the middle, is
 * no reason: it goes when the instruction is complete. */
static bool must_pause(const struct x86_cpu *cpu)
{
    const struct x86_state *s = &cpu->s;
    u32 attn = x86_attn(cpu);

    if (likely(!attn))
        return false;
    return attn != X86_ATTN_STEP || s->rflags & RFLAGS_TF || s->dr6_pending || s->exc_pending ||
           s->dr7 & 0xff;
}

/* Counts n finished elements. X86_OK: the instruction is complete. X86_YIELD: go on with the next
 * element, unless something wants attention: then RIP goes back on the instruction and the caller
 * returns. */
enum { REP_MORE = -1 };
static inline int count_done(struct x86_cpu *cpu, const struct x86_insn *in,
                             const struct string_op *op, u64 n)
{
    if (!op->rep)
        return X86_OK;
    u64 left = (cpu->s.gpr[X86_RCX] - n) & op->amask;
    gpr_set(cpu, X86_RCX, in->asize, left);
    if (!left)
        return X86_OK;
    if (unlikely(must_pause(cpu))) {
        cpu->s.rip = cpu->insn_rip;
        cpu->retire |= X86_RETIRE_MID_REP;
        return X86_YIELD;
    }
    return REP_MORE;
}

/* Host pointer for up to *n bytes at seg:ea going up, when the software TLB allows the access
 * outright; *n is cut at the page end. NULL: take the element-wise path. */
static u8 *bulk_ptr(struct x86_cpu *cpu, unsigned seg, u64 ea, const struct string_op *op,
                    bool write, u64 *n)
{
    if (!(cpu->seg_fast >> seg & 1))
        return NULL;
    u64 lin = (cpu->seg_base[seg] + ea) & cpu->lin_mask;
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);
    if ((write ? e->tag_write : e->tag_read) != (lin & ~4095ull))
        return NULL;
    u64 room = 4096 - (lin & 4095);
    u64 wrap = op->amask - ea; /* one less than the bytes before the offset wraps */
    *n = MIN(*n, room);
    if (wrap < *n)
        *n = wrap;
    return (u8 *)(uintptr_t)(lin + e->addend);
}

/* Moves as many elements as both pages hold; 0 when the bulk path does not apply. */
static u64 movs_bulk(struct x86_cpu *cpu, const struct x86_insn *in, const struct string_op *op,
                     u64 count)
{
    u64 bytes = MIN(count, 4096) * op->size;
    u8 *src = bulk_ptr(cpu, in->seg, addr_reg(cpu, op, X86_RSI), op, false, &bytes);
    u8 *dst = src ? bulk_ptr(cpu, X86_ES, addr_reg(cpu, op, X86_RDI), op, true, &bytes) : NULL;
    if (!dst)
        return 0;
    bytes -= bytes % op->size;
    /* A destination inside the source run repeats it: element-wise semantics. */
    if (dst > src && dst < src + bytes)
        return 0;
    memmove(dst, src, bytes);
    return bytes / op->size;
}

X86_HANDLER(movs)
{
    struct string_op op = string_begin(cpu, in);
    u64 count, v;
    int rc;

    clear_upper_halves(cpu, in, &op, true, true);
    if (!(count = count_left(cpu, &op)))
        return X86_OK;
    do {
        u64 n = 0;
        if (op.rep && op.step > 0 && count > 1 && !must_pause(cpu))
            n = movs_bulk(cpu, in, &op, count);
        if (!n) {
            TRY(x86_read(cpu, in->seg, addr_reg(cpu, &op, X86_RSI), op.size, &v));
            TRY(x86_write(cpu, X86_ES, addr_reg(cpu, &op, X86_RDI), op.size, v));
            n = 1;
        }
        advance(cpu, in, &op, X86_RSI, n);
        advance(cpu, in, &op, X86_RDI, n);
        count -= n;
        rc = count_done(cpu, in, &op, n);
    } while (rc == REP_MORE);
    return rc;
}

static u64 stos_bulk(struct x86_cpu *cpu, const struct string_op *op, u64 count, u64 v)
{
    u64 bytes = MIN(count, 4096) * op->size;
    u8 *dst = bulk_ptr(cpu, X86_ES, addr_reg(cpu, op, X86_RDI), op, true, &bytes);
    if (!dst)
        return 0;
    u64 n = bytes / op->size;
    if (op->size == 1 || !v) {
        memset(dst, (int)(v & 0xff), n * op->size);
        return n;
    }
    for (u64 i = 0; i < n; i++)
        memcpy(dst + i * op->size, &v, op->size);
    return n;
}

X86_HANDLER(stos)
{
    struct string_op op = string_begin(cpu, in);
    u64 count, v = cpu->s.gpr[X86_RAX] & size_mask(op.size);
    int rc;

    clear_upper_halves(cpu, in, &op, false, true);
    if (!(count = count_left(cpu, &op)))
        return X86_OK;
    do {
        u64 n = 0;
        if (op.rep && op.step > 0 && count > 1 && !must_pause(cpu))
            n = stos_bulk(cpu, &op, count, v);
        if (!n) {
            TRY(x86_write(cpu, X86_ES, addr_reg(cpu, &op, X86_RDI), op.size, v));
            n = 1;
        }
        advance(cpu, in, &op, X86_RDI, n);
        count -= n;
        rc = count_done(cpu, in, &op, n);
    } while (rc == REP_MORE);
    return rc;
}

X86_HANDLER(lods)
{
    struct string_op op = string_begin(cpu, in);
    u64 v;
    int rc;

    clear_upper_halves(cpu, in, &op, false, false);
    if (!count_left(cpu, &op))
        return X86_OK;
    do {
        TRY(x86_read(cpu, in->seg, addr_reg(cpu, &op, X86_RSI), op.size, &v));
        gpr_set(cpu, X86_RAX, op.size, v);
        advance(cpu, in, &op, X86_RSI, 1);
        rc = count_done(cpu, in, &op, 1);
    } while (rc == REP_MORE);
    return rc;
}

/* Flags of a - b for an element size. */
static void compare(struct x86_cpu *cpu, unsigned size, u64 a, u64 b)
{
    u32 eax;

    /* Shifted to the top, a 64-bit subtraction has the CF, OF, SF and ZF of the narrow one; AF and
     * PF need the low bytes. */
    unsigned sh = 64 - size * 8;
    asm("cmpq %[b],%[a]" FLAGS_OUT : "=&a"(eax) : [a] "r"(a << sh), [b] "r"(b << sh) : "cc");
    u64 wide = flags_unpack(eax);
    asm("cmpb %b[b],%b[a]" FLAGS_OUT : "=&a"(eax) : [a] "q"(a), [b] "q"(b) : "cc");
    u64 low = flags_unpack(eax);
    u64 low_mask = RFLAGS_AF | RFLAGS_PF;
    cpu->s.rflags = (cpu->s.rflags & ~(u64)RFLAGS_ARITH) | (wide & ~low_mask) | (low & low_mask);
}

/* REPE and REPNE also end on ZF. */
static bool condition_ends(const struct x86_cpu *cpu, const struct x86_insn *in)
{
    bool zf = cpu->s.rflags & RFLAGS_ZF;
    return (in->prefix & X86_PFX_REP && !zf) || (in->prefix & X86_PFX_REPNE && zf);
}

static int compare_done(struct x86_cpu *cpu, const struct x86_insn *in, const struct string_op *op)
{
    if (!op->rep)
        return X86_OK;
    if (condition_ends(cpu, in)) {
        gpr_set(cpu, X86_RCX, in->asize, (cpu->s.gpr[X86_RCX] - 1) & op->amask);
        return X86_OK;
    }
    return count_done(cpu, in, op, 1);
}

/* A fault in mid-repeat takes the flags back (SDM vol. 2 REP); on AMD processors they stay those of
 * the last element. */
static int fault_in_compare(struct x86_cpu *cpu, u64 flags, int rc)
{
    if (cpu->intel)
        cpu->s.rflags = flags;
    return rc;
}

X86_HANDLER(scas)
{
    struct string_op op = string_begin(cpu, in);
    u64 v, flags = cpu->s.rflags;
    int rc;

    clear_upper_halves(cpu, in, &op, false, false);
    if (!count_left(cpu, &op))
        return X86_OK;
    do {
        rc = x86_read(cpu, X86_ES, addr_reg(cpu, &op, X86_RDI), op.size, &v);
        if (unlikely(rc))
            return fault_in_compare(cpu, flags, rc);
        compare(cpu, op.size, cpu->s.gpr[X86_RAX] & size_mask(op.size), v);
        advance(cpu, in, &op, X86_RDI, 1);
        rc = compare_done(cpu, in, &op);
    } while (rc == REP_MORE);
    return rc;
}

X86_HANDLER(cmps)
{
    struct string_op op = string_begin(cpu, in);
    u64 a, b, flags = cpu->s.rflags;
    int rc;

    clear_upper_halves(cpu, in, &op, false, false);
    if (!count_left(cpu, &op))
        return X86_OK;
    do {
        /* Processors read ES:rDI first: it shows in which of two faults is reported. */
        rc = x86_read(cpu, X86_ES, addr_reg(cpu, &op, X86_RDI), op.size, &b);
        if (likely(!rc))
            rc = x86_read(cpu, in->seg, addr_reg(cpu, &op, X86_RSI), op.size, &a);
        if (unlikely(rc))
            return fault_in_compare(cpu, flags, rc);
        compare(cpu, op.size, a, b);
        advance(cpu, in, &op, X86_RSI, 1);
        advance(cpu, in, &op, X86_RDI, 1);
        rc = compare_done(cpu, in, &op);
    } while (rc == REP_MORE);
    return rc;
}
