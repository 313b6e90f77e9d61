/* doctor.c - `ring3 doctor`: which engines work here, why not, and how to mend it */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/engines.h"
#include "cli/guest.h"
#include "cli/options.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "x86/cpuid.h"

static void print_text(void)
{
    struct guest_files guest;
    struct err e = {0};
    char node[160];

    printf("ring3 %s\n\nEngines:\n", RING3_VERSION);
    for (const struct engine_row *row = engine_rows; row->name; row++) {
        struct err reason = {0};
        enum engine_verdict v = engine_probe(row, &reason);

        printf("  %-8s%-15s%s\n", row->name, v ? engine_verdict_name(v) : "works", row->summary);
        if (v)
            printf("  %-8s%s\n", "", reason.msg);
    }
    kvm_node(node, sizeof(node));
    printf("\nHost:\n  %s\n", node);
    if (guest_find(&guest, false, &e) == 0)
        printf("  default guest: %s\n", guest.kernel);
    else
        printf("  %s\n", e.msg);
    printf("\nProcessor models:\n");
    for (const struct x86_model_name *m = x86_model_names; m->name; m++) {
        struct x86_cpuid_model model;
        struct err reason = {0};
        int rc = x86_cpuid_model(&model, m->name, 1, &reason);

        printf("  %-10s%-15s%s\n", m->name, rc ? "not here" : "works",
               rc ? reason.msg : m->summary);
    }
}

static void print_json(void)
{
    json_t *engines = json_array(), *models = json_array(), *root;
    struct guest_files guest;
    struct err e = {0};
    char node[160], *text;
    bool found = guest_find(&guest, false, &e) == 0;

    for (const struct engine_row *row = engine_rows; row->name; row++) {
        struct err reason = {0};
        enum engine_verdict v = engine_probe(row, &reason);

        json_array_append_new(engines,
                              json_pack("{s:s, s:b, s:s, s:s, s:s}", "name", row->name, "works",
                                        v == ENGINE_WORKS, "verdict", engine_verdict_name(v),
                                        "summary", row->summary, "reason", reason.msg));
    }
    for (const struct x86_model_name *m = x86_model_names; m->name; m++) {
        struct x86_cpuid_model model;

        json_array_append_new(models, json_pack("{s:s, s:b}", "name", m->name, "works",
                                                x86_cpuid_model(&model, m->name, 1, NULL) == 0));
    }
    kvm_node(node, sizeof(node));
    root = json_pack("{s:s, s:o, s:o, s:s, s:s?}", "version", RING3_VERSION, "engines", engines,
                     "cpu_models", models, "kvm", node, "guest", found ? guest.kernel : NULL);
    text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(root);
}

int verb_doctor(int argc, char **argv)
{
    const struct engine_row *row;
    struct options o;
    struct err e = {0};

    if (options_parse(&o, V_DOCTOR, argc, argv, &e))
        return report_usage("doctor", &e);
    if (o.help)
        return help_verb("doctor", V_DOCTOR), EXIT_CLEAN;
    if (o.rest_count || o.command) {
        (void)err_set(&e, EINVAL, "doctor takes no arguments");
        return report_usage("doctor", &e);
    }
    row = o.engine && strcmp(o.engine, "auto") ? engine_by_name(o.engine) : NULL;
    if (!row && o.engine && strcmp(o.engine, "auto")) {
        (void)err_set(&e, EINVAL,
                      "option --engine: unknown engine '%s' (auto, kvm, bt, interp or script)",
                      o.engine);
        return report_usage("doctor", &e);
    }
    if (o.json)
        print_json();
    else
        print_text();
    return row && engine_probe(row, NULL) ? EXIT_FAILED : EXIT_CLEAN;
}
