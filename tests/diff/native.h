/* native.h - the context page that the entry stub and the signal handler share */
#pragma once

#include "base/types.h"
#include "layout.h"

struct native_ctx {
    u64 saved_rsp, saved_fs, saved_gs;
    u64 tail, in_rip;
    u32 far_off;
    u16 far_sel, pad0;
    u32 has_fsgsbase, has_xsave, has_avx, mxcsr;
    u64 in_fs, in_gs;
    u16 in_sel[8], out_sel[8];
    u64 out_fs, out_gs;
    u64 in_gpr[16];
    u64 in_flags, out_flags;
    u64 out_gpr[16];
    u32 load_segs, load_fsgs;
    /* written by the signal handler */
    u32 active, trapped;
    int trap;
    u64 error, cr2, rip, rflags;
    u16 cs;
    u32 hang, ticks;
    u8 pad1[0x3c0 - 0x1e0];
    _Alignas(64) u32 out_env[7]; /* FNSTENV, 32-bit protected form */
    _Alignas(64) u8 in_fp[0xc00];
    _Alignas(64) u8 out_fp[0x3000];
};

#define CTX ((struct native_ctx *)(uintptr_t)CTX_ADDR)

_Static_assert(offsetof(struct native_ctx, far_off) == C_FARPTR, "layout");
_Static_assert(offsetof(struct native_ctx, has_fsgsbase) == C_FSGSBASE, "layout");
_Static_assert(offsetof(struct native_ctx, mxcsr) == C_MXCSR, "layout");
_Static_assert(offsetof(struct native_ctx, in_sel) == C_IN_SEL, "layout");
_Static_assert(offsetof(struct native_ctx, out_fs) == C_OUT_FS, "layout");
_Static_assert(offsetof(struct native_ctx, in_gpr) == C_IN_GPR, "layout");
_Static_assert(offsetof(struct native_ctx, in_flags) == C_IN_FLAGS, "layout");
_Static_assert(offsetof(struct native_ctx, out_gpr) == C_OUT_GPR, "layout");
_Static_assert(offsetof(struct native_ctx, load_segs) == C_LOAD_SEGS, "layout");
_Static_assert(offsetof(struct native_ctx, out_env) == C_OUT_ENV, "layout");
_Static_assert(offsetof(struct native_ctx, in_fp) == C_IN_FP, "layout");
_Static_assert(offsetof(struct native_ctx, out_fp) == C_OUT_FP, "layout");
