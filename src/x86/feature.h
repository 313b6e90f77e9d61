/* feature.h - CPUID feature bits by name */
#pragma once

enum x86_feature {
#define X86_FEATURE(name, leaf, subleaf, reg, bit) X86_FEATURE_##name,
#include "x86/features.def"
#undef X86_FEATURE
    X86_FEATURES
};

#define X86_FEATURE_WORDS ((X86_FEATURES + 63) / 64)

/* Its name, as in features.def. */
const char *x86_feature_name(enum x86_feature f);
