/* uart.c - 16550A serial port (National Semiconductor PC16550D) */
#include "dev/uart.h"

#include <errno.h>
#include <string.h>

#include "base/freq.h"

/* Offsets; those in brackets with LCR.DLAB set */
#define REG_DATA 0 /* RBR, THR, [DLL] */
#define REG_IER  1 /* [DLM] */
#define REG_IIR  2 /* FCR when written */
#define REG_LCR  3
#define REG_MCR  4
#define REG_LSR  5
#define REG_MSR  6
#define REG_SCR  7

#define IER_RX       0x01
#define IER_THRE     0x02
#define IER_LINE     0x04
#define IER_MODEM    0x08
#define IIR_NONE     0x01
#define IIR_MODEM    0x00
#define IIR_THRE     0x02
#define IIR_RX       0x04
#define IIR_LINE     0x06
#define IIR_TIMEOUT  0x0c
#define IIR_FIFO     0xc0
#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_KEPT     0xc9 /* enable, DMA mode, trigger level */
#define LCR_DLAB     0x80
#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define LSR_DR       0x01
#define LSR_OE       0x02
#define LSR_BI       0x10
#define LSR_ERRORS   0x1e
#define LSR_THRE     0x20
#define LSR_TEMT     0x40
/* MSR: 7 DCD | 6 RI | 5 DSR | 4 CTS | 3-0 what changed since the last read, RI only when it fell */
#define MSR_CTS       0x10
#define MSR_DSR       0x20
#define MSR_RI        0x40
#define MSR_DCD       0x80
#define MSR_LINES     0xf0
#define MSR_CONNECTED (MSR_DCD | MSR_DSR | MSR_CTS)

#define UART_CLOCK_HZ 115200ull /* 1.8432 MHz / 16 */
#define CHAR_BITS     10ull
#define TIMEOUT_CHARS 4ull

static bool fifo_on(const struct uart *u)
{
    return u->fcr & FCR_ENABLE;
}

static unsigned depth(const struct uart *u)
{
    return fifo_on(u) ? UART_FIFO_BYTES : 1;
}

static unsigned trigger_level(const struct uart *u)
{
    static const u8 levels[4] = {1, 4, 8, 14};
    return fifo_on(u) ? levels[u->fcr >> 6] : 1;
}

