/* options.c - the command line, by the list in options.def */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

const struct option_row option_rows[] = {
#define OPTION(verbs, kind, field, letter, name, argument, summary, detail) \
    {verbs, kind, offsetof(struct options, field), letter, name, argument, summary, detail},
#include "cli/options.def"
#undef OPTION
};
const size_t option_count = ARRAY_SIZE(option_rows);

bool parse_number(const char *text, u64 *value)
{
    char *end;

    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *value = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
    return errno == 0 && *end == '\0' && end != text;
}

bool parse_size(const char *text, u64 *bytes)
{
    u64 number, unit = MiB;
    char *end;

    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    number = strtoull(text, &end, 10);
    switch (*end) {
    case '\0': break;
    case 'b':
    case 'B': unit = 1; break;
    case 'k':
    case 'K': unit = KiB; break;
    case 'm':
    case 'M': unit = MiB; break;
    case 'g':
    case 'G': unit = GiB; break;
    case 't':
    case 'T': unit = 1024 * GiB; break;
    default: return false;
    }
    if (*end)
        end++;
    if (*end == 'i' && end[1] == 'B')
        end += 2;
    return errno == 0 && *end == '\0' && mul_ok(number, unit, bytes);
}

bool parse_seconds(const char *text, u64 *ms)
{
    u64 whole, scale = 100, fraction = 0;
    char *end;

    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    whole = strtoull(text, &end, 10);
    if (*end == '.')
        for (end++; isdigit((unsigned char)*end); end++, scale /= 10)
            fraction += scale * (u64)(*end - '0');
    if (*end == 's')
        end++;
    return errno == 0 && *end == '\0' && mul_ok(whole, 1000, ms) && add_ok(*ms, fraction, ms);
}

char *option_item(char **list)
{
    char *item = *list, *in = item, *out = item;

    if (!item)
        return NULL;
    for (; *in && (*in != ',' || in[1] == ','); in++) {
        *out++ = *in;
        if (*in == ',')
            in++;
    }
    *list = *in ? in + 1 : NULL;
    *out = '\0';
    return item;
}

static const struct option_row *find_name(unsigned verb, const char *name, size_t len)
{
    for (size_t i = 0; i < option_count; i++)
        if (option_rows[i].verbs & verb && strlen(option_rows[i].name) == len &&
            !memcmp(option_rows[i].name, name, len))
            return &option_rows[i];
    return NULL;
}

static const struct option_row *find_letter(unsigned verb, char letter)
{
    for (size_t i = 0; i < option_count; i++)
        if (option_rows[i].verbs & verb && option_rows[i].letter == letter)
            return &option_rows[i];
    return NULL;
}

static int add_item(struct string_list *list, const struct option_row *row, const char *value,
                    struct err *e)
{
    if (list->count == LIST_MAX)
        return err_set(e, EINVAL, "option --%s: given more than %d times", row->name, LIST_MAX);
    list->item[list->count++] = value;
    return 0;
}

static int store(struct options *o, const struct option_row *row, const char *value, struct err *e)
{
    void *field = (char *)o + row->offset;
    bool ok = true;

    switch (row->kind) {
    case OPT_FLAG: *(bool *)field = true; break;
    case OPT_STRING: *(const char **)field = value; break;
    case OPT_LIST: return add_item(field, row, value, e);
    case OPT_COUNT:
        ok = !value || (parse_number(value, field) && *(u64 *)field);
        if (!value)
            *(u64 *)field = 1;
        break;
    case OPT_NUMBER: ok = parse_number(value, field); break;
    case OPT_SIZE: ok = parse_size(value, field); break;
    case OPT_SECONDS: ok = parse_seconds(value, field); break;
    }
    if (!ok)
        return err_set(e, EINVAL, "option --%s: bad value '%s' (%s)", row->name, value,
                       row->summary);
    return 0;
}

/* One argument that begins with "--"; *used says whether the next one was its value. */
static int parse_long(struct options *o, unsigned verb, const char *arg, const char *next,
                      bool *used, struct err *e)
{
    const char *equals = strchr(arg, '=');
    size_t len = equals ? (size_t)(equals - arg) : strlen(arg);
    const struct option_row *row = find_name(verb, arg + 2, len - 2);

    if (!row)
        return err_set(e, EINVAL, "unknown option '%.*s'", (int)len, arg);
    if (row->kind == OPT_FLAG)
        return equals ? err_set(e, EINVAL, "option --%s takes no value", row->name)
                      : store(o, row, NULL, e);
    if (equals || row->kind == OPT_COUNT)
        return store(o, row, equals ? equals + 1 : NULL, e);
    if (!next)
        return err_set(e, EINVAL, "option --%s needs a value: %s", row->name, row->argument);
    *used = true;
    return store(o, row, next, e);
}

/* One argument of letters: flags may be joined, a value may follow at once or as the next
 * argument. */
static int parse_letters(struct options *o, unsigned verb, const char *arg, const char *next,
                         bool *used, struct err *e)
{
    for (const char *p = arg + 1; *p; p++) {
        const struct option_row *row = find_letter(verb, *p);
        int rc;

        if (!row)
            return err_set(e, EINVAL, "unknown option '-%c'", *p);
        if (row->kind != OPT_FLAG) {
            const char *value = p[1] ? p + 1 : next;

            if (!value)
                return err_set(e, EINVAL, "option -%c needs a value: %s", *p, row->argument);
            *used = !p[1];
            return store(o, row, value, e);
        }
        rc = store(o, row, NULL, e);
        if (rc)
            return rc;
    }
    return 0;
}

int options_parse(struct options *o, unsigned verb, int argc, char **argv, struct err *e)
{
    int out = 1;

    *o = (struct options){.rest = (const char *const *)argv + 1};
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        bool used = false;
        int rc = 0;

        if (!strcmp(arg, "--")) {
            o->command = (const char *const *)argv + i + 1;
            break;
        }
        if (arg[0] == '-' && arg[1] == '-')
            rc = parse_long(o, verb, arg, next, &used, e);
        else if (arg[0] == '-' && arg[1])
            rc = parse_letters(o, verb, arg, next, &used, e);
        else
            argv[out++] = argv[i], o->rest_count++;
        if (rc)
            return rc;
        i += used;
    }
    return 0;
}
