/* engine.c - the same instructions under an engine, through engine.h: the world of guest.c on
 * struct mem, where every exception ends at a HLT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../idle_env.h"
#include "cli/tuning.h"
#include "guest.h"

#define HLT 0xf4

static struct {
    struct mem *mem;
    struct bus *pio, *mmio;
    const struct engine *engine;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu;
    u8 *sys;
} w;

/* --- setting up ------------------------------------------------------------------------------- */

static u8 *ram(u64 gpa)
{
    unsigned flags;

    return mem_page(w.mem, gpa, true, &flags);
}

/* From now on the core's data is the engine's: pokes and comparisons need not know. */
static int make_memory(struct err *e)
{
    int rc = mem_create(&w.mem, e);

    if (!rc)
        rc = mem_add_ram(w.mem, SYS_GPA, SYS_BYTES, e);
    if (!rc)
        rc = mem_add_ram(w.mem, CODE_GPA, CODE_BYTES, e);
    if (!rc)
        rc = mem_add_ram(w.mem, DATA_GPA, DATA_BYTES + RO_BYTES, e);
    if (rc)
        return rc;
    w.sys = ram(SYS_GPA);
    memcpy(w.sys, guest_sys(), SYS_BYTES);
    memset(w.sys + HANDLERS, HLT, 256 * 16);
    free(guest_data);
    guest_data = ram(DATA_GPA);
    return mem_fill(w.mem, CODE_GPA, 0xcc, CODE_BYTES);
}

int engine_init(const char *spec, struct err *e)
{
    struct engine_vm_config cfg = {.cpuid = guest_model()};
    const char *tuning = strchr(spec, ':');
    size_t len = tuning ? (size_t)(tuning - spec) : strlen(spec);

    if (len == 2 && !memcmp(spec, "bt", len))
        w.engine = &engine_bt;
    else
        return err_set(e, EINVAL, "engine %s is not here; interp and bt[:TUNING] are", spec);
    int rc = tuning ? tuning_parse(tuning + 1, &cfg.bt, e) : 0;
    if (!rc)
        rc = make_memory(e);
    if (!rc)
        rc = bus_create(&w.pio, "PIO", 0x10000, e);
    if (!rc)
        rc = bus_create(&w.mmio, "MMIO", BIT64(40), e);
    cfg.mem = w.mem;
    cfg.pio = w.pio;
    cfg.mmio = w.mmio;
    if (!rc)
        rc = w.engine->vm_create(&cfg, &w.vm, e);
    if (!rc)
        rc = w.engine->vcpu_create(w.vm, 0, &idle_env, &w.vcpu, e);
    return rc;
}

bool engine_used(void)
{
    return w.engine != NULL;
}

void engine_kick(void)
{
    if (w.vcpu)
        w.engine->vcpu_kick(w.vcpu);
}

/* --- run -------------------------------------------------------------------------------------- */

static void fill_state(const struct dcase *c, struct x86_state *s)
{
    *s = *guest_prototype();
    memcpy(s->gpr, c->in.gpr, sizeof(s->gpr));
    s->rip = c->in.rip;
    s->rflags = c->in.rflags;
    s->fpu = c->in.fpu;
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i] = guest_segment(c->in.sel[i]);
    if (c->mode == MODE_64) {
        s->seg[X86_FS].base = c->in.fs_base;
        s->seg[X86_GS].base = c->in.gs_base;
    }
}

static bool has_error_code(unsigned vector)
{
    return vector == X86_DF || (vector >= X86_TS && vector <= X86_PF) || vector == X86_AC;
}

/* Back to the state that the exception was delivered from. */
static void unwind(const struct x86_state *s, struct outcome *out)
{
    const u64 *frame = (const u64 *)(w.sys + (s->gpr[X86_RSP] - SYS_LIN));

    memcpy(out->s.gpr, s->gpr, sizeof(out->s.gpr));
    for (unsigned i = 0; i < X86_SREGS; i++)
        out->s.sel[i] = s->seg[i].sel;
    out->s.fs_base = s->seg[X86_FS].base;
    out->s.gs_base = s->seg[X86_GS].base;
    out->s.fpu = s->fpu;
    out->trap = (int)((s->rip - SYS_LIN - HANDLERS) / 16);
    if (has_error_code((unsigned)out->trap))
        out->error = *frame++;
    out->cr2 = out->trap == X86_PF ? s->cr2 : 0;
    out->s.rip = frame[0];
    out->s.sel[X86_CS] = (u16)frame[1];
    out->s.rflags = frame[2];
    out->s.gpr[X86_RSP] = frame[3];
    out->s.sel[X86_SS] = (u16)frame[4];
}

/* The jump to the host's exit stub, which the guest does not have, is the end of the block; so is
 * the breakpoint of a landing place. */
static void recognize_end(const struct dcase *c, struct outcome *out)
{
    u64 base = c->in.sel[X86_CS] == LDT_SEL(LDT_CODE16) ? CODE_ADDR : 0;
    u64 lin = out->s.rip + (out->s.sel[X86_CS] == LDT_SEL(LDT_CODE16) ? CODE_ADDR : 0);

    if (c->has_exit && out->s.rip == native_exit() &&
        (out->trap == X86_PF || out->trap == X86_DB)) {
        out->s.sel[X86_CS] = c->in.sel[X86_CS];
        out->s.rip = c->start + c->len - base;
        out->trap = -1;
        out->error = out->cr2 = 0;
    } else if (out->trap == X86_BP && lin - 1 - CODE_ADDR < CODE_BYTES &&
               (lin - 1 < c->start || lin - 1 >= c->start + c->len)) {
        out->s.rip--;
        out->trap = -1;
    }
}

void engine_run(const struct dcase *c, struct outcome *out)
{
    static struct x86_state s;
    u64 off = c->start - CODE_ADDR;
    unsigned n = (unsigned)MIN(c->len + 16ull, CODE_BYTES - off);
    struct vcpu_exit exit = {.err.code = 0};
    struct err e = {0};

    *out = (struct outcome){.trap = -1};
    ASSERT(!mem_write(w.mem, CODE_GPA + off, native_code + off, n));
    fill_state(c, &s);
    if (w.engine->vcpu_set_state(w.vcpu, &s, &e))
        assert_failed(e.msg, __FILE__, __LINE__);
    for (unsigned runs = 0; runs < 2; runs++) {
        w.engine->vcpu_run(w.vcpu, &exit);
        if (exit.reason != VCPU_EXIT_KICKED)
            break; /* else a tick left over from before; twice is a hang */
    }
    w.engine->vcpu_get_state(w.vcpu, &s);
    if (exit.reason == VCPU_EXIT_HALTED && s.rip - SYS_LIN - HANDLERS <= 256 * 16) {
        unwind(&s, out);
        recognize_end(c, out);
    } else {
        out->trap = 1000 + (int)exit.reason;
    }
    ASSERT(!mem_fill(w.mem, CODE_GPA + off, 0xcc, n));
}
