/* sst_file.c - published single-step data in JSON and MOO form (github.com/dbalsom/moo, version
 * 1.1) */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/checked.h"
#include "sst.h"

/* --- JSON ------------------------------------------------------------------------------------- */

static const char *const names16[SST_REGS] = {NULL, NULL, "ax", "bx",    "cx", "dx", "si",
                                              "di", "bp", "sp", "cs",    "ds", "es", "fs",
                                              "gs", "ss", "ip", "flags", NULL, NULL};
static const char *const names32[SST_REGS] = {"cr0", "cr3", "eax", "ebx",    "ecx", "edx", "esi",
                                              "edi", "ebp", "esp", "cs",     "ds",  "es",  "fs",
                                              "gs",  "ss",  "eip", "eflags", "dr6", "dr7"};

static int json_ram(const json_t *list, struct sst_side *side, struct sst_byte **owned)
{
    size_t n = json_array_size(list);
    struct sst_byte *ram = calloc(n + 1, sizeof(*ram));
    u64 addr, val;

    if (!ram)
        return -ENOMEM;
    *owned = ram;
    side->ram = ram;
    side->nram = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        if (!json_u64(json_array_get(pair, 0), &addr) || !json_u64(json_array_get(pair, 1), &val))
            return -EINVAL;
        ram[i] = (struct sst_byte){addr, val};
    }
    return 0;
}

static int json_side(const json_t *j, struct sst_side *side, struct sst_byte **owned)
{
    const json_t *regs = json_object_get(j, "regs");
    u64 v;

    if (!json_is_object(regs))
        return -EINVAL;
    for (unsigned i = 0; i < SST_REGS; i++) {
        const json_t *r = json_object_get(regs, names32[i]);
        if (!r && names16[i])
            r = json_object_get(regs, names16[i]);
        if (r && json_u64(r, &v)) {
            side->present |= BIT(i);
            side->reg[i] = v;
        }
    }
    return json_ram(json_object_get(j, "ram"), side, owned);
}

static int json_test(const json_t *j, sst_fn *fn, void *arg)
{
    struct sst_test t = {.exception = -1};
    struct sst_byte *ram[2] = {NULL, NULL};
    const json_t *bytes = json_object_get(j, "bytes"), *exc = json_object_get(j, "exception");
    const char *name = json_string_value(json_object_get(j, "name"));
    u64 v;

    memset(t.mask, 0xff, sizeof(t.mask));
    snprintf(t.name, sizeof(t.name), "%s", name ? name : "?");
    t.nbytes = MIN(json_array_size(bytes), sizeof(t.bytes));
    for (u32 i = 0; i < t.nbytes; i++)
        t.bytes[i] = json_u64(json_array_get(bytes, i), &v) ? v : 0;
    if (exc && json_u64(json_object_get(exc, "number"), &v)) {
        t.exception = v;
        if (json_u64(json_object_get(exc, "flag_address"), &v))
            t.flag_address = v;
    }
    int rc = json_side(json_object_get(j, "initial"), &t.initial, &ram[0]);
    if (!rc)
        rc = json_side(json_object_get(j, "final"), &t.final, &ram[1]);
    if (!rc)
        fn(arg, &t);
    free(ram[0]);
    free(ram[1]);
    return rc;
}

int sst_read_json(const char *text, size_t len, sst_fn *fn, void *arg, struct err *e)
{
    json_error_t je;
    json_t *list = json_loadb(text, len, 0, &je), *j;
    size_t i;
    int rc = 0;

    if (!list)
        return err_set(e, EINVAL, "bad JSON: %s (line %d)", je.text, je.line);
    if (!json_is_array(list))
        rc = err_set(e, EINVAL, "not an array of tests");
    json_array_foreach(list, i, j)
    {
        if (rc)
            break;
        if (json_test(j, fn, arg))
            rc = err_set(e, EINVAL, "test %zu: initial or final state is malformed", i);
    }
    json_decref(list);
    return rc;
}

/* --- MOO -------------------------------------------------------------------------------------- */

static u32 get32(const u8 *p)
{
    u32 v;
    memcpy(&v, p, 4);
    return v;
}

struct chunk {
    const u8 *tag, *data;
    u32 len;
};

static bool next_chunk(const u8 **p, const u8 *end, struct chunk *c)
{
    if (end - *p < 8)
        return false;
    c->tag = *p;
    c->len = get32(*p + 4);
    c->data = *p + 8;
    if (c->len > (size_t)(end - c->data))
        return false;
    *p = c->data + c->len;
    return true;
}

static bool tag_is(const struct chunk *c, const char *tag)
{
    return !memcmp(c->tag, tag, 4);
}

/* A bit mask and a value for each set bit: 16-bit (REGS, RMSK) or 32-bit (RG32, RM32). */
static void moo_regs(const struct chunk *c, bool wide, u32 *present, u32 *regs)
{
    static const u8 order16[] = {SST_EAX, SST_EBX, SST_ECX, SST_EDX, SST_CS,  SST_SS,  SST_DS,
                                 SST_ES,  SST_ESP, SST_EBP, SST_ESI, SST_EDI, SST_EIP, SST_EFLAGS};
    unsigned unit = wide ? 4 : 2, count = wide ? SST_REGS : ARRAY_SIZE(order16);
    const u8 *p = c->data + unit;

    if (c->len < unit)
        return;
    u32 bits = wide ? get32(c->data) : c->data[0] | (u32)c->data[1] << 8;
    for (unsigned i = 0; i < count; i++) {
        if (!(bits >> i & 1) || p + unit > c->data + c->len)
            continue;
        unsigned r = wide ? i : order16[i];
        regs[r] = wide ? get32(p) : (u32)(p[0] | p[1] << 8);
        *present |= BIT(r);
        p += unit;
    }
}

