/* board.c - a PC board on a stepped clock for device tests */
#include "board.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void printf_like(2, 3) event(struct board *b, const char *fmt, ...)
{
    va_list ap;
    if (b->events == BOARD_EVENTS)
        return;
    va_start(ap, fmt);
    vsnprintf(b->event[(b->first + b->events++) % BOARD_EVENTS], sizeof(b->event[0]), fmt, ap);
    va_end(ap);
}

const char *board_take_event(struct board *b)
{
    if (!b->events)
        return "none";
    const char *e = b->event[b->first];
    b->first = (b->first + 1) % BOARD_EVENTS;
    b->events--;
    return e;
}

static void attention(void *ctx, unsigned cpu)
{
    struct board *b = ctx;
    b->attention++;
}

static void init(void *ctx, unsigned cpu)
{
    event(ctx, "init %u", cpu);
}

static void sipi(void *ctx, unsigned cpu, u8 vector)
{
    event(ctx, "sipi %u %#x", cpu, vector);
}

static void reset(void *ctx, enum pc_reset_kind kind)
{
    event(ctx, "reset %s", kind == PC_RESET_HARD ? "hard" : "cpu");
}

static void power_off(void *ctx)
{
    event(ctx, "power-off");
}

static void debug_exit(void *ctx, int status)
{
    event(ctx, "exit %d", status);
}

static void panic(void *ctx, unsigned code)
{
    event(ctx, "panic %u", code);
}

static void a20(void *ctx, bool on)
{
    event(ctx, "a20 %d", on);
}

static void debug_byte(void *ctx, u8 byte)
{
    event(ctx, "debug %#x", byte);
}

static void tx(void *ctx, const u8 *buf, size_t len)
{
    struct board_port *p = ctx;
    for (size_t i = 0; i < len && p->board->n_sent[p->n] < BOARD_SENT; i++)
        p->board->sent[p->n][p->board->n_sent[p->n]++] = (char)buf[i];
}

static void rx_ready(void *ctx)
{
    struct board_port *p = ctx;
    p->board->rx_ready[p->n]++;
}

int board_create(struct board *b, unsigned cpus, struct err *e)
{
    struct pc_config cfg = {
        .cpus = cpus, .ram_below_4g = 2 * MiB, .testdev = true, .pvpanic = true,
        .debug_exit_port = 0xf4, .debug = {{0x402, debug_byte, b}}, .ctx = b,
        .attention = attention, .init = init, .sipi = sipi, .reset = reset, .power_off = power_off,
        .debug_exit = debug_exit, .panic = panic, .a20 = a20,
    };
    memset(b, 0, sizeof(*b));
    int ret = clock_create_stepped(&b->clock, e);
    if (!ret)
        ret = mem_create(&b->mem, e);
    if (!ret)
        ret = mem_add_ram(b->mem, 0, 2 * MiB, e);
    if (!ret)
        ret = bus_create(&b->pio, "pio", 0x10000, e);
    if (!ret)
        ret = bus_create(&b->mmio, "mmio", 1ull << 40, e);
    for (unsigned i = 0; i < 4; i++) {
        b->port[i] = (struct board_port){b, i};
        cfg.com[i] = (struct pc_serial){true, tx, rx_ready, &b->port[i]};
    }
    cfg.mem = b->mem;
    cfg.pio = b->pio;
    cfg.mmio = b->mmio;
    cfg.clock = b->clock;
    if (!ret)
        ret = pc_create(&cfg, &b->pc, e);
    if (ret)
        board_destroy(b);
    return ret;
}

void board_destroy(struct board *b)
{
    pc_destroy(b->pc);
    if (b->mmio)
        bus_destroy(b->mmio);
    if (b->pio)
        bus_destroy(b->pio);
    if (b->mem)
        mem_destroy(b->mem);
    if (b->clock)
        clock_destroy(b->clock);
    memset(b, 0, sizeof(*b));
}
