/* test_acpi.c - firmware tables: checksums, links between them, and a walk through the AML */
#include "unit.h"

#include "machine/acpi.h"
#include "machine/bytes.h"
#include "machine/pc_map.h"

#define GPA 0xe0000ull
#define CAP 0x10000u

static u8 buf[CAP];

static const struct tables_config config = {
    .cpus = 4,
    .cpu_signature = 0x306c3,
    .ram_bytes = 6 * GiB,
    .com = {true, true, false, false},
    .pvpanic = true,
};

static const u8 *at(u64 gpa)
{
    assert_true(gpa >= GPA && gpa < GPA + CAP - 64);
    return buf + (gpa - GPA);
}

/* A table with this signature and a good checksum. */
static const u8 *table(u64 gpa, const char *signature)
{
    const u8 *p = at(gpa);

    assert_memory_equal(p, signature, 4);
    assert_true(gpa + get_le32(p + 4) <= GPA + CAP);
    assert_int_equal(checksum8(p, get_le32(p + 4)), 0);
    return p;
}

static int build(const struct tables_config *cfg)
{
    struct err e = {0};
    int n;

    memset(buf, 0, sizeof(buf));
    n = acpi_build(cfg, buf, sizeof(buf), GPA, &e);
    if (n < 0)
        fail_msg("%s", e.msg);
    return n;
}

static void links(void **state)
{
    const u8 *xsdt, *rsdt, *fadt;

    build(&config);
    assert_memory_equal(buf, "RSD PTR ", 8);
    assert_int_equal(checksum8(buf, 20), 0);
    assert_int_equal(checksum8(buf, 36), 0);
    rsdt = table(get_le32(buf + 16), "RSDT");
    xsdt = table(get_le64(buf + 24), "XSDT");
    assert_int_equal(get_le32(xsdt + 4), 36 + 4 * 8);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(get_le64(xsdt + 36 + 8 * i), get_le32(rsdt + 36 + 4 * i));
    fadt = table(get_le64(xsdt + 36), "FACP");
    table(get_le64(xsdt + 44), "APIC");
    table(get_le64(xsdt + 52), "HPET");
    assert_int_equal(get_le64(table(get_le64(xsdt + 60), "MCFG") + 44), PC_PCI_ECAM);
    assert_int_equal(table(get_le64(xsdt + 60), "MCFG")[55], 0); /* no bus to look at but 0 */
    table(get_le64(fadt + 140), "DSDT");
    assert_int_equal(get_le32(fadt + 40), get_le64(fadt + 140));
    assert_memory_equal(at(get_le32(fadt + 36)), "FACS", 4);
    assert_int_equal(get_le32(fadt + 36) % 64, 0);
    assert_int_equal(get_le32(fadt + 56), PC_PORT_PM1_EVT);
    assert_int_equal(get_le64(fadt + 148 + 4), PC_PORT_PM1_EVT);
    assert_int_equal(get_le16(fadt + 46), PC_GSI_SCI);
}

static void madt(void **state)
{
    const u8 *p, *end;
    unsigned cpus = 0, ioapics = 0, overrides = 0, nmis = 0;

    build(&config);
    p = table(get_le64(at(get_le64(buf + 24)) + 44), "APIC");
    end = p + get_le32(p + 4);
    for (p += 44; p < end; p += p[1]) {
        assert_true(p[1] >= 2 && p + p[1] <= end);
        cpus += p[0] == 0;
        ioapics += p[0] == 1;
        overrides += p[0] == 2;
        nmis += p[0] == 4;
    }
    assert_ptr_equal(p, end);
    assert_int_equal(cpus, 4);
    assert_int_equal(ioapics, 1);
    assert_int_equal(overrides, 4);
    assert_int_equal(nmis, 1);
}

/* The length a PkgLength at p says, and in *head its own size (ACPI 6.4, 20.2.4). */
static size_t pkg_length(const u8 *p, size_t *head)
{
    unsigned more = p[0] >> 6;
    size_t n = more ? p[0] & 0xf : p[0] & 0x3f;

    for (unsigned i = 0; i < more; i++)
        n |= (size_t)p[1 + i] << (4 + 8 * i);
    *head = 1 + more;
    return n;
}

/* The scope of the DSDT: its objects must fill it exactly. Counts devices. */
static unsigned walk_scope(const u8 *p, const u8 *end)
{
    unsigned devices = 0;
    size_t head;

    while (p < end) {
        assert_int_equal(p[0], 0x5b); /* only devices live here */
        assert_int_equal(p[1], 0x82);
        p += 2 + pkg_length(p + 2, &head);
        devices++;
    }
    assert_ptr_equal(p, end);
    return devices;
}

static void dsdt_nesting(void **state)
{
    const u8 *fadt, *p, *end;
    size_t head, len;

    build(&config);
    fadt = at(get_le64(at(get_le64(buf + 24)) + 36));
    p = table(get_le64(fadt + 140), "DSDT");
    end = p + get_le32(p + 4);
    p += 36;
    assert_memory_equal(p, "\x08\\_S5_\x12", 7); /* Name (\_S5, Package */
    p += 7;
    p += pkg_length(p, &head);
    assert_int_equal(*p++, 0x10); /* Scope */
    len = pkg_length(p, &head);
    assert_ptr_equal(p + len, end);
    assert_memory_equal(p + head, "\\_SB_", 5);
    /* processors, COM1, COM2, RTC, keyboard, HPET, board, PCI, fw_cfg, panic notifier */
    assert_int_equal(walk_scope(p + head + 5, p + len), 4 + 2 + 7);
}

