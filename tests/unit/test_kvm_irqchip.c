/* test_kvm_irqchip.c - engine kvm with the kernel's interrupt controllers: a small guest that they
 * interrupt, and that signals */
#include "unit.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>

#include "kvm_live.h"

/* ---- a guest in real mode on the host's KVM, whatever it is ---- */

static u64 now_ns(void *ctx)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

static int no_msr_read(void *ctx, u32 msr, u64 *val)
{
    return -ENOENT;
}

static int no_msr_write(void *ctx, u32 msr, u64 val)
{
    return -ENOENT;
}

static const struct vcpu_env env = {
    .tsc = now_ns, .msr_read = no_msr_read, .msr_write = no_msr_write};

#define VECTOR     0x40
#define PIC_VECTOR 0x50 /* input 3 */
#define PORT       0x80

/* STI, HLT for ever; the handlers say who they are. */
static const u8 code[] = {0xfb, 0xf4, 0xeb, 0xfd};
static const u8 handler[] = {0xb0, VECTOR, 0xe6, PORT, 0xcf};
static const u8 pic_handler[] = {0xb0, PIC_VECTOR + 3, 0xe6, PORT, 0xcf};

struct live {
    struct live_vm m;
    const struct engine_irqchip *chip;
    struct irqchip_state s;
    pthread_t thread;
    struct vcpu_exit exit;
    unsigned seen[256]; /* bytes written to PORT; atomic */
};

static u64 port_read(void *dev, u64 off, unsigned size)
{
    return 0;
}

static void port_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct live *l = dev;

    __atomic_fetch_add(&l->seen[val & 0xff], 1, __ATOMIC_SEQ_CST);
}

static const struct region_ops port_ops = {port_read, port_write, 1, 1, 1, 1, true};

static void put(struct live *l, u64 gpa, const void *data, size_t len)
{
    struct err e = {0};

    assert_ok(mem_write(l->m.mem, gpa, data, len), e);
}

static void fill_memory(struct live *l)
{
    static const u32 at[2] = {0x2000, 0x3000};

    put(l, 0x1000, code, sizeof(code));
    put(l, at[0], handler, sizeof(handler));
    put(l, at[1], pic_handler, sizeof(pic_handler));
    put(l, VECTOR * 4, &at[0], 4);
    put(l, (PIC_VECTOR + 3) * 4, &at[1], 4);
}

/* Power-on state, but enabled, and the 8259 pair set up. */
static void fill_chips(struct irqchip_state *s)
{
    memset(s, 0, sizeof(*s));
    s->lapic[0] = (struct irqchip_lapic){.base = 0xfee00900, .dfr = ~0u, .svr = 0x1ff};
    for (unsigned i = 0; i < IRQCHIP_LVTS; i++)
        s->lapic[0].lvt[i] = BIT(16);
    s->lapic[0].lvt[3] = 7 << 8; /* LINT0: ExtINT */
    s->lapic[0].lvt[4] = 4 << 8; /* LINT1: NMI */
    for (unsigned i = 0; i < GSI_COUNT; i++)
        s->ioapic.entry[i] = BIT64(16);
    s->pic[0] = (struct irqchip_pic){.imr = 0xf7, .base = PIC_VECTOR, .icw4 = 1};
    s->pic[1] = (struct irqchip_pic){.imr = 0xff, .base = 0x70, .icw4 = 1};
}

/* Or skips the test, when there is no KVM. */
static struct live *live_open(void)
{
    live_vm_needs_kvm();
    struct live *l = calloc(1, sizeof(*l));
    struct region r = {PORT, 1, &port_ops, l, NULL, "port"};
    struct x86_state s;
    struct err e = {0};

