/* setup.c - building a virtual machine, and taking it apart */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "dev/fwcfg.h"
#include "machine/bytes.h"
#include "machine/layout.h"
#include "machine/machine_priv.h"
#include "machine/pc_map.h"

/* ---- what the board tells us: any thread, board locks held ---- */

static void on_attention(void *ctx, unsigned cpu)
{
    struct machine *m = ctx;

    vcpu_attention(&m->vcpu[cpu]);
}

static void on_init(void *ctx, unsigned cpu)
{
    struct machine *m = ctx;

    vcpu_request(&m->vcpu[cpu], VCPU_INIT, VCPU_SIPI);
}

static void on_sipi(void *ctx, unsigned cpu, u8 vector)
{
    struct machine *m = ctx;

    vcpu_sipi(&m->vcpu[cpu], vector);
}

static void on_reset(void *ctx, enum pc_reset_kind kind)
{
    machine_end(ctx, MACHINE_RESET, 0, NULL);
}

static void on_power_off(void *ctx)
{
    machine_end(ctx, MACHINE_POWER_OFF, 0, NULL);
}

static void on_debug_exit(void *ctx, int status)
{
    machine_end(ctx, MACHINE_DEBUG_EXIT, status, NULL);
}

/* With a crash kernel loaded the guest goes on to write its dump. */
static void on_panic(void *ctx, unsigned event)
{
    if (event & 1)
        machine_end(ctx, MACHINE_PANIC, 0, NULL);
}

static int host_random(void *ctx, u64 *val)
{
    return getrandom(val, sizeof(*val), GRND_NONBLOCK) == sizeof(*val) ? 0 : -EAGAIN;
}

static void throttle(void *ctx, bool on)
{
    machine_throttle(ctx, on);
}

/* ---- building ---- */

static int best_cpuid(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    if (cfg->cpu_model)
        return x86_cpuid_model(&m->cpuid, cfg->cpu_model, cfg->cpus, e);
    if (x86_cpuid_model(&m->cpuid, "ring3-v3", cfg->cpus, NULL) == 0)
        return 0;
    return x86_cpuid_model(&m->cpuid, "ring3-v2", cfg->cpus, e);
}

/* What a guest has seen of its processors must stay. */
static int same_cpuid(struct x86_cpuid_model *model, const struct machine_cpuid *was, struct err *e)
{
    for (unsigned i = 0; i < X86_FEATURES; i++)
        if ((was->features[i / 64] & ~model->features[i / 64]) >> (i % 64) & 1)
            return err_set(e, EINVAL,
                           "the snapshot's processors have %s, which this engine does not offer "
                           "here: try another (-e)",
                           x86_feature_name((enum x86_feature)i));
    if (was->arch_capabilities & ~model->arch_capabilities)
        return err_set(e, EINVAL,
                       "the snapshot's guest relies on its processor to be free of flaws that this "
                       "one has: try another engine (-e)");
    memcpy(model->features, was->features, sizeof(model->features));
    model->arch_capabilities = was->arch_capabilities;
    return 0;
}

static int make_cpuid(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    int rc = best_cpuid(m, cfg, e);

    if (!rc && m->engine->cpuid_limit)
        rc = m->engine->cpuid_limit(&m->cpuid, e);
    return rc || !cfg->restore ? rc : same_cpuid(&m->cpuid, cfg->restore, e);
}

static int make_ram(struct machine *m, struct err *e)
{
    u64 low = MIN(m->ram_bytes, MMIO_HOLE_GPA);
    int rc;

    rc = e820_pc(&m->map, m->ram_bytes, e);
    if (!rc)
        rc = mem_create(&m->mem, e);
    if (!rc)
        rc = mem_add_ram(m->mem, 0, VIDEO_HOLE_GPA, e);
    if (!rc)
        rc = mem_add_ram(m->mem, OPTION_ROM_GPA, low - OPTION_ROM_GPA, e);
    if (!rc && m->ram_bytes > low)
        rc = mem_add_ram(m->mem, ABOVE_4G_GPA, m->ram_bytes - low, e);
    return rc;
}

