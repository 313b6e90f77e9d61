/* x86_world.h - a small world for a processor: RAM from address 0, the rest is MMIO and logged */
#pragma once

#include "unit.h"
#include "x86/cpuid.h"
#include "x86/debug.h"
#include "x86/exec.h"

#define WORLD_LOG 64

struct world_access {
    bool write, io; /* io: a port */
    u64 addr, val;
    unsigned size;
};

struct world_flush {
    u32 contexts;
    u64 lin;
    bool global;
};

struct world {
    struct x86_cpu cpu;
    struct x86_cpuid_model model;
    u8 *ram;
    u64 ram_bytes;
    u64 rom, rom_bytes; /* part of the RAM that ignores writes */
    u64 code_page;      /* this page holds decoded code; ~0: none */
    struct world_access log[WORLD_LOG];
    unsigned logged;
    u64 input;        /* what MMIO and port reads return (low bytes) */
    u64 code_written; /* gpa of the last write to the code page */
    unsigned code_writes, flushes, dirtied;
    struct world_flush flushed; /* the last one */
    u64 tsc, cr8, msr_val;
    u32 msr; /* the one MSR the world holds; 0: none */
    int irq; /* vector waiting, or -1 */
    bool nmi;
    int random_rc;
    u64 random;
};

static inline void world_note(struct world *w, bool write, bool io, u64 addr, unsigned size,
                              u64 val)
{
    assert_true(w->logged < WORLD_LOG);
    w->log[w->logged++] =
        (struct world_access){.write = write, .io = io, .addr = addr, .size = size, .val = val};
}

static inline bool world_page(void *ctx, u64 gpa, bool write, struct x86_page *out)
{
    struct world *w = ctx;

    assert_int_equal(gpa & 4095, 0);
    if (gpa >= w->ram_bytes)
        return false;
    w->dirtied += write;
    out->hva = w->ram + gpa;
    out->writable = gpa - w->rom >= w->rom_bytes;
    out->code = gpa == w->code_page;
    return true;
}

static inline u64 world_mmio_read(void *ctx, u64 gpa, unsigned size)
{
    struct world *w = ctx;

    world_note(w, false, false, gpa, size, 0);
    return w->input & size_mask(size);
}

static inline void world_mmio_write(void *ctx, u64 gpa, unsigned size, u64 val)
{
    world_note(ctx, true, false, gpa, size, val);
}

static inline void world_code_write(void *ctx, u64 gpa, unsigned size)
{
    struct world *w = ctx;

    w->code_written = gpa;
    w->code_writes++;
}

static inline u64 world_io_in(void *ctx, u16 port, unsigned size)
{
    struct world *w = ctx;

    world_note(w, false, true, port, size, 0);
    return w->input & size_mask(size);
}

static inline void world_io_out(void *ctx, u16 port, unsigned size, u64 val)
{
    world_note(ctx, true, true, port, size, val);
}

static inline u64 world_tsc(void *ctx)
{
    return ((struct world *)ctx)->tsc;
}

static inline u64 world_cr8_read(void *ctx)
{
    return ((struct world *)ctx)->cr8;
}

static inline void world_cr8_write(void *ctx, u64 val)
{
    ((struct world *)ctx)->cr8 = val;
}

static inline int world_msr_read(void *ctx, u32 msr, u64 *val)
{
    struct world *w = ctx;

    if (!w->msr || msr != w->msr)
        return -ENOENT;
    *val = w->msr_val;
    return 0;
}

static inline int world_msr_write(void *ctx, u32 msr, u64 val)
{
    struct world *w = ctx;

    if (!w->msr || msr != w->msr)
        return -ENOENT;
    w->msr_val = val;
    return 0;
}

static inline bool world_irq_pending(void *ctx)
{
    return ((struct world *)ctx)->irq >= 0;
}

static inline int world_irq_ack(void *ctx)
{
    struct world *w = ctx;
    int vector = w->irq;

    w->irq = -1;
    return vector;
}

static inline bool world_nmi_take(void *ctx)
{
    struct world *w = ctx;
    bool nmi = w->nmi;

    w->nmi = false;
    return nmi;
}

static inline void world_ferr(void *ctx, bool asserted)
{
}

static inline int world_random(void *ctx, u64 *val)
{
    struct world *w = ctx;

    *val = w->random;
    return w->random_rc;
}

static inline void world_tlb_flushed(void *ctx, u32 contexts, u64 lin, bool global)
{
    struct world *w = ctx;

    w->flushes++;
    w->flushed = (struct world_flush){.contexts = contexts, .lin = lin, .global = global};
}

