/* run.c - `ring3 run`: boots a virtual machine, and runs a command in it */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/engines.h"
#include "cli/guest.h"
#include "cli/net.h"
#include "cli/options.h"
#include "cli/outcome.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/share.h"
#include "cli/tuning.h"
#include "cli/verbs.h"
#include "cli/vsock.h"
#include "machine/snapshot.h"
#include "x86/cpuid.h"

#define MEMORY_DEFAULT (512 * MiB)

struct run {
    struct options o;
    const struct engine_row *engine;
    char why[400]; /* engine chosen by `auto`, and why */
    struct disk_list disks;
    struct guest_image image;
    struct net_options net;
    struct shares shares;
    char agent_words[CMDLINE_MAX]; /* what the guest's agent is told on the kernel command line */
    struct machine_config cfg;
    struct snapshot_info snapshot; /* --restore */
    FILE *debug_file[DEBUG_PORTS_MAX];
    FILE *profile;
};

/* "help" as a value lists the choices; true when that was asked for. */
static bool listed_choices(const struct options *o)
{
    bool engines = o->engine && !strcmp(o->engine, "help");
    bool cpus = o->cpu && !strcmp(o->cpu, "help");

    if (engines)
        printf("%-10s%s\n", "auto", "the first of the following that works here (default)");
    for (const struct engine_row *row = engine_rows; engines && row->name; row++)
        printf("%-10s%s\n", row->name, row->summary);
    for (const struct x86_model_name *m = x86_model_names; cpus && m->name; m++)
        printf("%-10s%s\n", m->name, m->summary);
    return engines || cpus;
}

/* The option given that only engine bt has, or NULL. */
static const char *bt_option(const struct options *o)
{
    return o->bt ? "bt" : o->lockstep ? "lockstep" : o->profile ? "profile" : NULL;
}

static int check_tuning(const struct options *o, struct err *e)
{
    bool kvm = !o->engine || !strcmp(o->engine, "auto") || !strcmp(o->engine, "kvm");
    enum irqchip_choice irqchip;
    struct bt_config ignored;
    const char *name = bt_option(o);

    if (irqchip_parse(o->irqchip, &irqchip, e))
        return -EINVAL;
    if (irqchip == IRQCHIP_ENGINE && !kvm)
        return err_set(e, EINVAL, "option --irqchip kernel is for engine kvm, not for %s",
                       o->engine);
    if (!name)
        return 0;
    if (o->engine && strcmp(o->engine, "auto") && strcmp(o->engine, "bt"))
        return err_set(e, EINVAL, "option --%s is for engine bt, not for %s", name, o->engine);
    if (o->lockstep > UINT_MAX)
        return err_set(e, EINVAL, "option --lockstep: too large");
    return o->bt ? tuning_parse(o->bt, &ignored, e) : 0;
}

/* A snapshot holds the machine; what is outside of it comes from the command line again. */
static int check_snapshot(const struct options *o, struct err *e)
{
    int signo;
    u64 ms;

    if ((o->save != NULL) != (o->at != NULL))
        return err_set(e, EINVAL, "options --save FILE and --at SECONDS|SIGNAL go together");
    if (o->at && !save_parse_at(o->at, &signo, &ms))
        return err_set(e, EINVAL, "option --at: '%s' is neither seconds nor USR1 or USR2", o->at);
    if (o->save && (o->command || o->bios || o->script))
        return err_set(e, EINVAL,
                       "option --save: not with a command, --bios or --script in this version");
    if ((o->save || o->restore) && o->share.count)
        return err_set(
            e, EINVAL,
            "option --volume: a machine with folders of the host cannot be saved, as what "
            "the guest has open there is the host's");
    if (o->restore && (o->kernel || o->initrd || o->append || o->bios || o->script || o->command ||
                       o->cpu || o->debug_exit || o->testdev))
        return err_set(e, EINVAL,
                       "option --restore: kernel, processors and devices are in the file; it goes "
                       "with -e, --disk, --net and the like");
    return 0;
}

