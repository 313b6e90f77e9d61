/* console.c - virtio console with named ports (virtio 1.2, 5.3) */
#include "dev/virtio/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define F_SIZE      0
#define F_MULTIPORT 1

/* Queues: input and output of port 0, of the control messages, of port 1, of port 2, ... */
#define CONTROL_IN  2
#define CONTROL_OUT 3
#define QUEUE_SIZE  128

/* struct virtio_console_config: le16 cols, rows, le32 max_nr_ports, emerg_wr */
#define CFG_COLS  0
#define CFG_ROWS  2
#define CFG_PORTS 4

/* struct virtio_console_control: le32 id, le16 event, value; 5.3.6.2 */
enum event {
    DEVICE_READY = 0,
    PORT_ADD = 1,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    RESIZE = 5,
    PORT_OPEN = 6,
    PORT_NAME = 7,
};

/* What may wait for a buffer of the driver, a bit a port: more of a kind replace each other. They
 * are sent in this order. */
enum message { MSG_ADD, MSG_CONSOLE, MSG_NAME, MSG_OPEN, MSG_RESIZE, MSG_COUNT };

static const u8 message_event[MSG_COUNT] = {PORT_ADD, CONSOLE_PORT, PORT_NAME, PORT_OPEN, RESIZE};

struct control {
    u32 id;
    u16 event, value;
    u8 more[CONSOLE_NAME_MAX];
};

#define CONTROL_BYTES 8u

static unsigned input_queue(unsigned port)
{
    return port ? 2 + 2 * port : 0;
}

static bool multiport(const struct virtio_console *c)
{
    return virtio_has(&c->dev, F_MULTIPORT);
}

static bool host_open(struct virtio_console *c, unsigned port)
{
    bool on;

    lock_take(&c->lock);
    on = c->host_open[port];
    lock_drop(&c->lock);
    return on;
}

/* ---- input on its way to the guest ---- */

static u32 peek_input(struct virtio_console *c, unsigned port, u8 *out, u32 max)
{
    u32 n, first;

    lock_take(&c->lock);
    n = MIN(c->input_len[port], max);
    first = MIN(n, CONSOLE_INPUT - c->input_head[port]);
    memcpy(out, c->input[port] + c->input_head[port], first);
    memcpy(out + first, c->input[port], n - first);
    lock_drop(&c->lock);
    return n;
}

/* At most n bytes. */
static void drop_input(struct virtio_console *c, unsigned port, u32 n)
{
    const struct virtio_console_port *from = &c->cfg.port[port];
    bool tell;

    lock_take(&c->lock);
    n = MIN(n, c->input_len[port]);
    c->input_head[port] = (c->input_head[port] + n) % CONSOLE_INPUT;
    c->input_len[port] -= n;
    tell = n && c->hungry[port];
    if (tell)
        c->hungry[port] = false;
    lock_drop(&c->lock);
    if (tell && from->input_room)
        from->input_room(from->ctx);
}

/* ---- control messages to the driver ---- */

static u32 build_message(struct virtio_console *c, unsigned port, enum message msg,
                         struct control *m)
{
    *m = (struct control){.id = port, .event = message_event[msg], .value = 1};
    if (msg == MSG_OPEN) {
        m->value = host_open(c, port);
        c->told_open[port] = (u8)m->value;
    } else if (msg == MSG_NAME) {
        u32 len = (u32)strlen(c->cfg.port[port].name);

        memcpy(m->more, c->cfg.port[port].name, len);
        return CONTROL_BYTES + len;
    } else if (msg == MSG_RESIZE) {
        /* Columns first (5.3.6.2); Linux before 6.15 takes them for rows. */
        lock_take(&c->dev.lock);
        memcpy(m->more, c->config + CFG_COLS, 4);
        lock_drop(&c->dev.lock);
        return CONTROL_BYTES + 4;
    }
    return CONTROL_BYTES;
}