/* The interrupt's reason in priority order (PC16550D table IV). Pure. */
static u8 reason(const struct uart *u)
{
    if ((u->ier & IER_LINE) && (u->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((u->ier & IER_RX) && u->count >= trigger_level(u))
        return IIR_RX;
    if ((u->ier & IER_RX) && u->timeout)
        return IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thre_pending)
        return IIR_THRE;
    if ((u->ier & IER_MODEM) && (u->msr & ~MSR_LINES))
        return IIR_MODEM;
    return IIR_NONE;
}

/* The line is not gated by MCR.OUT2, though a PC's is: some guests never set it. */
static void update(struct uart *u)
{
    u->lsr = u->count ? u->lsr | LSR_DR : u->lsr & (u8)~LSR_DR;
    irq_set(&u->irq, reason(u) != IIR_NONE);
}

/* Inputs of the modem status register: the far end, or in loopback the chip's own outputs. */
static u8 modem_lines(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_CONNECTED;
    return (u->mcr & MCR_DTR ? MSR_DSR : 0) | (u->mcr & MCR_RTS ? MSR_CTS : 0) |
           (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void update_modem(struct uart *u)
{
    u8 was = u->msr & MSR_LINES, is = modem_lines(u);
    u8 delta = (was ^ is) & (u8)~MSR_RI;
    if ((was & MSR_RI) && !(is & MSR_RI))
        delta |= MSR_RI;
    u->msr = is | (u->msr & (u8)~MSR_LINES) | (u8)(delta >> 4);
}

/* Four character times without a byte coming or going raise the timeout interrupt. */
static void restart_timeout(struct uart *u)
{
    u->timeout = false;
    u->timeout_at = 0;
    if (!fifo_on(u) || !u->count) {
        timer_disarm(&u->timer);
        return;
    }
    u64 divisor = u->divisor ? u->divisor : 1;
    u64 wait = NS_PER_SEC * CHAR_BITS * TIMEOUT_CHARS * divisor / UART_CLOCK_HZ;
    u->timeout_at = clock_now_ns(u->clock) + wait;
    timer_arm(&u->timer, u->timeout_at);
}

static void push(struct uart *u, u8 byte)
{
    if (u->count == depth(u)) {
        u->lsr |= LSR_OE;
        if (!fifo_on(u)) /* the byte in the holding register is overwritten; a full FIFO stays */
            u->fifo[u->head] = byte;
        return;
    }
    u->fifo[(u->head + u->count) % UART_FIFO_BYTES] = byte;
    u->count++;
}

static u8 pop(struct uart *u)
{
    u8 byte = u->fifo[u->head];
    if (!u->count)
        return byte; /* the last byte again, as the chip does */
    if (u->count > 1 || fifo_on(u))
        u->head = (u->head + 1) % UART_FIFO_BYTES;
    u->count--;
    return byte;
}

/* Tells a host that was refused once the FIFO is empty: per-byte handshakes would be slow. */
static void offer_room(struct uart *u)
{
    if (!u->starved || u->count || (u->mcr & MCR_LOOP))
        return;
    u->starved = false;
    if (u->host.rx_ready)
        u->host.rx_ready(u->host.ctx);
}

static void clear_rx(struct uart *u)
{
    u->head = u->count = 0;
    restart_timeout(u);
    offer_room(u);
}

/* Filling the holding register takes its interrupt back, and its emptying raises it anew: an edge,
 * for handlers that write without reading IIR. */
static void transmit(struct uart *u, u8 byte)
{
    if (u->thre_pending) {
        u->thre_pending = false;
        update(u);
    }
    if (u->mcr & MCR_LOOP) {
        push(u, byte);
        restart_timeout(u);
    } else if (u->host.tx) {
        u->host.tx(u->host.ctx, &byte, 1);
    }
    /* The byte is gone at once: the holding register has just become empty again. */
    u->thre_pending = true;
}

static u8 read_iir(struct uart *u)
{
    u8 r = reason(u);
    if (r == IIR_THRE)
        u->thre_pending = false;
    return r | (fifo_on(u) ? IIR_FIFO : 0);
}

static u8 read_data(struct uart *u)
{
    u8 byte = pop(u);
    restart_timeout(u);
    offer_room(u);
    return byte;
}

static u64 uart_read(void *dev, u64 off, unsigned size)
{
    struct uart *u = dev;
    bool dlab = u->lcr & LCR_DLAB;
    u8 val;
    switch (off & 7) {
    case REG_DATA: val = dlab ? (u8)u->divisor : read_data(u); break;
    case REG_IER: val = dlab ? (u8)(u->divisor >> 8) : u->ier; break;
    case REG_IIR: val = read_iir(u); break;
    case REG_LCR: val = u->lcr; break;
    case REG_MCR: val = u->mcr; break;
    case REG_LSR:
        val = u->lsr;
        u->lsr &= (u8)~LSR_ERRORS;
        break;
    case REG_MSR:
        val = u->msr;
        u->msr &= MSR_LINES;
        break;
    default: val = u->scr; break;
    }
    update(u);
    return val;
}

static void write_ier(struct uart *u, u8 val)
{
    /* Enabling the THRE interrupt while the register is empty raises it, every time. */
    if ((val & IER_THRE) && !(u->ier & IER_THRE))
        u->thre_pending = true;
    u->ier = val & 0x0f;
}

static void write_fcr(struct uart *u, u8 val)
{
    bool flip = (val ^ u->fcr) & FCR_ENABLE;
    u->fcr = val & FCR_ENABLE ? val & FCR_KEPT : 0; /* the enable bit must be set to write others */
    if (flip || (val & FCR_CLEAR_RX))
        clear_rx(u);
    restart_timeout(u);
}

static void uart_write(void *dev, u64 off, unsigned size, u64 val64)
{
    struct uart *u = dev;
    bool dlab = u->lcr & LCR_DLAB;
    u8 val = (u8)val64;
    switch (off & 7) {
    case REG_DATA:
        if (dlab)
            u->divisor = (u->divisor & 0xff00) | val;
        else
            transmit(u, val);
        break;
    case REG_IER:
        if (dlab)
            u->divisor = (u16)((u->divisor & 0xff) | val << 8);
        else
            write_ier(u, val);
        break;
    case REG_IIR: write_fcr(u, val); break;
    case REG_LCR: u->lcr = val; break;
    case REG_MCR:
        u->mcr = val & 0x1f;
        update_modem(u);
        offer_room(u);
        break;
    case REG_SCR: u->scr = val; break;
    default: break; /* LSR and MSR: factory test only */
    }
    update(u);
}

const struct region_ops uart_ops = {uart_read, uart_write, 1, 4, 1, 1, true};

size_t uart_rx_room(const struct uart *u)
{
    if (u->mcr & MCR_LOOP)
        return 0; /* the receiver is cut off from the line */
    return depth(u) - u->count;
}

size_t uart_rx(struct uart *u, const u8 *buf, size_t len)
{
    size_t n = MIN(len, uart_rx_room(u));
    for (size_t i = 0; i < n; i++)
        push(u, buf[i]);
    u->starved = n < len;
    if (n)
        restart_timeout(u);
    update(u);
    return n;
}

void uart_rx_break(struct uart *u)
{
    if (u->mcr & MCR_LOOP)
        return;
    push(u, 0);
    u->lsr |= LSR_BI;
    restart_timeout(u);
    update(u);
}

static void uart_timeout(void *arg)
{
    struct uart *u = arg;
    u->timeout = u->count != 0;
    u->timeout_at = 0;
    update(u);
}

static const struct snap_field uart_fields[] = {SNAP_U8(struct uart, ier),
                                                SNAP_U8(struct uart, lcr),
                                                SNAP_U8(struct uart, mcr),
                                                SNAP_U8(struct uart, lsr),
                                                SNAP_U8(struct uart, msr),
                                                SNAP_U8(struct uart, scr),
                                                SNAP_U8(struct uart, fcr),
                                                SNAP_U16(struct uart, divisor),
                                                SNAP_U8(struct uart, fifo),
                                                SNAP_U8(struct uart, head),
                                                SNAP_U8(struct uart, count),
                                                SNAP_BOOL(struct uart, thre_pending),
                                                SNAP_BOOL(struct uart, timeout),
                                                SNAP_U64(struct uart, timeout_at),
                                                SNAP_END};

static int uart_check(const void *scratch, struct err *e)
{
    const struct uart *u = scratch;
    if (u->head >= UART_FIFO_BYTES || u->count > depth(u))
        return err_set(e, EINVAL, "uart: fifo head %u, count %u", u->head, u->count);
    if (u->ier & ~0x0f || u->mcr & ~0x1f || u->fcr & ~FCR_KEPT)
        return err_set(e, EINVAL, "uart: ier %#x, mcr %#x or fcr %#x", u->ier, u->mcr, u->fcr);
    return 0;
}

static void uart_loaded(void *obj)
{
    struct uart *u = obj;
    u->starved = true; /* whoever feeds this end does not know how full it is now */
    if (u->timeout_at)
        timer_arm(&u->timer, u->timeout_at);
    else
        timer_disarm(&u->timer);
    offer_room(u);
    update(u);
}

const struct snap_desc uart_snap = {"uart",      1,   sizeof(struct uart), uart_fields, uart_check,
                                    uart_loaded, NULL};

void uart_reset(struct uart *u)
{
    u->ier = u->lcr = u->mcr = u->scr = u->fcr = 0;
    u->lsr = LSR_THRE | LSR_TEMT;
    u->msr = MSR_CONNECTED;
    u->divisor = 12; /* 9600 */
    u->thre_pending = false;
    clear_rx(u);
    update(u);
}

void uart_init(struct uart *u, struct clock *clock, struct lock *lock, const struct irq_line *irq,
               const struct uart_host *host)
{
    memset(u, 0, sizeof(*u));
    u->clock = clock;
    u->irq = *irq;
    if (host)
        u->host = *host;
    timer_init(&u->timer, clock, uart_timeout, u, lock);
    uart_reset(u);
}

void uart_fini(struct uart *u)
{
    timer_fini(&u->timer);
}
