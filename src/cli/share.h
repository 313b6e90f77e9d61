/* share.h - the option -v: folders of the host in the guest */
#pragma once

#include "cli/options.h"
#include "machine/machine.h"

#define SHARE_GUEST_MAX 400 /* bytes of a path in the guest */

struct share {
    char *dir; /* on the host */
    const char *guest;
    bool read_only;
};

struct shares {
    struct share item[SHARES_MAX];
    struct machine_share machine[SHARES_MAX]; /* the same for machine_config */
    unsigned count;
};

/* Takes the -v options apart, opens nothing. On -EINVAL *e says what is wrong. Free it in any
 * case. */
must_check int shares_parse(struct shares *s, const struct string_list *list, struct err *e);
void shares_free(struct shares *s);

/* Appends " ring3.share=TAG:PATH[:ro]" for each to a kernel command line. False when it is full. */
bool shares_append(const struct shares *s, char *cmdline, size_t size);
