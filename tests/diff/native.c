/* native.c - runs instructions on the host processor, in this process, and catches what they
 * raise */
#include <asm/ldt.h>
#include <cpuid.h>
#include <errno.h>
#include <linux/auxvec.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "diff.h"
#include "native.h"

/* <sys/auxv.h> brings ELF names that clash with those of page-fault error bits. */
unsigned long getauxval(unsigned long type);
#ifndef HWCAP2_FSGSBASE
#    define HWCAP2_FSGSBASE BIT(1)
#endif
#define EFLAGS_QUIET (~(u64)(RFLAGS_TF | RFLAGS_AC | RFLAGS_DF | RFLAGS_NT))

struct native_features native_has;
u8 *native_code, *native_data;

extern const u8 native_stub_begin[], native_stub_tail64[], native_stub_tail32[], native_stub_exit[],
    native_stub_end[];

static u64 stub_at(const u8 *label)
{
    return STUB_ADDR + (u64)(label - native_stub_begin);
}

u64 native_exit(void)
{
    return stub_at(native_stub_exit);
}

/* --- faults ----------------------------------------------------------------------------------- */

static struct sigaction old_action[32];

/* A fault of the core itself: its own handlers were there first. */
static void pass_on(int sig, siginfo_t *si, void *arg)
{
    const struct sigaction *old = &old_action[sig & 31];

    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, si, arg);
    else
        sigaction(sig, old, NULL);
}

/* Runs with the FS base and the AC flag of the code under test: no thread-local data, no stack
 * protector, AC off first. Continues at the exit stub, which captures the registers that
 * sigreturn restores. */
__attribute__((no_stack_protector)) static void on_fault(int sig, siginfo_t *si, void *arg)
{
    __asm__ volatile("pushfq; andq %0, (%%rsp); popfq" : : "e"(~(int)RFLAGS_AC) : "cc", "memory");
    struct native_ctx *ctx = CTX;
    greg_t *g = ((ucontext_t *)arg)->uc_mcontext.gregs;

    if (!ctx->active) {
        pass_on(sig, si, arg);
        return;
    }
    ctx->trapped = 1;
    ctx->trap = g[REG_TRAPNO];
    ctx->error = g[REG_ERR];
    ctx->cr2 = g[REG_CR2];
    ctx->rip = g[REG_RIP];
    ctx->rflags = g[REG_EFL];
    ctx->cs = g[REG_CSGSFS];
    ctx->in_sel[6] = (u64)g[REG_CSGSFS] >> 48; /* SS: the stub sees the one sigreturn loads */
    g[REG_RIP] = stub_at(native_stub_exit);
    g[REG_EFL] = (g[REG_EFL] & EFLAGS_QUIET) | RFLAGS_IF;
    g[REG_CSGSFS] = (g[REG_CSGSFS] & 0x0000ffffffff0000ll) | SEL_CODE64 | (greg_t)SEL_DATA << 48;
}

/* A case that still runs at the second tick after it began loops for ever. */
__attribute__((no_stack_protector)) static void on_tick(int sig, siginfo_t *si, void *arg)
{
    __asm__ volatile("pushfq; andq %0, (%%rsp); popfq" : : "e"(~(int)RFLAGS_AC) : "cc", "memory");
    greg_t *g = ((ucontext_t *)arg)->uc_mcontext.gregs;
    bool in_stub = (u64)g[REG_RIP] - STUB_ADDR < STUB_BYTES;

    if (!CTX->active)
        engine_kick();
    if (!CTX->active || in_stub || CTX->ticks++ < 2)
        return;
    CTX->hang = 1;
    on_fault(sig, si, arg);
}

int native_hook(struct err *e)
{
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    stack_t ss = {.ss_size = 256 * KiB, .ss_sp = malloc(256 * KiB)};
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    if (!ss.ss_sp || sigaltstack(&ss, NULL))
        return err_set(e, errno, "no signal stack: %s", strerror(errno));
    for (unsigned i = 0; i < ARRAY_SIZE(sigs); i++)
        sigaction(sigs[i], &sa, &old_action[sigs[i]]);
    sa.sa_sigaction = on_tick;
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval tick = {{1, 0}, {1, 0}};
    setitimer(ITIMER_REAL, &tick, NULL);
    return 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

static void *map_at(u64 addr, u64 bytes, int prot, int fd)
{
    int flags =
        MAP_FIXED_NOREPLACE | MAP_POPULATE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    void *p = mmap((void *)(uintptr_t)addr, bytes, prot, flags, fd, 0);
    return p == (void *)(uintptr_t)addr ? p : NULL;
}

static int map_code(struct err *e)
{
    int fd = memfd_create("diff-code", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, CODE_BYTES) ||
        !map_at(CODE_ADDR, CODE_BYTES, PROT_READ | PROT_EXEC, fd))
        return err_set(e, ENOMEM, "cannot map code at %#x", CODE_ADDR);
    native_code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    if (native_code == MAP_FAILED)
        return err_set(e, ENOMEM, "cannot map code twice");
    memset(native_code, 0xcc, CODE_BYTES);
    return 0;
}

