/* parse.c - a JSON case into processor state and memory */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "step.h"
#include "x86/seg.h"

/* Registers may stand in "regs" or beside it, under any of their sizes. */
struct place {
    const json_t *top, *regs;
};

static int get(const struct place *p, const char *key, u64 *v, struct err *e)
{
    int found = json_get_u64(p->top, key, v, e);
    return found || !p->regs ? found : json_get_u64(p->regs, key, v, e);
}

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* Names from the longest to the shortest: "rax", "eax", "ax". */
static int get_sized(const struct place *p, const char *r_name, u64 *v, struct err *e)
{
    char name[8];
    int found = get(p, r_name, v, e);

    if (found)
        return found;
    snprintf(name, sizeof(name), "e%s", r_name + 1);
    found = get(p, name, v, e);
    if (found > 0)
        *v = (u32)*v;
    if (found)
        return found;
    found = get(p, r_name + 1, v, e);
    if (found > 0)
        *v = (u16)*v;
    return found;
}

static int parse_regs(const struct place *p, struct x86_state *s, struct err *e)
{
    u64 v;
    int found;

    for (unsigned i = 0; i < 16; i++) {
        found = i < 8 ? get_sized(p, gpr_names[i], &v, e) : get(p, gpr_names[i], &v, e);
        if (found < 0)
            return -EINVAL;
        if (found)
            s->gpr[i] = v;
    }
    found = get_sized(p, "rip", &v, e);
    if (found > 0)
        s->rip = v;
    if (found >= 0) {
        found = get_sized(p, "rflags", &v, e);
        if (found > 0)
            s->rflags = (v & 0x3f7fd7) | RFLAGS_ONE | (s->rflags & RFLAGS_VM);
    }
    return found < 0 ? -EINVAL : 0;
}

static int parse_control(const struct place *p, struct x86_state *s, struct err *e)
{
    const struct {
        const char *name;
        u64 *val;
    } regs[] = {
        {"cr0", &s->cr0},
        {"cr2", &s->cr2},
        {"cr3", &s->cr3},
        {"cr4", &s->cr4},
        {"efer", &s->efer},
        {"xcr0", &s->xcr0},
        {"dr0", &s->dr[0]},
        {"dr1", &s->dr[1]},
        {"dr2", &s->dr[2]},
        {"dr3", &s->dr[3]},
        {"dr6", &s->dr6},
        {"dr7", &s->dr7},
        {"star", &s->star},
        {"lstar", &s->lstar},
        {"cstar", &s->cstar},
        {"sfmask", &s->sfmask},
        {"fs_base", &s->seg[X86_FS].base},
        {"gs_base", &s->seg[X86_GS].base},
        {"kernel_gs_base", &s->kernel_gs_base},
        {"sysenter_cs", &s->sysenter_cs},
        {"sysenter_esp", &s->sysenter_esp},
        {"sysenter_eip", &s->sysenter_eip},
        {"tsc_aux", &s->tsc_aux},
        {"pat", &s->pat},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
        if (get(p, regs[i].name, regs[i].val, e) < 0)
            return -EINVAL;
    /* Published values carry the undefined bits of old processors. */
    s->cr0 = (s->cr0 & 0xe005003f) | CR0_ET;
    s->dr6 = (s->dr6 & 0xe00f) | 0xffff0ff0;
    s->dr7 = (s->dr7 & 0xffff2bff) | 0x400;
    return 0;
}

/* --- segments --------------------------------------------------------------------------------- */

static int parse_table(const json_t *top, const char *key, struct x86_dtable *t, struct err *e)
{
    const json_t *j = json_object_get(top, key);
    u64 v;

    if (!j || json_is_null(j))
        return 0;
    if (!json_is_object(j))
        return err_set(e, EINVAL, "%s: not an object {base, limit}", key);
    int found = json_get_u64(j, "base", &v, e);
    if (found > 0)
        t->base = v;
    if (found >= 0) {
        found = json_get_u64(j, "limit", &v, e);
        if (found > 0)
            t->limit = v;
    }
    return found < 0 ? -EINVAL : 0;
}

static int parse_seg_object(const json_t *j, const char *name, struct x86_seg *g, struct err *e)
{
    u64 sel = g->sel, base = g->base, limit = g->limit, attr = g->attr;

    if (json_get_u64(j, "sel", &sel, e) < 0 || json_get_u64(j, "base", &base, e) < 0 ||
        json_get_u64(j, "limit", &limit, e) < 0 || json_get_u64(j, "attr", &attr, e) < 0) {
        err_prefix(e, "%s", name);
        return -EINVAL;
    }
    *g = (struct x86_seg){.sel = sel, .base = base, .limit = limit, .attr = attr & 0xf0ff};
    return 0;
}

/* A number is a selector: in real and virtual-8086 mode it gives the base too; else it is looked
 * up in the GDT or LDT when memory is complete (load_selectors). */
static int parse_seg(const struct step_case *c, const json_t *j, const char *name,
                     struct x86_seg *g, bool *by_sel, struct err *e)
{
    u64 sel;

    if (json_is_object(j))
        return parse_seg_object(j, name, g, e);
    if (!json_u64(j, &sel))
        return err_set(e, EINVAL, "%s: neither a selector nor an object", name);
    g->sel = sel;
    if (!(c->s.cr0 & CR0_PE) || c->s.rflags & RFLAGS_VM)
        g->base = (u64)(u16)sel << 4;
    else
        *by_sel = true;
    return 0;
}

static const char *const seg_names[8] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};

