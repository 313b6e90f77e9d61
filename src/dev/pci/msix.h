/* msix.h - what pci.c, msi.c and msix.c share (private to dev/pci/) */
#pragma once

#include "dev/pci/pci.h"

/* All with the bus's lock held. */
bool msi_on(const struct pci_dev *d);
bool msix_on(const struct pci_dev *d);
/* Bytes of configuration space were written. */
void msi_cfg_written(struct pci_dev *d, unsigned off, unsigned size);
void msix_cfg_written(struct pci_dev *d, unsigned off, unsigned size);
/* Power-on state: off, every entry masked. */
void msi_reset(struct pci_dev *d);
void msix_reset(struct pci_dev *d);
