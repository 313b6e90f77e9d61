/* native_stubs.c - the arena of stubs, shared by all VMs of the process, and the traps inside it */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/wxbuf.h"
#include "x86/fpu.h"

/* Stubs are keyed by the re-encoded instruction, in which registers and addresses have been
 * renamed to fixed ones. What is left (opcode, immediate byte, VEX.W and L, register or memory
 * form) has fewer than 2^18 values of at most NATIVE_STUB_MAX bytes, typically 40: a guest cannot
 * grow the arena without bound, nothing is ever flushed, and pointers to stubs stay good for ever.
 * Pages are only touched as they fill.
 *
 * Traps. An unmasked SIMD floating-point exception of the guest is one of the host too: the stub
 * runs with the guest's MXCSR, the host CPU faults, the kernel sends SIGFPE. The handler knows the
 * stub by its address, copies the MXCSR of the moment (flags set, as the manual wants them) into
 * the frame, puts the default MXCSR back and returns to the recovery code, which leaves the stub
 * without storing any register. Nothing of the sort happens while everything is masked. SIGILL is
 * treated alike, so that a host which cannot execute what its CPUID promised costs the guest a
 * #UD, not the process its life. Both signals must not be blocked in threads that run guests.
 * Signals from elsewhere go to the handlers that were there before. Should somebody replace ours
 * later, binding the next instruction that can trap puts it back, chained to the newcomer. */

#define ARENA_BYTES (32 * MiB)
#define BUCKETS     (1u << 14)

static struct {
    pthread_mutex_t mutex;
    struct wxbuf code;
    size_t used;
    const u8 *recovery;
    struct native_op *bucket[BUCKETS];
    struct sigaction old_fpe, old_ill;
    bool ready, failed;
} arena = {.mutex = PTHREAD_MUTEX_INITIALIZER};

bool native_host_avx(void)
{
    return __builtin_cpu_supports("avx");
}

static void pass_on(int sig, siginfo_t *info, void *context)
{
    const struct sigaction *old = sig == SIGFPE ? &arena.old_fpe : &arena.old_ill;

    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, info, context);
    else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
        old->sa_handler(sig);
    else {
        sigaction(sig, old,
                  NULL); /* an instruction's trap comes again on return, with the old effect */
        if (info->si_code <= 0 && old->sa_handler == SIG_DFL)
            raise(sig);
    }
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *r = uc->uc_mcontext.gregs;
    u64 off = (u64)r[REG_RIP] - (u64)(uintptr_t)arena.code.x;

    if (info->si_code <= 0 || off >= arena.code.size || !uc->uc_mcontext.fpregs) {
        pass_on(sig, info, context);
        return;
    }
    struct native_frame *f = (struct native_frame *)r[REG_RDI];
    f->mxcsr = uc->uc_mcontext.fpregs->mxcsr;
    f->trapped = (u8)sig;
    uc->uc_mcontext.fpregs->mxcsr = MXCSR_INIT;
    r[REG_RIP] = (greg_t)(uintptr_t)arena.recovery;
}

static bool claim(int sig, struct sigaction *old)
{
    struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK}, now;

    if (sigaction(sig, NULL, &now))
        return false;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_trap)
        return true;
    *old = now;
    sigemptyset(&sa.sa_mask);
    return sigaction(sig, &sa, NULL) == 0;
}

static bool arena_start(void)
{
    struct err e = {0};

    if (wxbuf_create(&arena.code, ARENA_BYTES, &e)) {
        log_msg(LOG_ERROR, "%s", e.msg);
        return false;
    }
    arena.recovery = arena.code.x;
    arena.used = align_up(native_emit_recovery(arena.code.w), 16);
    return claim(SIGFPE, &arena.old_fpe) && claim(SIGILL, &arena.old_ill);
}

static unsigned hash(const struct native_ident *id)
{
    const u8 *p = (const u8 *)id;
    u64 h = 0xcbf29ce484222325ull;

    for (unsigned i = 0; i < sizeof(*id); i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return (unsigned)(h >> 32) & (BUCKETS - 1);
}

static const struct native_op *intern_locked(const struct native_ident *id)
{
    struct native_op **head = &arena.bucket[hash(id)];
    struct native_op *op;

    if (arena.ready && (id->flags & NO_MXCSR))
        claim(SIGFPE, &arena.old_fpe);
    for (op = *head; op; op = op->next)
        if (!memcmp(&op->id, id, sizeof(*id)))
            return op;
    if (!arena.ready && !arena.failed) {
        arena.ready = arena_start();
        arena.failed = !arena.ready;
    }
    if (arena.failed || arena.code.size - arena.used < NATIVE_STUB_MAX)
        return NULL;
    op = malloc(sizeof(*op));
    if (!op)
        return NULL;
    op->id = *id;
    op->run = (native_stub *)(uintptr_t)(arena.code.x + arena.used);
    arena.used += align_up(native_emit(id, arena.code.w + arena.used), 16);
    op->next = *head;
    *head = op;
    return op;
}

const struct native_op *native_intern(const struct native_ident *id)
{
    pthread_mutex_lock(&arena.mutex);
    const struct native_op *op = intern_locked(id);
    pthread_mutex_unlock(&arena.mutex);
    return op;
}