static struct x86_seg *seg_at(struct x86_state *s, unsigned i)
{
    return i < 6 ? &s->seg[i] : i == 6 ? &s->ldtr : &s->tr;
}

static int parse_segs(struct step_case *c, const struct place *p, const json_t *top,
                      unsigned *by_sel, struct err *e)
{
    const json_t *segs = json_object_get(top, "segs");

    for (unsigned i = 0; i < 8; i++) {
        const json_t *j = json_object_get(segs, seg_names[i]);
        if (!j)
            j = json_object_get(p->regs, seg_names[i]);
        if (!j || json_is_null(j))
            continue;
        bool sel = false;
        int rc = parse_seg(c, j, seg_names[i], seg_at(&c->s, i), &sel, e);
        if (rc)
            return rc;
        *by_sel |= sel << i;
    }
    int rc = parse_table(top, "gdtr", &c->s.gdtr, e);
    return rc ? rc : parse_table(top, "idtr", &c->s.idtr, e);
}

/* Loads the hidden part of segments given by selector from the case's tables; no checks, no
 * accessed bit. */
static int load_selectors(struct world *w, struct step_case *c, unsigned by_sel, struct err *e)
{
    static const u8 order[] = {6, 7, 0, 1, 2, 3, 4, 5}; /* LDTR first */

    for (unsigned k = 0; k < 8; k++) {
        unsigned i = order[k];
        struct x86_seg *g = seg_at(&c->s, i);
        if (!(by_sel >> i & 1))
            continue;
        if (g->sel < 4) {
            *g = (struct x86_seg){.sel = g->sel};
            continue;
        }
        bool local = g->sel & 4;
        u64 base = local ? c->s.ldtr.base : c->s.gdtr.base;
        u32 limit = local ? c->s.ldtr.limit : c->s.gdtr.limit;
        u64 raw, high = 0;
        if ((g->sel | 7u) > limit)
            return err_set(e, EINVAL, "%s: selector %#x lies beyond its table", seg_names[i],
                           g->sel);
        memcpy(&raw, world_at(w, base + (g->sel & ~7u)), 8);
        if (i >= 6 && c->s.efer & EFER_LMA)
            memcpy(&high, world_at(w, base + (g->sel & ~7u) + 8), 8);
        g->attr = raw >> 40 & 0xf0ff;
        g->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000) | high << 32;
        g->limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
        if (g->attr & SEG_G)
            g->limit = g->limit << 12 | 0xfff;
    }
    return 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

