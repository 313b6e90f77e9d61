/* debug.c - breakpoints and MOV to and from the debug registers (SDM vol. 3 chapter 17) */
#include "x86/debug.h"
#include "x86/exec.h"

/* --- what DR7 says of breakpoint i ------------------------------------------------------------ */

static bool bp_enabled(u64 dr7, unsigned i)
{
    return dr7 >> (2 * i) & 3;
}

static unsigned bp_kind(u64 dr7, unsigned i)
{
    return dr7 >> (16 + 4 * i) & 3;
}

static unsigned bp_bytes(u64 dr7, unsigned i)
{
    static const u8 bytes[4] = {1, 2, 8, 4};

    return bytes[dr7 >> (18 + 4 * i) & 3];
}

/* Breakpoint ranges are aligned to their length: low address bits are ignored. */
static bool bp_overlaps(const struct x86_cpu *cpu, unsigned i, u64 addr, u64 n)
{
    u64 len = bp_bytes(cpu->s.dr7, i);
    u64 first = cpu->s.dr[i] & ~(len - 1);

    return first - addr < n || addr - first < len;
}

static bool bp_is_data(u64 dr7, unsigned i)
{
    unsigned kind = bp_kind(dr7, i);

    return bp_enabled(dr7, i) && (kind == DR7_RW_WRITE || kind == DR7_RW_ACCESS);
}

/* --- matching --------------------------------------------------------------------------------- */

bool x86_code_breakpoint(const struct x86_cpu *cpu, u64 lin, u64 *dr6)
{
    u64 dr7 = cpu->s.dr7;

    *dr6 = 0;
    for (unsigned i = 0; i < 4; i++)
        if (bp_enabled(dr7, i) && bp_kind(dr7, i) == DR7_RW_EXEC && cpu->s.dr[i] == lin)
            *dr6 |= DR6_B(i);
    return *dr6 != 0;
}

u64 x86_data_breakpoint(const struct x86_cpu *cpu, u64 lin, unsigned n, bool write)
{
    u64 dr7 = cpu->s.dr7, hit = 0;

    for (unsigned i = 0; i < 4; i++)
        if (bp_is_data(dr7, i) && (write || bp_kind(dr7, i) == DR7_RW_ACCESS) &&
            bp_overlaps(cpu, i, lin, n))
            hit |= DR6_B(i);
    return hit;
}

static void record(struct x86_cpu *cpu, u64 hit)
{
    if (!hit)
        return;
    cpu->s.dr6_pending |= hit;
    x86_attn_set(cpu, X86_ATTN_STEP);
}

void x86_debug_data(struct x86_cpu *cpu, u64 lin, unsigned n, bool write)
{
    if (cpu->s.dr7 & DR7_ENABLES)
        record(cpu, x86_data_breakpoint(cpu, lin, n, write));
}

void x86_debug_io(struct x86_cpu *cpu, u16 port, unsigned size)
{
    u64 dr7 = cpu->s.dr7, hit = 0;

    if (likely(!(dr7 & DR7_ENABLES)) || !(cpu->s.cr4 & CR4_DE))
        return;
    for (unsigned i = 0; i < 4; i++)
        if (bp_enabled(dr7, i) && bp_kind(dr7, i) == DR7_RW_IO && bp_overlaps(cpu, i, port, size))
            hit |= DR6_B(i);
    record(cpu, hit);
}

bool x86_debug_watches_page(const struct x86_cpu *cpu, u64 lin)
{
    for (unsigned i = 0; i < 4; i++)
        if (bp_is_data(cpu->s.dr7, i) && bp_overlaps(cpu, i, lin & ~4095ull, 4096))
            return true;
    return false;
}

/* --- MOV DR ----------------------------------------------------------------------------------- */

/* Number of the register meant: DR4 and DR5 are DR6 and DR7, or #UD with CR4.DE. Then privilege,
 * then general detect. */
static int dr_check(struct x86_cpu *cpu, unsigned *dr)
{
    if (*dr > 7 || ((*dr == 4 || *dr == 5) && cpu->s.cr4 & CR4_DE))
        return x86_ud(cpu);
    TRY(need_cpl0(cpu));
    if (cpu->s.dr7 & DR7_GD)
        return x86_raise_db(cpu, DR6_BD);
    if (*dr == 4 || *dr == 5)
        *dr += 2;
    return X86_OK;
}

X86_HANDLER(mov_from_dr)
{
    unsigned dr = in->op[1].reg;

    TRY(dr_check(cpu, &dr));
    u64 val = dr == 6 ? cpu->s.dr6 : dr == 7 ? cpu->s.dr7 : cpu->s.dr[dr];
    gpr_set(cpu, in->op[0].reg, cpu->code_bits == 64 ? 8 : 4, val);
    return X86_OK;
}

X86_HANDLER(mov_to_dr)
{
    unsigned dr = in->op[0].reg;
    u64 val = cpu->s.gpr[in->op[1].reg];
    u64 watched = cpu->s.dr7 & DR7_ENABLES;

    TRY(dr_check(cpu, &dr));
    if (cpu->code_bits != 64)
        val = (u32)val;
    if (dr >= 6 && val >> 32)
        return x86_gp(cpu, 0);
    if (dr == 6)
        cpu->s.dr6 = (val & DR6_WRITABLE) | DR6_ONES;
    else if (dr == 7)
        cpu->s.dr7 = (val & DR7_WRITABLE) | DR7_ONES;
    else
        cpu->s.dr[dr] = val;
    if (dr != 6 && (watched || cpu->s.dr7 & DR7_ENABLES))
        x86_tlb_flush(cpu, true);
    x86_update_attention(cpu);
    return X86_YIELD;
}