static void many_processors(void **state)
{
    struct tables_config cfg = config;

    cfg.cpus = 64;
    assert_in_range(build(&cfg), 1000, 0x8000);
    links(state);
}

static void no_room(void **state)
{
    struct err e;
    int full = build(&config);

    for (size_t cap = 40; cap < (size_t)full; cap += 13) {
        u8 *small = calloc(1, cap); /* its end is watched by the sanitizers */

        assert_refused(acpi_build(&config, small, cap, GPA, &e), ENOSPC, e, "ACPI");
        free(small);
    }
}

static void aml_lengths(void **state)
{
    static const size_t contents[] = {0, 58, 59, 60, 4088, 4089, 4090, 4091, 4092, 65000};
    static u8 big[80000];

    for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
        struct aml a;
        size_t head;

        aml_init(&a, big, sizeof(big));
        aml_scope(&a, "\\_SB_");
        for (size_t n = 0; n < contents[i]; n++)
            aml_integer(&a, 0);
        aml_end(&a);
        assert_false(a.failed);
        assert_int_equal(pkg_length(big + 1, &head), a.len - 1);
        assert_int_equal(a.len, 1 + head + 5 + contents[i]);
    }
}

static void aml_values(void **state)
{
    static const u8 want[] =
        {
            0x00, 0x01, 0x0a, 0x02, 0x0a, 0xff, 0x0b, 0x00, 0x01, 0x0c,
            0x00, 0x00, 0x01, 0x00, 0x0e, 0,    0,    0,    0,    1,
            0,    0,    0,    0x0c, 0x41, 0xd0, 0x05, 0x01, /* EISAID ("PNP0501") */
            0x11, 0x0e, 0x0b, 0x0a, 0x00,                   /* Buffer (10): IO, end tag */
            0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, 0x79, 0x00,
        };
    u8 out[100];
    struct aml a;

    aml_init(&a, out, sizeof(out));
    aml_integer(&a, 0);
    aml_integer(&a, 1);
    aml_integer(&a, 2);
    aml_integer(&a, 255);
    aml_integer(&a, 256);
    aml_integer(&a, 65536);
    aml_integer(&a, 1ull << 32);
    aml_eisa_id(&a, "PNP0501");
    aml_resources(&a);
    aml_io(&a, 0x3f8, 8);
    aml_end(&a);
    assert_false(a.failed);
    assert_int_equal(a.len, sizeof(want));
    assert_memory_equal(out, want, sizeof(want));
}

static void mp_table(void **state)
{
    struct tables_config cfg = config;
    struct err e = {0};
    unsigned entries = 0;
    const u8 *h = buf + 16, *p;
    int n;

    memset(buf, 0, sizeof(buf));
    n = mptable_build(&cfg, buf, 4096, 0xf0000, &e);
    assert_true(n > 60);
    assert_memory_equal(buf, "_MP_", 4);
    assert_int_equal(checksum8(buf, 16), 0);
    assert_int_equal(get_le32(buf + 4), 0xf0010);
    assert_memory_equal(h, "PCMP", 4);
    assert_int_equal(checksum8(h, get_le16(h + 4)), 0);
    for (p = h + 44; p < h + get_le16(h + 4); entries++)
        p += *p == 0 ? 20 : 8;
    assert_ptr_equal(p, h + get_le16(h + 4));
    assert_int_equal(entries, get_le16(h + 34));
    cfg.cpus = 16;
    assert_int_equal(mptable_build(&cfg, buf, 4096, 0xf0000, &e), 0);
}

static void smbios(void **state)
{
    struct err e = {0};
    const u8 *p = buf + 64, *end;
    unsigned count = 0, type = 0;
    int n;

    memset(buf, 0, sizeof(buf));
    n = smbios_build(&config, buf, 4096, 0xf1000, &e);
    assert_true(n > 64);
    assert_memory_equal(buf, "_SM_", 4);
    assert_int_equal(checksum8(buf, 31), 0);
    assert_int_equal(checksum8(buf + 16, 15), 0);
    assert_memory_equal(buf + 32, "_SM3_", 5);
    assert_int_equal(checksum8(buf + 32, 24), 0);
    end = p + get_le16(buf + 22);
    for (; p < end; count++) {
        type = p[0];
        p += p[1];
        while (p[0] || p[1])
            p++;
        p += 2;
    }
    assert_ptr_equal(p, end);
    assert_int_equal(type, 127);
    assert_int_equal(count, get_le16(buf + 28));
    assert_refused(smbios_build(&config, buf, 200, 0xf1000, &e), ENOSPC, e, "SMBIOS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links),        cmocka_unit_test(madt),
        cmocka_unit_test(dsdt_nesting), cmocka_unit_test(many_processors),
        cmocka_unit_test(no_room),      cmocka_unit_test(aml_lengths),
        cmocka_unit_test(aml_values),   cmocka_unit_test(mp_table),
        cmocka_unit_test(smbios),
    };

    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
