/* vsock.c - --vsock [CID,]PATH */
#include "cli/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"

#define CID_DEFAULT 3
#define CID_MAX     (UINT32_MAX - 1)

static int take_cid(struct machine_config *cfg, const char *text, size_t len, struct err *e)
{
    char number[16];
    u64 n;

    snprintf(number, sizeof(number), "%.*s", (int)MIN(len, sizeof(number)), text);
    if (len >= sizeof(number) || !parse_number(number, &n) || n < CID_DEFAULT || n > CID_MAX)
        return err_set(e, EINVAL, "option --vsock: bad CID '%s' (3..4294967294)", number);
    cfg->vsock.cid = (u32)n;
    return 0;
}

static int take_path(struct machine_config *cfg, const char *text, size_t len, struct err *e)
{
    if (len >= sizeof(cfg->vsock.path))
        return err_set(e, EINVAL, "option --vsock: the path has more than %zu bytes",
                       sizeof(cfg->vsock.path) - 1);
    snprintf(cfg->vsock.path, sizeof(cfg->vsock.path), "%.*s", (int)len, text);
    return 0;
}

/* "cid=..." and "path=...", in any order. */
static int take_items(struct machine_config *cfg, const char *text, struct err *e)
{
    int rc = 0;

    while (*text && !rc) {
        size_t len = strcspn(text, ",");

        if (!strncmp(text, "cid=", 4))
            rc = take_cid(cfg, text + 4, len - 4, e);
        else if (!strncmp(text, "path=", 5))
            rc = take_path(cfg, text + 5, len - 5, e);
        else
            rc = err_set(e, EINVAL, "option --vsock: '%s' is neither cid=CID nor path=PATH", text);
        text += len + (text[len] == ',');
    }
    return rc;
}

int vsock_parse(const char *text, struct machine_config *cfg, struct err *e)
{
    size_t digits = strspn(text, "0123456789");
    int rc = 0;

    cfg->vsock.cid = CID_DEFAULT;
    if (!strncmp(text, "cid=", 4) || !strncmp(text, "path=", 5)) {
        rc = take_items(cfg, text, e);
    } else {
        if (digits && text[digits] == ',') {
            rc = take_cid(cfg, text, digits, e);
            text += digits + 1;
        }
        if (!rc)
            rc = take_path(cfg, text, strlen(text), e);
    }
    if (!rc && !*cfg->vsock.path)
        return err_set(e, EINVAL, "option --vsock: no path ([CID,]PATH)");
    return rc;
}
