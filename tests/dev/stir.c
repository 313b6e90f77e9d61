/* stir.c - turns bytes into accesses to every corner of a board */
#include "stir.h"

#include <string.h>

#include "machine/pc_map.h"

/* Where something answers: half of all accesses go there, the rest anywhere. */
static const struct {
    u64 base;
    u16 bytes;
    bool mmio;
} corners[] = {
    {PC_PORT_PIC_MASTER, 2, false}, {PC_PORT_PIC_SLAVE, 2, false}, {PC_PORT_ELCR, 2, false},
    {PC_PORT_PIT, 4, false},        {PC_PORT_SYSCTL_B, 1, false},  {PC_PORT_KBC_DATA, 1, false},
    {PC_PORT_KBC_CMD, 1, false},    {PC_PORT_RTC, 2, false},       {PC_PORT_DMA_PAGE, 15, false},
    {PC_PORT_SYSCTL_A, 1, false},   {PC_PORT_FERR, 2, false},      {PC_PORT_PCI_CONFIG, 8, false},
    {PC_PORT_PM, 0x28, false},      {PC_PORT_FWCFG, 12, false},    {PC_PORT_PVPANIC, 1, false},
    {PC_PORT_COM1, 8, false},       {PC_PORT_COM2, 8, false},      {PC_PORT_COM3, 8, false},
    {PC_PORT_COM4, 8, false},       {PC_PORT_TESTDEV, 12, false},  {PC_PORT_TESTDEV_IRQ, 24, false},
    {0xf4, 4, false},               {0x402, 1, false},             {PC_IOAPIC_BASE, 0x48, true},
    {PC_HPET_BASE, 0x160, true},    {PC_LAPIC_BASE, 0x400, true},  {PC_TESTDEV_MMIO, 0x100, true},
    {0xfed40000, 0x400, true},      {PC_PCI_ECAM, 0x100, true},
};

static u64 field(const u8 *p, unsigned bytes)
{
    u64 val = 0;
    memcpy(&val, p, bytes);
    return val;
}

static void note(struct board *b, u64 val)
{
    b->seen = (b->seen ^ val) * 0x100000001b3ull + 1;
}

static void access_bus(struct board *b, const u8 *act)
{
    u64 addr, val = field(act + 4, 8);
    bool mmio, write = act[0] & 0x10;
    unsigned size = 1u << (act[0] >> 5 & 3);
    unsigned n = act[1] % (ARRAY_SIZE(corners) + 1);
    if (n < ARRAY_SIZE(corners)) {
        mmio = corners[n].mmio;
        addr = corners[n].base + field(act + 2, 2) % corners[n].bytes;
        if (mmio && act[0] & 0x80)
            addr &= ~7ull; /* registers lie at such addresses */
    } else {
        mmio = act[2] & 1;
        addr = mmio ? field(act + 4, 5) : field(act + 2, 2);
    }
    if (!mmio && size == 8)
        size = 4;
    struct bus *bus = mmio ? b->mmio : b->pio;
    if (write)
        bus_write(bus, addr, size, val);
    else
        note(b, bus_read(bus, addr, size));
}

static void access_msr(struct board *b, const struct vcpu_env *env, const u8 *act)
{
    static const u32 msrs[] = {0x1b,       0x6e0, 0x11,  0x12, 0x4b564d00,
                               0x4b564d01, 0x80b, 0x80f, 0x832};
    u32 msr = act[1] < ARRAY_SIZE(msrs) ? msrs[act[1]] : 0x800u + act[1] % 0x40;
    u64 val = field(act + 4, 8);
    if (msr == 0x1b && act[2] & 1) /* else #GP nearly always */
        val = 0xfee00000 | (val & 0xd00);
    if (act[0] & 0x10)
        note(b, (u64)env->msr_write(env->ctx, msr, val));
    else if (!env->msr_read(env->ctx, msr, &val))
        note(b, val);
}

static void processor(struct board *b, const struct vcpu_env *env, const u8 *act)
{
    switch (act[0] >> 4 & 7) {
    case 0: note(b, (u64)env->irq_ack(env->ctx)); break;
    case 1: note(b, env->nmi_take(env->ctx)); break;
    case 2: env->cr8_write(env->ctx, act[4]); break;
    case 3: env->ferr(env->ctx, act[4] & 1); break;
    case 4:
        pc_msi(b->pc, 0xfee00000 | (field(act + 1, 3) & 0xfffff), (u32)field(act + 4, 4));
        break;
    case 5: pc_nmi(b->pc); break;
    case 6: pc_power_button(b->pc); break;
    default: pc_gpe(b->pc, act[1] & 15); break;
    }
}

void board_stir(struct board *b, const u8 act[STIR_BYTES])
{
    struct vcpu_env env;
    unsigned cpu = act[3] & 1;
    pc_vcpu_env(b->pc, cpu, &env);
    env.enter(env.ctx);
    switch (act[0] & 15) {
    case 0: clock_step(b->clock, BIT64(act[1] % 28)); break;
    case 1: processor(b, &env, act); break;
    case 2: pc_irq(b->pc, act[1] % 25u, act[2] & 1); break;
    case 3: pc_uart_rx(b->pc, act[1] & 3, act + 4, act[2] & 7); break;
    case 4:
    case 5: access_msr(b, &env, act); break;
    default: access_bus(b, act); break;
    }
}

void board_stir_seed(struct board *b, u64 seed, unsigned n)
{
    u64 x = seed * 0x9e3779b97f4a7c15ull + 1;
    for (unsigned i = 0; i < n; i++) {
        u8 act[2 * sizeof(u64)];
        for (unsigned j = 0; j < 2; j++) { /* xorshift */
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            memcpy(act + j * sizeof(x), &x, sizeof(x));
        }
        board_stir(b, act);
    }
}