static int map_data(struct err *e)
{
    int fd = memfd_create("diff-data", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, DATA_BYTES + RO_BYTES) ||
        !map_at(DATA_ADDR, DATA_BYTES + RO_BYTES, PROT_READ | PROT_WRITE, fd) ||
        mprotect((void *)(uintptr_t)RO_ADDR, RO_BYTES, PROT_READ))
        return err_set(e, ENOMEM, "cannot map data at %#x", DATA_ADDR);
    native_data =
        mmap(NULL, DATA_BYTES + RO_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    /* Refused where vm.mmap_min_addr is higher: 16-bit addresses then only fault. */
    native_has.low_alias = map_at(LOW_ADDR, DATA_BYTES, PROT_READ | PROT_WRITE, fd) != NULL;
    close(fd);
    return native_data == MAP_FAILED ? err_set(e, ENOMEM, "cannot map data twice") : 0;
}

static int map_stub(struct err *e)
{
    void *p = map_at(STUB_ADDR, STUB_BYTES, PROT_READ | PROT_WRITE, -1);
    if (!p || !map_at(CTX_ADDR, CTX_BYTES, PROT_READ | PROT_WRITE, -1))
        return err_set(e, ENOMEM, "cannot map the context at %#x", CTX_ADDR);
    memcpy(p, native_stub_begin, native_stub_end - native_stub_begin);
    return mprotect(p, STUB_BYTES, PROT_READ | PROT_EXEC)
               ? err_set(e, errno, "no executable memory")
               : 0;
}

static bool install_ldt(void)
{
    for (unsigned i = 0; i < LDT_ROWS; i++) {
        const struct ldt_row *r = &ldt_rows[i];
        struct user_desc d = {.entry_number = i,
                              .base_addr = r->base,
                              .limit = r->limit,
                              .seg_32bit = r->big,
                              .contents = r->code   ? 2
                                          : r->down ? 1
                                                    : 0,
                              .read_exec_only = r->readonly,
                              .limit_in_pages = r->pages,
                              .seg_not_present = !r->present};
        /* The kernel takes an all-default row for "delete": `useable` keeps it. */
        d.useable = 1;
        if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)))
            return false;
    }
    return true;
}

static void detect(void)
{
    unsigned a, b, c, d;

    __cpuid(0, a, b, c, d);
    native_has.amd = b == signature_AMD_ebx || b == 0x6f677948; /* "Auth", "Hygo" */
    __cpuid(1, a, b, c, d);
    native_has.hypervisor = c >> 31 & 1;
    native_has.xsave = c >> 27 & 1;
    native_has.avx = c >> 28 & 1 && native_has.xsave;
    native_has.fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
}

int native_init(struct err *e)
{
    detect();
    int rc = map_stub(e);
    if (!rc)
        rc = map_code(e);
    if (!rc)
        rc = map_data(e);
    if (rc)
        return rc;
    native_has.ldt = install_ldt();
    CTX->has_fsgsbase = native_has.fsgsbase;
    CTX->has_xsave = native_has.xsave;
    CTX->has_avx = native_has.avx;
    CTX->mxcsr = 0x1f80;
    return 0;
}

/* --- state to and from the XSAVE image -------------------------------------------------------- */

#define FX_ST     32
#define FX_XMM    160
#define XS_HEADER 512
#define XS_YMM \
    576 /* SDM vol. 1 13.4.3: standard format, as CPUID leaf 0DH says on every processor */

static void put16(u8 *p, u16 v)
{
    memcpy(p, &v, 2);
}

static u64 get(const u8 *p, unsigned n)
{
    u64 v = 0;
    memcpy(&v, p, n);
    return v;
}

static void fp_store(const struct x86_fpu *f, u8 *area)
{
    u64 parts = 7;

    put16(area, f->fcw);
    put16(area + 2, f->fsw);
    put16(area + 4, f->ftw);
    put16(area + 6, f->fop);
    memcpy(area + 8, &f->fip, 8);
    memcpy(area + 16, &f->fdp, 8);
    memcpy(area + 24, &f->mxcsr, 4);
    memcpy(area + FX_ST, f->st, sizeof(f->st));
    for (unsigned i = 0; i < 16; i++) {
        memcpy(area + FX_XMM + 16 * i, f->vec[i], 16);
        memcpy(area + XS_YMM + 16 * i, f->vec[i] + 16, 16);
    }
    memcpy(area + XS_HEADER, &parts, 8);
}

