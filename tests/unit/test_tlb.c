/* test_tlb.c - the software TLB: contexts, PCID, INVPCID, global pages, growth, code pages */
#include "x86_world.h"

#define P  1ull
#define W  2ull
#define U  4ull
#define PS 0x80ull
#define G  0x100ull

/* PML4 at 1000h, PDPT 2000h, PD 3000h, one PT at 4000h that every 2 MiB of the first GiB shows.
 * Data pages from 10000h hold their number. */
#define PML4 0x1000
#define PDPT 0x2000
#define PD   0x3000
#define PT   0x4000
#define DATA 0x10000

#define PAGE(i) ((u64)(i) << 12)
#define FAR(i)  (PAGE(i) + 2 * MiB) /* the same page, one TLB of 512 entries further */

static void map(struct world *w, unsigned i, unsigned data, u64 bits)
{
    world_put(w, PT + i * 8, 8, (DATA + PAGE(data)) | bits);
}

static struct world *tlb_world(void)
{
    struct world *w = world_new(64, "ring3-v3");

    world_put(w, PML4, 8, PDPT | P | W | U);
    world_put(w, PDPT, 8, PD | P | W | U);
    for (unsigned i = 0; i < 512; i++)
        world_put(w, PD + i * 8, 8, PT | P | W | U);
    for (unsigned i = 0; i < 16; i++) {
        map(w, i, i, P | W | U);
        world_put(w, DATA + PAGE(i), 8, i);
    }
    world_long(w, PML4, 64, 0);
    assert_int_equal(x86_set_cr4(&w->cpu, w->cpu.s.cr4 | CR4_PCIDE), X86_OK);
    w->flushes = 0;
    return w;
}

static void load_cr3(struct world *w, unsigned pcid, u64 keep)
{
    assert_int_equal(x86_set_cr3(&w->cpu, PML4 | pcid | keep), X86_OK);
}

/* What the page at lin shows to explicit accesses, and to implicit ones of the processor. */
static u64 see(struct world *w, u64 lin)
{
    u64 v;

    assert_int_equal(x86_read(&w->cpu, X86_DS, lin, 8, &v), X86_OK);
    return v;
}

static u64 see_sys(struct world *w, u64 lin)
{
    u64 v;

    assert_int_equal(x86_lin_read(&w->cpu, lin, &v, 8, X86_R | X86_SYS), X86_OK);
    return v;
}

#define assert_flushed(w, n, ctxs, page, glob)           \
    do {                                                 \
        assert_int_equal((w)->flushes, (n));             \
        assert_int_equal((w)->flushed.contexts, (ctxs)); \
        assert_int_equal((w)->flushed.lin, (page));      \
        assert_int_equal((w)->flushed.global, (glob));   \
    } while (0)

static void test_contexts_survive(void **state)
{
    struct world *w = tlb_world();
    unsigned first = w->cpu.tlb_ctx;

    assert_int_equal(see(w, PAGE(1)), 1);
    map(w, 1, 2, P | W | U);
    load_cr3(w, 7, CR3_NOFLUSH);
    assert_int_not_equal(w->cpu.tlb_ctx, first);
    assert_int_equal(see(w, PAGE(1)), 2);
    map(w, 1, 3, P | W | U);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_int_equal(w->cpu.tlb_ctx, first);
    assert_int_equal(see(w, PAGE(1)), 1);
    load_cr3(w, 7, CR3_NOFLUSH);
    assert_int_equal(see(w, PAGE(1)), 2);
    assert_int_equal(w->flushes, 0); /* switches only */
    /* Another base with bit 63 keeps, the same base without it does not. */
    world_put(w, 0x5000, 8, PDPT | P | W | U);
    assert_int_equal(x86_set_cr3(&w->cpu, 0x5000 | 7 | CR3_NOFLUSH), X86_OK);
    assert_int_equal(see(w, PAGE(1)), 2);
    load_cr3(w, 7, 0);
    assert_flushed(w, 1, BIT(w->cpu.tlb_ctx), X86_TLB_ALL_PAGES, false);
    assert_int_equal(see(w, PAGE(1)), 3);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_int_equal(see(w, PAGE(1)), 1);
    world_free(w);
}

static void test_one_context_without_pcide(void **state)
{
    struct world *w = tlb_world();

    assert_int_equal(x86_set_cr4(&w->cpu, w->cpu.s.cr4 & ~(u64)CR4_PCIDE), X86_OK);
    unsigned ctx = w->cpu.tlb_ctx;
    assert_int_equal(see(w, PAGE(1)), 1);
    map(w, 1, 2, P | W | U);
    load_cr3(w, 0x18, 0); /* cache control bits, no PCID */
    assert_int_equal(w->cpu.tlb_ctx, ctx);
    assert_int_equal(see(w, PAGE(1)), 2);
    world_free(w);
}

