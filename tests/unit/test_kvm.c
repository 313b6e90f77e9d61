/* test_kvm.c - engine kvm without a kernel: state conversion, answers to exits */
#include "unit.h"

#include <pthread.h>

#include "../idle_env.h"
#include "engine/kvm/convert.h"
#include "kvm_live.h"
#include "x86/debug.h"

/* ---- conversion ---- */

static u64 noise = 1;

static u64 some(void)
{
    noise = noise * 6364136223846793005ull + 1442695040888963407ull;
    return noise >> 13 ^ noise << 29;
}

static void fill_seg(struct x86_seg *s)
{
    *s = (struct x86_seg){some(), (u32)some(), (u16)some(), (u16)(some() & 0xf0ff)};
    if (s->attr & SEG_P && s->attr & SEG_S)
        s->attr |= SEG_ACCESSED;
}

static void segments(void **state)
{
    for (unsigned i = 0; i < 1000; i++) {
        struct x86_seg s, back;
        struct kvm_segment k;

        fill_seg(&s);
        kvm_from_seg(&s, &k);
        assert_int_equal(k.unusable, !(s.attr & SEG_P));
        kvm_to_seg(&k, &back);
        assert_int_equal(back.base, s.base);
        assert_int_equal(back.limit, s.limit);
        assert_int_equal(back.sel, s.sel);
        assert_int_equal(back.attr, s.attr);
    }
}

/* Hardware refuses a usable segment that was never accessed, and so does the kernel. */
static void accessed(void **state)
{
    struct x86_seg s = {0, 0xffff, 8, SEG_P | SEG_S | SEG_CODE};
    struct x86_seg ldt = {0, 0xffff, 8, SEG_P | 2};
    struct kvm_segment k;

    kvm_from_seg(&s, &k);
    assert_int_equal(k.type, SEG_CODE | SEG_ACCESSED);
    kvm_from_seg(&ldt, &k);
    assert_int_equal(k.type, 2);
}

static void registers(void **state)
{
    struct x86_state s, back;
    struct kvm_regs k;

    memset(&s, 0, sizeof(s));
    memset(&back, 0, sizeof(back));
    for (unsigned i = 0; i < 16; i++)
        s.gpr[i] = some();
    s.rip = some();
    s.rflags = RFLAGS_ONE | RFLAGS_IF | RFLAGS_DF;
    kvm_from_regs(&s, &k);
    assert_int_equal(k.rax, s.gpr[X86_RAX]);
    assert_int_equal(k.rsp, s.gpr[X86_RSP]);
    assert_int_equal(k.r15, s.gpr[X86_R15]);
    kvm_to_regs(&k, &back);
    assert_memory_equal(&back, &s, sizeof(s));
}

static void system_registers(void **state)
{
    for (unsigned cpl = 0; cpl < 4; cpl += 3) {
        struct x86_state s, back;
        struct kvm_sregs2 k = {.apic_base = 7, .cr8 = 3};

        x86_state_reset(&s, false);
        back = s;
        s.cr0 |= CR0_PE | CR0_PG;
        s.cr4 = CR4_PAE;
        s.efer = EFER_LME | EFER_LMA;
        s.cr3 = 0x1000;
        s.cr2 = some();
        s.gdtr = (struct x86_dtable){some(), 0x7f};
        s.idtr = (struct x86_dtable){some(), 0xfff};
        s.cpl = (u8)cpl;
        /* A null SS says nothing of the level, yet it must not be lost. */
        s.seg[X86_SS] = (struct x86_seg){.attr = (u16)(cpl << SEG_DPL_SHIFT)};
        kvm_from_sregs(&s, &k);
        assert_int_equal(k.apic_base, 7);
        assert_int_equal(k.cr8, 3);
        kvm_to_sregs(&k, &back);
        assert_int_equal(back.cpl, cpl);
        assert_memory_equal(&back, &s, sizeof(s));
    }
}

