/* sst.h - published single-step data: one test in memory, whatever file it came from */
#pragma once

#include "step.h"

/* Registers in the order of the MOO format's RG32 chunk. */
enum sst_reg {
    SST_CR0,
    SST_CR3,
    SST_EAX,
    SST_EBX,
    SST_ECX,
    SST_EDX,
    SST_ESI,
    SST_EDI,
    SST_EBP,
    SST_ESP,
    SST_CS,
    SST_DS,
    SST_ES,
    SST_FS,
    SST_GS,
    SST_SS,
    SST_EIP,
    SST_EFLAGS,
    SST_DR6,
    SST_DR7,
    SST_REGS
};

struct sst_byte {
    u32 addr;
    u8 val;
};

struct sst_side {
    u32 present; /* bit per register */
    u32 reg[SST_REGS];
    const struct sst_byte *ram;
    u32 nram;
};

struct sst_test {
    char name[128];
    u8 bytes[32];
    u32 nbytes;
    struct sst_side initial, final;
    u32 mask[SST_REGS]; /* registers' defined bits */
    int exception;      /* vector, or -1 when the file does not say */
    u32 flag_address;   /* of the flags pushed */
};

/* Called for every test of a file. */
typedef void sst_fn(void *arg, const struct sst_test *t);

/* Reads a JSON or MOO file, gzipped or not. 0 or -errno with *e set. */
must_check int sst_read(const char *path, sst_fn *fn, void *arg, struct err *e);
must_check int sst_read_json(const char *text, size_t len, sst_fn *fn, void *arg, struct err *e);
must_check int sst_read_moo(const u8 *data, size_t len, sst_fn *fn, void *arg, struct err *e);

/* The flags an opcode leaves undefined, from metadata.json or 80386.csv. */
struct sst_meta;
must_check int sst_meta_load(const char *path, struct sst_meta **out, struct err *e);
void sst_meta_free(struct sst_meta *m);
/* Mask of defined flags for the instruction bytes; 0xffffffff when the file says nothing of it. */
u32 sst_meta_flags(const struct sst_meta *m, const u8 *bytes, u32 n);
