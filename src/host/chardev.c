/* chardev.c - byte streams: the output buffer, and the backends without a descriptor */
#include "host/chardev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/chardev_priv.h"

int chardev_init(struct chardev *c, const struct chardev_backend *b, bool with_ring, struct err *e)
{
    *c = (struct chardev){.backend = b};
    if (with_ring) {
        c->ring = malloc(CHARDEV_BUFFER);
        if (!c->ring)
            return err_set(e, ENOMEM, "character device: no memory for its buffer");
    }
    lock_init(&c->lock);
    return 0;
}

void chardev_fini(struct chardev *c)
{
    lock_destroy(&c->lock);
    free(c->ring);
}

void chardev_connect(struct chardev *c, const struct chardev_user *user)
{
    c->user = user ? *user : (struct chardev_user){0};
    c->backend->accept(c);
}

static u32 ring_put_locked(struct chardev *c, const u8 *data, size_t len)
{
    u32 n = (u32)MIN(len, (size_t)(CHARDEV_BUFFER - c->len));
    u32 tail = (c->head + c->len) % CHARDEV_BUFFER;
    u32 first = MIN(n, CHARDEV_BUFFER - tail);

    memcpy(c->ring + tail, data, first);
    memcpy(c->ring, data + first, n - first);
    c->len += n;
    return n;
}

size_t chardev_write(struct chardev *c, const u8 *data, size_t len)
{
    size_t n = len;
    bool start = false;

    lock_take(&c->lock);
    if (c->ring && !c->broken) {
        start = c->len == 0 && len > 0;
        n = ring_put_locked(c, data, len);
        c->hungry |= n < len;
    }
    lock_drop(&c->lock);
    if (start)
        c->backend->output(c);
    return n;
}

size_t chardev_room(struct chardev *c)
{
    size_t room;

    lock_take(&c->lock);
    room = c->ring && !c->broken ? CHARDEV_BUFFER - c->len : CHARDEV_BUFFER;
    lock_drop(&c->lock);
    return room;
}

void chardev_accept(struct chardev *c)
{
    c->backend->accept(c);
}

void chardev_close(struct chardev *c, unsigned drain_ms)
{
    if (c)
        c->backend->close(c, drain_ms);
}

size_t chardev_peek(struct chardev *c, const u8 **data)
{
    size_t n;

    lock_take(&c->lock);
    *data = c->ring + c->head;
    n = MIN(c->len, CHARDEV_BUFFER - c->head);
    lock_drop(&c->lock);
    return n;
}

static void tell_writable(struct chardev *c, bool was_hungry)
{
    if (was_hungry && c->user.writable)
        c->user.writable(c->user.arg);
}

void chardev_drop(struct chardev *c, size_t n)
{
    bool was_hungry;

    lock_take(&c->lock);
    ASSERT(n <= c->len);
    c->head = (c->head + (u32)n) % CHARDEV_BUFFER;
    c->len -= (u32)n;
    was_hungry = c->hungry && n > 0;
    if (was_hungry)
        c->hungry = false;
    lock_drop(&c->lock);
    tell_writable(c, was_hungry);
}

void chardev_break(struct chardev *c)
{
    bool was_hungry, was_broken;

    lock_take(&c->lock);
    was_broken = c->broken;
    was_hungry = c->hungry;
    c->broken = true;
    c->hungry = false;
    c->head = c->len = 0;
    lock_drop(&c->lock);
    if (was_broken)
        return;
    if (c->user.event)
        c->user.event(c->user.arg, CHARDEV_BROKEN);
    tell_writable(c, was_hungry);
}

/* ---- null and memory ---- */

static void nothing(struct chardev *c)
{
}

static void plain_close(struct chardev *c, unsigned drain_ms)
{
    chardev_fini(c);
    free(c);
}

static const struct chardev_backend plain_backend = {nothing, nothing, plain_close};

static int open_plain(struct chardev **out, bool with_ring, struct err *e)
{
    struct chardev *c = malloc(sizeof(*c));
    int ret;

    if (!c)
        return err_set(e, ENOMEM, "character device: no memory");
    ret = chardev_init(c, &plain_backend, with_ring, e);
    if (ret) {
        free(c);
        return ret;
    }
    *out = c;
    return 0;
}

int chardev_open_null(struct chardev **out, struct err *e)
{
    return open_plain(out, false, e);
}

int chardev_open_mem(struct chardev **out, struct err *e)
{
    return open_plain(out, true, e);
}

size_t chardev_mem_feed(struct chardev *c, const u8 *data, size_t len)
{
    size_t n = c->user.can_receive ? c->user.can_receive(c->user.arg) : 0;

    n = MIN(n, len);
    if (n && c->user.receive)
        c->user.receive(c->user.arg, data, n);
    return n;
}

size_t chardev_mem_take(struct chardev *c, u8 *data, size_t len)
{
    const u8 *at;
    size_t done = 0, n;

    while (done < len && (n = chardev_peek(c, &at)) > 0) {
        n = MIN(n, len - done);
        memcpy(data + done, at, n);
        chardev_drop(c, n);
        done += n;
    }
    return done;
}
