/* verbs.h - what ring3 can be asked to do; each returns the exit status */
#pragma once

struct verb {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the verb */
    const char *arguments, *summary;
};
extern const struct verb verbs[]; /* ends with a NULL name */

#define VERB(name, function, arguments, summary) int function(int argc, char **argv);
#include "cli/verbs.def"
#undef VERB

/* Options of one verb (V_*) as --help prints them. */
void help_verb(const char *name, unsigned verb);
