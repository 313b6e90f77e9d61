/* sst.c - runs published single-step data of the 8088/8086, 80286 and 80386 and counts
 * agreements */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sst.h"
#include "tests/diff/undefined.h"

enum sst_model { MODEL_8088, MODEL_286, MODEL_386 };

enum verdict { PASS, FAIL, KNOWN, VERDICTS };

struct sst_run {
    struct world *w;
    const struct sst_options *opt;
    const struct sst_meta *meta;
    enum sst_model model;
    unsigned long count[VERDICTS];
    unsigned printed;
    struct step_case c;
    struct step_result r;
};

static const u8 gpr_of[SST_REGS] = {
    [SST_EAX] = X86_RAX, [SST_EBX] = X86_RBX, [SST_ECX] = X86_RCX, [SST_EDX] = X86_RDX,
    [SST_ESI] = X86_RSI, [SST_EDI] = X86_RDI, [SST_EBP] = X86_RBP, [SST_ESP] = X86_RSP};
static const u8 sreg_of[SST_REGS] = {[SST_CS] = X86_CS, [SST_DS] = X86_DS, [SST_ES] = X86_ES,
                                     [SST_FS] = X86_FS, [SST_GS] = X86_GS, [SST_SS] = X86_SS};
static const char *const reg_names[SST_REGS] = {"cr0", "cr3", "eax", "ebx",    "ecx", "edx", "esi",
                                                "edi", "ebp", "esp", "cs",     "ds",  "es",  "fs",
                                                "gs",  "ss",  "eip", "eflags", "dr6", "dr7"};

/* Flags that exist on each model in real mode. */
static u32 model_flags(enum sst_model m)
{
    return m == MODEL_386 ? 0x7fd5 : 0x0fd5;
}

static bool is_gpr(unsigned i)
{
    return i >= SST_EAX && i <= SST_ESP;
}

static bool is_sreg(unsigned i)
{
    return i >= SST_CS && i <= SST_SS;
}

static void load_state(struct sst_run *run, const struct sst_test *t)
{
    struct step_case *c = &run->c;

    memset(c, 0, offsetof(struct step_case, frame_lin));
    c->mode = 16;
    c->deliver = true;
    c->count = 1;
    step_default_state(c);
    for (unsigned i = 0; i < SST_REGS; i++) {
        u32 v = t->initial.reg[i];
        if (!(t->initial.present >> i & 1))
            continue;
        if (is_gpr(i)) {
            c->s.gpr[gpr_of[i]] = v;
        } else if (is_sreg(i)) {
            c->s.seg[sreg_of[i]].sel = v;
            c->s.seg[sreg_of[i]].base = (u64)(u16)v << 4;
        }
    }
    c->s.rip = t->initial.reg[SST_EIP];
    c->s.rflags = (t->initial.reg[SST_EFLAGS] & model_flags(run->model)) | RFLAGS_ONE;
    if (t->initial.present >> SST_DR7 & 1)
        c->s.dr7 = (t->initial.reg[SST_DR7] & 0xffff2bff) | 0x400;
    for (u32 i = 0; i < t->initial.nram; i++)
        if (world_poke(run->w, t->initial.ram[i].addr, &t->initial.ram[i].val, 1))
            return;
}

/* What the bytes at CS:IP are, for undefined flags. */
static u32 undefined_flags(const struct sst_run *run, const struct sst_test *t, bool *result)
{
    ZydisDecoder d;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

    *result = false;
    ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, t->bytes, t->nbytes, &z, ops)))
        return 0;
    struct undefined u = undefined_by(&z, ops, &run->c.s);
    *result = u.result;
    return u.flags;
}

static u32 flags_compared(const struct sst_run *run, const struct sst_test *t, bool *skip_result)
{
    u32 mask = model_flags(run->model) & t->mask[SST_EFLAGS];

    mask &= ~undefined_flags(run, t, skip_result);
    if (run->opt->have_flags_mask)
        mask &= run->opt->flags_mask;
    if (run->meta)
        mask &= sst_meta_flags(run->meta, t->bytes, t->nbytes);
    return mask;
}

