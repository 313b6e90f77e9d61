/* parse.c - the language of device scripts: one statement a line */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/script/script.h"

/*   # comment
 *   outb|outw|outl PORT VALUE             port write
 *   inb|inw|inl PORT [& MASK] [OP VALUE]  port read
 *   writeb|w|l|q ADDR VALUE               MMIO write
 *   readb|w|l|q ADDR [& MASK] [OP VALUE]  MMIO read
 *   mem ADDR = BYTE...                    guest memory, bytes in hex
 *   mem ADDR == BYTE...
 *   step TIME                             10ns, 5us, 1ms, 2s: moves the clock
 *   irq|nmi [OP VALUE]                    is an interrupt deliverable; is an NMI latched (taken)
 *   ack [OP VECTOR|-1]                    acknowledges an interrupt
 *   rdmsr MSR [& MASK] [OP VALUE] | rdmsr MSR fails
 *   wrmsr MSR VALUE [fails]
 *   cr8 = VALUE | cr8 OP VALUE, tsc OP VALUE, ferr 0|1
 *   cpu N                                 the vCPU that acts from here on
 *   repeat N ... end
 * OP is == != < <= > >=, unsigned. Numbers are decimal or 0x hex. */

#define LINE_MAX_BYTES 1024
#define WORDS_MAX      72
#define OPS_MAX        100000u
#define NEST_MAX       8

struct parser {
    struct program *p;
    u32 cap;
    u32 line;
    char buf[LINE_MAX_BYTES];
    char *word[WORDS_MAX + 1]; /* NULL behind the last */
    unsigned at;               /* next word */
    u32 open[NEST_MAX];        /* indices of repeats without an end yet */
    unsigned depth;
    struct err *e;
};

static int bad(struct parser *ps, const char *what)
{
    const char *word = ps->word[0] ? ps->word[0] : "";
    return err_set(ps->e, EINVAL, "line %u: %s: %s", ps->line, word, what);
}

static const char *peek(const struct parser *ps)
{
    return ps->word[ps->at];
}

static bool take(struct parser *ps, const char *word)
{
    if (!peek(ps) || strcmp(peek(ps), word))
        return false;
    ps->at++;
    return true;
}

static int number(struct parser *ps, u64 *val)
{
    const char *w = peek(ps);
    char *end;
    if (!w)
        return bad(ps, "a number is missing");
    errno = 0;
    *val = strtoull(w, &end, 0);
    if (errno || *end || end == w)
        return err_set(ps->e, EINVAL, "line %u: %s: %s is not a number", ps->line, ps->word[0], w);
    ps->at++;
    return 0;
}

/* A number with its unit directly behind it. */
static int duration(struct parser *ps, u64 *ns)
{
    static const struct {
        const char *unit;
        u64 ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    const char *w = peek(ps);
    char *end;
    if (!w || !isdigit((unsigned char)*w))
        return bad(ps, "a time like 10us is missing");
    u64 n = strtoull(w, &end, 0);
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (strcmp(end, units[i].unit))
            continue;
        ps->at++;
        return __builtin_mul_overflow(n, units[i].ns, ns) ? bad(ps, "the time is too long") : 0;
    }
    return bad(ps, "the time needs a unit: ns, us, ms or s");
}

/* [& MASK] [OP VALUE] */
static int comparison(struct parser *ps, struct op *op)
{
    static const char *const names[] = {[CMP_EQ] = "==", [CMP_NE] = "!=", [CMP_LT] = "<",
                                        [CMP_LE] = "<=", [CMP_GT] = ">",  [CMP_GE] = ">="};
    op->mask = UINT64_MAX;
    if (take(ps, "&")) {
        int ret = number(ps, &op->mask);
        if (ret)
            return ret;
    }
    for (u8 i = CMP_EQ; i <= CMP_GE; i++) {
        if (!take(ps, names[i]))
            continue;
        op->compare = i;
        return number(ps, &op->val);
    }
    return 0;
}

static int bytes(struct parser *ps, struct op *op)
{
    op->bytes = malloc(WORDS_MAX);
    if (!op->bytes)
        return err_set(ps->e, ENOMEM, "line %u: no memory", ps->line);
    for (; peek(ps); ps->at++) {
        char *end;
        unsigned long b = strtoul(peek(ps), &end, 16);
        if (*end || end == peek(ps) || b > 0xff)
            return bad(ps, "bytes are two hex digits each");
        op->bytes[op->n_bytes++] = (u8)b;
    }
    return op->n_bytes ? 0 : bad(ps, "bytes are missing");
}

static int mem_statement(struct parser *ps, struct op *op)
{
    int ret = number(ps, &op->addr);
    if (ret)
        return ret;
    if (take(ps, "="))
        op->kind = OP_MEM_SET;
    else if (take(ps, "=="))
        op->kind = OP_MEM_CHECK;
    else
        return bad(ps, "= or == is missing");
    return bytes(ps, op);
}

static int msr_statement(struct parser *ps, struct op *op)
{
    int ret = number(ps, &op->addr);
    if (!ret && op->kind == OP_WRMSR)
        ret = number(ps, &op->val);
    if (ret)
        return ret;
    op->fails = take(ps, "fails");
    return op->kind == OP_RDMSR && !op->fails ? comparison(ps, op) : 0;
}

static int access_statement(struct parser *ps, struct op *op)
{
    int ret = number(ps, &op->addr);
    if (ret)
        return ret;
    return op->kind == OP_OUT || op->kind == OP_WRITE ? number(ps, &op->val) : comparison(ps, op);
}

