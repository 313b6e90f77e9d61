/* test_paging.c - page walks, the TLB, and memory access through them */
#include "x86_world.h"

#define P  1ull
#define W  2ull
#define U  4ull
#define A  0x20ull
#define D  0x40ull
#define PS 0x80ull
#define G  0x100ull
#define NX (1ull << 63)

/* Tables of the 4-level tests: PML4 at 1000h, PDPT 2000h, PD 3000h, PT 4000h. Data pages from
 * 10000h. */
#define PML4 0x1000
#define PDPT 0x2000
#define PD   0x3000
#define PT   0x4000
#define DATA 0x10000

static struct world *long_world(void)
{
    struct world *w = world_new(64, "ring3-v2");

    world_put(w, PML4, 8, PDPT | P | W | U);
    world_put(w, PDPT, 8, PD | P | W | U);
    world_put(w, PD, 8, PT | P | W | U);
    for (unsigned i = 0; i < 16; i++)
        world_put(w, PT + i * 8, 8, (DATA + i * 4096) | P | W | U);
    world_long(w, PML4, 64, 0);
    return w;
}

static void set_pte(struct world *w, unsigned i, u64 val)
{
    world_put(w, PT + i * 8, 8, val);
    x86_tlb_flush(&w->cpu, true);
}

static u64 pte(struct world *w, unsigned i)
{
    return world_get(w, PT + i * 8, 8);
}

static int rd(struct world *w, u64 lin, unsigned n, u64 *v)
{
    *v = 0;
    return x86_read(&w->cpu, X86_DS, lin, n, v);
}

static int wr(struct world *w, u64 lin, unsigned n, u64 v)
{
    return x86_write(&w->cpu, X86_DS, lin, n, v);
}

static void cr4(struct world *w, u64 on, u64 off)
{
    w->cpu.s.cr4 = (w->cpu.s.cr4 | on) & ~off;
    x86_update_mode(&w->cpu);
    x86_tlb_flush(&w->cpu, true);
}

static void test_accessed_and_dirty(void **state)
{
    struct world *w = long_world();
    u64 v;

    world_put(w, DATA + 8, 8, 0x1122334455667788);
    assert_int_equal(rd(w, 8, 8, &v), X86_OK);
    assert_int_equal(v, 0x1122334455667788);
    assert_int_equal(world_get(w, PML4, 8), PDPT | P | W | U | A);
    assert_int_equal(world_get(w, PDPT, 8), PD | P | W | U | A);
    assert_int_equal(world_get(w, PD, 8), PT | P | W | U | A);
    assert_int_equal(pte(w, 0), DATA | P | W | U | A);
    assert_int_equal(wr(w, 16, 4, 0xcafe), X86_OK);
    assert_int_equal(pte(w, 0), DATA | P | W | U | A | D);
    assert_int_equal(world_get(w, PD, 8), PT | P | W | U | A); /* D in the leaf only */
    assert_int_equal(world_get(w, DATA + 16, 4), 0xcafe);
    world_free(w);
}

static void test_faults_change_nothing(void **state)
{
    struct world *w = long_world();

    set_pte(w, 1, (DATA + 4096) | P | U);
    assert_pf(w, wr(w, 0x1234, 4, 1), 0x1234, PF_P | PF_W);
    assert_int_equal(pte(w, 1), (DATA + 4096) | P | U);
    assert_int_equal(world_get(w, PML4, 8) & A, 0);
    world_free(w);
}

