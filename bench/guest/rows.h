/* rows.h - the lists of rows of ringbench, and what they share */
#pragma once

#include "kernels.h"

/* Each up to a NULL name. */
extern const struct row simd_rows[], kernel_call_rows[], process_rows[], job_rows[], disk_rows[];

/* Where bin/ and lib/ with the programs of the jobs are. */
extern const char *programs_dir;
/* The file or block device of the disk rows, which they overwrite; NULL: none. */
extern const char *disk_path;

/* Ends this row: "NAME fail WHAT: the text of errno". */
_Noreturn void fail(const char *what);