/* The next buffer of the driver; when there is none it is asked to kick. */
static bool next_buffer(struct virtq *q, struct virtq_chain *chain)
{
    return virtq_pop(q, chain) > 0 || (virtq_ask_kicks(q, true) && virtq_pop(q, chain) > 0);
}

/* False when the driver has no buffer for it. A buffer that is too small comes back empty. */
static bool send_message(struct virtio_console *c, unsigned port, enum message msg)
{
    struct virtq *q = &c->dev.queue[CONTROL_IN];
    struct virtq_chain chain;
    struct control m;
    u32 len;

    if (!next_buffer(q, &chain))
        return false;
    len = build_message(c, port, msg, &m);
    c->pending[port] &= (u8)~BIT(msg);
    virtq_push(q, chain.head, virtq_write(q, &chain, 0, &m, len) ? 0 : len);
    return true;
}

static void send_pending(struct virtio_console *c)
{
    for (unsigned port = 0; port < c->cfg.ports; port++)
        for (unsigned msg = 0; msg < MSG_COUNT; msg++)
            if (c->pending[port] & BIT(msg) && !send_message(c, port, msg))
                goto out;
out:
    virtio_signal(&c->dev, CONTROL_IN);
}

/* ---- control messages from the driver ---- */

static void port_ready(struct virtio_console *c, unsigned port)
{
    c->ready[port] = true;
    c->told_open[port] = false;
    if (host_open(c, port))
        c->pending[port] |= BIT(MSG_OPEN);
    if (c->cfg.port[port].name)
        c->pending[port] |= BIT(MSG_NAME);
    if (port == 0)
        c->pending[port] |= BIT(MSG_CONSOLE) | BIT(MSG_RESIZE);
}

/* What the host had sent was for the process that closes it. */
static void guest_opens(struct virtio_console *c, unsigned port, bool on)
{
    if (c->guest_open[port] && !on)
        drop_input(c, port, CONSOLE_INPUT);
    c->guest_open[port] = on;
}

static s64 control(struct virtio_dev *d, struct virtq *q, struct virtq_chain *chain)
{
    struct virtio_console *c = container_of(d, struct virtio_console, dev);
    struct control m;

    if (virtq_read(q, chain, 0, &m, CONTROL_BYTES))
        return 0;
    if (m.event == DEVICE_READY && m.value == 1)
        for (unsigned i = 0; i < c->cfg.ports; i++)
            c->pending[i] |= BIT(MSG_ADD);
    else if (m.id < c->cfg.ports && m.event == PORT_READY && m.value == 1)
        port_ready(c, m.id);
    else if (m.id < c->cfg.ports && m.event == PORT_OPEN)
        guest_opens(c, m.id, m.value & 1);
    return 0;
}

/* ---- bytes ---- */

/* A chain that the host takes a part of goes back; the next time starts where that ended. */
static s64 output(struct virtio_dev *d, struct virtq *q, struct virtq_chain *chain)
{
    struct virtio_console *c = container_of(d, struct virtio_console, dev);
    unsigned n = (unsigned)(q - d->queue), port = n > 1 ? n / 2 - 1 : 0;
    const struct virtio_console_port *to = &c->cfg.port[port];
    u32 *done = &c->output_done[port];
    u8 bytes[4096];

    while (host_open(c, port) && *done < chain->out_bytes) {
        u32 len = (u32)MIN(chain->out_bytes - *done, sizeof(bytes)), taken;

        if (virtq_read(q, chain, *done, bytes, len))
            break;
        taken = (u32)to->output(to->ctx, bytes, len);
        *done += taken;
        if (taken < len)
            return VIRTIO_STALL;
    }
    *done = 0;
    return 0;
}