static void debug_registers(void **state)
{
    struct x86_state s, back;
    struct kvm_debugregs k;

    x86_state_reset(&s, false);
    back = s;
    for (unsigned i = 0; i < 4; i++)
        s.dr[i] = some();
    s.dr6 = DR6_ONES | DR6_BS;
    s.dr7 = DR7_ONES | 3;
    kvm_from_debugregs(&s, &k);
    k.dr6 &= ~BIT64(16); /* RTM: cleared by processors that have it */
    kvm_to_debugregs(&k, &back);
    assert_memory_equal(&back, &s, sizeof(s));
}

static void floating_point(void **state)
{
    struct x86_fpu f, back;
    struct kvm_xsave k = {0};

    memset(&f, 0, sizeof(f));
    for (unsigned i = 0; i < sizeof(f.vec); i++)
        ((u8 *)f.vec)[i] = (u8)some();
    for (unsigned i = 0; i < 8; i++)
        for (unsigned n = 0; n < 10; n++)
            f.st[i][n] = (u8)some();
    f.mxcsr = 0x1fbf;
    f.fcw = 0x27f;
    f.fsw = 0x3800;
    f.ftw = 0x81;
    f.fop = 0x123;
    f.fip = some();
    f.fdp = some();
    kvm_from_fpu(&f, XCR0_X87 | XCR0_SSE | XCR0_AVX, &k);
    kvm_to_fpu(&k, &back);
    assert_memory_equal(&back, &f, sizeof(f));
    /* Components that are not there are in their initial state, whatever their bytes. */
    memset((u8 *)k.region + 512, 0, 8);
    kvm_to_fpu(&k, &back);
    assert_int_equal(back.fcw, 0x37f);
    assert_int_equal(back.mxcsr, 0x1fbf);
    assert_int_equal(back.vec[3][5] | back.vec[3][20] | back.st[0][0], 0);
}

static void events(void **state)
{
    struct x86_state s;
    struct kvm_vcpu_events k;

    x86_state_reset(&s, false);
    s.shadow = X86_SHADOW_STI | X86_BLOCK_NMI;
    kvm_from_events(&s, &k);
    assert_int_equal(k.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
    assert_int_equal(k.nmi.masked, 1);
    k.exception.injected = 1;
    k.exception.nr = X86_PF;
    k.exception.has_error_code = 1;
    k.exception.error_code = 6;
    s.shadow = 0;
    kvm_to_events(&k, &s);
    assert_int_equal(s.shadow, X86_SHADOW_STI | X86_BLOCK_NMI);
    assert_true(s.exc_pending && s.exc_has_error);
    assert_int_equal(s.exc_vector, X86_PF);
    assert_int_equal(s.exc_error, 6);
    /* INT3 is executed again. */
    k.exception.nr = X86_BP;
    kvm_to_events(&k, &s);
    assert_false(s.exc_pending);
}

/* ---- exits ---- */

struct port_log {
    u64 off[8], val[8];
    unsigned size[8], n;
};

static u64 log_read(void *dev, u64 off, unsigned size)
{
    return 0x8877665544332211ull;
}

static void log_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct port_log *l = dev;

    assert_true(l->n < 8);
    l->off[l->n] = off;
    l->size[l->n] = size;
    l->val[l->n++] = val;
}

static const struct region_ops log_ops = {log_read, log_write, 1, 8, 1, 8, true};

struct world_of_exits {
    struct engine_vm vm;
    struct engine_vcpu v;
    struct port_log log;
    u8 page[8192];
};

static struct world_of_exits *exits_open(void)
{
    struct world_of_exits *w = calloc(1, sizeof(*w));
    struct region r = {.size = 8, .ops = &log_ops, .dev = &w->log, .name = "log"};
    struct err e = {0};

    w->vm.run_bytes = sizeof(w->page);
    w->v.vm = &w->vm;
    w->v.run = (struct kvm_run *)w->page;
    assert_ok(bus_create(&w->vm.cfg.pio, "PIO", 0x10000, &e), e);
    assert_ok(bus_create(&w->vm.cfg.mmio, "MMIO", BIT64(40), &e), e);
    r.base = 0x100;
    assert_ok(bus_add(w->vm.cfg.pio, &r, &e), e);
    r.base = 0x1000;
    assert_ok(bus_add(w->vm.cfg.mmio, &r, &e), e);
    return w;
}

