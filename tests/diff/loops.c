/* loops.c - cases that run in circles: random instructions in loops and functions, so that an
 * engine links what it translated and goes on by its links and jump caches */
#include <string.h>

#include "gen.h"
#include "undefined.h"

/* rbp counts up to `rounds` in the outer loop, rbx in the one inside a function; rsi and rdi are
 * pointers. Nothing else writes to them, nor to rsp. */
#define KEPT      (1u << X86_RSP | 1u << X86_RBP | 1u << X86_RBX | 1u << X86_RSI | 1u << X86_RDI)
#define BASES     (1u << X86_RSI | 1u << X86_RDI)
#define FUNCTIONS 3
#define SLOT      0x100 /* bytes that a function may take */
#define MAIN_MAX  0x300
#define ROUNDS    60
#define STEPS_MAX 20000

/* Code is written where the core executes it, one instruction after the other. */
struct program {
    struct builder b;
    u64 function[FUNCTIONS]; /* linear addresses */
    bool made[FUNCTIONS];
    u64 limit_at; /* of the number of rounds, one byte */
    bool broken;  /* nothing fits, or an instruction faulted */
};

static u8 *code_at(u64 lin)
{
    return native_code + (lin - CODE_ADDR);
}

/* --- executing -------------------------------------------------------------------------------- */

/* Executes the instruction at RIP if its result is defined. */
static bool execute(struct program *p)
{
    struct builder *b = &p->b;
    struct dcase *c = b->c;
    u64 rip = guest_state()->rip;

    if (rip - c->start >= CASE_BYTES_MAX || !gen_decode(c->mode, code_at(rip), 15, &c->z, c->ops) ||
        !builder_fits(b, rip + c->z.length))
        return false;
    struct undefined u = undefined_by(&c->z, c->ops, guest_state());
    if (u.result || !guest_step(c))
        return false;
    builder_track_flags(b, &u);
    c->steps++;
    return true;
}

