/* fpu.c - x87, SSE and AVX registers of a case */
#include <errno.h>
#include <string.h>

#include "step.h"

static int parse_number_field(const json_t *j, const char *key, u64 max, u64 *val, struct err *e)
{
    int found = json_get_u64(j, key, val, e);
    if (found < 0)
        return -EINVAL;
    if (found && *val > max)
        return err_set(e, EINVAL, "%s: larger than %#llx", key, (unsigned long long)max);
    return found;
}

/* key: an array, or an object by register number, of hex numbers of `bytes` bytes at each
 * `stride`. */
static int parse_vectors(const json_t *j, const char *key, u8 *regs, unsigned count, unsigned bytes,
                         unsigned stride, struct err *e)
{
    const json_t *list = json_object_get(j, key);
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list) && !json_is_object(list))
        return err_set(e, EINVAL, "%s: neither an array nor an object", key);
    if (json_is_array(list) && json_array_size(list) > count)
        return err_set(e, EINVAL, "%s: more than %u registers", key, count);
    for (unsigned i = 0; i < count; i++) {
        char name[4] = {'0' + i % 10, 0};
        if (i >= 10) {
            name[0] = '1';
            name[1] = '0' + i - 10;
        }
        const json_t *v =
            json_is_array(list) ? json_array_get(list, i) : json_object_get(list, name);
        if (!v || json_is_null(v))
            continue;
        if (!json_is_string(v) || !hex_number(json_string_value(v), regs + i * stride, bytes))
            return err_set(e, EINVAL, "%s[%u]: not a hex string of at most %u bytes", key, i,
                           bytes);
    }
    return 0;
}

/* A full tag word holds two bits a register, 3 = empty; FXSAVE keeps one, 1 = in use. */
static u8 abridge_tags(u16 full)
{
    u8 tags = 0;
    for (unsigned i = 0; i < 8; i++)
        tags |= ((full >> (2 * i) & 3) != 3) << i;
    return tags;
}

int step_parse_fpu(const json_t *j, struct x86_fpu *f, struct err *e)
{
    static const struct {
        const char *key;
        u64 max;
    } fields[] = {{"fcw", 0xffff}, {"fsw", 0xffff}, {"ftw", 0xff},   {"ftw16", 0xffff},
                  {"fop", 0x7ff},  {"fcs", 0xffff}, {"fds", 0xffff}, {"mxcsr", 0xffffffff},
                  {"fip", ~0ull},  {"fdp", ~0ull}};

    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        u64 v;
        int found = parse_number_field(j, fields[i].key, fields[i].max, &v, e);
        if (found < 0)
            return found;
        if (!found)
            continue;
        switch (i) {
        case 0: f->fcw = v; break;
        case 1: f->fsw = v; break;
        case 2: f->ftw = v; break;
        case 3: f->ftw = abridge_tags(v); break;
        case 4: f->fop = v; break;
        case 5: f->fcs = v; break;
        case 6: f->fds = v; break;
        case 7: f->mxcsr = v; break;
        case 8: f->fip = v; break;
        case 9: f->fdp = v; break;
        }
    }
    int rc = parse_vectors(j, "st", f->st[0], 8, 10, sizeof(f->st[0]), e);
    if (!rc)
        rc = parse_vectors(j, "ymm", f->vec[0], 16, 32, sizeof(f->vec[0]), e);
    if (!rc)
        rc = parse_vectors(j, "xmm", f->vec[0], 16, 16, sizeof(f->vec[0]), e);
    return rc;
}
