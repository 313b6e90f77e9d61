/* output.c - the state after a case, as one line of JSON */
#include <stdlib.h>
#include <string.h>

#include "step.h"

struct out {
    FILE *f;
    bool comma;
};

static void key(struct out *o, const char *name)
{
    fprintf(o->f, "%s\"%s\":", o->comma ? "," : "", name);
    o->comma = true;
}

static void number(struct out *o, const char *name, u64 val)
{
    key(o, name);
    fprintf(o->f, "%llu", (unsigned long long)val);
}

static void open_object(struct out *o, const char *name)
{
    key(o, name);
    fputc('{', o->f);
    o->comma = false;
}

static void close_object(struct out *o)
{
    fputc('}', o->f);
    o->comma = true;
}

/* Writes a register when it changed, or always. */
static void reg(struct out *o, const struct step_case *c, const char *name, u64 before, u64 now)
{
    if (!c->changed_only || before != now)
        number(o, name, now);
}

static void hex(struct out *o, const u8 *bytes, unsigned n)
{
    fputc('"', o->f);
    while (n--)
        fprintf(o->f, "%02x", bytes[n]);
    fputc('"', o->f);
}

static void print_regs(struct out *o, const struct step_case *c, const struct x86_state *s)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                        "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                        "r12", "r13", "r14", "r15", "rip"};

    open_object(o, "regs");
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (c->mode == 64 || i < 8 || i == 16)
            reg(o, c, names[i], c->start.r[i], s->r[i]);
    reg(o, c, "rflags", c->start.rflags, s->rflags);
    close_object(o);
}

static void print_seg(struct out *o, const struct step_case *c, const char *name,
                      const struct x86_seg *before, const struct x86_seg *now)
{
    if (c->changed_only && before->sel == now->sel && before->base == now->base &&
        before->limit == now->limit && before->attr == now->attr)
        return;
    open_object(o, name);
    number(o, "sel", now->sel);
    number(o, "base", now->base);
    number(o, "limit", now->limit);
    number(o, "attr", now->attr);
    close_object(o);
}

static void print_table(struct out *o, const struct step_case *c, const char *name,
                        const struct x86_dtable *before, const struct x86_dtable *now)
{
    if (c->changed_only && before->base == now->base && before->limit == now->limit)
        return;
    open_object(o, name);
    number(o, "base", now->base);
    number(o, "limit", now->limit);
    close_object(o);
}

