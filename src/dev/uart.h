/* uart.h - 16550A serial port */
#pragma once

#include "dev/irq.h"
#include "host/clock.h"
#include "mem/bus.h"
#include "snap/snap.h"

#define UART_FIFO_BYTES 16

/* The far end of the line. Called with the UART's lock held; must not block or call back. */
struct uart_host {
    void (*tx)(void *ctx, const u8 *buf, size_t len);
    void (*rx_ready)(void *ctx); /* after uart_rx took less than offered: there is room again */
    void *ctx;
};

struct uart {
    u8 ier, lcr, mcr, lsr, msr, scr, fcr;
    u16 divisor;
    u8 fifo[UART_FIFO_BYTES]; /* receiver; one byte deep when FIFOs are off */
    u8 head, count;
    bool thre_pending; /* the transmitter emptied and nobody was told yet */
    bool timeout;      /* bytes below the trigger level wait too long */
    u64 timeout_at;    /* when that will be so, ns; 0 = not waiting */
    bool starved;      /* the host wants to hear of room */

    struct irq_line irq;
    struct uart_host host;
    struct clock *clock;
    struct timer timer; /* character timeout */
};

/* `lock` is the one the bus takes around uart_ops; the timer takes it too. host may be NULL. */
void uart_init(struct uart *u, struct clock *clock, struct lock *lock, const struct irq_line *irq,
               const struct uart_host *host);
void uart_fini(struct uart *u); /* without the lock */
void uart_reset(struct uart *u);

/* Input from the host, lock held. uart_rx returns how many bytes it took. */
size_t uart_rx_room(const struct uart *u);
size_t uart_rx(struct uart *u, const u8 *buf, size_t len);
void uart_rx_break(struct uart *u);

extern const struct region_ops uart_ops; /* 8 ports, dev = struct uart */
extern const struct snap_desc uart_snap;
