/* idle_env.h - what a vCPU needs around it when nothing happens there */
#pragma once

#include <errno.h>

#include "engine/engine.h"

static bool idle_no(void *ctx)
{
    return false;
}

static int idle_no_vector(void *ctx)
{
    return -1;
}

static u64 idle_zero(void *ctx)
{
    return 0;
}

static void idle_ignore(void *ctx, u64 val)
{
}

static int idle_no_msr_read(void *ctx, u32 msr, u64 *val)
{
    return -EINVAL;
}

static int idle_no_msr_write(void *ctx, u32 msr, u64 val)
{
    return -EINVAL;
}

static void idle_no_ferr(void *ctx, bool asserted)
{
}

static int idle_no_random(void *ctx, u64 *val)
{
    return -EINVAL;
}

static const struct vcpu_env idle_env = {
    .irq_pending = idle_no,
    .irq_ack = idle_no_vector,
    .nmi_take = idle_no,
    .tsc = idle_zero,
    .cr8_read = idle_zero,
    .cr8_write = idle_ignore,
    .msr_read = idle_no_msr_read,
    .msr_write = idle_no_msr_write,
    .ferr = idle_no_ferr,
    .random = idle_no_random,
};
