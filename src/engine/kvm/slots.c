/* slots.c - guest memory as the kernel's memory slots, and its log of written pages */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/kvm/kvm.h"

static int set_region(struct engine_vm *vm, unsigned index, const struct kvm_slot *s)
{
    struct kvm_userspace_memory_region r = {
        .slot = index,
        .flags = (s->rom ? KVM_MEM_READONLY : 0) | (s->logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = s->gpa,
        .memory_size = s->size,
        .userspace_addr = (u64)(uintptr_t)s->hva,
    };
    int rc = kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);

    if (rc) {
        vm->slot_failed = true;
        log_msg(LOG_ERROR, "engine kvm: memory slot at 0x%llx, %llu bytes: %s",
                (unsigned long long)s->gpa, (unsigned long long)s->size, strerror(-rc));
    }
    return rc;
}

static bool same(const struct kvm_slot *a, const struct kvm_slot *b)
{
    return a->gpa == b->gpa && a->size == b->size && a->hva == b->hva && a->rom == b->rom;
}

static bool wanted(const struct kvm_slot *s, const struct kvm_slot *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (same(s, &want[i]))
            return true;
    return false;
}

static int drop_slot(struct engine_vm *vm, unsigned index)
{
    struct kvm_slot gone = vm->slot[index];

    gone.size = 0;
    gone.logged = false;
    vm->slot[index].size = 0;
    return set_region(vm, index, &gone);
}

static int add_slot(struct engine_vm *vm, const struct kvm_slot *s)
{
    for (unsigned i = 0; i < MEM_SLOTS_MAX; i++)
        if (!vm->slot[i].size) {
            vm->slot[i] = *s;
            vm->slot[i].logged = vm->logging && !s->rom;
            return set_region(vm, i, &vm->slot[i]);
        }
    return -ENOSPC;
}

/* Slots as mem has them now. A page's address tells the slot's, which is in one piece. */
static size_t list_wanted(struct engine_vm *vm, struct kvm_slot *want)
{
    struct mem_slot_info info[MEM_SLOTS_MAX];
    size_t found = 0, n = MIN(mem_slots(vm->cfg.mem, info, MEM_SLOTS_MAX), (size_t)MEM_SLOTS_MAX);

    for (size_t i = 0; i < n; i++) {
        unsigned flags;
        void *hva = mem_page(vm->cfg.mem, info[i].gpa, false, &flags);

        if (hva)
            want[found++] = (struct kvm_slot){.gpa = info[i].gpa,
                                              .size = info[i].size,
                                              .hva = hva,
                                              .rom = info[i].flags & MEM_ROM};
    }
    return found;
}

static bool present(const struct engine_vm *vm, const struct kvm_slot *s)
{
    for (unsigned i = 0; i < MEM_SLOTS_MAX; i++)
        if (vm->slot[i].size && same(&vm->slot[i], s))
            return true;
    return false;
}

int kvm_slots_sync(struct engine_vm *vm)
{
    struct kvm_slot want[MEM_SLOTS_MAX];
    int rc = 0;

    lock_take(&vm->slot_lock);
    size_t n = list_wanted(vm, want);
    for (unsigned i = 0; i < MEM_SLOTS_MAX && !rc; i++)
        if (vm->slot[i].size && !wanted(&vm->slot[i], want, n))
            rc = drop_slot(vm, i);
    for (size_t i = 0; i < n && !rc; i++)
        if (!present(vm, &want[i]))
            rc = add_slot(vm, &want[i]);
    lock_drop(&vm->slot_lock);
    return rc;
}

/* The kernel's log of a slot, which it clears. */
static int fetch_locked(struct engine_vm *vm, unsigned index, u64 *bits)
{
    struct kvm_dirty_log log = {.slot = index, .dirty_bitmap = bits};

    return kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

static u64 bitmap_words(u64 size)
{
    return ((size >> PAGE_SHIFT) + 63) / 64;
}

static void forget_locked(struct engine_vm *vm, unsigned index)
{
    u64 *bits = calloc(bitmap_words(vm->slot[index].size), sizeof(*bits));

    /* A page more in the log is only slower. */
    if (bits)
        (void)fetch_locked(vm, index, bits);
    free(bits);
}

void kvm_slots_log(struct engine_vm *vm, bool on)
{
    lock_take(&vm->slot_lock);
    vm->logging = on;
    for (unsigned i = 0; i < MEM_SLOTS_MAX; i++) {
        struct kvm_slot *s = &vm->slot[i];

        if (!s->size || s->rom)
            continue;
        if (s->logged && on)
            forget_locked(vm, i);
        if (s->logged == on)
            continue;
        s->logged = on;
        if (set_region(vm, i, s))
            break;
    }
    lock_drop(&vm->slot_lock);
}

/* Without an answer of the kernel all pages count as written. */
static void add_bits(u64 *bitmap, const u64 *bits, u64 pages)
{
    for (u64 i = 0; i * 64 < pages; i++) {
        u64 left = pages - i * 64, all = left < 64 ? BIT64(left) - 1 : ~0ull;
        u64 word = bits ? bits[i] & all : all;

        if (word)
            __atomic_fetch_or(&bitmap[i], word, __ATOMIC_SEQ_CST);
    }
}

void kvm_slots_collect(struct engine_vm *vm, u64 gpa, u64 size, u64 *bitmap)
{
    u64 *bits = calloc(bitmap_words(size), sizeof(*bits));
    bool found = false, lost = !bits;

    lock_take(&vm->slot_lock);
    for (unsigned i = 0; i < MEM_SLOTS_MAX; i++) {
        const struct kvm_slot *s = &vm->slot[i];

        if (s->gpa != gpa || s->size != size || !s->logged)
            continue;
        found = true;
        lost = lost || fetch_locked(vm, i, bits);
    }
    lock_drop(&vm->slot_lock);
    if (found)
        add_bits(bitmap, lost ? NULL : bits, size >> PAGE_SHIFT);
    free(bits);
}
