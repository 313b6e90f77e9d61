/* test_snapshot.c - a machine as a file: there and back, and every kind of damage */
#include "unit.h"

#include <stdio.h>
#include <sys/stat.h>

#include "host/file.h"
#include "host/loop.h"
#include "machine/bytes.h"
#include "machine/machine.h"
#include "machine/snapshot.h"

#define LOAD 0x200000u
#define CODE 0x40u
#define DATA 0x300000u

/* mov edi, 300000h; mov ecx, 2000h; mov al, 5ah; rep stosb; loop: inc dword [300004h]; jmp loop */
static const u8 code[] = {0xbf, 0x00, 0x00, 0x30, 0x00, 0xb9, 0x00, 0x20, 0x00, 0x00, 0xb0,
                          0x5a, 0xf3, 0xaa, 0xff, 0x05, 0x04, 0x00, 0x30, 0x00, 0xeb, 0xf8};

static u8 image[256];
static char dir[] = "/tmp/ring3-snapshot-XXXXXX";
static char path[64];

static struct machine *create(const struct snapshot_info *restore)
{
    struct machine_config cfg = {
        .engine = &engine_interp,
        .cpus = 1,
        .ram_bytes = 8 * MiB,
        .kernel = {.name = "test", .data = image, .len = sizeof(image)},
        .serial = {true},
        .debug_exit_port = 0xf4,
    };
    struct machine *m;
    struct err e = {0};

    memset(image, 0xf4, sizeof(image));
    put_le32(image, 0x1badb002);
    put_le32(image + 4, 0x10000);
    put_le32(image + 8, 0u - 0x1badb002u - 0x10000u);
    put_le32(image + 12, LOAD);
    put_le32(image + 16, LOAD);
    put_le32(image + 20, 0);
    put_le32(image + 24, 0);
    put_le32(image + 28, LOAD + CODE);
    memcpy(image + CODE, code, sizeof(code));
    if (restore) {
        cfg.restore = &restore->cpuid;
        cfg.cpu_model = restore->cpu_model;
        cfg.ram_bytes = restore->ram_bytes;
    }
    assert_ok(machine_create(&cfg, &m, &e), e);
    return m;
}

static void stop(void *arg)
{
    machine_stop(arg, 0);
}

/* Lets it run a little. */
static void run(struct machine *m)
{
    struct machine_outcome out;

    assert_int_equal(loop_post(machine_loop(m), stop, m), 0);
    machine_run(m, &out);
    assert_int_equal(out.kind, MACHINE_STOPPED);
}

static void make_file(void)
{
    struct machine *m = create(NULL);
    struct err e = {0};

    run(m);
    machine_pause(m);
    assert_ok(snapshot_save(m, path, &e), e);
    machine_destroy(m);
}

static int setup(void **state)
{
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/snap", dir);
    make_file();
    return 0;
}

static int teardown(void **state)
{
    unlink(path);
    return rmdir(dir);
}

static void there_and_back(void **state)
{
    struct x86_state before, after;
    struct snapshot_info info;
    struct snap_buf records = {0};
    struct machine *m = create(NULL);
    struct stat st;
    struct err e = {0};

    run(m);
    machine_pause(m);
    assert_ok(machine_cpu_state(m, 0, &before), e);
    assert_ok(snapshot_save(m, path, &e), e);
    machine_destroy(m);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 200000); /* 8 MiB of hardly anything */

    assert_ok(snapshot_info(path, &info, &e), e);
    assert_int_equal(info.ram_bytes, 8 * MiB);
    assert_int_equal(info.cpus, 1);
    assert_int_equal(info.serials, 1);
    assert_int_equal(info.debug_exit_port, 0xf4);
    m = create(&info);
    assert_ok(snapshot_load(m, path, &e), e);
    assert_ok(machine_cpu_state(m, 0, &after), e);
    assert_memory_equal(after.r, before.r, sizeof(after.r));
    assert_int_equal(after.cr0, before.cr0);
    /* It goes on. */
    run(m);
    machine_destroy(m);
    snap_buf_free(&records);
}

