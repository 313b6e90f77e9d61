/* snapshot_priv.h - places in the header of a snapshot file, for its writer and its reader */
#pragma once

#define SNAPSHOT_MAGIC "RING3VM"

#define HEADER_VERSION           8
#define HEADER_BYTES             12
#define HEADER_RAM               16
#define HEADER_CPUS              24
#define HEADER_SERIALS           28
#define HEADER_DEBUG_EXIT        32
#define HEADER_FLAGS             36
#define HEADER_MODEL             40
#define HEADER_MODEL_BYTES       64
#define HEADER_FEATURES          104
#define HEADER_ARCH_CAPABILITIES 144
#define HEADER_CRC               252

#define FLAG_TESTDEV BIT(0)
