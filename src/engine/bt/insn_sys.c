/* insn_sys.c - system instructions that kernels execute all the time, without leaving the block */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"
#include "x86/optable.h"

/* The system bits of RFLAGS are in x86_state.rflags, whose arithmetic bits are stale meanwhile. */

static bool kernel(const struct gen *g)
{
    return !(g->mode & MODE_USER);
}

static void or_rflags(struct gen *g, u32 bits)
{
    e_alu_mem_imm(&g->e, W32, 1, CELL(cpu.s.rflags), (s32)bits);
}

static void and_rflags(struct gen *g, u32 bits)
{
    e_alu_mem_imm(&g->e, W32, 4, CELL(cpu.s.rflags), (s32)bits);
}

static void test_cell(struct gen *g, size_t off, u32 bits)
{
    e_rm(&g->e, W32, 0xf7, 0, cell(off)); /* test dword gs:[off], bits */
    e4(&g->e, bits);
}

/* C executes the instruction if condition cc holds. */
static void exec_if(struct gen *g, unsigned cc)
{
    cold_add(g, COLD_EXEC, e_jcc(&g->e, cc));
}

/* --- IF --------------------------------------------------------------------------------------- */

static bool gen_cli(struct gen *g)
{
    if (!kernel(g))
        return false;
    flags_save(g);
    and_rflags(g, ~(u32)RFLAGS_IF);
    return true;
}

/* An interrupt that waits for IF is C's business, shadow included. One that comes later is not
 * looked for before the next instruction has ended. */
static bool gen_sti(struct gen *g)
{
    if (!kernel(g))
        return false;
    flags_save(g);
    e_rm(&g->e, W32, 0x80, 7, CELL(cpu.irq_masked)); /* cmp byte gs:[irq_masked], 0 */
    e1(&g->e, 0);
    exec_if(g, CC_NE);
    or_rflags(g, RFLAGS_IF);
    return true;
}

/* --- PUSHF and POPF --------------------------------------------------------------------------- */

/* The image in tmp[1]. Flags are saved. */
static void flags_image(struct gen *g)
{
    struct emit *e = &g->e;

    e1(e, 0x65);
    EBYTES(e, "\x0f\xb7\x04\x25"); /* movzx eax, word gs:[flags] */
    e4(e, (u32)VOFF(flags));
    e_mov(e, W32, H_R10, H_RAX);
    EBYTES(e, "\xc1\xe8\x08"      /* shr eax, 8 */
              "\x41\x83\xe2\x01"  /* and r10d, 1 */
              "\x41\xc1\xe2\x0b"  /* shl r10d, 11 */
              "\x44\x09\xd0");    /* or eax, r10d */
    e_alu_imm(e, W32, 4, H_RAX, RFLAGS_ARITH);
    e_load(e, W32, H_R10, CELL(cpu.s.rflags));
    e_alu_imm(e, W32, 4, H_R10, (s32) ~(RFLAGS_ARITH | RFLAGS_VM | RFLAGS_RF));
    EBYTES(e, "\x44\x09\xd0"); /* or eax, r10d */
    e_store(e, W64, CELL(tmp[1]), H_RAX);
}

static bool gen_pushf(struct gen *g)
{
    unsigned n = g->code64 ? 8 : 4, w = g->code64 ? W64 : W32;

    if (!g->code64)
        return false;
    flags_save(g);
    flags_image(g);
    struct hmem m = lower_stack(g, X86_RSP, -(s32)n, n, LOW_WRITE);
    e_load(&g->e, W64, g->spare, CELL(tmp[1]));
    e_store(&g->e, w, m, g->spare);
    e_lea(&g->e, w, H_SP, base_mem(H_SP, -(s32)n));
    return true;
}

