/* script.c - the engine that replays accesses and steps the clock instead of running code */
#include "engine/script/script.h"

#include <errno.h>
#include <stdlib.h>

static enum engine_verdict probe(struct err *e)
{
    return ENGINE_WORKS;
}

/* A script that does not parse still makes a VM: the message belongs to whoever runs it. */
static int vm_create(const struct engine_vm_config *cfg, struct engine_vm **out, struct err *e)
{
    struct engine_vm *vm;
    if (!cfg->script)
        return err_set(e, EINVAL, "engine script needs a script");
    vm = calloc(1, sizeof(*vm));
    if (!vm)
        return err_set(e, ENOMEM, "engine script: no memory");
    vm->cfg = *cfg;
    if (script_parse(cfg->script, &vm->program, &vm->parse_err) == -ENOMEM) {
        free(vm);
        return err_set(e, ENOMEM, "engine script: no memory for the script");
    }
    *out = vm;
    return 0;
}

static void vm_destroy(struct engine_vm *vm)
{
    if (!vm)
        return;
    script_free(&vm->program);
    free(vm);
}

static int vcpu_create(struct engine_vm *vm, unsigned id, const struct vcpu_env *env,
                       struct engine_vcpu **out, struct err *e)
{
    struct engine_vcpu *v;
    if (id >= VCPUS_MAX || vm->vcpu[id])
        return err_set(e, EINVAL, "engine script: vCPU %u exists or is beyond the limit", id);
    v = calloc(1, sizeof(*v));
    if (!v)
        return err_set(e, ENOMEM, "engine script: no memory for a vCPU");
    v->vm = vm;
    v->id = id;
    v->env = *env;
    x86_state_reset(&v->state, false);
    vm->vcpu[id] = v;
    *out = v;
    return 0;
}

static void vcpu_destroy(struct engine_vcpu *v)
{
    if (!v)
        return;
    v->vm->vcpu[v->id] = NULL;
    free(v);
}

/* vCPU 0 runs the whole script, on behalf of whichever vCPU a `cpu` statement names; the others
 * sleep. */
static void vcpu_run(struct engine_vcpu *v, struct vcpu_exit *exit)
{
    struct engine_vm *vm = v->vm;
    *exit = (struct vcpu_exit){.reason = VCPU_EXIT_HALTED};
    if (__atomic_exchange_n(&v->kicked, false, __ATOMIC_ACQ_REL)) {
        exit->reason = VCPU_EXIT_KICKED;
        return;
    }
    if (v->id)
        return;
    if (vm->parse_err.code) {
        exit->reason = VCPU_EXIT_FAILED;
        exit->err = vm->parse_err;
        return;
    }
    while (vm->next < vm->program.n) {
        if (script_step(vm, &exit->err)) {
            exit->reason = VCPU_EXIT_FAILED;
            return;
        }
        if (__atomic_exchange_n(&v->kicked, false, __ATOMIC_ACQ_REL)) {
            exit->reason = VCPU_EXIT_KICKED;
            return;
        }
    }
    exit->reason = VCPU_EXIT_DONE;
}

static void vcpu_kick(struct engine_vcpu *v)
{
    __atomic_store_n(&v->kicked, true, __ATOMIC_RELEASE);
}

static void vcpu_attention(struct engine_vcpu *v)
{
}

static void vcpu_get_state(struct engine_vcpu *v, struct x86_state *s)
{
    *s = v->state;
}

static int vcpu_set_state(struct engine_vcpu *v, const struct x86_state *s, struct err *e)
{
    int ret = x86_state_check(s, e);
    if (!ret)
        v->state = *s;
    return ret;
}

const struct engine engine_script = {
    .name = "script",
    .summary = "replays port and MMIO accesses for device tests; runs no processor",
    .probe = probe,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = vcpu_run,
    .vcpu_kick = vcpu_kick,
    .vcpu_attention = vcpu_attention,
    .vcpu_get_state = vcpu_get_state,
    .vcpu_set_state = vcpu_set_state,
};