static void feed(struct virtio_console *c, unsigned port)
{
    unsigned n = input_queue(port);
    struct virtq *q = &c->dev.queue[n];
    struct virtq_chain chain;
    u8 bytes[CONSOLE_INPUT];
    unsigned left = VIRTIO_TURN_MAX;

    if (multiport(c) && !c->guest_open[port])
        return;
    for (; left && peek_input(c, port, bytes, 1) && next_buffer(q, &chain); left--) {
        u32 len = peek_input(c, port, bytes, MIN(chain.in_bytes, CONSOLE_INPUT));

        if (virtq_write(q, &chain, 0, bytes, len))
            len = 0;
        drop_input(c, port, len);
        virtq_push(q, chain.head, len);
    }
    virtio_signal(&c->dev, n);
    if (!left)
        virtio_kick(&c->dev, n); /* buffers without room, without end */
}

static void host_changed(void *arg)
{
    struct virtio_console *c = arg;
    bool resized;

    if (!c->dev.started)
        return;
    lock_take(&c->lock);
    resized = c->resized;
    c->resized = false;
    for (unsigned i = 0; i < c->cfg.ports; i++)
        if (c->ready[i] && c->told_open[i] != c->host_open[i])
            c->pending[i] |= BIT(MSG_OPEN);
    lock_drop(&c->lock);
    if (resized && c->ready[0])
        c->pending[0] |= BIT(MSG_RESIZE);
    else if (resized && !multiport(c))
        virtio_config_changed(&c->dev);
    for (unsigned i = 0; i < (multiport(c) ? c->cfg.ports : 1); i++) {
        virtio_process(&c->dev, input_queue(i) + 1, output);
        feed(c, i);
    }
    if (multiport(c))
        send_pending(c);
}

/* ---- what the core calls ---- */

static void start(struct virtio_dev *d)
{
    struct virtio_console *c = container_of(d, struct virtio_console, dev);

    loop_task_queue(d->loop, &c->task);
}

static void stop(struct virtio_dev *d)
{
    struct virtio_console *c = container_of(d, struct virtio_console, dev);

    for (unsigned i = 0; i < c->cfg.ports; i++) {
        guest_opens(c, i, false);
        c->pending[i] = c->ready[i] = c->told_open[i] = 0;
        c->output_done[i] = 0;
    }
}

static void kick(struct virtio_dev *d, unsigned q)
{
    struct virtio_console *c = container_of(d, struct virtio_console, dev);

    if (q > 1 && !multiport(c))
        return;
    if (q == CONTROL_OUT) {
        virtio_process(d, q, control);
        loop_task_queue(d->loop, &c->task);
    } else if (q == CONTROL_IN) {
        send_pending(c);
    } else if (q & 1) {
        virtio_process(d, q, output);
    } else {
        feed(c, q ? q / 2 - 1 : 0);
    }
}

static const struct virtio_ops ops = {
    .name = "virtio-console",
    .id = VIRTIO_CONSOLE,
    .pci_class = 0x078000,
    .start = start,
    .stop = stop,
    .kick = kick,
};

/* ---- the host's side ---- */

void virtio_console_open(struct virtio_console *c, unsigned port, bool on)
{
    lock_take(&c->lock);
    c->host_open[port] = on;
    lock_drop(&c->lock);
    loop_task_queue(c->dev.loop, &c->task);
}

size_t virtio_console_input(struct virtio_console *c, unsigned port, const u8 *data, size_t len)
{
    u32 n, tail, first;

    lock_take(&c->lock);
    n = (u32)MIN(len, (size_t)(CONSOLE_INPUT - c->input_len[port]));
    tail = (c->input_head[port] + c->input_len[port]) % CONSOLE_INPUT;
    first = MIN(n, CONSOLE_INPUT - tail);
    memcpy(c->input[port] + tail, data, first);
    memcpy(c->input[port], data + first, n - first);
    c->input_len[port] += n;
    c->hungry[port] |= n < len;
    lock_drop(&c->lock);
    loop_task_queue(c->dev.loop, &c->task);
    return n;
}

size_t virtio_console_room(struct virtio_console *c, unsigned port)
{
    size_t room;

    lock_take(&c->lock);
    room = CONSOLE_INPUT - c->input_len[port];
    c->hungry[port] |= room == 0;
    lock_drop(&c->lock);
    return room;
}