/* 286 and 386 data end with a HLT behind the instruction (or at the handler), executed on paper
 * here. */
static void account_hlt(struct sst_run *run)
{
    struct x86_state *s = &run->w->cpu.s;

    if (run->model == MODEL_8088 || run->r.stop == STEP_HLT)
        return;
    s->rip = (u16)(s->rip + 1);
}

struct mismatch {
    char text[256];
};

static bool regs_differ(const struct sst_run *run, const struct sst_test *t, u32 flags_mask,
                        struct mismatch *m)
{
    const struct x86_state *s = &run->w->cpu.s;

    for (unsigned i = SST_EAX; i < SST_REGS; i++) {
        if (!(t->initial.present >> i & 1) || i == SST_DR6)
            continue;
        u32 want = t->final.present >> i & 1 ? t->final.reg[i] : t->initial.reg[i];
        u32 mask = t->mask[i], got;
        if (is_gpr(i)) {
            got = s->gpr[gpr_of[i]];
            mask &= run->model == MODEL_386 ? ~0u : 0xffff;
        } else if (is_sreg(i)) {
            got = s->seg[sreg_of[i]].sel;
            mask &= 0xffff;
        } else if (i == SST_EIP) {
            got = s->rip;
            mask &= 0xffff;
        } else if (i == SST_EFLAGS) {
            got = s->rflags;
            mask = flags_mask;
        } else {
            got = s->dr7;
            mask &= 0xffff03ff;
        }
        if (!((got ^ want) & mask))
            continue;
        snprintf(m->text, sizeof(m->text), "%s is %#x, expected %#x (mask %#x)", reg_names[i], got,
                 want, mask);
        return true;
    }
    return false;
}

static bool ram_differs(struct sst_run *run, const struct sst_test *t, u32 flags_mask,
                        struct mismatch *m)
{
    for (u32 i = 0; i < t->final.nram; i++) {
        const struct sst_byte *b = &t->final.ram[i];
        u8 got = *world_at(run->w, b->addr), mask = 0xff;
        if (t->exception >= 0 && b->addr - t->flag_address < 2)
            mask = (b->addr - t->flag_address ? flags_mask >> 8 : flags_mask) & 0xff;
        if (!((got ^ b->val) & mask))
            continue;
        snprintf(m->text, sizeof(m->text), "byte at %#x is %#x, expected %#x", b->addr, got,
                 b->val);
        return true;
    }
    return false;
}

/* Behaviour of the old processors that later ones gave up; see docs/ring3-step.md for the list. */
static bool known_difference(const struct sst_run *run, const struct sst_test *t)
{
    u32 i = 0;

    if (run->model == MODEL_386)
        return false;
    while (i < t->nbytes && (t->bytes[i] == 0x26 || t->bytes[i] == 0x2e || t->bytes[i] == 0x36 ||
                             t->bytes[i] == 0x3e || t->bytes[i] >= 0xf2))
        if (t->bytes[i] >= 0xf4)
            break;
        else
            i++;
    u8 op = i < t->nbytes ? t->bytes[i] : 0;
    u8 reg = i + 1 < t->nbytes ? t->bytes[i + 1] >> 3 & 7 : 0;
    if (op == 0x9c || op == 0xcc || op == 0xcd || op == 0xce)
        return true; /* FLAGS bits 12-15 are 1 (8086) or 0 (80286) when pushed */
    if (run->model == MODEL_286)
        return false;
    /* The 8086 knows neither #UD nor #GP, and its #DE returns behind the instruction. */
    if (run->r.has_exc)
        return true;
    switch (op) {
    case 0x0f: /* POP CS */
    case 0x54: /* PUSH SP stores the new value */
    case 0xd2:
    case 0xd3: /* counts are not masked to five bits */
    case 0xd6: /* SALC is there, its flags differ */
    case 0xf1: /* a second LOCK */ return true;
    case 0x8f:
    case 0xc6:
    case 0xc7: return reg != 0;
    case 0xd0:
    case 0xd1: return reg == 6; /* SETMO */
    case 0xfe:
    case 0xff: return op == 0xfe ? reg > 1 : reg == 7;
    default:
        return (op >= 0x60 && op <= 0x6f) || op == 0xc0 || op == 0xc1 || op == 0xc8 || op == 0xc9;
    }
}

