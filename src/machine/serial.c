/* serial.c - a serial port's bytes, carried between vCPU threads and the loop thread */
#include "machine/serial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A transmitting UART cannot wait for the host, so the brake is the vCPU itself: above SERIAL_HIGH
 * it is held. What it still sends until it has noticed fits between SERIAL_HIGH and SERIAL_BUFFER;
 * a guest that manages more (one instruction, `rep outs`) loses the excess. */
struct serial {
    struct loop *loop;
    struct loop_task deliver, room;
    void (*throttle)(void *ctx, bool on);
    void *throttle_ctx;
    struct pc *pc;
    unsigned n;
    struct serial_user user;
    bool connected;

    struct lock lock; /* taken with the UART's lock held */
    bool throttled;
    size_t head, len;
    u8 ring[SERIAL_BUFFER];
};

static void from_uart(void *ctx, const u8 *data, size_t len)
{
    struct serial *s = ctx;
    bool hold;

    lock_take(&s->lock);
    len = MIN(len, SERIAL_BUFFER - s->len);
    for (size_t i = 0; i < len; i++)
        s->ring[(s->head + s->len + i) % SERIAL_BUFFER] = data[i];
    s->len += len;
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
    struct serial *s = ctx;

    loop_task_queue(s->loop, &s->room);
}

/* Copies out the oldest bytes without removing them. */
static size_t peek(struct serial *s, u8 *out, size_t cap)
{
    size_t n;

    lock_take(&s->lock);
    n = MIN(s->len, cap);
    for (size_t i = 0; i < n; i++)
        out[i] = s->ring[(s->head + i) % SERIAL_BUFFER];
    lock_drop(&s->lock);
    return n;
}

static void drop(struct serial *s, size_t n)
{
    bool release;

    lock_take(&s->lock);
    s->head = (s->head + n) % SERIAL_BUFFER;
    s->len -= n;
    release = s->throttled && s->len <= SERIAL_LOW;
    if (release)
        s->throttled = false;
    lock_drop(&s->lock);
    if (release)
        s->throttle(s->throttle_ctx, false);
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
}

void serial_connect(struct serial *s, const struct serial_user *user)
{
    s->connected = user != NULL;
    if (user)
        s->user = *user;
    loop_task_queue(s->loop, &s->deliver);
}

void serial_resume(struct serial *s)
{
    loop_task_queue(s->loop, &s->deliver);
}

size_t serial_room(struct serial *s)
{
    return pc_uart_room(s->pc, s->n);
}

size_t serial_send(struct serial *s, const u8 *data, size_t len)
{
    return pc_uart_rx(s->pc, s->n, data, len);
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