/* Changes of TF, IOPL, NT and AC are C's. */
static bool gen_popf(struct gen *g)
{
    struct emit *e = &g->e;
    u32 change = RFLAGS_DF | RFLAGS_ID | (kernel(g) ? RFLAGS_IF : 0);
    u32 rare = RFLAGS_TF | RFLAGS_NT | RFLAGS_AC | RFLAGS_IOPL;

    if (!g->code64)
        return false;
    struct hmem m = lower_stack(g, X86_RSP, 0, 8, 0);
    e_load(e, W32, H_RAX, m);
    e_mov(e, W32, H_R10, H_RAX);
    e_rm(e, W32, 0x33, H_R10, CELL(cpu.s.rflags)); /* xor r10d, gs:[rflags]: what would change */
    e_rr(e, W32, 0xf7, 0, H_R10);
    e4(e, rare);
    exec_if(g, CC_NE);
    if (kernel(g)) {
        e_rr(e, W32, 0xf7, 0, H_RAX); /* test eax, IF */
        e4(e, RFLAGS_IF);
        u8 *off = e_jcc(e, CC_E);
        e_rm(e, W32, 0x80, 7, CELL(cpu.irq_masked));
        e1(e, 0);
        exec_if(g, CC_NE);
        patch_rel32(off, e->p);
    } else {
        test_cell(g, VOFF(cpu.s.rflags), RFLAGS_IOPL);
        exec_if(g, CC_NE);
    }
    e_alu_imm(e, W32, 4, H_R10, (s32)change);
    e_rm(e, W32, 0x31, H_R10, CELL(cpu.s.rflags)); /* xor gs:[rflags], r10d */
    e_mov(e, W32, H_R10, H_RAX);
    EBYTES(e, "\x41\xc1\xea\x0b"  /* shr r10d, 11 */
              "\x41\x83\xe2\x01"  /* and r10d, 1 */
              "\xc1\xe0\x08"      /* shl eax, 8 */
              "\x44\x09\xd0");    /* or eax, r10d */
    e1(e, 0x66);
    e_store(e, W32, CELL(flags), H_RAX); /* mov gs:[flags], ax */
    e_lea(e, W64, H_SP, base_mem(H_SP, 8));
    g->fl = FL_SAVED;
    g->recipe.len = 0;
    return true;
}

/* --- segments and access rights --------------------------------------------------------------- */

static bool gen_swapgs(struct gen *g)
{
    struct emit *e = &g->e;

    if (!kernel(g) || !g->code64)
        return false;
    e_load(e, W64, H_RAX, CELL(cpu.s.seg[X86_GS].base));
    e_load(e, W64, H_R10, CELL(cpu.s.kernel_gs_base));
    e_store(e, W64, CELL(cpu.s.seg[X86_GS].base), H_R10);
    e_store(e, W64, CELL(cpu.seg_base[X86_GS]), H_R10);
    e_store(e, W64, CELL(cpu.s.kernel_gs_base), H_RAX);
    return true;
}

/* The TLB set in rax becomes the current one. */
static void use_set(struct gen *g, unsigned set, struct hmem entry, struct hmem mask)
{
    struct emit *e = &g->e;

    e_load(e, W64, H_R10, entry);
    e_store(e, W64, CELL(cpu.tlb), H_R10);
    e_load(e, W64, H_R10, mask);
    e_store(e, W64, CELL(cpu.tlb_mask), H_R10);
    e_rm(e, W32, 0xc6, 0, CELL(cpu.mmu_set)); /* mov byte gs:[mmu_set], set */
    e1(e, set);
}

static bool gen_stac_clac(struct gen *g, bool set)
{
    if (!kernel(g) || g->v->cpu.no_hits)
        return false;
    flags_save(g);
    test_cell(g, VOFF(cpu.s.cr4), CR4_SMAP);
    exec_if(g, CC_E);
    if (set) {
        or_rflags(g, RFLAGS_AC);
        e_load(&g->e, W64, H_RAX, CELL(cpu.tlb_ac));
        use_set(g, X86_TLB_KERNEL_AC, base_mem(H_RAX, offsetof(struct x86_tlb_set, entry)),
                base_mem(H_RAX, offsetof(struct x86_tlb_set, mask)));
    } else {
        and_rflags(g, ~(u32)RFLAGS_AC);
        e_mov_imm64(&g->e, H_RAX, BT_NO_STACK); /* perhaps a user page */
        e_store(&g->e, W64, CELL(stack_tag), H_RAX);
        e_load(&g->e, W64, H_RAX, CELL(nowhere_addend));
        e_store(&g->e, W64, CELL(stack_addend), H_RAX);
        use_set(g, X86_TLB_KERNEL, CELL(cpu.tlbs.kernel.entry), CELL(cpu.tlbs.kernel.mask));
    }
    return true;
}

