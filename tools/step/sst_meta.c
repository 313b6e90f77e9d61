/* sst_meta.c - undefined flags by opcode, as published beside the single-step data */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sst.h"

/* One mask per opcode of the two maps and ModRM.reg. */
struct sst_meta {
    u32 mask[2][256][8];
};

static void set_mask(struct sst_meta *m, unsigned map, unsigned op, int reg, u32 mask)
{
    for (int r = 0; r < 8; r++)
        if (reg < 0 || r == reg)
            m->mask[map][op][r] = mask | 0xffff0000;
}

static void json_opcode(struct sst_meta *m, const char *name, const json_t *j, int reg)
{
    u64 v;
    char *end;
    unsigned long op = strtoul(name, &end, 16);
    unsigned map = op > 0xff;
    const json_t *sub;
    const char *key;

    if (op > 0xff && op >> 8 != 0x0f)
        return;
    if (*end == '.')
        reg = end[1] - '0';
    if (json_u64(json_object_get(j, "flags-mask"), &v))
        set_mask(m, map, op & 0xff, reg, v);
    json_object_foreach(json_object_get((json_t *)j, "reg"), key,
                        sub) if (reg < 0 && isdigit((unsigned char)key[0]))
        json_opcode(m, name, sub, key[0] - '0');
}

static int load_json(struct sst_meta *m, FILE *f, struct err *e)
{
    json_error_t je;
    json_t *top = json_loadf(f, 0, &je), *j;
    const char *name;

    if (!top)
        return err_set(e, EINVAL, "bad JSON: %s (line %d)", je.text, je.line);
    json_object_foreach(json_object_get(top, "opcodes"), name, j) json_opcode(m, name, j, -1);
    json_decref(top);
    return 0;
}

#define COLUMNS_MAX 64

static unsigned split(char *line, char **cols)
{
    unsigned n = 0;
    for (char *p = line; p && n < COLUMNS_MAX;) {
        cols[n++] = strsep(&p, ",");
    }
    return n;
}

static int column(char **cols, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(cols[i], name))
            return i;
    return -1;
}

static int load_csv(struct sst_meta *m, FILE *f, struct err *e)
{
    char line[4096], *cols[COLUMNS_MAX];
    int op = -1, ex = -1, umask = -1;

    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\r\n")] = 0;
        unsigned n = split(line, cols);
        if (op < 0) {
            op = column(cols, n, "op");
            ex = column(cols, n, "ex");
            umask = column(cols, n, "f_umask");
            if (op < 0 || umask < 0)
                return err_set(e, EINVAL, "no columns op and f_umask");
            continue;
        }
        if ((unsigned)MAX(op, umask) >= n || !*cols[umask])
            continue;
        unsigned long code = strtoul(cols[op], NULL, 16);
        int reg = ex >= 0 && (unsigned)ex < n && *cols[ex] ? atoi(cols[ex]) & 7 : -1;
        if (code <= 0xff || code >> 8 == 0x0f)
            set_mask(m, code > 0xff, code & 0xff, reg, strtoul(cols[umask], NULL, 16));
    }
    return 0;
}

int sst_meta_load(const char *path, struct sst_meta **out, struct err *e)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    struct sst_meta *m = malloc(sizeof(*m));
    if (!m) {
        fclose(f);
        return err_set(e, ENOMEM, "no memory");
    }
    memset(m, 0xff, sizeof(*m));
    const char *dot = strrchr(path, '.');
    int rc = dot && !strcmp(dot, ".csv") ? load_csv(m, f, e) : load_json(m, f, e);
    fclose(f);
    if (rc) {
        err_prefix(e, "%s", path);
        free(m);
        return rc;
    }
    *out = m;
    return 0;
}

void sst_meta_free(struct sst_meta *m)
{
    free(m);
}

static bool is_prefix(u8 b)
{
    return b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || (b >= 0x64 && b <= 0x67) ||
           b == 0xf0 || b == 0xf2 || b == 0xf3;
}

u32 sst_meta_flags(const struct sst_meta *m, const u8 *bytes, u32 n)
{
    u32 i = 0;
    unsigned map = 0;

    while (i < n && is_prefix(bytes[i]))
        i++;
    if (i < n && bytes[i] == 0x0f && i + 1 < n) {
        map = 1;
        i++;
    }
    if (i >= n)
        return ~0u;
    u8 modrm = i + 1 < n ? bytes[i + 1] : 0;
    return m->mask[map][bytes[i]][modrm >> 3 & 7];
}
