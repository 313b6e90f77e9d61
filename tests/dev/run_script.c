/* run_script.c - runs each device script on a board of its own, as one TAP line a script */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "engine/engine.h"
#include "host/clock.h"

/* Lines that begin with `!` are for us, the host's side of the board; the rest goes to engine
 * script in pieces between them: !cpus N                   before anything else: the board has N
 * processors !uart PORT TEXT           the host sends (\n, \r and \\ are escapes); PORT 0 is
 * COM1 !uart-refused PORT N      of the last !uart, N bytes found no room !uart-ready PORT N
 * how often the port asked for more since the last such line !uart-break PORT !sent PORT TEXT
 * the guest transmitted exactly this since the last such line !expect EVENT             the
 * oldest event not yet expected: see board.c; `none` if there is none !line GSI 0|1, !msi ADDR
 * DATA, !nmi, !power-button, !reset */

struct runner {
    struct board board;
    unsigned cpus;
    unsigned acts; /* processor of the last `cpu` statement: it holds across our own lines */
    size_t refused;
    struct err err;
};

static size_t unescape(char *text)
{
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        char c = *p;
        if (c == '\\' && p[1]) {
            p++;
            c = *p == 'n' ? '\n' : *p == 'r' ? '\r' : *p;
        }
        text[n++] = c;
    }
    return n;
}

static int run_piece(struct runner *r, const char *text)
{
    struct board *b = &r->board;
    struct engine_vm_config cfg = {.mem = b->mem, .pio = b->pio, .mmio = b->mmio, .script = text,
                                   .clock = b->clock, .step = clock_step};
    struct engine_vcpu *v[VCPUS_MAX] = {NULL};
    struct vcpu_exit exit = {0};
    struct engine_vm *vm;
    int ret = engine_script.vm_create(&cfg, &vm, &r->err);
    for (unsigned i = 0; i < r->cpus && !ret; i++) {
        struct vcpu_env env = {0};
        pc_vcpu_env(b->pc, i, &env);
        ret = engine_script.vcpu_create(vm, i, &env, &v[i], &r->err);
    }
    if (!ret) {
        engine_script.vcpu_run(v[0], &exit);
        if (exit.reason != VCPU_EXIT_DONE) {
            r->err = exit.err;
            ret = -1;
        }
    }
    for (unsigned i = 0; i < r->cpus; i++)
        engine_script.vcpu_destroy(v[i]);
    engine_script.vm_destroy(vm);
    return ret;
}

static int differs(struct runner *r, unsigned line, const char *want, const char *got)
{
    return err_set(&r->err, EILSEQ, "line %u: expected %s, got %s", line, want, got);
}

static int serial_directive(struct runner *r, unsigned line, const char *verb, char *rest)
{
    struct board *b = &r->board;
    char *text, got[BOARD_SENT + 1];
    unsigned port = (unsigned)strtoul(rest, &text, 0) & 3;
    text += *text == ' ';
    if (!strcmp(verb, "uart")) {
        size_t len = unescape(text);
        r->refused = len - pc_uart_rx(b->pc, port, (const u8 *)text, len);
        return 0;
    }
    if (!strcmp(verb, "uart-break")) {
        pc_uart_break(b->pc, port);
        return 0;
    }
    if (!strcmp(verb, "sent")) {
        size_t len = unescape(text);
        memcpy(got, b->sent[port], b->n_sent[port]);
        got[b->n_sent[port]] = 0;
        bool same = len == b->n_sent[port] && !memcmp(got, text, len);
        b->n_sent[port] = 0;
        return same ? 0 : differs(r, line, text, got);
    }
    size_t n = strcmp(verb, "uart-refused") ? b->rx_ready[port] : r->refused;
    snprintf(got, sizeof(got), "%zu", n);
    if (!strcmp(verb, "uart-ready"))
        b->rx_ready[port] = 0;
    return strcmp(got, text) ? differs(r, line, text, got) : 0;
}

