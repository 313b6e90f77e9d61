/* msix.h - what pci.c, msi.c and msix.c share (private to dev/pci/) */
#pragma once

#include "dev/pci/pci.h"

/* All with the bus's lock held. */
bool msi_on(const struct pci_dev *d);
bool msix_on(const struct pci_dev *d);
/* Bytes of configuration space were written. */
void msi_cfg_written(struct pci_dev *d, unsigned off, unsigned size);
void msix_cfg_written(struct pci_dev *d, unsigned off, unsigned size);
/* Message n as the table has it; whether it is masked, by itself or with all; sends it, or
 * remembers it while masked. */
void msix_message(const struct pci_dev *d, unsigned n, u64 *addr, u32 *data);
bool msix_masked(const struct pci_dev *d, unsigned n);
void msix_fire(struct pci_dev *d, unsigned n);
/* Gives messages a route by eventfd, or takes it, as the registers say now. */
void msix_route(struct pci_dev *d, unsigned n);
void msix_route_all(struct pci_dev *d);
void msix_close(struct pci_dev *d); /* the eventfds; without the lock */
/* Power-on state: off, every entry masked. */
void msi_reset(struct pci_dev *d);
void msix_reset(struct pci_dev *d);
