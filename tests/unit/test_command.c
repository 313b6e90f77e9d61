/* test_command.c - the host's side of a command: against scripted bytes, and against the real agent
 *
 * RING3_AGENT names the agent's program; without it the conversations with it are skipped.
 */
#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "agent/frame.h"
#include "ctl/agent.h"

#define OUT_MAX (1 << 20)

struct talk {
    struct agent *a;
    int fd; /* the real agent's stream, or -1: what is sent lands in `sent` */
    size_t send_limit, output_limit; /* bytes one callback takes; 0 = all */
    u8 sent[65536];
    size_t sent_len;
    char out[2][OUT_MAX];
    size_t out_len[2];
    unsigned ready, done, input_room;
};

static size_t limit(size_t len, size_t max)
{
    return max && len > max ? max : len;
}

static size_t on_send(void *ctx, const u8 *data, size_t len)
{
    struct talk *t = ctx;
    ssize_t n;

    len = limit(len, t->send_limit);
    if (t->fd < 0) {
        assert_true(len <= sizeof(t->sent) - t->sent_len);
        memcpy(t->sent + t->sent_len, data, len);
        t->sent_len += len;
        return len;
    }
    n = write(t->fd, data, len);
    return n < 0 ? 0 : (size_t)n;
}

static size_t on_output(void *ctx, enum agent_stream stream, const u8 *data, size_t len)
{
    struct talk *t = ctx;

    len = limit(len, t->output_limit);
    assert_true(t->out_len[stream] + len < OUT_MAX);
    memcpy(t->out[stream] + t->out_len[stream], data, len);
    t->out_len[stream] += len;
    t->out[stream][t->out_len[stream]] = '\0';
    return len;
}

static void on_input_room(void *ctx)
{
    ((struct talk *)ctx)->input_room++;
}

static void on_ready(void *ctx)
{
    ((struct talk *)ctx)->ready++;
}

static void on_done(void *ctx)
{
    ((struct talk *)ctx)->done++;
}

static struct talk *begin(const struct agent_command *cmd)
{
    struct talk *t = calloc(1, sizeof(*t));
    struct agent_ops ops = {on_send, on_output, on_input_room, on_ready, on_done, t};
    struct err e = {0};

    t->fd = -1;
    assert_ok(agent_create(&t->a, cmd, &ops, &e), e);
    return t;
}

static void end(struct talk *t)
{
    if (t->fd >= 0)
        close(t->fd);
    agent_destroy(t->a);
    free(t);
}

static void receive(struct talk *t, const void *data, size_t len)
{
    assert_int_equal(agent_receive(t->a, data, len), len);
}

static void frame(struct talk *t, u8 type, const void *payload, size_t len)
{
    u8 buf[PROTO_FRAME_MAX];

    receive(t, buf, frame_encode(buf, sizeof(buf), type, payload, len));
}

static void frame32(struct talk *t, u8 type, u32 value)
{
    u8 payload[4];

    frame_put32(payload, value);
    frame(t, type, payload, 4);
}

static void greet(struct talk *t, u32 credit)
{
    static const u8 hello[] = {1, 0, 0, 0, 0, 0, 0, 0};

    receive(t, "noise" PROTO_SYNC, 5 + strlen(PROTO_SYNC));
    frame(t, PROTO_READY, hello, sizeof(hello));
    frame32(t, PROTO_CREDIT, credit);
}

static struct agent_result result(struct talk *t)
{
    struct agent_result r;

    agent_result(t->a, &r);
    return r;
}

static const char *const argv_true[] = {"true", NULL};

/* ---- scripted ---- */