static void test_error_codes(void **state)
{
    struct world *w = long_world();
    const u8 *hva;
    u64 v, gpa;

    set_pte(w, 1, 0);
    assert_pf(w, rd(w, 0x1ff0, 1, &v), 0x1ff0, 0);
    assert_pf(w, wr(w, 0x1ff0, 1, 0), 0x1ff0, PF_W);
    assert_pf(w, x86_lin_fetch(&w->cpu, 0x1ff0, &gpa, &hva), 0x1ff0, PF_I);
    set_pte(w, 2, (DATA + 0x2000) | P | W | U | 1ull << 51);
    assert_pf(w, rd(w, 0x2000, 1, &v), 0x2000, PF_P | PF_RSVD);
    set_pte(w, 3, (DATA + 0x3000) | P | W | NX);
    assert_pf(w, x86_lin_fetch(&w->cpu, 0x3000, &gpa, &hva), 0x3000, PF_P | PF_I);
    assert_int_equal(rd(w, 0x3000, 1, &v), X86_OK);
    w->cpu.s.efer &= ~(u64)EFER_NXE;
    x86_tlb_flush(&w->cpu, true);
    assert_pf(w, rd(w, 0x3000, 1, &v), 0x3000, PF_P | PF_RSVD);
    assert_pf(w, x86_lin_fetch(&w->cpu, 0x3000, &gpa, &hva), 0x3000, PF_P | PF_RSVD);
    cr4(w, CR4_SMEP, 0);
    assert_pf(w, x86_lin_fetch(&w->cpu, 0x1000, &gpa, &hva), 0x1000, PF_I);
    world_cpl(w, 3);
    set_pte(w, 4, (DATA + 0x4000) | P | W);
    assert_pf(w, rd(w, 0x4000, 1, &v), 0x4000, PF_P | PF_U);
    assert_pf(w, wr(w, 0x4000, 1, 0), 0x4000, PF_P | PF_W | PF_U);
    assert_pf(w, rd(w, 0x1000, 1, &v), 0x1000, PF_U);
    world_free(w);
}

static void test_write_protect(void **state)
{
    struct world *w = long_world();

    set_pte(w, 1, (DATA + 4096) | P | U);
    assert_int_equal(x86_set_cr0(&w->cpu, w->cpu.s.cr0 & ~(u64)CR0_WP), X86_OK);
    assert_int_equal(wr(w, 0x1000, 4, 7), X86_OK);
    assert_int_equal(pte(w, 1) & D, D);
    assert_int_equal(x86_set_cr0(&w->cpu, w->cpu.s.cr0 | CR0_WP), X86_OK);
    assert_pf(w, wr(w, 0x1000, 4, 8), 0x1000, PF_P | PF_W);
    assert_int_equal(world_get(w, DATA + 4096, 4), 7);
    world_free(w);
}

static void test_smep_smap(void **state)
{
    struct world *w = long_world();
    const u8 *hva;
    u64 v, gpa;

    assert_int_equal(x86_lin_fetch(&w->cpu, 0x2000, &gpa, &hva), X86_OK);
    cr4(w, CR4_SMEP | CR4_SMAP, 0);
    assert_pf(w, x86_lin_fetch(&w->cpu, 0x2000, &gpa, &hva), 0x2000, PF_P | PF_I);
    assert_pf(w, rd(w, 0x2000, 4, &v), 0x2000, PF_P);
    x86_set_rflags(&w->cpu, RFLAGS_AC, RFLAGS_AC);
    assert_int_equal(rd(w, 0x2000, 4, &v), X86_OK);
    assert_int_equal(wr(w, 0x2000, 4, 5), X86_OK);
    /* Implicit supervisor accesses do not look at AC. */
    assert_pf(w, x86_lin_read(&w->cpu, 0x2000, &v, 4, X86_R | X86_SYS), 0x2000, PF_P);
    x86_set_rflags(&w->cpu, 0, RFLAGS_AC);
    assert_pf(w, rd(w, 0x2000, 4, &v), 0x2000, PF_P);
    /* A fetch from a user page with SMEP off must not open it for reads. */
    cr4(w, 0, CR4_SMEP);
    assert_int_equal(x86_lin_fetch(&w->cpu, 0x2000, &gpa, &hva), X86_OK);
    assert_pf(w, rd(w, 0x2000, 4, &v), 0x2000, PF_P);
    world_free(w);
}

