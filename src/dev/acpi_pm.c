/* acpi_pm.c - ACPI fixed hardware registers (ACPI 6.4, 4.8) */
#include "dev/acpi_pm.h"

#include <errno.h>
#include <string.h>

#include "base/freq.h"
#include "base/log.h"
#include "dev/tick.h"

#define STS_TIMER        BIT(0)
#define STS_GLOBAL       BIT(5)
#define STS_POWER_BUTTON BIT(8)
#define STS_RTC          BIT(10)
#define STS_WAKE         BIT(15)
#define STS_ALL                                                                  \
    (STS_TIMER | BIT(4) | STS_GLOBAL | STS_POWER_BUTTON | BIT(9) | STS_RTC | STS_WAKE)
#define EN_ALL           (STS_TIMER | STS_GLOBAL | STS_POWER_BUTTON | BIT(9) | STS_RTC)

/* Control: 13 SLP_EN (write-only) | 12-10 SLP_TYP | 2 GBL_RLS (write-only) | 1 BM_RLD | 0 SCI_EN */
#define CNT_SCI_EN     BIT(0)
#define CNT_KEPT       (7u << 10 | BIT(1))
#define CNT_SLP_TYP(v) ((v) >> 10 & 7)
#define CNT_SLP_EN     BIT(13)

#define TIMER_HALF (1ull << 31) /* TMR_STS is set whenever bit 31 changes */

static u64 timer_ticks(const struct acpi_pm *p)
{
    return ticks_at(clock_now_ns(p->clock), PM_TIMER_HZ);
}

/* Derives TMR_STS and drives SCI, which is level-triggered and shared by both event blocks. */
static void update(struct acpi_pm *p)
{
    u64 now = timer_ticks(p);
    if (now / TIMER_HALF != p->timer_seen / TIMER_HALF)
        p->status |= STS_TIMER;
    p->timer_seen = now;
    irq_set(&p->sci, (p->status & p->enable & EN_ALL) || (p->gpe_status & p->gpe_enable));
    if ((p->enable & STS_TIMER) && !(p->status & STS_TIMER))
        timer_arm(&p->timer, ticks_ns((now / TIMER_HALF + 1) * TIMER_HALF, PM_TIMER_HZ));
    else
        timer_disarm(&p->timer);
}

static void acpi_pm_event(void *arg)
{
    update(arg);
}

static void write_control(struct acpi_pm *p, u16 val)
{
    p->control = (val & CNT_KEPT) | CNT_SCI_EN; /* no legacy mode: FADT names no SMI port */
    if (!(val & CNT_SLP_EN))
        return;
    if (CNT_SLP_TYP(val) == p->s5_type)
        p->power_off(p->ctx);
    else
        log_guest("acpi: sleep type %u is not offered", CNT_SLP_TYP(val));
}

static u16 read_word(struct acpi_pm *p, u64 off)
{
    switch (off) {
    case PM_OFF_STATUS: return p->status;
    case PM_OFF_ENABLE: return p->enable;
    case PM_OFF_CONTROL: return p->control;
    case PM_OFF_TIMER: return (u16)p->timer_seen;
    case PM_OFF_TIMER + 2: return (u16)(p->timer_seen >> 16);
    case PM_OFF_GPE_STATUS: return p->gpe_status;
    case PM_OFF_GPE_ENABLE: return p->gpe_enable;
    default: return 0;
    }
}

/* `mask` selects the bytes that are written. Status bits are cleared by writing ones. */
static void write_word(struct acpi_pm *p, u64 off, u16 val, u16 mask)
{
    switch (off) {
    case PM_OFF_STATUS: p->status &= ~(val & mask); break;
    case PM_OFF_ENABLE: p->enable = (u16)((p->enable & ~mask) | (val & mask & EN_ALL)); break;
    case PM_OFF_CONTROL: write_control(p, (u16)((p->control & ~mask) | (val & mask))); break;
    case PM_OFF_GPE_STATUS: p->gpe_status &= ~(val & mask); break;
    case PM_OFF_GPE_ENABLE: p->gpe_enable = (u16)((p->gpe_enable & ~mask) | (val & mask)); break;
    default: break;
    }
}

static u64 acpi_pm_read(void *dev, u64 off, unsigned size)
{
    struct acpi_pm *p = dev;
    update(p);
    if (size == 1)
        return read_word(p, off & ~1ull) >> (off & 1) * 8 & 0xff;
    u32 val = read_word(p, off);
    if (size == 4) /* the timer must not tear: both halves come from the same timer_seen */
        val |= (u32)read_word(p, off + 2) << 16;
    return val;
}

static void acpi_pm_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct acpi_pm *p = dev;
    update(p);
    if (size == 1) {
        unsigned shift = (off & 1) * 8;
        write_word(p, off & ~1ull, (u16)(val << shift), (u16)(0xff << shift));
    } else {
        write_word(p, off, (u16)val, 0xffff);
        if (size == 4)
            write_word(p, off + 2, (u16)(val >> 16), 0xffff);
    }
    update(p);
}

const struct region_ops acpi_pm_ops = {acpi_pm_read, acpi_pm_write, 1, 4, 1, 4, false};

bool acpi_pm_power_button(struct acpi_pm *p)
{
    p->status |= STS_POWER_BUTTON;
    update(p);
    return p->enable & STS_POWER_BUTTON;
}

void acpi_pm_gpe(struct acpi_pm *p, unsigned n)
{
    p->gpe_status |= (u16)BIT(n & 15);
    update(p);
}

static const struct snap_field acpi_pm_fields[] = {SNAP_U16(struct acpi_pm, status),
                                                   SNAP_U16(struct acpi_pm, enable),
                                                   SNAP_U16(struct acpi_pm, control),
                                                   SNAP_U16(struct acpi_pm, gpe_status),
                                                   SNAP_U16(struct acpi_pm, gpe_enable),
                                                   SNAP_U64(struct acpi_pm, timer_seen),
                                                   SNAP_END};

static int acpi_pm_check(const void *scratch, struct err *e)
{
    const struct acpi_pm *p = scratch;
    if ((p->status & ~STS_ALL) || (p->enable & ~EN_ALL) || (p->control & ~(CNT_KEPT | CNT_SCI_EN)))
        return err_set(e, EINVAL, "acpi_pm: reserved bits in status %#x, enable %#x or control %#x",
                       p->status, p->enable, p->control);
    return 0;
}

static void acpi_pm_settle(void *obj)
{
    update(obj);
}

const struct snap_desc acpi_pm_snap = {
    "acpi_pm",     1, sizeof(struct acpi_pm), acpi_pm_fields, acpi_pm_check, acpi_pm_settle,
    acpi_pm_settle};

void acpi_pm_reset(struct acpi_pm *p)
{
    p->status = p->enable = 0;
    p->gpe_status = p->gpe_enable = 0;
    p->control = CNT_SCI_EN;
    p->timer_seen = timer_ticks(p);
    update(p);
}

void acpi_pm_init(struct acpi_pm *p, struct clock *clock, struct lock *lock,
                  const struct irq_line *sci, u8 s5_type, void (*power_off)(void *ctx), void *ctx)
{
    memset(p, 0, sizeof(*p));
    p->clock = clock;
    p->sci = *sci;
    p->s5_type = s5_type;
    p->power_off = power_off;
    p->ctx = ctx;
    timer_init(&p->timer, clock, acpi_pm_event, p, lock);
    acpi_pm_reset(p);
}

void acpi_pm_fini(struct acpi_pm *p)
{
    timer_fini(&p->timer);
}