static void sends_command(void **state)
{
    static const char *const argv[] = {"echo", "a b", "", NULL}, *const env[] = {"A=1", NULL};
    struct agent_command cmd = {
        .argv = argv, .env = env, .cwd = "/tmp", .tty = true, .rows = 24, .cols = 80};
    struct talk *t = begin(&cmd);
    struct frame_parser p;
    const u8 *data = t->sent;
    size_t len;
    struct proto_exec exec;
    struct frame f;

    greet(t, PROTO_WINDOW);
    assert_int_equal(t->ready, 1);
    frame_parser_init(&p, false);
    len = t->sent_len;
    assert_int_equal(frame_parse(&p, &data, &len, &f), 1);
    assert_int_equal(f.type, PROTO_SPEC);
    assert_int_equal(f.len, 5 + 5 + 4 + 1 + 4);
    assert_memory_equal(f.payload, "/tmp\0echo\0a b\0\0A=1", 19);
    assert_int_equal(frame_parse(&p, &data, &len, &f), 1);
    assert_int_equal(f.type, PROTO_EXEC);
    assert_int_equal(frame_get_exec(&f, &exec), 0);
    assert_true(exec.flags == PROTO_EXEC_TTY && exec.argc == 3 && exec.envc == 1);
    assert_true(exec.rows == 24 && exec.cols == 80);
    assert_int_equal(len, 0);
    end(t);
}

static void keeps_to_credit(void **state)
{
    static char longer[6000];
    static const u8 input[AGENT_INPUT_MAX];
    const char *const argv[] = {"cat", longer, NULL};
    struct agent_command cmd = {.argv = argv};
    struct talk *t;

    memset(longer, 'x', sizeof(longer) - 1);
    t = begin(&cmd);
    greet(t, 1000);
    assert_int_equal(t->sent_len, 1000 + 4);
    assert_int_equal(agent_input_room(t->a), 0);
    assert_false(agent_signal(t->a, SIGINT));
    frame32(t, PROTO_CREDIT, 6000);
    assert_int_equal(t->sent_len, 1 + 4 + 6000 + 3 * 4 + 4 + PROTO_EXEC_SIZE);
    assert_int_equal(agent_input_room(t->a), 995);
    agent_input(t->a, input, 995);
    assert_int_equal(agent_input_room(t->a), 0);
    t->input_room = 0;
    frame32(t, PROTO_CREDIT, 8192);
    assert_int_equal(t->input_room, 1);
    assert_int_equal(agent_input_room(t->a), AGENT_INPUT_MAX);
    end(t);
}

/* Several transports: the greeting shows on which one the agent is, also in pieces. */
static void hears_the_agent(void **state)
{
    static const char text[] = "noise\n\nR3AG\nR3AGENT1\nafter";
    const size_t last = sizeof(text) - 1 - 5;
    struct agent_ear ear = {0};
    const char *argv[] = {"true", NULL};
    struct agent_command cmd = {.argv = argv};
    struct talk *t = begin(&cmd);
    static const u8 hello[] = {1, 0, 0, 0, 0, 0, 0, 0};
    size_t used = 0;

    assert_true(agent_hear(&ear, (const u8 *)text, sizeof(text) - 1, &used));
    assert_int_equal(used, last);
    for (size_t i = 0; i < last; i++)
        assert_int_equal(agent_hear(&ear, (const u8 *)text + i, 1, &used), i == last - 1);
    assert_int_equal(used, 1);
    agent_greeted(t->a);
    frame(t, PROTO_READY, hello, sizeof(hello));
    assert_int_equal(t->ready, 1);
    end(t);
}

static void transport_stalls(void **state)
{
    static const u8 input[3000];
    struct agent_command cmd = {.argv = argv_true};
    struct talk *t = begin(&cmd);

    greet(t, PROTO_WINDOW);
    t->send_limit = 1;
    t->sent_len = 0;
    for (int i = 0; i < 2; i++)
        agent_input(t->a, input, sizeof(input));
    assert_true(agent_signal(t->a, SIGINT));
    agent_input_eof(t->a);
    t->send_limit = 7;
    while (t->sent_len < 2 * 3004 + 5 + 4)
        agent_transport_room(t->a);
    agent_transport_room(t->a);
    assert_int_equal(t->sent_len, 2 * 3004 + 5 + 4);
    assert_int_equal(t->sent[2 * 3004 + 1], PROTO_SIGNAL);
    assert_int_equal(t->sent[2 * 3004 + 5 + 1], PROTO_STDIN_EOF);
    end(t);
}

