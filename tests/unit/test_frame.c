/* test_frame.c - the agent's frames: round trips, arbitrary splits, refusals */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/frame.h"

static void feed(struct frame_parser *parser, const void *bytes, size_t size, int expected)
{
    const uint8_t *data = bytes;
    struct frame frame;

    assert_int_equal(frame_parse(parser, &data, &size, &frame), expected);
}

static void encodes_header_little_endian(void **state)
{
    uint8_t out[16];
    const uint8_t want[] = {0xA3, PROTO_STDIN, 3, 0, 'a', 'b', 'c'};

    (void)state;
    assert_int_equal(frame_encode(out, sizeof(out), PROTO_STDIN, "abc", 3), sizeof(want));
    assert_memory_equal(out, want, sizeof(want));
}

static void encode_refuses_what_does_not_fit(void **state)
{
    static uint8_t out[PROTO_FRAME_MAX + 8];
    static uint8_t payload[PROTO_PAYLOAD_MAX + 1];

    (void)state;
    assert_int_equal(frame_encode(out, 6, PROTO_STDIN, "abc", 3), 0);
    assert_int_equal(frame_encode(out, 7, PROTO_STDIN, "abc", 3), 7);
    assert_int_equal(frame_encode(out, 4, PROTO_STDIN_EOF, NULL, 0), 4);
    assert_int_equal(frame_encode(out, 3, PROTO_STDIN_EOF, NULL, 0), 0);
    assert_int_equal(frame_encode(out, sizeof(out), PROTO_STDIN, payload, PROTO_PAYLOAD_MAX),
                     PROTO_FRAME_MAX);
    assert_int_equal(frame_encode(out, sizeof(out), PROTO_STDIN, payload, sizeof(payload)), 0);
}

/* Three frames, the longest among them, cut into pieces of every size from 1 to 97. */
static void parses_any_split(void **state)
{
    static uint8_t payload[PROTO_PAYLOAD_MAX];
    static uint8_t stream[2 * PROTO_FRAME_MAX];
    const uint16_t lens[] = {0, PROTO_PAYLOAD_MAX, 5};
    const uint8_t types[] = {PROTO_STDIN_EOF, PROTO_STDOUT, PROTO_EXIT};
    size_t total = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 7 + (i >> 8));
    for (size_t i = 0; i < 3; i++)
        total += frame_encode(stream + total, sizeof(stream) - total, types[i], payload, lens[i]);

    for (size_t piece = 1; piece < 98; piece++) {
        struct frame_parser parser;
        size_t seen = 0;

        frame_parser_init(&parser, false);
        for (size_t at = 0; at < total; at += piece) {
            const uint8_t *data = stream + at;
            size_t size = total - at < piece ? total - at : piece;
            struct frame frame;

            while (frame_parse(&parser, &data, &size, &frame) == 1) {
                assert_true(seen < 3);
                assert_int_equal(frame.type, types[seen]);
                assert_int_equal(frame.len, lens[seen]);
                assert_memory_equal(frame.payload, payload, frame.len);
                seen++;
            }
            assert_int_equal(size, 0);
        }
        assert_int_equal(seen, 3);
    }
}

static void refuses_magic_at_the_first_byte(void **state)
{
    struct frame_parser parser;
    const uint8_t good[] = {PROTO_MAGIC, PROTO_STDIN_EOF, 0, 0};

    (void)state;
    frame_parser_init(&parser, false);
    feed(&parser, "\xA2", 1, -EPROTO);
    feed(&parser, good, sizeof(good), -EPROTO); /* broken for good */
    feed(&parser, NULL, 0, -EPROTO);
}

static void refuses_length_in_the_header(void **state)
{
    struct frame_parser parser;
    const uint8_t longest[] = {PROTO_MAGIC, PROTO_STDIN, 0x00, 0x10};
    const uint8_t longer[] = {PROTO_MAGIC, PROTO_STDIN, 0x01, 0x10};

    (void)state;
    frame_parser_init(&parser, false);
    feed(&parser, longest, sizeof(longest), 0);
    frame_parser_init(&parser, false);
    feed(&parser, longer, sizeof(longer), -EPROTO);
}