    live_vm_open(&l->m, IRQCHIP_ENGINE, &r, &env);
    l->chip = engine_kvm.irqchip(l->m.vm);
    assert_non_null(l->chip);
    fill_memory(l);
    fill_chips(&l->s);
    x86_state_reset(&s, false);
    s.seg[X86_CS].sel = 0;
    s.seg[X86_CS].base = 0;
    s.rip = 0x1000;
    s.gpr[X86_RSP] = 0x8000;
    assert_ok(engine_kvm.vcpu_set_state(l->m.v, &s, &e), e);
    return l;
}

static void live_close(struct live *l)
{
    live_vm_close(&l->m);
    free(l);
}

static void *thread(void *arg)
{
    struct live *l = arg;

    engine_kvm.vcpu_run(l->m.v, &l->exit);
    return NULL;
}

static void live_start(struct live *l)
{
    struct err e = {0};

    assert_ok(l->chip->set(l->m.vm, &l->s, &e), e);
    assert_int_equal(pthread_create(&l->thread, NULL, thread, l), 0);
}

/* Once it sleeps in HLT, which takes a backend that emulates some time. */
static void live_stop(struct live *l)
{
    struct err e = {0};

    usleep(20000);
    engine_kvm.vcpu_kick(l->m.v);
    pthread_join(l->thread, NULL);
    if (l->exit.reason != VCPU_EXIT_KICKED)
        fail_msg("exit %d: %s", l->exit.reason, l->exit.err.msg);
    assert_ok(l->chip->get(l->m.vm, &l->s, &e), e);
}

/* Waits for the nth interrupt of that vector; fails after seconds. */
static void wait_for(struct live *l, unsigned vector, unsigned n)
{
    for (unsigned i = 0; i < 5000; i++) {
        if (__atomic_load_n(&l->seen[vector], __ATOMIC_SEQ_CST) >= n)
            return;
        usleep(1000);
    }
    fail_msg("no interrupt %#x", vector);
}

/* Stops it where it sleeps in HLT. */
static void live_sleep(struct live *l, struct x86_state *s)
{
    for (unsigned i = 0; i < 100; i++) {
        live_stop(l);
        engine_kvm.vcpu_get_state(l->m.v, s);
        if (s->activity == X86_HALTED)
            return;
        live_start(l);
    }
    fail_msg("no HLT");
}

/* HLT is spent in the kernel; a message ends it; what is in service comes out and goes in again. */
static void messages(void **state)
{
    struct live *l = live_open();
    struct x86_state s;

    live_start(l);
    usleep(20000);
    assert_true(l->chip->msi(l->m.vm, 0xfee00000, VECTOR));
    wait_for(l, VECTOR, 1);
    live_sleep(l, &s);
    assert_int_equal(l->s.lapic[0].irr[VECTOR / 32], 0);
    if (!live_fit()) {
        live_close(l);
        return;
    }
    assert_int_equal(l->s.lapic[0].isr[VECTOR / 32], BIT(VECTOR % 32));
    /* In service, it holds back its like, which waits over another stop. */
    live_start(l);
    assert_true(l->chip->msi(l->m.vm, 0xfee00000, VECTOR));
    live_stop(l);
    assert_int_equal(l->seen[VECTOR], 1);
    assert_int_equal(l->s.lapic[0].irr[VECTOR / 32], BIT(VECTOR % 32));
    l->s.lapic[0].isr[VECTOR / 32] = 0;
    live_start(l);
    wait_for(l, VECTOR, 2);
    live_stop(l);
    assert_false(l->chip->msi(l->m.vm, 0xfee05000, VECTOR)); /* nobody there */
    live_close(l);
}

/* A level entry sends once until its EOI, whatever stops lie between; an edge entry makes no
 * interrupt of a line that was up already. */
