/* test_loaders.c - kernels of every format: loaded where they belong, refused when damaged */
#include "unit.h"

#include "base/limits.h"
#include "machine/boot/boot.h"
#include "machine/bytes.h"
#include "machine/layout.h"

#define IMAGE_MAX 0x8000

static u8 image[IMAGE_MAX];

/* A guest with this much RAM, and a request to load `len` bytes of `image`. */
struct guest {
    struct mem *mem;
    struct e820_map map;
    struct boot_request r;
    struct x86_state s;
};

static void setup(struct guest *g, u64 ram, u64 len)
{
    struct err e = {0};
    u64 low = MIN(ram, MMIO_HOLE_GPA);

    assert_ok(e820_pc(&g->map, ram, &e), e);
    assert_ok(mem_create(&g->mem, &e), e);
    assert_ok(mem_add_ram(g->mem, 0, VIDEO_HOLE_GPA, &e), e);
    assert_ok(mem_add_ram(g->mem, OPTION_ROM_GPA, low - OPTION_ROM_GPA, &e), e);
    if (ram > low)
        assert_ok(mem_add_ram(g->mem, ABOVE_4G_GPA, ram - low, &e), e);
    g->r = (struct boot_request){
        .mem = g->mem,
        .map = &g->map,
        .kernel = {.name = "test-kernel", .data = image, .len = len},
        .cmdline = "console=ttyS0",
        .rsdp_gpa = 0xe0000,
        .phys_bits = 40,
    };
}

static void teardown(struct guest *g)
{
    mem_destroy(g->mem);
}

static u32 read32(struct guest *g, u64 gpa)
{
    u8 b[4];

    assert_int_equal(mem_read(g->mem, gpa, b, 4), 0);
    return get_le32(b);
}

static u64 read64(struct guest *g, u64 gpa)
{
    return read32(g, gpa) | (u64)read32(g, gpa + 4) << 32;
}

static void assert_text(struct guest *g, u64 gpa, const char *text)
{
    char got[128] = "";

    assert_true(strlen(text) < sizeof(got));
    assert_int_equal(mem_read(g->mem, gpa, got, strlen(text) + 1), 0);
    assert_string_equal(got, text);
}

/* ---- bzImage ---- */

#define BZ_LEN (1024 + 4096)

static u64 make_bzimage(void)
{
    memset(image, 0, sizeof(image));
    image[0x1f1] = 1;                   /* setup_sects */
    put_le32(image + 0x1f4, 4096 / 16); /* syssize */
    put_le16(image + 0x1fe, 0xaa55);
    image[0x200] = 0xeb;
    image[0x201] = 0x66;
    memcpy(image + 0x202, "HdrS", 4);
    put_le16(image + 0x206, 0x020f);
    image[0x211] = 1;                    /* LOADED_HIGH */
    put_le32(image + 0x22c, 0x7fffffff); /* initrd_addr_max */
    put_le32(image + 0x230, 0x200000);   /* kernel_alignment */
    image[0x234] = 1;                    /* relocatable */
    put_le16(image + 0x236, 3);          /* 64-bit, above 4 GiB */
    put_le32(image + 0x238, 2047);
    put_le64(image + 0x258, 0x1000000);
    put_le32(image + 0x260, 0x10000); /* init_size */
    memset(image + 1024, 0x90, 4096);
    put_le32(image + 1024 + 0x200, 0x600df00d);
    return BZ_LEN;
}