static void test_large_pages(void **state)
{
    struct world *w = long_world();
    u64 v, gpa;

    world_put(w, PD + 8, 8, P | W | PS);
    world_put(w, PDPT + 8, 8, P | W | PS);
    world_put(w, DATA, 4, 0x600d);
    assert_int_equal(rd(w, 0x200000 + DATA, 4, &v), X86_OK);
    assert_int_equal(v, 0x600d);
    assert_int_equal(rd(w, 0x40001000 + DATA, 4, &v), X86_OK); /* another slot of the TLB */
    assert_int_equal(v, 0);
    assert_true(x86_translate(&w->cpu, 0x40012345, &gpa));
    assert_int_equal(gpa, 0x12345);
    /* INVLPG anywhere in it drops all of it. */
    world_put(w, PD + 8, 8, 0);
    assert_int_equal(rd(w, 0x200000 + DATA, 4, &v), X86_OK);
    x86_tlb_flush_page(&w->cpu, 0x3ff000);
    assert_pf(w, rd(w, 0x200000 + DATA, 4, &v), 0x200000 + DATA, 0);
    assert_int_equal(rd(w, 0x40000000 + DATA, 4, &v), X86_OK);
    /* Reserved bits below the size. */
    world_put(w, PD + 8, 8, P | W | PS | 0x2000);
    assert_pf(w, rd(w, 0x200000, 4, &v), 0x200000, PF_P | PF_RSVD);
    world_put(w, PD + 8, 8, P | W | PS | 0x1000); /* PAT */
    assert_int_equal(rd(w, 0x200000, 4, &v), X86_OK);
    world_put(w, PML4 + 8, 8, PDPT | P | W | PS);
    assert_pf(w, rd(w, 1ull << 39, 4, &v), 1ull << 39, PF_P | PF_RSVD);
    world_free(w);
}

static void test_global_pages(void **state)
{
    struct world *w = long_world();
    u64 v;

    set_pte(w, 1, (DATA + 4096) | P | W | G);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    assert_int_equal(rd(w, 0x2000, 4, &v), X86_OK);
    world_put(w, PT + 8, 8, 0);
    world_put(w, PT + 16, 8, 0);
    assert_int_equal(x86_set_cr3(&w->cpu, PML4), X86_OK);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    assert_pf(w, rd(w, 0x2000, 4, &v), 0x2000, 0);
    assert_int_equal(x86_set_cr4(&w->cpu, w->cpu.s.cr4 & ~(u64)CR4_PGE), X86_OK);
    assert_pf(w, rd(w, 0x1000, 4, &v), 0x1000, 0);
    world_free(w);
}

static void test_pcid(void **state)
{
    struct world *w = long_world();
    u64 v;

    assert_fault(w, x86_set_cr3(&w->cpu, PML4 | CR3_NOFLUSH), X86_GP, 0);
    assert_int_equal(x86_set_cr3(&w->cpu, PML4 | 1), X86_OK);
    assert_fault(w, x86_set_cr4(&w->cpu, w->cpu.s.cr4 | CR4_PCIDE), X86_GP, 0);
    assert_int_equal(x86_set_cr3(&w->cpu, PML4), X86_OK);
    assert_int_equal(x86_set_cr4(&w->cpu, w->cpu.s.cr4 | CR4_PCIDE), X86_OK);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    world_put(w, PT + 8, 8, 0);
    assert_int_equal(x86_set_cr3(&w->cpu, PML4 | CR3_NOFLUSH), X86_OK);
    assert_int_equal(w->cpu.s.cr3, PML4);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    assert_int_equal(x86_set_cr3(&w->cpu, PML4 | 1 | CR3_NOFLUSH), X86_OK);
    assert_pf(w, rd(w, 0x1000, 4, &v), 0x1000, 0);
    world_free(w);
}

static void test_32bit(void **state)
{
    struct world *w = world_new(64, "ring3-v2");
    u64 v, gpa;

    world_put(w, 0x1000, 4, 0x2000 | P | W | U);
    world_put(w, 0x1004, 4, P | W | U | PS);
    world_put(w, 0x2000 + 4 * 5, 4, DATA | P | W);
    world_put(w, DATA, 4, 0x32);
    world_segments(w, 32, 0);
    w->cpu.s.cr3 = 0x1000;
    w->cpu.s.cr0 |= CR0_PG;
    x86_update_mode(&w->cpu);
    assert_int_equal(rd(w, 0x5000, 4, &v), X86_OK);
    assert_int_equal(v, 0x32);
    assert_int_equal(world_get(w, 0x2000 + 20, 4), DATA | P | W | A);
    /* Without CR4.PSE the bit means nothing: the entry points to a table at 0. */
    assert_pf(w, rd(w, 0x400000, 4, &v), 0x400000, 0);
    cr4(w, CR4_PSE, 0);
    assert_int_equal(rd(w, 0x400000 + DATA, 4, &v), X86_OK);
    assert_int_equal(v, 0x32);
    /* PSE-36: bits 20:13 are address bits 39:32; bit 21 is reserved. */
    world_put(w, 0x1008, 4, P | W | U | PS | 3 << 13);
    assert_true(x86_translate(&w->cpu, 0x812345, &gpa));
    assert_int_equal(gpa, 0x300012345);
    world_put(w, 0x1008, 4, P | W | U | PS | 1 << 21);
    assert_pf(w, rd(w, 0x800000, 4, &v), 0x800000, PF_P | PF_RSVD);
    world_free(w);
}