/* What cannot go together, before anything is opened. */
static int check_options(struct run *r, struct err *e)
{
    struct options *o = &r->o;
    bool script_engine = o->engine && !strcmp(o->engine, "script");

    if (o->rest_count)
        return err_set(e, EINVAL, "unexpected argument '%s' (a command goes after --)", o->rest[0]);
    if (o->command && !o->command[0])
        return err_set(e, EINVAL, "no command after --");
    if (o->bios && (o->kernel || o->initrd || o->append || o->command))
        return err_set(e, EINVAL,
                       "option --bios starts a ROM image: it goes without kernel, initrd, append "
                       "and command");
    if (o->script && (o->kernel || o->initrd || o->append || o->command || o->bios))
        return err_set(e, EINVAL, "option --script goes without anything to boot or run");
    if (script_engine != (o->script != NULL))
        return err_set(e, EINVAL,
                       script_engine ? "engine script needs a program: --script FILE"
                                     : "option --script needs --engine script");
    if (o->script && (o->port.count || o->hvc || o->vsock))
        return err_set(e, EINVAL, "options --port, --hvc and --vsock need a guest");
    if (o->script && o->share.count)
        return err_set(e, EINVAL, "option --volume needs a guest");
    if ((o->env.count || o->workdir || o->console) && !o->command)
        return err_set(e, EINVAL, "options --env, --workdir and --console need a command after --");
    for (unsigned i = 0; i < o->env.count; i++)
        if (!strchr(o->env.item[i], '='))
            return err_set(e, EINVAL, "option --env: '%s' is not NAME=VALUE", o->env.item[i]);
    if (!o->memory)
        o->memory = MEMORY_DEFAULT;
    if (o->memory < RAM_MIN || o->memory > RAM_MAX || o->memory % 4096)
        return err_set(e, EINVAL, "option --memory: from 1M to %lluG", RAM_MAX >> 30);
    if (!o->cpus)
        o->cpus = 1;
    if (o->cpus > 1)
        return err_set(e, EINVAL, "option --cpus: the engines of this version run one processor");
    if (o->debug_exit > 0xffff)
        return err_set(e, EINVAL, "option --debug-exit: ports go up to 0xffff");
    if (o->script && o->disk.count)
        return err_set(e, EINVAL, "option --disk: engine script has no disks");
    if (disks_parse(&r->disks, o, e))
        return -EINVAL;
    if (o->vsock && vsock_parse(o->vsock, &(struct machine_config){.cpus = 0}, e))
        return -EINVAL;
    if (shares_parse(&r->shares, &o->share, e))
        return -EINVAL;
    if (check_snapshot(o, e))
        return -EINVAL;
    return check_tuning(o, e);
}

static void debug_byte(void *ctx, u8 byte)
{
    fputc(byte, ctx);
}

static int open_debug_port(struct run *r, unsigned i, const char *text, struct err *e)
{
    const char *equals = strchr(text, '=');
    char number[16];
    u64 port;

    if (!equals || equals - text >= (int)sizeof(number))
        return err_set(e, EINVAL, "option --debugcon: '%s' is not PORT=FILE", text);
    snprintf(number, sizeof(number), "%.*s", (int)(equals - text), text);
    if (!parse_number(number, &port) || port == 0 || port > 0xffff)
        return err_set(e, EINVAL, "option --debugcon: bad port '%s' (1..0xffff)", number);
    if (!strcmp(equals + 1, "-"))
        r->debug_file[i] = stderr;
    else
        r->debug_file[i] = fopen(equals + 1, "we");
    if (!r->debug_file[i])
        return err_set(e, errno, "option --debugcon: cannot open %s: %s", equals + 1,
                       strerror(errno));
    r->cfg.debug[i] = (struct pc_debug_port){
        .port = (u16)port,
        .write = debug_byte,
        .ctx = r->debug_file[i],
    };
    return 0;
}

