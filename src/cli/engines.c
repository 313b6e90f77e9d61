/* engines.c - the engines this program knows, and choosing one */
#include "cli/engines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct engine_row engine_rows[] = {
    {"kvm", "hardware virtualization by the host's KVM", &engine_kvm, true},
    {"bt", "binary translation, needs nothing of the host", &engine_bt, true},
    {"interp", "interpreter, exact and slow, works everywhere", &engine_interp, true},
    {"script", "no processor: replays port and memory accesses", &engine_script, false},
    {NULL, NULL, NULL, false},
};

void kvm_node(char *text, size_t size)
{
    struct stat st;
    int fd;

    if (stat("/dev/kvm", &st)) {
        snprintf(text, size, "/dev/kvm: %s", strerror(errno));
        return;
    }
    fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        snprintf(text, size, "/dev/kvm exists but cannot be opened: %s%s", strerror(errno),
                 errno == EACCES ? " (are you in group kvm?)" : "");
        return;
    }
    close(fd);
    snprintf(text, size, "/dev/kvm exists and opens");
}

enum engine_verdict engine_probe(const struct engine_row *row, struct err *e)
{
    enum engine_verdict v = row->engine->probe(e);

    if (v)
        err_prefix(e, "engine %s", row->name);
    return v;
}

const char *engine_verdict_name(enum engine_verdict v)
{
    static const char *const names[] = {
#define ENGINE_VERDICT(id, name) name,
#include "engine/verdicts.def"
#undef ENGINE_VERDICT
    };

    return names[v];
}

const struct engine_row *engine_by_name(const char *name)
{
    for (const struct engine_row *row = engine_rows; row->name; row++)
        if (!strcmp(row->name, name))
            return row;
    return NULL;
}

static void add_text(char *text, size_t size, const char *between, const char *more)
{
    size_t at = strlen(text);

    snprintf(text + at, size - at, "%s%.500s", between, more);
}

static int choose_auto(const struct engine_row **out, char *why, size_t size, struct err *e)
{
    char passed[768] = "";

    for (const struct engine_row *row = engine_rows; row->name; row++) {
        struct err reason = {0};

        if (!row->automatic)
            continue;
        if (engine_probe(row, &reason) == 0) {
            snprintf(why, size, "engine %s (%s)%s%s", row->name, row->summary, *passed ? "; " : "",
                     passed);
            *out = row;
            return 0;
        }
        add_text(passed, sizeof(passed), *passed ? "; not " : "not ", reason.msg);
    }
    return err_set(e, ENOSYS, "no engine works here: %s; see ring3 doctor", passed);
}

int engine_choose(const char *name, const struct engine_row **out, char *why, size_t size,
                  struct err *e)
{
    const struct engine_row *row;
    enum engine_verdict verdict;
    struct err reason = {0};

    *why = '\0';
    if (!name || !strcmp(name, "auto"))
        return choose_auto(out, why, size, e);
    row = engine_by_name(name);
    if (!row)
        return err_set(e, EINVAL,
                       "option --engine: unknown engine '%s' (auto, kvm, bt, interp or script)",
                       name);
    *out = row;
    verdict = engine_probe(row, &reason);
    if (verdict == ENGINE_EMULATES && getenv("RING3_KVM_UNCHECKED")) {
        snprintf(why, size, "%s (going on: RING3_KVM_UNCHECKED is set)", reason.msg);
        return 0;
    }
    return verdict ? err_set(e, reason.code, "%s", reason.msg) : 0;
}