static void exits_close(struct world_of_exits *w)
{
    bus_destroy(w->vm.cfg.pio);
    bus_destroy(w->vm.cfg.mmio);
    free(w);
}

static void port_exits(void **state)
{
    struct world_of_exits *w = exits_open();
    struct kvm_run *r = w->v.run;
    struct err e = {0};

    r->exit_reason = KVM_EXIT_IO;
    r->io.direction = KVM_EXIT_IO_OUT;
    r->io.port = 0x102;
    r->io.size = 2;
    r->io.count = 3;
    r->io.data_offset = 4096;
    memcpy(w->page + 4096, "abcdef", 6);
    assert_int_equal(kvm_exit(&w->v, &e), NEXT_RUN);
    assert_true(w->v.unfinished);
    assert_int_equal(w->log.n, 3);
    assert_int_equal(w->log.val[2], 'e' | 'f' << 8);
    r->io.direction = KVM_EXIT_IO_IN;
    assert_int_equal(kvm_exit(&w->v, &e), NEXT_RUN);
    assert_memory_equal(w->page + 4096, "\x11\x22\x11\x22\x11\x22", 6);
    exits_close(w);
}

static void memory_exits(void **state)
{
    struct world_of_exits *w = exits_open();
    struct kvm_run *r = w->v.run;
    struct err e = {0};

    r->exit_reason = KVM_EXIT_MMIO;
    r->mmio.phys_addr = 0x1000;
    r->mmio.len = 4;
    assert_int_equal(kvm_exit(&w->v, &e), NEXT_RUN);
    assert_memory_equal(r->mmio.data, "\x11\x22\x33\x44", 4);
    r->mmio.is_write = 1;
    r->mmio.len = 3; /* a piece of an access across pages */
    assert_int_equal(kvm_exit(&w->v, &e), NEXT_RUN);
    assert_int_equal(w->log.n, 3);
    assert_int_equal(w->log.size[0], 1);
    exits_close(w);
}

static void impossible_exits(void **state)
{
    static const struct {
        u8 size;
        u32 count;
        u64 offset;
    } rows[] = {{3, 1, 4096}, {8, 1, 4096}, {4, 0x40000000, 4096}, {1, 1, 8192},
                {4, 1, 8190}, {0, 1, 4096}, {1, 1, ~0ull},         {2, 2, ~0ull - 1}};
    struct world_of_exits *w = exits_open();
    struct kvm_run *r = w->v.run;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct err e = {0};

        r->exit_reason = KVM_EXIT_IO;
        r->io.direction = KVM_EXIT_IO_OUT;
        r->io.port = 0x100;
        r->io.size = rows[i].size;
        r->io.count = rows[i].count;
        r->io.data_offset = rows[i].offset;
        assert_int_equal(kvm_exit(&w->v, &e), NEXT_FAILED);
        assert_non_null(strstr(e.msg, "port access"));
    }
    for (unsigned len = 0; len < 12; len += 9) {
        struct err e = {0};

        r->exit_reason = KVM_EXIT_MMIO;
        r->mmio.len = len;
        assert_int_equal(kvm_exit(&w->v, &e), NEXT_FAILED);
    }
    struct err e = {0};
    r->exit_reason = 0xdead;
    assert_int_equal(kvm_exit(&w->v, &e), NEXT_FAILED);
    assert_non_null(strstr(e.msg, "57005"));
    assert_int_equal(w->log.n, 0);
    exits_close(w);
}

/* ---- with the host's KVM, whatever it is: real mode and memory work on all ---- */

/* Or skips the test, when there is no KVM. */
static struct live_vm *live_open(void)
{
    live_vm_needs_kvm();
    struct live_vm *l = calloc(1, sizeof(*l));
    live_vm_open(l, IRQCHIP_MACHINE, NULL, &idle_env);
    return l;
}

static void live_close(struct live_vm *l)
{
    live_vm_close(l);
    free(l);
}