static void bzimage_good(void **state)
{
    struct boot_file initrd = {.name = "initrd", .data = image, .len = 5000};
    struct guest g;
    struct err e = {0};
    u64 bp, seed;

    setup(&g, 64 * MiB, make_bzimage());
    g.r.module = &initrd;
    g.r.modules = 1;
    g.r.has_seed = true;
    memset(g.r.seed, 0x5a, sizeof(g.r.seed));
    assert_int_equal(boot_detect(&g.r.kernel), BOOT_BZIMAGE);
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    assert_int_equal(g.s.rip, 0x1000200);
    assert_int_equal(read32(&g, g.s.rip), 0x600df00d);
    assert_int_equal(g.s.seg[X86_CS].attr & SEG_L, SEG_L);
    assert_true(g.s.cr0 & CR0_PG && g.s.cr4 & CR4_PAE && g.s.efer & EFER_LMA);
    assert_int_equal(x86_state_check(&g.s, &e), 0);

    bp = g.s.gpr[X86_RSI];
    assert_text(&g, read32(&g, bp + 0x228), "console=ttyS0");
    assert_int_equal(read32(&g, bp + 0x218), 64 * MiB - 8192);
    assert_int_equal(read32(&g, bp + 0x21c), 5000);
    assert_int_equal(read64(&g, bp + 0x070), 0xe0000);
    assert_int_equal(read32(&g, bp + 0x1e8) & 0xff, g.map.count);
    assert_int_equal(read64(&g, bp + 0x2d0 + 20), g.map.entry[1].addr);
    seed = read64(&g, bp + 0x250);
    assert_int_equal(read32(&g, seed + 8), 9);
    assert_int_equal(read32(&g, seed + 12), 32);
    assert_int_equal(read32(&g, seed + 16), 0x5a5a5a5a);
    assert_int_equal(read32(&g, 64 * MiB - 8192 + 0x202), get_le32((const u8 *)"HdrS"));
    teardown(&g);
}

/* The page tables the 64-bit entry runs on: any address below 4 GiB maps to itself. */
static void bzimage_page_tables(void **state)
{
    static const u64 probe[] = {0, 0x1000000, 0x3fffffff, 0x40000000, 0xfee00000, 0xffffffff};
    struct guest g;
    struct err e = {0};

    setup(&g, 64 * MiB, make_bzimage());
    assert_ok(bzimage_load(&g.r, &g.s, &e), e);
    for (size_t i = 0; i < ARRAY_SIZE(probe); i++) {
        u64 pml4e = read64(&g, g.s.cr3), pdpte, pde;

        assert_int_equal(pml4e & 0xfff, 3);
        pdpte = read64(&g, (pml4e & ~0xfffull) + (probe[i] >> 30) * 8);
        assert_int_equal(pdpte & 0xfff, 3);
        pde = read64(&g, (pdpte & ~0xfffull) + (probe[i] >> 21 & 511) * 8);
        assert_int_equal(pde, (probe[i] & ~0x1fffffull) | 0x83);
    }
    teardown(&g);
}

static void bzimage_places(void **state)
{
    struct boot_file initrd = {.name = "initrd", .data = image, .len = 4096};
    struct guest g;
    struct err e = {0};

    /* Less memory than the preferred address: the lowest aligned one. */
    setup(&g, 4 * MiB, make_bzimage());
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    assert_int_equal(g.s.rip, 0x200200);
    image[0x234] = 0;
    assert_refused(boot_load(&g.r, &g.s, &e), ENOSPC, e, "pref_address");
    teardown(&g);

    setup(&g, 2 * MiB, make_bzimage());
    assert_refused(boot_load(&g.r, &g.s, &e), ENOSPC, e, "larger than memory");
    teardown(&g);

    /* initrd_addr_max leaves no room below: above 4 GiB when the kernel can. */
    setup(&g, 4 * GiB, make_bzimage());
    put_le32(image + 0x22c, 0x1000000 + 0x10000 + 0xffe);
    g.r.module = &initrd;
    g.r.modules = 1;
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    assert_int_equal(read32(&g, g.s.gpr[X86_RSI] + 0x0c0), 1);
    assert_int_equal(read32(&g, g.s.gpr[X86_RSI] + 0x218), GiB - 4096);
    put_le16(image + 0x236, 1);
    assert_refused(boot_load(&g.r, &g.s, &e), ENOSPC, e, "initrd");
    teardown(&g);
}

static void bzimage_joins_initrds(void **state)
{
    struct boot_file initrd[2] = {
        {.name = "a", .data = (const u8 *)"12345", .len = 5},
        {.name = "b", .data = (const u8 *)"6789", .len = 4},
    };
    struct guest g;
    struct err e = {0};
    u64 at;

    setup(&g, 64 * MiB, make_bzimage());
    g.r.module = initrd;
    g.r.modules = 2;
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    at = read32(&g, g.s.gpr[X86_RSI] + 0x218);
    assert_int_equal(read32(&g, g.s.gpr[X86_RSI] + 0x21c), 12);
    assert_int_equal(read32(&g, at + 4), '5');
    assert_int_equal(read32(&g, at + 8), get_le32((const u8 *)"6789"));
    teardown(&g);
}