static void test_pae(void **state)
{
    struct world *w = world_new(64, "ring3-v2");
    struct x86_cpu *c = &w->cpu;
    u64 v;

    world_put(w, 0x1020, 8, 0x3000 | P);
    world_put(w, 0x3000, 8, 0x4000 | P | W | U);
    world_put(w, 0x4008, 8, DATA | P | W);
    world_put(w, DATA, 4, 0xae);
    world_segments(w, 32, 0);
    x86_update_mode(c);
    assert_int_equal(x86_set_cr4(c, CR4_PAE), X86_OK);
    assert_int_equal(x86_set_cr3(c, 0x1020), X86_OK);
    assert_int_equal(x86_set_cr0(c, c->s.cr0 | CR0_PG), X86_OK);
    assert_int_equal(c->paging, X86_PAGING_PAE);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    assert_int_equal(v, 0xae);
    /* The registers are what counts, not memory. */
    world_put(w, 0x1020, 8, 0);
    x86_tlb_flush(c, true);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    world_put(w, 0x1020, 8, 0x3000 | P | W);
    u64 cr3 = c->s.cr3;
    assert_fault(w, x86_set_cr3(c, 0x1020), X86_GP, 0);
    assert_int_equal(c->s.cr3, cr3);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    world_put(w, 0x1020, 8, 0x3000 | P);
    world_put(w, 0x4008, 8, DATA | P | W | 1ull << 60);
    x86_tlb_flush(c, true);
    assert_pf(w, rd(w, 0x1000, 4, &v), 0x1000, PF_P | PF_RSVD);
    world_free(w);
}

static void test_page_crossing(void **state)
{
    struct world *w = long_world();
    u64 v;

    world_put(w, DATA + 0xffe, 8, 0x8877665544332211);
    assert_int_equal(rd(w, 0xffe, 8, &v), X86_OK);
    assert_int_equal(v, 0x8877665544332211);
    set_pte(w, 1, (DATA + 0x5000) | P | W);
    assert_int_equal(wr(w, 0xffd, 8, 0x1020304050607080), X86_OK);
    assert_int_equal(world_get(w, DATA + 0xffd, 3), 0x607080);
    assert_int_equal(world_get(w, DATA + 0x5000, 5), 0x1020304050);
    /* The second page faults: its start is the address, and the first page is untouched. */
    set_pte(w, 1, 0);
    assert_pf(w, wr(w, 0xffd, 8, 0), 0x1000, PF_W);
    assert_int_equal(world_get(w, DATA + 0xffd, 3), 0x607080);
    set_pte(w, 0, 0);
    assert_pf(w, wr(w, 0xffd, 8, 0), 0xffd, PF_W);
    world_free(w);
}

static void test_wrap_and_canonical(void **state)
{
    struct world *w = long_world();
    const u8 *hva;
    u64 v, gpa;

    assert_fault(w, rd(w, 0x0000800000000000, 1, &v), X86_GP, 0);
    assert_fault(w, rd(w, 0x00007ffffffffffc, 8, &v), X86_GP, 0);
    assert_fault(w, x86_read(&w->cpu, X86_SS, 0x0000800000000000, 1, &v), X86_SS_FAULT, 0);
    assert_fault(w, x86_lin_fetch(&w->cpu, 0x8000000000000000, &gpa, &hva), X86_GP, 0);
    assert_pf(w, rd(w, 0x00007ffffffffff8, 8, &v), 0x00007ffffffffff8, 0);
    world_free(w);

    w = world_new(4, "ring3-v2");
    world_protected(w, 32, 0);
    w->input = 0xddccbbaa;
    world_put(w, 0, 2, 0x2211);
    assert_int_equal(rd(w, 0xfffffffe, 4, &v), X86_OK);
    assert_int_equal(v, 0x2211bbaa);
    assert_int_equal(w->log[0].addr, 0xfffffffe);
    assert_int_equal(w->log[0].size, 2);
    world_free(w);
}