static void print_system(struct out *o, const struct step_case *c, const struct x86_state *s)
{
    static const char *const segs[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    const struct x86_state *b = &c->start;

    open_object(o, "segs");
    for (unsigned i = 0; i < X86_SREGS; i++)
        print_seg(o, c, segs[i], &b->seg[i], &s->seg[i]);
    print_seg(o, c, "ldtr", &b->ldtr, &s->ldtr);
    print_seg(o, c, "tr", &b->tr, &s->tr);
    close_object(o);
    print_table(o, c, "gdtr", &b->gdtr, &s->gdtr);
    print_table(o, c, "idtr", &b->idtr, &s->idtr);
    reg(o, c, "cpl", b->cpl, s->cpl);
    reg(o, c, "cr0", b->cr0, s->cr0);
    reg(o, c, "cr2", b->cr2, s->cr2);
    reg(o, c, "cr3", b->cr3, s->cr3);
    reg(o, c, "cr4", b->cr4, s->cr4);
    reg(o, c, "efer", b->efer, s->efer);
    reg(o, c, "xcr0", b->xcr0, s->xcr0);
    for (unsigned i = 0; i < 4; i++) {
        char name[] = {'d', 'r', '0' + i, 0};
        reg(o, c, name, b->dr[i], s->dr[i]);
    }
    reg(o, c, "dr6", b->dr6, s->dr6);
    reg(o, c, "dr7", b->dr7, s->dr7);
    reg(o, c, "kernel_gs_base", b->kernel_gs_base, s->kernel_gs_base);
    reg(o, c, "shadow", b->shadow, s->shadow);
}

static void print_fpu(struct out *o, const struct step_case *c, const struct x86_fpu *f)
{
    const struct x86_fpu *b = &c->start.fpu;

    if (c->changed_only && !memcmp(b, f, sizeof(*b)))
        return;
    reg(o, c, "fcw", b->fcw, f->fcw);
    reg(o, c, "fsw", b->fsw, f->fsw);
    reg(o, c, "ftw", b->ftw, f->ftw);
    reg(o, c, "fop", b->fop, f->fop);
    reg(o, c, "fip", b->fip, f->fip);
    reg(o, c, "fdp", b->fdp, f->fdp);
    reg(o, c, "fcs", b->fcs, f->fcs);
    reg(o, c, "fds", b->fds, f->fds);
    reg(o, c, "mxcsr", b->mxcsr, f->mxcsr);
    if (!c->changed_only || memcmp(b->st, f->st, sizeof(b->st))) {
        key(o, "st");
        for (unsigned i = 0; i < 8; i++) {
            fputc(i ? ',' : '[', o->f);
            hex(o, f->st[i], 10);
        }
        fputc(']', o->f);
    }
    unsigned n = c->mode == 64 ? 16 : 8;
    if (c->changed_only) {
        open_object(o, "ymm");
        for (unsigned i = 0; i < n; i++)
            if (memcmp(b->vec[i], f->vec[i], 32)) {
                char name[4];
                snprintf(name, sizeof(name), "%u", i & 15);
                key(o, name);
                hex(o, f->vec[i], 32);
            }
        close_object(o);
        return;
    }
    key(o, "ymm");
    for (unsigned i = 0; i < n; i++) {
        fputc(i ? ',' : '[', o->f);
        hex(o, f->vec[i], 32);
    }
    fputc(']', o->f);
}

static void print_exception(struct out *o, const struct step_result *r)
{
    if (!r->has_exc) {
        key(o, "exception");
        fputs("null", o->f);
        return;
    }
    open_object(o, "exception");
    number(o, "vector", r->exc.vector);
    if (r->exc.has_error)
        number(o, "error", r->exc.error);
    else
        key(o, "error"), fputs("null", o->f);
    if (r->exc.vector == X86_PF)
        number(o, "cr2", r->exc.cr2);
    if (r->exc.vector == X86_DB)
        number(o, "dr6", r->exc.dr6);
    number(o, "rip", r->exc_rip);
    close_object(o);
}

/* --- memory ----------------------------------------------------------------------------------- */

struct change_list {
    FILE *f;
    const struct step_case *c;
    bool virtual, any;
};

static void print_change(void *arg, u64 gpa, u8 before, u8 now)
{
    struct change_list *l = arg;
    bool framed = gpa >= STEP_PAGES && gpa < l->c->next_frame;

    if (framed != l->virtual)
        return;
    if (framed)
        gpa = l->c->frame_lin[(gpa - STEP_PAGES) >> 12] | (gpa & 4095);
    fprintf(l->f, "%s[%llu,%u]", l->any ? "," : "", (unsigned long long)gpa, now);
    l->any = true;
}

static void print_memory(struct out *o, struct world *w, const struct step_case *c,
                         const char *name, bool virtual)
{
    struct change_list l = {.f = o->f, .c = c, .virtual = virtual};

    key(o, name);
    fputc('[', o->f);
    world_changes(w, print_change, &l);
    fputc(']', o->f);
}

static void print_io(struct out *o, const struct world *w)
{
    if (!w->nio)
        return;
    key(o, "io");
    for (unsigned i = 0; i < w->nio; i++)
        fprintf(o->f, "%s[\"%s\",%u,%u,%llu]", i ? "," : "[", w->io[i].out ? "out" : "in",
                w->io[i].port, w->io[i].size, (unsigned long long)w->io[i].val);
    fputc(']', o->f);
}

static void echo(struct out *o, const json_t *j, const char *name)
{
    const json_t *v = json_object_get(j, name);
    if (!v)
        return;
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        return;
    key(o, name);
    fputs(text, o->f);
    free(text);
}

void step_print(FILE *f, struct world *w, const json_t *j, const struct step_case *c,
                const struct step_result *r)
{
    struct out o = {.f = f};
    const struct x86_state *s = &w->cpu.s;

    fputc('{', f);
    echo(&o, j, "id");
    echo(&o, j, "name");
    key(&o, "stop");
    fprintf(f, "\"%s\"", step_stop_names[r->stop]);
    number(&o, "executed", r->executed);
    print_exception(&o, r);
    print_regs(&o, c, s);
    print_system(&o, c, s);
    print_fpu(&o, c, &s->fpu);
    print_memory(&o, w, c, "mem", false);
    if (c->next_frame > STEP_PAGES)
        print_memory(&o, w, c, "vmem", true);
    print_io(&o, w);
    fputs("}\n", f);
}

void step_print_error(FILE *f, const json_t *j, const char *msg)
{
    struct out o = {.f = f};
    json_t *text = json_string(msg);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;

    fputc('{', f);
    echo(&o, j, "id");
    echo(&o, j, "name");
    key(&o, "error");
    fputs(quoted ? quoted : "\"bad case\"", f);
    fputs("}\n", f);
    free(quoted);
    json_decref(text);
}
