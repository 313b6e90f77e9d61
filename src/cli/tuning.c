/* tuning.c - the values of --bt (KEY=VALUE,... for the binary translator) and --irqchip */
#include "cli/tuning.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"

#define CACHE_MIN (512 * KiB)
#define CACHE_MAX (1 * GiB)
#define BLOCK_MAX 40

static int parse_switch(const char *key, const char *value, bool *on, struct err *e)
{
    *on = !strcmp(value, "on");
    if (*on || !strcmp(value, "off"))
        return 0;
    return err_set(e, EINVAL, "option --bt: %s=%s: on or off", key, value);
}

static int parse_one(const char *key, const char *value, struct bt_config *bt, struct err *e)
{
    u64 number;
    bool on;

    if (!strcmp(key, "cache")) {
        if (!parse_size(value, &number) || number < CACHE_MIN || number > CACHE_MAX)
            return err_set(e, EINVAL, "option --bt: cache=%s: a size from 512K to 1G", value);
        bt->code_cache = number;
        return 0;
    }
    if (!strcmp(key, "block")) {
        if (!parse_number(value, &number) || number < 1 || number > BLOCK_MAX)
            return err_set(e, EINVAL, "option --bt: block=%s: a number from 1 to %d", value,
                           BLOCK_MAX);
        bt->block_insns = (unsigned)number;
        return 0;
    }
    if (!strcmp(key, "chain")) {
        int rc = parse_switch(key, value, &on, e);
        bt->no_chaining = !on;
        return rc;
    }
    if (!strcmp(key, "miss"))
        return parse_switch(key, value, &bt->no_hits, e);
    if (!strcmp(key, "perfmap"))
        return parse_switch(key, value, &bt->perfmap, e);
    return err_set(e, EINVAL,
                   "option --bt: unknown key '%s' (cache, block, chain, miss or perfmap)", key);
}

int tuning_parse(const char *text, struct bt_config *bt, struct err *e)
{
    *bt = (struct bt_config){0};
    for (;;) {
        const char *end = strchrnul(text, ',');
        char word[64];
        size_t len = (size_t)(end - text);

        if (len >= sizeof(word))
            return err_set(e, EINVAL, "option --bt: '%s' is too long", text);
        snprintf(word, sizeof(word), "%.*s", (int)len, text);
        char *equals = strchr(word, '=');
        if (!equals)
            return err_set(e, EINVAL, "option --bt: '%s' is not KEY=VALUE", word);
        *equals = '\0';
        int rc = parse_one(word, equals + 1, bt, e);
        if (rc || !*end)
            return rc;
        text = end + 1;
    }
}

int irqchip_parse(const char *text, enum irqchip_choice *out, struct err *e)
{
    *out = IRQCHIP_AUTO;
    if (!text)
        return 0;
    if (!strcmp(text, "kernel"))
        *out = IRQCHIP_ENGINE;
    else if (!strcmp(text, "user"))
        *out = IRQCHIP_MACHINE;
    else
        return err_set(e, EINVAL, "option --irqchip: '%s' is neither kernel nor user", text);
    return 0;
}