static void lines_of_the_ioapic(void **state)
{
    struct live *l = live_open();

    l->s.ioapic.entry[5] = VECTOR;
    live_start(l);
    l->chip->line(l->m.vm, IRQCHIP_IOAPIC, 5, true);
    wait_for(l, VECTOR, 1);
    live_stop(l);
    l->s.ioapic.level = BIT(5);
    memset(l->s.lapic[0].isr, 0, sizeof(l->s.lapic[0].isr));
    live_start(l);
    live_stop(l);
    assert_int_equal(l->seen[VECTOR], 1);
    if (!live_fit()) {
        live_close(l);
        return;
    }
    l->s.ioapic.entry[5] = BIT64(16);
    l->s.ioapic.entry[6] = VECTOR | BIT(15);
    l->s.ioapic.level = BIT(6);
    live_start(l);
    wait_for(l, VECTOR, 2);
    live_stop(l);
    assert_int_equal(l->s.ioapic.entry[6], VECTOR | BIT(15) | BIT(14));
    assert_int_equal(l->s.lapic[0].tmr[VECTOR / 32], BIT(VECTOR % 32));
    memset(l->s.lapic[0].isr, 0, sizeof(l->s.lapic[0].isr));
    live_start(l); /* remote IRR holds it back */
    live_stop(l);
    assert_int_equal(l->seen[VECTOR], 2);
    live_close(l);
}

static void lines_of_the_pic(void **state)
{
    struct live *l = live_open();

    live_start(l);
    l->chip->line(l->m.vm, IRQCHIP_PIC, 3, true);
    wait_for(l, PIC_VECTOR + 3, 1);
    live_stop(l);
    assert_int_equal(l->s.pic[0].isr, BIT(3));
    assert_int_equal(l->s.pic[0].edge, 0);
    /* Still up, it makes no edge; a latched one does. */
    l->s.pic[0].isr = 0;
    l->s.pic[0].level = BIT(3);
    live_start(l);
    live_stop(l);
    assert_int_equal(l->seen[PIC_VECTOR + 3], 1);
    l->s.pic[0].level = BIT(3);
    l->s.pic[0].edge = BIT(3);
    live_start(l);
    wait_for(l, PIC_VECTOR + 3, 2);
    live_stop(l);
    live_close(l);
}

/* A deadline and a count are armed as they go in, and say what is left as they come out. */
static void timers(void **state)
{
    struct live *l = live_open();

    l->s.lapic[0].lvt[0] = 2u << 17 | VECTOR;
    l->s.lapic[0].deadline = now_ns(NULL) + 2000000;
    live_start(l);
    wait_for(l, VECTOR, 1);
    live_stop(l);
    assert_int_equal(l->s.lapic[0].deadline, 0);

    l->s.lapic[0].deadline = now_ns(NULL) + 100000000000ull;
    live_start(l);
    live_stop(l);
    s64 left = (s64)(l->s.lapic[0].deadline - now_ns(NULL));
    assert_in_range(left, 90000000000ll, 100000000000ll);

    fill_chips(&l->s);
    l->s.lapic[0].lvt[0] = 1u << 17 | VECTOR; /* periodic, 3 ms, in the middle of a period */
    l->s.lapic[0].divide = 0xb;
    l->s.lapic[0].initial = 3000000;
    l->s.lapic[0].count = 1000000;
    live_start(l);
    wait_for(l, VECTOR, 2);
    live_stop(l);
    assert_int_equal(l->s.lapic[0].initial, 3000000);
    assert_in_range(l->s.lapic[0].count, 1, 3000000);
    live_close(l);
}

/* A mode other than the one before keeps its count. */
static void timer_modes(void **state)
{
    struct live *l = live_open();

    l->s.lapic[0].lvt[0] = 2u << 17 | VECTOR;
    live_start(l);
    live_stop(l);
    l->s.lapic[0].lvt[0] = VECTOR;
    l->s.lapic[0].initial = l->s.lapic[0].count = 1000000000;
    live_start(l);
    live_stop(l);
    assert_int_equal(l->s.lapic[0].initial, 1000000000);
    assert_in_range(l->s.lapic[0].count, 1, 1000000000);
    live_close(l);
}

