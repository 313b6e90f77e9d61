/* sys.c - system instructions: descriptor-table registers, invalidation, caches, HLT, hypercalls */
#include <errno.h>
#include <string.h>

#include "x86/cpuid.h"
#include "x86/exec.h"

/* --- descriptor-table registers --------------------------------------------------------------- */

static unsigned table_bytes(const struct x86_cpu *cpu)
{
    return cpu->code_bits == 64 ? 10 : 6;
}

/* The whole base is stored whatever the operand size (SDM vol. 2 SGDT). */
static int store_table(struct x86_cpu *cpu, const struct x86_insn *in, const struct x86_dtable *t)
{
    unsigned n = table_bytes(cpu);
    u64 ea = x86_ea(cpu, in), lin;
    u8 buf[10];

    if (cpu->s.cr4 & CR4_UMIP && cpu->s.cpl)
        return x86_gp(cpu, 0);
    memcpy(buf, &t->limit, 2);
    memcpy(buf + 2, &t->base, 8);
    TRY(x86_linear(cpu, in->seg, ea, n, X86_W, &lin));
    TRY(x86_align_check(cpu, lin, 4));
    return x86_mem_write(cpu, in->seg, lin, buf, n);
}

static int load_table(struct x86_cpu *cpu, const struct x86_insn *in, struct x86_dtable *t)
{
    unsigned n = table_bytes(cpu);
    u8 buf[10];
    u64 base = 0;
    u16 limit;

    TRY(need_cpl0(cpu));
    TRY(x86_read_bytes(cpu, in->seg, x86_ea(cpu, in), buf, n));
    memcpy(&limit, buf, 2);
    memcpy(&base, buf + 2, n - 2);
    if (n == 10 && !x86_canonical(base))
        return x86_gp(cpu, 0);
    if (n == 6 && in->opsize == 2)
        base &= 0xffffff;
    *t = (struct x86_dtable){.base = base, .limit = limit};
    return X86_OK;
}

X86_HANDLER(sgdt)
{
    return store_table(cpu, in, &cpu->s.gdtr);
}

X86_HANDLER(sidt)
{
    return store_table(cpu, in, &cpu->s.idtr);
}

X86_HANDLER(lgdt)
{
    return load_table(cpu, in, &cpu->s.gdtr);
}

X86_HANDLER(lidt)
{
    return load_table(cpu, in, &cpu->s.idtr);
}

/* --- TLB invalidation ------------------------------------------------------------------------- */

X86_HANDLER(invlpg)
{
    TRY(need_cpl0(cpu));
    u64 lin = (cpu->seg_base[in->seg] + x86_ea(cpu, in)) & cpu->lin_mask;
    if (x86_canonical(lin)) /* else a no-op */
        x86_tlb_flush_page(cpu, lin);
    return X86_YIELD;
}

enum invpcid_type { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL, INVPCID_ALL_BUT_GLOBAL };

X86_HANDLER(invpcid)
{
    unsigned reg_bytes = cpu->code_bits == 64 ? 8 : 4;
    u64 type = cpu->s.gpr[in->op[0].reg] & size_mask(reg_bytes);
    bool pcide = cpu->s.cr4 & CR4_PCIDE;
    u64 desc[2]; /* PCID in bits 11:0, 63:12 reserved; linear address */

    TRY(need_cpl0(cpu));
    if (type > INVPCID_ALL_BUT_GLOBAL)
        return x86_gp(cpu, 0);
    TRY(x86_read_bytes(cpu, in->seg, x86_ea(cpu, in), desc, sizeof(desc)));
    if (desc[0] >> 12 || (type <= INVPCID_CONTEXT && desc[0] && !pcide) ||
        (type == INVPCID_ADDRESS && !x86_canonical(desc[1])))
        return x86_gp(cpu, 0);
    switch ((enum invpcid_type)type) {
    case INVPCID_ADDRESS: x86_tlb_flush_pcid_page(cpu, (u16)desc[0], desc[1]); break;
    case INVPCID_CONTEXT: x86_tlb_flush_pcid(cpu, (u16)desc[0]); break;
    case INVPCID_ALL: x86_tlb_flush(cpu, true); break;
    case INVPCID_ALL_BUT_GLOBAL: x86_tlb_flush(cpu, false); break;
    }
    return X86_YIELD;
}

/* --- caches and order ------------------------------------------------------------------------- */

/* INVD, WBINVD, WBNOINVD: guest memory is always coherent. */
X86_HANDLER(cache_all)
{
    return need_cpl0(cpu);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: fault as a read of one byte. */
X86_HANDLER(cache_line)
{
    u64 lin, val;

    TRY(x86_linear(cpu, in->seg, x86_ea(cpu, in), 1, X86_R, &lin));
    if (!x86_canonical(lin) && cpu->code_bits == 64)
        return x86_mem_read(cpu, in->seg, lin, &val, 1); /* raises #SS(0) or #GP(0) */
    return x86_lin_probe(cpu, lin, 1, X86_R);
}

/* PREFETCHh, PREFETCHW, PAUSE, CLDEMOTE: hints, no faults. */
X86_HANDLER(hint)
{
    return X86_OK;
}

X86_HANDLER(fence)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return X86_OK;
}

/* --- the rest --------------------------------------------------------------------------------- */

X86_HANDLER(hlt)
{
    TRY(need_cpl0(cpu));
    cpu->s.activity = X86_HALTED;
    x86_update_attention(cpu);
    return X86_YIELD;
}

/* UD0, UD1, UD2, RSM outside SMM. */
X86_HANDLER(ud)
{
    return x86_ud(cpu);
}

#define KVM_HC_SEND_IPI 10

/* The KVM hypercall ABI: number in RAX, arguments in RBX, RCX, RDX, RSI, result in RAX. */
static s64 call_host(struct x86_cpu *cpu, unsigned bits)
{
    const u64 *gpr = cpu->s.gpr;
    u64 mask = bits == 64 ? UINT64_MAX : UINT32_MAX;

    if (cpu->s.cpl)
        return -EPERM;
    if ((gpr[X86_RAX] & mask) != KVM_HC_SEND_IPI || !cpu->ops->send_ipis)
        return -X86_KVM_ENOSYS;
    unsigned __int128 map = gpr[X86_RCX] & mask;
    map = map << bits | (gpr[X86_RBX] & mask);
    return cpu->ops->send_ipis(cpu->world, map, gpr[X86_RDX] & mask, gpr[X86_RSI] & mask);
}

/* VMCALL, VMMCALL: asking is allowed where the KVM interface is announced. */
X86_HANDLER(hypercall)
{
    unsigned bits = cpu->code_bits == 64 ? 64 : 32;

    if (!cpu->cpuid->kvm_leaves)
        return x86_ud(cpu);
    gpr_set(cpu, X86_RAX, bits / 8, (u64)call_host(cpu, bits));
    return X86_OK;
}
