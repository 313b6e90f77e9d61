/* test_chardev.c - byte streams: both directions, back-pressure, ends that go away */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "unit.h"

#include "host/chardev.h"
#include "host/file.h"
#include "host/loop.h"

/* A device: takes up to `room` bytes, notes what happens, stops the loop when `until` came true. */
struct dev {
    struct loop *l;
    struct chardev *c;
    struct err e;
    u8 in[1 << 17];
    size_t in_len, room;
    unsigned writable, eof, broken;
};

static size_t can_receive(void *arg)
{
    return ((struct dev *)arg)->room;
}

static void receive(void *arg, const u8 *data, size_t len)
{
    struct dev *d = arg;

    assert_true(len > 0 && len <= d->room && d->in_len + len <= sizeof(d->in));
    memcpy(d->in + d->in_len, data, len);
    d->in_len += len;
    d->room -= len;
}

static void writable(void *arg)
{
    ((struct dev *)arg)->writable++;
}

static void event(void *arg, enum chardev_event ev)
{
    struct dev *d = arg;

    if (ev == CHARDEV_EOF)
        d->eof++;
    else
        d->broken++;
}

static int setup(void **state)
{
    struct dev *d = calloc(1, sizeof(*d));

    assert_ok(loop_create(&d->l, NULL, &d->e), d->e);
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct dev *d = *state;

    chardev_close(d->c, 0);
    loop_destroy(d->l);
    free(d);
    return 0;
}

static void connect_dev(struct dev *d)
{
    struct chardev_user u = {can_receive, receive, writable, event, d};

    chardev_connect(d->c, &u);
}

static void stop(void *arg)
{
    loop_stop(arg);
}

/* Lets the loop go round until nothing that is ready is left (the count is generous). */
static void spin(struct dev *d)
{
    for (unsigned i = 0; i < 80; i++) {
        assert_int_equal(loop_post(d->l, stop, d->l), 0);
        assert_int_equal(loop_run(d->l), 0);
    }
}

static void test_pipe_both_ways(void **state)
{
    struct dev *d = *state;
    char back[16] = {0};
    int in[2], out[2];

    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    assert_ok(chardev_open_fds(&d->c, d->l, in[0], out[1], &d->e), d->e);
    assert_false(fcntl(in[0], F_GETFL) & O_NONBLOCK); /* shared flags stay as they are */
    assert_false(fcntl(out[1], F_GETFL) & O_NONBLOCK);
    d->room = 3;
    assert_int_equal(write(in[1], "abcdef", 6), 6);
    spin(d);
    assert_int_equal(d->in_len, 0); /* nobody is connected */
    connect_dev(d);
    spin(d);
    assert_int_equal(d->in_len, 3);
    d->room = 10;
    spin(d);
    assert_int_equal(d->in_len, 3); /* a full device is not asked again by itself */
    chardev_accept(d->c);
    spin(d);
    assert_memory_equal(d->in, "abcdef", 6);
    assert_int_equal(write(in[1], "g", 1), 1);
    spin(d);
    assert_int_equal(d->in_len, 7);
    assert_int_equal(chardev_write(d->c, (const u8 *)"out", 3), 3);
    spin(d);
    assert_int_equal(read(out[0], back, sizeof(back)), 3);
    assert_string_equal(back, "out");
    close(in[1]);
    spin(d);
    assert_int_equal(d->eof, 1);
    assert_int_equal(d->broken, 0);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

static void test_slow_reader(void **state)
{
    struct dev *d = *state;
    static u8 data[300000], back[300000];
    size_t sent = 0, got = 0;
    int p[2];

    assert_int_equal(pipe(p), 0);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 31 >> 3);
    assert_ok(chardev_open_fds(&d->c, d->l, -1, p[1], &d->e), d->e);
    connect_dev(d);
    while (got < sizeof(data)) {
        size_t room = chardev_room(d->c);
        size_t n = chardev_write(d->c, data + sent, sizeof(data) - sent);
        unsigned told = d->writable;
        ssize_t r;
        assert_int_equal(n, MIN(room, sizeof(data) - sent));
        sent += n;
        spin(d);
        if (sent < sizeof(data) && chardev_room(d->c))
            assert_int_equal(d->writable, told + 1);
        while ((r = read(p[0], back + got, 7777)) > 0)
            got += (size_t)r;
    }
    assert_memory_equal(data, back, sizeof(data));
    assert_true(d->writable > 1);
    close(p[0]);
    close(p[1]);
}

static void test_reader_gone(void **state)
{
    struct dev *d = *state;
    int p[2];

    assert_int_equal(pipe(p), 0);
    assert_ok(chardev_open_fds(&d->c, d->l, -1, p[1], &d->e), d->e);
    connect_dev(d);
    close(p[0]);
    chardev_write(d->c, (const u8 *)"x", 1);
    spin(d); /* SIGPIPE would end the test here */
    assert_int_equal(d->broken, 1);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(chardev_write(d->c, d->in, CHARDEV_BUFFER), CHARDEV_BUFFER);
    spin(d);
    assert_int_equal(d->broken, 1);
    close(p[1]);
}

