/* probe.h - whether this host's KVM is fit for guests */
#pragma once

#include "base/err.h"

/* engine.probe */
int kvm_probe(struct err *e);