/* Real-mode code at 1000h, as far as its HLT. */
static void live_run(struct live_vm *l, const u8 *code, size_t len, struct x86_state *s)
{
    struct vcpu_exit exit;
    struct err e = {0};

    assert_ok(mem_write(l->mem, 0x1000, code, len), e);
    s->seg[X86_CS].sel = 0;
    s->seg[X86_CS].base = 0;
    s->rip = 0x1000;
    s->activity = X86_ACTIVE;
    assert_ok(engine_kvm.vcpu_set_state(l->v, s, &e), e);
    engine_kvm.vcpu_run(l->v, &exit);
    if (exit.reason != VCPU_EXIT_HALTED)
        fail_msg("exit %d: %s", exit.reason, exit.err.msg);
    engine_kvm.vcpu_get_state(l->v, s);
}

/* All that there is of a processor goes into the kernel and comes back. */
static void state_by_the_kernel(void **state)
{
    static const u8 hlt[] = {0xf4};
    struct live_vm *l = live_open();
    struct x86_state s, was;

    x86_state_reset(&s, false);
    for (unsigned i = 0; i < 16; i++)
        s.gpr[i] = some();
    for (unsigned i = 0; i < 16; i++)
        memset(s.fpu.vec[i], 0x11 * (int)i, 16);
    memset(s.fpu.st[2], 0x3f, 10);
    s.fpu.fcw = 0x27f;
    s.fpu.ftw = 0xff;
    s.fpu.mxcsr = 0x1fa0;
    s.star = 0x0023001000000000;
    s.lstar = 0xffffffff81000000;
    s.sfmask = 0x47700;
    s.kernel_gs_base = 0xffff888000000000;
    s.sysenter_cs = 0x10;
    s.sysenter_esp = 0x1234;
    s.pat = 0x0007010600070106;
    s.dr[1] = 0x1234;
    s.cr2 = 0xabcdef;
    s.tsc_offset = 1ull << 50;
    s.mtrr_base[2] = 0x6; /* the kernel knows nothing of it */
    s.mc_ctl[1] = ~0ull;
    was = s;
    live_run(l, hlt, sizeof(hlt), &s);
    assert_int_equal(s.rip, 0x1001);
    assert_int_equal(s.activity, X86_HALTED);
    assert_memory_equal(s.gpr, was.gpr, sizeof(s.gpr));
    assert_memory_equal(&s.fpu, &was.fpu, sizeof(s.fpu));
    for (unsigned i = X86_SS; i < X86_SREGS; i++)
        assert_memory_equal(&s.seg[i], &was.seg[i], sizeof(s.seg[i]));
    assert_memory_equal(&s.tr, &was.tr, sizeof(s.tr));
    assert_memory_equal(s.dr, was.dr, sizeof(s.dr));
    assert_int_equal(s.star, was.star);
    assert_int_equal(s.lstar, was.lstar);
    assert_int_equal(s.sfmask, was.sfmask);
    assert_int_equal(s.kernel_gs_base, was.kernel_gs_base);
    assert_int_equal(s.sysenter_cs, was.sysenter_cs);
    assert_int_equal(s.sysenter_esp, was.sysenter_esp);
    assert_int_equal(s.pat, was.pat);
    assert_int_equal(s.cr0, was.cr0);
    assert_int_equal(s.cr2, was.cr2);
    assert_int_equal(s.mtrr_base[2], 6);
    assert_int_equal(s.mc_ctl[1], ~0ull);
    /* The TSC has gone on, not back. */
    if (live_fit())
        assert_true(s.tsc_offset - was.tsc_offset < 1ull << 40);
    live_close(l);
}

