/* help.c - `ring3 help` and `ring3 version` */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/report.h"
#include "cli/verbs.h"

#define COLUMN 30

static void print_option(const struct option_row *row)
{
    char left[64];
    int n = snprintf(left, sizeof(left), "  %c%c%s--%s%s%s", row->letter ? '-' : ' ',
                     row->letter ? row->letter : ' ', row->letter ? ", " : "  ", row->name,
                     *row->argument && row->kind != OPT_COUNT ? " " : "", row->argument);

    if (n >= COLUMN)
        printf("%s\n%*s%s\n", left, COLUMN, "", row->summary);
    else
        printf("%-*s%s\n", COLUMN, left, row->summary);
}

static void print_exits(void)
{
    static const struct {
        int value;
        const char *meaning;
    } exits[] = {
#define EXIT_STATUS(name, value, meaning) {value, meaning},
#include "cli/exits.def"
#undef EXIT_STATUS
    };

    printf("\nExit status: the command's own, else\n");
    for (size_t i = 0; i < ARRAY_SIZE(exits); i++)
        printf("  %3d  %s\n", exits[i].value, exits[i].meaning);
}

void help_verb(const char *name, unsigned verb)
{
    for (const struct verb *v = verbs; v->name; v++)
        if (!strcmp(v->name, name))
            printf("Usage: ring3 %s %s\n\n%c%s.\n\n", v->name, v->arguments, v->summary[0] & ~0x20,
                   v->summary + 1);
    for (size_t i = 0; i < option_count; i++)
        if (option_rows[i].verbs & verb)
            print_option(&option_rows[i]);
    if (verb != V_RUN)
        return;
    printf("\nExamples:\n"
           "  ring3 run -- uname -a\n"
           "  ring3 run -k bzImage -i initrd -a console=ttyS0 -m 1G\n"
           "\nWithout a command the guest's console is yours; Ctrl-a x ends the run.\n");
    print_exits();
}

int verb_help(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "run"))
        return help_verb("run", V_RUN), EXIT_CLEAN;
    if (argc > 1 && !strcmp(argv[1], "doctor"))
        return help_verb("doctor", V_DOCTOR), EXIT_CLEAN;
    printf("ring3 - runs x86-64 virtual machines, with or without hardware virtualization\n\n"
           "Usage: ring3 VERB [OPTIONS]\n\n");
    for (const struct verb *v = verbs; v->name; v++)
        printf("  %-10s%s\n", v->name, v->summary);
    printf("\nring3 VERB --help shows a verb's options.\n");
    return EXIT_CLEAN;
}

int verb_version(int argc, char **argv)
{
    printf("ring3 %s\n", RING3_VERSION);
    return EXIT_CLEAN;
}
