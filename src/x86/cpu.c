/* cpu.c - wiring a processor, deriving its mode from the architectural state, raising exceptions */
#include <string.h>

#include "x86/cpu.h"
#include "x86/cpuid.h"
#include "x86/mmu.h"

void x86_cpu_init(struct x86_cpu *cpu, const struct x86_ops *ops, void *world,
                  const struct x86_cpuid_model *cpuid)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->ops = ops;
    cpu->world = world;
    cpu->cpuid = cpuid;
    memcpy(cpu->features, cpuid->features, sizeof(cpu->features));
    cpu->phys_mask = BIT64(cpuid->phys_bits) - 1;
    cpu->intel = cpuid->intel;
    x86_state_reset(&cpu->s, false);
    cpu->s.gpr[X86_RDX] = cpuid->family_model_stepping; /* SDM vol. 3 10.1.2 */
    x86_tlb_init(cpu);
    x86_update_mode(cpu);
}

void x86_cpu_fini(struct x86_cpu *cpu)
{
    x86_tlb_fini(cpu);
}

void x86_cpu_set_state(struct x86_cpu *cpu, const struct x86_state *s)
{
    cpu->s = *s;
    cpu->s.zero = 0;
    cpu->irq_masked = false;
    x86_attn_set(cpu, X86_ATTN_IRQ | X86_ATTN_NMI);
    x86_update_mode(cpu);
    x86_tlb_flush(cpu, true);
}

static u8 paging_mode(const struct x86_state *s)
{
    if (!(s->cr0 & CR0_PG))
        return X86_PAGING_NONE;
    if (!(s->cr4 & CR4_PAE))
        return X86_PAGING_32;
    return s->efer & EFER_LMA ? X86_PAGING_4LEVEL : X86_PAGING_PAE;
}

/* A segment needs no per-access check when every offset is inside and both reads and writes are
 * allowed. */
static bool seg_is_flat(const struct x86_seg *g)
{
    return (g->attr & (SEG_P | SEG_S | SEG_CODE | SEG_DOWN | SEG_WRITE)) ==
               (SEG_P | SEG_S | SEG_WRITE) &&
           g->limit == 0xffffffff;
}

static void update_segments(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->s;

    if (cpu->code_bits == 64) {
        memset(cpu->seg_base, 0, sizeof(cpu->seg_base));
        cpu->seg_base[X86_FS] = s->seg[X86_FS].base;
        cpu->seg_base[X86_GS] = s->seg[X86_GS].base;
        cpu->seg_fast = 0x3f;
        cpu->lin_mask = ~0ull;
        return;
    }
    cpu->seg_fast = 0;
    for (unsigned i = 0; i < X86_SREGS; i++) {
        cpu->seg_base[i] = s->seg[i].base;
        cpu->seg_fast |= seg_is_flat(&s->seg[i]) << i;
    }
    cpu->lin_mask = 0xffffffff;
}

void x86_update_attention(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->s;
    u32 want = 0, now = x86_attn(cpu);

    if (s->shadow & (X86_SHADOW_STI | X86_SHADOW_MOVSS))
        want |= X86_ATTN_SHADOW;
    /* DR7 bits 0-7 enable the four breakpoints; any of them may be on code. */
    if (s->rflags & (RFLAGS_TF | RFLAGS_RF) || s->dr6_pending || s->exc_pending || s->dr7 & 0xff)
        want |= X86_ATTN_STEP;
    if (s->activity != X86_ACTIVE)
        want |= X86_ATTN_HALT;
    u32 changed = (now ^ want) & (X86_ATTN_SHADOW | X86_ATTN_STEP | X86_ATTN_HALT);
    if (s->rflags & RFLAGS_IF && cpu->irq_masked) {
        cpu->irq_masked = false;
        want |= X86_ATTN_IRQ;
        changed |= X86_ATTN_IRQ;
    }
    if (changed & ~want)
        x86_attn_clear(cpu, changed & ~want);
    if (changed & want)
        x86_attn_set(cpu, changed & want);
}

void x86_update_level(struct x86_cpu *cpu)
{
    x86_update_sets(cpu);
    x86_update_attention(cpu);
}

void x86_update_mode(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->s;

    cpu->vm86 = s->rflags & RFLAGS_VM;
    cpu->prot = s->cr0 & CR0_PE && !cpu->vm86;
    cpu->lma = s->efer & EFER_LMA;
    cpu->paging = paging_mode(s);
    u16 cs = s->seg[X86_CS].attr;
    if (cpu->lma && cs & SEG_L)
        cpu->code_bits = 64;
    else
        cpu->code_bits = cs & SEG_DB ? 32 : 16;
    if (cpu->code_bits == 64)
        cpu->stack_bytes = 8;
    else
        cpu->stack_bytes = s->seg[X86_SS].attr & SEG_DB ? 4 : 2;
    update_segments(cpu);
    x86_update_level(cpu);
}

static int raise_exc(struct x86_cpu *cpu, struct x86_exc exc)
{
    cpu->exc = exc;
    return X86_FAULT;
}

int x86_raise(struct x86_cpu *cpu, u8 vector)
{
    return raise_exc(cpu, (struct x86_exc){.vector = vector});
}

int x86_raise_error(struct x86_cpu *cpu, u8 vector, u32 error)
{
    return raise_exc(cpu, (struct x86_exc){.vector = vector, .has_error = true, .error = error});
}

int x86_raise_pf(struct x86_cpu *cpu, u64 lin, u32 error)
{
    return raise_exc(
        cpu, (struct x86_exc){.vector = X86_PF, .has_error = true, .error = error, .cr2 = lin});
}

int x86_raise_db(struct x86_cpu *cpu, u64 dr6_bits)
{
    return raise_exc(cpu, (struct x86_exc){.vector = X86_DB, .dr6 = dr6_bits});
}
