/* test_flat.c - the short cuts of 64-bit mode do what the long ways do, or decline */
#include "x86_tables.h"
#include "x86/xfer.h"

#define ROUNDS    3000
#define COMPARED  0x28000 /* bytes of RAM that an event or a return may reach */
#define ACC(attr) ((attr) | SEG_ACCESSED)

static u64 seed = 1;

static u64 rnd(u64 n)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % n;
}

static u64 pick(const u64 *from, unsigned n)
{
    return from[rnd(n)];
}
#define PICK(...) pick((const u64[]){__VA_ARGS__}, sizeof((u64[]){__VA_ARGS__}) / sizeof(u64))

/* Everything that the two ways could leave behind differently. */
struct outcome {
    int rc;
    struct x86_state s;
    struct x86_exc exc;
    u64 seg_base[X86_SREGS], lin_mask;
    u32 attn;
    u8 code_bits, stack_bytes, mmu_set, seg_fast, retire;
    u8 ram[COMPARED];
};

static void take(struct world *w, int rc, struct outcome *o)
{
    const struct x86_cpu *c = &w->cpu;

    memset(o, 0, sizeof(*o));
    o->rc = rc;
    o->s = c->s;
    if (rc == X86_FAULT)
        o->exc = c->exc;
    memcpy(o->seg_base, c->seg_base, sizeof(o->seg_base));
    o->lin_mask = c->lin_mask;
    o->attn = x86_attn(c);
    o->code_bits = c->code_bits;
    o->stack_bytes = c->stack_bytes;
    o->mmu_set = c->mmu_set;
    o->seg_fast = c->seg_fast;
    o->retire = c->retire;
    memcpy(o->ram, w->ram, COMPARED);
}

/* Loads the TLB with all that the short cut looks at. */
static void warm(struct world *w)
{
    for (u64 lin = 0; lin < COMPARED; lin += 4096) {
        assert_int_equal(x86_lin_probe(&w->cpu, lin, 1, X86_W | X86_SYS), X86_OK);
        if (!w->cpu.align_check)
            assert_int_equal(x86_lin_probe(&w->cpu, lin, 1, X86_W), X86_OK);
    }
}

static void start(struct world *w, const struct outcome *from)
{
    memcpy(w->ram, from->ram, COMPARED);
    w->cpu.retire = 0;
    w->cpu.irq_masked = false;
    memset(&w->cpu.exc, 0, sizeof(w->cpu.exc));
    x86_cpu_set_state(&w->cpu, &from->s); /* flushes */
    x86_attn_clear(&w->cpu, X86_ATTN_IRQ | X86_ATTN_NMI);
}

static bool same(const struct outcome *a, const struct outcome *b)
{
    return !memcmp(a, b, sizeof(*a));
}

/* The world as every round finds it: 64-bit code at the level given, with some variety. */
static void renew(struct world *w, const struct outcome *from)
{
    start(w, from);
    put_gdt(w, SEL_LONG0, seg_desc(0, 0xfffff, ACC(ATTR_CODE0 & ~SEG_DB) | SEG_L));
    put_gdt(w, SEL_LONG3, seg_desc(0, 0xfffff, ACC(ATTR_CODE0 & ~SEG_DB) | SEG_L | ATTR_DPL3));
    put_gdt(w, SEL_DATA0, seg_desc(0, 0xfffff, ACC(ATTR_DATA0)));
    put_gdt(w, SEL_DATA3, seg_desc(0, 0xfffff, ACC(ATTR_DATA0) | ATTR_DPL3));
    for (unsigned ist = 1; ist < 8; ist++)
        world_put(w, AT_TSS + 28 + ist * 8, 8, AT_STACK_IST + ist * 64);
    w->cpu.intel = rnd(2);
    w->cpu.s.cr0 |= CR0_AM;
    w->cpu.s.rflags = RFLAGS_ONE | PICK(0, RFLAGS_IF, RFLAGS_IF | RFLAGS_AC, RFLAGS_TF, RFLAGS_RF) |
                      PICK(0, 0, RFLAGS_IOPL, RFLAGS_VIF, RFLAGS_DF | RFLAGS_ARITH);
    w->cpu.s.shadow = PICK(0, 0, X86_SHADOW_STI, X86_SHADOW_MOVSS, X86_BLOCK_NMI);
}

static struct world *begin(struct outcome level0[static 1], struct outcome level3[static 1])
{
    struct world *w = tables_long(3);

    take(w, 0, level3);
    world_free(w);
    w = tables_long(0);
    take(w, 0, level0);
    return w;
}

/* One thing that is out of the ordinary, or nothing. */
static void disturb_tables(struct world *w, u16 sel)
{
    struct x86_state *s = &w->cpu.s;
    u64 at = AT_GDT + (sel & 0xf8);

    switch (rnd(8)) {
    case 0: world_put(w, at, 8, world_get(w, at, 8) ^ BIT64(40 + rnd(16))); break;
    case 1: world_put(w, at, 8, world_get(w, at, 8) ^ BIT64(rnd(64))); break;
    case 2: s->gdtr.limit = rnd(0x80); break;
    case 3: s->gdtr.base += PICK(8, 0xf80, 1ull << 47); break;
    default: break;
    }
}