/* An eventfd sends its message, from before it has a route if need be, until that is taken. */
static void messages_by_events(void **state)
{
    struct live *l = live_open();
    int fd = eventfd(1, EFD_NONBLOCK);
    u64 one = 1;
    struct err e = {0};

    live_start(l);
    assert_true(l->chip->irqfd(l->m.vm, fd, 0xd0000000, VECTOR, true) < 0);
    assert_ok(l->chip->irqfd(l->m.vm, fd, 0xfee00000, PIC_VECTOR + 3, true), e);
    wait_for(l, PIC_VECTOR + 3, 1);
    assert_ok(l->chip->irqfd(l->m.vm, fd, 0xfee00000, VECTOR + 0x20, true), e);
    put(l, (VECTOR + 0x20) * 4, &(u32){0x2000}, 4);
    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
    wait_for(l, VECTOR, 1);
    assert_ok(l->chip->irqfd(l->m.vm, fd, 0, 0, false), e);
    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
    live_stop(l);
    assert_int_equal(l->seen[VECTOR], 1);
    close(fd);
    live_close(l);
}

static void *second_thread(void *arg)
{
    struct vcpu_exit *exit = calloc(1, sizeof(*exit));

    engine_kvm.vcpu_run(arg, exit);
    return exit;
}

static void second_stop(struct engine_vcpu *v, pthread_t t)
{
    struct vcpu_exit *exit;

    engine_kvm.vcpu_kick(v);
    pthread_join(t, (void **)&exit);
    assert_int_equal(exit->reason, VCPU_EXIT_KICKED);
    free(exit);
}

/* A second processor waits in the kernel for INIT and SIPI of the first, over stops. */
static void second_processor(void **state)
{
    static const u8 first[] = {0x66, 0xc7, 0x06, 0x00, 0x03, 0x00, 0x45, 0x0c, 0x00, /* INIT */
                               0x66, 0xc7, 0x06, 0x00, 0x03, 0x02, 0x46, 0x0c, 0x00, /* SIPI 2 */
                               0xfb, 0xf4, 0xeb, 0xfd};
    static const u8 second[] = {0xb0, 0x77, 0xe6, PORT, 0xf4}; /* mov al, 77h; out; hlt */
    struct live *l = live_open();
    struct engine_vcpu *v;
    struct x86_state s;
    pthread_t t;
    struct err e = {0};

    assert_ok(engine_kvm.vcpu_create(l->m.vm, 1, &env, &v, &e), e);
    put(l, 0x1000, first, sizeof(first));
    put(l, 0x2000, second, sizeof(second));
    engine_kvm.vcpu_get_state(l->m.v, &s);
    s.seg[X86_DS].base = 0xfee00000;
    assert_ok(engine_kvm.vcpu_set_state(l->m.v, &s, &e), e);
    l->s.lapic[1] = l->s.lapic[0];
    l->s.lapic[1].base = 0xfee00800;
    assert_ok(l->chip->set(l->m.vm, &l->s, &e), e);
    assert_int_equal(pthread_create(&t, NULL, second_thread, v), 0);
    usleep(20000);
    second_stop(v, t);
    engine_kvm.vcpu_get_state(v, &s);
    assert_int_equal(s.activity, X86_WAIT_SIPI);
    assert_int_equal(l->seen[0x77], 0);

    assert_int_equal(pthread_create(&t, NULL, second_thread, v), 0);
    live_start(l);
    wait_for(l, 0x77, 1);
    for (unsigned i = 0; i < 100; i++) {
        usleep(20000);
        second_stop(v, t);
        engine_kvm.vcpu_get_state(v, &s);
        if (s.activity == X86_HALTED)
            break;
        assert_int_equal(pthread_create(&t, NULL, second_thread, v), 0);
    }
    live_stop(l);
    assert_int_equal(s.activity, X86_HALTED);
    assert_int_equal(s.seg[X86_CS].base, 0x2000);
    assert_int_equal(s.rip, sizeof(second));
    assert_int_equal(l->s.lapic[1].base, 0xfee00800);
    assert_int_equal(l->s.lapic[1].svr, 0xff); /* INIT made it anew */
    engine_kvm.vcpu_destroy(v);
    live_close(l);
}

