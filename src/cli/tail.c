/* tail.c - the last of what the guest's console printed, for when the guest fails */
#include <stdio.h>
#include <string.h>

#include "cli/session.h"

#define SHOWN_LINES 20

void tail_add(struct session *s, const u8 *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        s->tail[s->tail_at] = data[i];
        s->tail_at = (s->tail_at + 1) % TAIL_BYTES;
    }
    s->tail_len = MIN(s->tail_len + len, TAIL_BYTES);
}

static u8 tail_byte(const struct session *s, size_t i)
{
    return s->tail[(s->tail_at + TAIL_BYTES - s->tail_len + i) % TAIL_BYTES];
}

bool tail_holds(const struct session *s, const char *text)
{
    size_t n = strlen(text);

    for (size_t at = 0; at + n <= s->tail_len; at++) {
        size_t same = 0;

        while (same < n && tail_byte(s, at + same) == (u8)text[same])
            same++;
        if (same == n)
            return true;
    }
    return false;
}

/* Control characters of the guest must not reach the user's terminal. */
void tail_print(const struct session *s)
{
    size_t from = s->tail_len;
    unsigned lines = 0;

    while (from > 0 && lines <= SHOWN_LINES)
        lines += tail_byte(s, --from) == '\n';
    if (from > 0)
        from++;
    if (s->tail_len)
        fprintf(stderr, "ring3: the guest's console said last:\n");
    for (size_t i = from; i < s->tail_len; i++) {
        u8 c = tail_byte(s, i);

        if (c == '\n' || (c >= ' ' && c != 0x7f))
            fputc(c, stderr);
    }
    if (s->tail_len && tail_byte(s, s->tail_len - 1) != '\n')
        fputc('\n', stderr);
}