static void test_shared_kernel_set(void **state)
{
    struct world *w = tlb_world();

    map(w, 2, 2, P | W | G);
    assert_int_equal(see_sys(w, PAGE(1)), 1);
    assert_int_equal(see_sys(w, PAGE(2)), 2);
    map(w, 1, 3, P | W);
    map(w, 2, 3, P | W | G);
    load_cr3(w, 1, CR3_NOFLUSH);
    assert_int_equal(see_sys(w, PAGE(2)), 2); /* global: shared */
    assert_int_equal(see_sys(w, PAGE(1)), 3);
    map(w, 1, 4, P | W);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_int_equal(see_sys(w, PAGE(1)), 4);
    /* Without bit 63, in the same context. */
    map(w, 1, 5, P | W);
    load_cr3(w, 0, 0);
    assert_int_equal(see_sys(w, PAGE(1)), 5);
    assert_int_equal(see_sys(w, PAGE(2)), 2);
    world_free(w);
}

static void test_invlpg(void **state)
{
    struct world *w = tlb_world();

    map(w, 2, 2, P | W | G);
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        load_cr3(w, pcid, CR3_NOFLUSH);
        assert_int_equal(see(w, PAGE(1)), 1);
        assert_int_equal(see(w, PAGE(2)), 2);
    }
    map(w, 1, 3, P | W);
    map(w, 2, 3, P | W | G);
    x86_tlb_flush_page(&w->cpu, PAGE(1) + 5);
    assert_flushed(w, 1, BIT(w->cpu.tlb_ctx), PAGE(1), true);
    x86_tlb_flush_page(&w->cpu, PAGE(2));
    assert_int_equal(see(w, PAGE(1)), 3);
    assert_int_equal(see(w, PAGE(2)), 3);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_int_equal(see(w, PAGE(1)), 1); /* its own affair */
    assert_int_equal(see(w, PAGE(2)), 3); /* global */
    world_free(w);
}

static void test_invlpg_large(void **state)
{
    struct world *w = tlb_world();

    world_put(w, PD + 8, 8, P | W | PS | G);
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        load_cr3(w, pcid, CR3_NOFLUSH);
        assert_int_equal(see(w, 2 * MiB + DATA + PAGE(6)), 6);
        assert_int_equal(see(w, 2 * MiB + DATA + PAGE(7)), 7);
    }
    world_put(w, PD + 8, 8, PT | P | W);
    map(w, 0x16, 1, P | W); /* where 2 MiB + DATA + PAGE(6) is now */
    map(w, 0x17, 2, P | W);
    x86_tlb_flush_page(&w->cpu, 2 * MiB);
    assert_flushed(w, 1, BIT(w->cpu.tlb_ctx), X86_TLB_ALL_PAGES, true);
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        load_cr3(w, pcid, CR3_NOFLUSH);
        assert_int_equal(see(w, 2 * MiB + DATA + PAGE(6)), 1);
        assert_int_equal(see(w, 2 * MiB + DATA + PAGE(7)), 2);
    }
    world_free(w);
}

/* INVPCID as an instruction, its descriptor at DATA + 15 pages. */
static void invpcid(struct world *w, unsigned type, u64 pcid, u64 lin)
{
    world_put(w, DATA + PAGE(15), 8, pcid);
    world_put(w, DATA + PAGE(15) + 8, 8, lin);
    w->cpu.s.gpr[X86_RAX] = type;
    w->cpu.s.gpr[X86_RCX] = PAGE(15);
    assert_int_equal(WORLD_EXEC(w, 0x66, 0x0f, 0x38, 0x82, 0x01), X86_YIELD);
}

/* Pages 1 and 2 (not global) and 3 (global) seen by PCIDs 0 and 1, then all moved; the current
 * PCID is 1. */
static struct world *invpcid_world(void)
{
    struct world *w = tlb_world();

    map(w, 3, 3, P | W | G);
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        load_cr3(w, pcid, CR3_NOFLUSH);
        for (unsigned i = 1; i <= 3; i++)
            assert_int_equal(see(w, PAGE(i)), i);
    }
    for (unsigned i = 1; i <= 3; i++)
        map(w, i, i + 4, P | W | (i == 3 ? G : 0));
    return w;
}