static u64 no_read(void *dev, u64 off, unsigned size)
{
    return 0;
}

static void count_write(void *dev, u64 off, unsigned size, u64 val)
{
    __atomic_fetch_add((unsigned *)dev, 1, __ATOMIC_SEQ_CST);
}

static const struct region_ops counter_ops = {no_read, count_write, 1, 8, 1, 8, true};

/* A write to an address signals, and comes to nobody else, until that is taken back. */
static void events_by_writes(void **state)
{
    static const u8 store[] = {0x66, 0xc7, 0x06, 0x00, 0x00, 1, 0, 0, 0, /* mov dword [0], 1 */
                               0xc7, 0x06, 0x04, 0x00, 1,    0,          /* mov word [4], 1 */
                               0xfb, 0xf4, 0xeb, 0xed};                  /* sti; hlt; again */
    struct live *l = live_open();
    unsigned writes = 0;
    struct region r = {0x20000, 8, &counter_ops, &writes, NULL, "counter"};
    int fd[2] = {eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK)};
    struct x86_state s;
    struct err e = {0};
    u64 count;

    assert_ok(bus_add(l->m.mmio, &r, &e), e);
    assert_ok(engine_kvm.ioeventfd(l->m.vm, 0x20000, fd[0], true), e);
    assert_ok(engine_kvm.ioeventfd(l->m.vm, 0x20004, fd[1], true), e);
    assert_true(engine_kvm.ioeventfd(l->m.vm, 0x20004, fd[0], true) < 0); /* taken */
    put(l, 0x1000, store, sizeof(store));
    engine_kvm.vcpu_get_state(l->m.v, &s);
    s.seg[X86_DS].base = 0x20000;
    assert_ok(engine_kvm.vcpu_set_state(l->m.v, &s, &e), e);
    live_start(l);
    for (unsigned i = 0; i < 2; i++) {
        struct pollfd wait = {.fd = fd[i], .events = POLLIN};

        assert_int_equal(poll(&wait, 1, 5000), 1);
    }
    live_stop(l);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(read(fd[i], &count, sizeof(count)), sizeof(count));
        assert_int_equal(count, 1);
        assert_ok(engine_kvm.ioeventfd(l->m.vm, 0x20000 + 4 * i, fd[i], false), e);
    }
    assert_int_equal(writes, 0);
    live_start(l);
    assert_true(l->chip->msi(l->m.vm, 0xfee00000, VECTOR));
    wait_for(l, VECTOR, 1);
    live_stop(l);
    assert_int_equal(writes, 2);
    assert_true(read(fd[0], &count, sizeof(count)) < 0);
    close(fd[0]);
    close(fd[1]);
    live_close(l);
}

/* What the machine asks for is what it gets. */
static void choices(void **state)
{
    struct live *l = live_open();
    struct engine_vm_config cfg = {.cpuid = &l->m.model,
                                   .mem = l->m.mem,
                                   .pio = l->m.pio,
                                   .mmio = l->m.mmio,
                                   .irqchip = IRQCHIP_MACHINE};
    struct engine_vm *vm;
    struct err e = {0};

    assert_ok(engine_kvm.vm_create(&cfg, &vm, &e), e);
    assert_null(engine_kvm.irqchip(vm));
    engine_kvm.vm_destroy(vm);
    live_close(l);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {

        cmocka_unit_test(messages),
        cmocka_unit_test(lines_of_the_ioapic),
        cmocka_unit_test(lines_of_the_pic),
        cmocka_unit_test(timers),
        cmocka_unit_test(timer_modes),
        cmocka_unit_test(second_processor),
        cmocka_unit_test(messages_by_events),
        cmocka_unit_test(events_by_writes),
        cmocka_unit_test(choices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