/* Goes on to RIP = lin through code that is there already. */
static void execute_to(struct program *p, u64 lin)
{
    for (unsigned i = 0; !p->broken && guest_state()->rip != lin; i++)
        p->broken = i == STEPS_MAX || !execute(p);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void put(struct program *p, u64 *at, const void *bytes, unsigned n)
{
    if (*at + n - p->b.c->start > CASE_BYTES_MAX)
        p->broken = true;
    if (p->broken)
        return;
    memcpy(code_at(*at), bytes, n);
    *at += n;
}

#define PUT(p, at, bytes) put(p, at, bytes, sizeof(bytes) - 1)

static void put32(struct program *p, u64 *at, u64 val)
{
    u32 v = (u32)val;

    put(p, at, &v, 4);
}

static void put_branch(struct program *p, u64 *at, const char *op, unsigned n, u64 target)
{
    put(p, at, op, n);
    put32(p, at, target - (*at + 4));
}

/* A few random instructions; each is executed at once. */
static void put_body(struct program *p, u64 *at, unsigned most)
{
    u8 bytes[64];

    execute_to(p, *at);
    for (unsigned k = rnd_below(p->b.r, most + 1); k && !p->broken; k--) {
        unsigned n = builder_choose(&p->b, *at, bytes);
        if (!n)
            return;
        if (undefined_by(&p->b.c->z, p->b.c->ops, guest_state()).result)
            continue;
        put(p, at, bytes, n);
        p->b.c->insns++;
        p->broken |= !execute(p);
    }
}

/* A conditional jump over some instructions, by a bit of the counter: both ways come. */
static void put_skip(struct program *p, u64 *at)
{
    static const u8 bits[] = {1, 2, 4, 3};
    u8 test[] = {0x40, 0xf6, 0xc5, bits[rnd_below(p->b.r, 4)]}; /* test bpl, imm8 */
    bool long_mode = p->b.c->mode == MODE_64;

    if (!long_mode) { /* test ebp, imm32 */
        PUT(p, at, "\xf7\xc5");
        put32(p, at, test[3]);
    } else {
        put(p, at, test, sizeof(test));
    }
    u8 jcc[6] = {0x0f, chance(p->b.r, 50) ? 0x84 : 0x85};
    u64 field = *at + 2;
    put(p, at, jcc, sizeof(jcc));
    u64 body = *at;
    if (p->broken)
        return;
    /* Which way it goes now is not known: the body is made on the way that falls through. */
    execute_to(p, field - 2);
    u32 rel = 0;
    memcpy(code_at(field), &rel, 4); /* both ways lead to the body */
    put_body(p, at, 3);
    rel = (u32)(*at - body);
    if (!p->broken)
        memcpy(code_at(field), &rel, 4);
}

static void put_function(struct program *p, unsigned i)
{
    u64 at = p->function[i];

    p->made[i] = true;
    put_body(p, &at, 4);
    if (chance(p->b.r, 40)) {
        PUT(p, &at, "\x31\xdb"); /* xor ebx, ebx */
        u64 top = at;
        u8 cmp[] = {0x83, 0xfb, 1 + rnd_below(p->b.r, 6)};
        put_body(p, &at, 3);
        PUT(p, &at, "\xff\xc3"); /* inc ebx */
        put(p, &at, cmp, sizeof(cmp));
        put_branch(p, &at, "\x0f\x82", 2, top); /* jb */
        execute_to(p, at);
        put_body(p, &at, 2);
    }
    PUT(p, &at, "\xc3");
    p->broken |= at - p->function[i] > SLOT;
}

/* Calls function i, by its address or by a register. */
static void put_call(struct program *p, u64 *at, unsigned i)
{
    unsigned k = (i + 1) % FUNCTIONS;

    if (chance(p->b.r, 50)) {
        put_branch(p, at, "\xe8", 1, p->function[i]);
    } else {
        PUT(p, at, "\xb8"); /* mov eax, function */
        put32(p, at, p->function[i]);
        if (p->made[k] && chance(p->b.r, 50)) { /* often another one, from the same place */
            PUT(p, at, "\xb9");                 /* mov ecx, function */
            put32(p, at, p->function[k]);
            /* test ebp, 3; cmovnz eax, ecx */
            PUT(p, at, "\xf7\xc5\x03\x00\x00\x00\x0f\x45\xc1");
        }
        PUT(p, at, "\xff\xd0"); /* call rax */
    }
    if (p->broken)
        return;
    while (!p->broken && guest_state()->rip != p->function[i] && guest_state()->rip != *at)
        p->broken = !execute(p);
    if (!p->made[i] && guest_state()->rip == p->function[i])
        put_function(p, i);
    execute_to(p, *at);
}

/* The outer loop's end: pointers move on, rbp counts. */
static void put_end(struct program *p, u64 *at, u64 top)
{
    u8 add[] = {0x83, 0xc0 | X86_RSI, 1u << rnd_below(p->b.r, 6)};

    if (chance(p->b.r, 50)) { /* add esi, imm8 */
        add[1] ^= chance(p->b.r, 50) ? X86_RSI ^ X86_RDI : 0;
        put(p, at, add, sizeof(add));
    }
    PUT(p, at, "\xff\xc5\x83\xfd"); /* inc ebp; cmp ebp, imm8 */
    p->limit_at = *at;
    u8 rounds = ROUNDS;
    put(p, at, &rounds, 1);
    put_branch(p, at, "\x0f\x85", 2, top);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void place(struct program *p)
{
    struct builder *b = &p->b;
    struct dcase *c = b->c;
    u64 off = rnd_below(b->r, 0xe00), at = off + 16;

    c->start = c->in.rip = CODE_ADDR + 0x2000 + rnd_below(b->r, 10) * 0x1000 + off;
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        if (chance(b->r, 25))
            at = (at | 0xfff) + 1 - rnd_below(b->r, 16); /* to another page, or across */
        p->function[i] = c->start - off + at;
        at += SLOT;
        if (at - off > CASE_BYTES_MAX - MAIN_MAX - SLOT)
            at = off + CASE_BYTES_MAX - MAIN_MAX - SLOT;
    }
    if (p->function[FUNCTIONS - 1] < p->function[FUNCTIONS - 2] + SLOT)
        p->broken = true;
    c->in.gpr[X86_RBP] = 0;
    c->in.gpr[X86_RSI] = random_place(b->r, 8, true);
    c->in.gpr[X86_RDI] = random_place(b->r, 16, true);
    b->kept = KEPT;
    b->bases = BASES;
}

static void build(struct program *p)
{
    struct dcase *c = p->b.c;
    u64 at = c->start, main = p->function[FUNCTIONS - 1] + SLOT;

    put_branch(p, &at, "\xe9", 1, main);
    at = main;
    execute_to(p, main);
    for (unsigned parts = 1 + rnd_below(p->b.r, 4); parts && !p->broken; parts--) {
        put_body(p, &at, 4);
        if (chance(p->b.r, 70))
            put_call(p, &at, (unsigned)rnd_below(p->b.r, FUNCTIONS));
        if (chance(p->b.r, 50))
            put_skip(p, &at);
    }
    put_end(p, &at, main);
    c->len = (unsigned)(at - c->start);
}

/* Executes all from the start; the case has as many rounds as came to their end. */
static bool count_rounds(struct program *p)
{
    struct dcase *c = p->b.c;
    u64 end = p->limit_at + 7; /* behind the jump back */
    unsigned rounds = 0, steps = 0;

    memory_restore();
    guest_begin(c);
    p->b.open_flags = 0;
    c->steps = 0;
    while (c->steps < STEPS_MAX && guest_state()->rip != end && execute(p))
        if (guest_state()->rip == p->limit_at + 1) { /* behind the comparison */
            rounds++;
            steps = c->steps;
        }
    if (rounds < 2)
        return false;
    *code_at(p->limit_at) = (u8)rounds;
    c->steps = steps + 1;
    c->undef_flags = 0; /* the comparison defines them all */
    return true;
}

bool gen_loops(struct dcase *c, u64 seed, u64 index)
{
    struct rng r = {(seed + 78) ^ index * 0xd1342543de82ef95ull};
    struct program p = {.b = {.c = c, .r = &r}};

    builder_begin(&p.b, index);
    place(&p);
    memset(code_at(c->start), 0xcc, CASE_BYTES_MAX);
    guest_begin(c);
    build(&p);
    bool ok = !p.broken && count_rounds(&p);
    if (ok)
        memcpy(c->bytes, code_at(c->start), c->len);
    memset(code_at(c->start), 0xcc, CASE_BYTES_MAX);
    memory_restore();
    return ok;
}
