/* x86_input.h - a processor's state and tables from the first bytes of a fuzzer's input
 *
 * Input: u8 mode; u8 flags; u16 cr0/cr4 choices; 24 bytes of register seeds; the rest is code, at
 * CODE. */
#pragma once

#include <string.h>

#include "x86/cpu.h"

#define RAM_BYTES  0x100000u /* with an inaccessible page on either side */
#define HEAD_BYTES 28
#define CODE       0x8000u
#define GDT        0x1000u
#define IDT        0x2000u
#define TSS        0x3000u
#define TABLES     0x4000u /* PML4, PDPT, PD; the first 2 MiB one to one */

static inline void put64(u8 *ram, u32 at, u64 val)
{
    memcpy(ram + at, &val, 8);
}

static inline u64 descriptor(u64 base, u64 limit, u64 attr)
{
    return (limit & 0xffff) | (base & 0xffffff) << 16 | attr << 40 | (limit >> 16 & 0xf) << 48 |
           (base >> 24 & 0xff) << 56;
}

/* Code and data of both levels in all sizes, a TSS, an LDT, a call gate; everything else is
 * zero. */
static inline void fill_tables(u8 *ram, bool lma)
{
    static const u16 attrs[] = {0,      0xc09b, 0xc093, 0xc0fb, 0xc0f3, 0xa0fb,
                                0xa09b, 0x009b, 0x0093, 0x00fb, 0x00f3};

    for (unsigned i = 0; i < ARRAY_SIZE(attrs); i++)
        put64(ram, GDT + 8 * i, attrs[i] ? descriptor(0, 0xfffff, attrs[i]) : 0);
    put64(ram, GDT + 0x58, descriptor(TSS, 0x67, 0x008b));
    put64(ram, GDT + 0x68, descriptor(GDT, 0xff, 0x0082));
    put64(ram, GDT + 0x78, CODE | (lma ? 0x30ull : 8ull) << 16 | 0xec01ull << 32);
    put64(ram, GDT + 0x88, descriptor(TSS + 0x400, 0x67, 0x0089));
    for (u64 v = 0; v < 256; v++) {
        u64 sel = lma ? 0x30 : 8, kind = v & 1 ? 0x8e : 0xef;
        u64 gate = (CODE + v) | sel << 16 | kind << 40;
        if (lma) {
            put64(ram, IDT + 16 * v, gate);
            put64(ram, IDT + 16 * v + 8, 0);
        } else {
            put64(ram, IDT + 8 * v, gate);
        }
    }
    put64(ram, TSS + 4, lma ? 0x70000 : 0x70000 | 0x10ull << 32);
    put64(ram, TABLES, (TABLES + 0x1000) | 7);
    put64(ram, TABLES + 0x1000, (TABLES + 0x2000) | 7);
    put64(ram, TABLES + 0x2000, 0x87);
}

static inline struct x86_seg segment(u16 sel, u16 attr)
{
    return (struct x86_seg){.sel = sel, .attr = attr, .limit = attr & SEG_G ? 0xffffffff : 0xffff};
}

enum { REAL, VM86, PROT16, PROT32, LONG64, COMPAT32, MODES };

static inline void fill_segments(struct x86_state *s, unsigned mode, bool user)
{
    static const u16 code[MODES] = {0x9b, 0xfb, 0x9b, 0xc09b, 0xa09b, 0xc09b};
    static const u16 code_sel[MODES] = {0, 0, 0x38, 8, 0x30, 8};
    static const u16 user_sel[MODES] = {0, 0, 0x48, 0x18, 0x28, 0x18};
    bool real = mode == REAL || mode == VM86;
    u16 dpl = user && !real ? SEG_DPL : 0, data = 0x93;

    if (mode >= PROT32)
        data |= SEG_G | SEG_DB;
    for (unsigned i = 0; i < X86_SREGS; i++)
        s->seg[i] = real ? segment(0, mode == VM86 ? 0xf3 : 0x93)
                         : segment((user ? 0x20 : 0x10) | (user ? 3 : 0), data | dpl);
    s->seg[X86_CS] =
        segment((user ? user_sel : code_sel)[mode] | (user && !real ? 3 : 0), code[mode] | dpl);
}

static inline void fill_state(struct x86_state *s, const struct x86_cpu *cpu, u8 *ram,
                              const u8 *head)
{
    unsigned mode = head[0] % MODES;
    bool lma = mode == LONG64 || mode == COMPAT32,
         user = mode == VM86 || (mode >= PROT16 && head[1] & 1);

    x86_state_reset(s, false);
    s->cr0 = CR0_ET | CR0_NE | (mode == REAL ? 0 : CR0_PE) | (head[2] & 1 ? CR0_WP : 0) |
             (head[2] & 2 ? CR0_TS : 0) | (head[2] & 4 ? CR0_AM : 0) | CR0_MP;
    s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | (head[2] & 8 ? CR4_VME | CR4_PVI : 0) |
             (head[2] & 16 ? CR4_DE : 0);
    if (head[2] & 32 && x86_has(cpu, X86_FEATURE_XSAVE)) {
        s->cr4 |= CR4_OSXSAVE;
        s->xcr0 = 3 | (x86_has(cpu, X86_FEATURE_AVX) ? XCR0_AVX : 0);
    }
    if (lma) {
        s->cr0 |= CR0_PG;
        s->cr4 |= CR4_PAE;
        s->cr3 = TABLES;
        s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    }
    fill_tables(ram, lma);
    fill_segments(s, mode, user);
    s->cpl = user ? 3 : 0;
    s->rflags = RFLAGS_ONE | (mode == VM86 ? RFLAGS_VM : 0) | (head[3] & 1 ? RFLAGS_TF : 0) |
                (head[3] & 2 ? RFLAGS_IF : 0) | (head[3] & 4 ? RFLAGS_IOPL : 0) |
                (head[3] & 8 ? RFLAGS_DF : 0) | (head[3] & 16 ? RFLAGS_AC : 0) |
                (head[3] & 32 ? RFLAGS_NT : 0);
    s->gdtr = (struct x86_dtable){GDT, 0xff};
    s->idtr = (struct x86_dtable){mode == REAL ? 0 : IDT, mode == REAL ? 0x3ff : 0xfff};
    s->tr = (struct x86_seg){.sel = 0x58, .base = TSS, .limit = 0x67, .attr = 0x8b};
    s->rip = CODE;
    for (unsigned i = 0; i < 16; i++) {
        u64 seed = head[4 + i % 24] | (u64)head[4 + (i + 7) % 24] << 8;
        s->gpr[i] = i & 1 ? seed * 0x0101010101010101ull : seed;
    }
    s->gpr[X86_RSP] = 0x7000;
    if (!lma)
        for (unsigned i = 0; i < 16; i++)
            s->gpr[i] = (u32)s->gpr[i];
    for (unsigned i = 0; i < sizeof(s->fpu.vec); i++)
        s->fpu.vec[i / 32][i % 32] = head[4 + i % 24];
    s->fpu.mxcsr = head[1] & 2 ? 0x1f80 : 0x1f80 & ~(head[1] * 32u);
    s->fpu.fcw = head[1] & 4 ? 0x37f : 0x340;
}