static int directive(struct runner *r, unsigned line, char *text)
{
    struct board *b = &r->board;
    size_t len = strcspn(text, " ");
    char *rest = text + len + (text[len] == ' '), *end;
    text[len] = 0;
    if (!strcmp(text, "expect")) {
        const char *got = board_take_event(b);
        return strcmp(got, rest) ? differs(r, line, rest, got) : 0;
    }
    if (!strcmp(text, "cpus")) {
        board_destroy(b);
        r->cpus = (unsigned)strtoul(rest, NULL, 0);
        return board_create(b, r->cpus, &r->err);
    }
    if (!strcmp(text, "line")) {
        unsigned gsi = (unsigned)strtoul(rest, &end, 0);
        pc_irq(b->pc, gsi, strtoul(end, NULL, 0));
    } else if (!strcmp(text, "msi")) {
        u64 addr = strtoull(rest, &end, 0);
        pc_msi(b->pc, addr, (u32)strtoul(end, NULL, 0));
    } else if (!strcmp(text, "nmi")) {
        pc_nmi(b->pc);
    } else if (!strcmp(text, "power-button")) {
        pc_power_button(b->pc);
    } else if (!strcmp(text, "reset")) {
        pc_reset(b->pc);
    } else {
        return serial_directive(r, line, text, rest);
    }
    return 0;
}

/* Runs text[from, to) behind as many lines as came before, so that line numbers hold. */
static int run_lines(struct runner *r, const char *from, const char *to, unsigned line)
{
    size_t len = (size_t)(to - from), room = line + len + 32;
    char *piece = malloc(room);
    if (!piece)
        return -ENOMEM;
    int head = line ? snprintf(piece, room, "cpu %u", r->acts) : 0;
    memset(piece + head, '\n', line);
    memcpy(piece + head + line, from, len);
    piece[head + line + len] = 0;
    int ret = run_piece(r, piece);
    for (const char *p = piece; (p = strstr(p, "\ncpu ")); p++)
        r->acts = (unsigned)strtoul(p + 5, NULL, 0);
    free(piece);
    return ret;
}

static int run_text(struct runner *r, const char *text)
{
    const char *piece = text;
    unsigned line = 0, piece_line = 0;
    int ret = 0;
    for (const char *p = text; *p && !ret; line++) {
        size_t len = strcspn(p, "\n");
        if (*p == '!') {
            char copy[512];
            ret = run_lines(r, piece, p, piece_line);
            snprintf(copy, sizeof(copy), "%.*s", (int)len - 1, p + 1);
            if (!ret)
                ret = directive(r, line + 1, copy);
            piece = p + len;
            piece_line = line;
        }
        p += len + (p[len] == '\n');
    }
    return ret ? ret : run_lines(r, piece, piece + strlen(piece), piece_line);
}

static int run_file(struct runner *r, const char *path)
{
    static char text[1 << 18];
    FILE *f = fopen(path, "r");
    if (!f)
        return err_set(&r->err, errno, "%s: %s", path, strerror(errno));
    size_t len = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[len] = 0;
    r->cpus = 1;
    r->acts = 0;
    int ret = board_create(&r->board, 1, &r->err);
    if (!ret)
        ret = run_text(r, text);
    board_destroy(&r->board);
    return ret;
}

/* Scripts named fail_*.script must fail with the message in their first line, behind "# ". */
static bool passed(const char *name, const char *path, int ret, const struct err *e)
{
    char want[256] = "";
    if (strncmp(name, "fail_", 5))
        return ret == 0;
    FILE *f = fopen(path, "r");
    if (f) {
        if (!fgets(want, sizeof(want), f))
            want[0] = 0;
        fclose(f);
    }
    want[strcspn(want, "\n")] = 0;
    return ret && !strcmp(want + 2, e->msg);
}

int main(int argc, char **argv)
{
    int failed = 0;
    printf("TAP version 13\n1..%d\n", argc - 1);
    for (int i = 1; i < argc; i++) {
        struct runner r;
        const char *name = strrchr(argv[i], '/');
        name = name ? name + 1 : argv[i];
        memset(&r, 0, sizeof(r));
        int ret = run_file(&r, argv[i]);
        bool ok = passed(name, argv[i], ret, &r.err);
        printf("%sok %d - %s\n", ok ? "" : "not ", i, name);
        if (!ok)
            printf("# %s\n", ret ? r.err.msg : "it did not fail");
        failed += !ok;
    }
    return failed != 0;
}
