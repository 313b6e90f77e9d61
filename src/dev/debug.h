/* debug.h - debug console, exit port, panic notifier and DMA page registers */
#pragma once

#include "mem/bus.h"
#include "snap/snap.h"

/* A write-only byte port; reads give E9h, by which programs find it. */
struct debug_port {
    void (*write)(void *ctx, u8 byte); /* may be NULL */
    void *ctx;
};

/* A port whose write ends the run with status (value << 1) | 1. */
struct debug_exit {
    void (*exit)(void *ctx, int status); /* may be NULL */
    void *ctx;
};

/* The pvpanic port: reads say which events are understood, writes report them. */
#define PVPANIC_PANICKED     0x01
#define PVPANIC_CRASH_LOADED 0x02
struct pvpanic {
    void (*panic)(void *ctx, unsigned event); /* may be NULL */
    void *ctx;
};

/* Ports 81h-8Fh: page registers of the DMA controllers, kept as memory because old software
 * tests for them; there is no DMA. */
struct dma_page {
    u8 reg[15];
};
void dma_page_reset(struct dma_page *d);

extern const struct region_ops debug_port_ops, debug_exit_ops, pvpanic_ops, dma_page_ops;
extern const struct snap_desc dma_page_snap;
