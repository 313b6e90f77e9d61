/* main.c - the ring3 program: picks the verb */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/report.h"
#include "cli/verbs.h"

const struct verb verbs[] = {
#define VERB(name, function, arguments, summary) {#name, function, arguments, summary},
#include "cli/verbs.def"
#undef VERB
    {NULL, NULL, NULL, NULL},
};

/* Results that cannot be written are a failure, except to a reader that went away. */
static int finish(int status)
{
    if (fflush(stdout) || ferror(stdout)) {
        if (status == EXIT_CLEAN)
            report_error("cannot write to stdout");
        return status == EXIT_CLEAN ? EXIT_FAILED : status;
    }
    return status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file limit of the user is an error of the disk */
    report_setup(false);
    if (argc < 2)
        return verb_help(0, argv), EXIT_USAGE;
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        name = "version";
    for (const struct verb *v = verbs; v->name; v++)
        if (!strcmp(v->name, name))
            return finish(v->run(argc - 1, argv + 1));
    report_error("unknown verb '%s'; try ring3 help", name);
    return EXIT_USAGE;
}