void virtio_console_resume(struct virtio_console *c)
{
    loop_task_queue(c->dev.loop, &c->task);
}

void virtio_console_resize(struct virtio_console *c, u16 cols, u16 rows)
{
    lock_take(&c->dev.lock);
    memcpy(c->config + CFG_COLS, &cols, 2);
    memcpy(c->config + CFG_ROWS, &rows, 2);
    lock_drop(&c->dev.lock);
    lock_take(&c->lock);
    c->resized = true;
    lock_drop(&c->lock);
    loop_task_queue(c->dev.loop, &c->task);
}

/* ---- state ---- */

static const struct snap_field fields[] = {
    SNAP_U8(struct virtio_console, config),      SNAP_U8(struct virtio_console, pending),
    SNAP_U8(struct virtio_console, ready),       SNAP_U8(struct virtio_console, guest_open),
    SNAP_U8(struct virtio_console, told_open),   SNAP_U32(struct virtio_console, output_done),
    SNAP_U32(struct virtio_console, input_head), SNAP_U32(struct virtio_console, input_len),
    SNAP_U8(struct virtio_console, input),       SNAP_END,
};

static int check(const void *scratch, struct err *e)
{
    const struct virtio_console *c = scratch;

    for (unsigned i = 0; i < CONSOLE_PORTS_MAX; i++) {
        if (c->pending[i] >= BIT(MSG_COUNT))
            return err_set(e, EINVAL, "virtio-console: unknown messages");
        if (c->input_head[i] >= CONSOLE_INPUT || c->input_len[i] > CONSOLE_INPUT)
            return err_set(e, EINVAL, "virtio-console: input beyond its buffer");
    }
    return 0;
}

static void put_ports(struct virtio_console *c)
{
    memcpy(c->config + CFG_PORTS, &c->cfg.ports, 4);
}

/* The ports are those that this machine has: a nameless one cannot tell its name. */
static void loaded(void *obj)
{
    struct virtio_console *c = obj;

    put_ports(c);
    for (unsigned i = 0; i < c->cfg.ports; i++)
        if (!c->cfg.port[i].name)
            c->pending[i] &= (u8)~BIT(MSG_NAME);
}

const struct snap_desc virtio_console_snap = {
    .name = "virtio-console",
    .version = 1,
    .size = sizeof(struct virtio_console),
    .fields = fields,
    .check = check,
    .loaded = loaded,
};

/* ---- life ---- */

int virtio_console_create(const struct virtio_console_config *cfg, struct mem *mem,
                          struct loop *loop, struct virtio_console **out, struct err *e)
{
    struct virtio_console *c = calloc(1, sizeof(*c));
    u16 sizes[2 + 2 * CONSOLE_PORTS_MAX];
    int rc;

    if (!c)
        return err_set(e, ENOMEM, "virtio-console: no memory");
    ASSERT(cfg->ports && cfg->ports <= CONSOLE_PORTS_MAX);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        sizes[i] = QUEUE_SIZE;
    c->cfg = *cfg;
    c->dev.features = BIT64(F_SIZE) | BIT64(F_MULTIPORT);
    c->dev.config = c->config;
    c->dev.config_len = sizeof(c->config);
    put_ports(c);
    c->task = (struct loop_task){.fn = host_changed, .arg = c};
    rc = virtio_init(&c->dev, &ops, mem, loop, sizes, 2 + 2 * cfg->ports, e);
    if (rc) {
        free(c);
        return rc;
    }
    lock_init(&c->lock);
    *out = c;
    return 0;
}

void virtio_console_destroy(struct virtio_dev *dev)
{
    struct virtio_console *c = container_of(dev, struct virtio_console, dev);

    loop_task_cancel(dev->loop, &c->task);
    virtio_fini(dev);
    lock_destroy(&c->lock);
    free(c);
}
