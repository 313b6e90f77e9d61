/* serial.c - a serial or console port's bytes, carried between the guest's device and the loop */
#include "machine/serial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A transmitting UART cannot wait for the host, so the brake is the vCPU itself: above SERIAL_HIGH
 * it is held. What it still sends until it has noticed fits between SERIAL_HIGH and SERIAL_BUFFER;
 * a guest that manages more (one instruction, `rep outs`) loses the excess. A line waits by itself,
 * and nothing is lost. */
struct serial {
    struct loop *loop;
    struct loop_task deliver, room;
    void (*throttle)(void *ctx, bool on);
    void *throttle_ctx;
    struct serial_line line;
    struct pc *pc; /* of a UART */
    unsigned n;
    struct serial_user user;
    bool connected;

    struct lock lock; /* taken with the UART's lock held */
    bool throttled;   /* the guest is held up */
    bool hungry;      /* the line has more */
    size_t head, len;
    u8 ring[SERIAL_BUFFER];
};

static size_t put_locked(struct serial *s, const u8 *data, size_t len)
{
    size_t tail = (s->head + s->len) % SERIAL_BUFFER, first;

    ASSERT(lock_held(&s->lock));
    len = MIN(len, SERIAL_BUFFER - s->len);
    first = MIN(len, SERIAL_BUFFER - tail);
    memcpy(s->ring + tail, data, first);
    memcpy(s->ring, data + first, len - first);
    s->len += len;
    return len;
}

static void from_uart(void *ctx, const u8 *data, size_t len)
{
    struct serial *s = ctx;
    bool hold;

    lock_take(&s->lock);
    put_locked(s, data, len);
    hold = s->len >= SERIAL_HIGH && !s->throttled;
    if (hold)
        s->throttled = true;
    lock_drop(&s->lock);
    if (hold)
        s->throttle(s->throttle_ctx, true);
    loop_task_queue(s->loop, &s->deliver);
}

static void uart_room(void *ctx)
{
    serial_input_room(ctx);
}

static size_t uart_free(void *ctx)
{
    struct serial *s = ctx;

    return pc_uart_room(s->pc, s->n);
}

static size_t uart_input(void *ctx, const u8 *data, size_t len)
{
    struct serial *s = ctx;

    return pc_uart_rx(s->pc, s->n, data, len);
}

/* ---- the ring ---- */

/* Copies out the oldest bytes without removing them. */
static size_t peek(struct serial *s, u8 *out, size_t cap)
{
    size_t n, first;

    lock_take(&s->lock);
    n = MIN(s->len, cap);
    first = MIN(n, SERIAL_BUFFER - s->head);
    memcpy(out, s->ring + s->head, first);
    memcpy(out + first, s->ring, n - first);
    lock_drop(&s->lock);
    return n;
}

static void drop(struct serial *s, size_t n)
{
    bool release, tell;

    lock_take(&s->lock);
    s->head = (s->head + n) % SERIAL_BUFFER;
    s->len -= n;
    release = s->throttled && s->len <= SERIAL_LOW;
    if (release)
        s->throttled = false;
    tell = s->hungry && s->len <= SERIAL_LOW;
    if (tell)
        s->hungry = false;
    lock_drop(&s->lock);
    if (release)
        s->throttle(s->throttle_ctx, false);
    if (tell)
        s->line.output_room(s->line.ctx);
}

static void deliver(void *arg)
{
    struct serial *s = arg;
    u8 chunk[4096];
    size_t n, taken;

    do {
        n = peek(s, chunk, sizeof(chunk));
        taken = n && s->connected ? s->user.receive(s->user.arg, chunk, n) : n;
        ASSERT(taken <= n);
        drop(s, taken);
    } while (n && taken == n);
}

static void tell_room(void *arg)
{
    struct serial *s = arg;

    if (s->connected && s->user.room)
        s->user.room(s->user.arg);
}

int serial_create(struct serial **out, struct loop *loop, void (*throttle)(void *ctx, bool on),
                  void *ctx, struct err *e)
{
    struct serial *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, ENOMEM, "serial port: no memory for its buffer");
    s->loop = loop;
    s->throttle = throttle;
    s->throttle_ctx = ctx;
    s->deliver = (struct loop_task){.fn = deliver, .arg = s};
    s->room = (struct loop_task){.fn = tell_room, .arg = s};
    lock_init(&s->lock);
    *out = s;
    return 0;
}

void serial_destroy(struct serial *s)
{
    if (!s)
        return;
    loop_task_cancel(s->loop, &s->deliver);
    loop_task_cancel(s->loop, &s->room);
    lock_destroy(&s->lock);
    free(s);
}

void serial_backend(struct serial *s, struct pc_serial *out)
{
    *out = (struct pc_serial){
        .present = true,
        .tx = from_uart,
        .rx_ready = uart_room,
        .ctx = s,
    };
}

void serial_attach(struct serial *s, struct pc *pc, unsigned n)
{
    s->pc = pc;
    s->n = n;
    s->line = (struct serial_line){.room = uart_free, .input = uart_input, .ctx = s};
}

void serial_attach_line(struct serial *s, const struct serial_line *line)
{
    s->line = *line;
}

size_t serial_output(struct serial *s, const u8 *data, size_t len)
{
    size_t n;

    lock_take(&s->lock);
    n = put_locked(s, data, len);
    s->hungry |= n < len;
    lock_drop(&s->lock);
    loop_task_queue(s->loop, &s->deliver);
    return n;
}

void serial_input_room(struct serial *s)
{
    loop_task_queue(s->loop, &s->room);
}

void serial_connect(struct serial *s, const struct serial_user *user)
{
    s->connected = user != NULL;
    if (user)
        s->user = *user;
    if (s->line.connected)
        s->line.connected(s->line.ctx, s->connected);
    loop_task_queue(s->loop, &s->deliver);
}

void serial_resume(struct serial *s)
{
    loop_task_queue(s->loop, &s->deliver);
}

size_t serial_room(struct serial *s)
{
    return s->line.room(s->line.ctx);
}

size_t serial_send(struct serial *s, const u8 *data, size_t len)
{
    return s->line.input(s->line.ctx, data, len);
}

bool serial_waiting(struct serial *s)
{
    bool waiting;

    lock_take(&s->lock);
    waiting = s->len > 0;
    lock_drop(&s->lock);
    return waiting;
}

void serial_drain(struct serial *s)
{
    deliver(s);
}