static void bzimage_fields(void **state)
{
    static const struct {
        unsigned at, size;
        u32 value;
        const char *message;
    } rows[] = {
        {0x1fe, 2, 0x1234, "boot_flag"},
        {0x206, 2, 0x020b, "version"},
        {0x201, 1, 0x10, "jump"},
        {0x236, 2, 0, "xloadflags"},
        {0x211, 1, 0, "loadflags"},
        {0x1f4, 4, 1, "syssize"},
        {0x1f4, 4, 0xffffffff, "truncated"},
        {0x1f1, 1, 200, "truncated"},
    };
    struct guest g;
    struct err e;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        setup(&g, 64 * MiB, make_bzimage());
        if (rows[i].size == 1)
            image[rows[i].at] = (u8)rows[i].value;
        else if (rows[i].size == 2)
            put_le16(image + rows[i].at, (u16)rows[i].value);
        else
            put_le32(image + rows[i].at, rows[i].value);
        assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, rows[i].message);
        assert_non_null(strstr(e.msg, "test-kernel"));
        teardown(&g);
    }
    setup(&g, 2 * MiB, make_bzimage());
    put_le32(image + 0x230, 3);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "kernel_alignment");
    teardown(&g);
    setup(&g, 64 * MiB, make_bzimage());
    put_le32(image + 0x238, 5);
    assert_refused(boot_load(&g.r, &g.s, &e), E2BIG, e, "cmdline_size");
    teardown(&g);
}

/* ---- ELF ---- */

struct elf_options {
    bool is64;
    bool pvh;
    bool multiboot;
    u32 paddr;
};

/* One PT_LOAD of 0x1000 file and 0x3000 memory bytes, maybe a note, maybe a multiboot header. */
static u64 make_elf(struct elf_options o)
{
    u8 *ph;
    unsigned phentsize = o.is64 ? 56 : 32;

    memset(image, 0, sizeof(image));
    memcpy(image, "\177ELF", 4);
    image[4] = o.is64 ? 2 : 1;
    image[5] = image[6] = 1;
    put_le16(image + 16, 2);
    put_le16(image + 18, o.is64 ? 62 : 3);
    ph = image + 0x40;
    if (o.is64) {
        put_le64(image + 24, 0xffffffff80000000ull + 0x10);
        put_le64(image + 32, 0x40);
        put_le16(image + 54, 56);
        put_le16(image + 56, 2);
        put_le32(ph, 1);
        put_le64(ph + 8, 0x1000);
        put_le64(ph + 16, 0xffffffff80000000ull);
        put_le64(ph + 24, o.paddr);
        put_le64(ph + 32, 0x1000);
        put_le64(ph + 40, 0x3000);
    } else {
        put_le32(image + 24, 0xc0000010);
        put_le32(image + 28, 0x40);
        put_le16(image + 42, 32);
        put_le16(image + 44, 2);
        put_le32(ph, 1);
        put_le32(ph + 4, 0x1000);
        put_le32(ph + 8, 0xc0000000);
        put_le32(ph + 12, o.paddr);
        put_le32(ph + 16, 0x1000);
        put_le32(ph + 20, 0x3000);
    }
    ph += phentsize;
    if (o.pvh) {
        u8 *note = image + 0x200;

        put_le32(ph, 4);
        if (o.is64) {
            put_le64(ph + 8, 0x200);
            put_le64(ph + 32, 20);
        } else {
            put_le32(ph + 4, 0x200);
            put_le32(ph + 16, 20);
        }
        put_le32(note, 4);
        put_le32(note + 4, 4);
        put_le32(note + 8, 18);
        memcpy(note + 12, "Xen", 4);
        put_le32(note + 16, o.paddr + 0x20);
    }
    if (o.multiboot) {
        put_le32(image + 0x300, 0x1badb002);
        put_le32(image + 0x304, 3);
        put_le32(image + 0x308, 0u - 0x1badb002u - 3);
    }
    memset(image + 0x1000, 0xcc, 0x1000);
    put_le32(image + 0x1010, 0x600df00d);
    return 0x2000;
}