static void output_stalls(void **state)
{
    static const u8 exited[] = {PROTO_EXITED, 3, 0, 0, 0};
    struct agent_command cmd = {.argv = argv_true};
    struct talk *t = begin(&cmd);
    u8 buf[100];
    size_t len, took = 0, stalls = 0;

    greet(t, PROTO_WINDOW);
    t->output_limit = 2;
    len = frame_encode(buf, sizeof(buf), PROTO_STDOUT, "stalled output", 14);
    len += frame_encode(buf + len, sizeof(buf) - len, PROTO_STDERR, "more", 4);
    len += frame_encode(buf + len, sizeof(buf) - len, PROTO_EXIT, exited, sizeof(exited));
    while (took < len) {
        took += agent_receive(t->a, buf + took, len - took);
        stalls += took < len;
    }
    assert_true(stalls >= 5);
    assert_string_equal(t->out[0], "stalled output");
    assert_string_equal(t->out[1], "more");
    assert_int_equal(t->done, 1);
    assert_int_equal(result(t).phase, AGENT_ENDED);
    assert_int_equal(result(t).status, 3);
    end(t);
}

static void exits(void **state)
{
    static const struct {
        u8 kind;
        u32 value;
        int status; /* -1: broken */
        bool message;
    } rows[] = {
        {PROTO_EXITED, 0, 0, false},       {PROTO_EXITED, 255, 255, false},
        {PROTO_SIGNALED, 9, 137, false},   {PROTO_FAILED, ENOENT, 127, true},
        {PROTO_FAILED, EACCES, 126, true}, {PROTO_UNSTARTED, ENOENT, 126, true},
        {PROTO_SIGNALED, 4000, -1, true},  {9, 0, -1, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct agent_command cmd = {.argv = argv_true};
        struct talk *t = begin(&cmd);
        struct agent_result r;
        u8 payload[PROTO_EXIT_SIZE] = {rows[i].kind};

        frame_put32(payload + 1, rows[i].value);
        greet(t, PROTO_WINDOW);
        frame(t, PROTO_EXIT, payload, sizeof(payload));
        r = result(t);
        assert_int_equal(t->done, 1);
        assert_int_equal(r.phase, rows[i].status < 0 ? AGENT_BROKEN : AGENT_ENDED);
        if (rows[i].status >= 0)
            assert_int_equal(r.status, rows[i].status);
        assert_int_equal(*r.err.msg != '\0', rows[i].message);
        frame(t, PROTO_STDOUT, "late", 4); /* swallowed */
        assert_int_equal(t->out_len[0], 0);
        assert_int_equal(t->done, 1);
        end(t);
    }
}

static void breaches(void **state)
{
    static const u8 hello[] = {1, 0, 0, 0, 0, 0, 0, 0}, newer[] = {2, 0, 0, 0, 0, 0, 0, 0};
    static const struct {
        u8 type;
        const void *payload;
        size_t len;
    } rows[] = {
        {PROTO_READY, hello, 8},
        {PROTO_CREDIT, "\1\0\0", 3},
        {PROTO_CREDIT, "\0\0\0\0", 4},
        {PROTO_CREDIT, "\1\0\0\0", 4},
        {0x7f, "", 0},
        {PROTO_STDIN, "x", 1},
        {PROTO_EXIT, "", 0},
    };
    struct agent_command cmd = {.argv = argv_true};
    struct talk *t;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        t = begin(&cmd);
        greet(t, PROTO_WINDOW - 5);
        frame32(t, PROTO_CREDIT, 11); /* the specification took six */
        frame(t, rows[i].type, rows[i].payload, rows[i].len);
        assert_int_equal(result(t).phase, AGENT_BROKEN);
        assert_int_equal(t->done, 1);
        end(t);
    }
    t = begin(&cmd);
    receive(t, PROTO_SYNC, strlen(PROTO_SYNC));
    frame(t, PROTO_READY, newer, sizeof(newer));
    assert_non_null(strstr(result(t).err.msg, "version 2"));
    end(t);
    t = begin(&cmd);
    greet(t, 100);
    receive(t, "garbage", 7);
    assert_int_equal(result(t).phase, AGENT_BROKEN);
    end(t);
}

