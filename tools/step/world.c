/* world.c - sparse RAM with a record of what the guest changed, and the ops table over it */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "world.h"

/* --- touched pages ---------------------------------------------------------------------------- */

static struct world_page *touch(struct world *w, u64 gpa)
{
    u64 frame = gpa >> 12;

    if (w->page_slot[frame])
        return &w->pages[w->page_slot[frame] - 1];
    if (w->npages == WORLD_PAGES_MAX) {
        w->too_many_pages = true;
        return NULL;
    }
    struct world_page *p = &w->pages[w->npages++];
    p->gpa = frame << 12;
    p->before = NULL;
    w->page_slot[frame] = w->npages;
    return p;
}

static bool world_page(void *arg, u64 gpa, bool write, struct x86_page *out)
{
    struct world *w = arg;

    gpa &= w->addr_mask;
    if (gpa >= WORLD_RAM)
        return false;
    out->hva = w->ram + gpa;
    out->writable = true;
    out->code = false;
    if (!write)
        return true;
    struct world_page *p = touch(w, gpa);
    if (!p)
        return false;
    if (w->running && !p->before) {
        p->before = malloc(4096);
        ASSERT(p->before);
        memcpy(p->before, out->hva, 4096);
    }
    return true;
}

/* --- the rest of the world -------------------------------------------------------------------- */

static u64 world_mmio_read(void *arg, u64 gpa, unsigned size)
{
    return size == 8 ? ~0ull : (1ull << (size * 8)) - 1;
}

static void world_mmio_write(void *arg, u64 gpa, unsigned size, u64 val)
{
}

static void world_code_write(void *arg, u64 gpa, unsigned size)
{
}

static void record_io(struct world *w, u16 port, unsigned size, bool out, u64 val)
{
    if (w->nio < WORLD_IO_MAX)
        w->io[w->nio++] = (struct world_io){.port = port, .size = size, .out = out, .val = val};
}

static u64 world_io_in(void *arg, u16 port, unsigned size)
{
    struct world *w = arg;
    u64 val = 0;

    for (unsigned i = 0; i < size; i++)
        val |= (u64)w->in_ports[(u16)(port + i)] << (8 * i);
    record_io(w, port, size, false, val);
    return val;
}

static void world_io_out(void *arg, u16 port, unsigned size, u64 val)
{
    record_io(arg, port, size, true, val);
}

static u64 world_tsc(void *arg)
{
    struct world *w = arg;
    return w->tsc += 1000;
}

static u64 world_cr8_read(void *arg)
{
    return 0;
}

static void world_cr8_write(void *arg, u64 val)
{
}

static int world_msr_read(void *arg, u32 msr, u64 *val)
{
    if (msr != 0x1b)
        return -EINVAL;
    *val = 0xfee00900; /* the APIC base of a bootstrap processor; there is no APIC behind it */
    return 0;
}

static int world_msr_write(void *arg, u32 msr, u64 val)
{
    return msr == 0x1b ? 0 : -EINVAL;
}

static bool world_irq_pending(void *arg)
{
    return false;
}

static int world_irq_ack(void *arg)
{
    return -1;
}

static bool world_nmi_take(void *arg)
{
    return false;
}

static void world_ferr(void *arg, bool asserted)
{
}

static int world_random(void *arg, u64 *val)
{
    struct world *w = arg;

    w->random = w->random * 6364136223846793005ull + 1442695040888963407ull;
    *val = w->random;
    return 0;
}

static const struct x86_ops world_ops = {
    .page = world_page,
    .mmio_read = world_mmio_read,
    .mmio_write = world_mmio_write,
    .code_write = world_code_write,
    .io_in = world_io_in,
    .io_out = world_io_out,
    .tsc = world_tsc,
    .cr8_read = world_cr8_read,
    .cr8_write = world_cr8_write,
    .msr_read = world_msr_read,
    .msr_write = world_msr_write,
    .irq_pending = world_irq_pending,
    .irq_ack = world_irq_ack,
    .nmi_take = world_nmi_take,
    .ferr = world_ferr,
    .random = world_random,
};

