/* sysctl.c - port 92h, reset control CF9h (Intel PIIX4, ICH) and PCI configuration mechanism 1 */
#include "dev/sysctl.h"

#include <errno.h>
#include <string.h>

/* Port 92h: 1 A20 | 0 fast reset: 0 -> 1 pulses the processors' reset line */
#define P92_RESET 0x01
#define P92_A20   0x02
#define P92_KEPT  0xcb

/* CF9h: 3 full reset (power cycles) | 2 RST_CPU: 0 -> 1 resets | 1 hard instead of soft */
#define CF9_HARD    0x02
#define CF9_TRIGGER 0x04
#define CF9_FULL    0x08
#define CF9_KEPT    (CF9_HARD | CF9_FULL)

#define OFF_RESET        1 /* CF9h within CF8h.. */
#define OFF_DATA         4
#define ADDRESS_ENABLE   BIT(31)
#define ADDRESS_WRITABLE 0x80fffffcu

/* ---- port 92h ---- */

static u64 port92_read(void *dev, u64 off, unsigned size)
{
    const struct port92 *p = dev;
    return p->val;
}

static void port92_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct port92 *p = dev;
    bool pulse = (val & P92_RESET) && !(p->val & P92_RESET);
    p->val = val & P92_KEPT;
    if (p->host.a20)
        p->host.a20(p->host.ctx, val & P92_A20);
    if (pulse && p->host.reset)
        p->host.reset(p->host.ctx, false);
}

const struct region_ops port92_ops = {port92_read, port92_write, 1, 1, 1, 1, true};

void port92_reset(struct port92 *p)
{
    p->val = P92_A20;
}

void port92_init(struct port92 *p, const struct sysctl_host *host)
{
    p->host = *host;
    port92_reset(p);
}

static const struct snap_field port92_fields[] = {SNAP_U8(struct port92, val), SNAP_END};

static int port92_check(const void *scratch, struct err *e)
{
    const struct port92 *p = scratch;
    return p->val & ~P92_KEPT ? err_set(e, EINVAL, "port92: reserved bits %#x", p->val) : 0;
}

static void port92_loaded(void *obj)
{
    struct port92 *p = obj;
    if (p->host.a20)
        p->host.a20(p->host.ctx, p->val & P92_A20);
}

const struct snap_desc port92_snap = {
    "port92", 1, sizeof(struct port92), port92_fields, port92_check, port92_loaded, NULL};

/* ---- CF8h-CFFh ---- */

static void write_reset(struct pciport *p, u8 val)
{
    bool trigger = (val & CF9_TRIGGER) && !(p->reset & CF9_TRIGGER);
    p->reset = val & (CF9_KEPT | CF9_TRIGGER);
    if (trigger && p->host.reset)
        p->host.reset(p->host.ctx, val & (CF9_HARD | CF9_FULL));
}

/* CONFIG_ADDRESS takes whole dwords only; a byte at CF9h is the reset register, other partial
 * accesses are none of ours (PCI 2.1, 3.7.4.1). */
static u64 pciport_read(void *dev, u64 off, unsigned size)
{
    struct pciport *p = dev;
    u64 none = size == 4 ? 0xffffffff : (1ull << 8 * size) - 1;
    if (off == 0 && size == 4)
        return p->address;
    if (off == OFF_RESET && size == 1)
        return p->reset;
    if (off < OFF_DATA || !(p->address & ADDRESS_ENABLE) || !p->window.read)
        return none;
    return p->window.read(p->window.ctx, p->address & ~ADDRESS_ENABLE, (unsigned)off & 3, size);
}

static void pciport_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct pciport *p = dev;
    if (off == 0 && size == 4)
        p->address = (u32)val & ADDRESS_WRITABLE;
    else if (off == OFF_RESET && size == 1)
        write_reset(p, (u8)val);
    else if (off >= OFF_DATA && (p->address & ADDRESS_ENABLE) && p->window.write)
        p->window.write(p->window.ctx, p->address & ~ADDRESS_ENABLE, (unsigned)off & 3, size,
                        (u32)val);
}

const struct region_ops pciport_ops = {pciport_read, pciport_write, 1, 4, 1, 4, false};

void pciport_reset(struct pciport *p)
{
    p->address = 0;
    p->reset = 0;
}

void pciport_init(struct pciport *p, const struct sysctl_host *host)
{
    memset(p, 0, sizeof(*p));
    p->host = *host;
}

static const struct snap_field pciport_fields[] = {SNAP_U32(struct pciport, address),
                                                   SNAP_U8(struct pciport, reset), SNAP_END};

static int pciport_check(const void *scratch, struct err *e)
{
    const struct pciport *p = scratch;
    if ((p->address & ~ADDRESS_WRITABLE) || (p->reset & ~(CF9_KEPT | CF9_TRIGGER)))
        return err_set(e, EINVAL, "pciport: reserved bits in %#x or %#x", p->address, p->reset);
    return 0;
}

const struct snap_desc pciport_snap = {
    "pciport", 1, sizeof(struct pciport), pciport_fields, pciport_check, NULL, NULL};