static int make_serials(struct machine *m, const struct machine_config *cfg, struct pc_config *pc,
                        struct err *e)
{
    for (unsigned i = 0; i < MACHINE_SERIALS; i++) {
        int rc;

        if (!cfg->serial[i])
            continue;
        rc = serial_create(&m->serial[i], m->loop, throttle, m, e);
        if (rc)
            return rc;
        serial_backend(m->serial[i], &pc->com[i]);
    }
    return 0;
}

static int make_board(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    u64 low = MIN(m->ram_bytes, MMIO_HOLE_GPA);
    struct pc_config pc = {
        .cpus = m->cpus,
        .phys_bits = m->cpuid.phys_bits,
        .mem = m->mem,
        .pio = m->pio,
        .mmio = m->mmio,
        .clock = m->clock,
        .ram_below_4g = low,
        .ram_above_4g = m->ram_bytes - low,
        .testdev = cfg->testdev,
        .pvpanic = true,
        .debug_exit_port = cfg->debug_exit_port,
        .ctx = m,
        .attention = on_attention,
        .init = on_init,
        .sipi = on_sipi,
        .reset = on_reset,
        .power_off = on_power_off,
        .debug_exit = on_debug_exit,
        .panic = on_panic,
    };
    int rc;

    memcpy(pc.debug, cfg->debug, sizeof(pc.debug));
    rc = make_serials(m, cfg, &pc, e);
    if (!rc)
        rc = pc_create(&pc, &m->pc, e);
    for (unsigned i = 0; i < MACHINE_SERIALS && !rc; i++)
        if (m->serial[i])
            serial_attach(m->serial[i], m->pc, i);
    return rc ? rc : devices_create(m, cfg, e);
}

static int attach_engine(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    m->irqchip = pc_engine_attach(m->pc, m->engine, m->vm);
    if (!m->irqchip && cfg->irqchip == IRQCHIP_ENGINE)
        return err_set(e, EINVAL,
                       "engine %s has no interrupt controllers of its own: use --irqchip user",
                       m->engine->name);
    for (unsigned i = 0; i < m->cpus && m->irqchip; i++)
        m->vcpu[i].wait_sipi = false;
    return 0;
}

static int make_vcpus(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    struct engine_vm_config vm = {
        .mem = m->mem,
        .pio = m->pio,
        .mmio = m->mmio,
        .cpuid = &m->cpuid,
        .script = cfg->script,
        .bt = cfg->bt,
        .irqchip = cfg->irqchip,
        .clock = m->clock,
        .step = clock_step,
    };
    int rc = m->engine->vm_create(&vm, &m->vm, e);

    for (unsigned i = 0; i < m->cpus && !rc; i++) {
        pc_vcpu_env(m->pc, i, &m->vcpu[i].env);
        m->vcpu[i].env.random = host_random;
        rc = m->engine->vcpu_create(m->vm, i, &m->vcpu[i].env, &m->vcpu[i].engine, e);
    }
    return rc ? rc : attach_engine(m, cfg, e);
}

/* The map for a firmware, which asks for it under this name: RAM only, as struct e820entry. */
static int offer_map(struct machine *m, struct err *e)
{
    u64 low = MIN(m->ram_bytes, MMIO_HOLE_GPA);
    u8 rows[40] = {0};

    put_le64(rows + 8, low);
    put_le32(rows + 16, E820_RAM);
    put_le64(rows + 20, ABOVE_4G_GPA);
    put_le64(rows + 28, m->ram_bytes - low);
    put_le32(rows + 36, E820_RAM);
    return fwcfg_add_file(pc_fwcfg(m->pc), "etc/e820", rows, m->ram_bytes > low ? 40 : 20, e);
}

