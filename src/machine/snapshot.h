/* snapshot.h - a whole machine as a file: configuration, state records, memory
 *
 * The file: a header of SNAPSHOT_HEADER bytes, then one zstd frame with a checksum, then its end.
 * Numbers are little-endian.
 *
 *   header   0 "RING3VM\0" | 8 u32 version | 12 u32 header bytes | 16 u64 RAM bytes | 24 u32 cpus |
 *            28 u32 COM ports (bit n: COMn+1) | 32 u32 debug-exit port | 36 u32 flags |
 *            40 CPU model, 64 bytes | 104 u64 features[] | 144 u64 IA32_ARCH_CAPABILITIES |
 *            252 u32 CRC-32 of the 252 bytes before
 *   frame    u64 n, n bytes of state records (snap/snap.h), then runs of memory:
 *            u64 gpa, u64 n, n bytes; both are multiples of a page, and in order. A run of 0 bytes
 *            ends them. Memory of no run is zero.
 */
#pragma once

#include "machine/machine.h"
#include "x86/feature.h"

#define SNAPSHOT_VERSION 1
#define SNAPSHOT_HEADER  256

/* What a machine must be made like to load the file. */
struct snapshot_info {
    u64 ram_bytes;
    u32 cpus;
    u32 serials; /* bit n: COMn+1 */
    u32 debug_exit_port;
    bool testdev;
    char cpu_model[64];
    struct machine_cpuid cpuid;
};

/* Writes the file at once: readers see the old one or the whole new one. The machine is paused, and
 * not changed. 0 or -errno with *e naming the file. Loop thread. */
must_check int snapshot_save(struct machine *m, const char *path, struct err *e);

/* Reads and checks the header alone. */
must_check int snapshot_info(const char *path, struct snapshot_info *info, struct err *e);

/* Loads the file into a machine that was created from its snapshot_info and has not run: checks
 * frame, checksum and all records first. On failure the machine is good for nothing but
 * machine_destroy. */
must_check int snapshot_load(struct machine *m, const char *path, struct err *e);
