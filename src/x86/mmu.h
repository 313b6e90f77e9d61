/* mmu.h - linear and segmented memory access of a processor */
#pragma once

#include "x86/cpu.h"

/* Kinds of access; combine one of R, W, X with SYS. W alone also stands for read-modify-write. */
#define X86_R   0u
#define X86_W   BIT(0)
#define X86_X   BIT(1)
#define X86_SYS BIT(2) /* implicit supervisor access: descriptor tables, TSS, IDT, inner stacks */

/* Page walk (SDM vol. 3 chapter 4): checks rights, reserved bits, sets A and D. On X86_OK *gpa is
 * the physical address of lin. X86_FAULT: #PF raised (error code complete). Does not touch the
 * TLB. */
struct x86_walk {
    u64 gpa;
    u64 page_size; /* 4K, 2M, 4M, 1G */
    bool readable; /* a data read would be allowed too: false only for fetches under SMAP */
    bool writable; /* a write would be allowed too, and D is set */
    bool exec;     /* a fetch would be allowed too */
    bool global;
};
must_check int x86_walk(struct x86_cpu *cpu, u64 lin, unsigned access, bool user,
                        struct x86_walk *out);
/* As x86_walk, for debuggers and tests: changes nothing, raises nothing. False: not mapped. */
bool x86_translate(struct x86_cpu *cpu, u64 lin, u64 *gpa);
/* Reads the four PAE page-directory-pointer entries at cr3 (SDM vol. 3 4.4.1). False: a present one
 * has reserved bits set, and the caller raises #GP(0). */
must_check bool x86_load_pdptes(struct x86_cpu *cpu, u64 cr3, u64 pdpte[4]);

/* Slow paths behind the inline functions below. Any size up to 4096, page crossing, MMIO, ROM,
 * breakpoints, #AC when `access` is not SYS. All pages are checked before the first byte moves. */
must_check int x86_lin_read(struct x86_cpu *cpu, u64 lin, void *buf, unsigned n, unsigned access);
must_check int x86_lin_write(struct x86_cpu *cpu, u64 lin, const void *buf, unsigned n,
                             unsigned access);
/* Checks that n bytes could be accessed. */
must_check int x86_lin_probe(struct x86_cpu *cpu, u64 lin, unsigned n, unsigned access);
/* Instruction bytes: *gpa of lin, and *hva of lin or NULL (MMIO). Valid to the end of the page.
 * Faults as a fetch; #GP(0) when lin is not canonical. */
must_check int x86_lin_fetch(struct x86_cpu *cpu, u64 lin, u64 *gpa, const u8 **hva);

/* Segment checks when seg_fast says they are needed (SDM vol. 3 5.3-5.5): limit, expand-down, type,
 * null; in 64-bit mode canonicality is left to the linear access. #GP(0) or #SS(0). */
must_check int x86_seg_linear(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned n,
                              unsigned access, u64 *lin);

static inline must_check int x86_linear(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned n,
                                        unsigned access, u64 *lin)
{
    if (unlikely(!(cpu->seg_fast >> seg & 1)))
        return x86_seg_linear(cpu, seg, ea, n, access, lin);
    *lin = (cpu->seg_base[seg] + ea) & cpu->lin_mask;
    return X86_OK;
}

/* The slow path of x86_read/x86_write: `lin` fully checked for segmentation; `seg` decides #SS or
 * #GP for a non-canonical address. Any n up to 4096. */
must_check int x86_mem_read(struct x86_cpu *cpu, unsigned seg, u64 lin, void *buf, unsigned n);
must_check int x86_mem_write(struct x86_cpu *cpu, unsigned seg, u64 lin, const void *buf,
                             unsigned n);

/* Guest memory as the host accesses it: 2, 4 and 8 bytes are single accesses, atomic when aligned
 * (SDM vol. 3 8.1.1), and need not be aligned. */
typedef volatile u16 __attribute__((aligned(1), may_alias)) mem_u16;
typedef volatile u32 __attribute__((aligned(1), may_alias)) mem_u32;
typedef volatile u64 __attribute__((aligned(1), may_alias)) mem_u64;

