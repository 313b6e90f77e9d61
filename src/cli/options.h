/* options.h - the command line, by the list in options.def */
#pragma once

#include "base/err.h"
#include "base/types.h"

enum exit_status {
#define EXIT_STATUS(name, value, meaning) EXIT_##name = value,
#include "cli/exits.def"
#undef EXIT_STATUS
};

#define V_RUN    BIT(0)
#define V_DOCTOR BIT(1)
#define V_DISK   BIT(2)

enum option_kind {
    OPT_FLAG,    /* bool */
    OPT_STRING,  /* const char * into argv */
    OPT_LIST,    /* struct string_list: may be given several times */
    OPT_NUMBER,  /* u64: decimal, 0x hexadecimal */
    OPT_SIZE,    /* u64 bytes: a bare number is MiB */
    OPT_COUNT,   /* u64: --name alone is 1, else --name=N */
    OPT_SECONDS, /* u64 milliseconds: seconds with a fraction */
};

#define LIST_MAX 64

struct string_list {
    const char *item[LIST_MAX + 1]; /* NULL-terminated */
    unsigned count;
};

/* Fields as options.def names them; zero when not given. */
struct options {
    const char *engine, *kernel, *initrd, *append, *cpu, *bios, *script, *workdir, *console, *bt;
    const char *irqchip;
    const char *vsock, *save, *at, *restore, *profile;
    struct string_list env, debugcon, share, disk, net, port, publish;
    u64 memory, cpus, timeout_ms, debug_exit, lockstep;
    const char *format, *backing, *cluster;
    bool repair;
    bool ephemeral, hvc, testdev, stats, quiet, json, help;

    const char *const *command; /* after "--", NULL-terminated; NULL without */
    const char *const *rest;    /* arguments before "--" that are no options */
    int rest_count;
};

struct option_row {
    unsigned verbs;
    enum option_kind kind;
    size_t offset;
    char letter;
    const char *name, *argument, *summary, *detail;
};
extern const struct option_row option_rows[];
extern const size_t option_count;

/* Parses argv[1..] (argv[0] is the verb) for one verb. On -EINVAL *e names the option and what is
 * wrong. Pure. */
must_check int options_parse(struct options *o, unsigned verb, int argc, char **argv,
                             struct err *e);

/* Cuts the next item of a comma-separated list off *list, in place; ",," stands for a comma. NULL
 * at the end. */
char *option_item(char **list);

/* "512", "512M", "4G", "1024K", "512B" as bytes; "2", "0.5" as milliseconds; false when it is
 * none. */
bool parse_size(const char *text, u64 *bytes);
bool parse_seconds(const char *text, u64 *ms);
bool parse_number(const char *text, u64 *value);
