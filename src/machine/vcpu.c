/* vcpu.c - the host thread of one vCPU */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "machine/machine_priv.h"

void vcpu_request(struct vcpu *v, u32 set, u32 clear)
{
    pthread_mutex_lock(&v->mutex);
    v->requests = (v->requests | set) & ~clear;
    pthread_cond_broadcast(&v->wake);
    pthread_mutex_unlock(&v->mutex);
    if (set && v->engine)
        v->m->engine->vcpu_kick(v->engine);
}

void vcpu_sipi(struct vcpu *v, u8 vector)
{
    pthread_mutex_lock(&v->mutex);
    v->sipi_vector = vector;
    pthread_mutex_unlock(&v->mutex);
    vcpu_request(v, VCPU_SIPI, 0);
}

/* While the board is being built there is nobody to tell: a vCPU looks before its first
 * instruction. */
void vcpu_attention(struct vcpu *v)
{
    if (!v->engine)
        return;
    v->m->engine->vcpu_attention(v->engine);
    pthread_mutex_lock(&v->mutex);
    v->attention = true;
    pthread_cond_signal(&v->wake);
    pthread_mutex_unlock(&v->mutex);
}

void vcpu_wait_parked(struct vcpu *v)
{
    pthread_mutex_lock(&v->mutex);
    while (v->started && !v->parked)
        pthread_cond_wait(&v->parked_changed, &v->mutex);
    pthread_mutex_unlock(&v->mutex);
}

/* INIT and SIPI (SDM vol. 3 9.4.2): the boot processor starts anew at once, others wait. */
static void enter_init(struct vcpu *v)
{
    struct x86_state s;
    struct err e = {0};

    v->m->engine->vcpu_get_state(v->engine, &s);
    x86_state_reset(&s, true);
    v->wait_sipi = v->id != 0;
    s.activity = v->wait_sipi ? X86_WAIT_SIPI : X86_ACTIVE;
    if (v->m->engine->vcpu_set_state(v->engine, &s, &e))
        machine_end(v->m, MACHINE_FAILED, 0, &e);
}

static void enter_sipi(struct vcpu *v, u8 vector)
{
    struct x86_state s;
    struct err e = {0};

    if (!v->wait_sipi)
        return;
    v->wait_sipi = false;
    v->m->engine->vcpu_get_state(v->engine, &s);
    s.seg[X86_CS].sel = (u16)(vector << 8);
    s.seg[X86_CS].base = (u64)vector << 12;
    s.rip = 0;
    s.activity = X86_ACTIVE;
    if (v->m->engine->vcpu_set_state(v->engine, &s, &e))
        machine_end(v->m, MACHINE_FAILED, 0, &e);
}

/* Serves requests and sleeps as long as there is nothing to run. False: the thread ends. */
static bool ready_to_run(struct vcpu *v, bool halted)
{
    u32 todo;
    u8 vector;

    pthread_mutex_lock(&v->mutex);
    for (;;) {
        bool parked = v->requests & VCPU_PARK;

        if (v->parked != parked) {
            v->parked = parked;
            pthread_cond_broadcast(&v->parked_changed);
        }
        if (v->requests & VCPU_STOP)
            break;
        if (!parked && v->requests & (VCPU_INIT | VCPU_SIPI))
            break;
        if (!parked && !v->wait_sipi && (!halted || v->attention))
            break;
        pthread_cond_wait(&v->wake, &v->mutex);
    }
    if (halted)
        v->attention = false;
    todo = v->requests;
    vector = v->sipi_vector;
    v->requests &= ~(VCPU_INIT | VCPU_SIPI);
    pthread_mutex_unlock(&v->mutex);

    if (todo & VCPU_STOP)
        return false;
    if (todo & VCPU_INIT)
        enter_init(v);
    if (todo & VCPU_SIPI)
        enter_sipi(v, vector);
    return true;
}

/* Runs until the vCPU leaves guest code; true when it halted. */
static bool run_once(struct vcpu *v)
{
    struct vcpu_exit exit = {.reason = VCPU_EXIT_FAILED};

    v->m->engine->vcpu_run(v->engine, &exit);
    switch (exit.reason) {
    case VCPU_EXIT_KICKED: return false;
    case VCPU_EXIT_HALTED: return true;
    case VCPU_EXIT_SHUTDOWN: machine_end(v->m, MACHINE_TRIPLE_FAULT, 0, NULL); return false;
    case VCPU_EXIT_DONE: machine_end(v->m, MACHINE_SCRIPT_DONE, 0, NULL); return false;
    case VCPU_EXIT_FAILED: machine_end(v->m, MACHINE_FAILED, 0, &exit.err); return false;
    }
    return false;
}

static void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    bool halted = false;

    pc_cpu_enter(v->m->pc, v->id);
    while (ready_to_run(v, halted))
        halted = !v->wait_sipi && run_once(v);

    pthread_mutex_lock(&v->mutex);
    v->parked = true;
    pthread_cond_broadcast(&v->parked_changed);
    pthread_mutex_unlock(&v->mutex);
    return NULL;
}

void vcpu_init(struct vcpu *v, struct machine *m, unsigned id)
{
    v->m = m;
    v->id = id;
    v->wait_sipi = id != 0;
    pthread_mutex_init(&v->mutex, NULL);
    pthread_cond_init(&v->wake, NULL);
    pthread_cond_init(&v->parked_changed, NULL);
}

void vcpu_fini(struct vcpu *v)
{
    if (v->engine)
        v->m->engine->vcpu_destroy(v->engine);
    pthread_cond_destroy(&v->parked_changed);
    pthread_cond_destroy(&v->wake);
    pthread_mutex_destroy(&v->mutex);
}

/* vCPU threads take no signals that belong to the process as a whole. */
static void block_signals(sigset_t *old)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t set;

    sigfillset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_SETMASK, &set, old);
}

int vcpu_start(struct vcpu *v, struct err *e)
{
    sigset_t old;
    char name[16];
    int rc;

    block_signals(&old);
    rc = pthread_create(&v->thread, NULL, vcpu_thread, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return err_set(e, rc, "vCPU %u: cannot start its thread: %s", v->id, strerror(rc));
    v->started = true;
    snprintf(name, sizeof(name), "vcpu%u", v->id);
    pthread_setname_np(v->thread, name);
    return 0;
}

void vcpu_join(struct vcpu *v)
{
    if (!v->started)
        return;
    vcpu_request(v, VCPU_STOP, 0);
    pthread_join(v->thread, NULL);
    v->started = false;
}
