/* fetch.c - instruction bytes at CS:RIP, across pages, decoded (SDM vol. 3 5.3, 4.6) */
#include <string.h>

#include "x86/exec.h"

/* Bytes that may be fetched from RIP on before the CS limit: #GP(0) when none. */
static int limit_left(struct x86_cpu *cpu, u64 *left)
{
    const struct x86_seg *cs = &cpu->s.seg[X86_CS];

    if (cpu->code_bits == 64) {
        *left = X86_INSN_MAX;
        return X86_OK;
    }
    u64 eip = cpu->s.rip;
    if (eip > cs->limit)
        return x86_gp(cpu, 0);
    *left = (u64)cs->limit - eip + 1;
    return X86_OK;
}

/* Copies up to `want` bytes at lin that lie in one page. */
static int fetch_page(struct x86_cpu *cpu, u64 lin, u8 *buf, unsigned want, unsigned *got, u64 *gpa)
{
    const u8 *hva;
    unsigned room = 4096 - (lin & 4095);

    TRY(x86_lin_fetch(cpu, lin, gpa, &hva));
    *got = MIN(want, room);
    if (hva) {
        memcpy(buf, hva, *got);
        return X86_OK;
    }
    for (unsigned i = 0; i < *got; i++)
        buf[i] = cpu->ops->mmio_read(cpu->world, *gpa + i, 1);
    return X86_OK;
}

int x86_fetch(struct x86_cpu *cpu, struct x86_insn *out, u64 *gpa, u64 *gpa2)
{
    u8 buf[X86_INSN_MAX];
    u64 left = 0;
    unsigned got, more;

    *gpa2 = ~0ull;
    TRY(limit_left(cpu, &left));
    u64 lin = cpu->code_bits == 64 ? cpu->s.rip : (u32)(cpu->s.rip + cpu->s.seg[X86_CS].base);
    TRY(fetch_page(cpu, lin, buf, MIN(left, X86_INSN_MAX), &got, gpa));
    int rc = x86_decode(cpu, buf, got, out);
    if (rc != X86_DECODE_MORE)
        return rc;
    if (got == left) /* the rest lies beyond the CS limit */
        return x86_gp(cpu, 0);
    u64 lin2 = (lin + got) & cpu->lin_mask;
    TRY(fetch_page(cpu, lin2, buf + got, MIN(left, X86_INSN_MAX) - got, &more, gpa2));
    rc = x86_decode(cpu, buf, got + more, out);
    return rc == X86_DECODE_MORE ? x86_gp(cpu, 0) : rc;
}