/* --- cases ------------------------------------------------------------------------------------ */

void world_reset(struct world *w)
{
    for (unsigned i = 0; i < w->npages; i++) {
        struct world_page *p = &w->pages[i];
        memset(w->ram + p->gpa, 0, 4096);
        free(p->before);
        w->page_slot[p->gpa >> 12] = 0;
    }
    w->npages = 0;
    w->too_many_pages = false;
    w->running = false;
    for (unsigned i = 0; i < w->nin_changed; i++)
        w->in_ports[w->in_changed[i]] = 0xff;
    w->nin_changed = 0;
    w->nio = 0;
    w->tsc = 0;
    w->random = 1;
}

int world_poke(struct world *w, u64 gpa, const void *buf, u64 len)
{
    const u8 *src = buf;

    while (len) {
        u64 at = gpa & w->addr_mask;
        u64 n = MIN(len, 4096 - (at & 4095));
        if (at >= WORLD_RAM || !touch(w, at))
            return -ERANGE;
        memcpy(w->ram + at, src, n);
        gpa += n;
        src += n;
        len -= n;
    }
    return 0;
}

void world_set_port(struct world *w, u16 port, u8 val)
{
    if (w->nin_changed == ARRAY_SIZE(w->in_changed))
        return;
    w->in_changed[w->nin_changed++] = port;
    w->in_ports[port] = val;
}

void world_begin(struct world *w)
{
    w->running = true;
}

static int by_address(const void *a, const void *b)
{
    const struct world_page *x = a, *y = b;
    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

void world_changes(struct world *w, void (*fn)(void *arg, u64 gpa, u8 before, u8 now), void *arg)
{
    qsort(w->pages, w->npages, sizeof(w->pages[0]), by_address);
    for (unsigned i = 0; i < w->npages; i++) {
        struct world_page *p = &w->pages[i];
        const u8 *now = w->ram + p->gpa;
        w->page_slot[p->gpa >> 12] = i + 1;
        if (!p->before || p->gpa - w->hidden_gpa < w->hidden_bytes)
            continue;
        for (unsigned j = 0; j < 4096; j++)
            if (now[j] != p->before[j])
                fn(arg, p->gpa + j, p->before[j], now[j]);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void *reserve(u64 bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int world_set_model(struct world *w, const char *model, struct err *e)
{
    struct x86_cpuid_model m;

    int rc = x86_cpuid_model(&m, model, 1, e);
    if (rc)
        return rc;
    w->model = m;
    x86_cpu_fini(&w->cpu);
    x86_cpu_init(&w->cpu, &world_ops, w, &w->model);
    return 0;
}

int world_create(struct world **out, const char *model, struct err *e)
{
    struct world *w = aligned_alloc(64, align_up(sizeof(*w), 64));
    if (!w)
        return err_set(e, ENOMEM, "no memory");
    memset(w, 0, sizeof(*w));
    w->addr_mask = ~0ull;
    w->ram = reserve(WORLD_RAM);
    w->page_slot = reserve((WORLD_RAM >> 12) * sizeof(u32));
    w->pages = reserve(WORLD_PAGES_MAX * sizeof(struct world_page));
    if (!w->ram || !w->page_slot || !w->pages) {
        world_destroy(w);
        return err_set(e, ENOMEM, "cannot reserve address space for guest memory");
    }
    memset(w->in_ports, 0xff, sizeof(w->in_ports));
    w->random = 1;
    int rc = world_set_model(w, model, e);
    if (rc) {
        world_destroy(w);
        return rc;
    }
    *out = w;
    return 0;
}

void world_destroy(struct world *w)
{
    if (w->ram && w->page_slot && w->pages)
        world_reset(w);
    if (w->ram)
        munmap(w->ram, WORLD_RAM);
    if (w->page_slot)
        munmap(w->page_slot, (WORLD_RAM >> 12) * sizeof(u32));
    if (w->pages)
        munmap(w->pages, WORLD_PAGES_MAX * sizeof(struct world_page));
    x86_cpu_fini(&w->cpu);
    free(w);
}