static const struct x86_ops world_ops = {
    .page = world_page,
    .mmio_read = world_mmio_read,
    .mmio_write = world_mmio_write,
    .code_write = world_code_write,
    .io_in = world_io_in,
    .io_out = world_io_out,
    .tsc = world_tsc,
    .cr8_read = world_cr8_read,
    .cr8_write = world_cr8_write,
    .msr_read = world_msr_read,
    .msr_write = world_msr_write,
    .irq_pending = world_irq_pending,
    .irq_ack = world_irq_ack,
    .nmi_take = world_nmi_take,
    .ferr = world_ferr,
    .random = world_random,
    .tlb_flushed = world_tlb_flushed,
};

/* A processor of the named model, just reset, with `pages` pages of zeroed RAM. Release with
 * world_free. */
static inline struct world *world_new(unsigned pages, const char *model)
{
    struct world *w = aligned_alloc(64, (sizeof(*w) + 63) & ~63ull);
    struct err e = {0};

    assert_non_null(w);
    memset(w, 0, sizeof(*w));
    assert_ok(x86_cpuid_model(&w->model, model, 1, &e), e);
    w->ram_bytes = pages * 4096ull;
    w->ram = aligned_alloc(4096, w->ram_bytes);
    assert_non_null(w->ram);
    memset(w->ram, 0, w->ram_bytes);
    w->code_page = ~0ull;
    w->irq = -1;
    x86_cpu_init(&w->cpu, &world_ops, w, &w->model);
    w->flushes = 0;
    return w;
}

static inline void world_free(struct world *w)
{
    x86_cpu_fini(&w->cpu);
    free(w->ram);
    free(w);
}

static inline maybe_unused void world_put(struct world *w, u64 gpa, unsigned size, u64 val)
{
    assert_true(gpa + size <= w->ram_bytes);
    memcpy(w->ram + gpa, &val, size);
}

static inline maybe_unused u64 world_get(const struct world *w, u64 gpa, unsigned size)
{
    u64 val = 0;

    assert_true(gpa + size <= w->ram_bytes);
    memcpy(&val, w->ram + gpa, size);
    return val;
}

/* Flat segments of the given width (16, 32, 64 bit code) at a privilege level, in protected or
 * long mode. */
static inline maybe_unused void world_segments(struct world *w, unsigned bits, unsigned cpl)
{
    struct x86_state *s = &w->cpu.s;
    u16 common = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED | cpl << SEG_DPL_SHIFT | SEG_G;
    u16 db = bits == 16 ? 0 : SEG_DB;

    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i] =
            (struct x86_seg){.sel = (u16)(0x10 | cpl), .limit = 0xffffffff, .attr = common | db};
    s->seg[X86_CS].sel = (u16)(0x08 | cpl);
    s->seg[X86_CS].attr = common | SEG_CODE | (bits == 64 ? SEG_L : db);
    s->cpl = (u8)cpl;
    s->cr0 |= CR0_PE;
}

/* Protected mode without paging. */
static inline maybe_unused void world_protected(struct world *w, unsigned bits, unsigned cpl)
{
    world_segments(w, bits, cpl);
    x86_update_mode(&w->cpu);
}

/* Long mode with 4-level paging from cr3. */
static inline maybe_unused void world_long(struct world *w, u64 cr3, unsigned bits, unsigned cpl)
{
    struct x86_state *s = &w->cpu.s;

    world_segments(w, bits, cpl);
    s->cr0 |= CR0_PG | CR0_WP;
    s->cr4 |= CR4_PAE | CR4_PGE;
    s->efer |= EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    s->cr3 = cr3;
    x86_update_mode(&w->cpu);
    x86_tlb_flush(&w->cpu, true);
}

/* The current code's privilege level, with everything that follows from it. */
static inline maybe_unused void world_cpl(struct world *w, unsigned cpl)
{
    w->cpu.s.cpl = (u8)cpl;
    x86_update_mode(&w->cpu);
}

/* Decodes and executes the bytes as one instruction, wherever RIP is. */
static inline maybe_unused int world_exec(struct world *w, const void *bytes, unsigned len)
{
    struct x86_insn in;

    int rc = x86_decode(&w->cpu, bytes, len, &in);
    if (rc != X86_OK)
        return rc;
    assert_int_equal(in.len, len);
    return x86_exec(&w->cpu, &in);
}
#define WORLD_EXEC(w, ...) \
    world_exec(w, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* The call raised this exception, with this error code (-1: without one). */
#define assert_fault(w, rc, vec, err_code)                    \
    do {                                                      \
        s64 want_ = (err_code);                               \
        assert_int_equal((rc), X86_FAULT);                    \
        assert_int_equal((w)->cpu.exc.vector, (vec));         \
        assert_int_equal((w)->cpu.exc.has_error, want_ >= 0); \
        if (want_ >= 0)                                       \
            assert_int_equal((w)->cpu.exc.error, want_);      \
    } while (0)
#define assert_pf(w, rc, lin, err_code)            \
    do {                                           \
        assert_fault(w, rc, X86_PF, err_code);     \
        assert_int_equal((w)->cpu.exc.cr2, (lin)); \
    } while (0)