static void pvh_good(void **state)
{
    static const struct boot_file module[2] = {
        {.name = "m0", .args = "first args", .data = (const u8 *)"module0", .len = 7},
        {.name = "m1", .data = (const u8 *)"module one", .len = 10},
    };
    for (unsigned is64 = 0; is64 < 2; is64++) {
        struct guest g;
        struct err e = {0};
        u64 info, list;

        setup(&g, 64 * MiB,
              make_elf((struct elf_options){.is64 = is64, .pvh = true, .paddr = 0x1000000}));
        g.r.module = module;
        g.r.modules = 2;
        assert_int_equal(boot_detect(&g.r.kernel), BOOT_PVH);
        assert_ok(boot_load(&g.r, &g.s, &e), e);
        assert_int_equal(g.s.rip, 0x1000020);
        assert_int_equal(g.s.cr0 & (CR0_PE | CR0_PG), CR0_PE);
        assert_int_equal(g.s.seg[X86_CS].attr & SEG_DB, SEG_DB);
        assert_int_equal(x86_state_check(&g.s, &e), 0);
        assert_int_equal(read32(&g, 0x1000010), 0x600df00d);
        info = g.s.gpr[X86_RBX];
        assert_int_equal(read32(&g, info), 0x336ec578);
        assert_int_equal(read32(&g, info + 12), 2);
        assert_text(&g, read64(&g, info + 24), "console=ttyS0");
        assert_int_equal(read64(&g, info + 32), 0xe0000);
        assert_int_equal(read32(&g, info + 48), g.map.count);
        assert_int_equal(read64(&g, read64(&g, info + 40) + 24 + 8), g.map.entry[1].size);
        list = read64(&g, info + 16);
        assert_int_equal(read64(&g, list + 8), 7);
        assert_text(&g, read64(&g, list + 16), "first args");
        assert_text(&g, read64(&g, list + 32), "module one");
        assert_int_equal(read64(&g, list + 48), 0);
        teardown(&g);
    }
}

static void elf_refused(void **state)
{
    struct elf_options o = {.is64 = true, .paddr = 0x1000000};
    struct guest g;
    struct err e;

    setup(&g, 64 * MiB, make_elf(o));
    assert_int_equal(boot_detect(&g.r.kernel), BOOT_ELF);
    assert_refused(boot_load(&g.r, &g.s, &e), ENOEXEC, e, "PVH note");
    o.pvh = true;
    make_elf(o);
    image[18] = 183; /* EM_AARCH64 */
    assert_refused(boot_load(&g.r, &g.s, &e), ENOEXEC, e, "e_machine");
    make_elf(o);
    put_le32(image + 0x200 + 16, 0x2000000);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "PHYS32_ENTRY");
    make_elf(o);
    put_le64(image + 0x40 + 40, 1ull << 40);
    assert_refused(boot_load(&g.r, &g.s, &e), ENOSPC, e, "p_memsz");
    make_elf(o);
    put_le64(image + 0x40 + 40, 0xfff);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "p_filesz");
    make_elf(o);
    put_le64(image + 0x40 + 24, UINT64_MAX - 5);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "p_memsz");
    make_elf(o);
    put_le32(image + 0x200 + 4, 0xfffffff0);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "n_descsz");
    make_elf(o);
    put_le16(image + 56, 0);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "e_phnum");
    make_elf(o);
    put_le64(image + 32, UINT64_MAX - 3);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "e_phoff");
    teardown(&g);
}

/* ---- multiboot ---- */