/* Loads the file's bytes after a change; the message must name what is wrong. */
static void refuse(const u8 *data, size_t len, const char *part)
{
    char other[80];
    struct snapshot_info info;
    struct err e = {0};
    int rc;

    snprintf(other, sizeof(other), "%s.bad", path);
    assert_ok(file_write_atomic(other, data, len, 0600, &e), e);
    rc = snapshot_info(other, &info, &e);
    if (!rc) {
        struct snapshot_info good;

        assert_ok(snapshot_info(path, &good, &e), e);
        struct machine *m = create(&good);
        rc = snapshot_load(m, other, &e);
        machine_destroy(m);
    }
    unlink(other);
    assert_true(rc < 0);
    if (!strstr(e.msg, part) || !strstr(e.msg, other))
        fail_msg("\"%s\" should say \"%s\" and the file", e.msg, part);
}

/* Loads the file; on success the processor as it came out. */
static int load_cpu(const char *file, struct x86_state *cpu)
{
    struct snapshot_info info;
    struct machine *m;
    struct err e = {0};
    int rc;

    assert_ok(snapshot_info(path, &info, &e), e);
    m = create(&info);
    rc = snapshot_load(m, file, &e);
    if (!rc)
        assert_ok(machine_cpu_state(m, 0, cpu), e);
    machine_destroy(m);
    return rc;
}

/* A flipped bit is refused, or is one that says nothing to the decompressor: then the contents,
 * which have a checksum of their own, are the same. */
static void flip(u8 *data, size_t len, size_t at)
{
    struct x86_state good, got;
    char other[80];
    struct err e = {0};

    snprintf(other, sizeof(other), "%s.bad", path);
    data[at] ^= 0x10;
    assert_ok(file_write_atomic(other, data, len, 0600, &e), e);
    data[at] ^= 0x10;
    if (load_cpu(other, &got) == 0) {
        assert_int_equal(load_cpu(path, &good), 0);
        assert_memory_equal(got.r, good.r, sizeof(got.r));
        assert_int_equal(got.rip, good.rip);
        assert_int_equal(got.cr0, good.cr0);
    }
    unlink(other);
}

static void damage(void **state)
{
    struct err e = {0};
    size_t len;
    u8 *data, *bad;

    assert_ok(file_read(path, 64 << 20, &data, &len, &e), e);
    bad = malloc(len + 1);
    refuse((const u8 *)"hello", 5, "too short");
    for (size_t cut = SNAPSHOT_HEADER; cut < len; cut += 1 + len / 20)
        refuse(data, cut, "truncated");
    refuse(data, len - 1, "truncated");
    memcpy(bad, data, len);
    bad[len] = 0;
    refuse(bad, len + 1, "goes on");
    bad[0] ^= 1;
    refuse(bad, len, "no snapshot");
    bad[0] ^= 1;
    bad[8]++;
    refuse(bad, len, "version 2");
    bad[8]--;
    bad[17]++;
    refuse(bad, len, "header is damaged");
    bad[17]--;
    for (size_t at = SNAPSHOT_HEADER; at < len; at += 1 + len / 50)
        flip(bad, len, at);
    free(bad);
    free(data);
}

static void another_machine(void **state)
{
    struct snapshot_info info;
    struct machine *m;
    struct err e = {0};

    assert_ok(snapshot_info(path, &info, &e), e);
    info.ram_bytes = 16 * MiB;
    m = create(&info);
    assert_refused(snapshot_load(m, path, &e), EINVAL, e, "another machine");
    machine_destroy(m);
}

/* Nothing is left of a file that could not be written, and the old one stays. */
static void unwritable(void **state)
{
    struct machine *m = create(NULL);
    struct err e = {0};

    machine_pause(m);
    assert_refused(snapshot_save(m, "/nonexistent/snap", &e), ENOENT, e, "/nonexistent/snap");
    machine_destroy(m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(damage),
        cmocka_unit_test(another_machine),
        cmocka_unit_test(unwritable),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
