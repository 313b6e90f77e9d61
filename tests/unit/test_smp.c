/* test_smp.c - engine bt with several vCPUs that run at once: code is rewritten by others while it
 * runs, a tiny code cache is evicted all the time, one link leads everywhere */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "../idle_env.h"
#include "smp_guest.h"
#include "unit.h"
#include "x86/cpuid.h"

#define VCPUS   4
#define RAM     (4 * MiB)
#define SECONDS 120 /* a hang is a failure */

extern const u8 smp_guest[], smp_guest_end[], smp_reader[], smp_writer[], smp_walker[];

static struct mem *mem;
static struct bus *pio, *mmio;
static struct x86_cpuid_model model;
static struct engine_vm *vm;

struct runner {
    struct engine_vcpu *vcpu;
    pthread_t thread;
    struct vcpu_exit exit;
};

/* --- memory ----------------------------------------------------------------------------------- */

static void put(u64 gpa, const void *bytes, u64 n)
{
    assert_int_equal(mem_write(mem, gpa, bytes, n), 0);
}

static void put64(u64 gpa, u64 val)
{
    put(gpa, &val, 8);
}

/* mov eax, n; then as many "add eax, 0" as asked for; ret */
static void put_function(u64 gpa, u32 n, unsigned adds)
{
    u8 code[128] = {0xb8};
    unsigned len = 5;

    memcpy(code + 1, &n, 4);
    for (unsigned i = 0; i < adds; i++, len += 3)
        memcpy(code + len, "\x83\xc0\x00", 3);
    code[len++] = 0xc3;
    put(gpa, code, len);
}

/* The first 4 MiB as they are, and the window. */
static void put_tables(unsigned id)
{
    const u64 rights = 3;
    u64 pml4 = TABLES + id * 0x6000ull, pdpt = pml4 + 0x1000, pd = pml4 + 0x2000;
    u64 pd2 = pml4 + 0x3000, pt = pml4 + 0x4000;

    put64(pml4, pdpt | rights);
    put64(pdpt, pd | rights);
    put64(pd, 0x80 | rights);
    put64(pd + 8, 2 * MiB | 0x80 | rights);
    put64(pdpt + 8, pd2 | rights);
    put64(pd2, pt | rights);
    for (unsigned i = 0; i < 2; i++) {
        u64 page = PRIVATE + id * 0x2000ull + i * 0x1000ull;
        put64(pt + i * 8, page | rights);
        put_function(page, id + 16 * i, 2);
    }
}

static struct x86_seg flat(u16 sel, u16 attr)
{
    return (struct x86_seg){
        .sel = sel, .limit = 0xffffffff, .attr = SEG_P | SEG_S | SEG_WRITE | SEG_G | attr};
}

static void set_state(struct runner *r, unsigned id, const u8 *program)
{
    static struct x86_state s;
    struct err e = {0};

    x86_state_reset(&s, false);
    s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    s.cr3 = TABLES + id * 0x6000ull;
    s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_PGE;
    s.efer = EFER_LME | EFER_LMA | EFER_NXE;
    for (unsigned i = 0; i < X86_SREGS; i++)
        s.seg[i] = flat(i == X86_CS ? 8 : 16, i == X86_CS ? SEG_CODE | SEG_L : SEG_DB);
    s.rip = CODE + (u64)(program - smp_guest);
    s.gpr[X86_RSP] = STACKS + (id + 1) * 0x1000ull;
    s.gpr[X86_R15] = id;
    if (engine_bt.vcpu_set_state(r->vcpu, &s, &e))
        fail_msg("%s", e.msg);
}