static int load_guest(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    struct boot_request r = {
        .mem = m->mem,
        .map = &m->map,
        .kernel = cfg->kernel,
        .module = cfg->module,
        .modules = cfg->modules,
        .cmdline = cfg->cmdline ? cfg->cmdline : "",
        .phys_bits = m->cpuid.phys_bits,
    };
    struct x86_state s;
    int rc;

    if (cfg->script || cfg->restore)
        return 0;
    if (cfg->bios.name) {
        rc = offer_map(m, e);
        if (!rc)
            rc = bios_load(m->mem, &cfg->bios, &s, e);
    } else {
        r.has_seed = getrandom(r.seed, sizeof(r.seed), GRND_NONBLOCK) == sizeof(r.seed);
        rc = machine_write_tables(m, cfg, &r.rsdp_gpa, e);
        if (!rc)
            rc = boot_load(&r, &s, e);
    }
    return rc ? rc : m->engine->vcpu_set_state(m->vcpu[0].engine, &s, e);
}

static int build(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    int rc = make_cpuid(m, cfg, e);

    if (!rc)
        rc = cfg->script ? clock_create_stepped(&m->clock, e) : clock_create_real(&m->clock, e);
    if (!rc)
        rc = loop_create(&m->loop, m->clock, e);
    if (!rc)
        rc = bus_create(&m->pio, "PIO", 0x10000, e);
    if (!rc)
        rc = bus_create(&m->mmio, "MMIO", BIT64(m->cpuid.phys_bits), e);
    if (!rc)
        rc = make_ram(m, e);
    if (!rc)
        rc = make_board(m, cfg, e);
    if (!rc)
        rc = make_vcpus(m, cfg, e);
    return rc ? rc : load_guest(m, cfg, e);
}

int machine_create(const struct machine_config *cfg, struct machine **out, struct err *e)
{
    struct machine *m;
    int rc;

    if (cfg->cpus < 1 || cfg->cpus > VCPUS_MAX)
        return err_set(e, EINVAL, "cpus: %u is not 1..%d", cfg->cpus, VCPUS_MAX);
    m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(e, ENOMEM, "no memory for a virtual machine");
    m->engine = cfg->engine;
    m->cpus = cfg->cpus;
    m->ram_bytes = cfg->ram_bytes;
    m->debug_exit_port = cfg->debug_exit_port;
    m->testdev = cfg->testdev;
    pthread_mutex_init(&m->end_mutex, NULL);
    m->vcpu = calloc(m->cpus, sizeof(*m->vcpu));
    for (unsigned i = 0; m->vcpu && i < m->cpus; i++)
        vcpu_init(&m->vcpu[i], m, i);
    rc = m->vcpu ? build(m, cfg, e) : err_set(e, ENOMEM, "no memory for %u vCPUs", m->cpus);
    if (rc) {
        machine_destroy(m);
        return rc;
    }
    *out = m;
    return 0;
}

void machine_destroy(struct machine *m)
{
    if (!m)
        return;
    for (unsigned i = 0; m->vcpu && i < m->cpus; i++)
        vcpu_fini(&m->vcpu[i]);
    if (m->pc)
        pc_engine_detach(m->pc);
    if (m->vm)
        m->engine->vm_destroy(m->vm);
    devices_stop(m);
    if (m->pc)
        pc_destroy(m->pc);
    devices_destroy(m);
    for (unsigned i = 0; i < MACHINE_SERIALS; i++)
        serial_destroy(m->serial[i]);
    ports_destroy(m);
    if (m->mem)
        mem_destroy(m->mem);
    if (m->mmio)
        bus_destroy(m->mmio);
    if (m->pio)
        bus_destroy(m->pio);
    if (m->loop)
        loop_destroy(m->loop);
    if (m->clock)
        clock_destroy(m->clock);
    free(m->vcpu);
    pthread_mutex_destroy(&m->end_mutex);
    free(m);
}
