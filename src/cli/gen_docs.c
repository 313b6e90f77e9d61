/* gen_docs.c - build-time program: manual page and bash completion from the lists of cli/ */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/verbs.h"

static const struct option_row rows[] = {
#define OPTION(verbs, kind, field, letter, name, argument, summary, detail) \
    {verbs, kind, 0, letter, name, argument, summary, detail},
#include "cli/options.def"
#undef OPTION
};

static const struct {
    const char *name, *arguments, *summary;
} verb_rows[] = {
#define VERB(name, function, arguments, summary) {#name, arguments, summary},
#include "cli/verbs.def"
#undef VERB
};

static const struct {
    int value;
    const char *meaning;
} exits[] = {
#define EXIT_STATUS(name, value, meaning) {value, meaning},
#include "cli/exits.def"
#undef EXIT_STATUS
};

static unsigned verb_mask(const char *name)
{
    return !strcmp(name, "run") ? V_RUN : !strcmp(name, "doctor") ? V_DOCTOR : 0;
}

/* roff: '-' is a hyphen unless escaped, a leading '.' or ''' is a request. */
static void roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '-' || *text == '\\')
            putchar('\\');
        putchar(*text == '\\' ? 'e' : *text);
    }
}

static void sentence(const char *text)
{
    putchar(toupper((unsigned char)*text));
    roff(text + 1);
    fputs(".\n", stdout);
}

static void man_options(unsigned verb)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (!(rows[i].verbs & verb))
            continue;
        fputs(".TP\n", stdout);
        if (rows[i].letter)
            printf("\\fB\\-%c\\fR, ", rows[i].letter);
        fputs("\\fB\\-\\-", stdout);
        roff(rows[i].name);
        fputs("\\fR", stdout);
        if (*rows[i].argument) {
            fputs(rows[i].kind == OPT_COUNT ? "\\fI" : " \\fI", stdout);
            roff(rows[i].argument);
            fputs("\\fR", stdout);
        }
        putchar('\n');
        sentence(rows[i].summary);
        if (*rows[i].detail) {
            roff(rows[i].detail);
            putchar('\n');
        }
    }
}

static void man_verbs(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(verb_rows); i++) {
        printf(".SS ring3 %s ", verb_rows[i].name);
        roff(verb_rows[i].arguments);
        putchar('\n');
        sentence(verb_rows[i].summary);
        man_options(verb_mask(verb_rows[i].name));
    }
}

/* Sections of the manual around the generated ones come from ring3.1.in: lines "@VERBS@", "@EXITS@"
 * and "@VERSION@" inside are replaced. */
static int man(const char *path)
{
    FILE *in = fopen(path, "r");
    char line[512];

    if (!in) {
        perror(path);
        return 1;
    }
    while (fgets(line, sizeof(line), in)) {
        char *mark = strstr(line, "@VERSION@");

        if (!strcmp(line, "@VERBS@\n")) {
            man_verbs();
        } else if (!strcmp(line, "@EXITS@\n")) {
            for (size_t i = 0; i < ARRAY_SIZE(exits); i++) {
                printf(".TP\n.B %d\n", exits[i].value);
                sentence(exits[i].meaning);
            }
        } else if (mark) {
            printf("%.*s%s%s", (int)(mark - line), line, RING3_VERSION, mark + strlen("@VERSION@"));
        } else {
            fputs(line, stdout);
        }
    }
    fclose(in);
    return 0;
}

static void words_of(unsigned verb)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].verbs & verb)
            printf(" --%s", rows[i].name);
}

static bool takes_file(const struct option_row *row)
{
    return strstr(row->argument, "FILE") != NULL;
}

static int completion(void)
{
    puts("# bash completion for ring3; made from its list of options\n"
         "_ring3()\n{\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
         "    local verb=${COMP_WORDS[1]}\n"
         "    if [ \"$COMP_CWORD\" -eq 1 ]; then");
    fputs("        COMPREPLY=($(compgen -W \"", stdout);
    for (size_t i = 0; i < ARRAY_SIZE(verb_rows); i++)
        printf("%s%s", i ? " " : "", verb_rows[i].name);
    puts("\" -- \"$cur\"))\n        return\n    fi\n    case $prev in");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (!takes_file(&rows[i]))
            continue;
        if (rows[i].letter)
            printf("    -%c|--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
                   rows[i].letter, rows[i].name);
        else
            printf("    --%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", rows[i].name);
    }
    puts("    -e|--engine)\n"
         "        COMPREPLY=($(compgen -W \"auto kvm bt interp script help\" -- \"$cur\"))\n"
         "        return ;;\n"
         "    esac\n    case $verb in");
    for (size_t i = 0; i < ARRAY_SIZE(verb_rows); i++) {
        printf("    %s) COMPREPLY=($(compgen -W \"", verb_rows[i].name);
        words_of(verb_mask(verb_rows[i].name));
        puts("\" -- \"$cur\")) ;;");
    }
    puts("    esac\n}\ncomplete -F _ring3 ring3");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "man"))
        return man(argv[2]);
    if (argc == 2 && !strcmp(argv[1], "completion"))
        return completion();
    fprintf(stderr, "usage: gen_docs man FILE | completion\n");
    return 2;
}