/* --- moves ------------------------------------------------------------------------------------ */

static void load_guest(struct gen *g, unsigned guest, unsigned w, struct hmem from)
{
    unsigned to = host_reg(guest) == H_NONE ? H_RAX : host_reg(guest);

    e_load(&g->e, w, to, from);
    if (host_reg(guest) == H_NONE)
        e_store(&g->e, W64, cell(GPR_OFF(guest)), to);
}

static bool gen_mov_from_cr(struct gen *g)
{
    static const size_t cell_of[5] = {VOFF(cpu.s.cr0), 0, VOFF(cpu.s.cr2), VOFF(cpu.s.cr3),
                                      VOFF(cpu.s.cr4)};
    const struct x86_insn *in = g->in;
    unsigned cr = in->op[1].reg;

    if (!kernel(g) || in->fn != x86_op_mov_from_cr || cr > 4 || cr == 1)
        return false;
    load_guest(g, in->op[0].reg, g->code64 ? W64 : W32, cell(cell_of[cr]));
    return true;
}

/* MOV r, Sreg and MOV m16, Sreg. */
static bool gen_mov_from_sreg(struct gen *g)
{
    const struct x86_insn *in = g->in;
    const struct x86_operand *o = &in->op[0];
    struct emit *e = &g->e;
    struct hmem sel = cell(VOFF(cpu.s.seg) + sizeof(struct x86_seg) * in->op[1].reg +
                           offsetof(struct x86_seg, sel));

    if (o->kind == X86_OPND_REG && o->size == 2) {
        if (host_reg(o->reg) == H_NONE)
            return false;
        e1(e, 0x66);
        e_load(e, W32, host_reg(o->reg), sel); /* mov r16, gs:[sel] */
        return true;
    }
    if (o->kind == X86_OPND_REG) {
        e1(e, 0x65);
        EBYTES(e, "\x0f\xb7"); /* movzx eax, word gs:[sel] */
        e_modrm_mem(e, H_RAX, &sel);
        if (host_reg(o->reg) == H_NONE)
            e_store(e, W64, cell(GPR_OFF(o->reg)), H_RAX);
        else
            e_mov(e, W32, host_reg(o->reg), H_RAX);
        return true;
    }
    if (!lower_can(g))
        return false;
    struct hmem m = lower_mem(g, 2, 1, LOW_WRITE | LOW_RAX_FREE);
    e1(e, 0x65);
    EBYTES(e, "\x0f\xb7");
    e_modrm_mem(e, H_RAX, &sel);
    e1(e, 0x66);
    e_store(e, W32, m, H_RAX);
    return true;
}

/* RDFSBASE and RDGSBASE. */
static bool gen_read_base(struct gen *g, unsigned seg)
{
    const struct x86_insn *in = g->in;

    if (!g->code64)
        return false;
    flags_save(g);
    test_cell(g, VOFF(cpu.s.cr4), CR4_FSGSBASE);
    exec_if(g, CC_E);
    load_guest(g, in->op[0].reg, in->op[0].size == 8 ? W64 : W32,
               cell(VOFF(cpu.seg_base) + 8u * seg));
    return true;
}

/* RDTSC and RDTSCP, as long as what C was told last is good. */
static bool gen_rdtsc(struct gen *g, bool aux)
{
    struct emit *e = &g->e;

    if (!g->v->vm->tsc_inline || !g->code64)
        return false;
    flags_save(g);
    g->recipe.len = 0;
    if (!kernel(g)) {
        test_cell(g, VOFF(cpu.s.cr4), CR4_TSD);
        exec_if(g, CC_NE);
    }
    EBYTES(e, "\x0f\x31"          /* rdtsc */
              "\x48\xc1\xe2\x20"  /* shl rdx, 32 */
              "\x48\x09\xd0");    /* or rax, rdx */
    e_rm(e, W64, 0x2b, H_RAX, CELL(tsc.host));
    e_rm(e, W64, 0x3b, H_RAX, CELL(tsc.window));
    exec_if(g, CC_AE);
    e_rm(e, W64, 0xf7, 4, CELL(tsc.mult));   /* mul qword gs:[tsc.mult] */
    EBYTES(e, "\x48\x0f\xac\xd0\x20");       /* shrd rax, rdx, 32 */
    e_rm(e, W64, 0x03, H_RAX, CELL(tsc.guest));
    e_rm(e, W64, 0x03, H_RAX, CELL(cpu.s.tsc_offset));
    e_mov(e, W32, H_R11, H_RAX);
    EBYTES(e, "\x48\xc1\xe8\x20"); /* shr rax, 32 */
    e_mov(e, W32, H_RDX, H_RAX);
    if (aux)
        e_load(e, W32, H_RCX, CELL(cpu.s.tsc_aux));
    return true;
}

