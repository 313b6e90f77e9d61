/* msix_irqfd.c - MSI-X messages by eventfd: to signal one takes no lock, and costs no exit
 *
 * A message has a route while it may be sent: MSI-X is on, the message not masked, and the host's
 * irqfds serve. Then the eventfd sends what the table said as the route was made. A signal that
 * comes as the route is being taken away stays in the eventfd, until there is a route again. */
#include <string.h>

#include "dev/pci/msix.h"
#include "host/event.h"

static bool wanted(const struct pci_dev *d, unsigned n)
{
    return d->bus->irqfds && msix_on(d) && !msix_masked(d, n);
}

static void unroute(struct pci_dev *d, unsigned n)
{
    struct msix *m = &d->msix;

    if (!m->routed[n])
        return;
    __atomic_store_n(&m->routed[n], false, __ATOMIC_SEQ_CST);
    d->bus->host.irqfd(d->bus->host.ctx, m->fd[n], 0, 0, false);
    if (event_take(m->fd[n]) && msix_on(d))
        msix_fire(d, n);
}

static void route(struct pci_dev *d, unsigned n)
{
    struct msix *m = &d->msix;
    u64 addr;
    u32 data;

    msix_message(d, n, &addr, &data);
    if (m->routed[n] && addr == m->route[n].addr && data == m->route[n].data)
        return;
    if (m->fd[n] < 0)
        m->fd[n] = event_open();
    if (m->fd[n] < 0)
        return;
    if (!d->bus->host.irqfd(d->bus->host.ctx, m->fd[n], addr, data, true)) {
        unroute(d, n);
        return;
    }
    m->route[n].addr = addr;
    m->route[n].data = data;
    __atomic_store_n(&m->routed[n], true, __ATOMIC_SEQ_CST);
}

void msix_route(struct pci_dev *d, unsigned n)
{
    ASSERT(lock_held(&d->bus->lock));
    if (wanted(d, n))
        route(d, n);
    else
        unroute(d, n);
}

void msix_route_all(struct pci_dev *d)
{
    for (unsigned n = 0; n < d->msix.vectors; n++)
        msix_route(d, n);
}

void pci_bus_irqfds(struct pci_bus *b, bool on)
{
    lock_take(&b->lock);
    b->irqfds = on && b->host.irqfd;
    for (unsigned i = 0; i < PCI_SLOTS; i++)
        if (b->dev[i])
            msix_route_all(b->dev[i]);
    lock_drop(&b->lock);
}

void msix_close(struct pci_dev *d)
{
    for (unsigned n = 0; n < d->msix.vectors; n++)
        if (d->msix.fd[n] >= 0)
            event_close(d->msix.fd[n]);
}
