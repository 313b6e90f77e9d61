/* test_disks.c - the options for disks, and which disk is booted from */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>

#include "cli/disks.h"

static struct options o;
static struct disk_list l;
static struct err e;

static int parse(const char *first, const char *second, bool ephemeral)
{
    disks_free(&l);
    memset(&l, 0, sizeof(l));
    memset(&e, 0, sizeof(e));
    o = (struct options){.ephemeral = ephemeral};
    o.disk.item[0] = first;
    o.disk.item[1] = second;
    o.disk.count = (first != NULL) + (second != NULL);
    return disks_parse(&l, &o, &e);
}

static void test_keys(void **state)
{
    assert_ok(parse("a,,b.img,ro,format=raw,offset=1,size=3K,serial=x", "c,snapshot,data", false),
              e);
    assert_int_equal(l.count, 2);
    assert_string_equal(l.item[0].disk.path, "a,b.img");
    assert_true(l.item[0].disk.read_only && !l.item[0].disk.snapshot && !l.data);
    assert_int_equal(l.item[0].disk.format, DISK_RAW);
    assert_int_equal(l.item[0].disk.offset, MiB);
    assert_int_equal(l.item[0].disk.size, 3072);
    assert_string_equal(l.item[0].serial, "x");
    assert_true(l.item[1].disk.snapshot && !l.item[1].disk.read_only);
    assert_int_equal(l.item[1].disk.format, DISK_AUTO);
    assert_null(l.item[1].serial);
    assert_ok(parse("a,data,format=qcow2,offset=1024B", NULL, false), e);
    assert_true(l.data);
    assert_int_equal(l.item[0].disk.format, DISK_QCOW2);
    assert_int_equal(l.item[0].disk.offset, 1024);
    assert_ok(parse("a,ro", "b", true), e);
    assert_true(!l.item[0].disk.snapshot && l.item[1].disk.snapshot);
    assert_ok(parse(NULL, NULL, false), e);
    assert_int_equal(l.count, 0);
}

static void test_refusals(void **state)
{
    assert_refused(parse("", NULL, false), EINVAL, e, "no file");
    assert_refused(parse(",ro", NULL, false), EINVAL, e, "--disk");
    assert_refused(parse("a,rw", NULL, false), EINVAL, e, "'rw'");
    assert_refused(parse("a,ro=1", NULL, false), EINVAL, e, "'ro'");
    assert_refused(parse("a,format", NULL, false), EINVAL, e, "'format'");
    assert_refused(parse("a,format=vmdk", NULL, false), EINVAL, e, "raw or qcow2");
    assert_refused(parse("a,offset=1B", NULL, false), EINVAL, e, "multiple of 512");
    assert_refused(parse("a,size=much", NULL, false), EINVAL, e, "size=much");
    assert_refused(parse("a,ro,snapshot", NULL, false), EINVAL, e, "either");
    assert_refused(parse("a,serial=123456789012345678901", NULL, false), EINVAL, e, "20 bytes");
    assert_refused(parse(NULL, NULL, true), EINVAL, e, "--ephemeral");
}

static void test_root(void **state)
{
    char path[] = "/tmp/ring3-test-disks-XXXXXX", root[32] = "x", data[64];
    int fd = mkstemp(path);

    assert_true(fd >= 0 && ftruncate(fd, MiB) == 0);
    assert_ok(parse(NULL, NULL, false), e);
    assert_ok(disks_root(&l, root, sizeof(root), &e), e);
    assert_string_equal(root, "");
    snprintf(data, sizeof(data), "%s,format=raw", path);
    assert_ok(parse(data, NULL, false), e);
    assert_ok(disks_root(&l, root, sizeof(root), &e), e);
    assert_string_equal(root, "");
    assert_int_equal(pwrite(fd, "XFSB", 4, 0), 4);
    assert_ok(disks_root(&l, root, sizeof(root), &e), e);
    assert_string_equal(root, "/dev/vda");
    snprintf(data, sizeof(data), "%s,format=raw,data", path);
    assert_ok(parse(data, NULL, false), e);
    assert_ok(disks_root(&l, root, sizeof(root), &e), e);
    assert_string_equal(root, "");
    close(fd);
    unlink(path);
    assert_ok(parse(path, NULL, false), e);
    assert_refused(disks_root(&l, root, sizeof(root), &e), ENOENT, e, path);
    disks_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