static void setup_vm(struct runner *r, unsigned n, const struct bt_config *tuning)
{
    struct err e = {0};
    struct engine_vm_config cfg = {.cpuid = &model, .bt = *tuning};

    assert_int_equal(x86_cpuid_model(&model, "host", n, &e), 0);
    assert_int_equal(mem_create(&mem, &e), 0);
    assert_int_equal(mem_add_ram(mem, 0, RAM, &e), 0);
    assert_int_equal(bus_create(&pio, "PIO", 0x10000, &e), 0);
    assert_int_equal(bus_create(&mmio, "MMIO", BIT64(40), &e), 0);
    cfg.mem = mem;
    cfg.pio = pio;
    cfg.mmio = mmio;
    assert_int_equal(engine_bt.vm_create(&cfg, &vm, &e), 0);
    put(CODE, smp_guest, (u64)(smp_guest_end - smp_guest));
    put_function(OWN_FN, 0, 0);
    put_function(OTHER_FN, 0, 0);
    put_function(DMA_FN, 0, 0);
    for (unsigned i = 0; i < MANY_N; i++)
        put_function(MANY + i * MANY_STEP, i, 30);
    for (unsigned i = 0; i < n; i++) {
        put_tables(i);
        assert_int_equal(engine_bt.vcpu_create(vm, i, &idle_env, &r[i].vcpu, &e), 0);
    }
}

static void drop_vm(struct runner *r, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        engine_bt.vcpu_destroy(r[i].vcpu);
    engine_bt.vm_destroy(vm);
    bus_destroy(pio);
    bus_destroy(mmio);
    mem_destroy(mem);
}

/* --- running ---------------------------------------------------------------------------------- */

static void *run(void *arg)
{
    struct runner *r = arg;

    engine_bt.vcpu_run(r->vcpu, &r->exit);
    return NULL;
}

static void check_end(struct runner *r, unsigned id)
{
    static struct x86_state s;

    engine_bt.vcpu_get_state(r->vcpu, &s);
    if (r->exit.reason != VCPU_EXIT_HALTED || s.gpr[X86_R14])
        fail_msg("vCPU %u: exit %d at %#llx, smp_guest.S:%llu, eax %#x, ebp %#x, r12d %#x", id,
                 r->exit.reason, (unsigned long long)s.rip, (unsigned long long)s.gpr[X86_R14],
                 (u32)s.gpr[X86_RAX], (u32)s.gpr[X86_RBP], (u32)s.gpr[X86_R12]);
}

/* A device that writes code, and then tells that it did. */
static void write_by_dma(void)
{
    for (u32 n = 1; n <= DMA_REWRITES; n++) {
        put(DMA_FN + 1, &n, 4);
        put(DMA_FLAG, &n, 4);
        usleep(200);
    }
}

static void run_all(unsigned n, const u8 *const *program, const struct bt_config *tuning)
{
    struct runner r[VCPUS] = {0};

    alarm(SECONDS);
    setup_vm(r, n, tuning);
    for (unsigned i = 0; i < n; i++)
        set_state(&r[i], i, program[i]);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(pthread_create(&r[i].thread, NULL, run, &r[i]), 0);
    write_by_dma();
    for (unsigned i = 0; i < n; i++)
        pthread_join(r[i].thread, NULL);
    for (unsigned i = 0; i < n; i++)
        check_end(&r[i], i);
    drop_vm(r, n);
    alarm(0);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void rewriting(void **state)
{
    static const u8 *const program[] = {smp_reader, smp_writer};

    run_all(2, program, &(struct bt_config){.code_cache = 0});
}

static void rewriting_and_evicting(void **state)
{
    static const u8 *const program[] = {smp_reader, smp_writer, smp_walker};

    run_all(3, program, &(struct bt_config){.code_cache = 1});
}

static void evicting(void **state)
{
    static const u8 *const program[] = {smp_walker, smp_walker};

    run_all(2, program, &(struct bt_config){.code_cache = 1});
}

static void short_blocks(void **state)
{
    static const u8 *const program[] = {smp_reader, smp_writer, smp_walker};

    run_all(3, program, &(struct bt_config){.code_cache = 1, .block_insns = 1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewriting),
        cmocka_unit_test(rewriting_and_evicting),
        cmocka_unit_test(evicting),
        cmocka_unit_test(short_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