#define assert_sees(w, a, b, c)                   \
    do {                                          \
        assert_int_equal(see((w), PAGE(1)), (a)); \
        assert_int_equal(see((w), PAGE(2)), (b)); \
        assert_int_equal(see((w), PAGE(3)), (c)); \
    } while (0)

static void test_invpcid(void **state)
{
    struct world *w = invpcid_world();
    unsigned other = 0;

    invpcid(w, 0, 0, PAGE(1)); /* another PCID's page */
    assert_flushed(w, 1, BIT(other), PAGE(1), false);
    assert_sees(w, 1, 2, 3);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_sees(w, 5, 2, 3);
    world_free(w);

    w = invpcid_world();
    invpcid(w, 1, 0, 0); /* another PCID */
    assert_flushed(w, 1, BIT(other), X86_TLB_ALL_PAGES, false);
    assert_sees(w, 1, 2, 3);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_sees(w, 5, 6, 3);
    world_free(w);

    w = invpcid_world();
    invpcid(w, 1, 9, 0); /* one that was never used */
    assert_int_equal(w->flushes, 0);
    invpcid(w, 3, 0, 0); /* all but global ones */
    assert_flushed(w, 1, X86_TLB_ALL_CONTEXTS, X86_TLB_ALL_PAGES, false);
    assert_sees(w, 5, 6, 3);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_sees(w, 5, 6, 3);
    world_free(w);

    w = invpcid_world();
    invpcid(w, 2, 0, 0); /* all */
    assert_flushed(w, 1, X86_TLB_ALL_CONTEXTS, X86_TLB_ALL_PAGES, true);
    assert_sees(w, 5, 6, 7);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_sees(w, 5, 6, 7);
    world_free(w);
}

static void test_recycling(void **state)
{
    struct world *w = tlb_world();

    assert_int_equal(see(w, PAGE(1)), 1);
    for (unsigned i = 1; i < X86_TLB_CONTEXTS; i++) {
        load_cr3(w, 100 + i, CR3_NOFLUSH);
        assert_int_equal(see(w, PAGE(1)), 1);
    }
    assert_int_equal(w->flushes, 0);
    load_cr3(w, 0, CR3_NOFLUSH); /* now 101 is the oldest */
    unsigned oldest = 101 % X86_TLB_CONTEXTS;
    map(w, 1, 2, P | W);
    load_cr3(w, 999, CR3_NOFLUSH);
    assert_int_equal(w->cpu.tlb_ctx, oldest);
    assert_flushed(w, 1, BIT(oldest), X86_TLB_ALL_PAGES, false);
    assert_int_equal(see(w, PAGE(1)), 2);
    load_cr3(w, 0, CR3_NOFLUSH);
    assert_int_equal(see(w, PAGE(1)), 1);
    /* A change that flushes forgets all PCIDs. */
    assert_int_equal(x86_set_cr4(&w->cpu, w->cpu.s.cr4 & ~(u64)CR4_PGE), X86_OK);
    assert_flushed(w, 2, X86_TLB_ALL_CONTEXTS, X86_TLB_ALL_PAGES, true);
    for (unsigned i = 1; i < X86_TLB_CONTEXTS; i++) {
        load_cr3(w, 100 + i, CR3_NOFLUSH);
        assert_int_equal(see(w, PAGE(1)), 2);
    }
    assert_int_equal(w->flushes, 2);
    world_free(w);
}

static u64 entries(const struct world *w)
{
    return w->cpu.tlb_mask / X86_TLB_ENTRY_BYTES + 1;
}

static void test_growth(void **state)
{
    struct world *w = tlb_world();

    map(w, 2, 2, P | W | G);
    assert_int_equal(see(w, PAGE(2)), 2);
    assert_int_equal(entries(w), X86_TLB_START);
    for (unsigned i = 0; i <= X86_TLB_START / 4; i++) {
        assert_int_equal(see(w, PAGE(1)), 1);
        assert_int_equal(see(w, FAR(1)), 1);
    }
    assert_int_equal(entries(w), 2 * X86_TLB_START);
    /* Both have their place now, and what was there before stayed. */
    map(w, 1, 3, P | W);
    map(w, 2, 3, P | W | G);
    assert_int_equal(see(w, PAGE(1)), 1);
    assert_int_equal(see(w, FAR(1)), 1);
    assert_int_equal(see(w, PAGE(2)), 2);
    assert_true(x86_tlb_at(&w->cpu, PAGE(1)) != x86_tlb_at(&w->cpu, FAR(1)));
    /* Lists moved too: a flush finds all. */
    load_cr3(w, 0, 0);
    assert_int_equal(see(w, PAGE(1)), 3);
    assert_int_equal(see(w, FAR(1)), 3);
    assert_int_equal(see(w, PAGE(2)), 2);
    /* Another context has sets of its own. */
    load_cr3(w, 1, CR3_NOFLUSH);
    assert_int_equal(see(w, PAGE(1)), 3);
    assert_int_equal(entries(w), X86_TLB_START);
    world_free(w);
}

