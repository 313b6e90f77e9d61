/* json.c - reading numbers and hex strings out of JSON, leniently about notation, strictly about
 * range */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "step.h"

bool json_u64(const json_t *j, u64 *out)
{
    if (json_is_integer(j)) {
        *out = (u64)json_integer_value(j);
        return true;
    }
    if (json_is_boolean(j)) {
        *out = json_is_true(j);
        return true;
    }
    if (!json_is_string(j))
        return false;
    const char *s = json_string_value(j);
    char *end;
    errno = 0;
    *out = strtoull(s, &end, 0);
    return end != s && !*end && !errno;
}

int json_get_u64(const json_t *obj, const char *key, u64 *out, struct err *e)
{
    const json_t *j = json_object_get(obj, key);
    if (!j || json_is_null(j))
        return 0;
    if (json_u64(j, out))
        return 1;
    err_set(e, EINVAL, "%s: not a number", key);
    return -1;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int hex_bytes(const char *s, u8 *out, unsigned max)
{
    unsigned n = 0;

    while (*s) {
        if (*s == ' ') {
            s++;
            continue;
        }
        int hi = digit(s[0]), lo = hi < 0 ? -1 : digit(s[1]);
        if (lo < 0 || n == max)
            return -1;
        out[n++] = hi << 4 | lo;
        s += 2;
    }
    return n;
}

bool hex_number(const char *s, u8 *out, unsigned n)
{
    memset(out, 0, n);
    if (s[0] == '0' && (s[1] | 0x20) == 'x')
        s += 2;
    size_t len = strlen(s);
    if (!len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int d = digit(s[len - 1 - i]);
        if (d < 0 || (i / 2 >= n && d))
            return false;
        if (i / 2 < n)
            out[i / 2] |= d << (i % 2 * 4);
    }
    return true;
}

/* jansson's integers are signed; unsigned 64-bit ones are handed to it as strings. */
static char *quote_big_integers(const char *line, size_t len, size_t *new_len)
{
    char *buf = malloc(len * 2 + 1), *d = buf;
    bool in_string = false;

    if (!buf)
        return NULL;
    for (size_t i = 0; i < len;) {
        char c = line[i];
        if (in_string) {
            if (c == '\\' && i + 1 < len)
                *d++ = line[i++];
            else if (c == '"')
                in_string = false;
            *d++ = line[i++];
            continue;
        }
        size_t n = 0;
        while (i + n < len && line[i + n] >= '0' && line[i + n] <= '9')
            n++;
        bool plain = n >= 19 && (i == 0 || !strchr("-+.eE", line[i - 1])) &&
                     (i + n == len || !strchr(".eE", line[i + n]));
        if (plain)
            *d++ = '"';
        if (n) {
            memcpy(d, line + i, n);
            d += n;
            i += n;
        } else {
            in_string = c == '"';
            *d++ = line[i++];
        }
        if (plain)
            *d++ = '"';
    }
    *new_len = d - buf;
    return buf;
}

json_t *json_line(const char *line, size_t len, struct err *e)
{
    json_error_t je;
    size_t n;
    char *text = quote_big_integers(line, len, &n);

    if (!text) {
        err_set(e, ENOMEM, "no memory for a line of %zu bytes", len);
        return NULL;
    }
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    free(text);
    if (!j)
        err_set(e, EINVAL, "bad JSON: %s (column %d)", je.text, je.column);
    return j;
}
