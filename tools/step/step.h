/* step.h - one conformance case: what it asks for, and what came of it */
#pragma once

#include <jansson.h>

#include "world.h"

/* Where the tool puts the tables a case did not bring itself; never reported as changed memory. */
#define STEP_GDT          0xdf000000ull
#define STEP_TSS          0xdf001000ull
#define STEP_TABLES       0xdf010000ull /* page tables grow from here */
#define STEP_PAGES        0xe0000000ull /* frames behind `vmem` grow from here */
#define STEP_HIDDEN       0xdf000000ull
#define STEP_HIDDEN_BYTES 0x01000000ull

#define STEP_FRAMES_MAX  4096u
#define STEP_MAX_DEFAULT 1000000u /* instructions of `until` cases */

struct step_case {
    unsigned mode; /* 16, 32, 64 */
    unsigned cpl;
    bool vm86;
    bool deliver;
    bool until_hlt;
    bool changed_only;
    u64 count;
    struct x86_state s;
    struct x86_state start; /* as the run began: for `changed` */
    /* paging built by the tool */
    u64 next_table, next_frame;
    u64 frame_lin[STEP_FRAMES_MAX]; /* linear page behind each frame from STEP_PAGES on */
};

enum step_stop {
    STEP_COUNT,     /* `count` instructions were executed */
    STEP_HLT,       /* HLT */
    STEP_EXCEPTION, /* an exception, not delivered */
    STEP_SHUTDOWN,  /* triple fault */
    STEP_MAX,       /* `until` was not reached within `max` instructions */
};

struct step_result {
    enum step_stop stop;
    u64 executed;
    bool has_exc; /* the last exception: the one that stopped the run, or the last one delivered */
    struct x86_exc exc;
    u64 exc_rip;
};

extern const char *const step_stop_names[];

/* Numbers: JSON integers, or strings "0x..." / decimal. False: not a number. */
bool json_u64(const json_t *j, u64 *out);
/* Looks for key in obj; -1 with *e set when it is there and not a number, 0 absent, 1 found. */
int json_get_u64(const json_t *obj, const char *key, u64 *out, struct err *e);
/* Hex digits to bytes in string order. Number of bytes, or -1. */
int hex_bytes(const char *s, u8 *out, unsigned max);
/* A hex number, most significant digit first, into n little-endian bytes (zero-extended). */
bool hex_number(const char *s, u8 *out, unsigned n);
/* Parses a line; integers beyond 63 bits are allowed. NULL with *e set. */
json_t *json_line(const char *line, size_t len, struct err *e);

/* Fills c and the world's memory from a case. 0 or -errno with *e naming the field. */
must_check int step_parse(struct world *w, const json_t *j, struct step_case *c, struct err *e);

/* setup.c: state before a case's own fields are applied, by mode, cpl and vm86. */
void step_default_state(struct step_case *c);
/* The descriptor tables behind the default selectors. */
must_check int step_default_tables(struct world *w, struct step_case *c, struct err *e);
/* Switches paging on with the first 16 GiB mapped one to one, unless the case has a CR3 of its
 * own. */
must_check int step_identity_map(struct world *w, struct step_case *c, struct err *e);
struct step_map {
    bool present, write, user, nx;
};
/* Maps the page of lin to a frame (a fresh one for fresh pages) and returns the physical address
 * of lin. `how` NULL: keep the rights of a page mapped before, else an open one. */
must_check int step_map_page(struct world *w, struct step_case *c, u64 lin,
                             const struct step_map *how, u64 *gpa, struct err *e);

/* PAE paging: the four page-directory-pointer registers, as MOV CR3 loads them. */
void step_load_pdptes(struct world *w, struct step_case *c);

/* fpu.c */
must_check int step_parse_fpu(const json_t *j, struct x86_fpu *f, struct err *e);

/* run.c: loads c->s into the cpu and runs. The final state is in w->cpu.s. */
void step_run(struct world *w, struct step_case *c, struct step_result *r);

/* output.c: one line of JSON on out. */
void step_print(FILE *out, struct world *w, const json_t *j, const struct step_case *c,
                const struct step_result *r);
void step_print_error(FILE *out, const json_t *j, const char *msg);

/* sst.c: compares published single-step data with the core. Options of `--format sst`. */
struct sst_options {
    const char *model;    /* "8088", "286", "386" */
    const char *cpu;      /* CPU model of the core */
    const char *metadata; /* metadata.json or 80386.csv, or NULL */
    u32 flags_mask;       /* flags compared */
    bool have_flags_mask;
    unsigned verbose; /* failures printed a file */
};
/* 0 when all files could be read and no case failed (known differences aside), 1 else. */
int sst_main(const struct sst_options *opt, char **files, int nfiles);

extern const char step_help[];
