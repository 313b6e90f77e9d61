/* stubs.c - the ways into translated code, out of it, and from it to C */
#include "engine/bt/gen.h"
#include "x86/fpu.h"

struct bt_stubs bt_stubs;

/* Guest registers that are in host ones. */
static const u8 kept[] = {X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RBP, X86_RSI, X86_RDI,
                          X86_R8,  X86_R9,  X86_R12, X86_R13, X86_R14, X86_RSP};

static void save_registers(struct emit *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        e_store(e, W64, cell(GPR_OFF(kept[i])), host_reg(kept[i]));
    e_store(e, W64, CELL(shadow_sp), H_RSP);
    e_load(e, W64, H_RSP, CELL(host_rsp));
}

/* MOVUPS or VMOVUPS between a vector register and its place in the state. */
static void move_vector(struct emit *e, unsigned reg, bool store)
{
    struct hmem m = cell(VOFF(cpu.s.fpu.vec) + 32u * reg);

    e1(e, 0x65);
    if (native_host_avx()) {
        e1(e, 0xc5);
        e1(e, reg & 8 ? 0x7c : 0xfc); /* 256 bits */
    } else {
        if (reg & 8)
            e1(e, 0x44);
        e1(e, 0x0f);
    }
    e1(e, store ? 0x11 : 0x10);
    e_modrm_mem(e, reg, &m);
}

static void mxcsr(struct emit *e, unsigned ext, struct hmem m)
{
    e1(e, 0x65);
    EBYTES(e, "\x0f\xae");
    e_modrm_mem(e, ext, &m);
}

/* Vector registers to the state when they hold the guest's. Uses rax. C code runs with the host's
 * MXCSR control bits. */
static void save_vectors(struct emit *e)
{
    e_alu_mem_imm(e, W32, 7, CELL(fp_ready), 0);
    u8 *none = e_jcc(e, CC_E);
    e_rm(e, W32, 0xc7, 0, CELL(fp_ready));
    e4(e, 0);
    for (unsigned i = 0; i < 16; i++)
        move_vector(e, i, true);
    mxcsr(e, 3, CELL(cpu.s.fpu.mxcsr));
    if (native_host_avx())
        EBYTES(e, "\xc5\xf8\x77"); /* vzeroupper */
    e_load(e, W32, H_RAX, CELL(cpu.s.fpu.mxcsr));
    e_alu_imm(e, W32, 4, H_RAX, 0xffc0);
    e_alu_imm(e, W32, 7, H_RAX, MXCSR_INIT);
    u8 *same = e_jcc(e, CC_E);
    mxcsr(e, 2, CELL(host_mxcsr));
    patch_rel32(same, e->p);
    patch_rel32(none, e->p);
}

static void load_vectors(struct emit *e)
{
    e_load(e, W32, H_RAX, CELL(fp_reload));
    e_rr(e, W32, 0x85, H_RAX, H_RAX);
    u8 *none = e_jcc(e, CC_E);
    e_store(e, W32, CELL(fp_ready), H_RAX);
    e_rm(e, W32, 0xc7, 0, CELL(fp_reload));
    e4(e, 0);
    for (unsigned i = 0; i < 16; i++)
        move_vector(e, i, false);
    mxcsr(e, 2, CELL(cpu.s.fpu.mxcsr));
    patch_rel32(none, e->p);
}

/* To the address in rax, with everything loaded; rax gets tmp[0] back (retried accesses). */
static void load_registers(struct emit *e)
{
    e_mov(e, W64, H_R10, H_RAX);
    load_vectors(e);
    emit_flags_restore(e);
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        e_load(e, W64, host_reg(kept[i]), cell(GPR_OFF(kept[i])));
    e_load(e, W64, H_RSP, CELL(shadow_sp));
    e_load(e, W64, H_RAX, CELL(tmp[0]));
    EBYTES(e, "\x41\xff\xe2"); /* jmp r10 */
}

static const u8 callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

/* void enter(v: rdi, host: rsi); GS is set. */
static void emit_enter(struct emit *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(callee_saved); i++)
        e_push(e, callee_saved[i]);
    EBYTES(e, "\x48\x83\xec\x08"); /* sub rsp, 8 */
    e_store(e, W64, CELL(host_rsp), H_RSP);
    e_mov(e, W64, H_RAX, H_RSI);
}

static void emit_leave(struct emit *e)
{
    EBYTES(e, "\x48\x83\xc4\x08"); /* add rsp, 8 */
    for (unsigned i = ARRAY_SIZE(callee_saved); i-- > 0;)
        e_pop(e, callee_saved[i]);
    e1(e, 0xc3);
}

/* C function with (v, r10), then on to where it says. */
static void emit_call(struct emit *e, size_t function, const u8 *resume)
{
    save_registers(e);
    save_vectors(e);
    e_load(e, W64, H_RDI, CELL(self));
    e_mov(e, W64, H_RSI, H_R10);
    e_call_mem(e, cell(function));
    e_jmp_to(e, resume);
}