static void disturb_event(struct world *w, u8 vector)
{
    struct x86_state *s = &w->cpu.s;
    u64 gate = AT_IDT + vector * 16;

    switch (rnd(12)) {
    case 0: world_put(w, gate, 8, world_get(w, gate, 8) ^ BIT64(rnd(64))); break;
    case 1: world_put(w, gate + 8, 8, BIT64(rnd(64))); break;
    case 2: s->idtr.limit = vector * 16 + rnd(20); break;
    case 3:
        world_put(w, AT_TSS + 4, 8, PICK(0x1000, 0x9ff8, 0x20008, 0x800000000000, 1ull << 63));
        break;
    case 4: s->tr.limit = rnd(0x68); break;
    case 5: s->gpr[X86_RSP] = PICK(0, 0x8008, 0x800f, 0x9003, 0x7fffffff, 0x800000000000); break;
    case 6: s->idtr.base += PICK(8, 0x800, 1ull << 47); break;
    case 7: s->tr.base += PICK(0xfe0, 0xff8, 1ull << 40); break;
    default: break;
    }
}

static void test_events(void **state)
{
    static struct outcome level0, level3, first, quick, slow;
    struct world *w = begin(&level0, &level3);
    unsigned taken = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        u8 vector = (u8)rnd(256);
        enum x86_event ev = (enum x86_event)rnd(5);
        bool has_error = rnd(2);

        renew(w, rnd(2) ? &level0 : &level3);
        put_idt_long(w, vector,
                     gate_desc(SEL_LONG0 | (u16)rnd(4), AT_HANDLER,
                               (u16)(SEG_P | PICK(0, 0, SEG_DPL) | PICK(14, 15)),
                               (unsigned)PICK(0, 0, 0, 1, 7)),
                     PICK(0, 0, 0xffff8880));
        disturb_event(w, vector);
        disturb_tables(w, SEL_LONG0);
        take(w, 0, &first);
        start(w, &first);
        warm(w);
        bool could = ev != X86_EV_INT_N && ev != X86_EV_INT3;
        u64 before = w->cpu.s.rip;
        taken += could && x86_flat_deliver(&w->cpu, vector, has_error, 5, 2);
        bool declined = w->cpu.s.rip == before && !memcmp(&first.s, &w->cpu.s, sizeof(first.s));
        if (declined)
            assert_memory_equal(first.ram, w->ram, COMPARED);
        start(w, &first);
        warm(w);
        take(w, x86_event_deliver(&w->cpu, vector, ev, has_error, 5), &quick);
        start(w, &first); /* an empty TLB leaves only the long way */
        take(w, x86_event_deliver(&w->cpu, vector, ev, has_error, 5), &slow);
        assert_true(same(&quick, &slow));
    }
    world_free(w);
    assert_in_range(taken, ROUNDS / 5, ROUNDS);
}

static void disturb_frame(struct world *w, u64 at)
{
    u64 item = at + rnd(5) * 8;

    switch (rnd(6)) {
    case 0: world_put(w, item, 8, world_get(w, item, 8) ^ BIT64(rnd(64))); break;
    case 1: world_put(w, item, 8, rnd(256)); break;
    case 2: w->cpu.s.rflags |= PICK(RFLAGS_NT, RFLAGS_NT, RFLAGS_AC); break;
    default: break;
    }
}

static void test_returns(void **state)
{
    static struct outcome level0, level3, first, quick, slow;
    struct world *w = begin(&level0, &level3);
    unsigned taken = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        renew(w, rnd(16) ? &level0 : &level3);
        unsigned to = (unsigned)PICK(0, 3, 3);
        u64 at = w->cpu.s.gpr[X86_RSP] = PICK(0x8000, 0x8008, 0x8003, 0x8fd8, 0x8fe0);
        u64 frame[] = {PICK(AT_HANDLER, 0x7fffffffffff, 0x800000000000, ~0ull << 31),
                       to ? SEL_LONG3 | 3 : SEL_LONG0, rnd(1 << 22), rnd(1 << 20),
                       to ? SEL_DATA3 | 3 : PICK(0, SEL_DATA0)};

        memcpy(w->ram + at, frame, sizeof(frame));
        disturb_frame(w, at);
        disturb_tables(w, (u16)world_get(w, at + PICK(8, 32), 2));
        take(w, 0, &first);
        start(w, &first);
        warm(w);
        taken += !w->cpu.s.cpl && x86_flat_iret(&w->cpu);
        start(w, &first);
        warm(w);
        unsigned size = (unsigned)PICK(8, 8, 8, 4);
        take(w, x86_iret(&w->cpu, size), &quick);
        start(w, &first);
        take(w, x86_iret(&w->cpu, size), &slow);
        assert_true(same(&quick, &slow));
    }
    world_free(w);
    assert_in_range(taken, ROUNDS / 5, ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_returns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