/* What the guest's agent is to do beside running the command. */
static int compose_agent_words(struct run *r, struct err *e)
{
    const struct options *o = &r->o;
    char root[32] = "";
    int rc = 0;

    if (!o->initrd && !o->bios && !o->script && (!o->kernel || o->command))
        rc = disks_root(&r->disks, root, sizeof(root), e);
    snprintf(r->agent_words, sizeof(r->agent_words), "%s%s%s", *root ? " ring3.root=" : "", root,
             net_agent_words(&r->net));
    if (!rc && !shares_append(&r->shares, r->agent_words, sizeof(r->agent_words)))
        return err_set(e, E2BIG, "option --volume: the kernel command line gets too long");
    return rc;
}

/* The machine is the file's. */
static void configure_restored(struct run *r)
{
    const struct snapshot_info *i = &r->snapshot;

    r->cfg.restore = &i->cpuid;
    r->cfg.cpu_model = i->cpu_model;
    r->cfg.cpus = i->cpus;
    r->cfg.ram_bytes = r->o.memory = i->ram_bytes;
    for (unsigned n = 0; n < MACHINE_SERIALS; n++)
        r->cfg.serial[n] = i->serials >> n & 1;
    r->cfg.debug_exit_port = (int)i->debug_exit_port;
    r->cfg.testdev = i->testdev;
}

/* Before the run, so that a wrong name does not cost one. */
static int open_profile(struct run *r, struct err *e)
{
    const char *path = r->o.profile;

    r->profile = strcmp(path, "-") ? fopen(path, "we") : stderr;
    if (!r->profile)
        return err_set(e, errno, "option --profile: cannot write %s: %s", path, strerror(errno));
    r->cfg.bt.profile = true;
    return 0;
}

static int configure(struct run *r, struct err *e)
{
    const struct options *o = &r->o;
    int rc = compose_agent_words(r, e);

    if (!rc)
        rc = o->restore ? snapshot_info(o->restore, &r->snapshot, e)
                        : guest_load(&r->image, o, r->agent_words, e);
    if (rc)
        return rc;
    if (o->debugcon.count > DEBUG_PORTS_MAX)
        return err_set(e, EINVAL, "option --debugcon: at most %d ports", DEBUG_PORTS_MAX);
    for (unsigned i = 0; i < o->debugcon.count; i++) {
        rc = open_debug_port(r, i, o->debugcon.item[i], e);
        if (rc)
            return rc;
    }
    r->cfg.engine = r->engine->engine;
    if (bt_option(o) && r->cfg.engine != &engine_bt)
        return err_set(e, EINVAL, "option --%s: engine %s was chosen", bt_option(o),
                       r->engine->name);
    if (o->bt && tuning_parse(o->bt, &r->cfg.bt, e))
        return -EINVAL;
    if (irqchip_parse(o->irqchip, &r->cfg.irqchip, e))
        return -EINVAL;
    r->cfg.bt.lockstep = (unsigned)o->lockstep;
    if (o->profile && open_profile(r, e))
        return -EINVAL;
    r->cfg.cpu_model = o->cpu;
    r->cfg.cpus = (unsigned)o->cpus;
    r->cfg.ram_bytes = o->memory;
    r->cfg.kernel = r->image.kernel;
    r->cfg.bios = r->image.bios;
    r->cfg.module = r->image.module;
    r->cfg.modules = r->image.modules;
    r->cfg.cmdline = r->image.cmdline;
    r->cfg.script = r->image.script;
    r->cfg.serial[0] = r->cfg.serial[1] = true;
    r->cfg.debug_exit_port = (int)o->debug_exit;
    r->cfg.testdev = o->testdev;
    memcpy(r->cfg.net, r->net.net, sizeof(r->cfg.net));
    r->cfg.nets = r->net.nets;
    r->cfg.disk = r->disks.item;
    r->cfg.disks = r->disks.count;
    if (o->vsock && vsock_parse(o->vsock, &r->cfg, e))
        return -EINVAL;
    r->cfg.share = r->shares.machine;
    r->cfg.shares = r->shares.count;
    r->cfg.rng = r->cfg.balloon = !o->script;
    if (o->restore)
        configure_restored(r);
    return o->script ? 0 : ports_configure(o, o->command != NULL, &r->cfg, e);
}

