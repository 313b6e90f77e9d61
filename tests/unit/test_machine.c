/* test_machine.c - the life of a machine: every way to end, pausing, holding up, state records */
#include "unit.h"

#include "host/loop.h"
#include "machine/bytes.h"
#include "machine/machine.h"
#include "machine/pc_map.h"
#include "machine/serial.h"

#define LOAD 0x200000u
#define CODE 0x40u /* offset of the entry point in the image */

/* A multiboot kernel in 32-bit protected mode, of these bytes. */
#define KERNEL(...) make_kernel((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static u8 image[256];

static struct boot_file make_kernel(const u8 *code, size_t len)
{
    memset(image, 0xf4, sizeof(image)); /* HLT */
    put_le32(image, 0x1badb002);
    put_le32(image + 4, 0x10000);
    put_le32(image + 8, 0u - 0x1badb002u - 0x10000u);
    put_le32(image + 12, LOAD);
    put_le32(image + 16, LOAD);
    put_le32(image + 20, 0);
    put_le32(image + 24, 0);
    put_le32(image + 28, LOAD + CODE);
    memcpy(image + CODE, code, len);
    return (struct boot_file){.name = "test", .data = image, .len = sizeof(image)};
}

static struct machine *create(struct boot_file kernel)
{
    struct machine_config cfg = {
        .engine = &engine_interp,
        .cpus = 1,
        .ram_bytes = 8 * MiB,
        .kernel = kernel,
        .serial = {true},
        .debug_exit_port = 0xf4,
    };
    struct machine *m;
    struct err e = {0};

    assert_ok(machine_create(&cfg, &m, &e), e);
    return m;
}

static struct machine_outcome run(struct machine *m)
{
    struct machine_outcome out;

    machine_run(m, &out);
    if (out.kind == MACHINE_FAILED)
        fail_msg("%s", out.err.msg);
    return out;
}

static void assert_ends(struct boot_file kernel, enum machine_outcome_kind kind, int status)
{
    struct machine *m = create(kernel);
    struct machine_outcome out = run(m);

    assert_int_equal(out.kind, kind);
    assert_int_equal(out.status, status);
    machine_destroy(m);
}

static void ends(void **state)
{
    /* mov al, 21h; out f4h, al */
    assert_ends(KERNEL(0xb0, 0x21, 0xe6, 0xf4), MACHINE_DEBUG_EXIT, 0x43);
    /* mov dx, 604h; mov ax, SLP_EN | S5; out dx, ax */
    assert_ends(
        KERNEL(0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20 | PC_SLP_TYP_S5 << 2, 0x66, 0xef),
        MACHINE_POWER_OFF, 0);
    /* mov dx, cf9h; mov al, 6; out dx, al */
    assert_ends(KERNEL(0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee), MACHINE_RESET, 0);
    /* mov al, feh; out 64h, al: the keyboard controller pulses RESET */
    assert_ends(KERNEL(0xb0, 0xfe, 0xe6, 0x64), MACHINE_RESET, 0);
    /* int3, without an IDT */
    assert_ends(KERNEL(0xcc), MACHINE_TRIPLE_FAULT, 0);
    /* mov dx, 505h; mov al, 1; out dx, al: the panic notifier */
    assert_ends(KERNEL(0x66, 0xba, 0x05, 0x05, 0xb0, 0x01, 0xee), MACHINE_PANIC, 0);
}

static void stop(void *arg)
{
    machine_stop(arg, 77);
}

static void stop_twice(void *arg)
{
    machine_stop(arg, 1);
    machine_stop(arg, 2);
}

static void stopped(void **state)
{
    /* jmp $; cli and hlt for ever; and both ways the first reason counts */
    const struct boot_file spin = KERNEL(0xeb, 0xfe);
    struct machine *m = create(spin);

    assert_int_equal(loop_post(machine_loop(m), stop, m), 0);
    assert_int_equal(run(m).status, 77);
    machine_destroy(m);

    m = create(KERNEL(0xfa, 0xf4, 0xeb, 0xfd));
    assert_int_equal(loop_post(machine_loop(m), stop_twice, m), 0);
    assert_int_equal(run(m).status, 1);
    machine_destroy(m);

    m = create(spin);
    machine_stop(m, 5); /* before it began */
    assert_int_equal(run(m).status, 5);
    machine_destroy(m);
}

/* ---- pausing and state records ---- */

static u64 rax(struct machine *m)
{
    struct x86_state s;

    assert_int_equal(machine_cpu_state(m, 0, &s), 0);
    assert_int_equal(machine_cpu_state(m, 1, &s), -ENOENT);
    return s.gpr[X86_RAX];
}

/* Equal but for the real-time clock, which follows the host's. */
static void assert_same_records(const struct snap_buf *a, const struct snap_buf *b)
{
    size_t at = 12, next, records = 0;

    assert_int_equal(a->len, b->len);
    for (; at < a->len; at = next, records++) {
        const u8 *r = a->data + at;

        next = at + 1 + r[0] + 12 + get_le32(r + 1 + r[0] + 8) + 4;
        assert_true(next <= a->len);
        if (r[0] == 3 && !memcmp(r + 1, "rtc", 3))
            continue;
        if (memcmp(r, b->data + at, next - at))
            fail_msg("record %.*s differs", r[0], (const char *)r + 1);
    }
    assert_int_equal(records, get_le32(a->data + 8));
}