static void test_socket(void **state)
{
    struct dev *d = *state;
    char back[8] = {0};
    int s[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    assert_ok(chardev_open_fds(&d->c, d->l, s[0], s[0], &d->e), d->e);
    connect_dev(d);
    d->room = 100;
    assert_int_equal(write(s[1], "ping", 4), 4);
    chardev_accept(d->c);
    chardev_write(d->c, (const u8 *)"pong", 4);
    spin(d);
    assert_memory_equal(d->in, "ping", 4);
    assert_int_equal(read(s[1], back, 8), 4);
    assert_string_equal(back, "pong");
    close(s[1]);
    spin(d);
    assert_int_equal(d->eof, 1);
    chardev_write(d->c, (const u8 *)"x", 1);
    spin(d);
    assert_int_equal(d->broken, 1);
    close(s[0]);
}

/* epoll refuses regular files and /dev/null. */
static void test_file_and_null_as_input(void **state)
{
    char path[] = "/tmp/ring3-test-chardev-XXXXXX";
    struct dev *d = *state;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(ftruncate(fd, 10000), 0);
    assert_ok(chardev_open_fds(&d->c, d->l, fd, -1, &d->e), d->e);
    d->room = 6000;
    connect_dev(d);
    spin(d);
    assert_int_equal(d->in_len, 6000);
    assert_int_equal(d->eof, 0);
    d->room = 6000;
    chardev_accept(d->c);
    spin(d);
    assert_int_equal(d->in_len, 10000);
    assert_int_equal(d->eof, 1);
    close(fd);
    chardev_close(d->c, 0);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_ok(chardev_open_fds(&d->c, d->l, fd, fd, &d->e), d->e);
    connect_dev(d);
    chardev_write(d->c, (const u8 *)"x", 1);
    spin(d);
    assert_int_equal(d->eof, 2);
    assert_int_equal(d->broken, 0);
    close(fd);
}

static void test_file_output(void **state)
{
    char path[] = "/tmp/ring3-test-chardev-XXXXXX";
    struct dev *d = *state;
    u8 *data;
    size_t len;

    close(mkstemp(path));
    assert_ok(chardev_open_file(&d->c, d->l, path, false, &d->e), d->e);
    chardev_write(d->c, (const u8 *)"one ", 4);
    spin(d);
    chardev_write(d->c, (const u8 *)"two", 3);
    chardev_close(d->c, 100); /* sends what is left */
    assert_ok(chardev_open_file(&d->c, d->l, path, true, &d->e), d->e);
    chardev_write(d->c, (const u8 *)" three", 6);
    chardev_close(d->c, 100);
    d->c = NULL;
    assert_ok(file_read(path, 100, &data, &len, &d->e), d->e);
    assert_string_equal((char *)data, "one two three");
    free(data);
    unlink(path);
    assert_refused(chardev_open_file(&d->c, d->l, "/no/such", true, &d->e), ENOENT, d->e,
                   "/no/such");
}

static void *drain_slowly(void *arg)
{
    u8 buf[4096];
    size_t got = 0;
    ssize_t n;

    while ((n = read(*(int *)arg, buf, sizeof(buf))) > 0)
        got += (size_t)n;
    return (void *)got;
}

static void test_close_drains(void **state)
{
    static u8 data[CHARDEV_BUFFER];
    struct dev *d = *state;
    pthread_t t;
    void *got;
    int p[2];

    assert_int_equal(pipe(p), 0);
    assert_true(fcntl(p[1], F_SETPIPE_SZ, 4096) > 0);
    assert_ok(chardev_open_fds(&d->c, d->l, -1, p[1], &d->e), d->e);
    close(p[1]);
    assert_int_equal(chardev_write(d->c, data, sizeof(data)), sizeof(data));
    pthread_create(&t, NULL, drain_slowly, &p[0]);
    chardev_close(d->c, 5000);
    d->c = NULL;
    pthread_join(t, &got);
    assert_int_equal((size_t)got, sizeof(data));
    close(p[0]);
}

static void test_null(void **state)
{
    struct dev *d = *state;

    assert_ok(chardev_open_null(&d->c, &d->e), d->e);
    connect_dev(d);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(chardev_write(d->c, d->in, CHARDEV_BUFFER), CHARDEV_BUFFER);
    chardev_accept(d->c);
    assert_int_equal(d->broken + d->eof + d->writable, 0);
}

static void test_mem(void **state)
{
    struct dev *d = *state;
    static u8 back[CHARDEV_BUFFER + 10];

    assert_ok(chardev_open_mem(&d->c, &d->e), d->e);
    connect_dev(d);
    d->room = 4;
    assert_int_equal(chardev_mem_feed(d->c, (const u8 *)"abcdef", 6), 4);
    assert_int_equal(chardev_mem_feed(d->c, (const u8 *)"ef", 2), 0);
    assert_memory_equal(d->in, "abcd", 4);
    memset(back, 'q', sizeof(back));
    assert_int_equal(chardev_write(d->c, back, sizeof(back)), CHARDEV_BUFFER);
    assert_int_equal(chardev_write(d->c, back, 1), 0);
    assert_int_equal(chardev_mem_take(d->c, back, 10), 10);
    assert_int_equal(d->writable, 1);
    assert_int_equal(chardev_write(d->c, (const u8 *)"0123456789", 10), 10);
    assert_int_equal(chardev_mem_take(d->c, back, sizeof(back)), CHARDEV_BUFFER);
    assert_memory_equal(back + CHARDEV_BUFFER - 11, "q0123456789", 11);
    assert_int_equal(d->writable, 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_pipe_both_ways), T(test_slow_reader), T(test_reader_gone), T(test_socket),
        T(test_file_and_null_as_input), T(test_file_output), T(test_close_drains), T(test_null),
        T(test_mem),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
