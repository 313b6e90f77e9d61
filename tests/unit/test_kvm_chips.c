/* test_kvm_chips.c - engine kvm: interrupt controllers between the kernel's words and ours */
#include "unit.h"

#include "engine/kvm/chips.h"

static u64 noise = 1;

static u64 some(void)
{
    noise = noise * 6364136223846793005ull + 1442695040888963407ull;
    return noise >> 13 ^ noise << 29;
}

static void local_apics(void **state)
{
    for (unsigned n = 0; n < 1000; n++) {
        struct irqchip_lapic l = {.base = 0xfee00900}, back = {.base = 0xfee00900};
        struct kvm_lapic_state k;

        l.tpr = some() & 0xff;
        l.ldr = some() & 0xff000000;
        l.dfr = (u32)some() | 0x0fffffff;
        l.svr = some() & 0x3ff;
        l.esr = some() & 0xff;
        l.icr = some() & 0xff000000000ccfffull & ~BIT64(12);
        for (unsigned i = 0; i < IRQCHIP_LVTS; i++)
            l.lvt[i] = some() & 0x1a7ff;
        l.lvt[0] = (some() & 0x100ff) | 1u << 17; /* periodic */
        for (unsigned i = 0; i < 8; i++) {
            l.irr[i] = (u32)some() & (i ? ~0u : 0xffff0000);
            l.isr[i] = (u32)some() & (i ? ~0u : 0xffff0000);
            l.tmr[i] = (u32)some();
        }
        l.divide = some() & 0xb;
        l.initial = (u32)some();
        l.count = l.initial / 3;
        kvm_from_lapic(&l, &k);
        kvm_to_lapic(&k, &back);
        assert_memory_equal(&back, &l, sizeof(l));
    }
}

/* A count that ran out does not run out again in the kernel; one that ran out there is not lost. */
static void one_shots(void **state)
{
    struct irqchip_lapic l = {.initial = 1000, .lvt = {0x45}}, back = {.base = 0};
    struct kvm_lapic_state k;
    u32 initial;

    kvm_from_lapic(&l, &k);
    memcpy(&initial, k.regs + 0x380, sizeof(initial));
    assert_int_equal(initial, 0);
    memset(k.regs + 0x390, 0, 4);
    memcpy(k.regs + 0x380, &l.initial, 4);
    kvm_to_lapic(&k, &back);
    assert_int_equal(back.irr[2], BIT(5));
    assert_int_equal(back.count, 0);
    /* Masked, it has no interrupt to lose; in x2APIC mode LDR and DFR are not the register's. */
    l.lvt[0] |= BIT(16);
    kvm_from_lapic(&l, &k);
    memcpy(k.regs + 0x380, &l.initial, 4);
    memset(k.regs + 0x0d0, 0xff, 4);
    back = (struct irqchip_lapic){.base = BIT(10) | BIT(11)};
    kvm_to_lapic(&k, &back);
    assert_int_equal(back.irr[2], 0);
    assert_int_equal(back.ldr, 0);
}

static void ioapics(void **state)
{
    struct irqchip_ioapic io = {.id = 3, .select = 0x21, .level = 0xffffff}, back = {.id = 0};
    struct kvm_ioapic_state k;

    for (unsigned i = 0; i < GSI_COUNT; i++) {
        io.entry[i] = some() & 0xff0000000001efffull;
        if (!(io.entry[i] & BIT(15)))
            io.entry[i] &= ~BIT64(14);
    }
    kvm_from_ioapic(&io, &k);
    assert_int_equal(k.irr, 0); /* the kernel would make edges of them */
    k.redirtbl[5].bits |= BIT(12);
    kvm_to_ioapic(&k, &back);
    io.level = 0;
    assert_memory_equal(&back, &io, sizeof(io));
}

static void pics(void **state)
{
    for (unsigned n = 0; n < 1000; n++) {
        struct irqchip_pic p = {.level = (u8)some(), .elcr = some() & 0xde}, back = {.level = 0};
        struct kvm_pic_state k = {0};

        p.edge = (u8)some() & (u8)~p.elcr;
        p.isr = (u8)some();
        p.imr = (u8)some();
        p.base = some() & 0xf8;
        p.icw4 = (some() & 0x12) | 1;
        p.init = (u8)(n % 4 ? n % 4 + 1 : 0);
        p.top = n & 7;
        p.need_icw4 = n & 8;
        p.read_isr = n & 16;
        p.poll = n & 32;
        p.special = n & 64;
        p.rotate_aeoi = n & 128;
        kvm_from_pic(&p, &k);
        assert_int_equal(k.irr, p.edge | (p.level & p.elcr));
        kvm_to_pic(&k, &back);
        p.level = 0;
        assert_memory_equal(&back, &p, sizeof(p));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_apics),
        cmocka_unit_test(one_shots),
        cmocka_unit_test(ioapics),
        cmocka_unit_test(pics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