/* WRFSBASE and WRGSBASE. */
static bool gen_write_base(struct gen *g, unsigned seg)
{
    const struct x86_operand *o = &g->in->op[0];
    unsigned w = o->size == 8 ? W64 : W32, from = host_reg(o->reg);
    struct emit *e = &g->e;

    if (!g->code64)
        return false;
    flags_save(g);
    test_cell(g, VOFF(cpu.s.cr4), CR4_FSGSBASE);
    exec_if(g, CC_E);
    if (from == H_NONE)
        e_load(e, w, H_RAX, cell(GPR_OFF(o->reg)));
    else
        e_mov(e, w, H_RAX, from);
    e_mov(e, W64, H_R10, H_RAX);
    EBYTES(e, "\x49\xc1\xe2\x10\x49\xc1\xfa\x10"); /* shl r10, 16; sar r10, 16 */
    e_rr(e, W64, 0x39, H_RAX, H_R10);
    exec_if(g, CC_NE); /* not canonical */
    e_store(e, W64, cell(VOFF(cpu.s.seg) + sizeof(struct x86_seg) * seg +
                         offsetof(struct x86_seg, base)), H_RAX);
    e_store(e, W64, cell(VOFF(cpu.seg_base) + 8u * seg), H_RAX);
    return true;
}

static bool gen_direction(struct gen *g, bool set)
{
    flags_save(g);
    if (set)
        or_rflags(g, RFLAGS_DF);
    else
        and_rflags(g, ~(u32)RFLAGS_DF);
    return true;
}

bool gen_sys(struct gen *g)
{
    switch (g->in->mnemonic) {
    case ZYDIS_MNEMONIC_CLI: return gen_cli(g);
    case ZYDIS_MNEMONIC_STI: return gen_sti(g);
    case ZYDIS_MNEMONIC_CLD: return gen_direction(g, false);
    case ZYDIS_MNEMONIC_STD: return gen_direction(g, true);
    case ZYDIS_MNEMONIC_PUSHFQ: return gen_pushf(g);
    case ZYDIS_MNEMONIC_POPFQ: return gen_popf(g);
    case ZYDIS_MNEMONIC_SWAPGS: return gen_swapgs(g);
    case ZYDIS_MNEMONIC_STAC: return gen_stac_clac(g, true);
    case ZYDIS_MNEMONIC_CLAC: return gen_stac_clac(g, false);
    case ZYDIS_MNEMONIC_MOV:
        return g->in->fn == x86_op_mov_from_sreg ? gen_mov_from_sreg(g) : gen_mov_from_cr(g);
    case ZYDIS_MNEMONIC_RDTSC: return gen_rdtsc(g, false);
    case ZYDIS_MNEMONIC_RDTSCP: return gen_rdtsc(g, true);
    case ZYDIS_MNEMONIC_RDFSBASE: return gen_read_base(g, X86_FS);
    case ZYDIS_MNEMONIC_RDGSBASE: return gen_read_base(g, X86_GS);
    case ZYDIS_MNEMONIC_WRFSBASE: return gen_write_base(g, X86_FS);
    case ZYDIS_MNEMONIC_WRGSBASE: return gen_write_base(g, X86_GS);
    default: return false;
    }
}

bool gen_sys_goes_on(const struct x86_insn *in)
{
    return in->mnemonic == ZYDIS_MNEMONIC_STI || in->mnemonic == ZYDIS_MNEMONIC_POPFQ ||
           in->mnemonic == ZYDIS_MNEMONIC_SERIALIZE ||
           in->fn == x86_op_mov_from_cr || in->fn == x86_op_mov_from_sreg;
}
