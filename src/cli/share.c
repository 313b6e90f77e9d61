/* share.c - the option -v: folders of the host in the guest */
#include "cli/share.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cuts a trailing ":word" off text; false when it does not end so. */
static bool cut_suffix(char *text, const char *suffix)
{
    size_t len = strlen(text), n = strlen(suffix);

    if (len < n || strcmp(text + len - n, suffix))
        return false;
    text[len - n] = '\0';
    return true;
}

/* The path goes through the kernel command line, where blanks and quotes have a meaning. */
static int check_guest(const char *path, const char *text, struct err *e)
{
    if (path[0] != '/' || !path[strspn(path, "/")])
        return err_set(e, EINVAL,
                       "option --volume: '%s': the folder in the guest is an absolute path, not "
                       "'%s'",
                       text, path);
    if (strlen(path) > SHARE_GUEST_MAX)
        return err_set(e, EINVAL, "option --volume: the path in the guest is longer than %d bytes",
                       SHARE_GUEST_MAX);
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == '"' || *p == 127)
            return err_set(e, EINVAL,
                           "option --volume: '%s': the path in the guest must not hold blanks or "
                           "quotes",
                           text);
    return 0;
}

/* HOST:GUEST[:ro]; HOST may hold colons, GUEST none. */
static int parse_one(struct share *s, const char *text, struct err *e)
{
    char *colon;

    s->dir = strdup(text);
    if (!s->dir)
        return err_set(e, ENOMEM, "option --volume: no memory");
    s->read_only = cut_suffix(s->dir, ":ro");
    if (!s->read_only)
        cut_suffix(s->dir, ":rw");
    colon = strrchr(s->dir, ':');
    if (!colon || colon == s->dir || !colon[1])
        return err_set(e, EINVAL, "option --volume: '%s' is not HOST:GUEST[:ro], as in .:/mnt",
                       text);
    *colon = '\0';
    s->guest = colon + 1;
    return check_guest(s->guest, text, e);
}

int shares_parse(struct shares *s, const struct string_list *list, struct err *e)
{
    *s = (struct shares){.count = 0};
    if (list->count > SHARES_MAX)
        return err_set(e, EINVAL, "option --volume: at most %d folders", SHARES_MAX);
    for (unsigned i = 0; i < list->count; i++) {
        int rc = parse_one(&s->item[s->count++], list->item[i], e);

        if (rc)
            return rc;
        s->machine[i] = (struct machine_share){s->item[i].dir, s->item[i].read_only};
    }
    return 0;
}

void shares_free(struct shares *s)
{
    for (unsigned i = 0; i < s->count; i++)
        free(s->item[i].dir);
    *s = (struct shares){.count = 0};
}

bool shares_append(const struct shares *s, char *cmdline, size_t size)
{
    for (unsigned i = 0; i < s->count; i++) {
        size_t len = strlen(cmdline);
        int n = snprintf(cmdline + len, size - len, " ring3.share=" MACHINE_SHARE_TAG ":%s%s", i,
                         s->item[i].guest, s->item[i].read_only ? ":ro" : "");

        if (n >= (int)(size - len))
            return false;
    }
    return true;
}
