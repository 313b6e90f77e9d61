/* probe.h - whether this host's KVM is fit for guests */
#pragma once

#include "engine/engine.h"

/* engine.probe: a small guest does in ring 0 what kernels do, and is timed. A few ms; at most half
 * a second. Any thread that runs no vCPU. */
enum engine_verdict kvm_probe(struct err *e);