static void assert_multiboot(struct guest *g, u64 entry, const char *cmdline)
{
    struct err e = {0};
    u64 info = g->s.gpr[X86_RBX];

    assert_int_equal(g->s.gpr[X86_RAX], 0x2badb002);
    assert_int_equal(g->s.rip, entry);
    assert_int_equal(g->s.idtr.base, 0);
    assert_int_equal(g->s.idtr.limit, 0x3ff); /* for those who go on in real mode */
    assert_int_equal(x86_state_check(&g->s, &e), 0);
    assert_int_equal(read32(g, info), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    assert_int_equal(read32(g, info + 4), 639);
    assert_int_equal(read32(g, info + 8), 63 * 1024);
    assert_text(g, read32(g, info + 16), cmdline);
    assert_int_equal(read32(g, info + 44), g->map.count * 24);
    assert_int_equal(read32(g, read32(g, info + 48)), 20);
}

static void multiboot_elf(void **state)
{
    static const struct boot_file module[2] = {
        {.name = "m0", .args = "x y", .data = (const u8 *)"module0", .len = 7},
        {.name = "m1", .data = (const u8 *)"module one", .len = 10},
    };
    struct elf_options o = {.multiboot = true, .paddr = 0x100000};
    struct guest g;
    struct err e = {0};
    u64 info, list;

    setup(&g, 64 * MiB, make_elf(o));
    g.r.module = module;
    g.r.modules = 2;
    assert_int_equal(boot_detect(&g.r.kernel), BOOT_MULTIBOOT);
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    assert_multiboot(&g, 0x100010, "test-kernel console=ttyS0");
    info = g.s.gpr[X86_RBX];
    assert_int_equal(read32(&g, info + 20), 2);
    list = read32(&g, info + 24);
    assert_int_equal(read32(&g, list), 0x103000);
    assert_int_equal(read32(&g, list + 4), 0x103007);
    assert_text(&g, read32(&g, list + 8), "m0 x y");
    assert_text(&g, read32(&g, list + 16), "module one");
    assert_text(&g, read32(&g, list + 24), "m1");
    o.is64 = true;
    g.r.modules = 0;
    make_elf(o);
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    assert_multiboot(&g, 0x100010, "test-kernel console=ttyS0");
    teardown(&g);
}

static u64 make_kludge(u32 load, u32 load_end, u32 bss_end, u32 entry)
{
    u8 *h = image + 0x20;

    memset(image, 0x90, sizeof(image));
    put_le32(h, 0x1badb002);
    put_le32(h + 4, 0x10000);
    put_le32(h + 8, 0u - 0x1badb002u - 0x10000u);
    put_le32(h + 12, load + 0x20);
    put_le32(h + 16, load);
    put_le32(h + 20, load_end);
    put_le32(h + 24, bss_end);
    put_le32(h + 28, entry);
    return 0x3000;
}

static void multiboot_addresses(void **state)
{
    struct guest g;
    struct err e = {0};

    /* A conventional kernel, and one in low memory that the boot data must keep clear of. */
    setup(&g, 64 * MiB, make_kludge(0x200000, 0x202000, 0x280000, 0x200100));
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    assert_multiboot(&g, 0x200100, "test-kernel console=ttyS0");
    assert_int_equal(read32(&g, 0x201ffc), 0x90909090);
    assert_int_equal(read32(&g, 0x202000), 0);
    make_kludge(0x4000, 0, 0x20000, 0x4040);
    g.r.cmdline = "";
    assert_ok(boot_load(&g.r, &g.s, &e), e);
    assert_multiboot(&g, 0x4040, "test-kernel");
    assert_true(g.s.gpr[X86_RBX] >= 0x20000 && g.s.gdtr.base >= 0x20000);
    assert_int_equal(read32(&g, 0x6ffc), 0x90909090);
    teardown(&g);
}

static void multiboot_refused(void **state)
{
    struct guest g;
    struct err e;

    setup(&g, 64 * MiB, make_kludge(0x200000, 0x204000, 0, 0x200100));
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "load_end_addr");
    make_kludge(0x200000, 0x100000, 0, 0);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "load_end_addr");
    make_kludge(0x200000, 0x202000, 0x201000, 0);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "bss_end_addr");
    make_kludge(0xa0000, 0, 0, 0);
    assert_refused(boot_load(&g.r, &g.s, &e), ENOSPC, e, "load_addr");
    make_kludge(0x10000000, 0, 0, 0);
    assert_refused(boot_load(&g.r, &g.s, &e), ENOSPC, e, "load_addr");
    make_kludge(0x200000, 0, 0, 0);
    put_le32(image + 0x20 + 12, 0x100000);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "header_addr");
    make_kludge(0x200000, 0, 0, 0);
    put_le32(image + 0x24, 0x10008);
    put_le32(image + 0x28, 0u - 0x1badb002u - 0x10008u);
    assert_refused(boot_load(&g.r, &g.s, &e), EINVAL, e, "flags");
    teardown(&g);
}