/* Data read of n = 1, 2, 4 or 8 bytes at seg:ea (ea already masked to the address size),
 * zero-extended. */
static inline must_check int x86_read(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned n,
                                      u64 *val)
{
    u64 lin;
    TRY(x86_linear(cpu, seg, ea, n, X86_R, &lin));
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);
    if (likely(e->tag_read == ((lin + n - 1) & ~4095ull))) {
        const void *p = (const void *)(uintptr_t)(lin + e->addend);
        switch (n) {
        case 1: *val = *(const volatile u8 *)p; return X86_OK;
        case 2: *val = *(const mem_u16 *)p; return X86_OK;
        case 4: *val = *(const mem_u32 *)p; return X86_OK;
        default: *val = *(const mem_u64 *)p; return X86_OK;
        }
    }
    *val = 0;
    return x86_mem_read(cpu, seg, lin, val, n);
}

static inline must_check int x86_write(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned n,
                                       u64 val)
{
    u64 lin;
    TRY(x86_linear(cpu, seg, ea, n, X86_W, &lin));
    const struct x86_tlb_entry *e = x86_tlb_at(cpu, lin);
    if (likely(e->tag_write == ((lin + n - 1) & ~4095ull))) {
        void *p = (void *)(uintptr_t)(lin + e->addend);
        switch (n) {
        case 1: *(volatile u8 *)p = val; return X86_OK;
        case 2: *(mem_u16 *)p = val; return X86_OK;
        case 4: *(mem_u32 *)p = val; return X86_OK;
        default: *(mem_u64 *)p = val; return X86_OK;
        }
    }
    return x86_mem_write(cpu, seg, lin, &val, n);
}

/* Any number of bytes up to 4096 (vector, x87, FXSAVE, XSAVE operands). Writes are all or
 * nothing. */
static inline must_check int x86_read_bytes(struct x86_cpu *cpu, unsigned seg, u64 ea, void *buf,
                                            unsigned n)
{
    u64 lin;
    TRY(x86_linear(cpu, seg, ea, n, X86_R, &lin));
    return x86_mem_read(cpu, seg, lin, buf, n);
}

static inline must_check int x86_write_bytes(struct x86_cpu *cpu, unsigned seg, u64 ea,
                                             const void *buf, unsigned n)
{
    u64 lin;
    TRY(x86_linear(cpu, seg, ea, n, X86_W, &lin));
    return x86_mem_write(cpu, seg, lin, buf, n);
}

/* #AC(0) when alignment checks are on (CPL 3, CR0.AM, RFLAGS.AC) and lin is no multiple of `align`,
 * a power of two. Operands of 2, 4 and 8 bytes are checked by the accesses themselves; this is for
 * the others (SDM vol. 3 table 6-7). */
must_check int x86_align_check(struct x86_cpu *cpu, u64 lin, unsigned align);

/* True when bits 63:47 of lin are equal. */
static inline bool x86_canonical(u64 lin)
{
    return (u64)((s64)(lin << 16) >> 16) == lin;
}

/* Read-modify-write. After open, m->p points at the operand: the guest's memory itself (so that a
 * host `lock` instruction on it is atomic towards other vCPUs), or m->bounce holding a copy (MMIO,
 * page crossing, ROM). close stores the bounce back or reports a write to a code page, and cannot
 * fault: always call it when the operation went through. n is 1, 2, 4, 8 or 16. */
struct x86_span { /* the part of an operand that lies in one page */
    u8 *hva;      /* NULL: MMIO or hole */
    u64 gpa;
    unsigned n;
    bool writable, code; /* as in struct x86_page */
};
struct x86_rmw {
    void *p;
    u64 lin;
    unsigned n;
    bool bounced;
    bool code; /* p lies in a page with decoded code: close reports the write */
    u8 spans;
    struct x86_span span[2];
    _Alignas(16) u8 bounce[16];
};
must_check int x86_rmw_open(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned n,
                            struct x86_rmw *m);
void x86_rmw_close(struct x86_cpu *cpu, struct x86_rmw *m);
