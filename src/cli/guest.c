/* guest.c - the default guest, and the files a run starts from */
#include "cli/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/file.h"
#include "host/term.h"

#define FILE_MAX (4ull << 30)

/* ---- where the default guest lies ---- */

/* The directory of the running program, without the trailing slash. */
static bool program_dir(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    char *slash;

    if (n <= 0)
        return false;
    out[n] = '\0';
    slash = strrchr(out, '/');
    if (slash)
        *slash = '\0';
    return slash != NULL;
}

static bool try_dir(struct guest_files *g, const char *dir, const char *sub, bool full)
{
    const char *kernel = full ? "/full/vmlinux" : "/vmlinuz";
    const char *initrd = full ? "/full/initrd.img" : "/initrd.img";
    int a = snprintf(g->kernel, sizeof(g->kernel), "%s%s%s", dir, sub, kernel);
    int b = snprintf(g->initrd, sizeof(g->initrd), "%s%s%s", dir, sub, initrd);

    return a < (int)sizeof(g->kernel) && b < (int)sizeof(g->initrd) &&
           access(g->kernel, R_OK) == 0 && access(g->initrd, R_OK) == 0;
}

int guest_find(struct guest_files *g, bool full, struct err *e)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char program[GUEST_PATH_MAX];

    if (program_dir(program, sizeof(program)) && try_dir(g, program, "/guest", full))
        return 0;
    if (data && *data && try_dir(g, data, "/ring3", full))
        return 0;
    if (!(data && *data) && home && try_dir(g, home, "/.local/share/ring3", full))
        return 0;
    if (try_dir(g, "/usr/local/share", "/ring3", full) || try_dir(g, "/usr/share", "/ring3", full))
        return 0;
    if (full)
        return err_set(
            e, ENOENT,
            "no guest whose kernel can mount folders (guest/full/vmlinux and "
            "guest/full/initrd.img next to the program, or in ~/.local/share/ring3); run "
            "tools/guest, or give -k and -i");
    return err_set(
        e, ENOENT,
        "no default guest (guest/vmlinuz and guest/initrd.img next to the program, or in "
        "~/.local/share/ring3); run tools/guest, or give -k and -i");
}

/* ---- reading ---- */

static int read_file(struct boot_file *f, const char *kind, const char *path, struct err *e)
{
    u8 *data;
    size_t len;
    int rc = file_read(path, FILE_MAX, &data, &len, e);

    if (rc) {
        err_prefix(e, "%s", kind);
        return rc;
    }
    *f = (struct boot_file){.name = path, .data = data, .len = len};
    return 0;
}

/* "FILE ARGS": the whole item when it names a file, else up to the first blank. */
static int read_module(struct guest_image *g, char *item, struct err *e)
{
    char *blank = strchr(item, ' ');
    const char *args = NULL;
    int rc;

    if (g->modules == GUEST_MODULES_MAX)
        return err_set(e, E2BIG, "initrd: more than %d files", GUEST_MODULES_MAX);
    if (blank && access(item, F_OK)) {
        *blank = '\0';
        args = blank + 1;
    }
    rc = read_file(&g->module[g->modules], "initrd", item, e);
    if (rc)
        return rc;
    g->module[g->modules++].args = args;
    return 0;
}

static int read_modules(struct guest_image *g, const char *list, struct err *e)
{
    char *rest = strdup(list), *item;
    int rc = 0;

    if (!rest)
        return err_set(e, ENOMEM, "initrd: no memory for the list of files");
    g->names[0] = rest;
    while (!rc && (item = option_item(&rest)))
        rc = read_module(g, item, e);
    return rc;
}

static int read_script(struct guest_image *g, const char *path, struct err *e)
{
    u8 *data;
    size_t len;
    int rc = file_read(path, 16 << 20, &data, &len, e);

    if (rc) {
        err_prefix(e, "script");
        return rc;
    }
    g->script = (char *)data;
    if (memchr(g->script, '\0', len))
        return err_set(e, EINVAL, "script %s: holds a NUL byte, so it is not text", path);
    return 0;
}

/* ---- the command line ---- */

/* What the default guest and the command need, then what the user asked for. */
static int compose(struct guest_image *g, const struct options *o, bool standard, const char *agent,
                   struct err *e)
{
    const char *user = o->append ? o->append : "";
    char size[48] = "";
    unsigned cols, rows;
    int n;

    if (o->command) {
        n = snprintf(g->cmdline, sizeof(g->cmdline),
                     "console=ttyS0 quiet panic=-1 ring3.agent=%s%s%s%s",
                     o->kernel ? "ttyS1" : "port", agent, *user ? " " : "", user);
    } else if (standard) {
        if (term_size(STDIN_FILENO, &cols, &rows) == 0)
            snprintf(size, sizeof(size), " ring3.size=%ux%u", rows, cols);
        n = snprintf(g->cmdline, sizeof(g->cmdline), "console=ttyS0 quiet panic=-1%s%s%s%s", size,
                     agent, *user ? " " : "", user);
    } else {
        n = snprintf(g->cmdline, sizeof(g->cmdline), "%s", user);
    }
    if (n >= (int)sizeof(g->cmdline))
        return err_set(e, E2BIG, "option --append: the kernel command line is longer than %d bytes",
                       CMDLINE_MAX - 1);
    return 0;
}

int guest_load(struct guest_image *g, const struct options *o, const char *agent, struct err *e)
{
    bool standard = !o->kernel || (o->command && !o->initrd);
    int rc = 0;

    if (o->script)
        return read_script(g, o->script, e);
    if (o->bios)
        return read_file(&g->bios, "bios", o->bios, e);
    if (o->kernel)
        rc = read_file(&g->kernel, "kernel", o->kernel, e);
    if (!rc && standard)
        rc = guest_find(&g->standard, o->share.count != 0, e);
    if (!rc && !o->kernel)
        rc = read_file(&g->kernel, "kernel", g->standard.kernel, e);
    if (!rc && o->initrd)
        rc = read_modules(g, o->initrd, e);
    else if (!rc && standard)
        rc = read_module(g, g->standard.initrd, e);
    return rc ? rc : compose(g, o, standard, agent, e);
}

void guest_unload(struct guest_image *g)
{
    free((void *)g->kernel.data);
    free((void *)g->bios.data);
    for (size_t i = 0; i < g->modules; i++)
        free((void *)g->module[i].data);
    free(g->names[0]);
    free(g->script);
    *g = (struct guest_image){.modules = 0};
}
