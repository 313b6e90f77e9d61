/* lockstep_priv.h - what the files of the lockstep check share */
#pragma once

#include "engine/bt/lockstep.h"

#define LOCKSTEP_INSNS 64

enum ls_phase { LS_OFF, LS_RECORD, LS_REPLAY };

/* A page as it was before the shadow wrote to it, and after. */
struct ls_page {
    u64 gpa;
    u8 *hva;
    u8 before[4096], after[4096];
};

/* What the shadow asked of the world, and the answer. */
struct ls_access {
    u8 op; /* enum ls_op */
    int rc;
    u64 addr, val, out;
};

struct lockstep {
    enum ls_phase phase;
    unsigned every, countdown;
    bool stay; /* lockstep_cut: one look-up goes on */
    bool restarted;
    u64 writes;     /* mem_writes() when the block began */
    u64 start, end; /* RIPs of the block */
    struct x86_cpu shadow;
    struct world world; /* of the shadow */
    struct x86_state before;
    int rc;        /* what the shadow's part ended with */
    u32 undefined; /* arithmetic flags */

    struct ls_page *page;
    unsigned npages, pages_cap;
    struct ls_access *access;
    unsigned naccesses, accesses_cap, replayed;

    char what[80]; /* differs; empty: nothing */
    u64 checked;
};

/* lockstep_world.c: the operations of both processors, recording and replaying. */
void lockstep_world_init(struct engine_vcpu *v, struct x86_ops *real);
extern const struct x86_ops lockstep_shadow_ops;
void lockstep_differs(struct lockstep *ls, const char *fmt, ...) printf_like(2, 3);

/* lockstep_report.c: everything about the block on stderr. */
void lockstep_report(struct engine_vcpu *v, const struct tb *tb);