/* rax = linear address, r10 = site. */
static void emit_slow(struct emit *e, const u8 *resume)
{
    e_store(e, W64, CELL(tmp[0]), H_RAX);
    save_registers(e);
    save_vectors(e);
    e_load(e, W64, H_RDI, CELL(self));
    e_load(e, W64, H_RSI, CELL(tmp[0]));
    e_mov(e, W64, H_RDX, H_R10);
    e_call_mem(e, CELL(h_slow));
    e_jmp_to(e, resume);
}

/* The same for an access that missed the stack's entry: takes it anew from the TLB and tries again,
 * unless the TLB does not have it either, or the entry was right and the access crosses pages. */
static void emit_stack(struct emit *e, const struct cache *c, const u8 *slow)
{
    e_store(e, W64, CELL(tmp[0]), H_RAX);
    e_store(e, W64, CELL(tmp[2]), H_R10);
    e_mov(e, W64, H_R10, H_RAX);
    emit_tlb_probe(e);
    e_alu_imm(e, W64, 4, H_RAX, -4096);
    e_rm(e, W64, 0x3b, H_RAX, CELL(stack_tag));
    u8 *same = e_jcc(e, CC_E);
    e_rm(e, W64, 0x3b, H_RAX, base_mem(H_R10, offsetof(struct x86_tlb_entry, tag_write)));
    u8 *miss = e_jcc(e, CC_NE);
    e_store(e, W64, CELL(stack_tag), H_RAX);
    e_load(e, W64, H_RAX, base_mem(H_R10, offsetof(struct x86_tlb_entry, addend)));
    e_store(e, W64, CELL(stack_addend), H_RAX);
    e_load(e, W64, H_R10, CELL(tmp[2]));
    e_load(e, W32, H_RAX, base_mem(H_R10, offsetof(struct site, retry)));
    e_mov_imm64(e, H_R10, (u64)(uintptr_t)c->buf.x);
    e_rr(e, W64, 0x01, H_R10, H_RAX);
    EBYTES(e, "\xff\xe0"); /* jmp rax */
    patch_rel32(same, e->p);
    patch_rel32(miss, e->p);
    e_load(e, W64, H_RAX, CELL(tmp[0]));
    e_load(e, W64, H_R10, CELL(tmp[2]));
    e_jmp_to(e, slow);
}

/* r10 = RIP. */
static void emit_dead(struct emit *e, const u8 *resume)
{
    e_store(e, W64, CELL(cpu.s.rip), H_R10);
    emit_call(e, VOFF(h_dead), resume);
}

/* A RET that leads elsewhere than its shadow says. rax = RIP, r10 = site of the RET; the guest's
 * stack pointer has not moved. A non-canonical RIP faults. */
static void emit_return(struct emit *e, const struct cache *c)
{
    e_store(e, W64, CELL(tmp[2]), H_R10);
    emit_canonical(e);
    u8 *faults = e_jcc(e, CC_NE);
    e_lea(e, W64, H_SP, base_mem(H_SP, 8));
    e_alu_mem_imm(e, W32, 7, CELL(cpu.attn), 0);
    u8 *attn = e_jcc(e, CC_NE);
    emit_ibtc_probe(e);
    u8 *miss = e_jcc(e, CC_NE);
    e_jmp_mem(e, base_mem(H_R10, 8));
    patch_rel32(attn, e->p);
    patch_rel32(miss, e->p);
    e_store(e, W64, CELL(cpu.s.rip), H_RAX);
    e_jmp_to(e, c->buf.w + bt_stubs.next);
    patch_rel32(faults, e->p);
    e_load(e, W64, H_R10, CELL(tmp[2]));
    e_jmp_to(e, c->buf.w + bt_stubs.generic);
}

void stubs_emit(struct cache *c)
{
    struct emit em = {.p = c->buf.w, .end = c->buf.w + CACHE_STUBS, .x = c->buf.x - c->buf.w};
    struct emit *e = &em;
#define AT ((u32)(e->p - c->buf.w))

    bt_stubs.leave = AT;
    emit_leave(e);
    bt_stubs.enter = AT;
    emit_enter(e);
    u8 *resume = e->p; /* rax: where to, 0: leave */
    e_rr(e, W64, 0x85, H_RAX, H_RAX);
    patch_rel32(e_jcc(e, CC_E), c->buf.w + bt_stubs.leave);
    load_registers(e);
    bt_stubs.next = AT;
    emit_call(e, VOFF(h_next), resume);
    bt_stubs.dead = AT;
    emit_dead(e, resume);
    bt_stubs.generic = AT;
    emit_call(e, VOFF(h_generic), resume);
    bt_stubs.slow = AT;
    emit_slow(e, resume);
    bt_stubs.stack = AT;
    emit_stack(e, c, c->buf.w + bt_stubs.slow);
    bt_stubs.link = AT;
    emit_call(e, VOFF(h_link), resume);
    bt_stubs.underflow = AT;
    e_lea(e, W64, H_RSP, base_mem(H_RSP, -8));
    bt_stubs.returned = AT;
    emit_return(e, c);
    bt_stubs.fp = AT;
    emit_call(e, VOFF(h_fp), resume);
#undef AT
    ASSERT(e->p < e->end);
}
