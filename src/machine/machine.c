/* machine.c - a virtual machine from power-on to its end */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/machine_priv.h"

void machine_end(struct machine *m, enum machine_outcome_kind kind, int status, const struct err *e)
{
    bool first;

    pthread_mutex_lock(&m->end_mutex);
    first = !m->ended;
    if (first) {
        m->ended = true;
        m->outcome = (struct machine_outcome){.kind = kind, .status = status};
        if (e)
            m->outcome.err = *e;
    }
    pthread_mutex_unlock(&m->end_mutex);
    if (!first)
        return;
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_request(&m->vcpu[i], VCPU_STOP, 0);
    loop_stop(m->loop);
}

void machine_run(struct machine *m, struct machine_outcome *out)
{
    struct err e = {0};
    int rc = 0;

    rc = pc_irqchip_start(m->pc, &e);
    for (unsigned i = 0; i < m->cpus && !rc; i++)
        rc = vcpu_start(&m->vcpu[i], &e);
    if (!rc) {
        rc = loop_run(m->loop);
        if (rc)
            err_set(&e, -rc, "event loop: %s", strerror(-rc));
    }
    if (rc)
        machine_end(m, MACHINE_FAILED, 0, &e);
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_join(&m->vcpu[i]);
    clock_pause(m->clock);
    ASSERT(m->ended);
    *out = m->outcome;
}

void machine_stop(struct machine *m, int status)
{
    machine_end(m, MACHINE_STOPPED, status, NULL);
}

bool machine_power_button(struct machine *m)
{
    return pc_power_button(m->pc);
}

static void park(struct machine *m, int delta)
{
    bool on;

    pthread_mutex_lock(&m->end_mutex);
    m->park_count += delta;
    on = m->park_count > 0;
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_request(&m->vcpu[i], on ? VCPU_PARK : 0, on ? 0 : VCPU_PARK);
    pthread_mutex_unlock(&m->end_mutex);
}

void machine_throttle(struct machine *m, bool on)
{
    park(m, on ? 1 : -1);
}

void machine_pause(struct machine *m)
{
    struct err e = {0};

    park(m, 1);
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_wait_parked(&m->vcpu[i]);
    devices_pause(m);
    if (pc_irqchip_stop(m->pc, &e))
        machine_end(m, MACHINE_FAILED, 0, &e);
    clock_pause(m->clock);
}

void machine_resume(struct machine *m)
{
    struct err e = {0};

    if (pc_irqchip_start(m->pc, &e))
        machine_end(m, MACHINE_FAILED, 0, &e);
    clock_resume(m->clock);
    devices_resume(m);
    park(m, -1);
}

/* ---- snapshots ---- */

static void record_saving(void *obj)
{
    struct machine *m = container_of((struct machine_record *)obj, struct machine, record);

    m->record = (struct machine_record){clock_now_ns(m->clock), m->ram_bytes, m->cpus};
}

static void record_loaded(void *obj)
{
    struct machine *m = container_of((struct machine_record *)obj, struct machine, record);

    clock_set_ns(m->clock, m->record.now_ns);
}

static int record_check(const void *scratch, struct err *e)
{
    const struct machine_record *r = scratch;

    if (r->cpus < 1 || r->cpus > VCPUS_MAX)
        return err_set(e, EINVAL, "%u processors", r->cpus);
    if (r->ram_bytes < RAM_MIN || r->ram_bytes > RAM_MAX)
        return err_set(e, EINVAL, "%llu bytes of memory", (unsigned long long)r->ram_bytes);
    return 0;
}

static const struct snap_field record_fields[] = {
    SNAP_U64(struct machine_record, now_ns),
    SNAP_U64(struct machine_record, ram_bytes),
    SNAP_U32(struct machine_record, cpus),
    SNAP_END,
};

static const struct snap_desc record_snap = {
    .name = "machine",
    .version = 1,
    .size = sizeof(struct machine_record),
    .fields = record_fields,
    .check = record_check,
    .loaded = record_loaded,
    .saving = record_saving,
};

/* The machine comes first: its time must be right when chips arm their timers. */
static struct snap_item *snap_items(struct machine *m, size_t *n)
{
    size_t board = pc_snap_items(m->pc, NULL, 0), devices = devices_snap_items(m, NULL, 0);
    struct snap_item *items = calloc(1 + board + devices + m->cpus, sizeof(*items));

    if (!items)
        return NULL;
    items[0] = (struct snap_item){&record_snap, 0, &m->record};
    pc_snap_items(m->pc, items + 1, board);
    devices_snap_items(m, items + 1 + board, devices);
    *n = 1 + board + devices;
    for (unsigned i = 0; i < m->cpus; i++)
        items[(*n)++] = (struct snap_item){&x86_state_snap, i, &m->vcpu[i].saved};
    return items;
}

int machine_save(struct machine *m, struct snap_buf *out, struct err *e)
{
    size_t n;
    struct snap_item *items;
    int rc = devices_savable(m, e);

    if (rc)
        return rc;
    items = snap_items(m, &n);
    if (!items)
        return err_set(e, ENOMEM, "snapshot: no memory for the list of records");
    for (unsigned i = 0; i < m->cpus; i++)
        m->engine->vcpu_get_state(m->vcpu[i].engine, &m->vcpu[i].saved);
    pc_snap_begin(m->pc);
    rc = snap_save(out, items, n, e);
    pc_snap_end(m->pc);
    free(items);
    return rc;
}

int machine_load(struct machine *m, const void *data, size_t len, struct err *e)
{
    size_t n;
    struct snap_item *items = snap_items(m, &n);
    int rc;

    if (!items)
        return err_set(e, ENOMEM, "snapshot: no memory for the list of records");
    pc_snap_begin(m->pc);
    rc = snap_load(data, len, items, n, e);
    pc_snap_end(m->pc);
    free(items);
    for (unsigned i = 0; i < m->cpus && !rc; i++) {
        struct vcpu *v = &m->vcpu[i];

        v->wait_sipi = !m->irqchip && v->saved.activity == X86_WAIT_SIPI;
        rc = m->engine->vcpu_set_state(v->engine, &v->saved, e);
    }
    return rc;
}

int machine_cpu_state(struct machine *m, unsigned cpu, struct x86_state *s)
{
    if (cpu >= m->cpus)
        return -ENOENT;
    m->engine->vcpu_get_state(m->vcpu[cpu].engine, s);
    return 0;
}

void machine_stats(struct machine *m, void (*emit)(void *arg, const char *name, u64 value),
                   void *arg)
{
    if (m->engine->stats)
        m->engine->stats(m->vm, emit, arg);
}

void machine_profile(struct machine *m, void (*emit)(void *arg, const char *line), void *arg)
{
    if (m->engine->profile)
        m->engine->profile(m->vm, emit, arg);
}

/* ---- parts ---- */

struct loop *machine_loop(struct machine *m)
{
    return m->loop;
}

struct serial *machine_serial(struct machine *m, unsigned n)
{
    return n < MACHINE_SERIALS ? m->serial[n] : NULL;
}

const char *machine_cpu_model(const struct machine *m)
{
    return m->cpuid.name;
}