typedef int put_fn(struct world *w, struct step_case *c, u64 addr, const u8 *data, unsigned n,
                   const json_t *item, struct err *e);

static int put_physical(struct world *w, struct step_case *c, u64 addr, const u8 *data, unsigned n,
                        const json_t *item, struct err *e)
{
    if (world_poke(w, addr, data, n))
        return err_set(e, ERANGE, "mem: %#llx lies outside the %llu GiB of memory",
                       (unsigned long long)addr, WORLD_RAM / GiB);
    return 0;
}

static bool flag_of(const json_t *item, const char *key, bool otherwise)
{
    u64 v;
    const json_t *j = json_object_get(item, key);
    return j && json_u64(j, &v) ? v != 0 : otherwise;
}

static int put_virtual(struct world *w, struct step_case *c, u64 addr, const u8 *data, unsigned n,
                       const json_t *item, struct err *e)
{
    struct step_map how = {
        .present = flag_of(item, "present", true),
        .write = flag_of(item, "write", flag_of(item, "rw", true)),
        .user = flag_of(item, "user", true),
        .nx = flag_of(item, "nx", false),
    };
    u64 size = n;

    if (json_is_object(item) && json_get_u64(item, "size", &size, e) < 0)
        return -EINVAL;
    size = MAX(size, n);
    if (size > (u64)STEP_FRAMES_MAX * 4096)
        return err_set(e, ENOSPC, "vmem: size is more than %u pages", STEP_FRAMES_MAX);
    for (u64 done = 0; done < size;) {
        u64 gpa, room = 4096 - ((addr + done) & 4095);
        u64 part = MIN(size - done, room);
        int rc = step_map_page(w, c, addr + done, json_is_object(item) ? &how : NULL, &gpa, e);
        if (rc)
            return rc;
        if (done < n && world_poke(w, gpa, data + done, MIN(part, n - done)))
            return err_set(e, ENOSPC, "vmem: too many pages");
        done += part;
    }
    return 0;
}

static int put_hex(struct world *w, struct step_case *c, u64 addr, const char *hex,
                   const json_t *item, put_fn *put, struct err *e)
{
    size_t max = strlen(hex) / 2 + 1;
    u8 *bytes = malloc(max);
    if (!bytes)
        return err_set(e, ENOMEM, "no memory");
    int n = hex_bytes(hex, bytes, max);
    int rc = n < 0 ? err_set(e, EINVAL, "memory at %#llx: not pairs of hex digits",
                             (unsigned long long)addr)
                   : put(w, c, addr, bytes, n, item, e);
    free(bytes);
    return rc;
}

static int put_item(struct world *w, struct step_case *c, const char *key, const json_t *item,
                    put_fn *put, struct err *e)
{
    u64 addr, v;

    if (json_is_object(item)) {
        int found = json_get_u64(item, "addr", &addr, e);
        const json_t *hex = json_object_get(item, "hex");
        if (found <= 0 || (hex && !json_is_string(hex)))
            return err_set(e, EINVAL, "%s: a chunk is {\"addr\": number, \"hex\": string}", key);
        return put_hex(w, c, addr, hex ? json_string_value(hex) : "", item, put, e);
    }
    const json_t *second = json_array_get(item, 1);
    if (json_array_size(item) != 2 || !json_u64(json_array_get(item, 0), &addr))
        return err_set(e, EINVAL, "%s: an entry is [address, byte] or [address, \"hex\"]", key);
    if (json_is_string(second) && strncmp(json_string_value(second), "0x", 2))
        return put_hex(w, c, addr, json_string_value(second), NULL, put, e);
    if (!json_u64(second, &v) || v > 255)
        return err_set(e, EINVAL, "%s: the byte at %#llx is none", key, (unsigned long long)addr);
    u8 byte = v;
    return put(w, c, addr, &byte, 1, NULL, e);
}