static int repeat_statement(struct parser *ps, struct op *op)
{
    if (ps->depth == NEST_MAX)
        return bad(ps, "nested too deeply");
    ps->open[ps->depth++] = ps->p->n;
    return number(ps, &op->val);
}

static int end_statement(struct parser *ps, struct op *op)
{
    if (!ps->depth)
        return bad(ps, "no repeat is open");
    op->addr = ps->open[--ps->depth];
    ps->p->op[op->addr].addr = ps->p->n;
    return 0;
}

/* outb, inl, readq...: the last letter is the size. */
static bool access_word(const char *w, struct op *op)
{
    static const struct {
        const char *name;
        u8 kind;
        const char *sizes;
    } kinds[] = {{"in", OP_IN, "bwl"},
                 {"out", OP_OUT, "bwl"},
                 {"read", OP_READ, "bwlq"},
                 {"write", OP_WRITE, "bwlq"}};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        size_t len = strlen(kinds[i].name);
        const char *size;
        if (strncmp(w, kinds[i].name, len) || !w[len] || w[len + 1])
            continue;
        size = strchr(kinds[i].sizes, w[len]);
        if (!size)
            return false;
        op->kind = kinds[i].kind;
        op->size = (u8)(1u << (size - kinds[i].sizes));
        return true;
    }
    return false;
}

static int statement(struct parser *ps, struct op *op)
{
    const char *w = ps->word[ps->at++];
    static const struct {
        const char *name;
        u8 kind;
        int (*parse)(struct parser *ps, struct op *op);
    } words[] = {
        {"mem", OP_MEM_SET, mem_statement}, {"irq", OP_IRQ, comparison},
        {"ack", OP_ACK, comparison},        {"nmi", OP_NMI, comparison},
        {"rdmsr", OP_RDMSR, msr_statement}, {"wrmsr", OP_WRMSR, msr_statement},
        {"tsc", OP_TSC, comparison},        {"repeat", OP_REPEAT, repeat_statement},
        {"end", OP_END, end_statement},
    };
    if (access_word(w, op))
        return access_statement(ps, op);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        op->kind = words[i].kind;
        if (!strcmp(w, words[i].name))
            return words[i].parse(ps, op);
    }
    if (!strcmp(w, "cr8")) {
        op->kind = take(ps, "=") ? OP_CR8_SET : OP_CR8;
        return op->kind == OP_CR8 ? comparison(ps, op) : number(ps, &op->val);
    }
    if (!strcmp(w, "step")) {
        op->kind = OP_STEP;
        return duration(ps, &op->val);
    }
    if (strcmp(w, "ferr") && strcmp(w, "cpu"))
        return bad(ps, "no such statement");
    op->kind = *w == 'f' ? OP_FERR : OP_CPU;
    return number(ps, &op->val);
}

static int grow(struct parser *ps)
{
    struct op *more;
    if (ps->p->n < ps->cap)
        return 0;
    if (ps->p->n >= OPS_MAX)
        return bad(ps, "the script is too long");
    ps->cap = ps->cap ? ps->cap * 2 : 64;
    more = realloc(ps->p->op, ps->cap * sizeof(*more));
    if (!more)
        return err_set(ps->e, ENOMEM, "line %u: no memory", ps->line);
    ps->p->op = more;
    return 0;
}

static int split(struct parser *ps)
{
    char *save = NULL;
    unsigned n = 0;
    ps->buf[strcspn(ps->buf, "#\r")] = 0;
    for (char *w = strtok_r(ps->buf, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        if (n == WORDS_MAX)
            return err_set(ps->e, EINVAL, "line %u: too many words", ps->line);
        ps->word[n++] = w;
    }
    ps->word[n] = NULL;
    ps->at = 0;
    return 0;
}

static int parse_line(struct parser *ps)
{
    int ret = split(ps);
    if (ret || !ps->word[0])
        return ret;
    ret = grow(ps);
    if (ret)
        return ret;
    struct op *op = &ps->p->op[ps->p->n];
    memset(op, 0, sizeof(*op));
    op->line = ps->line;
    ret = statement(ps, op);
    ps->p->n++; /* also on failure, so that its bytes are freed */
    if (!ret && peek(ps))
        ret = err_set(ps->e, EINVAL, "line %u: %s: unexpected %s", ps->line, ps->word[0], peek(ps));
    return ret;
}

void script_free(struct program *p)
{
    for (u32 i = 0; i < p->n; i++)
        free(p->op[i].bytes);
    free(p->op);
    *p = (struct program){0};
}

int script_parse(const char *text, struct program *p, struct err *e)
{
    struct parser ps = {.p = p, .e = e};
    int ret = 0;
    *p = (struct program){0};
    while (*text && !ret) {
        size_t len = strcspn(text, "\n");
        ps.line++;
        if (len >= sizeof(ps.buf)) {
            ret = err_set(e, EINVAL, "line %u: longer than %zu bytes", ps.line, sizeof(ps.buf) - 1);
            break;
        }
        memcpy(ps.buf, text, len);
        ps.buf[len] = 0;
        ret = parse_line(&ps);
        text += len + (text[len] == '\n');
    }
    if (!ret && ps.depth)
        ret = err_set(e, EINVAL, "line %u: repeat without end", p->op[ps.open[ps.depth - 1]].line);
    if (ret)
        script_free(p);
    return ret;
}