static void show_counter(void *arg, const char *name, u64 value)
{
    fprintf(stderr, "%-24s%llu\n", name, (unsigned long long)value);
}

static void write_line(void *arg, const char *line)
{
    fprintf(arg, "%s\n", line);
}

static void write_profile(struct run *r, struct machine *m)
{
    machine_profile(m, write_line, r->profile);
    if (fflush(r->profile) || ferror(r->profile))
        report_error("option --profile: writing %s failed: %s", r->o.profile, strerror(errno));
}

static int run_machine(struct run *r, struct machine *m)
{
    struct session s = {
        .o = &r->o,
        .engine = r->engine->name,
        .m = m,
        .loop = machine_loop(m),
    };
    struct machine_outcome out;
    struct err e = {0};
    int status;

    if (session_open(&s, &e)) {
        session_close(&s, false);
        report_error("%s", e.msg);
        return EXIT_FAILED;
    }
    report_progress("%s, %llu MiB: %s", machine_cpu_model(m), (unsigned long long)r->o.memory >> 20,
                    r->o.restore ? "restored" : "booting");
    machine_run(m, &out);
    session_close(&s, out.kind != MACHINE_STOPPED || out.status == STOP_COMMAND_DONE ||
                          out.status == STOP_SAVED);
    status = outcome_report(&s, &out);
    if (r->o.stats)
        machine_stats(m, show_counter, NULL);
    if (r->profile)
        write_profile(r, m);
    session_free(&s);
    return status;
}

static int start(struct run *r)
{
    struct machine *m;
    struct err e = {0};
    int rc, status;

    rc = configure(r, &e);
    if (!rc)
        rc = machine_create(&r->cfg, &m, &e);
    if (!rc && r->o.restore && (rc = snapshot_load(m, r->o.restore, &e)))
        machine_destroy(m);
    if (rc) {
        report_error("%s", e.msg);
        return EXIT_FAILED;
    }
    if (*r->why)
        report_note("%s", r->why);
    status = run_machine(r, m);
    machine_destroy(m);
    return status;
}

int verb_run(int argc, char **argv)
{
    struct run *r = calloc(1, sizeof(*r));
    struct err e = {0};
    int status;

    if (!r)
        return EXIT_FAILED;
    if (options_parse(&r->o, V_RUN, argc, argv, &e)) {
        status = report_usage("run", &e);
    } else if (r->o.help) {
        help_verb("run", V_RUN);
        status = EXIT_CLEAN;
    } else if (listed_choices(&r->o)) {
        status = EXIT_CLEAN;
    } else if (check_options(r, &e) || net_parse(&r->o, &r->net, &e)) {
        status = report_usage("run", &e);
    } else {
        int rc = engine_choose(r->o.engine, &r->engine, r->why, sizeof(r->why), &e);

        report_setup(r->o.quiet);
        if (rc == -EINVAL) {
            status = report_usage("run", &e);
        } else if (rc) {
            report_error("%s", e.msg);
            status = EXIT_FAILED;
        } else {
            status = start(r);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(r->debug_file); i++)
        if (r->debug_file[i] && r->debug_file[i] != stderr)
            fclose(r->debug_file[i]);
    if (r->profile && r->profile != stderr)
        fclose(r->profile);
    guest_unload(&r->image);
    disks_free(&r->disks);
    shares_free(&r->shares);
    ports_unconfigure(&r->cfg);
    free(r);
    return status;
}