static void too_long(void **state)
{
    char *big = malloc(PROTO_SPEC_MAX + 1);
    const char *const argv[] = {"x", big, NULL};
    struct agent_command cmd = {.argv = argv};
    struct agent_ops ops = {on_send, on_output, on_input_room, on_ready, on_done, NULL};
    struct agent *a;
    struct err e;

    memset(big, 'x', PROTO_SPEC_MAX);
    big[PROTO_SPEC_MAX] = '\0';
    assert_refused(agent_create(&a, &cmd, &ops, &e), E2BIG, e, "longer");
    free(big);
}

/* ---- the real agent ---- */

static void serve(struct talk *t)
{
    const char *program = getenv("RING3_AGENT");
    char number[16];
    int pair[2];

    if (!program)
        skip();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    if (fork() == 0) {
        close(pair[0]);
        snprintf(number, sizeof(number), "%d", pair[1]);
        execl(program, program, "--serve", number, (char *)NULL);
        _exit(99);
    }
    close(pair[1]);
    t->fd = pair[0];
    fcntl(t->fd, F_SETFL, O_NONBLOCK);
}

/* Carries bytes until the conversation is over; feeds `input` as there is room. */
static void converse(struct talk *t, const u8 *input, size_t len)
{
    static u8 buf[8192];
    size_t have = 0;
    bool eof = false;

    while (!t->done) {
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        size_t room = agent_input_room(t->a), n = MIN(room, len);
        ssize_t got;

        if (n) {
            agent_input(t->a, input, n);
            input += n;
            len -= n;
        } else if (room && !len && !eof) {
            agent_input_eof(t->a);
            eof = true;
        }
        agent_transport_room(t->a);
        if (have == 0)
            poll(&p, 1, 20);
        got = have < sizeof(buf) ? read(t->fd, buf + have, sizeof(buf) - have) : 0;
        have += got > 0 ? (size_t)got : 0;
        n = agent_receive(t->a, buf, have);
        memmove(buf, buf + n, have - n);
        have -= n;
        if (got == 0 && have == 0 && !t->done)
            fail_msg("the agent hung up");
    }
}

static void real_echo(void **state)
{
    static const char *const argv[] = {"/bin/sh", "-c",
                                       "echo out; echo err >&2; pwd; echo $A; exit 7", NULL};
    static const char *const env[] = {"A=b c", NULL};
    struct agent_command cmd = {.argv = argv, .env = env, .cwd = "/usr"};
    struct talk *t = begin(&cmd);

    serve(t);
    converse(t, NULL, 0);
    assert_string_equal(t->out[0], "out\n/usr\nb c\n");
    assert_string_equal(t->out[1], "err\n");
    assert_int_equal(result(t).status, 7);
    end(t);
}

static void real_bulk(void **state)
{
    static const char *const argv[] = {"/bin/cat", NULL};
    struct agent_command cmd = {.argv = argv};
    struct talk *t = begin(&cmd);
    u8 *bulk = malloc(300000);

    for (size_t i = 0; i < 300000; i++)
        bulk[i] = (u8)(i * 2654435761u >> 13);
    t->output_limit = 1000;
    t->send_limit = 777;
    serve(t);
    converse(t, bulk, 300000);
    assert_int_equal(t->out_len[0], 300000);
    assert_memory_equal(t->out[0], bulk, 300000);
    assert_int_equal(result(t).status, 0);
    free(bulk);
    end(t);
}

static void real_failures(void **state)
{
    static const char *const missing[] = {"/nonexistent/x", NULL}, *const dir[] = {"/tmp", NULL};
    static const char *const killed[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
    static const struct {
        const char *const *argv;
        int status;
    } rows[] = {{missing, 127}, {dir, 126}, {killed, 137}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct agent_command cmd = {.argv = rows[i].argv};
        struct talk *t = begin(&cmd);

        serve(t);
        converse(t, NULL, 0);
        assert_int_equal(result(t).status, rows[i].status);
        end(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_command),
        cmocka_unit_test(keeps_to_credit),
        cmocka_unit_test(hears_the_agent),
        cmocka_unit_test(transport_stalls),
        cmocka_unit_test(output_stalls),
        cmocka_unit_test(exits),
        cmocka_unit_test(breaches),
        cmocka_unit_test(too_long),
        cmocka_unit_test(real_echo),
        cmocka_unit_test(real_bulk),
        cmocka_unit_test(real_failures),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
