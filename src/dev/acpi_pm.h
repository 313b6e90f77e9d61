/* acpi_pm.h - ACPI fixed hardware: PM1 events and control, PM timer, general-purpose events */
#pragma once

#include "dev/irq.h"
#include "host/clock.h"
#include "mem/bus.h"
#include "snap/snap.h"

/* Offsets in the block; machine/pc_map.h gives it a base. */
#define PM_OFF_STATUS     0x00
#define PM_OFF_ENABLE     0x02
#define PM_OFF_CONTROL    0x04
#define PM_OFF_TIMER      0x08
#define PM_OFF_GPE_STATUS 0x20
#define PM_OFF_GPE_ENABLE 0x22
#define PM_BLOCK_BYTES    0x40

struct acpi_pm {
    u16 status, enable, control;
    u16 gpe_status, gpe_enable;
    u64 timer_seen; /* PM timer ticks up to which TMR_STS was derived */

    u8 s5_type; /* SLP_TYP that means soft-off */
    struct irq_line sci;
    void (*power_off)(void *ctx);
    void *ctx;
    struct clock *clock;
    struct timer timer;
};

/* `lock` is the one the bus takes around acpi_pm_ops; the timer takes it too. power_off is
 * called with it held and must not call back. */
void acpi_pm_init(struct acpi_pm *p, struct clock *clock, struct lock *lock,
                  const struct irq_line *sci, u8 s5_type, void (*power_off)(void *ctx), void *ctx);
void acpi_pm_fini(struct acpi_pm *p); /* without the lock */
void acpi_pm_reset(struct acpi_pm *p);

/* The power button, with the lock held. False when the guest did not enable the event. */
bool acpi_pm_power_button(struct acpi_pm *p);
void acpi_pm_gpe(struct acpi_pm *p, unsigned n);

extern const struct region_ops acpi_pm_ops; /* PM_BLOCK_BYTES ports */
extern const struct snap_desc acpi_pm_snap;
