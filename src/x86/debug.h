/* debug.h - the debug registers: which accesses and addresses they watch (SDM vol. 3 chapter 17) */
#pragma once

#include "x86/cpu.h"

/* DR6. Bits 4-11 and 16-31 read as ones, 12 and 32-63 as zeros. */
#define DR6_B(i)     (1ull << (i))
#define DR6_BD       BIT(13) /* access to a debug register while DR7.GD */
#define DR6_BS       BIT(14) /* single step */
#define DR6_BT       BIT(15) /* task switch with T set */
#define DR6_ONES     0xffff0ff0ull
#define DR6_WRITABLE 0xe00full

/* DR7. Per breakpoint i: L and G at 2i and 2i+1, R/W at 16+4i, LEN at 18+4i. */
#define DR7_ENABLES  0xffull
#define DR7_GD       BIT(13)
#define DR7_ONES     0x400ull
#define DR7_WRITABLE 0xffff23ffull

/* IA32_DEBUGCTL. */
#define DEBUGCTL_LBR BIT(0)
#define DEBUGCTL_BTF BIT(1) /* TF steps from branch to branch; cleared by every #DB */

enum { DR7_RW_EXEC, DR7_RW_WRITE, DR7_RW_IO, DR7_RW_ACCESS };

/* True when an enabled instruction breakpoint is at lin, the linear address of an instruction;
 * *dr6 gets its B bits. RFLAGS.RF and shadows are the caller's to look at. */
bool x86_code_breakpoint(const struct x86_cpu *cpu, u64 lin, u64 *dr6);

/* B bits of the enabled data breakpoints that an access of n bytes at lin touches. */
u64 x86_data_breakpoint(const struct x86_cpu *cpu, u64 lin, unsigned n, bool write);

/* Data access done: records a trap (dr6_pending) when a breakpoint watches it. Cheap with DR7
 * clear. */
void x86_debug_data(struct x86_cpu *cpu, u64 lin, unsigned n, bool write);

/* Port access done: the same for I/O breakpoints, which exist with CR4.DE. */
void x86_debug_io(struct x86_cpu *cpu, u16 port, unsigned size);

/* True when an enabled data breakpoint overlaps the 4 KiB page at lin: it must not be in the
 * TLB. */
bool x86_debug_watches_page(const struct x86_cpu *cpu, u64 lin);