static void fp_fetch(const u8 *area, struct x86_fpu *f)
{
    u64 parts = native_has.xsave ? get(area + XS_HEADER, 8) : 3;

    f->fcw = get(area, 2);
    f->fsw = get(area + 2, 2);
    f->ftw = area[4];
    f->fop = get(area + 6, 2);
    f->fip = get(area + 8, 8);
    f->fdp = get(area + 16, 8);
    f->mxcsr = get(area + 24, 4);
    f->fcs = f->fds = 0;
    for (unsigned i = 0; i < 8; i++) {
        memcpy(f->st[i], area + FX_ST + 16 * i, 10);
        memset(f->st[i] + 10, 0, 6);
    }
    for (unsigned i = 0; i < 16; i++) {
        memcpy(f->vec[i], area + FX_XMM + 16 * i, 16);
        if (native_has.avx)
            memcpy(f->vec[i] + 16, area + XS_YMM + 16 * i, 16);
        else
            memset(f->vec[i] + 16, 0, 16);
    }
    (void)parts; /* XSAVE writes initial values for parts in their initial state */
}

/* AMD processors write the pointers into an XSAVE image only while an exception is pending (APM
 * vol. 5 FXSAVE); FNSTENV stores them always. */
static bool env_fetch(const u32 *env, struct x86_fpu *f)
{
    if (!native_has.amd || f->fsw & 0x80)
        return false;
    f->fip = env[3];
    f->fcs = (u16)env[4];
    f->fop = env[4] >> 16 & 0x7ff;
    f->fdp = env[5];
    f->fds = (u16)env[6];
    return true;
}

/* --- run -------------------------------------------------------------------------------------- */

static void load(const struct dcase *c, struct native_ctx *ctx)
{
    const struct dstate *s = &c->in;

    memcpy(ctx->in_gpr, s->gpr, sizeof(ctx->in_gpr));
    memcpy(ctx->in_sel, s->sel, sizeof(s->sel));
    ctx->in_flags = s->rflags;
    ctx->in_rip = s->rip;
    ctx->in_fs = s->fs_base;
    ctx->in_gs = s->gs_base;
    ctx->far_off = s->rip;
    ctx->far_sel = s->sel[X86_CS];
    ctx->load_segs = c->mode != MODE_64;
    ctx->load_fsgs = c->mode != MODE_64 && native_has.fsgsbase;
    ctx->tail = stub_at(c->mode == MODE_64 ? native_stub_tail64 : native_stub_tail32);
    fp_store(&s->fpu, ctx->in_fp);
    ctx->trapped = ctx->hang = ctx->ticks = 0;
}

/* The exit stub runs with TF set when the code under test left it so: that trap belongs to the
 * harness. */
static bool trapped_in_stub(const struct native_ctx *ctx)
{
    return ctx->trapped && ctx->rip - STUB_ADDR < STUB_BYTES;
}

static void unload(const struct dcase *c, struct native_ctx *ctx, struct outcome *out)
{
    struct dstate *s = &out->s;

    memcpy(s->gpr, ctx->out_gpr, sizeof(s->gpr));
    memcpy(s->sel, ctx->out_sel, sizeof(s->sel));
    s->sel[X86_CS] = c->in.sel[X86_CS];
    s->fs_base = ctx->out_fs;
    s->gs_base = ctx->out_gs;
    s->rflags = ctx->out_flags;
    u64 base = c->in.sel[X86_CS] == LDT_SEL(LDT_CODE16) ? CODE_ADDR : 0;
    s->rip = c->start + c->len - base;
    fp_fetch(ctx->out_fp, &s->fpu);
    out->env = env_fetch(ctx->out_env, &s->fpu);
    out->lost = native_has.amd && !(s->fpu.fdp | s->fpu.fds);
    out->trap = -1;
    out->error = out->cr2 = 0;
    out->hang = ctx->hang;
    out->signaled = ctx->trapped;
    if (!ctx->trapped)
        return;
    s->rflags = ctx->rflags;
    s->sel[X86_SS] = ctx->in_sel[6];
    if (trapped_in_stub(ctx))
        return;
    s->sel[X86_CS] = ctx->cs;
    s->rip = ctx->rip;
    u64 lin = ctx->rip + (ctx->cs == LDT_SEL(LDT_CODE16) ? CODE_ADDR : 0);
    bool landed = ctx->trap == X86_BP && lin - 1 - CODE_ADDR < CODE_BYTES &&
                  (lin - 1 < c->start || lin - 1 >= c->start + c->len);
    if (landed) {
        s->rip--;
        return;
    }
    out->trap = ctx->trap;
    out->error = ctx->error;
    out->cr2 = ctx->trap == X86_PF ? ctx->cr2 : 0;
}

void native_run(const struct dcase *c, struct outcome *out)
{
    struct native_ctx *ctx = CTX;

    load(c, ctx);
    __atomic_store_n(&ctx->active, 1, __ATOMIC_SEQ_CST);
    ((void (*)(void))(uintptr_t)STUB_ADDR)();
    __atomic_store_n(&ctx->active, 0, __ATOMIC_SEQ_CST);
    unload(c, ctx, out);
}