static void discards_until_sync(void **state)
{
    static const char noise[] = "boot\xA3\n\nR3AGENT2\n\nR3AG\nR3AGENT1\n";
    const uint8_t ready[] = {PROTO_MAGIC, PROTO_READY, 0, 0};

    (void)state;
    for (size_t piece = 1; piece < sizeof(noise); piece++) {
        struct frame_parser parser;

        frame_parser_init(&parser, true);
        for (size_t at = 0; at < sizeof(noise) - 1; at += piece) {
            size_t left = sizeof(noise) - 1 - at;

            feed(&parser, noise + at, left < piece ? left : piece, 0);
        }
        assert_false(parser.seeking);
        feed(&parser, ready, sizeof(ready), 1);
    }
}

static void exec_round_trip(void **state)
{
    const struct proto_exec exec = {PROTO_EXEC_TTY, 24, 80, 0x1234, 0xFFFF};
    struct proto_exec got;
    uint8_t bytes[PROTO_EXEC_SIZE + 1];
    struct frame frame = {PROTO_EXEC, PROTO_EXEC_SIZE, bytes};

    (void)state;
    frame_put_exec(bytes, &exec);
    assert_int_equal(frame_get_exec(&frame, &got), 0);
    assert_memory_equal(&exec, &got, sizeof(exec));

    frame.len = PROTO_EXEC_SIZE - 1;
    assert_int_equal(frame_get_exec(&frame, &got), -EPROTO);
    frame.len = PROTO_EXEC_SIZE + 1;
    assert_int_equal(frame_get_exec(&frame, &got), -EPROTO);
    frame.len = PROTO_EXEC_SIZE;
    bytes[0] |= 0x80; /* an unknown flag */
    assert_int_equal(frame_get_exec(&frame, &got), -EPROTO);
    bytes[0] = PROTO_EXEC_TTY;
    bytes[8] = bytes[9] = 0; /* no arguments */
    assert_int_equal(frame_get_exec(&frame, &got), -EPROTO);
}

static void exit_round_trip(void **state)
{
    uint8_t bytes[PROTO_EXIT_SIZE];
    struct frame frame = {PROTO_EXIT, PROTO_EXIT_SIZE, bytes};
    enum proto_exit kind;
    uint32_t value;

    (void)state;
    frame_put_exit(bytes, PROTO_SIGNALED, 0x80000009u);
    assert_int_equal(frame_get_exit(&frame, &kind, &value), 0);
    assert_int_equal(kind, PROTO_SIGNALED);
    assert_int_equal(value, 0x80000009u);
    bytes[0] = PROTO_UNSTARTED + 1;
    assert_int_equal(frame_get_exit(&frame, &kind, &value), -EPROTO);
    bytes[0] = PROTO_EXITED;
    frame.len = PROTO_EXIT_SIZE - 1;
    assert_int_equal(frame_get_exit(&frame, &kind, &value), -EPROTO);
}

/* Random bytes: every call ends, takes no more than it was given and fails for good or never. */
static void random_bytes_never_escape(void **state)
{
    uint64_t seed = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct frame_parser parser;
        uint8_t bytes[64];
        const uint8_t *data = bytes;
        size_t size = sizeof(bytes);
        struct frame frame;
        int got;

        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes[i] = (i & 3) == 0 ? PROTO_MAGIC : (uint8_t)(seed & 7);
        }
        frame_parser_init(&parser, false);
        while ((got = frame_parse(&parser, &data, &size, &frame)) == 1)
            assert_true(frame.len <= PROTO_PAYLOAD_MAX);
        assert_true(got == 0 ? size == 0 : got == -EPROTO);
        assert_true(size <= sizeof(bytes) && data == bytes + sizeof(bytes) - size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_header_little_endian),
        cmocka_unit_test(encode_refuses_what_does_not_fit),
        cmocka_unit_test(parses_any_split),
        cmocka_unit_test(refuses_magic_at_the_first_byte),
        cmocka_unit_test(refuses_length_in_the_header),
        cmocka_unit_test(discards_until_sync),
        cmocka_unit_test(exec_round_trip),
        cmocka_unit_test(exit_round_trip),
        cmocka_unit_test(random_bytes_never_escape),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