static void test_mmio(void **state)
{
    struct world *w = world_new(4, "ring3-v2");
    u64 v, buf[2] = {0x0807060504030201, 0x100f0e0d0c0b0a09};

    world_protected(w, 32, 0);
    w->input = 0x1122334455667788;
    assert_int_equal(rd(w, 0xfee00000, 8, &v), X86_OK);
    assert_int_equal(v, 0x1122334455667788);
    assert_int_equal(w->logged, 1);
    w->logged = 0;
    assert_int_equal(wr(w, 0xfee00002, 4, 0xaabbccdd), X86_OK);
    assert_int_equal(w->logged, 2);
    assert_int_equal(w->log[0].val, 0xccdd);
    assert_int_equal(w->log[1].val, 0xaabb);
    assert_int_equal(w->log[1].addr, 0xfee00004);
    w->logged = 0;
    assert_int_equal(x86_write_bytes(&w->cpu, X86_DS, 0xfee00010, buf, 16), X86_OK);
    assert_int_equal(w->logged, 2);
    assert_int_equal(w->log[0].size, 8);
    assert_int_equal(w->log[1].val, buf[1]);
    world_free(w);
}

static void test_rom_and_code(void **state)
{
    struct world *w = world_new(8, "ring3-v2");
    struct x86_rmw m;

    world_protected(w, 32, 0);
    w->rom = 0x2000;
    w->rom_bytes = 0x1000;
    w->code_page = 0x3000;
    assert_int_equal(wr(w, 0x2000, 4, 1), X86_OK);
    assert_int_equal(wr(w, 0x2000, 4, 1), X86_OK);
    assert_int_equal(world_get(w, 0x2000, 4), 0);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(wr(w, 0x3010, 4, i), X86_OK);
        assert_int_equal(w->code_writes, i);
        assert_int_equal(w->code_written, 0x3010);
    }
    /* A page that becomes code loses its write tag when the world says so. */
    assert_int_equal(wr(w, 0x4000, 4, 1), X86_OK);
    w->code_page = 0x4000;
    x86_tlb_drop_gpa(&w->cpu, 0x4000, 4096, true);
    assert_int_equal(wr(w, 0x4000, 4, 2), X86_OK);
    assert_int_equal(w->code_writes, 3);
    /* Read-modify-write: in place in a code page, a copy for ROM. */
    assert_int_equal(x86_rmw_open(&w->cpu, X86_DS, 0x4008, 8, &m), X86_OK);
    assert_ptr_equal(m.p, w->ram + 0x4008);
    *(u64 *)m.p = 77;
    x86_rmw_close(&w->cpu, &m);
    assert_int_equal(w->code_writes, 4);
    assert_int_equal(x86_rmw_open(&w->cpu, X86_DS, 0x2008, 8, &m), X86_OK);
    *(u64 *)m.p = 77;
    x86_rmw_close(&w->cpu, &m);
    assert_int_equal(world_get(w, 0x2008, 8), 0);
    /* Crossing from RAM into MMIO. */
    assert_int_equal(x86_rmw_open(&w->cpu, X86_DS, 0x7ffc, 8, &m), X86_OK);
    *(u64 *)m.p = 0x1111222233334444;
    x86_rmw_close(&w->cpu, &m);
    assert_int_equal(world_get(w, 0x7ffc, 4), 0x33334444);
    assert_int_equal(w->log[1].val, 0x11112222);
    world_free(w);
}

