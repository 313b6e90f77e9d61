/* main.c - ring3-step: runs conformance cases given as JSON lines on the processor core */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "step.h"

#define DEFAULT_CPU     "host"
#define DEFAULT_SST_CPU "ring3-v2" /* old data: F3 0F BC is BSF there, not TZCNT */

struct options {
    bool sst;
    const char *cpu;
    struct sst_options sst_opt;
};

static void usage(FILE *f)
{
    fputs(step_help, f);
}

static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {{"format", required_argument, NULL, 'f'},
                                          {"model", required_argument, NULL, 'm'},
                                          {"cpu", required_argument, NULL, 'c'},
                                          {"metadata", required_argument, NULL, 'M'},
                                          {"flags-mask", required_argument, NULL, 'k'},
                                          {"verbose", required_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int opt;

    *o = (struct options){.cpu = NULL, .sst_opt = {.model = "386", .verbose = 3}};
    while ((opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (opt) {
        case 'f':
            if (strcmp(optarg, "sst") && strcmp(optarg, "json")) {
                fprintf(stderr, "ring3-step: --format %s: json or sst\n", optarg);
                return 2;
            }
            o->sst = !strcmp(optarg, "sst");
            break;
        case 'm': o->sst_opt.model = optarg; break;
        case 'c': o->cpu = optarg; break;
        case 'M': o->sst_opt.metadata = optarg; break;
        case 'k':
            o->sst_opt.flags_mask = strtoul(optarg, NULL, 16);
            o->sst_opt.have_flags_mask = true;
            break;
        case 'v': o->sst_opt.verbose = strtoul(optarg, NULL, 10); break;
        case 'h': usage(stdout); exit(0);
        default: fputs("ring3-step: try --help\n", stderr); return 2;
        }
    }
    if (!o->cpu)
        o->cpu = o->sst ? DEFAULT_SST_CPU : DEFAULT_CPU;
    o->sst_opt.cpu = o->cpu;
    return 0;
}

/* The model and engine that a case asks for; the world is kept while the model stays the same. */
static int choose(struct world *w, const json_t *j, const char *default_cpu, struct err *e)
{
    const char *engine = json_string_value(json_object_get(j, "engine"));
    const char *cpu = json_string_value(json_object_get(j, "cpu"));

    if (engine && strcmp(engine, "interp"))
        return err_set(e, EINVAL, "engine: %s cannot run single cases; interp can", engine);
    cpu = cpu ? cpu : default_cpu;
    return strcmp(cpu, w->model.name) ? world_set_model(w, cpu, e) : 0;
}

static void run_line(struct world *w, const char *line, size_t len, const char *cpu)
{
    static struct step_case c;
    struct step_result r;
    struct err e = {0};

    json_t *j = json_line(line, len, &e);
    if (!j) {
        step_print_error(stdout, NULL, e.msg);
        return;
    }
    memset(&c, 0, sizeof(c));
    world_reset(w);
    if (choose(w, j, cpu, &e) || step_parse(w, j, &c, &e)) {
        step_print_error(stdout, j, e.msg);
    } else {
        step_run(w, &c, &r);
        if (w->too_many_pages)
            step_print_error(stdout, j, "the case touches too many pages");
        else
            step_print(stdout, w, j, &c, &r);
    }
    json_decref(j);
}

static int run_lines(const char *cpu)
{
    struct world *w;
    struct err e = {0};
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    if (world_create(&w, cpu, &e)) {
        fprintf(stderr, "ring3-step: %s\n", e.msg);
        return 2;
    }
    w->hidden_gpa = STEP_HIDDEN;
    w->hidden_bytes = STEP_HIDDEN_BYTES;
    while ((len = getline(&line, &cap, stdin)) > 0) {
        if (strspn(line, " \t\r\n") == (size_t)len)
            continue;
        run_line(w, line, len, cpu);
        /* Whoever feeds one case at a time waits for its answer. */
        if (fflush(stdout))
            break;
    }
    free(line);
    world_destroy(w);
    return ferror(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o;

    int rc = parse_options(argc, argv, &o);
    if (rc)
        return rc;
    if (o.sst) {
        if (optind == argc) {
            fputs("ring3-step: --format sst needs files\n", stderr);
            return 2;
        }
        return sst_main(&o.sst_opt, argv + optind, argc - optind);
    }
    if (optind < argc) {
        fprintf(stderr, "ring3-step: %s: cases come on standard input\n", argv[optind]);
        return 2;
    }
    return run_lines(o.cpu);
}
