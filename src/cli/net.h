/* net.h - the options --net and --publish */
#pragma once

#include "cli/options.h"
#include "machine/machine.h"

/* What the options say, or the default; forwards are kept here, where the configuration points. */
#define NET_TEXT_BYTES 512

struct net_options {
    struct machine_net net[NICS_MAX];
    char text[NICS_MAX][NET_TEXT_BYTES]; /* what paths in it point into */
    unsigned nets;
    struct net_forward forward[FORWARDS_MAX];
    unsigned forwards;
};

/* 0, or -EINVAL with what is wrong with which option. Pure. */
must_check int net_parse(const struct options *o, struct net_options *n, struct err *e);
/* What the guest's agent sets the first interface to, for the kernel command line; empty when it
 * has no address that is known beforehand. */
const char *net_agent_words(const struct net_options *n);