static void test_alignment_check(void **state)
{
    struct world *w = long_world();
    u64 v;

    w->cpu.s.cr0 |= CR0_AM;
    w->cpu.s.rflags |= RFLAGS_AC;
    world_cpl(w, 3);
    assert_fault(w, rd(w, 0x1001, 2, &v), X86_AC, 0);
    assert_fault(w, wr(w, 0x1004, 8, 0), X86_AC, 0);
    assert_int_equal(rd(w, 0x1003, 1, &v), X86_OK);
    assert_int_equal(rd(w, 0x1004, 4, &v), X86_OK);
    assert_int_equal(x86_lin_read(&w->cpu, 0x1001, &v, 4, X86_R | X86_SYS), X86_OK);
    world_cpl(w, 0);
    assert_int_equal(rd(w, 0x1001, 2, &v), X86_OK);
    world_free(w);
}

static void test_data_breakpoints(void **state)
{
    struct world *w = long_world();
    u64 v, dr6;

    w->cpu.s.dr[1] = 0x1004;
    w->cpu.s.dr[2] = 0x5000;
    w->cpu.s.dr7 =
        DR7_ONES | 1 << 2 | 1ull << 20 | 3ull << 22 | 1 << 4; /* 1: write, 4 bytes; 2: exec */
    x86_tlb_flush(&w->cpu, true);
    x86_update_mode(&w->cpu);
    assert_int_equal(rd(w, 0x1004, 4, &v), X86_OK);
    assert_int_equal(wr(w, 0x1008, 4, v), X86_OK);
    assert_int_equal(wr(w, 0x1003, 1, v), X86_OK);
    assert_int_equal(w->cpu.s.dr6_pending, 0);
    assert_int_equal(wr(w, 0x1000, 8, v), X86_OK);
    assert_int_equal(w->cpu.s.dr6_pending, DR6_B(1));
    assert_true(x86_attn(&w->cpu) & X86_ATTN_STEP);
    assert_true(x86_code_breakpoint(&w->cpu, 0x5000, &dr6));
    assert_int_equal(dr6, DR6_B(2));
    assert_false(x86_code_breakpoint(&w->cpu, 0x1004, &dr6));
    world_free(w);
}

static void test_segment_limits(void **state)
{
    struct world *w = world_new(32, "ring3-v2");
    struct x86_seg *ds = &w->cpu.s.seg[X86_DS];
    u64 v;

    world_segments(w, 32, 0);
    ds->base = 0x1000;
    ds->limit = 0xfff;
    x86_update_mode(&w->cpu);
    world_put(w, 0x1ffc, 4, 0x77);
    assert_int_equal(rd(w, 0xffc, 4, &v), X86_OK);
    assert_int_equal(v, 0x77);
    assert_fault(w, rd(w, 0xffd, 4, &v), X86_GP, 0);
    ds->attr &= ~SEG_WRITE;
    x86_update_mode(&w->cpu);
    assert_fault(w, wr(w, 0, 4, 0), X86_GP, 0);
    ds->attr |= SEG_WRITE | SEG_DOWN;
    x86_update_mode(&w->cpu);
    assert_fault(w, rd(w, 0xfff, 1, &v), X86_GP, 0);
    assert_int_equal(rd(w, 0x1000, 4, &v), X86_OK);
    ds->attr &= ~SEG_P;
    x86_update_mode(&w->cpu);
    assert_fault(w, rd(w, 0x1000, 1, &v), X86_GP, 0);
    w->cpu.s.seg[X86_SS].limit = 0xf;
    x86_update_mode(&w->cpu);
    assert_fault(w, x86_read(&w->cpu, X86_SS, 0xd, 4, &v), X86_SS_FAULT, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accessed_and_dirty),
        cmocka_unit_test(test_faults_change_nothing),
        cmocka_unit_test(test_error_codes),
        cmocka_unit_test(test_write_protect),
        cmocka_unit_test(test_smep_smap),
        cmocka_unit_test(test_large_pages),
        cmocka_unit_test(test_global_pages),
        cmocka_unit_test(test_pcid),
        cmocka_unit_test(test_32bit),
        cmocka_unit_test(test_pae),
        cmocka_unit_test(test_page_crossing),
        cmocka_unit_test(test_wrap_and_canonical),
        cmocka_unit_test(test_mmio),
        cmocka_unit_test(test_rom_and_code),
        cmocka_unit_test(test_alignment_check),
        cmocka_unit_test(test_data_breakpoints),
        cmocka_unit_test(test_segment_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