static void pause_save_load(void *arg)
{
    struct machine *m = arg;
    struct snap_buf saved = {0}, again = {0};
    struct err e = {0};
    u64 before, later;

    do {
        machine_resume(m); /* pairs with the pause below, and once with the one before the run */
        usleep(2000);
        machine_pause(m);
        before = rax(m);
    } while (before < 10000 || before == 0x2badb002);
    usleep(2000);
    assert_int_equal(rax(m), before);
    assert_ok(machine_save(m, &saved, &e), e);

    machine_resume(m);
    usleep(2000);
    machine_pause(m);
    later = rax(m);
    assert_true(later != before);

    saved.data[saved.len / 2] ^= 1;
    assert_true(machine_load(m, saved.data, saved.len, &e) < 0);
    assert_int_equal(rax(m), later);
    saved.data[saved.len / 2] ^= 1;
    memset(&e, 0, sizeof(e));
    assert_ok(machine_load(m, saved.data, saved.len, &e), e);
    assert_int_equal(rax(m), before);
    assert_ok(machine_save(m, &again, &e), e);
    assert_same_records(&saved, &again);
    snap_buf_free(&saved);
    snap_buf_free(&again);
    machine_stop(m, 0);
    machine_resume(m);
}

static void paused_state(void **state)
{
    struct machine *m = create(KERNEL(0x40, 0xeb, 0xfd)); /* inc eax; jmp */

    machine_pause(m); /* the first instruction waits, too */
    assert_int_equal(loop_post(machine_loop(m), pause_save_load, m), 0);
    assert_int_equal(run(m).kind, MACHINE_STOPPED);
    machine_destroy(m);
}

/* ---- the serial port ---- */

struct reader {
    struct machine *m;
    size_t want, got, offered;
    bool stall;
};

static size_t take(void *arg, const u8 *data, size_t len)
{
    struct reader *r = arg;

    r->offered++;
    if (r->stall)
        return 0;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(data[i], (u8)(r->got + i));
    r->got += len;
    if (r->got >= r->want)
        machine_stop(r->m, 0);
    return len;
}

static void go_on(void *arg)
{
    struct reader *r = arg;

    if (r->offered == 0) { /* nothing came yet */
        assert_int_equal(loop_post(machine_loop(r->m), go_on, r), 0);
        return;
    }
    usleep(200000); /* the guest runs into its brake */
    r->stall = false;
    serial_resume(machine_serial(r->m, 0));
}

/* A guest that floods its port is held until its reader goes on, and loses no byte. */
static void flood(void **state)
{
    /* mov dx, 3f8h; out dx, al; inc al; jmp back - with EAX starting at zero */
    struct machine *m =
        create(KERNEL(0x31, 0xc0, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xfe, 0xc0, 0xeb, 0xfb));
    struct reader r = {.m = m, .want = 3 * SERIAL_BUFFER, .stall = true};
    struct serial_user user = {.receive = take, .arg = &r};

    serial_connect(machine_serial(m, 0), &user);
    assert_null(machine_serial(m, 1));
    assert_null(machine_serial(m, 9));
    assert_int_equal(loop_post(machine_loop(m), go_on, &r), 0);
    assert_int_equal(run(m).kind, MACHINE_STOPPED);
    assert_true(r.got >= r.want);
    machine_destroy(m);
}

static void say_hello(void *arg)
{
    assert_int_equal(serial_send(machine_serial(arg, 0), (const u8 *)"h", 1), 1);
}

/* What arrives at the port reaches the guest: it exits with the byte. */
static void input(void **state)
{
    /* mov dx, 3fdh; in al, dx; test al, 1; jz; mov dx, 3f8h; in al, dx; out f4h, al */
    struct machine *m = create(KERNEL(0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0x66,
                                      0xba, 0xf8, 0x03, 0xec, 0xe6, 0xf4));

    assert_int_equal(loop_post(machine_loop(m), say_hello, m), 0);
    assert_int_equal(run(m).status, 'h' << 1 | 1);
    machine_destroy(m);
}

static void refusals(void **state)
{
    struct machine_config cfg = {.engine = &engine_interp, .cpus = 1, .ram_bytes = 8 * MiB};
    struct machine *m;
    struct err e;

    cfg.kernel = (struct boot_file){.name = "nothing", .data = image, .len = 0};
    assert_refused(machine_create(&cfg, &m, &e), ENOEXEC, e, "nothing");
    cfg.kernel = KERNEL(0xf4);
    cfg.cpus = 0;
    assert_refused(machine_create(&cfg, &m, &e), EINVAL, e, "cpus");
    cfg.cpus = 1;
    cfg.ram_bytes = 4096;
    assert_refused(machine_create(&cfg, &m, &e), EINVAL, e, "memory");
    cfg.ram_bytes = 8 * MiB;
    cfg.cpu_model = "nosuch";
    memset(&e, 0, sizeof(e));
    assert_true(machine_create(&cfg, &m, &e) < 0);
    assert_non_null(strstr(e.msg, "nosuch"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends),  cmocka_unit_test(stopped), cmocka_unit_test(paused_state),
        cmocka_unit_test(flood), cmocka_unit_test(input),   cmocka_unit_test(refusals),
    };

    alarm(120); /* a hang is a failure */
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