static int moo_ram(const struct chunk *c, struct sst_side *side, struct sst_byte **owned)
{
    u32 n = c->len >= 4 ? MIN(get32(c->data), (c->len - 4) / 5) : 0;
    struct sst_byte *ram = calloc(n + 1ull, sizeof(*ram));

    if (!ram)
        return -ENOMEM;
    free(*owned);
    *owned = ram;
    side->ram = ram;
    side->nram = n;
    for (u32 i = 0; i < n; i++)
        ram[i] = (struct sst_byte){get32(c->data + 4 + 5 * i), c->data[4 + 5 * i + 4]};
    return 0;
}

static int moo_side(const struct chunk *side_chunk, struct sst_test *t, struct sst_side *side,
                    struct sst_byte **owned)
{
    const u8 *p = side_chunk->data, *end = p + side_chunk->len;
    struct chunk c;
    u32 unused = 0;
    int rc = 0;

    while (!rc && next_chunk(&p, end, &c)) {
        if (tag_is(&c, "REGS") || tag_is(&c, "RG32"))
            moo_regs(&c, tag_is(&c, "RG32"), &side->present, side->reg);
        else if (tag_is(&c, "RMSK") || tag_is(&c, "RM32"))
            moo_regs(&c, tag_is(&c, "RM32"), &unused, t->mask);
        else if (tag_is(&c, "RAM "))
            rc = moo_ram(&c, side, owned);
    }
    return rc;
}

static int moo_test(const struct chunk *test, const u32 *mask, sst_fn *fn, void *arg)
{
    struct sst_test t = {.exception = -1};
    struct sst_byte *ram[2] = {NULL, NULL};
    const u8 *p = test->data + 4, *end = test->data + test->len;
    struct chunk c;
    int rc = 0;

    if (test->len < 4)
        return -EINVAL;
    memcpy(t.mask, mask, sizeof(t.mask));
    while (!rc && next_chunk(&p, end, &c)) {
        if (tag_is(&c, "NAME") && c.len >= 4)
            snprintf(t.name, sizeof(t.name), "%.*s", (int)MIN(c.len - 4, 120),
                     (const char *)c.data + 4);
        else if (tag_is(&c, "BYTS") && c.len >= 4)
            memcpy(t.bytes, c.data + 4, t.nbytes = MIN(c.len - 4, sizeof(t.bytes)));
        else if (tag_is(&c, "INIT"))
            rc = moo_side(&c, &t, &t.initial, &ram[0]);
        else if (tag_is(&c, "FINA"))
            rc = moo_side(&c, &t, &t.final, &ram[1]);
        else if (tag_is(&c, "EXCP") && c.len >= 5) {
            t.exception = c.data[0];
            t.flag_address = get32(c.data + 1);
        }
    }
    if (!rc)
        fn(arg, &t);
    free(ram[0]);
    free(ram[1]);
    return rc;
}

int sst_read_moo(const u8 *data, size_t len, sst_fn *fn, void *arg, struct err *e)
{
    const u8 *p = data, *end = data + len;
    u32 mask[SST_REGS], unused = 0;
    struct chunk c;

    memset(mask, 0xff, sizeof(mask));
    while (next_chunk(&p, end, &c)) {
        if (tag_is(&c, "RMSK") || tag_is(&c, "RM32"))
            moo_regs(&c, tag_is(&c, "RM32"), &unused, mask);
        else if (tag_is(&c, "TEST") && moo_test(&c, mask, fn, arg))
            return err_set(e, EINVAL, "malformed TEST chunk at offset %zu", (size_t)(c.tag - data));
    }
    return p == end ? 0 : err_set(e, EINVAL, "truncated chunk at offset %zu", (size_t)(p - data));
}

/* --- files ------------------------------------------------------------------------------------ */

int sst_read(const char *path, sst_fn *fn, void *arg, struct err *e)
{
    gzFile f = gzopen(path, "rb");
    size_t len = 0, cap = 1 << 20;
    u8 *data = malloc(cap);
    int n;

    if (!f || !data) {
        free(data);
        return err_set(e, f ? ENOMEM : errno ? errno : ENOENT, "%s: %s", path, strerror(errno));
    }
    while ((n = gzread(f, data + len, cap - len)) > 0) {
        len += n;
        if (len < cap)
            continue;
        u8 *bigger = realloc(data, cap *= 2);
        if (!bigger) {
            n = -1;
            break;
        }
        data = bigger;
    }
    gzclose(f);
    int rc = n < 0 ? err_set(e, EIO, "cannot read it whole")
             : len >= 4 && !memcmp(data, "MOO ", 4)
                 ? sst_read_moo(data, len, fn, arg, e)
                 : sst_read_json((const char *)data, len, fn, arg, e);
    if (rc)
        err_prefix(e, "%s", path);
    free(data);
    return rc;
}