static void test_growth_ends(void **state)
{
    struct world *w = tlb_world();
    u64 last = 0;

    /* 256 MiB apart: they meet in every size. */
    for (unsigned i = 0; i < 2 * X86_TLB_MAX; i++) {
        see(w, PAGE(1));
        see(w, PAGE(1) + 256 * MiB);
        assert_true(entries(w) == last || entries(w) == 2 * last || !last);
        last = entries(w);
    }
    assert_int_equal(last, X86_TLB_MAX);
    /* Flushes that find it nearly empty shrink it. */
    for (unsigned i = 0; i < 1000; i++) {
        see(w, PAGE(1));
        see(w, PAGE(2));
        load_cr3(w, 0, 0);
    }
    assert_int_equal(entries(w), X86_TLB_MIN);
    assert_int_equal(see(w, PAGE(3)), 3);
    world_free(w);
}

static void put(struct world *w, u64 lin, u64 v)
{
    assert_int_equal(x86_write(&w->cpu, X86_DS, lin, 8, v), X86_OK);
}

static void test_drop_gpa(void **state)
{
    struct world *w = tlb_world();

    /* Written under two names, in two contexts. */
    put(w, PAGE(1), 1);
    put(w, FAR(1), 1);
    put(w, PAGE(2), 2);
    load_cr3(w, 1, CR3_NOFLUSH);
    put(w, PAGE(1), 1);
    see(w, PAGE(3));
    w->code_page = DATA + PAGE(1);
    x86_tlb_drop_gpa(&w->cpu, DATA + PAGE(1), 4096, true);
    put(w, PAGE(1), 1);
    assert_int_equal(w->code_writes, 1);
    load_cr3(w, 0, CR3_NOFLUSH);
    put(w, FAR(1), 1);
    put(w, PAGE(1), 1);
    assert_int_equal(w->code_writes, 3);
    /* Page 2 was written before that, and is still known to be. */
    w->code_page = DATA + PAGE(2);
    x86_tlb_drop_gpa(&w->cpu, DATA + PAGE(2), 4096, true);
    put(w, PAGE(2), 1);
    assert_int_equal(w->code_writes, 4);
    /* Only read: nothing to revoke, and a later write sees what the page is. */
    w->code_page = DATA + PAGE(3);
    x86_tlb_drop_gpa(&w->cpu, DATA + PAGE(3), 4096, true);
    put(w, PAGE(3), 1);
    assert_int_equal(w->code_writes, 5);
    assert_int_equal(w->flushes, 0);
    /* All of it, reads too. */
    assert_int_equal(see(w, PAGE(5)), 5);
    map(w, 5, 6, P | W);
    x86_tlb_drop_gpa(&w->cpu, DATA + PAGE(5), 1, false);
    assert_flushed(w, 1, X86_TLB_ALL_CONTEXTS, X86_TLB_ALL_PAGES, true);
    assert_int_equal(see(w, PAGE(5)), 6);
    world_free(w);
}

static void test_exec_gpa(void **state)
{
    struct world *w = tlb_world();
    const u8 *hva;
    u64 gpa;

    assert_false(x86_tlb_exec_gpa(&w->cpu, PAGE(4) + 3, &gpa));
    assert_int_equal(x86_lin_fetch(&w->cpu, PAGE(4) + 3, &gpa, &hva), X86_OK);
    gpa = 0;
    assert_true(x86_tlb_exec_gpa(&w->cpu, PAGE(4) + 3, &gpa));
    assert_int_equal(gpa, DATA + PAGE(4) + 3);
    assert_false(x86_tlb_exec_gpa(&w->cpu, FAR(4) + 3, &gpa));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contexts_survive),  cmocka_unit_test(test_one_context_without_pcide),
        cmocka_unit_test(test_shared_kernel_set), cmocka_unit_test(test_invlpg),
        cmocka_unit_test(test_invlpg_large),      cmocka_unit_test(test_invpcid),
        cmocka_unit_test(test_recycling),         cmocka_unit_test(test_growth),
        cmocka_unit_test(test_growth_ends),       cmocka_unit_test(test_drop_gpa),
        cmocka_unit_test(test_exec_gpa),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