static int parse_memory(struct world *w, struct step_case *c, const json_t *top, const char *key,
                        put_fn *put, struct err *e)
{
    json_t *mem = json_object_get(top, key), *item;
    const char *name;
    size_t i;
    int rc = 0;

    if (!mem || json_is_null(mem))
        return 0;
    if (json_is_array(mem)) {
        json_array_foreach(mem, i, item)
        {
            rc = put_item(w, c, key, item, put, e);
            if (rc)
                return rc;
        }
        return 0;
    }
    json_object_foreach(mem, name, item)
    {
        char *end;
        u64 addr = strtoull(name, &end, 0);
        if (*end || !json_is_string(item))
            return err_set(e, EINVAL, "%s: an object maps addresses to hex strings", key);
        rc = put_hex(w, c, addr, json_string_value(item), NULL, put, e);
        if (rc)
            return rc;
    }
    return json_is_object(mem) ? 0 : err_set(e, EINVAL, "%s: neither an array nor an object", key);
}

/* "code": bytes at CS:RIP. */
static int parse_code(struct world *w, struct step_case *c, const json_t *top, struct err *e)
{
    const json_t *j = json_object_get(top, "code");
    bool flat = c->mode == 64;
    u64 lin = c->s.rip + (flat ? 0 : c->s.seg[X86_CS].base);

    if (!j)
        return 0;
    if (!json_is_string(j))
        return err_set(e, EINVAL, "code: not a hex string");
    if (!flat)
        lin = (u32)lin;
    bool low = !(c->s.cr0 & CR0_PG) || lin < 4 * GiB;
    bool has_vmem = json_object_get(top, "vmem") != NULL;
    return put_hex(w, c, lin, json_string_value(j), NULL,
                   c->s.cr0 & CR0_PG && (has_vmem || !low) ? put_virtual : put_physical, e);
}

/* "msrs": written as WRMSR at CPL 0 would, on top of the state parsed so far. */
static int parse_msrs(struct world *w, struct step_case *c, const json_t *top, struct err *e)
{
    json_t *msrs = json_object_get(top, "msrs"), *item;
    const char *name;
    u64 v;

    if (!msrs || json_is_null(msrs))
        return 0;
    if (!json_is_object(msrs))
        return err_set(e, EINVAL, "msrs: an object by MSR number");
    u8 cpl = c->s.cpl;
    x86_cpu_set_state(&w->cpu, &c->s);
    json_object_foreach(msrs, name, item)
    {
        if (!json_u64(item, &v) || x86_msr_write(&w->cpu, strtoul(name, NULL, 0), v) == X86_FAULT)
            return err_set(e, EINVAL, "msrs: %s: no such register or bad value", name);
    }
    c->s = w->cpu.s;
    c->s.cpl = cpl;
    return 0;
}