static void dirty_pages(void **state)
{
    static const u8 store[] = {0xc6, 0x06, 0x00, 0x50, 0x77, 0xf4}; /* mov [5000h], 77h; hlt */
    struct live_vm *l = live_open();
    struct x86_state s;
    u8 map[2], byte;
    struct err e = {0};

    x86_state_reset(&s, false);
    assert_ok(mem_dirty_start(l->mem), e);
    live_run(l, store, sizeof(store), &s);
    assert_ok(mem_read(l->mem, 0x5000, &byte, 1), e);
    assert_int_equal(byte, 0x77);
    assert_ok(mem_dirty_fetch(l->mem, 0, map, sizeof(map)), e);
    assert_int_equal(map[0] | map[1] << 8, 1 << 5 | 1 << 1); /* and the code that we wrote */
    assert_ok(mem_dirty_fetch(l->mem, 0, map, sizeof(map)), e);
    assert_int_equal(map[0] | map[1], 0);
    /* Starting anew forgets. */
    x86_state_reset(&s, false);
    live_run(l, store, sizeof(store), &s);
    assert_ok(mem_dirty_start(l->mem), e);
    assert_ok(mem_dirty_fetch(l->mem, 0, map, sizeof(map)), e);
    assert_int_equal(map[0] | map[1], 0);
    mem_dirty_stop(l->mem);
    live_close(l);
}

/* Slots come and go while the VM lives; what is left reads as ones. */
static void slots_follow(void **state)
{
    static const u8 load[] = {0xa1, 0x00, 0x10, 0xf4}; /* mov ax, [ds:1000h]; hlt */
    static const u8 rom[] = {0x34, 0x12};
    struct live_vm *l = live_open();
    struct x86_state s;
    struct err e = {0};

    x86_state_reset(&s, false);
    s.seg[X86_DS].base = 0x20000;
    if (live_fit()) {
        live_run(l, load, sizeof(load), &s);
        assert_int_equal(s.gpr[X86_RAX], 0xffff);
    }
    assert_ok(mem_add_rom(l->mem, 0x21000, 4096, rom, sizeof(rom), &e), e);
    live_run(l, load, sizeof(load), &s);
    assert_int_equal(s.gpr[X86_RAX], 0x1234);
    assert_ok(mem_del(l->mem, 0x21000), e);
    if (live_fit()) {
        live_run(l, load, sizeof(load), &s);
        assert_int_equal(s.gpr[X86_RAX], 0xffff);
    }
    live_close(l);
}

/* A kick before the run ends it at once; endless code ends by one from another thread. */
static void *kick_later(void *arg)
{
    usleep(20000);
    engine_kvm.vcpu_kick(arg);
    return NULL;
}

static void kicks(void **state)
{
    static const u8 forever[] = {0xeb, 0xfe};
    struct live_vm *l = live_open();
    struct x86_state s;
    struct vcpu_exit exit;
    pthread_t thread;
    struct err e = {0};

    x86_state_reset(&s, false);
    s.seg[X86_CS].sel = 0;
    s.seg[X86_CS].base = 0;
    s.rip = 0x1000;
    assert_ok(mem_write(l->mem, 0x1000, forever, sizeof(forever)), e);
    assert_ok(engine_kvm.vcpu_set_state(l->v, &s, &e), e);
    engine_kvm.vcpu_kick(l->v);
    engine_kvm.vcpu_run(l->v, &exit);
    assert_int_equal(exit.reason, VCPU_EXIT_KICKED);
    assert_int_equal(pthread_create(&thread, NULL, kick_later, l->v), 0);
    engine_kvm.vcpu_run(l->v, &exit);
    assert_int_equal(exit.reason, VCPU_EXIT_KICKED);
    pthread_join(thread, NULL);
    engine_kvm.vcpu_get_state(l->v, &s);
    assert_int_equal(s.rip, 0x1000);
    live_close(l);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments),
        cmocka_unit_test(accessed),
        cmocka_unit_test(registers),
        cmocka_unit_test(system_registers),
        cmocka_unit_test(debug_registers),
        cmocka_unit_test(floating_point),
        cmocka_unit_test(events),
        cmocka_unit_test(port_exits),
        cmocka_unit_test(memory_exits),
        cmocka_unit_test(impossible_exits),
        cmocka_unit_test(state_by_the_kernel),
        cmocka_unit_test(dirty_pages),
        cmocka_unit_test(slots_follow),
        cmocka_unit_test(kicks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
