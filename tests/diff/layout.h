/* layout.h - addresses shared by the native executor, its assembly and the guest; also read by
 * assembly */
#pragma once

/* The first two at places that random values hardly ever name.
 * Linear addresses below 2 GiB: reachable by 32-bit code and by absolute 32-bit displacements. */
#define CTX_ADDR   0x5a3c4000 /* struct native_ctx; the host's alone */
#define CTX_BYTES  0x4000
#define STUB_ADDR  0x5a3d4000 /* entry and exit code; the host's alone */
#define STUB_BYTES 0x1000
#define CODE_ADDR  0x10000000 /* instructions under test: read and execute */
#define CODE_BYTES 0x10000
#define DATA_ADDR  0x20000000 /* their memory: read and write */
#define DATA_BYTES 0x2000
#define RO_ADDR    0x20002000 /* one page read-only behind it; nothing mapped beyond */
#define RO_BYTES   0x1000
#define LOW_ADDR   0x8000 /* the data once more, where 16-bit addresses reach */

/* Selectors that mean the same in the host's GDT for programs (Linux) and in the guest's. */
#define SEL_CODE32 0x23
#define SEL_DATA   0x2b
#define SEL_CODE64 0x33

/* Offsets in struct native_ctx. */
#define C_SAVED_RSP   0x000
#define C_SAVED_FS    0x008
#define C_SAVED_GS    0x010
#define C_TAIL        0x018
#define C_IN_RIP      0x020
#define C_FARPTR      0x028
#define C_FSGSBASE    0x030
#define C_XSAVE       0x034
#define C_AVX         0x038
#define C_MXCSR       0x03c
#define C_IN_FS       0x040
#define C_IN_GS       0x048
#define C_IN_SEL      0x050
#define C_OUT_SEL     0x060
#define C_OUT_FS      0x070
#define C_OUT_GS      0x078
#define C_IN_GPR      0x080
#define C_IN_FLAGS    0x100
#define C_OUT_FLAGS   0x108
#define C_OUT_GPR     0x110
#define C_LOAD_SEGS   0x190
#define C_LOAD_FSGS   0x194
#define C_SCRATCH_TOP 0x300
#define C_OUT_ENV     0x3c0
#define C_IN_FP       0x400
#define C_OUT_FP      0x1000