static int parse_ports(struct world *w, const json_t *top, struct err *e)
{
    json_t *ports = json_object_get(top, "ports"), *item;
    const char *name;
    u64 v;

    json_object_foreach(ports, name, item)
    {
        u64 port = strtoull(name, NULL, 0);
        if (!json_u64(item, &v) || port > 0xffff || v > 255)
            return err_set(e, EINVAL, "ports: %s: a port gives a byte", name);
        world_set_port(w, port, v);
    }
    return 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

static int parse_mode(const json_t *top, struct step_case *c, struct err *e)
{
    u64 mode = 64, cpl = 0, v;

    if (json_get_u64(top, "mode", &mode, e) < 0 || json_get_u64(top, "cpl", &cpl, e) < 0)
        return -EINVAL;
    if (mode != 16 && mode != 32 && mode != 64)
        return err_set(e, EINVAL, "mode: 16, 32 or 64");
    if (cpl > 3)
        return err_set(e, EINVAL, "cpl: 0 to 3");
    c->mode = mode;
    c->cpl = cpl;
    c->vm86 = flag_of(top, "vm86", false);
    if (c->vm86 && mode == 64)
        return err_set(e, EINVAL, "vm86: not in mode 64");
    c->deliver = flag_of(top, "deliver", false);
    const char *until = json_string_value(json_object_get(top, "until"));
    if (until && strcmp(until, "hlt"))
        return err_set(e, EINVAL, "until: only \"hlt\" is known");
    c->until_hlt = until != NULL;
    c->count = c->until_hlt ? STEP_MAX_DEFAULT : 1;
    int found = json_get_u64(top, c->until_hlt ? "max" : "count", &v, e);
    if (found > 0)
        c->count = v;
    const char *output = json_string_value(json_object_get(top, "output"));
    c->changed_only = output && !strcmp(output, "changed");
    return found < 0 ? -EINVAL : 0;
}

static int parse_state(struct world *w, const json_t *top, struct step_case *c, unsigned *by_sel,
                       struct err *e)
{
    struct place p = {.top = top, .regs = json_object_get(top, "regs")};
    u64 v;

    int rc = parse_regs(&p, &c->s, e);
    if (!rc)
        rc = parse_control(&p, &c->s, e);
    if (!rc)
        rc = parse_segs(c, &p, top, by_sel, e);
    if (!rc)
        rc = step_parse_fpu(top, &c->s.fpu, e);
    if (!rc)
        rc = parse_ports(w, top, e);
    if (rc)
        return rc;
    int found = json_get_u64(top, "shadow", &v, e);
    if (found > 0)
        c->s.shadow = v & 7;
    if (found >= 0 && json_get_u64(top, "fs_base", &c->s.seg[X86_FS].base, e) >= 0 &&
        json_get_u64(top, "gs_base", &c->s.seg[X86_GS].base, e) >= 0)
        return 0;
    return -EINVAL;
}

int step_parse(struct world *w, const json_t *j, struct step_case *c, struct err *e)
{
    unsigned by_sel = 0;
    u64 unused;

    if (!json_is_object(j))
        return err_set(e, EINVAL, "a case is a JSON object");
    c->next_table = STEP_TABLES;
    c->next_frame = STEP_PAGES;
    int rc = parse_mode(j, c, e);
    if (rc)
        return rc;
    step_default_state(c);
    rc = parse_state(w, j, c, &by_sel, e);
    if (!rc)
        rc = step_default_tables(w, c, e);
    if (rc)
        return rc;
    bool own_cr3 = json_get_u64(j, "cr3", &unused, e) > 0 ||
                   json_get_u64(json_object_get(j, "regs"), "cr3", &unused, e) > 0;
    bool paged = c->mode == 64 || json_object_get(j, "vmem") || c->s.cr0 & CR0_PG;
    if (paged && !own_cr3)
        rc = step_identity_map(w, c, e);
    else if (paged)
        c->s.cr0 |= CR0_PG;
    if (!rc)
        rc = parse_memory(w, c, j, "mem", put_physical, e);
    if (!rc)
        rc = parse_memory(w, c, j, "ram", put_physical, e);
    if (!rc)
        rc = parse_memory(w, c, j, "vmem", put_virtual, e);
    if (!rc)
        rc = load_selectors(w, c, by_sel, e);
    if (!rc)
        rc = parse_code(w, c, j, e);
    if (!rc)
        rc = parse_msrs(w, c, j, e);
    if (rc)
        return rc;
    step_load_pdptes(w, c);
    if (!(c->s.rflags & RFLAGS_VM) && !json_object_get(j, "cpl"))
        c->s.cpl = c->s.cr0 & CR0_PE ? c->s.seg[X86_SS].attr >> SEG_DPL_SHIFT & 3 : 0;
    return x86_state_check(&c->s, e);
}
