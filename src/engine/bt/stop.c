/* stop.c - one vCPU alone: changes that others must not see half done, or must not run into */
#include "engine/bt/stop.h"

/* A vCPU is `in` from bt_go_in to bt_go_out, but for the time it waits here: then it holds no
 * pointer into the code cache, no host address of guest memory and no lock. vcpu.in and vm.stopper
 * change under vm.stop_lock only; so none of this is on a hot path, and the one thing that
 * translated code looks at is X86_ATTN_CODE in its attn. */

void bt_join(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;

    lock_take(&vm->stop_lock);
    while (vm->stopper)
        lock_wait(&vm->stop_lock, &vm->stop_changed);
    lock_take(&vm->write_lock);
    v->next = vm->vcpus;
    vm->vcpus = v;
    vm->nvcpus++;
    lock_drop(&vm->write_lock);
    cache_share(vm->cache, vm->nvcpus > 1);
    lock_drop(&vm->stop_lock);
}

void bt_part(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;
    struct engine_vcpu **at;

    lock_take(&vm->stop_lock);
    while (vm->stopper)
        lock_wait(&vm->stop_lock, &vm->stop_changed);
    lock_take(&vm->write_lock);
    for (at = &vm->vcpus; *at && *at != v; at = &(*at)->next)
        ;
    if (*at) {
        *at = v->next;
        vm->nvcpus--;
    }
    lock_drop(&vm->write_lock);
    lock_drop(&vm->stop_lock);
}

void bt_go_in(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;

    lock_take(&vm->stop_lock);
    while (vm->stopper)
        lock_wait(&vm->stop_lock, &vm->stop_changed);
    v->in = true;
    lock_drop(&vm->stop_lock);
}

static void out_locked(struct engine_vcpu *v)
{
    v->in = false;
    if (v->vm->nvcpus > 1)
        pthread_cond_broadcast(&v->vm->stop_changed);
}

void bt_go_out(struct engine_vcpu *v)
{
    lock_take(&v->vm->stop_lock);
    out_locked(v);
    lock_drop(&v->vm->stop_lock);
}

void bt_let_stop(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;

    if (vm->nvcpus == 1)
        return;
    lock_take(&vm->stop_lock);
    if (vm->stopper) {
        out_locked(v);
        while (vm->stopper)
            lock_wait(&vm->stop_lock, &vm->stop_changed);
        v->in = true;
    }
    lock_drop(&vm->stop_lock);
}

static bool others_in_locked(const struct engine_vcpu *v)
{
    for (const struct engine_vcpu *o = v->vm->vcpus; o; o = o->next)
        if (o != v && o->in)
            return true;
    return false;
}

void bt_stop(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;

    if (vm->nvcpus == 1)
        return;
    lock_take(&vm->stop_lock);
    ASSERT(v->in && vm->stopper != v);
    out_locked(v); /* two that stop one another: the second lets the first go on */
    while (vm->stopper)
        lock_wait(&vm->stop_lock, &vm->stop_changed);
    vm->stopper = v;
    for (struct engine_vcpu *o = vm->vcpus; o; o = o->next)
        if (o != v && o->in)
            x86_attn_set(&o->cpu, X86_ATTN_CODE);
    while (others_in_locked(v))
        lock_wait(&vm->stop_lock, &vm->stop_changed);
    lock_drop(&vm->stop_lock);
    v->stats.stops++;
}

void bt_resume(struct engine_vcpu *v)
{
    struct engine_vm *vm = v->vm;

    if (vm->nvcpus == 1)
        return;
    lock_take(&vm->stop_lock);
    vm->stopper = NULL;
    v->in = true;
    pthread_cond_broadcast(&vm->stop_changed);
    lock_drop(&vm->stop_lock);
}

void bt_make_room(struct engine_vcpu *v)
{
    struct cache *c = v->vm->cache;

    lock_take(&c->lock);
    bool has = cache_has_room_locked(c);
    lock_drop(&c->lock);
    if (has)
        return;
    bt_stop(v);
    lock_take(&c->lock);
    if (!cache_has_room_locked(c)) /* nobody was faster */
        cache_make_room_alone_locked(c);
    lock_drop(&c->lock);
    bt_resume(v);
}
