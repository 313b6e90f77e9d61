/* console.h - virtio console with named ports (virtio 1.2, 5.3) */
#pragma once

#include "dev/virtio/virtio.h"

/* The host's side of one port. Called on the I/O thread without locks. */
struct virtio_console_port {
    const char *name; /* NULL: none; port 0 is the console. Outlives the device. */
    /* Takes up to len bytes of the guest's output; when less, virtio_console_resume must follow. */
    size_t (*output)(void *ctx, const u8 *data, size_t len);
    /* There is room again after a short virtio_console_input. May be NULL. */
    void (*input_room)(void *ctx);
    void *ctx;
};

struct virtio_console_config {
    struct virtio_console_port port[CONSOLE_PORTS_MAX];
    unsigned ports; /* at least 1 */
};

struct virtio_console {
    struct virtio_dev dev;
    struct virtio_console_config cfg;
    u8 config[12];
    struct loop_task task; /* something changed on the host's side */

    /* The I/O thread's, an entry a port */
    u8 pending[CONSOLE_PORTS_MAX];      /* control messages to send: 1 << enum message */
    u8 ready[CONSOLE_PORTS_MAX];        /* the driver has set the port up */
    u8 guest_open[CONSOLE_PORTS_MAX];   /* a process of the guest has it open */
    u8 told_open[CONSOLE_PORTS_MAX];    /* what the driver was told of host_open */
    u32 output_done[CONSOLE_PORTS_MAX]; /* bytes of the chain at the head that were handed on */

    struct lock lock; /* the following; innermost */
    u8 host_open[CONSOLE_PORTS_MAX];
    u8 hungry[CONSOLE_PORTS_MAX]; /* the host has more input than fitted */
    bool resized;
    u32 input_head[CONSOLE_PORTS_MAX], input_len[CONSOLE_PORTS_MAX];
    u8 input[CONSOLE_PORTS_MAX][CONSOLE_INPUT];
};

/* cfg is copied; mem and loop outlive the device. 0 or -errno. */
must_check int virtio_console_create(const struct virtio_console_config *cfg, struct mem *mem,
                                     struct loop *loop, struct virtio_console **out, struct err *e);
/* After the I/O thread has ended. */
void virtio_console_destroy(struct virtio_dev *dev);

/* ---- the host's side: any thread, with locks that output and input_room do not take ---- */

/* Whether somebody is there. While not, output is dropped and a guest's reader sees the end. */
void virtio_console_open(struct virtio_console *c, unsigned port, bool on);
/* Input for the guest: returns how much was taken. It waits for the guest to open the port. */
size_t virtio_console_input(struct virtio_console *c, unsigned port, const u8 *data, size_t len);
size_t virtio_console_room(struct virtio_console *c, unsigned port);
/* The host takes output again. */
void virtio_console_resume(struct virtio_console *c);
/* The terminal of port 0. */
void virtio_console_resize(struct virtio_console *c, u16 cols, u16 rows);

extern const struct snap_desc virtio_console_snap;
