/* disk.c - `ring3 disk`: makes disk files, looks at them, checks and converts them */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "host/disk/image.h"

#define BAD_USAGE(...) err_set(e, EINVAL, __VA_ARGS__)

#define FAULTY 1 /* the status of `disk check` when something is wrong with the disk */

static const char *const format_names[] = {
    [DISK_AUTO] = "auto", [DISK_RAW] = "raw", [DISK_QCOW2] = "qcow2"};

static int parse_format(const char *text, enum disk_format otherwise, enum disk_format *out,
                        struct err *e)
{
    *out = otherwise;
    if (!text)
        return 0;
    for (size_t i = DISK_RAW; i < ARRAY_SIZE(format_names); i++) {
        if (strcmp(text, format_names[i]))
            continue;
        *out = (enum disk_format)i;
        return 0;
    }
    return BAD_USAGE("option --format: '%s' is neither raw nor qcow2", text);
}

/* A size here is in bytes unless it has a suffix, as for a file. */
static bool parse_bytes(const char *text, u64 *bytes)
{
    char last = *text ? text[strlen(text) - 1] : '\0';

    return last >= '0' && last <= '9' ? parse_number(text, bytes) : parse_size(text, bytes);
}

/* ---- create ---- */

static int create(const struct options *o, struct err *e, int *status)
{
    struct image_config cfg = {.backing = o->backing};

    if (o->rest_count < 2 || o->rest_count > 3 || (o->rest_count == 2 && !o->backing))
        return BAD_USAGE("disk create takes a file and a size");
    cfg.path = o->rest[1];
    if (parse_format(o->format, DISK_QCOW2, &cfg.format, e))
        return -EINVAL;
    if (o->cluster && (!parse_bytes(o->cluster, &cfg.cluster) || !cfg.cluster))
        return BAD_USAGE("option --cluster: bad size '%s' (as 512 or 64K)", o->cluster);
    if (o->rest_count == 3 && (!parse_bytes(o->rest[2], &cfg.bytes) || !cfg.bytes))
        return BAD_USAGE("disk create: bad size '%s' (as 2G or 512M)", o->rest[2]);
    if (image_create(&cfg, e)) {
        report_error("%s", e->msg);
        *status = EXIT_FAILED;
    }
    return 0;
}

/* ---- info, check ---- */

static json_t *to_json(const char *path, const struct image_info *i)
{
    json_t *j = json_pack("{s:s, s:s, s:I, s:I, s:I}", "file", path, "format",
                          format_names[i->format], "size", (json_int_t)i->bytes, "file_size",
                          (json_int_t)i->file_bytes, "host_size", (json_int_t)i->host_bytes);

    if (!j || i->format != DISK_QCOW2)
        return j;
    json_object_set_new(j, "version", json_integer(i->version));
    json_object_set_new(j, "cluster_size", json_integer((json_int_t)i->cluster));
    json_object_set_new(j, "allocated", json_integer((json_int_t)i->allocated));
    json_object_set_new(j, "backing", i->backing[0] ? json_string(i->backing) : json_null());
    json_object_set_new(j, "snapshots", json_integer(i->snapshots));
    json_object_set_new(j, "dirty", json_boolean(i->dirty));
    json_object_set_new(j, "corrupt", json_boolean(i->corrupt));
    json_object_set_new(j, "errors", json_integer((json_int_t)i->errors));
    json_object_set_new(j, "leaks", json_integer((json_int_t)i->leaks));
    return j;
}

static void print_json(const char *path, const struct image_info *i)
{
    json_t *j = to_json(path, i);
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;

    printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(j);
}

static void print_size(const char *what, u64 bytes)
{
    printf("%-12s%.1f MiB (%llu bytes)\n", what, (double)bytes / (double)MiB,
           (unsigned long long)bytes);
}

static void print_text(const char *path, const struct image_info *i)
{
    printf("%-12s%s\n%-12s%s\n", "file", path, "format", format_names[i->format]);
    print_size("size", i->bytes);
    print_size("on the host", i->host_bytes);
    if (i->format != DISK_QCOW2)
        return;
    print_size("allocated", i->allocated);
    printf("%-12s%llu bytes\n", "cluster", (unsigned long long)i->cluster);
    if (i->backing[0])
        printf("%-12s%s\n", "backing", i->backing);
    if (i->snapshots)
        printf("%-12s%u\n", "snapshots", i->snapshots);
    if (i->dirty)
        printf("not closed: refcounts are rebuilt when it is written again\n");
    if (i->corrupt)
        printf("marked as damaged\n");
}

static int info(const struct options *o, struct err *e, int *status)
{
    struct image_info i;
    enum disk_format format;

    if (o->rest_count != 2)
        return BAD_USAGE("disk info takes one file");
    if (parse_format(o->format, DISK_AUTO, &format, e))
        return -EINVAL;
    if (image_examine(o->rest[1], format, &i, e)) {
        report_error("%s", e->msg);
        *status = EXIT_FAILED;
    } else if (o->json) {
        print_json(o->rest[1], &i);
    } else {
        print_text(o->rest[1], &i);
    }
    return 0;
}

static int check(const struct options *o, struct err *e, int *status)
{
    struct image_info i;
    int rc;

    if (o->rest_count != 2)
        return BAD_USAGE("disk check takes one file");
    rc = o->repair ? image_repair(o->rest[1], &i, e) : image_examine(o->rest[1], DISK_AUTO, &i, e);
    if (rc) {
        report_error("%s", e->msg);
        *status = EXIT_FAILED;
        return 0;
    }
    if (o->json)
        print_json(o->rest[1], &i);
    else if (i.errors || i.leaks)
        printf("%s: %llu errors, %llu leaked clusters%s%s%s\n", o->rest[1],
               (unsigned long long)i.errors, (unsigned long long)i.leaks, i.errors ? ": " : "",
               i.problem, i.dirty ? " (not closed: --repair, or writing to it, mends it)" : "");
    else
        printf("%s: no errors\n", o->rest[1]);
    *status = i.errors || i.leaks ? FAULTY : EXIT_CLEAN;
    return 0;
}

/* ---- convert ---- */

static int convert(const struct options *o, struct err *e, int *status)
{
    struct disk_config from = {.read_only = true};
    enum disk_format format;

    if (o->rest_count != 3)
        return BAD_USAGE("disk convert takes the old and the new file");
    if (parse_format(o->format, DISK_QCOW2, &format, e))
        return -EINVAL;
    from.path = o->rest[1];
    if (image_convert(&from, o->rest[2], format, e)) {
        report_error("%s", e->msg);
        *status = EXIT_FAILED;
    }
    return 0;
}

/* ---- the verb ---- */

static const struct {
    const char *name;
    int (*run)(const struct options *o, struct err *e, int *status); /* -EINVAL: usage */
} commands[] = {{"create", create}, {"info", info}, {"check", check}, {"convert", convert}};

static int run_command(const struct options *o, struct err *e, int *status)
{
    if (!o->rest_count)
        return BAD_USAGE("disk: create, info, check or convert?");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (!strcmp(o->rest[0], commands[i].name))
            return commands[i].run(o, e, status);
    return BAD_USAGE("disk: unknown command '%s' (create, info, check or convert)", o->rest[0]);
}

int verb_disk(int argc, char **argv)
{
    int status = EXIT_CLEAN;
    struct options o;
    struct err e = {0};

    if (options_parse(&o, V_DISK, argc, argv, &e))
        return report_usage("disk", &e);
    if (o.help)
        return help_verb("disk", V_DISK), EXIT_CLEAN;
    return run_command(&o, &e, &status) ? report_usage("disk", &e) : status;
}