static void run_test(void *arg, const struct sst_test *t)
{
    struct sst_run *run = arg;
    struct mismatch m = {"no difference"};
    enum verdict v = PASS;
    bool skip_result;

    world_reset(run->w);
    load_state(run, t);
    u32 mask = flags_compared(run, t, &skip_result);
    step_run(run->w, &run->c, &run->r);
    account_hlt(run);
    if (run->r.stop == STEP_SHUTDOWN)
        snprintf(m.text, sizeof(m.text), "shutdown"), v = FAIL;
    else if (skip_result)
        v = PASS;
    else if (regs_differ(run, t, mask, &m) || ram_differs(run, t, mask, &m))
        v = FAIL;
    if (v == FAIL && known_difference(run, t))
        v = KNOWN;
    run->count[v]++;
    if (v != FAIL || run->printed >= run->opt->verbose)
        return;
    run->printed++;
    fprintf(stderr, "  %s [", t->name);
    for (u32 i = 0; i < t->nbytes; i++)
        fprintf(stderr, "%s%02x", i ? " " : "", t->bytes[i]);
    fprintf(stderr, "]: %s", m.text);
    if (run->r.has_exc)
        fprintf(stderr, "; exception %u", run->r.exc.vector);
    fputc('\n', stderr);
}

static int parse_model(const char *name, enum sst_model *m, struct err *e)
{
    if (!strcmp(name, "8088") || !strcmp(name, "8086"))
        *m = MODEL_8088;
    else if (!strcmp(name, "286") || !strcmp(name, "80286"))
        *m = MODEL_286;
    else if (!strcmp(name, "386") || !strcmp(name, "80386"))
        *m = MODEL_386;
    else
        return err_set(e, EINVAL, "--model %s: 8088, 286 or 386", name);
    return 0;
}

static bool run_file(struct sst_run *run, const char *path, unsigned long *total)
{
    struct err e = {0};

    memset(run->count, 0, sizeof(run->count));
    run->printed = 0;
    int rc = sst_read(path, run_test, run, &e);
    if (rc)
        fprintf(stderr, "ring3-step: %s\n", e.msg);
    printf("%s: %lu passed, %lu failed, %lu known differences\n", path, run->count[PASS],
           run->count[FAIL], run->count[KNOWN]);
    for (unsigned i = 0; i < VERDICTS; i++)
        total[i] += run->count[i];
    return !rc && !run->count[FAIL];
}

int sst_main(const struct sst_options *opt, char **files, int nfiles)
{
    static struct sst_run run;
    struct sst_meta *meta = NULL;
    unsigned long total[VERDICTS] = {0};
    struct err e = {0};
    bool ok = true;

    run = (struct sst_run){.opt = opt};
    if (parse_model(opt->model, &run.model, &e) ||
        (opt->metadata && sst_meta_load(opt->metadata, &meta, &e)) ||
        world_create(&run.w, opt->cpu, &e)) {
        sst_meta_free(meta);
        fprintf(stderr, "ring3-step: %s\n", e.msg);
        return 2;
    }
    run.meta = meta;
    run.w->addr_mask = run.model == MODEL_8088 ? 0xfffff : 0xffffff;
    for (int i = 0; i < nfiles; i++)
        ok &= run_file(&run, files[i], total);
    printf("total: %lu passed, %lu failed, %lu known differences\n", total[PASS], total[FAIL],
           total[KNOWN]);
    world_destroy(run.w);
    sst_meta_free(meta);
    return ok ? 0 : 1;
}
