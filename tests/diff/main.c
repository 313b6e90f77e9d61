/* main.c - diff: compares the processor core with the host processor, case by case */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gen.h"

#define EPOCH_BITS 14 /* cases that share one pool of floating-point states */

struct options {
    u64 seed, count, only;
    bool one, verbose;
    enum { SINGLE, BLOCKS, LOOPS } kind;
    unsigned max_reports;
    const char *engine, *cpu;
};

static void usage(FILE *f)
{
    fputs("usage: diff [options]\n"
          "  --seed N      which random cases (default 1)\n"
          "  --count N     how many (default 1000000)\n"
          "  --blocks      blocks of up to 16 instructions instead of single ones\n"
          "  --loops       loops and functions\n"
          "  --only N      one case, with details\n"
          "  --cpu MODEL   CPU model of the core (default host)\n"
          "  --engine NAME interp: the core itself (default); bt or bt:TUNING (see ring3 run "
          "--bt)\n"
          "  --reports N   mismatches printed in full (default 10)\n"
          "  --tap         results in TAP form\n",
          f);
}

static int parse(int argc, char **argv, struct options *o, bool *tap)
{
    static const struct option longs[] = {
        {"seed", 1, NULL, 's'},    {"count", 1, NULL, 'n'}, {"blocks", 0, NULL, 'b'},
        {"only", 1, NULL, 'o'},    {"cpu", 1, NULL, 'c'},   {"engine", 1, NULL, 'e'},
        {"reports", 1, NULL, 'r'}, {"tap", 0, NULL, 't'},   {"loops", 0, NULL, 'l'},
        {"help", 0, NULL, 'h'},    {NULL, 0, NULL, 0}};
    int opt;

    *o = (struct options){
        .seed = 1, .count = 1000000, .max_reports = 10, .engine = "interp", .cpu = "host"};
    while ((opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (opt) {
        case 's': o->seed = strtoull(optarg, NULL, 0); break;
        case 'n': o->count = strtoull(optarg, NULL, 0); break;
        case 'b': o->kind = BLOCKS; break;
        case 'l': o->kind = LOOPS; break;
        case 'o': o->only = strtoull(optarg, NULL, 0), o->one = true; break;
        case 'c': o->cpu = optarg; break;
        case 'e': o->engine = optarg; break;
        case 'r': o->max_reports = strtoul(optarg, NULL, 0); break;
        case 't': *tap = true; break;
        case 'h': usage(stdout); exit(0);
        default: usage(stderr); return 2;
        }
    }
    return 0;
}

/* Puts the block into code memory, followed by a jump to the exit stub. */
static void install(struct dcase *c)
{
    u8 *p = native_code + (c->start - CODE_ADDR);
    unsigned room = CODE_ADDR + CODE_BYTES - c->start, n = MIN(c->len, room);

    memcpy(p, c->bytes, n);
    c->has_exit = n == c->len && room - n >= 16 && c->valid;
    if (!c->has_exit)
        return;
    p += n;
    if (c->mode == MODE_64) {
        s32 rel = (s32)(native_exit() - (c->start + c->len + 5));
        *p = 0xe9;
        memcpy(p + 1, &rel, 4);
        return;
    }
    u32 off = native_exit();
    u16 sel = SEL_CODE64;
    if (c->mode == MODE_16)
        *p++ = 0x66;
    *p++ = 0xea;
    memcpy(p, &off, 4);
    memcpy(p + 4, &sel, 2);
}

static void uninstall(const struct dcase *c)
{
    u8 *p = native_code + (c->start - CODE_ADDR);
    memset(p, 0xcc, MIN(c->len + 16, CODE_ADDR + CODE_BYTES - c->start));
}

struct totals {
    u64 states, insns, mismatches, skipped, traps, by_mode[3];
    u64 like_core; /* the engine does what the core does and this host does not */
};

/* By chance a far return or a truncated target leads back into the bytes just installed: what comes
 * next is another test than the one meant, and may never end. */
static bool lands_inside(const struct dcase *c, const struct outcome *guest)
{
    u64 base = guest->s.sel[X86_CS] == LDT_SEL(LDT_CODE16) ? CODE_ADDR : 0;
    u64 off = guest->s.rip + base - c->start;
    bool same_code = guest->s.sel[X86_CS] == c->in.sel[X86_CS];

    return guest->trap < 0 && off < c->len + 16 && !(off == c->len && same_code);
}

/* The guest faults where the host has the harness's own pages. */
static bool names_harness(const struct outcome *guest)
{
    return guest->trap == X86_PF && guest->cr2 - CTX_ADDR < STUB_ADDR + STUB_BYTES - CTX_ADDR;
}

/* Where the core itself differs from this host (another vendor's processor than the core plays),
 * an engine that agrees with the core is right. */
static bool like_core(const struct dcase *c, const struct outcome *core, const u8 *core_data,
                      const struct outcome *engine)
{
    static u8 host_data[DATA_BYTES];

    memcpy(host_data, native_data, DATA_BYTES);
    memcpy(native_data, core_data, DATA_BYTES);
    bool same = !compare(c, core, engine);
    memcpy(native_data, host_data, DATA_BYTES);
    return same;
}

/* Host and core, or host and engine: then twice, the second time with what the first translated. On
 * return `guest` is what differs, or the last one. */
static const char *compare_all(const struct dcase *c, struct outcome *native, struct outcome *guest,
                               struct totals *t)
{
    static u8 before[DATA_BYTES], core_data[DATA_BYTES];
    static struct outcome core;
    const char *what = NULL;

    if (!engine_used()) {
        native_run(c, native);
        return compare(c, native, guest);
    }
    memcpy(before, native_data, DATA_BYTES);
    memcpy(core_data, guest_data, DATA_BYTES);
    core = *guest;
    native_run(c, native);
    for (unsigned i = 0; i < 2 && !what; i++) {
        memcpy(guest_data, before, DATA_BYTES);
        engine_run(c, guest);
        what = compare(c, native, guest);
        if (what && like_core(c, &core, core_data, guest))
            what = NULL, t->like_core++;
    }
    return what;
}

enum { SKIPPED, SAME, DIFFERENT };

static int attempt(const struct options *o, u64 index, struct dcase *c, struct outcome *native,
                   struct outcome *guest, const char **what, struct totals *t)
{
    static bool (*const gen[])(struct dcase *, u64, u64) = {gen_single, gen_block, gen_loops};

    if (!gen[o->kind](c, o->seed, index))
        return SKIPPED;
    install(c);
    guest_run(c, guest);
    if (lands_inside(c, guest) || names_harness(guest)) {
        uninstall(c);
        return SKIPPED;
    }
    *what = compare_all(c, native, guest, t);
    return *what ? DIFFERENT : SAME;
}

static void run_case(const struct options *o, u64 index, struct totals *t)
{
    static struct dcase c;
    static struct outcome native, guest;
    static const char *const option[] = {"", " --blocks", " --loops"};
    const char *what = NULL;

    int rc = attempt(o, index, &c, &native, &guest, &what, t);
    /* A switch to another task at the wrong moment: once more. */
    for (unsigned i = 0; i < 3 && rc == DIFFERENT && native.lost && !native.signaled; i++) {
        uninstall(&c);
        memory_restore();
        rc = attempt(o, index, &c, &native, &guest, &what, t);
    }
    if (rc == SKIPPED) {
        t->skipped++;
        memory_restore();
        return;
    }
    t->states++;
    t->insns += c.steps ? c.steps : c.insns;
    t->by_mode[c.mode]++;
    t->traps += native.trap >= 0;
    t->mismatches += rc == DIFFERENT;
    if (rc == DIFFERENT)
        summary_add(&c, &native, &guest, what);
    if ((rc == DIFFERENT && t->mismatches <= o->max_reports) || o->one)
        report(stdout, &c, &native, &guest, rc == DIFFERENT ? what : "nothing", o->seed,
               option[o->kind]);
    uninstall(&c);
    memory_restore();
}

static void run_all(const struct options *o, struct totals *t)
{
    u64 first = o->one ? o->only : 0, last = o->one ? o->only : o->count - 1;
    u64 epoch = ~0ull;

    for (u64 i = first; i <= last; i++) {
        if (i >> EPOCH_BITS != epoch) {
            epoch = i >> EPOCH_BITS;
            state_pool_init(o->seed, epoch);
        }
        run_case(o, i, t);
    }
}

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct options o;
    struct totals t = {0};
    struct err e = {0};
    bool tap = false;

    int rc = parse(argc, argv, &o, &tap);
    if (rc)
        return rc;
    rc = native_init(&e);
    if (!rc)
        rc = guest_init(o.cpu, &e);
    if (!rc && strcmp(o.engine, "interp"))
        rc = engine_init(o.engine, &e);
    if (!rc)
        rc = native_hook(&e);
    if (!rc)
        rc = templates_init(&e);
    if (rc) {
        fprintf(stderr, "diff: %s\n", e.msg);
        return 2;
    }
    memory_init(o.seed);
    double start = seconds();
    run_all(&o, &t);
    double took = seconds() - start;
    if (tap)
        printf("1..1\n%s 1 - %s\n", t.mismatches ? "not ok" : "ok",
               o.kind == LOOPS    ? "loops"
               : o.kind == BLOCKS ? "blocks"
                                  : "single instructions");
    printf("# %llu states compared (%llu instructions; 64-bit %llu, 32-bit %llu, 16-bit %llu; %llu "
           "exceptions), %llu mismatches, %llu skipped, %.1f s, %.0f states/s\n",
           (unsigned long long)t.states, (unsigned long long)t.insns,
           (unsigned long long)t.by_mode[0], (unsigned long long)t.by_mode[1],
           (unsigned long long)t.by_mode[2], (unsigned long long)t.traps,
           (unsigned long long)t.mismatches, (unsigned long long)t.skipped, took, t.states / took);
    if (t.like_core)
        printf("# %llu as the core, unlike this host\n", (unsigned long long)t.like_core);
    summary_print(stdout);
    printf("# templates: %u (64-bit %u, 32-bit %u, 16-bit %u)\n",
           gen_templates(MODE_64) + gen_templates(MODE_32) + gen_templates(MODE_16),
           gen_templates(MODE_64), gen_templates(MODE_32), gen_templates(MODE_16));
    for (struct exception_rule *x = exception_rules; x->name; x++)
        if (x->hits)
            printf("# allowed: %s: %llu\n", x->name, (unsigned long long)x->hits);
    return t.mismatches ? 1 : 0;
}