/* ---- ROM ---- */

static void bios(void **state)
{
    static u8 data[0x41000] = {[0x1000] = 0xfe}; /* the shadow takes the last 256 KiB */
    struct boot_file rom = {.name = "rom", .data = data, .len = sizeof(data)};
    struct guest g;
    struct err e = {0};

    put_le32(data + 0x40ff0, 0x600df00d);
    setup(&g, MiB, 0);
    assert_ok(bios_load(g.mem, &rom, &g.s, &e), e);
    assert_int_equal(read32(&g, 0xfffffff0), 0x600df00d);
    assert_int_equal(read32(&g, 0xffff0), 0x600df00d);
    assert_int_equal(read32(&g, 0xc0000), 0xfe);
    assert_int_equal(g.s.seg[X86_CS].base + g.s.rip, 0xfffffff0);
    rom.len = 0x1001;
    assert_refused(bios_load(g.mem, &rom, &g.s, &e), EINVAL, e, "4 KiB");
    rom.len = 0;
    assert_refused(bios_load(g.mem, &rom, &g.s, &e), EINVAL, e, "4 KiB");
    rom.len = 64 * MiB;
    assert_refused(bios_load(g.mem, &rom, &g.s, &e), EINVAL, e, "larger");
    teardown(&g);
}

/* ---- any file ---- */

static void not_a_kernel(void **state)
{
    static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n";
    struct guest g;
    struct err e;

    memset(image, 0, sizeof(image));
    memcpy(image, passwd, sizeof(passwd));
    setup(&g, 64 * MiB, sizeof(passwd));
    assert_refused(boot_load(&g.r, &g.s, &e), ENOEXEC, e, "not a kernel");
    g.r.kernel.len = 0;
    assert_refused(boot_load(&g.r, &g.s, &e), ENOEXEC, e, "empty");
    teardown(&g);
}

/* Every prefix of a good file either loads or is refused with a message; none is read past its
 * end. */
static void truncations(void **state)
{
    for (unsigned kind = 0; kind < 5; kind++) {
        u64 full =
            kind == 0   ? make_bzimage()
            : kind == 1 ? make_elf((struct elf_options){.pvh = true, .paddr = 0x200000})
            : kind == 2
                ? make_elf((struct elf_options){.is64 = true, .pvh = true, .paddr = 0x200000})
            : kind == 3 ? make_elf((struct elf_options){.multiboot = true, .paddr = 0x200000})
                        : make_kludge(0x200000, 0x203000, 0, 0x200100);
        struct guest g;

        setup(&g, 8 * MiB, full);
        for (u64 len = 0; len < full; len += len < 0x400 ? 1 : 61) {
            u8 *exact = malloc(len ? len : 1); /* its end is watched by the sanitizers */
            struct err e = {0};

            memcpy(exact, image, len);
            g.r.kernel.data = exact;
            g.r.kernel.len = len;
            int rc = boot_load(&g.r, &g.s, &e);
            /* The last paragraph that syssize counts need not be whole. */
            assert_true(rc < 0 || (kind == 0 && full - len < 16));
            assert_true(rc == 0 || (e.code > 0 && *e.msg));
            free(exact);
        }
        teardown(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bzimage_good),
        cmocka_unit_test(bzimage_page_tables),
        cmocka_unit_test(bzimage_places),
        cmocka_unit_test(bzimage_joins_initrds),
        cmocka_unit_test(bzimage_fields),
        cmocka_unit_test(pvh_good),
        cmocka_unit_test(elf_refused),
        cmocka_unit_test(multiboot_elf),
        cmocka_unit_test(multiboot_addresses),
        cmocka_unit_test(multiboot_refused),
        cmocka_unit_test(bios),
        cmocka_unit_test(not_a_kernel),
        cmocka_unit_test(truncations),
    };

    return cmocka_run_group_tests_name("loaders", tests, NULL, NULL);
}
